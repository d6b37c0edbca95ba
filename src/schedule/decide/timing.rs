//! How far each of the two expressions has come, and which slots are next. Pure.

use super::skip::skip;
use crate::api::{
    BackupScheduleStatus, BackupType, DrillStatus, Reason, SchedulePhase, Slot, TimingStatus, now_seconds,
};
use crate::schedule::slots::{Expression, Passed, parse_zone};
use crate::schedule::validate::{Timetable, ValidSchedule};
use chrono::{DateTime, TimeDelta, Utc};

/// Slots that the status shows.
const SHOWN: usize = 3;
/// Slots that were missed longer ago than this are not counted.
const LOOK_BACK: TimeDelta = TimeDelta::days(3660);

/// No slot is decided on before it comes: what stands further ahead than this was decided by a clock that was wrong.
pub const AHEAD: TimeDelta = TimeDelta::minutes(1);

fn unlearn(timing: &mut TimingStatus, now: DateTime<Utc>) {
    if timing.since > now + AHEAD || timing.last_slot.is_some_and(|slot| slot > now + AHEAD) {
        (timing.since, timing.last_slot) = (now_seconds(now), None);
    }
}

/// Counts the slots of an expression as it was that an edit leaves without a backup.
fn count_edited(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, now: DateTime<Utc>) {
    let known = [(&schedule.full, &status.full), (&schedule.incremental, &status.incremental)];
    let missed = known.map(|(timetable, known)| {
        let known = known.as_ref()?;
        let is_same = timetable.as_ref().is_some_and(|timetable| is_of(known, timetable, schedule));
        if is_same {
            return None;
        }
        let expression = Expression::parse(&known.schedule).ok()?;
        expression.newest(&parse_zone(&known.time_zone).ok()?, decided(known).max(now - LOOK_BACK), now)
    });
    for missed in missed.into_iter().flatten() {
        skip(status, Reason::ScheduleChanged, missed.count, missed.slot);
    }
}

/// Whether this is how far that expression has come, and not an earlier one.
fn is_of(timing: &TimingStatus, timetable: &Timetable, schedule: &ValidSchedule) -> bool {
    timing.schedule == timetable.text && timing.time_zone == schedule.zone.name()
}

/// Takes over what is new in the spec. No slot is due for a time at which its expression was not there, or at which the
/// schedule was suspended: creating, editing and resuming a schedule start no backup.
pub fn refresh(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, now: DateTime<Utc>) {
    let is_new = status.observed_generation.is_none();
    let resumed = status.phase == Some(SchedulePhase::Suspended) && !schedule.is_suspended;
    let drill = status.drill.as_mut().map(|drill| &mut drill.timing);
    for timing in status.full.as_mut().into_iter().chain(status.incremental.as_mut()).chain(drill) {
        unlearn(timing, now);
    }
    if status.phase != Some(SchedulePhase::Suspended) {
        count_edited(schedule, status, now);
    }
    if resumed {
        resume(schedule, status, now);
    }
    let since = if is_new { schedule.created } else { now_seconds(now) };
    let zone = schedule.zone.name();
    let timing = |timetable: Option<&Timetable>, known: Option<TimingStatus>| {
        let text = &timetable?.text;
        Some(match known {
            Some(known) if known.schedule == *text && known.time_zone == zone => known,
            known => TimingStatus {
                schedule: text.clone(),
                time_zone: zone.to_owned(),
                since,
                last_slot: known.and_then(|known| known.last_slot),
            },
        })
    };
    status.full = timing(schedule.full.as_ref(), status.full.take());
    status.incremental = timing(schedule.incremental.as_ref(), status.incremental.take());
    let known = status.drill.take();
    if schedule.drill.is_none() {
        // One that runs is followed to its end.
        status.drill = known.filter(|drill| drill.running.is_some());
        return show(schedule, status, now);
    }
    let timetable = schedule.drill.as_ref().map(|drill| &drill.timetable);
    status.drill = timing(timetable, known.as_ref().map(|drill| drill.timing.clone())).map(|timing| {
        let since = if resumed { now_seconds(now) } else { timing.since };
        let (running, last) = known.map(|drill| (drill.running, drill.last)).unwrap_or_default();
        DrillStatus { timing: TimingStatus { since, ..timing }, running, last }
    });
    show(schedule, status, now);
}

