//! The driver: watches, and one pass.

use super::children::children;
use super::decide::{LONGEST_WAIT, decide, drill_refused, removal_refused};
use super::drill::drill_state;
use super::effects::{Settings, effects};
use super::event;
use super::status;
use super::step::{Decision, Refusal, Step};
use super::validate::{InvalidSchedule, ValidSchedule, owner_of, validate};
use super::watches::{KnownSchedule, KnownSchedules};
use super::world::{Found, World, holds_points, other_finalizers};
use crate::api::condition::{READY, RETENTION_APPLIED};
use crate::api::names::{PIN_ANNOTATION, SCHEDULE_UID_LABEL};
use crate::api::{BackupSchedule, BackupScheduleStatus, GraphBackup, Owner};
use crate::backup::known::Known;
use crate::controller::call::{call, list};
use crate::controller::effects::{EffectError, Executor, Outcome, Subject};
use crate::controller::job::JobState;
use crate::controller::lock::ClusterLocks;
use crate::controller::metrics::Metrics;
use crate::controller::namespace::is_terminating;
use crate::controller::pace::{Pace, Told};
use crate::controller::pass::{self, Passed};
use crate::controller::queue::Passes;
use crate::controller::server_time::server_time;
use crate::controller::store::{Key, Store};
use crate::controller::watch::Watches;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// How often a pass reads a backup and decides anew.
const LOOKS_MAX: usize = 6;

/// Gives the present moment; a test gives its own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The backups of a namespace, as far as they are known.
pub trait Backups: Send + Sync {
    /// The backups that matter to a schedule.
    fn children(&self, schedule: &ValidSchedule) -> Vec<super::children::Child>;
}

impl Backups for Store<Known> {
    fn children(&self, schedule: &ValidSchedule) -> Vec<super::children::Child> {
        self.in_namespace(&schedule.owner.namespace, |known| children(schedule, known))
    }
}

/// What every pass works with.
#[derive(Clone)]
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// The locks of the database clusters; a schedule takes none.
    pub locks: ClusterLocks,
    /// The backups.
    pub backups: Arc<dyn Backups>,
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
    schedules: KnownSchedules,
    context: Context,
}

