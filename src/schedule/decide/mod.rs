//! The next step of a schedule: a pure function of the object, its backups and the time. No file in this folder has a
//! clock or a client.

mod conditions;
mod drill;
mod due;
mod facts;
mod keep;
mod skip;
mod timing;

use super::children::{Child, Holder, holder, is_removable, is_stoppable};
use super::status;
use super::step::{BackupRef, Decision, Note, Step};
use super::validate::ValidSchedule;
use super::world::{POINTS_FINALIZER, Reading, World, holds_points, other_finalizers};
use crate::api::condition::{self, READY, RETENTION_APPLIED};
use crate::api::{BackupScheduleStatus, DeletionPolicy, GraphBackup, Reason};
use chrono::{DateTime, TimeDelta, Utc};
use due::Turn;
use keep::Removal;
use kube::ResourceExt;
use std::time::Duration;

/// Longest time between two passes: the clock of the machine may be set.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Until a point that may not be removed yet is looked at again.
const LATER: Duration = Duration::from_secs(30);

/// Decides what a pass does.
pub fn decide(
    schedule: &ValidSchedule,
    before: &BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Decision {
    if world.is_deleted {
        return deleted(schedule, before, world);
    }
    let wants_finalizer = schedule.deletion_policy == DeletionPolicy::Delete;
    if wants_finalizer != holds_points(world.finalizers) {
        let ours = wants_finalizer.then(|| POINTS_FINALIZER.to_owned());
        let finalizers = other_finalizers(world.finalizers).into_iter().chain(ours).collect();
        return only(Step::SetFinalizers(finalizers), before, Some(LATER));
    }
    let mut status = status::begun(schedule, before);
    let mut notes = Vec::new();
    due::settle(schedule, &mut status, world.children, now);
    timing::refresh(schedule, &mut status, now);
    due::settle(schedule, &mut status, world.children, now);
    facts::observe(schedule, &mut status, world.children);
    // The newest backup may be newer than what the watch has shown.
    if let Some(unseen) = unseen(&status, world) {
        return only(Step::Look(unseen), before, None);
    }
    let step = take(schedule, &mut status, &mut notes, world, now);
    let removal = keep::retain(schedule, &mut status, &mut notes, world, now);
    let step = match (step, removal) {
        (Some(step), _) => step,
        // A drill that runs is followed first: its Job does not stay for ever.
        (None, Some(removal)) => {
            let running = status.drill.as_ref().is_some_and(|drill| drill.running.is_some());
            let ended = running.then(|| drill::next(schedule, &mut status, &mut notes, world, now)).flatten();
            ended.unwrap_or_else(|| remove(schedule, world, removal))
        }
        (None, None) => drill::next(schedule, &mut status, &mut notes, world, now).unwrap_or(Step::Record),
    };
    facts::judge(schedule, before, &mut status, &mut notes, world.refused, now);
    conditions::close(schedule, &mut status, world.refused, now);
    let look_again = match step {
        // It is left for the next pass if it has changed.
        Step::Replace(_) => Some(LATER),
        _ => Some(look_again(schedule, &status, world, now)),
    };
    Decision { step, status, notes, look_again }
}

/// What follows when the API server refuses the Job of a drill that was recorded in `before`.
pub fn drill_refused(
    schedule: &ValidSchedule,
    before: &BackupScheduleStatus,
    words: &str,
    now: DateTime<Utc>,
) -> Decision {
    let (mut status, mut notes) = (before.clone(), Vec::new());
    let step = drill::refused(&mut status, &mut notes, words, now).unwrap_or(Step::Record);
    facts::judge(schedule, before, &mut status, &mut notes, None, now);
    Decision { step, status, notes, look_again: Some(LONGEST_WAIT) }
}

/// A step that leaves the status as it is.
fn only(step: Step, status: &BackupScheduleStatus, look_again: Option<Duration>) -> Decision {
    Decision { step, status: status.clone(), notes: Vec::new(), look_again }
}

/// The backup that was taken last, if no watch has shown it and it was not read.
fn unseen(status: &BackupScheduleStatus, world: &World<'_>) -> Option<String> {
    let active = status.active.as_ref()?;
    let is_known =
        world.children.iter().any(|child| child.name == *active) || !matches!(world.reading(active), Reading::Unread);
    (!is_known).then(|| active.clone())
}

/// The backup that is taken now, if one is due.
fn take(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Option<Step> {
    let running = facts::running(status, world);
    match due::next(schedule, status, notes, running.as_ref(), now) {
        Turn::None => None,
        Turn::Look(name) => Some(Step::Look(name)),
        Turn::Replace(child) => {
            // It was read: `next` has asked for it.
            let Reading::Backup(object) = world.reading(&child.name) else { return None };
            Some(Step::Replace(marked(object)))
        }
        Turn::Take(due) => match world.reading(&due.name) {
            Reading::Backup(object) if holder(schedule, due.slot(), object) == Holder::Foreign => {
                due::name_taken(status, notes, &due);
                None
            }
            Reading::Unreadable => {
                due::name_taken(status, notes, &due);
                None
            }
            Reading::Backup(_) => {
                due::taken(status, &due);
                None
            }
            Reading::Nothing | Reading::Unread => {
                if let Some(words) = world.refused {
                    status.clone_from(&due.untouched);
                    notes.extend(refused(status, &due.name, words));
                    return None;
                }
                due::taken(status, &due);
                Some(Step::Take(Box::new(super::build::child(schedule, &due.name, due.backup_type, due.slot()))))
            }
        },
    }
}

/// That a backup is refused is told when it begins.
fn refused(status: &BackupScheduleStatus, name: &str, words: &str) -> Option<Note> {
    let is_told = condition::reason(&status.conditions, READY) == Some(Reason::BackupRefused.as_str());
    (!is_told).then(|| Note::new(Reason::BackupRefused, words.to_owned(), format!("refused.{name}")))
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

/// Removes a backup that nothing keeps. A point is read first, because that cannot be undone.
fn remove(schedule: &ValidSchedule, world: &World<'_>, removal: Removal) -> Step {
    match removal {
        Removal::Forget(child) => Step::Forget(reference(schedule, &child)),
        Removal::Prune(child) => match world.reading(&child.name) {
            Reading::Unread => Step::Look(child.name),
            Reading::Backup(object) if is_removable(schedule, &child.uid, object) => Step::Prune(marked(object)),
            Reading::Backup(_) | Reading::Nothing | Reading::Unreadable => Step::Record,
        },
    }
}

fn marked(object: &GraphBackup) -> BackupRef {
    let schedule_uid = object.labels().get(crate::api::names::SCHEDULE_UID_LABEL).cloned();
    BackupRef {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version(),
        schedule_uid: schedule_uid.unwrap_or_default(),
        finalizers: object.finalizers().to_vec(),
    }
}

/// A deleted schedule: its points go with it if its `deletionPolicy` says so, but for those that are pinned or in use.
fn deleted(schedule: &ValidSchedule, before: &BackupScheduleStatus, world: &World<'_>) -> Decision {
    if !holds_points(world.finalizers) {
        return only(Step::Record, before, None);
    }
    let release = Step::SetFinalizers(other_finalizers(world.finalizers));
    if schedule.deletion_policy == DeletionPolicy::Retain {
        return only(release, before, None);
    }
    let (step, look_again) = match keep::next_of_deleted(world) {
        // The watch may be late: one that is over may be a point, and a pinned one.
        keep::OfDeleted::Stop(child) => match world.reading(&child.name) {
            Reading::Unread => (Step::Look(child.name), None),
            Reading::Backup(object) if is_stoppable(object, &child.uid) => (Step::Forget(marked(object)), Some(LATER)),
            Reading::Backup(_) | Reading::Nothing | Reading::Unreadable => (Step::Record, Some(LATER)),
        },
        keep::OfDeleted::Remove(removal) => (remove(schedule, world, removal), Some(LATER)),
        keep::OfDeleted::Wait => (Step::Record, Some(LATER)),
        // One that was taken last may not have been shown yet.
        keep::OfDeleted::Done => match world.left {
            None => (Step::Count, None),
            Some(0) => (release, None),
            Some(_) => (Step::Record, Some(LATER)),
        },
    };
    only(step, before, look_again)
}

fn look_again(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Duration {
    if world.refused.is_some() {
        return LATER;
    }
    // Not every end of a removal brings a pass: points that were taken over carry the name of another schedule.
    let is_removing = condition::reason(&status.conditions, RETENTION_APPLIED) == Some(Reason::RemovingPoints.as_str());
    let removing = is_removing.then(|| now + LATER);
    let slot = status.next_slots.first().map(|slot| slot.time + schedule.jitter);
    // One second later: it is late when it is past its deadline.
    let late = status.waiting.and_then(|slot| Some(slot.time + schedule.jitter + schedule.starting_deadline?));
    let late = late.map(|late| late + TimeDelta::seconds(1));
    let moments =
        [removing, slot, late, facts::stale_at(schedule, status), keep::next_expiry(schedule, world.children, now)];
    let next =
        moments.into_iter().flatten().chain(drill::moments(schedule, status)).filter(|moment| *moment > now).min();
    let wait = next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LONGEST_WAIT);
    wait.min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
