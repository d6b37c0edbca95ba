//! The driver: watches, and one pass.

use super::decide::{PRUNE_AGAIN, decide};
use super::effects::{Plan, Settings, after_refusal, owner_of, plan};
use super::finalizers::has_finalizer;
use super::log::log_step;
use super::observe::{Observer, observe};
use super::points::{Points, adoptions_ahead, newest_parent, taken_by};
use super::request::{Request, request};
use super::status::waits_for;
use super::step::{Decision, ObjectStep, Removal, Step};
use super::validate::ValidBackup;
use crate::api::names::{BACKUP_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use crate::api::{GraphBackup, GraphBackupStatus, Parent, StoreId};
use crate::controller::effects::{EffectError, Executor, Outcome, Subject};
use crate::controller::lock::ClusterLocks;
use crate::controller::metrics::Metrics;
use crate::controller::pace::{AFTER_A_WRITE, Pace, Told};
use crate::controller::pass::{self, Passed, key};
use crate::discovery::Discovery;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// Passes that run at the same time in one namespace.
const CONCURRENCY: u16 = 32;
/// From the deletion of a Job that could still write to the next look.
const STOPPING: Duration = Duration::from_secs(5);

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
    /// When objects are looked at again.
    pub pace: Pace,
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

    fn adoptions_ahead(&self, backup: &ValidBackup) -> usize {
        adoptions_ahead(backup, self.0.state().iter().filter_map(|object| object.0.as_ref().ok()))
    }
}

/// Runs the controller of one namespace until `shutdown` resolves, then lets running passes end.
///
/// Earlier points are looked up in what the controller itself watches.
pub async fn run(
    client: Client,
    namespace: &str,
    context: impl FnOnce(Arc<dyn Points>) -> Context,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let backups: Api<DeserializeGuard<GraphBackup>> = Api::namespaced(client.clone(), namespace);
    let jobs: Api<PartialObjectMeta<Job>> = Api::namespaced(client.clone(), namespace);
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client, namespace);
    let namespace = namespace.to_owned();
    let controller = Controller::new(backups, watcher::Config::default());
    let context = context(Arc::new(Known(controller.store())));
    controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(jobs, ours.clone())
        .watches(pods, ours, |pod: PartialObjectMeta<Pod>| owner_of_pod(&pod))
        .graceful_shutdown_on(shutdown)
        .run(run_pass, error_policy, Arc::new(context))
        .for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%namespace, %error, "a pass did not run to its end");
            }
            futures::future::ready(())
        })
        .await;
}