impl Passes for Controller {
    fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>> {
        let context = self.context.clone();
        let known = self.schedules.store.get(key).filter(|_| self.schedules.is_ready(&key.namespace));
        let Some(known) = known else {
            context.pace.passed(&key.to_string(), None, Told::Nothing);
            context.metrics.schedule_gone(&key.namespace, &key.name);
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
pub async fn run(schedules: KnownSchedules, watches: &Watches, context: Context, shutdown: impl Future<Output = ()>) {
    let passes = Controller { schedules: schedules.clone(), context };
    tokio::select! {
        () = schedules.follow(watches) => {}
        () = schedules.queue.run(Arc::new(passes), shutdown) => {}
    }
}

/// One pass over one object: when to look again without any event. Public for the simulation, as [`retry_after`] is.
pub async fn pass(known: &KnownSchedule, context: &Context) -> Result<Option<Duration>, EffectError> {
    let readable = match known {
        KnownSchedule::Readable(packed) => packed.unpack().map(Some).map_err(|error| error.to_string()),
        KnownSchedule::Unreadable { is_held: true, .. } => Ok(None),
        KnownSchedule::Unreadable { error, .. } => Err(error.clone()),
    };
    let kind = BackupSchedule::kind(&());
    let work = async |object: &Option<BackupSchedule>| match object {
        Some(object) => reconcile(object, context).await,
        None => match context.remains(known.key()).await? {
            Some(object) => reconcile(&object, context).await,
            None => Ok(Passed::default()),
        },
    };
    let (key, readable) = (known.key().to_string(), readable.as_ref().map_err(String::as_str));
    Box::pin(pass::pass((&kind, &key), readable, &context.metrics, &context.pace, work)).await
}

/// When a failed pass is repeated.
pub fn retry_after(known: &KnownSchedule, error: &EffectError, context: &Context) -> Duration {
    pass::retry_after(&known.key().to_string(), error, &context.pace)
}

/// From an object to what is done for it. The lines marked *client* read or write; the others are pure.
async fn reconcile(object: &BackupSchedule, context: &Context) -> Result<Passed, EffectError> {
    let now = (context.clock)();
    let version = object.resource_version().unwrap_or_default();
    let schedule = match validate(object) {
        Ok(schedule) => schedule,
        Err(error) => return context.refuse(object, &error, now).await, // client
    };
    let held = holds_points(object.finalizers());
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    if is_deleted && held && is_terminating(&context.client, &schedule.owner.namespace).await {
        return context.release(object, now).await; // client
    }
    let mut seen = Seen::begin(object, &schedule, context).await?; // client
    for _ in 0..LOOKS_MAX {
        let decision = context.decide(object, &schedule, &seen, now);
        if let Step::Look(name) = &decision.step {
            context.read(object, name, &mut seen).await?; // client
            continue;
        }
        if decision.step == Step::Count {
            seen.left = Some(context.count(object).await?); // client
            continue;
        }
        if decision.step == Step::AskTime {
            seen.server_time = Some(context.server_time(&schedule.owner).await?.unwrap_or(now)); // client
            continue;
        }
        let before = (object.status.as_ref(), version.as_str());
        let refused = match context.execute(object, before, Some(&schedule), &decision, now).await? {
            Outcome::Done => return Ok(context.done(object, &schedule, &decision)),
            Outcome::Refused { refusal, message, resource_version } => (refusal, message, resource_version),
        };
        match (refused, &decision.step) {
            ((Refusal::NameTaken, ..), Step::Take(child)) => {
                let name = child.name_any();
                context.read(object, &name, &mut seen).await?; // client
            }
            ((Refusal::DrillRefused, message, version), _) => {
                let refused = drill_refused(&schedule, &decision.status, &message, now);
                let before = (Some(&decision.status), version.as_str());
                context.execute(object, before, Some(&schedule), &refused, now).await?; // client
                return Ok(context.done(object, &schedule, &refused));
            }
            ((Refusal::RemovalRefused, message, version), step) => {
                let kind = if matches!(step, Step::Replace(_)) { READY } else { RETENTION_APPLIED };
                let words = context.words(object, kind, message);
                let refused = removal_refused(&schedule, &status::own(object), &decision, &words, now);
                let before = (Some(&decision.status), version.as_str());
                context.execute(object, before, Some(&schedule), &refused, now).await?; // client
                return Ok(context.done(object, &schedule, &refused));
            }
            ((Refusal::NameTaken | Refusal::Refused, message, _), _) => {
                seen.refused = Some(context.words(object, READY, message));
            }
        }
    }
    Ok(Passed { look_again: Some(Duration::from_secs(1)), told: Told::Nothing })
}

/// What a pass has seen itself.
struct Seen {
    read: Vec<(String, Found)>,
    left: Option<usize>,
    server_time: Option<DateTime<Utc>>,
    refused: Option<String>,
    drill: Option<JobState>,
}

impl Seen {
    async fn begin(object: &BackupSchedule, schedule: &ValidSchedule, context: &Context) -> Result<Self, EffectError> {
        let drill = match status::own(object).drill.and_then(|drill| drill.running) {
            Some(running) => Some(drill_state(&context.client, schedule, &running).await?),
            None => None,
        };
        Ok(Self { read: Vec::new(), left: None, server_time: None, refused: None, drill })
    }
}

impl Context {
    fn decide(&self, object: &BackupSchedule, schedule: &ValidSchedule, seen: &Seen, now: DateTime<Utc>) -> Decision {
        let children = self.backups.children(schedule);
        let world = World {
            children: &children,
            read: &seen.read,
            left: seen.left,
            server_time: seen.server_time,
            refused: seen.refused.as_deref(),
            drill: seen.drill.as_ref(),
            finalizers: object.finalizers(),
            is_deleted: object.metadata.deletion_timestamp.is_some(),
        };
        decide(schedule, &status::own(object), &world, now)
    }

    /// The backups of its namespace, whether this version can read them or not.
    fn backups_of(&self, object: &BackupSchedule) -> Api<DynamicObject> {
        let (namespace, resource) = (object.namespace().unwrap_or_default(), ApiResource::erase::<GraphBackup>(&()));
        Api::namespaced_with(self.client.clone(), &namespace, &resource)
    }

    async fn read(&self, object: &BackupSchedule, name: &str, seen: &mut Seen) -> Result<(), EffectError> {
        let found = call("read a backup of the schedule", self.backups_of(object).get_opt(name)).await?;
        let found = found.map(|found| serde_json::to_value(found).and_then(serde_json::from_value::<GraphBackup>));
        let found = match found.transpose() {
            Ok(None) => Found::Nothing,
            Ok(Some(object)) => Found::Backup(Box::new(object)),
            Err(_) => Found::Unreadable,
        };
        seen.read.retain(|(read, _)| read != name);
        seen.read.push((name.to_owned(), found));
        Ok(())
    }

    /// What time it is by the API server, if it says so.
    async fn server_time(&self, owner: &Owner) -> Result<Option<DateTime<Utc>>, EffectError> {
        let path = BackupSchedule::url_path(&(), Some(&owner.namespace));
        Ok(server_time(&self.client, &path, &owner.name).await?)
    }

    /// The words of a refusal, as they are told. Words that differ each time would be written for ever: each write
    /// brings the next pass.
    fn words(&self, object: &BackupSchedule, kind: &str, message: String) -> String {
        let is_due = self.pace.is_due(&pass::key(&object.metadata));
        let told = status::refusal(object.status.as_ref(), kind).filter(|_| !is_due);
        told.map_or(message, str::to_owned)
    }

    /// What matters of a deleted schedule that this version cannot read: whose the backups are, and whether they go with
    /// it.
    async fn remains(&self, key: &Key) -> Result<Option<BackupSchedule>, EffectError> {
        let resource = ApiResource::erase::<BackupSchedule>(&());
        let schedules: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let found = call("read a deleted schedule", schedules.get_opt(&key.name)).await?;
        // Another one of the name may have come meanwhile.
        let deleted = found.filter(|found| found.metadata.deletion_timestamp.is_some());
        Ok(deleted.map(|found| status::remains(&found)).transpose()?)
    }

    /// How many backups of this very schedule have to go before it may: those that are neither deleted nor pinned nor
    /// adopted.
    async fn count(&self, object: &BackupSchedule) -> Result<usize, EffectError> {
        let labels = format!("{SCHEDULE_UID_LABEL}={}", object.uid().unwrap_or_default());
        let all = list("count the backups of the schedule", &self.backups_of(object), &labels).await?;
        let is_left = |backup: &&DynamicObject| {
            backup.metadata.deletion_timestamp.is_none()
                && !backup.annotations().contains_key(PIN_ANNOTATION)
                && backup.data["spec"]["adopt"].is_null()
        };
        Ok(all.iter().filter(is_left).count())
    }

    /// Tells why a schedule cannot be read.
    async fn refuse(
        &self,
        object: &BackupSchedule,
        error: &InvalidSchedule,
        now: DateTime<Utc>,
    ) -> Result<Passed, EffectError> {
        let version = object.resource_version().unwrap_or_default();
        let (status, stale_at) = status::invalid(object, error, now);
        let (owner, facts) = (owner_of(object), status::facts(&status));
        let note = event::invalid(&status, error.reason(), error.to_string());
        let is_told = object.status.as_ref() == Some(&status);
        let notes = if is_told { Vec::new() } else { vec![note] };
        let stale = stale_at.and_then(|stale_at| (stale_at - now).to_std().ok());
        let look_again = Some(stale.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT));
        let decision = Decision { step: Step::Record, status, notes, look_again };
        self.execute(object, (object.status.as_ref(), &version), None, &decision, now).await?;
        event::log(&owner, &decision.step, &decision.notes);
        self.metrics.schedule(&owner.namespace, &owner.name, facts);
        Ok(Passed { look_again, told: Told::News })
    }

    /// Lets a deleted schedule go whose namespace goes, too: its points go with that, and so do the operator's rights.
    async fn release(&self, object: &BackupSchedule, now: DateTime<Utc>) -> Result<Passed, EffectError> {
        let version = object.resource_version().unwrap_or_default();
        let decision = Decision {
            step: Step::SetFinalizers(other_finalizers(object.finalizers())),
            status: status::own(object),
            notes: Vec::new(),
            look_again: None,
        };
        self.execute(object, (object.status.as_ref(), &version), None, &decision, now).await?;
        Ok(Passed::default())
    }

    /// Logs and counts what was done.
    fn done(&self, object: &BackupSchedule, schedule: &ValidSchedule, decision: &Decision) -> Passed {
        let owner = &schedule.owner;
        event::log(owner, &decision.step, &decision.notes);
        self.metrics.schedule(&owner.namespace, &owner.name, status::facts(&decision.status));
        let before = object.status.as_ref();
        let is_retold = [READY, RETENTION_APPLIED]
            .iter()
            .any(|kind| status::refusal(before, kind).and(status::refusal(Some(&decision.status), kind)).is_some());
        let told = match before == Some(&decision.status) {
            true => Told::Nothing,
            false if is_retold => Told::OtherWords,
            false => Told::News,
        };
        Passed { look_again: decision.look_again, told }
    }

    /// Executes a decision about the object with this status and this version.
    async fn execute(
        &self,
        object: &BackupSchedule,
        (before, version): (Option<&BackupScheduleStatus>, &str),
        schedule: Option<&ValidSchedule>,
        decision: &Decision,
        now: DateTime<Utc>,
    ) -> Result<Outcome<Refusal>, EffectError> {
        let executor = Executor { client: &self.client, locks: &self.locks, leading: self.leading.as_ref() };
        let owner = owner_of(object);
        let settings = Settings {
            schedule,
            owner: &owner,
            resource_version: version,
            operator_image: &self.operator_image,
            instance: &self.instance,
            now,
        };
        let effects = effects(decision, before, settings)?;
        let subject = Subject { owner: &owner, resource_version: version };
        executor.execute::<BackupSchedule, _>(&subject, effects, now).await
    }
}