fn show(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, now: DateTime<Utc>) {
    status.next_slots = if schedule.is_suspended { Vec::new() } else { next_slots(schedule, status, now) };
}

/// The slots that passed while the schedule was suspended are skipped.
fn resume(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, now: DateTime<Utc>) {
    for backup_type in [BackupType::Full, BackupType::Auto] {
        if let Some(missed) = passed(schedule, status, backup_type, now) {
            skip(status, Reason::Suspended, missed.count, missed.slot);
        }
        if let Some(timing) = timing_of(status, backup_type) {
            timing.since = now_seconds(now);
        }
    }
}

/// The newest slot of one expression that is not decided on yet, up to a time, and how many there are.
pub fn passed(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    backup_type: BackupType,
    until: DateTime<Utc>,
) -> Option<Passed> {
    let (timetable, timing) = match backup_type {
        BackupType::Full => (schedule.full.as_ref()?, status.full.as_ref()?),
        BackupType::Auto | BackupType::Incremental => (schedule.incremental.as_ref()?, status.incremental.as_ref()?),
    };
    // What was decided on for another expression says nothing of this one.
    if is_of(timing, timetable, schedule) { newest(schedule, timetable, timing, until) } else { None }
}

/// The newest slot of an expression that is not decided on yet, up to a time, and how many there are.
pub fn newest(
    schedule: &ValidSchedule,
    timetable: &Timetable,
    timing: &TimingStatus,
    until: DateTime<Utc>,
) -> Option<Passed> {
    // Looking back costs time that grows with the years.
    let after = decided(timing).max(until - LOOK_BACK);
    timetable.expression.newest(&schedule.zone, after, until)
}

/// Slots up to this time are decided on.
fn decided(timing: &TimingStatus) -> DateTime<Utc> {
    timing.last_slot.map_or(timing.since, |slot| slot.max(timing.since))
}

/// How far the expression for backups of one type has come.
pub fn timing_of(status: &mut BackupScheduleStatus, backup_type: BackupType) -> Option<&mut TimingStatus> {
    match backup_type {
        BackupType::Full => status.full.as_mut(),
        BackupType::Auto | BackupType::Incremental => status.incremental.as_mut(),
    }
}

/// The next slot of an expression.
pub fn next(schedule: &ValidSchedule, timetable: &Timetable, timing: &TimingStatus) -> Option<DateTime<Utc>> {
    timetable.expression.next(&schedule.zone, decided(timing))
}

/// The next slots whose time, with jitter, has not come. Where both expressions have one, it is a full backup's.
fn next_slots(schedule: &ValidSchedule, status: &BackupScheduleStatus, now: DateTime<Utc>) -> Vec<Slot> {
    let due = now - schedule.jitter;
    let mut slots = Vec::new();
    for (timetable, timing, backup_type) in [
        (&schedule.full, &status.full, BackupType::Full),
        (&schedule.incremental, &status.incremental, BackupType::Auto),
    ] {
        let (Some(timetable), Some(timing)) = (timetable, timing) else { continue };
        let mut after = decided(timing).max(due);
        for _ in 0..SHOWN {
            let Some(time) = timetable.expression.next(&schedule.zone, after) else { break };
            slots.push(Slot { time, backup_type });
            after = time;
        }
    }
    slots.sort_by_key(|slot| (slot.time, slot.backup_type != BackupType::Full));
    slots.dedup_by_key(|slot| slot.time);
    slots.truncate(SHOWN);
    slots
}
