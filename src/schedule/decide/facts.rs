//! What the backups of a schedule show: the newest points, failures in a row, how fresh the data is, how the target
//! fills up. Pure.

use super::due::Running;
use crate::api::condition::{self, DRILL_PASSED, FRESH, Truth};
use crate::api::{
    BackupScheduleStatus, Capacity, Failures, GraphBackupStatus, LastPoint, Reason, SchedulePhase, moment,
};
use crate::schedule::children::{Child, ChildState, GoodPoint, Whose};
use crate::schedule::step::Note;
use crate::schedule::validate::ValidSchedule;
use crate::schedule::world::{Reading, World};
use chrono::{DateTime, Duration, Utc};

/// Days over which growth is averaged.
const GROWTH_DAYS: i64 = 7;
/// From so many replaced backups in a row the schedule says so.
const REPLACED_TOO_OFTEN: u32 = 3;

/// Takes over what the backups show.
pub fn observe(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, children: &[Child]) {
    let of_name = |child: &&Child| matches!(child.whose, Whose::Ours | Whose::Earlier);
    let good = || children.iter().filter(of_name).filter_map(|child| Some((child, child.good()?)));
    let newest = |full_only: bool| {
        let points = good().filter(|(_, point)| !full_only || point.depth == 0);
        points.max_by_key(|(child, point)| (point.data_from, &child.uid)).map(|(child, point)| LastPoint {
            name: child.name.clone(),
            data_from: point.data_from,
            depth: point.depth,
        })
    };
    let success = newest(false);
    if success.is_some() && success != status.last_success {
        status.replaced = 0;
    }
    status.last_success = success;
    status.last_full = newest(true);
    let failures = failures(status, children);
    if failures.is_some() && failures != status.failures {
        status.replaced = 0;
    }
    status.failures = failures;
    status.capacity = capacity(children);
    status.jitter = Some(format!("{}s", schedule.jitter.as_secs()));
}

/// The failures since the last success. Objects of older ones may be gone, so that the count is carried on.
fn failures(status: &BackupScheduleStatus, children: &[Child]) -> Option<Failures> {
    let since = status.last_success.as_ref().map(|point| point.data_from);
    let ours = children.iter().filter(|child| child.whose == Whose::Ours);
    let failed = ours.filter_map(|child| match &child.state {
        ChildState::Failed { reason, time, .. } if since.is_none_or(|since| *time > since) => {
            Some((child, reason, *time))
        }
        ChildState::Failed { .. } | ChildState::Good(_) | ChildState::Working { .. } => None,
    });
    let failed: Vec<_> = failed.collect();
    let known = status.failures.as_ref().filter(|known| since.is_none_or(|since| known.time > since));
    let Some((child, reason, time)) = failed.iter().max_by_key(|(child, _, time)| (*time, &child.name)) else {
        return known.cloned();
    };
    if let Some(known) = known.filter(|known| known.time >= *time) {
        return Some(known.clone());
    }
    let newer = failed.iter().filter(|(_, _, time)| known.is_none_or(|known| *time > known.time)).count();
    let newer = u32::try_from(newer).unwrap_or(u32::MAX);
    Some(Failures {
        in_a_row: known.map_or(0, |known| known.in_a_row).saturating_add(newer),
        name: child.name.clone(),
        reason: (*reason).clone(),
        time: *time,
    })
}

/// How the target fills up, by the newest point that says how much was free. No value of it changes without a backup.
fn capacity(children: &[Child]) -> Option<Capacity> {
    let good = || children.iter().filter(|child| child.whose == Whose::Ours).filter_map(Child::good);
    let newest = good().filter(|point| point.free_bytes.is_some()).max_by_key(|point| point.data_from)?;
    let free_bytes = newest.free_bytes?;
    let from = newest.data_from - Duration::days(GROWTH_DAYS);
    let recent: Vec<&GoodPoint> = good().filter(|point| point.data_from > from).collect();
    let oldest = recent.iter().map(|point| point.data_from).min()?;
    let days = (newest.data_from - oldest).num_days().max(1);
    let bytes_per_day = (recent.len() > 1).then(|| {
        let bytes = recent.iter().map(|point| point.bytes).fold(0_i64, i64::saturating_add);
        bytes / days
    });
    let days_left = bytes_per_day.filter(|bytes| *bytes > 0).map(|bytes| free_bytes / bytes);
    Some(Capacity { free_bytes, point_bytes: newest.bytes, bytes_per_day, days_left })
}

/// The backup of this schedule that is not over; `status.active` names it afterwards.
pub fn running(status: &mut BackupScheduleStatus, world: &World<'_>) -> Option<Running> {
    // What was read is newer than what the watch has shown.
    let is_over = |child: &Child| match world.reading(&child.name) {
        Reading::Unread | Reading::Unreadable => false,
        Reading::Nothing => true,
        Reading::Backup(object) => {
            object.metadata.uid.as_deref() != Some(&*child.uid)
                || object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal)
        }
    };
    let at_work = world.children.iter().filter(|child| child.is_ours_at_work() && !is_over(child));
    let known = at_work.map(|child| Running {
        name: child.name.clone(),
        is_full: matches!(child.state, ChildState::Working { is_full: true, .. }),
        is_deleted: child.is_deleted,
        is_read: matches!(world.reading(&child.name), Reading::Backup(_) | Reading::Unreadable),
    });
    // The oldest first: it is the one that the next has to wait for.
    let running = known.min_by(|a, b| a.name.cmp(&b.name)).or_else(|| just_taken(status, world));
    status.active = running.as_ref().map(|running| running.name.clone());
    running
}