/// The `GraphBackup` that a pod of ours belongs to.
fn owner_of_pod(pod: &PartialObjectMeta<Pod>) -> Option<ObjectRef<DeserializeGuard<GraphBackup>>> {
    let name = pod.labels().get(BACKUP_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn run_pass(object: Arc<DeserializeGuard<GraphBackup>>, context: Arc<Context>) -> Result<Action, EffectError> {
    pass(object, context).await.map(|again| again.map_or_else(Action::await_change, Action::requeue))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn error_policy(object: Arc<DeserializeGuard<GraphBackup>>, error: &EffectError, context: Arc<Context>) -> Action {
    Action::requeue(retry_after(&object, error, &context))
}

/// One pass over one object: when to look again without any event. Public for the simulation, as [`retry_after`] is.
pub async fn pass(
    object: Arc<DeserializeGuard<GraphBackup>>,
    context: Arc<Context>,
) -> Result<Option<Duration>, EffectError> {
    pass::pass(&object, &context.metrics, &context.pace, async |object| reconcile(object, &context).await).await
}

/// When a failed pass is repeated.
pub fn retry_after(object: &DeserializeGuard<GraphBackup>, error: &EffectError, context: &Context) -> Duration {
    pass::retry_after(object, error, &context.pace)
}

/// From an object to what is done for it. The lines marked *client* read or write; the others are pure.
async fn reconcile(object: &GraphBackup, context: &Context) -> Result<Passed, EffectError> {
    let now = (context.clock)();
    let status = object.status.clone().unwrap_or_default();
    let settings = context.settings(context.pace.is_due(&key(object)), now);

    let request = request(object);
    let world = observe(&context.observer(), object, &request, &status, now).await?; // client
    let decision = decide(&request, &status, world, now);
    let plan = plan(object, &request, &decision, settings)?;
    let told = told(&status, &plan.status, &decision.step);
    let decision = context.execute(object, &request, decision, plan, settings).await?; // client

    log_step(object, &decision, &context.metrics);
    Ok(Passed { look_again: look_again(object, &decision.step), told })
}

impl Context {
    fn observer(&self) -> Observer<'_> {
        Observer {
            client: &self.client,
            discovery: self.discovery.as_ref(),
            locks: &self.locks,
            points: self.points.as_ref(),
        }
    }

    fn settings(&self, due: bool, now: DateTime<Utc>) -> Settings<'_> {
        Settings { operator_image: &self.operator_image, instance: &self.instance, due, now }
    }

    /// Executes a plan, and the one that follows when the API server refuses an effect of it. Gives what was done in the end.
    async fn execute(
        &self,
        object: &GraphBackup,
        request: &Request,
        decision: Decision,
        plan: Plan,
        settings: Settings<'_>,
    ) -> Result<Decision, EffectError> {
        let executor = Executor { client: &self.client, locks: &self.locks, leading: self.leading.as_ref() };
        let (owner, version) = (owner_of(object), object.resource_version().unwrap_or_default());
        let subject = Subject { owner: &owner, resource_version: &version };
        let outcome = executor.execute::<GraphBackup, _>(&subject, plan.effects, settings.now).await?;
        let (Outcome::Refused { refusal, message, resource_version }, Request::Backup(backup)) = (outcome, request)
        else {
            return Ok(decision);
        };
        let backup = ValidBackup { resource_version, ..backup.as_ref().clone() };
        let (decision, plan) = after_refusal(object, &backup, &plan.status, (&refusal, &message), settings)?;
        let subject = Subject { owner: &owner, resource_version: &backup.resource_version };
        executor.execute::<GraphBackup, _>(&subject, plan.effects, settings.now).await?;
        Ok(decision)
    }
}

/// What a step tells on the object.
fn told(before: &GraphBackupStatus, after: &GraphBackupStatus, step: &Step) -> Told {
    if before == after {
        return Told::Nothing;
    }
    let retold = matches!(step, Step::Wait(waiting) if waits_for(before, waiting.reason));
    if retold { Told::OtherWords } else { Told::News }
}

/// When to look again after a step without any event.
fn look_again(object: &GraphBackup, step: &Step) -> Option<Duration> {
    let over = object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal);
    match step {
        Step::Wait(waiting) => Some(waiting.look_again),
        Step::Object(ObjectStep::SetFinalizers(_)) => (!over).then_some(AFTER_A_WRITE),
        Step::Object(ObjectStep::Nothing | ObjectStep::Refuse(_) | ObjectStep::Disown(_) | ObjectStep::Release(_)) => {
            None
        }
        // The finalizer of a cold backup goes with the next pass.
        Step::Succeed(_) | Step::Fail(_) => has_finalizer(object).then_some(AFTER_A_WRITE),
        Step::BreakLock(_) | Step::StopMember(_) | Step::Checked | Step::Remove(Removal::StartMember(_)) => {
            Some(Duration::ZERO)
        }
        Step::Remove(Removal::StopJob(_)) => Some(STOPPING),
        Step::Remove(Removal::Failed { .. }) => Some(PRUNE_AGAIN),
        Step::Remove(Removal::Wait(wait)) => Some(*wait),
        Step::OpenAttempt { .. }
        | Step::CopyMember(_)
        | Step::RecreateJob(_)
        | Step::RecreateCheck
        | Step::StartMember(_)
        | Step::LeaveReplicas
        | Step::MemberMissing(_)
        | Step::Adopt(..)
        | Step::Inspect(_)
        | Step::Unanswered(..)
        | Step::CloseAttempt(_)
        | Step::DeleteJob(_)
        | Step::Remove(Removal::Prune) => Some(AFTER_A_WRITE),
    }
}
