//! The ordered list of effects that each step becomes. Pure.
//!
//! | step | effects, in order |
//! |---|---|
//! | open an attempt | unchanged?, take the lock, **record**, create the Job (cold: the Job that checks) |
//! | copy the member | **record** that it is gone, create the Job |
//! | create a Job again | unchanged?, create the Job |
//! | stop the member | unchanged?, scale down |
//! | start the member | unchanged?, scale up, **record** |
//! | inspect, adopt | **record**, create the Job |
//! | no answer | **record**, delete the Job |
//! | close an attempt, member missing | unchanged?, Event, **record** |
//! | succeed, fail | (delete the Job that outlives its agent,) unchanged?, Event, release the lock, **record** |
//! | refuse, disown | Event, **record** |
//! | wait, checked, leave the replicas | **record**, if it changes anything |
//! | break a lock, delete a Job | that |
//! | removal: stop a Job | delete the Job |
//! | removal: start the member | unchanged?, scale up |
//! | removal: prune | unchanged?, create the Job |
//! | removal: failed | Event, delete the Job |
//! | removal: release | Event, release the lock, set the finalizers |
//! | release an object without work, set finalizers | (Event,) set the finalizers |
//!
//! The reasons for the order:
//!
//! - **Recorded before done.** A Job is created, and a StatefulSet scaled, only after the status that names it was
//!   written: in the same list, or by an earlier pass. In the second case the list begins with *unchanged?*, so that a
//!   stale object does not act for an attempt that is over. A unit test holds every list to this rule.
//! - **The lock before the record**: a recorded attempt has the lock. It is released before the end is recorded:
//!   nothing of the backup works any more, and a finished object needs no further pass.
//! - **The Event before the record**: after a crash in between it is created again, and its name makes that harmless.
//!   *Unchanged?* keeps a stale object from telling its end a second time.
//! - **The member is started before that is recorded**: a crash in between finds the replicas as they should be, and
//!   records.

use super::build;
use super::decide::inspection::unanswered;
use super::decide::wait::lock_held;
use super::event::event;
use super::finalizers::other_finalizers;
use super::request::Request;
use super::status;
use super::step::{self, Decision, Ending, ObjectStep, Refusal, Removal, Step};
use super::validate::ValidBackup;
use crate::api::{Attempt, GraphBackup, GraphBackupStatus, Inspection, Kind, Owner, Reason, now_seconds};
use crate::contract::task::Task;
use crate::controller::effects::Effect;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde_json::Value;

/// What effects are made of besides the decision.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Image that holds the agent.
    pub operator_image: &'a str,
    /// Name of this replica, for Events.
    pub instance: &'a str,
    /// Whether a wait for the reason that stands on the object already is told anew.
    pub due: bool,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What a pass is about to do.
#[derive(Debug)]
pub struct Plan {
    /// The effects, in their order.
    pub effects: Vec<Effect<Refusal>>,
    /// The status that stands on the object afterwards.
    pub status: GraphBackupStatus,
}

/// Makes the effects of a decision.
pub fn plan(
    object: &GraphBackup,
    request: &Request,
    decision: &Decision,
    settings: Settings<'_>,
) -> Result<Plan, serde_json::Error> {
    let before = object.status.clone().unwrap_or_default();
    match request {
        Request::Removal(backup) | Request::Backup(backup) => effects_of(object, backup, &before, decision, settings),
        Request::Object(step) => Ok(Plan { effects: object_effects(object, step, settings)?, status: before }),
    }
}

/// Makes the effects that follow when one of the effects before is refused. `status` is the one that they would have
/// left.
pub fn after_refusal(
    object: &GraphBackup,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    refused: (&Refusal, &str),
    settings: Settings<'_>,
) -> Result<(Decision, Plan), serde_json::Error> {
    let (refusal, message) = refused;
    let unchanged = object.status.clone().unwrap_or_default();
    // The lock comes before the record.
    let status = if matches!(refusal, Refusal::LockHeld) { &unchanged } else { status };
    let step = match refusal {
        Refusal::LockHeld => Step::Wait(lock_held(message, step::look_again(status, settings.now))),
        Refusal::CloseAttempt(reason) => Step::CloseAttempt(Ending::new(*reason, message)),
        Refusal::Unanswered(inspection) => {
            Step::Unanswered(Box::new(unanswered(inspection, message, now_seconds(settings.now))), None)
        }
    };
    let decision = Decision::from(step);
    let plan = effects_of(object, backup, status, &decision, settings)?;
    Ok((decision, plan))
}

