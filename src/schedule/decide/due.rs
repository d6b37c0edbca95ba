//! Whether a backup is due now, and what becomes of a slot that cannot have one. Pure.

use super::skip::skip;
use super::timing::{AHEAD, passed, timing_of};
use crate::api::names::{requested_backup, slot_backup};
use crate::api::{BackupNow, BackupScheduleStatus, BackupType, ConcurrencyPolicy, Reason, Slot, moment};
use crate::controller::pace::since;
use crate::schedule::children::{Child, Whose};
use crate::schedule::slots::Passed;
use crate::schedule::step::Note;
use crate::schedule::validate::ValidSchedule;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// So many failures in a row for a cause on the target let the slots rest.
pub const FAILURES_BEFORE_A_REST: u32 = 3;
/// How long they rest at first, and at most.
const REST: (Duration, Duration) = (Duration::from_mins(15), Duration::from_hours(6));

/// What happens now.
pub enum Turn {
    /// Nothing.
    None,
    /// First this backup has to be read: what the watch shows may be long over.
    Look(String),
    /// A backup that is not over makes way.
    Replace(Running),
    /// A backup is due.
    Take(Box<Due>),
}

/// A backup of the schedule that is not over.
#[derive(Clone, Debug)]
pub struct Running {
    /// Name.
    pub name: String,
    /// Whether it was asked to copy the whole store.
    pub is_full: bool,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Whether it was read for this pass.
    pub is_read: bool,
}

/// A backup that is due.
pub struct Due {
    /// Its name.
    pub name: String,
    /// Its type.
    pub backup_type: BackupType,
    /// Why it is due.
    pub cause: Cause,
    /// The status before anything of it was noted.
    pub untouched: BackupScheduleStatus,
}

/// Why a backup is due.
pub enum Cause {
    /// A slot has come. How many older ones came before it, for each expression.
    Slot {
        /// The slot.
        slot: DateTime<Utc>,
        /// The full slots.
        full: Option<Passed>,
        /// The incremental slots.
        incremental: Option<Passed>,
        /// Whether both expressions have this very slot.
        is_shared: bool,
    },
    /// A person asks for it, with this token.
    Request(String),
}

impl Due {
    /// The slot; `None` for a request.
    pub fn slot(&self) -> Option<DateTime<Utc>> {
        match &self.cause {
            Cause::Slot { slot, .. } => Some(*slot),
            Cause::Request(_) => None,
        }
    }
}

/// Backups that are there stand for their slots, and for their token, also where that could not be recorded: after a
/// crash such a slot is neither due nor skipped, and its backup is not in its own way.
pub fn settle(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, children: &[Child], now: DateTime<Utc>) {
    let ours = || children.iter().filter(|child| matches!(child.whose, Whose::Ours | Whose::Earlier));
    let has_come = |slot: &DateTime<Utc>| *slot <= now + AHEAD;
    let mut slots: Vec<DateTime<Utc>> = ours().filter_map(|child| child.slot).filter(has_come).collect();
    slots.sort_unstable();
    for slot in slots {
        let types = [BackupType::Full, BackupType::Auto];
        let is_open = |backup_type: &BackupType| {
            passed(schedule, status, *backup_type, slot).is_some_and(|passed| passed.slot == slot)
        };
        if let Some(backup_type) = types.into_iter().find(is_open) {
            advance(status, &at_slot(schedule, status, Slot { time: slot, backup_type }, slot));
        }
    }
    let Some(token) = requested(schedule, status) else { return };
    let name = requested_backup(&schedule.owner.name, &token);
    if ours().any(|child| child.name == name && child.slot.is_none()) {
        status.backup_now = Some(BackupNow { token, name: Some(name) });
    }
}

