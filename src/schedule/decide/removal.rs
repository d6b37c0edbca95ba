//! How a backup is removed, and what it means that the API server refuses it. Pure.

use super::keep::{OfDeleted, Removal, next_of_deleted};
use super::{conditions, facts};
use crate::api::condition::{self, READY, RETENTION_APPLIED, Truth};
use crate::api::{BackupScheduleStatus, DeletionPolicy, GraphBackup, Reason, names};
use crate::schedule::children::{Child, is_removable, is_stoppable, is_unmarkable};
use crate::schedule::status::refusal;
use crate::schedule::step::{BackupRef, Decision, Note, Step};
use crate::schedule::validate::ValidSchedule;
use crate::schedule::world::{Reading, World, holds_points, other_finalizers};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::time::Duration;

/// Until something that may not be done yet, or that was refused, is tried again.
pub const LATER: Duration = Duration::from_secs(30);

/// A step that leaves the status as it is.
pub fn only(step: Step, status: &BackupScheduleStatus, look_again: Option<Duration>) -> Decision {
    Decision { step, status: status.clone(), notes: Vec::new(), look_again }
}

/// Removes a backup that nothing keeps, or the mark of one that stays. A point is read first, because its removal cannot
/// be undone.
pub fn remove(schedule: &ValidSchedule, world: &World<'_>, removal: Removal) -> Step {
    let (child, is_unmarked) = match removal {
        Removal::Forget(child) => return Step::Forget(reference(schedule, &child)),
        Removal::Prune(child) => (child, false),
        Removal::Unmark(child) => (child, true),
    };
    match world.reading(&child.name) {
        Reading::Unread => Step::Look(child.name),
        Reading::Backup(object) if is_unmarked && is_unmarkable(schedule, &child.uid, object) => {
            Step::Unmark(marked(object))
        }
        Reading::Backup(object) if !is_unmarked && is_removable(schedule, &child.uid, object) => {
            Step::Prune(marked(object))
        }
        Reading::Backup(_) | Reading::Nothing | Reading::Unreadable => Step::Record,
    }
}

fn reference(schedule: &ValidSchedule, child: &Child) -> BackupRef {
    BackupRef {
        name: child.name.clone(),
        uid: child.uid.clone(),
        resource_version: None,
        schedule_uid: schedule.owner.uid.clone(),
        finalizers: Vec::new(),
    }
}

/// A backup as it was read.
pub fn marked(object: &GraphBackup) -> BackupRef {
    let schedule_uid = object.labels().get(names::SCHEDULE_UID_LABEL).cloned();
    BackupRef {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version(),
        schedule_uid: schedule_uid.unwrap_or_default(),
        finalizers: object.finalizers().to_vec(),
    }
}

/// A deleted schedule: its points go with it if its `deletionPolicy` says so, but for those that are pinned or in use.
pub fn deleted(
    schedule: &ValidSchedule,
    before: &BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Decision {
    if !holds_points(world.finalizers) {
        return only(Step::Record, before, None);
    }
    let release = Step::SetFinalizers(other_finalizers(world.finalizers));
    let (step, look_again) = match next_of_deleted(world, schedule.deletion_policy == DeletionPolicy::Delete) {
        // The watch may be late: one that is over may be a point, and a pinned one.
        OfDeleted::Stop(child) => match world.reading(&child.name) {
            Reading::Unread => (Step::Look(child.name), None),
            Reading::Backup(object) if is_stoppable(object, &child.uid) => (Step::Forget(marked(object)), Some(LATER)),
            Reading::Backup(_) | Reading::Nothing | Reading::Unreadable => (Step::Record, Some(LATER)),
        },
        OfDeleted::Remove(removal) => (remove(schedule, world, removal), Some(LATER)),
        OfDeleted::Wait => (Step::Record, Some(LATER)),
        OfDeleted::Done if schedule.deletion_policy == DeletionPolicy::Retain => (release, None),
        // One that was taken last may not have been shown yet.
        OfDeleted::Done => match world.left {
            None => (Step::Count, None),
            Some(0) => (release, None),
            Some(_) => return held_by_others(schedule, before, now),
        },
    };
    only(step, before, look_again)
}

/// A deleted schedule has backups that no watch shows as such: new ones, or ones that this version cannot read.
fn held_by_others(schedule: &ValidSchedule, before: &BackupScheduleStatus, now: DateTime<Utc>) -> Decision {
    let mut status = before.clone();
    let text = format!(
        "the schedule waits for backups that the operator does not know yet, or cannot read, with the label {}={}: delete \
         them yourself, or set deletionPolicy to Retain to keep them",
        names::SCHEDULE_UID_LABEL,
        schedule.owner.uid
    );
    facts::set(&mut status, schedule, RETENTION_APPLIED, (Truth::False, Reason::RemovingPoints, &text), now);
    Decision { step: Step::Record, status, notes: Vec::new(), look_again: Some(LATER) }
}

/// What the API server said last when it refused to remove a backup that makes way for the next one. It is told until
/// that succeeds: each change of the words would bring the next pass.
pub fn refused_before<'a>(before: &'a BackupScheduleStatus, step: Option<&Step>) -> Option<(Reason, &'a str)> {
    let is_removal = condition::reason(&before.conditions, READY) == Some(Reason::RemovalRefused.as_str());
    let words = refusal(Some(before), READY).filter(|_| is_removal && matches!(step, Some(Step::Replace(_))));
    words.map(|words| (Reason::RemovalRefused, words))
}

/// What follows when the API server refuses that a backup is removed, or loses its mark. `before` is the status on the
/// object, and `decision` what was recorded right before the refusal.
pub fn removal_refused(
    schedule: &ValidSchedule,
    before: &BackupScheduleStatus,
    decision: &Decision,
    words: &str,
    now: DateTime<Utc>,
) -> Decision {
    let mut status = decision.status.clone();
    let (kind, name) = match &decision.step {
        Step::Replace(child) => (READY, &child.name),
        Step::Forget(child) | Step::Prune(child) | Step::Unmark(child) => (RETENTION_APPLIED, &child.name),
        _ => return only(Step::Record, &status, Some(LATER)),
    };
    let is_told = condition::reason(&before.conditions, kind) == Some(Reason::RemovalRefused.as_str());
    let waits = condition::reason(&status.conditions, kind) == Some(Reason::ApprovalRequired.as_str());
    if kind == READY {
        // It was not replaced.
        status.replaced = before.replaced;
        conditions::close(schedule, &mut status, Some((Reason::RemovalRefused, words)), now);
    } else if !waits {
        // What waits for a person comes first, because it does not end by itself.
        facts::set(&mut status, schedule, kind, (Truth::False, Reason::RemovalRefused, words), now);
    }
    let note = Note::new(Reason::RemovalRefused, words.to_owned(), format!("removal.{name}"));
    let notes = if is_told { Vec::new() } else { vec![note] };
    let look_again = decision.look_again.map_or(LATER, |again| again.min(LATER));
    Decision { step: Step::Record, status, notes, look_again: Some(look_again) }
}

#[cfg(test)]
mod tests;