fn effects_of(
    object: &GraphBackup,
    backup: &ValidBackup,
    before: &GraphBackupStatus,
    decision: &Decision,
    settings: Settings<'_>,
) -> Result<Plan, serde_json::Error> {
    let Settings { due, now, .. } = settings;
    let status = status::after(backup, before, &decision.step, due, now);
    let made = Made { object, backup, before, status: &status, settings };
    let mut effects = Vec::new();
    if let Some(job) = &decision.delete_first {
        effects.extend([Effect::RequireUnchanged, Effect::DeleteJob(job.clone())]);
    }
    effects.extend(made.effects(&decision.step)?);
    Ok(Plan { effects, status })
}

/// What one step's effects are made of.
struct Made<'a> {
    object: &'a GraphBackup,
    backup: &'a ValidBackup,
    before: &'a GraphBackupStatus,
    status: &'a GraphBackupStatus,
    settings: Settings<'a>,
}

impl Made<'_> {
    fn effects(&self, step: &Step) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
        Ok(match step {
            Step::Object(step) => object_effects(self.object, step, self.settings)?,
            Step::Wait(_) | Step::Checked | Step::LeaveReplicas => self.record()?.into_iter().collect(),
            Step::OpenAttempt { attempt, take_lock } => self.open_attempt(attempt, *take_lock)?,
            Step::CopyMember(attempt) | Step::RecreateJob(attempt) => {
                self.intended(self.attempt_job(attempt, Task::Backup)?)?
            }
            Step::RecreateCheck => self.recreate_check()?,
            Step::Adopt(store, reading) => {
                let job = build::adopt_job(self.backup, *store, &reading.job, self.settings.operator_image)?;
                self.intended(create(job, Refusal::Unanswered(reading.clone())))?
            }
            Step::Inspect(inspection) => self.intended(self.inspect_job(inspection)?)?,
            Step::StopMember(to) => {
                let refusal = Some(Refusal::CloseAttempt(Reason::ScaleRefused));
                vec![Effect::RequireUnchanged, Effect::Scale { to: to.clone(), refusal }]
            }
            Step::StartMember(to) => {
                let scale = Effect::Scale { to: to.clone(), refusal: None };
                [Effect::RequireUnchanged, scale].into_iter().chain(self.record()?).collect()
            }
            Step::Unanswered(_, job) => self.record()?.into_iter().chain(job.clone().map(Effect::DeleteJob)).collect(),
            Step::MemberMissing(_) | Step::CloseAttempt(_) => self.told(step)?,
            Step::Succeed(_) | Step::Fail(_) => {
                let mut effects = self.told(step)?;
                let last = effects.len().saturating_sub(1);
                effects.insert(last, Effect::ReleaseLocks);
                effects
            }
            Step::BreakLock(lock) => vec![Effect::DeleteLock(lock.clone())],
            Step::DeleteJob(job) => vec![Effect::DeleteJob(job.clone())],
            Step::Remove(removal) => self.removal(step, removal)?,
        })
    }

    fn open_attempt(&self, attempt: &Attempt, take_lock: bool) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
        let task = if attempt.stopped.is_some() { Task::Check } else { Task::Backup };
        let take = || Effect::TakeLock { store: attempt.store_id, held: Refusal::LockHeld };
        let lock = take_lock.then(|| [Effect::RequireUnchanged, take()]);
        let job = self.intended(self.attempt_job(attempt, task)?)?;
        Ok(lock.into_iter().flatten().chain(job).collect())
    }

    fn recreate_check(&self) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
        let Some(attempt) = self.status.open_attempt() else { return Ok(Vec::new()) };
        self.intended(self.attempt_job(attempt, Task::Check)?)
    }

    fn removal(&self, step: &Step, removal: &Removal) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
        Ok(match removal {
            Removal::Release(_) => {
                let release = [Effect::ReleaseLocks, Effect::SetFinalizers(other_finalizers(self.object))];
                self.event(step).into_iter().chain(release).collect()
            }
            Removal::StopJob(job) => vec![Effect::DeleteJob(job.clone())],
            Removal::StartMember(to) => {
                vec![Effect::RequireUnchanged, Effect::Scale { to: to.clone(), refusal: None }]
            }
            Removal::Prune => {
                let job = build::prune_job(self.backup, self.status, self.settings.operator_image)?;
                vec![Effect::RequireUnchanged, Effect::CreateJob { job: Box::new(job), refusal: None }]
            }
            Removal::Failed { job, .. } => {
                self.event(step).into_iter().chain(job.clone().map(Effect::DeleteJob)).collect()
            }
            Removal::Wait(_) => Vec::new(),
        })
    }

    /// Tells and records.
    fn told(&self, step: &Step) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
        let told = self.event(step).map(|event| [Effect::RequireUnchanged, event]);
        Ok(told.into_iter().flatten().chain([Effect::RecordStatus(self.written()?)]).collect())
    }

    /// Records what is about to be done, then does it. What is recorded already is confirmed.
    fn intended(&self, effect: Effect<Refusal>) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
        Ok(vec![self.record()?.unwrap_or(Effect::RequireUnchanged), effect])
    }

    fn record(&self) -> Result<Option<Effect<Refusal>>, serde_json::Error> {
        if self.status == self.before { Ok(None) } else { Ok(Some(Effect::RecordStatus(self.written()?))) }
    }

    fn written(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self.status)
    }

    fn event(&self, step: &Step) -> Option<Effect<Refusal>> {
        let Settings { instance, now, .. } = self.settings;
        let backup = self.backup;
        event(&backup.owner, &backup.resource_version, self.before, step, instance, now)
            .map(|event| Effect::CreateEvent(Box::new(event)))
    }

    fn attempt_job(&self, attempt: &Attempt, task: Task) -> Result<Effect<Refusal>, serde_json::Error> {
        let Settings { operator_image, now, .. } = self.settings;
        let job = build::backup_job(self.backup, self.status, attempt, task, operator_image, now)?;
        Ok(create(job, Refusal::CloseAttempt(Reason::JobRefused)))
    }

    fn inspect_job(&self, inspection: &Inspection) -> Result<Effect<Refusal>, serde_json::Error> {
        let refusal = Refusal::Unanswered(Box::new(inspection.clone()));
        let Some(attempt) = self.status.open_attempt() else { return Ok(Effect::RequireUnchanged) };
        let job = build::inspect_job(self.backup, attempt, &inspection.job, self.settings.operator_image)?;
        Ok(create(job, refusal))
    }
}

