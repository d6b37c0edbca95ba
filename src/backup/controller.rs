//! The driver: watches, and one pass.

use super::decide::{PRUNE_AGAIN, decide};
use super::effects::{Plan, Settings, after_refusal, owner_of, plan};
use super::finalizers::has_finalizer;
use super::known::Known;
use super::log::log_step;
use super::observe::{Observer, observe};
use super::points::Points;
use super::request::{Request, request};
use super::status::waits_for;
use super::step::{Decision, ObjectStep, Removal, Step};
use super::validate::ValidBackup;
use super::watches::KnownBackups;
use crate::api::{GraphBackup, GraphBackupStatus};
use crate::controller::call::CallError;
use crate::controller::effects::{EffectError, Executor, Outcome, Subject};
use crate::controller::limit::Limit;
use crate::controller::lock::ClusterLocks;
use crate::controller::metrics::Metrics;
use crate::controller::pace::{AFTER_A_WRITE, Pace, Told};
use crate::controller::pass::{self, Passed, key};
use crate::controller::queue::Passes;
use crate::controller::store::Key;
use crate::controller::watch::Watches;
use crate::discovery::Discovery;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Client, Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// How many backups may work at the same time.
    pub limit: Arc<Limit>,
}

/// The controller of all watched namespaces.
struct Controller<F> {
    backups: KnownBackups,
    /// What the passes in a namespace work with.
    context: F,
    contexts: Mutex<HashMap<String, Arc<Context>>>,
}

impl<F: Fn(&str) -> Context> Controller<F> {
    fn context(&self, namespace: &str) -> Arc<Context> {
        let mut contexts = self.contexts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = contexts.get(namespace) {
            return Arc::clone(known);
        }
        let new = Arc::new((self.context)(namespace));
        contexts.insert(namespace.to_owned(), Arc::clone(&new));
        new
    }
}

impl<F: Fn(&str) -> Context + Send + Sync + 'static> Passes for Controller<F> {
    fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>> {
        let context = self.context(&key.namespace);
        let Some(known) = self.backups.store.get(key) else {
            context.pace.passed(&key.to_string(), None, Told::Nothing);
            context.limit.forget(key);
            return futures::future::ready(None).boxed();
        };
        async move {
            match pass(Arc::clone(&known), Arc::clone(&context)).await {
                Ok(again) => again,
                Err(error) => Some(retry_after(&known, &error, &context)),
            }
        }
        .boxed()
    }
}

/// Runs the controller until `shutdown` resolves, then lets running passes end. `context` makes what the passes in a
/// namespace work with.
pub async fn run(
    backups: KnownBackups,
    watches: &Watches,
    context: impl Fn(&str) -> Context + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let passes = Controller { backups: backups.clone(), context, contexts: Mutex::default() };
    tokio::select! {
        () = backups.follow(watches) => {}
        () = backups.queue.run(Arc::new(passes), shutdown) => {}
    }
}

/// One pass over one object: when to look again without any event. Public for the simulation, as [`retry_after`] is.
pub async fn pass(known: Arc<Known>, context: Arc<Context>) -> Result<Option<Duration>, EffectError> {
    let readable = match known.as_ref() {
        Known::Unreadable { error, .. } => Err(error.as_str()),
        known => Ok(known),
    };
    let work = async |known: &Known| match known.with_work() {
        Some(object) => reconcile(object, &context).await,
        None => Ok(Passed::default()),
    };
    let kind = GraphBackup::kind(&());
    let passed = Box::pin(pass::pass((&kind, &known.key()), readable, &context.metrics, &context.pace, work)).await;
    match &passed {
        Ok(_) => {}
        // An attempt may have been recorded whose answer was lost.
        Err(EffectError::Call(CallError::Transient { .. })) => context.limit.doubt(&known.store_key()),
        // It has not begun to work now; it may have done so in an earlier pass.
        Err(_) => context.limit.release_undoubted(&known.store_key()),
    }
    passed
}

/// When a failed pass is repeated.
pub fn retry_after(known: &Known, error: &EffectError, context: &Context) -> Duration {
    pass::retry_after(&known.key(), error, &context.pace)
}

/// From an object to what is done for it. The lines marked *client* read or write; the others are pure.
async fn reconcile(object: &GraphBackup, context: &Context) -> Result<Passed, EffectError> {
    let now = (context.clock)();
    let status = object.status.clone().unwrap_or_default();
    let settings = context.settings(context.pace.is_due(&key(&object.metadata)), now);

    let request = request(object);
    let world = observe(&context.observer(), object, &request, &status, now).await?; // client
    let decision = decide(&request, &status, world, now);
    let plan = plan(object, &request, &decision, settings)?;
    let told = told(&status, &plan.status, &decision.step);
    let decision = context.execute(object, &request, decision, plan, settings).await?; // client
    if !matches!(decision.step, Step::OpenAttempt { .. }) {
        // It has not begun to work: its place, if it has one, is for the next.
        context.limit.release(&Key::of(&object.metadata));
    }

    log_step(object, &decision, &context.metrics);
    Ok(Passed { look_again: look_again(object, &request, &decision.step), told })
}

impl Context {
    fn observer(&self) -> Observer<'_> {
        Observer {
            client: &self.client,
            discovery: self.discovery.as_ref(),
            locks: &self.locks,
            points: self.points.as_ref(),
            limit: &self.limit,
        }
    }

    fn settings(&self, due: bool, now: DateTime<Utc>) -> Settings<'_> {
        Settings { operator_image: &self.operator_image, instance: &self.instance, due, now }
    }

    /// Executes a plan, and the one that follows when the API server refuses an effect of it. Gives what was done in
    /// the end.
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
fn look_again(object: &GraphBackup, request: &Request, step: &Step) -> Option<Duration> {
    let over = object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal);
    match step {
        Step::Wait(waiting) => Some(waiting.look_again),
        Step::Object(ObjectStep::SetFinalizers(_)) => (!over).then_some(AFTER_A_WRITE),
        Step::Object(ObjectStep::Nothing | ObjectStep::Refuse(_) | ObjectStep::Disown(_) | ObjectStep::Release(_))
        | Step::Remove(Removal::Release(_)) => None,
        // The finalizer of a cold backup goes with the next pass.
        Step::Succeed(_) | Step::Fail(_) => has_finalizer(object).then_some(AFTER_A_WRITE),
        Step::BreakLock(_) | Step::StopMember(_) | Step::Checked | Step::Remove(Removal::StartMember(_)) => {
            Some(Duration::ZERO)
        }
        Step::Remove(Removal::StopJob(_)) => Some(STOPPING),
        Step::Remove(Removal::Failed { .. }) => Some(PRUNE_AGAIN),
        Step::Remove(Removal::Wait(wait)) => Some(*wait),
        // The record brings a pass later, and a pod that does not start no change.
        Step::OpenAttempt { .. } => match request {
            Request::Backup(backup) => Some(AFTER_A_WRITE.min(backup.pod_start_deadline)),
            Request::Removal(_) | Request::Object(_) => None,
        },
        Step::CopyMember(_)
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
