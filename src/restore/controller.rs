//! The driver: watches, and one pass.

use super::decide::{decide, refused};
use super::effects::{Settings, effects};
use super::observe::{Observer, observe};
use super::status;
use super::step::{Action, Decision, Refusal};
use super::validate::{InvalidRestore, ValidRestore, owner_of, validate};
use super::watches::{KnownRestore, KnownRestores};
use crate::api::condition::{self, SUCCEEDED};
use crate::api::{Reason, Restore, RestoreStatus};
use crate::controller::call::{CallError, call};
use crate::controller::effects::{EffectError, Executor, Outcome, Subject};
use crate::controller::lock::ClusterLocks;
use crate::controller::metrics::Metrics;
use crate::controller::namespace::is_terminating;
use crate::controller::pace::{Pace, Told};
use crate::controller::pass::{self, Passed};
use crate::controller::queue::Passes;
use crate::controller::store::Key;
use crate::controller::watch::Watches;
use crate::discovery::Discovery;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// Gives the present moment; a test gives its own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;
/// Gives what finds the members of a database for the objects of a namespace.
pub type DiscoveryOf = Arc<dyn Fn(&str) -> Arc<dyn Discovery> + Send + Sync>;

/// Between two looks at a pass that was refused or failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What every pass works with.
#[derive(Clone)]
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Finds the members.
    pub discovery: DiscoveryOf,
    /// The locks of the database clusters.
    pub locks: ClusterLocks,
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
    pub pace: Arc<Pace>,
}

/// The controller of all watched namespaces.
struct Controller {
    restores: KnownRestores,
    context: Context,
}

impl Passes for Controller {
    fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>> {
        let context = self.context.clone();
        let Some(known) = self.restores.store.get(key) else {
            context.pace.passed(&key.to_string(), None, Told::Nothing);
            return futures::future::ready(None).boxed();
        };
        async move {
            match pass(&known, &context).await {
                Ok(again) => again,
                Err(error) => Some(retry_after(&known, &error, &context)),
            }
        }
        .boxed()
    }
}

/// Runs the controller until `shutdown` resolves, then lets running passes end.
pub async fn run(restores: KnownRestores, watches: &Watches, context: Context, shutdown: impl Future<Output = ()>) {
    let passes = Controller { restores: restores.clone(), context };
    tokio::select! {
        () = restores.follow(watches) => {}
        () = restores.queue.run(Arc::new(passes), shutdown) => {}
    }
}

/// One pass over one object: when to look again without any event. Public for the simulation, as [`retry_after`] is.
pub async fn pass(known: &KnownRestore, context: &Context) -> Result<Option<Duration>, EffectError> {
    let readable = match known {
        KnownRestore::Readable(key) => Ok(key),
        KnownRestore::Unreadable(_, error) => Err(error.as_str()),
    };
    let work = async |key: &Key| {
        let api: Api<Restore> = Api::namespaced(context.client.clone(), &key.namespace);
        match call("read the Restore", api.get_opt(&key.name)).await? {
            Some(object) => reconcile(&object, context).await,
            None => Ok(Passed::default()),
        }
    };
    let (kind, key) = (Restore::kind(&()), known.key().to_string());
    Box::pin(pass::pass((&kind, &key), readable, &context.metrics, &context.pace, work)).await
}

/// When a failed pass is repeated. A restore that has stopped the members is not left alone for long.
pub fn retry_after(known: &KnownRestore, error: &EffectError, context: &Context) -> Duration {
    pass::retry_after(&known.key().to_string(), error, &context.pace).min(AGAIN)
}