/// What is due now. Slots that cannot have a backup are skipped, and counted.
pub fn next(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    running: Option<&Running>,
    now: DateTime<Utc>,
) -> Turn {
    let waited = status.waiting.take();
    if let Some(token) = requested(schedule, status) {
        return match running {
            Some(_) => Turn::None,
            None => Turn::Take(Box::new(Due {
                name: requested_backup(&schedule.owner.name, &token),
                backup_type: schedule.usual_type(),
                cause: Cause::Request(token),
                untouched: status.clone(),
            })),
        };
    }
    if schedule.is_suspended {
        return Turn::None;
    }
    // Full slots first: an incremental one has its turn where none is due, or where it was skipped.
    for backup_type in [BackupType::Full, BackupType::Auto] {
        let until = now - schedule.jitter;
        let Some(due) = passed(schedule, status, backup_type, until) else { continue };
        let obstacle = obstacle(schedule, status, backup_type, due.slot, running, now);
        let is_in_the_way = obstacle.as_ref().is_some_and(|(reason, _)| *reason == Reason::PreviousStillRunning)
            || obstacle.is_none() && schedule.concurrency == ConcurrencyPolicy::Replace;
        if let Some(running) = running.filter(|running| is_in_the_way && !running.is_read) {
            return Turn::Look(running.name.clone());
        }
        if let Some((reason, why)) = obstacle {
            pass_over(status, notes, backup_type, due, (reason, &why));
            continue;
        }
        let slot = Slot { time: due.slot, backup_type };
        let Some(running) = running else { return Turn::Take(Box::new(at_slot(schedule, status, slot, until))) };
        let is_new = waited != Some(slot);
        status.waiting = Some(slot);
        let replaces = schedule.concurrency == ConcurrencyPolicy::Replace && !running.is_deleted;
        if replaces {
            status.replaced = status.replaced.saturating_add(u32::from(is_new));
            return Turn::Replace(running.clone());
        }
        return Turn::None;
    }
    Turn::None
}

/// The value of the annotation, if it asks for a backup that was not taken yet. One that was there before the schedule
/// was first seen is not a wish: an object that a GitOps tool creates anew would otherwise begin with a backup.
fn requested(schedule: &ValidSchedule, status: &mut BackupScheduleStatus) -> Option<String> {
    let token = schedule.backup_now.as_ref()?;
    if status.observed_generation.is_none() {
        status.backup_now = Some(BackupNow { token: token.clone(), name: None });
    }
    (status.backup_now.as_ref().map(|known| &known.token) != Some(token)).then(|| token.clone())
}

fn at_slot(schedule: &ValidSchedule, status: &BackupScheduleStatus, slot: Slot, until: DateTime<Utc>) -> Due {
    let is_full = slot.backup_type == BackupType::Full;
    let incremental = schedule.incremental.as_ref().filter(|_| is_full);
    let shared = incremental.and_then(|timetable| {
        timetable.expression.newest(&schedule.zone, slot.time - TimeDelta::seconds(1), slot.time)
    });
    Due {
        name: slot_backup(&schedule.owner.name, slot.time),
        backup_type: slot.backup_type,
        cause: Cause::Slot {
            slot: slot.time,
            full: passed(schedule, status, BackupType::Full, until).filter(|_| is_full),
            incremental: passed(schedule, status, BackupType::Auto, until),
            is_shared: shared.is_some(),
        },
        untouched: status.clone(),
    }
}

/// Why a slot gets no backup, if it gets none.
fn obstacle(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    backup_type: BackupType,
    slot: DateTime<Utc>,
    running: Option<&Running>,
    now: DateTime<Utc>,
) -> Option<(Reason, String)> {
    let late = since(slot + schedule.jitter, now);
    if let Some(deadline) = schedule.starting_deadline.filter(|deadline| late > *deadline) {
        let why = format!("it could not start within startingDeadline ({} s)", deadline.as_secs());
        return Some((Reason::DeadlineMissed, why));
    }
    if let Some(until) = rest(status).filter(|until| now < *until) {
        let failures = status.failures.as_ref()?;
        let why = format!(
            "the last {} backups failed with {}, so the slots until {} rest: repair the target, or ask for a \
             backup with the annotation graphbackup.dev/backup-now",
            failures.in_a_row,
            failures.reason,
            moment(until)
        );
        return Some((Reason::TargetKeepsFailing, why));
    }
    let running = running?;
    let is_full = backup_type == BackupType::Full;
    let gives_way = match schedule.concurrency {
        ConcurrencyPolicy::Forbid => !is_full || running.is_full,
        ConcurrencyPolicy::Queue => false,
        ConcurrencyPolicy::Replace => running.is_full && !is_full,
    };
    let why = || format!("{} is not over", running.name);
    gives_way.then(|| (Reason::PreviousStillRunning, why()))
}

