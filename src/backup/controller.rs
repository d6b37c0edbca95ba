//! The driver: watches, one pass, back-off.

use super::apply::{ApplyError, Hands, apply, apply_removal, disown, let_foreign_go, let_go, refuse, set_finalizers};
use super::decide::decide;
use super::foreign::{ending, foreign_status};
use super::observe::{Eyes, namespace_goes, observe, observe_remains};
use super::points::{Points, newest_parent, taken_by};
use super::status::{is_terminal, success};
use super::step::{Ending, Step};
use super::validate::{ValidBackup, validate};
use crate::api::Owner;
use crate::api::names::{BACKUP_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use crate::api::{GraphBackup, GraphBackupStatus, Parent, Reason, StoreId};
use crate::backup::decide::removal::{
    Removal, change_of_finalizers, decide_removal, has_finalizer, may_go, other_finalizers,
};
use crate::controller::call::CallError;
use crate::controller::job::to_chrono;
use crate::controller::lock::ClusterLocks;
use crate::controller::metrics::Metrics;
use crate::discovery::Discovery;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Passes that run at the same time in one namespace.
const CONCURRENCY: u16 = 32;
/// Waits after a failed pass: first, and longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(2));

/// From a write to the next look: the write itself brings the next pass, this is for a lost event.
const AFTER_A_WRITE: Duration = Duration::from_secs(30);

/// Gives the present moment; a test gives its own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What every pass works with.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Finds the master.
    pub discovery: Arc<dyn Discovery>,
    /// The locks of the database clusters.
    pub locks: ClusterLocks,
    /// The points of other objects.
    pub points: Arc<dyn Points>,
    /// The time.
    pub clock: Clock,
    /// Image that holds the agent.
    pub operator_image: String,
    /// Name of this replica.
    pub instance: String,
    /// Whether this replica leads, asked right before every write.
    pub leading: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Objects whose passes fail.
    pub failing: Failing,
}

/// When each object's series of failed passes began; a success ends it.
#[derive(Default)]
pub struct Failing(Mutex<HashMap<String, Instant>>);

impl Failing {
    /// Back-off by the time that an object has been failing: independent of how often events trigger it.
    fn wait(&self, key: &str) -> Duration {
        let mut failing = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failing.entry(key.to_owned()).or_insert_with(Instant::now).elapsed().clamp(RETRY.0, RETRY.1)
    }

    fn recovered(&self, key: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }
}

/// What the controller itself watches.
struct Known(Store<DeserializeGuard<GraphBackup>>);

impl Points for Known {
    fn newest_parent(&self, backup: &ValidBackup, store: StoreId) -> Option<Parent> {
        newest_parent(backup, store, self.0.state().iter().filter_map(|object| object.0.as_ref().ok()))
    }

    fn taken_by(&self, backup: &ValidBackup, store: StoreId) -> Option<String> {
        taken_by(backup, store, self.0.state().iter().filter_map(|object| object.0.as_ref().ok()))
    }
}

/// Runs the controller of one namespace until `shutdown` resolves, then lets running passes end.
///
/// Earlier points are looked up in what the controller itself watches.
pub async fn run(mut context: Context, namespace: &str, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = context.client.clone();
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let backups: Api<DeserializeGuard<GraphBackup>> = Api::namespaced(client.clone(), namespace);
    let jobs: Api<PartialObjectMeta<Job>> = Api::namespaced(client.clone(), namespace);
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client, namespace);
    let namespace = namespace.to_owned();
    let controller = Controller::new(backups, watcher::Config::default());
    context.points = Arc::new(Known(controller.store()));
    controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(jobs, ours.clone())
        .watches(pods, ours, |pod: PartialObjectMeta<Pod>| owner_of(&pod))
        .graceful_shutdown_on(shutdown)
        .run(reconcile, error_policy, Arc::new(context))
        .for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%namespace, %error, "a pass did not run to its end");
            }
            futures::future::ready(())
        })
        .await;
}

