//! The status of a restore before and after a decision. Pure.

use super::step::Obstacle;
use super::validate::{InvalidRestore, ValidRestore};
use crate::api::condition::{self, READY, RECONCILING, STALLED, SUCCEEDED, Truth};
use crate::api::{Cause, Direction, Downtime, Reason, Restore, RestorePhase, RestoreStatus, RestoreStep, now_seconds};
use chrono::{DateTime, Utc};

/// The status of the object, unless it was written for another one, as where a tool restored it with its status.
pub fn own(object: &Restore) -> RestoreStatus {
    let status = object.status.clone().unwrap_or_default();
    let is_foreign = status.uid.is_some() && status.uid != object.metadata.uid;
    if is_foreign { RestoreStatus::default() } else { status }
}

/// The status that a decision starts from.
pub fn begun(restore: &ValidRestore, before: &RestoreStatus, now: DateTime<Utc>) -> RestoreStatus {
    let mut status = before.clone();
    status.uid = Some(restore.owner.uid.clone());
    status.observed_generation = Some(restore.generation);
    status.start_time.get_or_insert_with(|| now_seconds(now));
    status.step_time.get_or_insert_with(|| now_seconds(now));
    status
}

/// Begins a step.
pub fn begin(status: &mut RestoreStatus, step: RestoreStep, now: DateTime<Utc>) {
    status.step = step;
    status.step_time = Some(now_seconds(now));
}

/// Says what the restore does or waits for.
pub fn tell(status: &mut RestoreStatus, obstacle: &Obstacle, now: DateTime<Utc>) {
    let generation = status.observed_generation;
    let (reason, message) = (obstacle.reason, obstacle.message.as_str());
    let stalled = status.phase == Some(RestorePhase::Held);
    let mut set = |kind, truth| condition::set(&mut status.conditions, kind, truth, reason, message, generation, now);
    set(SUCCEEDED, Truth::Unknown);
    set(READY, Truth::False);
    set(RECONCILING, if stalled { Truth::False } else { Truth::True });
    set(STALLED, if stalled { Truth::True } else { Truth::False });
}

/// What a person sees of a step.
pub const fn phase(step: RestoreStep, direction: Direction) -> RestorePhase {
    match (direction, step) {
        (Direction::Back, RestoreStep::Ended) => RestorePhase::RolledBack,
        (Direction::Back, _) => RestorePhase::RollingBack,
        (Direction::Forward, RestoreStep::Check) => RestorePhase::Checking,
        (Direction::Forward, RestoreStep::Stage) => RestorePhase::Staging,
        (Direction::Forward, RestoreStep::Stop) => RestorePhase::Stopping,
        (Direction::Forward, RestoreStep::Carry | RestoreStep::Swap) => RestorePhase::Swapping,
        (Direction::Forward, RestoreStep::StartFirst) => RestorePhase::Starting,
        (Direction::Forward, RestoreStep::StartAll | RestoreStep::CleanUp) => RestorePhase::Proving,
        (Direction::Forward, RestoreStep::Ended) => RestorePhase::Succeeded,
    }
}

/// Ends a restore.
pub fn end(status: &mut RestoreStatus, now: DateTime<Utc>, (succeeded, reason): (Truth, Reason), message: &str) {
    begin(status, RestoreStep::Ended, now);
    status.completion_time = Some(now_seconds(now));
    let generation = status.observed_generation;
    let mut set = |kind, truth| condition::set(&mut status.conditions, kind, truth, reason, message, generation, now);
    set(SUCCEEDED, succeeded);
    set(READY, succeeded);
    set(RECONCILING, Truth::False);
    set(STALLED, if succeeded == Truth::True { Truth::False } else { Truth::True });
}

/// Records why the restore goes back or ends without success; the first cause stays.
pub fn because(status: &mut RestoreStatus, obstacle: &Obstacle) {
    let cause = || Cause {
        reason: obstacle.reason.to_string(),
        message: condition::shorten(&obstacle.message, condition::MESSAGE_BYTES_MAX),
    };
    status.cause.get_or_insert_with(cause);
}

/// The members are about to be stopped.
pub fn goes_down(status: &mut RestoreStatus, now: DateTime<Utc>) {
    let from = || Downtime { from: now_seconds(now), to: None, text: None };
    let is_over = status.downtime.as_ref().is_some_and(|downtime| downtime.to.is_some());
    if status.downtime.is_none() || is_over {
        status.downtime = Some(from());
    }
}

/// The first member serves again.
pub fn is_up(status: &mut RestoreStatus, now: DateTime<Utc>) {
    if let Some(downtime) = status.downtime.as_mut().filter(|downtime| downtime.to.is_none()) {
        downtime.to = Some(now_seconds(now));
        downtime.text = Some(format!("{}s", (now_seconds(now) - downtime.from).num_seconds()));
    }
}

/// The status of a restore that cannot be read.
pub fn invalid(object: &Restore, error: &InvalidRestore, now: DateTime<Utc>) -> RestoreStatus {
    let mut status = own(object);
    status.uid.clone_from(&object.metadata.uid);
    status.observed_generation = object.metadata.generation;
    status.phase = Some(RestorePhase::Failed);
    because(&mut status, &Obstacle::new(Reason::InvalidSpec, error.to_string()));
    end(&mut status, now, (Truth::False, Reason::InvalidSpec), &error.to_string());
    status
}
