//! The life of the process: listen, wait for the CRDs, lead, reconcile, end.

use super::OperatorArguments;
use super::arguments::MixedScope;
use super::client::{calling, watching};
use super::crd;
use super::http::{Readiness, Told, serve};
use super::leadership::{Leadership, Leading};
use crate::api::{BackupSchedule, GraphBackup, Restore};
use crate::backup::controller::{self, Context};
use crate::backup::watches::KnownBackups;
use crate::controller::call::{CallError, call};
use crate::controller::lock::ClusterLocks;
use crate::controller::pace::Pace;
use crate::controller::store::Scope;
use crate::controller::watch::Watches;
use crate::discovery::Network;
use crate::restore;
use crate::restore::watches::KnownRestores;
use crate::schedule;
use crate::schedule::watches::KnownSchedules;
use chrono::Utc;
use futures::future::{self, Either};
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
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
    /// All namespaces and some of them.
    #[error("failed to read WATCH_NAMESPACES: {0}")]
    Scope(#[from] MixedScope),
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
    let config = Config::infer().await?;
    let client = calling(&config)?;
    let told = Told::default();
    let watches = Watches::new(watching(&config)?, arguments.scopes()?, Arc::clone(&told.watches));
    told.readiness.waits_for("the API server");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        future::select(Box::pin(terminate.recv()), Box::pin(interrupt.recv())).await;
        tracing::info!("told to end");
    };
    let http = serve(arguments.listen, told.clone());
    let work = lead_and_work(client, arguments, watches, told, stop);
    match future::select(Box::pin(http), Box::pin(work)).await {
        Either::Left((served, _)) => Ok(served?),
        Either::Right((worked, _)) => worked,
    }
}

async fn lead_and_work(
    client: Client,
    arguments: OperatorArguments,
    watches: Watches,
    told: Told,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let mut leadership = Leadership::new(client.clone(), &arguments.namespace, arguments.name.clone());
    let stop = Box::pin(stop);
    let start = async {
        wait_for_kind::<GraphBackup>(&client, watches.scopes(), &told.readiness).await;
        wait_for_kind::<BackupSchedule>(&client, watches.scopes(), &told.readiness).await;
        wait_for_kind::<Restore>(&client, watches.scopes(), &told.readiness).await;
        wait_for_crd(&client, &told.readiness).await;
        told.readiness.ready();
        leadership.acquire().await;
    };
    let Either::Right(((), stop)) = future::select(stop, Box::pin(start)).await else { return Ok(()) };
    tracing::info!(scopes = ?watches.scopes(), "leading");
    told.metrics.leads(true);
    let (end, _) = watch::channel(false);
    let mut controllers = Box::pin(work(client, arguments, watches, &told, leadership.leading(), end.subscribe()));
    let held = Box::pin(leadership.hold());
    let outcome = tokio::select! {
        () = stop => Ok(()),
        () = held => Err(RunError::LeadershipLost),
        () = &mut controllers => Ok(()),
    };
    told.metrics.leads(false);
    end.send_replace(true);
    if outcome.is_ok() {
        if tokio::time::timeout(DRAIN, controllers).await.is_err() {
            tracing::warn!("passes were still running at shutdown: the next leader repeats them");
        }
        leadership.release().await;
    }
    outcome
}

/// Runs the controllers until `end` says so, then lets running passes end.
async fn work(
    client: Client,
    arguments: OperatorArguments,
    watches: Watches,
    told: &Told,
    leading: Leading,
    end: watch::Receiver<bool>,
) {
    let mut backups = KnownBackups::new(arguments.max_running_backups as usize);
    let schedules = KnownSchedules::listening_to(&mut backups);
    let locks = ClusterLocks::new(client.clone(), arguments.namespace.clone());
    let leading: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || leading.now());
    let scheduling = schedule::controller::Context {
        client: client.clone(),
        locks: locks.clone(),
        backups: backups.store.clone(),
        operator_image: arguments.image.clone(),
        clock: Arc::new(Utc::now),
        instance: arguments.name.clone(),
        leading: Arc::clone(&leading),
        metrics: Arc::clone(&told.metrics),
        pace: Arc::default(),
    };
    let network = Network::default();
    let restoring = restoring(&client, &arguments, &locks, &network, (&leading, told));
    let context = {
        let (client, metrics, points) = (client, Arc::clone(&told.metrics), Arc::clone(&backups.store));
        let limit = Arc::clone(&backups.limit);
        move |namespace: &str| Context {
            client: client.clone(),
            discovery: Arc::new(network.in_namespace(namespace)),
            locks: locks.clone(),
            points: points.clone(),
            clock: Arc::new(Utc::now),
            operator_image: arguments.image.clone(),
            instance: arguments.name.clone(),
            leading: Arc::clone(&leading),
            metrics: Arc::clone(&metrics),
            pace: Pace::default(),
            limit: Arc::clone(&limit),
        }
    };
    let shutdown = || {
        let mut end = end.clone();
        async move {
            let _ = end.wait_for(|ended| *ended).await;
        }
    };
    future::join3(
        controller::run(backups, &watches, context, shutdown()),
        schedule::controller::run(schedules, &watches, scheduling, shutdown()),
        restore::controller::run(KnownRestores::default(), &watches, restoring, shutdown()),
    )
    .await;
}

/// What the passes over restores work with.
fn restoring(
    client: &Client,
    arguments: &OperatorArguments,
    locks: &ClusterLocks,
    network: &Network,
    (leading, told): (&Arc<dyn Fn() -> bool + Send + Sync>, &Told),
) -> restore::controller::Context {
    let network = network.clone();
    restore::controller::Context {
        client: client.clone(),
        discovery: Arc::new(move |namespace| Arc::new(network.in_namespace(namespace))),
        locks: locks.clone(),
        clock: Arc::new(Utc::now),
        operator_image: arguments.image.clone(),
        instance: arguments.name.clone(),
        leading: Arc::clone(leading),
        metrics: Arc::clone(&told.metrics),
        pace: Arc::default(),
    }
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

/// Waits until a kind can be read in one scope, and says what is missing. The watches see to the others: a namespace
/// that is gone holds up no other one.
async fn wait_for_kind<K>(client: &Client, scopes: &[Scope], readiness: &Readiness)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let definition = format!("{}.{}", K::plural(&()), K::group(&()));
    loop {
        let mut missing = "no namespace is watched".to_owned();
        for scope in scopes {
            let objects: Api<K> = match scope {
                Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
                Scope::Cluster => Api::all(client.clone()),
            };
            missing = match call("list a kind", objects.list_metadata(&ListParams::default().limit(1))).await {
                Ok(_) => return,
                Err(CallError::NotFound { .. }) => format!("the CustomResourceDefinition {definition} is missing"),
                Err(error) => format!("{scope}, {definition}: {error}"),
            };
        }
        tracing::warn!(%missing, "not ready");
        readiness.waits_for(&missing);
        tokio::time::sleep(START_PERIOD).await;
    }
}