fn create(job: Job, refusal: Refusal) -> Effect<Refusal> {
    Effect::CreateJob { job: Box::new(job), refusal: Some(refusal) }
}

/// The effects of a step that needs nothing of the spec.
fn object_effects(
    object: &GraphBackup,
    step: &ObjectStep,
    settings: Settings<'_>,
) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
    let own = || object.status.clone().unwrap_or_default();
    Ok(match step {
        ObjectStep::Nothing => Vec::new(),
        ObjectStep::SetFinalizers(finalizers) => vec![Effect::SetFinalizers(finalizers.clone())],
        ObjectStep::Refuse(ending) => {
            let before = own();
            let status = status::refused(object, &before, ending, settings.now);
            let record = Effect::RecordStatus(serde_json::to_value(&status)?);
            object_event(object, &before, step, settings).into_iter().chain([record]).collect()
        }
        ObjectStep::Disown(ending) => {
            let none = GraphBackupStatus::default();
            let status = status::refused(object, &none, ending, settings.now);
            let replace = Effect::ReplaceStatus(replacement(object, &status)?);
            object_event(object, &none, step, settings).into_iter().chain([replace]).collect()
        }
        ObjectStep::Release(_) => {
            let release = Effect::SetFinalizers(other_finalizers(object));
            object_event(object, &own(), step, settings).into_iter().chain([release]).collect()
        }
    })
}

/// A status as a merge patch over the one that stands there: what only that has becomes `null`.
fn replacement(object: &GraphBackup, status: &GraphBackupStatus) -> Result<Value, serde_json::Error> {
    let (foreign, mut own) = (serde_json::to_value(&object.status)?, serde_json::to_value(status)?);
    for (field, _) in foreign.as_object().into_iter().flatten() {
        if own.get(field).is_none() {
            own[field] = Value::Null;
        }
    }
    Ok(own)
}

fn object_event(
    object: &GraphBackup,
    before: &GraphBackupStatus,
    step: &ObjectStep,
    settings: Settings<'_>,
) -> Option<Effect<Refusal>> {
    let (owner, version) = (owner_of(object), object.resource_version().unwrap_or_default());
    let told = event(&owner, &version, before, &Step::Object(step.clone()), settings.instance, settings.now);
    told.map(|event| Effect::CreateEvent(Box::new(event)))
}

/// The object as the owner of what belongs to it.
pub fn owner_of(object: &GraphBackup) -> Owner {
    Owner {
        kind: Kind::GraphBackup,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
