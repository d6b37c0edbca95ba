//! When a restore drill begins, and how it ended. Pure.

use super::due::Due;
use super::timing;
use crate::api::condition::{MESSAGE_BYTES_MAX, Truth, shorten};
use crate::api::{BackupScheduleStatus, DrillResult, GraphBackup, Reason, RunningDrill, Slot, names, now_seconds};
use crate::contract::task::{DrillRun as Asked, Place};
use crate::contract::verdict::{Drilled, Verdict};
use crate::controller::job::{JobRef, JobState, Obstacle, PodStart};
use crate::controller::pace::since;
use crate::schedule::build::boot_command;
use crate::schedule::children::{Child, Whose};
use crate::schedule::step::{Note, Step};
use crate::schedule::validate::ValidSchedule;
use crate::schedule::world::{Reading, World};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A Job that is missing this soon after the drill was recorded was never created.
const CREATION_GRACE: Duration = Duration::from_secs(30);

/// Longest time for which a slot waits for a drill that has let another backup go first.
const TURN: Duration = Duration::from_mins(30);
/// A slot that waits for a drill is taken so long before it would be too late.
const MARGIN: Duration = Duration::from_mins(1);

/// What the drills of a schedule need now.
pub fn next(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Option<Step> {
    let running = status.drill.as_ref()?.running.clone();
    match running {
        Some(running) => follow(schedule, status, notes, (&running, world), now),
        None => begin(schedule, status, world, now),
    }
}

/// Begins a drill of the newest point, if one is due. A schedule without a point skips the slot. Slots that were missed
/// are not caught up one by one: the newest stands for all.
fn begin(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Option<Step> {
    let (drill, told) = (schedule.drill.as_ref()?, status.drill.as_mut()?);
    // A backup goes first: on many volumes only one node may mount the target.
    if schedule.is_suspended || status.active.is_some() {
        return None;
    }
    let due = timing::newest(schedule, &drill.timetable, &told.timing, now - schedule.jitter)?;
    let ours = world.children.iter().filter(|child| child.whose == Whose::Ours);
    let newest = ours.filter_map(|child| Some((child.good()?.data_from, child)));
    let Some((_, newest)) = newest.max_by_key(|(data_from, child)| (*data_from, &child.uid)) else {
        told.timing.last_slot = Some(due.slot);
        return None;
    };
    let object = match world.reading(&newest.name) {
        Reading::Unread => return Some(Step::Look(newest.name.clone())),
        Reading::Nothing | Reading::Unreadable => return None,
        Reading::Backup(object) => object,
    };
    let Some(asked) = asked(schedule, newest, object) else {
        told.timing.last_slot = Some(due.slot);
        return None;
    };
    let running = RunningDrill {
        name: newest.name.clone(),
        uid: newest.uid.clone(),
        manifest_digest: asked.manifest_digest.clone(),
        job: names::drill_job(&schedule.owner.name, &schedule.owner.uid, due.slot),
        start_time: now_seconds(now),
    };
    told.timing.last_slot = Some(due.slot);
    told.running = Some(running.clone());
    Some(Step::Drill { job: running.job, asked: Box::new(asked) })
}

/// What has the next turn.
pub enum First {
    /// The backup.
    Backup,
    /// A drill that begins now.
    Drill(Step),
    /// The end of a drill that runs.
    EndOfDrill,
}

/// Whether a drill comes before the backup of a slot: one that has let another backup go first. Where backups follow each
/// other without a gap, none would begin otherwise. The slot waits for it, but no longer than [`TURN`], and not beyond
/// its deadline.
pub fn first(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    world: &World<'_>,
    due: &Due,
    now: DateTime<Utc>,
) -> First {
    let (Some(time), Some(told)) = (due.slot(), status.drill.as_ref()) else { return First::Backup };
    let slot = Slot { time, backup_type: due.backup_type };
    if let Some(running) = &told.running {
        // One that began by a clock that was ahead would be waited for until then.
        let began_first = time + schedule.jitter <= running.start_time && running.start_time <= now + timing::AHEAD;
        if !began_first || now >= end_of_turn(schedule, running, slot) {
            return First::Backup;
        }
        status.waiting = Some(slot);
        return First::EndOfDrill;
    }
    let drill = schedule.drill.as_ref();
    let oldest = drill.and_then(|drill| timing::next(schedule, &drill.timetable, &told.timing));
    let decided = [&status.full, &status.incremental].into_iter().flatten().filter_map(|timing| timing.last_slot).max();
    let has_waited = oldest
        .is_some_and(|oldest| oldest + schedule.jitter <= now && decided.is_some_and(|decided| decided >= oldest));
    if !has_waited || latest(schedule, slot).is_some_and(|latest| now >= latest) {
        return First::Backup;
    }
    let Some(step) = begin(schedule, status, world, now) else { return First::Backup };
    status.waiting = Some(slot);
    First::Drill(step)
}

/// Until when a slot may wait for a drill, if it has to begin by some time.
fn latest(schedule: &ValidSchedule, slot: Slot) -> Option<DateTime<Utc>> {
    Some(slot.time + schedule.jitter + schedule.starting_deadline?.saturating_sub(MARGIN))
}

fn end_of_turn(schedule: &ValidSchedule, running: &RunningDrill, slot: Slot) -> DateTime<Utc> {
    let end = running.start_time + TURN;
    latest(schedule, slot).map_or(end, |latest| latest.min(end))
}

/// What the agent is asked; nothing where the object has no such point any more, or has it on another target.
fn asked(schedule: &ValidSchedule, child: &Child, object: &GraphBackup) -> Option<Asked> {
    let is_there = object.metadata.uid.as_deref() == Some(&child.uid) && object.metadata.deletion_timestamp.is_none();
    // The Job mounts the target of the schedule as it is now.
    if !is_there || object.spec.target != schedule.template.target {
        return None;
    }
    let status = object.status.as_ref()?;
    let point = status.point.as_ref()?;
    let folder = status.directory.as_deref()?.rsplit('/').next()?.to_owned();
    Some(Asked {
        place: Place { directory: object.spec.target.directory.clone(), cluster: point.store_id, point: folder },
        owner_uid: point.owner_uid.clone().unwrap_or_else(|| child.uid.clone()),
        manifest_digest: point.manifest_digest.clone(),
        boot_command: boot_command(schedule),
        deadline_seconds: schedule.run_deadline.as_secs(),
    })
}

/// A drill that was recorded: how far is its Job?
fn follow(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    (running, world): (&RunningDrill, &World<'_>),
    now: DateTime<Utc>,
) -> Option<Step> {
    let (delete, end) = match world.drill? {
        JobState::Absent if since(running.start_time, now) < CREATION_GRACE => {
            return again(schedule, running, world);
        }
        JobState::Absent => (None, failed(Reason::JobLost, format!("Job {} is gone", running.job))),
        JobState::Foreign => {
            (None, failed(Reason::JobRefused, format!("Job {} belongs to something else: delete it", running.job)))
        }
        JobState::Active { job, created, start } => {
            let end = obstacle(schedule, running, *created, start, now)?;
            (Some(job.clone()), end)
        }
        JobState::Ended { verdict, deadline_exceeded, out_of_memory, lingering, .. } => {
            (lingering.clone(), ended(running, verdict.as_ref(), *deadline_exceeded, out_of_memory.is_some()))
        }
    };
    let told = status.drill.as_ref().and_then(|drill| drill.last.as_ref());
    let known = match world.reading(&running.name) {
        Reading::Unread => return Some(Step::Look(running.name.clone())),
        Reading::Backup(object) => recorded(running, object).filter(|known| told != Some(known)),
        Reading::Nothing | Reading::Unreadable => None,
    };
    close(status, notes, known.unwrap_or_else(|| result(running, end, now)), delete)
}

/// The result of this drill, if its backup carries it already. It stands: the schedule may have failed to take note of
/// it, or be an old one from the cache, and what the Job said is gone by now.
fn recorded(running: &RunningDrill, object: &GraphBackup) -> Option<DrillResult> {
    let known = object.status.as_ref()?.drill.as_ref()?;
    let is_same = object.metadata.uid.as_deref() == Some(&running.uid) && known.time >= running.start_time;
    is_same.then(|| known.clone())
}

/// Ends the drill that runs, and tells of a failure.
fn close(
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    result: DrillResult,
    delete: Option<JobRef>,
) -> Option<Step> {
    let told = status.drill.as_mut()?;
    let running = told.running.take()?;
    if !result.passed {
        let text = format!("the restore drill of {} failed: {}", result.name, result.message);
        notes.push(Note::new(Reason::DrillFailed, text, format!("drill.{}", running.job)));
    }
    told.last = Some(result.clone());
    Some(Step::EndDrill { uid: running.uid, result, delete })
}

/// The Job of a drill that was recorded and not created.
fn again(schedule: &ValidSchedule, running: &RunningDrill, world: &World<'_>) -> Option<Step> {
    let child = world.children.iter().find(|child| child.uid == running.uid)?;
    match world.reading(&running.name) {
        Reading::Unread => Some(Step::Look(running.name.clone())),
        Reading::Nothing | Reading::Unreadable => None,
        Reading::Backup(object) => {
            let asked = asked(schedule, child, object)?;
            Some(Step::Drill { job: running.job.clone(), asked: Box::new(asked) })
        }
    }
}

/// How a drill ended.
type End = Result<Drilled, (Reason, String)>;

fn failed(reason: Reason, message: String) -> End {
    Err((reason, message))
}

/// Why a Job that works is not waited for any more, if it is not.
fn obstacle(
    schedule: &ValidSchedule,
    running: &RunningDrill,
    created: DateTime<Utc>,
    start: &PodStart,
    now: DateTime<Utc>,
) -> Option<End> {
    let job = &running.job;
    let late = since(created, now) >= schedule.pod_start_deadline;
    match start {
        PodStart::Waiting(obstacle) if late => Some(match obstacle {
            Obstacle::Image(said) => failed(Reason::ImageCannotBePulled, format!("the pod of Job {job}: {said}")),
            Obstacle::Other(said) => {
                failed(Reason::PodCannotStart, format!("the pod of Job {job} did not start: {said}"))
            }
            Obstacle::NoneKnown => failed(
                Reason::PodCannotStart,
                format!("the pod of Job {job} did not start, and the cluster does not say why"),
            ),
        }),
        PodStart::Waiting(_) => None,
        PodStart::Started | PodStart::Unseen => {
            let over = since(created, now) >= schedule.run_deadline + schedule.pod_start_deadline * 2;
            over.then(|| failed(Reason::DeadlineExceeded, format!("Job {job} did not end in time")))
        }
    }
}

fn ended(running: &RunningDrill, verdict: Option<&Verdict>, is_late: bool, is_out_of_memory: bool) -> End {
    let job = &running.job;
    match verdict {
        Some(Verdict::Drilled(drilled)) if drilled.manifest_digest == running.manifest_digest => {
            Ok(drilled.as_ref().clone())
        }
        Some(Verdict::Drilled(drilled)) => failed(
            Reason::AgentFailed,
            format!("the agent restored another point, with manifest {}", drilled.manifest_digest),
        ),
        Some(Verdict::Failed(failure)) => failed(failure.reason, failure.message.clone()),
        Some(_) => failed(Reason::AgentFailed, "the agent returned a verdict for a different task".to_owned()),
        None if is_out_of_memory => failed(
            Reason::ToolKilled,
            format!("the container of Job {job} was killed at its memory limit: raise tool.podTemplate.resources"),
        ),
        None if is_late => failed(Reason::DeadlineExceeded, format!("Job {job} did not end within deadlines.run")),
        None => failed(Reason::JobLost, format!("Job {job} ended without a verdict")),
    }
}

fn result(running: &RunningDrill, end: End, now: DateTime<Utc>) -> DrillResult {
    let base = |passed, reason: Reason, message: &str| DrillResult {
        name: running.name.clone(),
        passed,
        reason: reason.to_string(),
        message: shorten(message, MESSAGE_BYTES_MAX),
        time: now_seconds(now),
        seconds: None,
        last_transaction: None,
    };
    match end {
        Err((reason, message)) => base(false, reason, &message),
        Ok(drilled) => {
            let message = format!(
                "{} files, {} bytes restored in {} s and opened in {} s, up to transaction {}",
                drilled.files, drilled.bytes, drilled.copy_seconds, drilled.open_seconds, drilled.last_transaction
            );
            DrillResult {
                seconds: Some(drilled.total_seconds),
                last_transaction: Some(drilled.last_transaction),
                ..base(true, Reason::StoreOpened, &message)
            }
        }
    }
}

/// What it means that the API server refuses the Job of a drill.
pub fn refused(
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    words: &str,
    now: DateTime<Utc>,
) -> Option<Step> {
    let running = status.drill.as_ref()?.running.clone()?;
    close(status, notes, result(&running, failed(Reason::JobRefused, words.to_owned()), now), None)
}

/// When the drills need a look without any event.
pub fn moments(schedule: &ValidSchedule, status: &BackupScheduleStatus) -> Vec<DateTime<Utc>> {
    let Some(told) = &status.drill else { return Vec::new() };
    match &told.running {
        None if schedule.is_suspended => Vec::new(),
        None => {
            let next = schedule.drill.as_ref().and_then(|drill| timing::next(schedule, &drill.timetable, &told.timing));
            next.map(|next| next + schedule.jitter).into_iter().collect()
        }
        Some(running) => {
            let start = schedule.pod_start_deadline;
            let second = Duration::from_secs(1);
            let ends = [CREATION_GRACE, start, schedule.run_deadline + start * 2];
            let ends = ends.into_iter().map(|wait| running.start_time + wait + second);
            ends.chain(status.waiting.map(|slot| end_of_turn(schedule, running, slot))).collect()
        }
    }
}

/// What the last drill says.
pub fn condition(status: &BackupScheduleStatus) -> (Truth, Reason, String) {
    match status.drill.as_ref().map(|drill| &drill.last) {
        None => (Truth::Unknown, Reason::NotRequested, "spec.drill is not set".to_owned()),
        Some(None) => (Truth::Unknown, Reason::NotYetKnown, "no drill has ended yet".to_owned()),
        Some(Some(last)) if last.passed => {
            (Truth::True, Reason::StoreOpened, format!("{}: {}", last.name, last.message))
        }
        Some(Some(last)) => {
            (Truth::False, Reason::DrillFailed, format!("{}: {}: {}", last.name, last.reason, last.message))
        }
    }
}

#[cfg(test)]
mod tests;
