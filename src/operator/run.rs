//! The life of the process: listen, wait for the CRDs, lead, reconcile, end.

use super::OperatorArguments;
use super::crd;
use super::http::{Readiness, serve};
use super::leadership::Leadership;
use crate::api::GraphBackup;
use crate::backup::controller::{self, Context};
use crate::controller::call::{CallError, call};
use crate::controller::lock::ClusterLocks;
use crate::controller::metrics::Metrics;
use crate::controller::pace::Pace;
use crate::discovery::Network;
use chrono::Utc;
use futures::future::{self, Either};
use kube::api::ListParams;
use kube::{Api, Client, Config};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Between two looks for something that is missing at the start.
const START_PERIOD: Duration = Duration::from_secs(5);
/// Passes that still run at shutdown have this long.
const DRAIN: Duration = Duration::from_secs(20);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No kubeconfig, no service account.
    #[error("failed to find the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("failed to make a client: {0}")]
    Client(#[from] kube::Error),
    /// The port for health and metrics, or a signal handler.
    #[error("failed to listen: {0}")]
    Listen(#[from] std::io::Error),
    /// Another replica may lead now: this one starts anew.
    #[error("failed to renew the Lease in time: another replica may lead now")]
    LeadershipLost,
}

/// Runs the operator until a signal ends it.
pub async fn run(arguments: OperatorArguments) -> Result<(), RunError> {
    let mut config = Config::infer().await?;
    // Every call has its own limit and every failed pass its own back-off; retries below would hide both.
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    readiness.waits_for("the API server");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        future::select(Box::pin(terminate.recv()), Box::pin(interrupt.recv())).await;
        tracing::info!("told to end");
    };
    let http = serve(arguments.listen, readiness.clone(), Arc::clone(&metrics));
    let work = lead_and_work(client, arguments, readiness, metrics, stop);
    match future::select(Box::pin(http), Box::pin(work)).await {
        Either::Left((served, _)) => Ok(served?),
        Either::Right((worked, _)) => worked,
    }
}

async fn lead_and_work(
    client: Client,
    arguments: OperatorArguments,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let namespaces = arguments.namespaces();
    let mut leadership = Leadership::new(client.clone(), &arguments.namespace, arguments.name.clone());
    let stop = Box::pin(stop);
    let start = async {
        wait_for_kind(&client, &namespaces, &readiness).await;
        wait_for_crd(&client, &readiness).await;
        readiness.ready();
        leadership.acquire().await;
    };
    let Either::Right(((), stop)) = future::select(stop, Box::pin(start)).await else { return Ok(()) };
    tracing::info!(?namespaces, "leading");
    metrics.leads(true);
    let (end, _) = watch::channel(false);
    let leading = leadership.leading();
    let context = |namespace: &str, points| {
        let leading = leading.clone();
        Context {
            client: client.clone(),
            discovery: Arc::new(Network::in_namespace(namespace)),
            locks: ClusterLocks::new(client.clone(), arguments.namespace.clone()),
            points,
            clock: Arc::new(Utc::now),
            operator_image: arguments.image.clone(),
            instance: arguments.name.clone(),
            leading: Arc::new(move || leading.now()),
            metrics: Arc::clone(&metrics),
            pace: Pace::default(),
        }
    };
    let controllers = future::join_all(namespaces.iter().map(|namespace| {
        let mut ended = end.subscribe();
        let shutdown = async move {
            let _ = ended.wait_for(|ended| *ended).await;
        };
        controller::run(client.clone(), namespace, move |points| context(namespace, points), shutdown)
    }));
    let mut controllers = Box::pin(controllers);
    let held = Box::pin(leadership.hold());
    let outcome = tokio::select! {
        () = stop => Ok(()),
        () = held => Err(RunError::LeadershipLost),
        _ = &mut controllers => Ok(()),
    };
    metrics.leads(false);
    end.send_replace(true);
    if outcome.is_ok() {
        if tokio::time::timeout(DRAIN, controllers).await.is_err() {
            tracing::warn!("passes still ran at the end: the next leader repeats them");
        }
        leadership.release().await;
    }
    outcome
}

/// Waits until the `CustomResourceDefinition` has every field of this version, and says what it lacks.
async fn wait_for_crd(client: &Client, readiness: &Readiness) {
    loop {
        let problem = match crd::problem(client).await {
            Ok(None) => return,
            Ok(Some(problem)) => problem,
            Err(error) => error.to_string(),
        };
        tracing::warn!(%problem, "not ready");
        readiness.waits_for(&problem);
        tokio::time::sleep(START_PERIOD).await;
    }
}

/// Waits until the kind can be read in every namespace, and says what is missing.
async fn wait_for_kind(client: &Client, namespaces: &[String], readiness: &Readiness) {
    for namespace in namespaces {
        let backups: Api<GraphBackup> = Api::namespaced(client.clone(), namespace);
        loop {
            let missing = match call("list GraphBackups", backups.list_metadata(&ListParams::default().limit(1))).await
            {
                Ok(_) => break,
                Err(CallError::NotFound { .. }) => {
                    "the CustomResourceDefinition graphbackups.graphbackup.dev is missing".to_owned()
                }
                Err(error) => format!("namespace {namespace}: {error}"),
            };
            tracing::warn!(%missing, "not ready");
            readiness.waits_for(&missing);
            tokio::time::sleep(START_PERIOD).await;
        }
    }
}