/// The `GraphBackup` that a pod of ours belongs to.
fn owner_of(pod: &PartialObjectMeta<Pod>) -> Option<ObjectRef<DeserializeGuard<GraphBackup>>> {
    let name = pod.labels().get(BACKUP_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn reconcile(object: Arc<DeserializeGuard<GraphBackup>>, context: Arc<Context>) -> Result<Action, ApplyError> {
    pass(object, context).await.map(|again| again.map_or_else(Action::await_change, Action::requeue))
}

/// One pass over one object: when to look again without any event. Public for the simulation, as [`retry_after`] is.
pub async fn pass(
    object: Arc<DeserializeGuard<GraphBackup>>,
    context: Arc<Context>,
) -> Result<Option<Duration>, ApplyError> {
    let key = key(&object);
    let started = Instant::now();
    let outcome = match &object.0 {
        Ok(backup) => work(backup, &context).await,
        // The other objects go on; this one waits until somebody mends it.
        Err(error) => {
            tracing::warn!(object = %key, %error, "GraphBackup cannot be read by this version");
            context.metrics.undecodable(GraphBackup::kind(&()).as_ref());
            Ok(None)
        }
    };
    context.metrics.pass(started.elapsed(), outcome.as_ref().err().map(ApplyError::category));
    if outcome.is_ok() {
        context.failing.recovered(&key);
    }
    outcome
}

async fn work(object: &GraphBackup, context: &Context) -> Result<Option<Duration>, ApplyError> {
    let now = (context.clock)();
    let hands = Hands {
        client: &context.client,
        locks: &context.locks,
        operator_image: &context.operator_image,
        instance: &context.instance,
        leading: context.leading.as_ref(),
    };
    if let Some(foreign) = foreign_status(object) {
        return disown_status(&hands, object, foreign, &context.metrics, now).await;
    }
    let status = object.status.clone().unwrap_or_default();
    if object.metadata.deletion_timestamp.is_some() {
        return remove(&hands, context.discovery.as_ref(), object, &status, now).await;
    }
    let over = is_terminal(&status);
    if let Some(finalizers) = change_of_finalizers(object, over) {
        set_finalizers(&hands, object, finalizers).await?;
        return Ok((!over).then_some(AFTER_A_WRITE));
    }
    if over {
        return Ok(None);
    }
    let backup = match validate(object) {
        Ok(backup) => backup,
        Err(error) => {
            refuse(&hands, object, &status, Ending::new(Reason::InvalidSpec, error.to_string()), now).await?;
            context.metrics.finished(Reason::InvalidSpec);
            return Ok(None);
        }
    };
    let eyes = Eyes {
        client: &context.client,
        discovery: context.discovery.as_ref(),
        locks: &context.locks,
        points: context.points.as_ref(),
    };
    let world = observe(&eyes, &backup, &status, now).await?;
    let step = decide(&backup, &status, world, now);
    apply(&hands, &backup, &status, &step, now).await?;
    tell(&backup.owner, &step, &context.metrics);
    Ok(match step.deed() {
        Step::Wait(waiting) => Some(waiting.look_again),
        // The finalizer of a member's backup goes with the next pass; this is for a lost event.
        Step::Succeed(_) | Step::Fail(_) => has_finalizer(object).then_some(AFTER_A_WRITE),
        Step::BreakLock(_) | Step::StopMember(_) | Step::Checked => Some(Duration::ZERO),
        Step::Start { .. }
        | Step::StartMember(_)
        | Step::MemberMissing(_)
        | Step::Check
        | Step::Adopt(..)
        | Step::Inspect(_)
        | Step::Unanswered(..)
        | Step::DeleteFirst(..)
        | Step::CloseAttempt(_)
        | Step::DeleteJob(_) => Some(AFTER_A_WRITE),
    })
}

/// An object with the status of another one: it says so and is over, or goes.
async fn disown_status(
    hands: &Hands<'_>,
    object: &GraphBackup,
    foreign: &GraphBackupStatus,
    metrics: &Metrics,
    now: DateTime<Utc>,
) -> Result<Option<Duration>, ApplyError> {
    let uid = foreign.uid.as_deref().unwrap_or_default();
    tracing::warn!(backup = object.name_any(), uid, "the status was written for another object");
    if object.metadata.deletion_timestamp.is_none() {
        disown(hands, object, ending(object, foreign), now).await?;
        metrics.finished(Reason::ForeignStatus);
    } else if has_finalizer(object) {
        let_foreign_go(hands, object, uid, now).await?;
    }
    Ok(None)
}

/// A deleted object: the member that it stopped is started and its files go first, where its policy says so.
async fn remove(
    hands: &Hands<'_>,
    discovery: &dyn Discovery,
    object: &GraphBackup,
    status: &GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<Option<Duration>, ApplyError> {
    if !has_finalizer(object) {
        return Ok(None);
    }
    let (false, Ok(backup)) = (may_go(object, status), validate(object)) else {
        set_finalizers(hands, object, other_finalizers(object)).await?;
        return Ok(None);
    };
    match remove_files(hands, discovery, object, &backup, status, now).await {
        // Its claim, its Jobs and this operator's Role go too: nothing can be removed, and nothing needs to be.
        Err(ApplyError::Call(CallError::Refused { .. })) if namespace_goes(hands.client, &backup).await => {
            tracing::info!(backup = backup.owner.name, "deleted with its namespace");
            let_go(hands, object, &backup).await
        }
        again => again,
    }
}

async fn remove_files(
    hands: &Hands<'_>,
    discovery: &dyn Discovery,
    object: &GraphBackup,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<Option<Duration>, ApplyError> {
    let remains = observe_remains(hands.client, discovery, backup, status).await?;
    let deleted = object.metadata.deletion_timestamp.as_ref().map_or(now, to_chrono);
    let removal = decide_removal(backup, object.spec.deletion_policy, status, remains, deleted, now);
    let again = apply_removal(hands, object, backup, status, &removal, now).await?;
    tell_removal(&backup.owner.name, &removal);
    Ok(again)
}

fn tell_removal(name: &str, removal: &Removal) {
    match removal {
        Removal::LetGo(why) => tracing::info!(backup = name, why, "deleted"),
        Removal::Stop(job) => tracing::info!(backup = name, job = job.name, "Job of a deleted object stopped"),
        Removal::StartMember(_) => tracing::info!(backup = name, "the member that a deleted object stopped is started"),
        Removal::Prune => tracing::info!(backup = name, "the files of a deleted object are being removed"),
        Removal::Failed { reason, message, .. } => {
            tracing::warn!(backup = name, %reason, "files not removed: {message}");
        }
        Removal::Wait(_) => {}
    }
}

/// Log and metrics of what was done.
fn tell(owner: &Owner, step: &Step, metrics: &Metrics) {
    let name = &owner.name;
    match step {
        Step::Wait(waiting) => tracing::debug!(backup = name, reason = %waiting.reason, "waits: {}", waiting.message),
        Step::Start { attempt, .. } => {
            tracing::info!(backup = name, attempt = attempt.number, job = attempt.job, master = %attempt.mastership.endpoint(), "attempt started");
        }
        Step::Inspect(inspection) => {
            tracing::info!(backup = name, job = inspection.job, "the verdict is lost: the volume is asked");
        }
        Step::Unanswered(inspection, _) => {
            let why = inspection.unanswered.as_deref().unwrap_or_default();
            tracing::warn!(backup = name, job = inspection.job, "the volume gave no answer: {why}");
        }
        Step::CloseAttempt(ending) => {
            metrics.attempt_failed(ending.reason);
            tracing::warn!(backup = name, reason = %ending.reason, "attempt failed: {}", ending.message);
        }
        Step::DeleteFirst(job, then) => {
            tracing::info!(backup = name, job = job.name, "Job deleted: its agent has ended, its pod has not");
            tell(owner, then, metrics);
        }
        Step::MemberMissing(note) => tracing::warn!(backup = name, "{note}"),
        Step::Checked => tracing::info!(backup = name, "a cold copy can be made"),
        Step::Adopt(..) => tracing::info!(backup = name, "the point to be adopted is read back"),
        Step::Check => tracing::info!(backup = name, "whether a cold copy can be made is being checked"),
        Step::StopMember(to) => tracing::info!(backup = name, replicas = to.replicas, "the member is being stopped"),
        Step::StartMember(Some(to)) => {
            tracing::info!(backup = name, replicas = to.replicas, "the member is started again");
        }
        Step::StartMember(None) => {
            tracing::info!(backup = name, "there are no replicas to put back");
        }
        Step::BreakLock(lock) => {
            tracing::info!(backup = name, lease = lock.name, "lock of a holder that is gone deleted");
        }
        Step::DeleteJob(job) => tracing::info!(backup = name, job = job.name, "Job of a closed attempt deleted"),
        Step::Succeed(point) => {
            metrics.succeeded(success(point, &owner.uid).0, point);
            tracing::info!(backup = name, bytes = point.bytes, digest = point.manifest_digest, "succeeded");
        }
        Step::Fail(ending) => {
            metrics.finished(ending.reason);
            tracing::warn!(backup = name, reason = %ending.reason, "failed: {}", ending.message);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn error_policy(object: Arc<DeserializeGuard<GraphBackup>>, error: &ApplyError, context: Arc<Context>) -> Action {
    Action::requeue(retry_after(&object, error, &context))
}

/// When a failed pass is repeated.
pub fn retry_after(object: &DeserializeGuard<GraphBackup>, error: &ApplyError, context: &Context) -> Duration {
    let key = key(object);
    if let ApplyError::LockTaken | ApplyError::Call(CallError::Conflict { .. }) = error {
        // The object was newer than the cache, or somebody else was faster: the next look shows it.
        tracing::debug!(object = %key, %error, "pass repeated");
        return RETRY.0;
    }
    let wait = context.failing.wait(&key);
    tracing::warn!(object = %key, %error, seconds = wait.as_secs(), "pass failed and is repeated");
    wait
}

fn key(object: &DeserializeGuard<GraphBackup>) -> String {
    let meta = object.meta();
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}