/// From an object to what is done for it. The lines marked *client* read or write; the others are pure.
async fn reconcile(object: &Restore, context: &Context) -> Result<Passed, EffectError> {
    let now = (context.clock)();
    let version = object.resource_version().unwrap_or_default();
    let restore = match validate(object) {
        Ok(restore) => restore,
        Err(error) => return context.refuse(object, &error, now).await, // client
    };
    if restore.is_deleted && is_terminating(&context.client, &restore.owner.namespace).await {
        return context.release(object, &restore, now).await; // client
    }
    let before = status::own(object);
    if before.is_over() && !restore.has_finalizer() {
        return Ok(Passed::default());
    }
    if before.is_over() && restore.is_deleted {
        return context.release(object, &restore, now).await; // client
    }
    let discovery = (context.discovery)(&restore.owner.namespace);
    let observer = Observer { client: &context.client, discovery: discovery.as_ref(), locks: &context.locks };
    let decision = match observe(&observer, &restore, &before).await {
        // client
        Ok(world) => decide(&restore, &before, &world, &context.operator_image, now)?,
        Err(CallError::Refused { action, message }) => {
            let words = format!("failed to {action}: the API server refuses: {message}");
            refused(&restore, &before, (&Refusal::Refused(Reason::VolumeRefused), &words), now)
        }
        Err(error) => return Err(error.into()),
    };
    let outcome = context.execute(object, (object.status.as_ref(), &version), &decision, now).await?; // client
    if let Outcome::Refused { refusal, message, resource_version } = outcome {
        let recorded = if matches!(refusal, Refusal::LockHeld) { &before } else { &decision.status };
        let told = refused(&restore, recorded, (&refusal, &message), now);
        let on_object =
            if matches!(refusal, Refusal::LockHeld) { object.status.as_ref() } else { Some(&decision.status) };
        context.execute(object, (on_object, &resource_version), &told, now).await?; // client
        return Ok(Passed { look_again: told.look_again, told: Told::OtherWords });
    }
    if decision.status.is_over() && !before.is_over() {
        let told = condition::reason(&decision.status.conditions, SUCCEEDED).unwrap_or_default();
        context.metrics.restore_finished(decision.status.cause.as_ref().map_or(told, |cause| cause.reason.as_str()));
    }
    let told = if object.status.as_ref() == Some(&decision.status) { Told::Nothing } else { Told::News };
    Ok(Passed { look_again: decision.look_again, told })
}

impl Context {
    /// Lets a deleted restore go whose namespace goes, too: nothing can be created there any more. The volumes of its
    /// journal stay on Retain, with annotations that name their data.
    async fn release(
        &self,
        object: &Restore,
        restore: &ValidRestore,
        now: DateTime<Utc>,
    ) -> Result<Passed, EffectError> {
        let actions = vec![Action::ReleaseLocks, Action::SetFinalizers(restore.other_finalizers())];
        let status = object.status.clone().unwrap_or_default();
        let decision = Decision { status, actions, notes: Vec::new(), look_again: None };
        self.execute(object, (object.status.as_ref(), &restore.resource_version), &decision, now).await?;
        Ok(Passed::default())
    }

    /// Tells why a restore cannot be read.
    async fn refuse(
        &self,
        object: &Restore,
        error: &InvalidRestore,
        now: DateTime<Utc>,
    ) -> Result<Passed, EffectError> {
        let version = object.resource_version().unwrap_or_default();
        let before = object.status.as_ref();
        if before.is_some_and(|status| status.observed_generation == object.metadata.generation) {
            return Ok(Passed::default());
        }
        let status = status::invalid(object, error, now);
        let decision = Decision { status, actions: Vec::new(), notes: Vec::new(), look_again: None };
        self.execute(object, (before, &version), &decision, now).await?;
        Ok(Passed { look_again: None, told: Told::News })
    }

    /// Executes a decision about the object with this status and this version.
    async fn execute(
        &self,
        object: &Restore,
        (before, version): (Option<&RestoreStatus>, &str),
        decision: &Decision,
        now: DateTime<Utc>,
    ) -> Result<Outcome<Refusal>, EffectError> {
        let executor = Executor { client: &self.client, locks: &self.locks, leading: self.leading.as_ref() };
        let owner = owner_of(object);
        let settings = Settings { owner: &owner, resource_version: version, instance: &self.instance, now };
        let effects = effects(decision, before, settings)?;
        for note in &decision.notes {
            tracing::info!(restore = owner.name, reason = %note.reason, "{}", note.text);
        }
        let subject = Subject { owner: &owner, resource_version: version };
        executor.execute::<Restore, _>(&subject, effects, now).await
    }
}
