//! The next step of a schedule: a pure function of the object, its backups and the time. No file in this folder has a
//! clock or a client.

mod conditions;
mod drill;
mod due;
mod facts;
mod keep;
mod removal;
mod skip;
mod timing;

use super::children::{Holder, holder};
use super::status;
use super::step::{Decision, Note, Step};
use super::validate::ValidSchedule;
use super::world::{POINTS_FINALIZER, Reading, World, holds_points, other_finalizers};
use crate::api::condition::{self, READY};
use crate::api::{BackupScheduleStatus, DeletionPolicy, Reason};
use chrono::{DateTime, TimeDelta, Utc};
use drill::First;
use due::{Due, Turn};
pub use removal::removal_refused;
use removal::{LATER, deleted, marked, only, refused_before, remove};
use std::time::Duration;

/// Longest time between two passes: the clock of the machine may be set.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Decides what a pass does.
pub fn decide(
    schedule: &ValidSchedule,
    before: &BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Decision {
    if world.is_deleted {
        return deleted(schedule, before, world, now);
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
    // A removal by age cannot be undone, and the clock of this machine may be wrong.
    if world.server_time.is_none() && keep::has_expired(schedule, &status, world, now) {
        return only(Step::AskTime, before, None);
    }
    let step = take(schedule, &mut status, &mut notes, world, now);
    let refused =
        world.refused.map(|words| (Reason::BackupRefused, words)).or_else(|| refused_before(before, step.as_ref()));
    let removal = keep::retain(schedule, &mut status, &mut notes, world, now);
    let step = match (step, removal) {
        (Some(step), _) => step,
        // A drill that runs is followed first: its Job does not stay for ever. And none waits for a removal that the API
        // server refuses.
        (None, Some(removal)) => {
            let goes_on =
                keep::is_refused(&status) || status.drill.as_ref().is_some_and(|drill| drill.running.is_some());
            let drilled = goes_on.then(|| drill::next(schedule, &mut status, &mut notes, world, now)).flatten();
            drilled.unwrap_or_else(|| remove(schedule, world, removal))
        }
        (None, None) => drill::next(schedule, &mut status, &mut notes, world, now).unwrap_or(Step::Record),
    };
    facts::judge(schedule, before, &mut status, &mut notes, refused, now);
    conditions::close(schedule, &mut status, refused, now);
    let look_again = look_again(schedule, &status, world, now);
    let look_again = match step {
        // It is left for the next pass if it has changed.
        Step::Replace(_) | Step::Prune(_) | Step::Unmark(_) => look_again.min(LATER),
        _ if refused.is_some() => look_again.min(LATER),
        _ => look_again,
    };
    Decision { step, status, notes, look_again: Some(look_again) }
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
        Turn::Take(due) => match drill::first(schedule, status, world, &due, now) {
            First::Backup => take_due(schedule, status, notes, world, &due),
            First::Drill(step) => Some(step),
            First::EndOfDrill => None,
        },
    }
}

/// Takes a backup that is due, unless something has its name.
fn take_due(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    world: &World<'_>,
    due: &Due,
) -> Option<Step> {
    match world.reading(&due.name) {
        Reading::Backup(object) if holder(schedule, due.slot(), object) == Holder::Foreign => {
            due::name_taken(status, notes, due);
            None
        }
        Reading::Unreadable => {
            due::name_taken(status, notes, due);
            None
        }
        Reading::Backup(_) => {
            due::taken(status, due);
            None
        }
        Reading::Nothing | Reading::Unread => {
            if let Some(words) = world.refused {
                status.clone_from(&due.untouched);
                notes.extend(refused(status, &due.name, words));
                return None;
            }
            due::taken(status, due);
            Some(Step::Take(Box::new(super::build::child(schedule, &due.name, due.backup_type, due.slot()))))
        }
    }
}

/// That a backup is refused is told when it begins.
fn refused(status: &BackupScheduleStatus, name: &str, words: &str) -> Option<Note> {
    let is_told = condition::reason(&status.conditions, READY) == Some(Reason::BackupRefused.as_str());
    (!is_told).then(|| Note::new(Reason::BackupRefused, words.to_owned(), format!("refused.{name}")))
}

fn look_again(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Duration {
    let refused = keep::is_refused(status).then(|| now + LATER);
    let slot = status.next_slots.first().map(|slot| slot.time + schedule.jitter);
    // One second later: it is late when it is past its deadline.
    let late = status.waiting.and_then(|slot| Some(slot.time + schedule.jitter + schedule.starting_deadline?));
    let late = late.map(|late| late + TimeDelta::seconds(1));
    let moments =
        [refused, slot, late, facts::stale_at(schedule, status), keep::next_expiry(schedule, world.children, now)];
    let next =
        moments.into_iter().flatten().chain(drill::moments(schedule, status)).filter(|moment| *moment > now).min();
    let wait = next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LONGEST_WAIT);
    wait.min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
