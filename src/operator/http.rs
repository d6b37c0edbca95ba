//! `/healthz`, `/readyz` and `/metrics`.

use crate::controller::health::Health;
use crate::controller::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Media type of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is still missing before the operator can work; empty when it is ready.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready, and why.
    pub fn waits_for(&self, what: &str) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(what.to_owned());
    }

    /// Ready: reconciling, or standing by for the leader.
    pub fn ready(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    fn missing(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// What the three paths tell about.
#[derive(Clone, Default)]
pub struct Told {
    /// What is missing at the start.
    pub readiness: Readiness,
    /// How the watches are.
    pub watches: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves until the process ends.
pub async fn serve(listen: SocketAddr, told: Told) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(told);
    axum::serve(TcpListener::bind(listen).await?, router).await
}

async fn ready(State(told): State<Told>) -> Response {
    match told.readiness.missing().or_else(|| told.watches.silent()) {
        None => "ok".into_response(),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, what).into_response(),
    }
}

async fn render(State(told): State<Told>) -> Response {
    told.metrics.watches(&told.watches.ages());
    match told.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
