//! The ordered list of effects that each step becomes. Pure.
//!
//! | step | effects, in order |
//! |---|---|
//! | take | Events, unchanged?, create the backup, **record** |
//! | replace, forget | Events, **record**, unchanged?, delete the backup |
//! | prune | Events, **record**, unchanged?, mark and delete the point |
//! | unmark | Events, **record**, unchanged?, take the mark off the point |
//! | record | Events, **record**, if it changes anything |
//! | drill | Events, **record** (or unchanged?), create the Job |
//! | end of a drill | Events, record on the backup, delete the Job that lingers, **record** |
//! | set finalizers | that |
//!
//! The reasons for the order:
//!
//! - **The backup before the record**: the backup's name follows from the slot, so that creating it twice is impossible.
//!   A crash in between finds it there. The other way round, a crash would lose the slot.
//! - ***Unchanged?* before a creation or a removal**: a schedule that was suspended, edited or deleted meanwhile takes
//!   and removes nothing.
//! - **The end of a drill on the schedule last**: until then a further pass finds the result on the backup, and the Job
//!   that lingers, if it is still there.
//! - **The record before a removal**: the plan stands on the object before it runs.

use super::build::{Tried, drill_job};
use super::event::event;
use super::step::{BackupRef, Decision, Note, Refusal, Step};
use super::validate::ValidSchedule;
use crate::api::names::PRUNE_ANNOTATION;
use crate::api::{BackupScheduleStatus, Kind, Owner};
use crate::backup::finalizers::FILES_FINALIZER;
use crate::contract::task::DrillRun;
use crate::controller::effects::{Effect, OtherObject, record};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// What effects are made of besides the decision.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// The schedule, if it can be read.
    pub schedule: Option<&'a ValidSchedule>,
    /// The same as the owner of what belongs to it.
    pub owner: &'a Owner,
    /// Its resource version.
    pub resource_version: &'a str,
    /// Image that holds the agent.
    pub operator_image: &'a str,
    /// Name of this replica, for Events.
    pub instance: &'a str,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Makes the effects of a decision. `before` is the status on the object.
pub fn effects(
    decision: &Decision,
    before: Option<&BackupScheduleStatus>,
    settings: Settings<'_>,
) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
    let is_foreign = before.is_some_and(|before| before.uid.is_some() && before.uid != decision.status.uid);
    let record = record(&decision.status, before, is_foreign)?;
    let mut effects = told(&decision.notes, settings);
    match &decision.step {
        Step::Look(_) | Step::AskTime | Step::Count => return Ok(Vec::new()),
        Step::SetFinalizers(finalizers) => return Ok(vec![Effect::SetFinalizers(finalizers.clone())]),
        Step::Record => effects.extend(record),
        Step::Take(child) => {
            effects.push(Effect::RequireUnchanged);
            effects.push(Effect::CreateObject {
                kind: Kind::GraphBackup,
                object: Box::new(serde_json::to_value(child)?),
                exists: Refusal::NameTaken,
                refusal: Refusal::Refused,
            });
            effects.extend(record);
        }
        Step::Replace(child) | Step::Forget(child) => {
            let delete = Effect::DeleteObject { object: other(child), refusal: Refusal::RemovalRefused };
            effects.extend(record.into_iter().chain([Effect::RequireUnchanged, delete]));
        }
        Step::Prune(child) => {
            let (object, mark) = (other(child), mark(child));
            let remove = Effect::MarkAndDelete { object, mark, refusal: Refusal::RemovalRefused };
            effects.extend(record.into_iter().chain([Effect::RequireUnchanged, remove]));
        }
        Step::Unmark(child) => {
            let change = json!({"metadata": {"annotations": {PRUNE_ANNOTATION: null}}});
            let unmark = Effect::ChangeMetadata { object: other(child), change, refusal: Refusal::RemovalRefused };
            effects.extend(record.into_iter().chain([Effect::RequireUnchanged, unmark]));
        }
        Step::Drill { job, asked } => {
            effects.push(record.unwrap_or(Effect::RequireUnchanged));
            effects.extend(drill(settings, job, asked)?);
        }
        Step::EndDrill { uid, result, delete } => {
            let object = OtherObject {
                kind: Kind::GraphBackup,
                name: result.name.clone(),
                uid: uid.clone(),
                resource_version: None,
            };
            effects.push(Effect::RecordOn { object, status: json!({"drill": result}) });
            effects.extend(delete.clone().map(Effect::DeleteJob));
            effects.extend(record);
        }
    }
    Ok(effects)
}

fn drill(settings: Settings<'_>, job: &str, asked: &DrillRun) -> Result<Option<Effect<Refusal>>, serde_json::Error> {
    let Some((schedule, drill)) = settings.schedule.and_then(|schedule| Some((schedule, schedule.drill.as_ref()?)))
    else {
        return Ok(None);
    };
    let job = drill_job(schedule, drill, &Tried { job, run: asked }, settings.operator_image)?;
    Ok(Some(Effect::CreateJob { job: Box::new(job), refusal: Some(Refusal::DrillRefused) }))
}

fn other(child: &BackupRef) -> OtherObject {
    OtherObject {
        kind: Kind::GraphBackup,
        name: child.name.clone(),
        uid: child.uid.clone(),
        resource_version: child.resource_version.clone(),
    }
}

/// What makes a point's files go with its object. The finalizer comes with the mark: the object must not go before them.
fn mark(child: &BackupRef) -> Value {
    let has_finalizer = child.finalizers.iter().any(|finalizer| finalizer == FILES_FINALIZER);
    let ours = (!has_finalizer).then(|| FILES_FINALIZER.to_owned());
    let finalizers: Vec<String> = child.finalizers.iter().cloned().chain(ours).collect();
    json!({"metadata": {
        "annotations": {PRUNE_ANNOTATION: child.schedule_uid},
        "finalizers": finalizers,
    }})
}

fn told(notes: &[Note], settings: Settings<'_>) -> Vec<Effect<Refusal>> {
    let Settings { owner, resource_version, instance, now, .. } = settings;
    let events = notes.iter().map(|note| event(owner, resource_version, note, instance, now));
    events.map(|event| Effect::CreateEvent(Box::new(event))).collect()
}

#[cfg(test)]
mod tests;