/// A backup that was taken last and that no watch has shown yet.
fn just_taken(status: &BackupScheduleStatus, world: &World<'_>) -> Option<Running> {
    let active = status.active.as_ref()?;
    if world.children.iter().any(|child| child.name == *active) {
        return None;
    }
    let Reading::Backup(object) = world.reading(active) else { return None };
    let is_over = object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal);
    (!is_over).then(|| Running {
        name: active.clone(),
        is_full: object.spec.backup_type == crate::api::BackupType::Full,
        is_deleted: object.metadata.deletion_timestamp.is_some(),
        is_read: true,
    })
}

/// When the newest data is too old, if the schedule says what that means.
pub fn stale_at(schedule: &ValidSchedule, status: &BackupScheduleStatus) -> Option<DateTime<Utc>> {
    let from = status.last_success.as_ref().map_or(schedule.created, |point| point.data_from);
    Some(from + schedule.fresh_for?)
}

/// Sets the conditions that the backups decide.
pub fn judge(
    schedule: &ValidSchedule,
    before: &BackupScheduleStatus,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    refused: Option<(Reason, &str)>,
    now: DateTime<Utc>,
) {
    let (truth, reason, message) = freshness(schedule, status, refused, now);
    let was = condition::get(&before.conditions, FRESH);
    if truth == Truth::False && was != Some(Truth::False) {
        let from = stale_at(schedule, status).unwrap_or(now);
        notes.push(Note::new(reason, message.clone(), format!("fresh.{}", from.timestamp())));
    }
    set(status, schedule, FRESH, (truth, reason, &message), now);
    let (truth, reason, message) = super::drill::condition(status);
    set(status, schedule, DRILL_PASSED, (truth, reason, &message), now);
    if status.replaced == REPLACED_TOO_OFTEN && before.replaced < REPLACED_TOO_OFTEN {
        // The same for the same row of replacements, whichever version of the status they are counted from.
        let since = status.last_success.as_ref().map_or(schedule.created, |point| point.data_from);
        let since = status.failures.as_ref().map_or(since, |failures| failures.time.max(since));
        let turn = format!("replaced.{}", since.timestamp());
        notes.push(Note::new(Reason::ReplacedTooSoon, replaced_too_soon(status.replaced), turn));
    }
}

/// Whether backups are replaced again and again before they end.
pub fn is_replaced_too_soon(status: &BackupScheduleStatus) -> bool {
    status.replaced >= REPLACED_TOO_OFTEN
}

/// What is said of it.
pub fn replaced_too_soon(times: u32) -> String {
    format!(
        "the last {times} backups were replaced by the next one before they ended: leave more time between the slots, \
         or set concurrencyPolicy to Forbid or Queue"
    )
}

fn freshness(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    refused: Option<(Reason, &str)>,
    now: DateTime<Utc>,
) -> (Truth, Reason, String) {
    let Some(stale_at) = stale_at(schedule, status) else {
        return (Truth::Unknown, Reason::NotRequested, "spec.freshness is not set".to_owned());
    };
    let max_age = schedule.fresh_for.unwrap_or_default().as_secs();
    match &status.last_success {
        Some(point) if now < stale_at => (
            Truth::True,
            Reason::OnTime,
            format!("{} holds everything that was committed before {}", point.name, moment(point.data_from)),
        ),
        None if now < stale_at => (Truth::Unknown, Reason::NoBackupYet, "there is no recovery point yet".to_owned()),
        newest => {
            let (reason, why) = why_stale(schedule, status, refused);
            let what = newest.as_ref().map_or_else(
                || format!("there is no recovery point {max_age} s after the schedule was created"),
                |point| {
                    format!("the newest data is from {}, and freshness.maxAge is {max_age} s", moment(point.data_from))
                },
            );
            (Truth::False, reason, format!("{what}: {why}"))
        }
    }
}

/// Why there is no newer data, as far as it is known.
fn why_stale(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    refused: Option<(Reason, &str)>,
) -> (Reason, String) {
    if schedule.is_suspended || status.phase == Some(SchedulePhase::Suspended) {
        return (Reason::Suspended, "spec.suspend is true".to_owned());
    }
    if let Some((reason, words)) = refused {
        return (reason, words.to_owned());
    }
    if is_replaced_too_soon(status) {
        return (Reason::ReplacedTooSoon, replaced_too_soon(status.replaced));
    }
    if let Some(failures) = &status.failures {
        let many = failures.in_a_row;
        let why = format!("the last {many} backups failed, {} with {}", failures.name, failures.reason);
        return (Reason::LastRunFailed, why);
    }
    if let Some(active) = &status.active {
        return (Reason::Overdue, format!("{active} is not over"));
    }
    let since = status.last_success.as_ref().map(|point| point.data_from);
    let newer = status.skipped.iter().filter(|skipped| since.is_none_or(|since| skipped.last_slot > since));
    if let Some(skipped) = newer.max_by_key(|skipped| skipped.last_slot) {
        return (Reason::SlotSkipped, format!("slot {} was skipped: {}", moment(skipped.last_slot), skipped.reason));
    }
    let reason = if status.last_success.is_some() { Reason::Overdue } else { Reason::NoBackupYet };
    (reason, "no slot has come since: maxAge is shorter than the time between two slots".to_owned())
}

/// Sets one condition of a schedule.
pub fn set(
    status: &mut BackupScheduleStatus,
    schedule: &ValidSchedule,
    kind: &str,
    (truth, reason, message): (Truth, Reason, &str),
    now: DateTime<Utc>,
) {
    condition::set(&mut status.conditions, kind, truth, reason, message, Some(schedule.generation), now);
}