/// Until when the slots rest, after several failures in a row for a cause on the target that one more backup would meet
/// as well. Then one slot is tried.
pub fn rest(status: &BackupScheduleStatus) -> Option<DateTime<Utc>> {
    let failures = status.failures.as_ref().filter(|failures| failures.in_a_row >= FAILURES_BEFORE_A_REST)?;
    let of_target = [
        Reason::TargetFull,
        Reason::TargetNotWritable,
        Reason::TargetIoError,
        Reason::TargetClaimMissing,
        Reason::LockUnsupported,
    ];
    if !of_target.iter().any(|reason| reason.as_str() == failures.reason) {
        return None;
    }
    let doublings = (failures.in_a_row - FAILURES_BEFORE_A_REST).min(10);
    Some(failures.time + (REST.0 * 2_u32.pow(doublings)).min(REST.1))
}

/// Skips the slots of one expression up to the newest that is due.
fn pass_over(
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    backup_type: BackupType,
    due: Passed,
    cause: (Reason, &str),
) {
    let (reason, why) = cause;
    skip(status, reason, due.count, due.slot);
    if let Some(timing) = timing_of(status, backup_type) {
        timing.last_slot = Some(due.slot);
    }
    let text = match due.count {
        1 => format!("slot {} is skipped: {why}", moment(due.slot)),
        count => format!("{count} slots up to {} are skipped: {why}", moment(due.slot)),
    };
    notes.push(Note::new(reason, text, turn(due.slot)));
}

fn turn(slot: DateTime<Utc>) -> String {
    format!("slot.{}", slot.format("%Y%m%d-%H%M"))
}

/// Notes that a backup is taken. The slots that it stands for have been decided on with it.
pub fn taken(status: &mut BackupScheduleStatus, due: &Due) {
    status.active = Some(due.name.clone());
    advance(status, due);
    if let Cause::Request(token) = &due.cause {
        status.backup_now = Some(BackupNow { token: token.clone(), name: Some(due.name.clone()) });
    }
}

/// Notes that a slot, or a request, came to nothing because something else has the name of its backup.
pub fn name_taken(status: &mut BackupScheduleStatus, notes: &mut Vec<Note>, due: &Due) {
    let text = format!(
        "an object that this schedule did not create has the name of the backup {}: delete it, or rename the schedule",
        due.name
    );
    advance(status, due);
    let turn = match &due.cause {
        Cause::Slot { slot, .. } => {
            skip(status, Reason::NameTaken, 1, *slot);
            turn(*slot)
        }
        Cause::Request(token) => {
            status.backup_now = Some(BackupNow { token: token.clone(), name: None });
            format!("request.{}", due.name)
        }
    };
    notes.push(Note::new(Reason::NameTaken, text, turn));
}

fn advance(status: &mut BackupScheduleStatus, due: &Due) {
    let Cause::Slot { full, incremental, is_shared, .. } = due.cause else { return };
    for (backup_type, passed) in [(BackupType::Full, full), (BackupType::Auto, incremental)] {
        let Some(passed) = passed else { continue };
        if let Some(timing) = timing_of(status, backup_type) {
            timing.last_slot = Some(passed.slot);
        }
        // The backup stands for the slot that it was taken for, and for one of the other expression at the same time.
        let own = u64::from(backup_type == due.backup_type || is_shared);
        skip(status, Reason::Superseded, passed.count - own.min(passed.count), passed.slot);
    }
}
