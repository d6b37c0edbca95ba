//! No attempt is open: whether one may start, and what it copies. Pure.

use super::wait::{claim_missing, lock_held};
use crate::api::{Attempt, BackupType, GraphBackupStatus, Reason, Remedy, names, now_seconds};
use crate::backup::step::{Ending, Pass, Step, Waiting, deadline_left, look_again, out_of_time, parse_reason};
use crate::backup::validate::ValidBackup;
use crate::backup::world::{Candidate, LockState, Prerequisites};
use crate::controller::pace::{jitter, since};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// Wait before the second attempt; doubles with every further one.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait between two attempts.
pub(super) const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// A point that was finished this long ago has been seen.
const PARENT_GRACE: Duration = Duration::from_secs(15);

/// Whether an attempt may start now, so that its prerequisites are worth observing.
pub fn attempt_due(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> bool {
    deadline_left(backup, status, now).is_some()
        && retry_left(backup, status)
        && backoff_left(backup, status, now).is_zero()
}

/// The next step of a backup without an open attempt.
pub(super) fn decide_idle(pass: &Pass<'_>, prerequisites: Option<Prerequisites>) -> Step {
    let Pass { backup, status, now } = *pass;
    let last = status.attempts.last();
    if !retry_left(backup, status) {
        return Step::Fail(exhausted(backup, last));
    }
    let Some(left) = deadline_left(backup, status, now) else {
        return Step::Fail(out_of_time(status));
    };
    let backoff = backoff_left(backup, status, now);
    if !backoff.is_zero() {
        let cause = last.and_then(|attempt| attempt.message.as_deref()).unwrap_or_default();
        return Step::Wait(Waiting {
            reason: Reason::RetryScheduled,
            message: format!("attempt {} failed and is run again soon: {cause}", status.attempts.len()),
            look_again: backoff,
        });
    }
    let look_again = look_again(status, now).min(left + Duration::from_secs(1));
    match prerequisites {
        Some(Prerequisites::Met(candidate)) => decide_start(pass, *candidate, look_again),
        Some(Prerequisites::NotFound(error)) if error.reason().remedy() == Remedy::Act => {
            Step::Fail(Ending::new(error.reason(), error.to_string()))
        }
        Some(Prerequisites::NotFound(error)) => {
            Step::Wait(Waiting { reason: error.reason(), message: error.to_string(), look_again })
        }
        Some(Prerequisites::Ineligible(ineligible)) if ineligible.reason.remedy() == Remedy::Act => {
            Step::Fail(Ending::new(ineligible.reason, ineligible.message))
        }
        Some(Prerequisites::Ineligible(ineligible)) => {
            Step::Wait(Waiting { reason: ineligible.reason, message: ineligible.message, look_again })
        }
        Some(Prerequisites::ClaimMissing) => Step::Wait(claim_missing(backup, look_again)),
        None => Step::Wait(Waiting {
            reason: Reason::Pending,
            message: "the database has not been looked up yet".to_owned(),
            look_again,
        }),
    }
}

/// The database is found: is it free, and what is copied?
fn decide_start(pass: &Pass<'_>, candidate: Candidate, look_again: Duration) -> Step {
    let take_lock = match &candidate.lock {
        LockState::NotObserved | LockState::Free => true,
        LockState::Ours => false,
        LockState::Abandoned(lock) => return Step::BreakLock(lock.clone()),
        LockState::Held(holder) => return Step::Wait(lock_held(holder, look_again)),
    };
    if pass.backup.backup_type == BackupType::Incremental && candidate.parent.is_none() {
        if let Some(maker) = &candidate.upcoming {
            return Step::Wait(lock_held(maker, look_again));
        }
        let message = format!(
            "there is no earlier point of store {} on the target: take a Full backup first, or use type Auto",
            candidate.located.store_id
        );
        let seen = pass.status.start_time.is_some_and(|start| since(start, pass.now) >= PARENT_GRACE);
        return if seen {
            Step::Fail(Ending::new(Reason::NoParent, message))
        } else {
            Step::Wait(Waiting { reason: Reason::NoParent, message, look_again: PARENT_GRACE })
        };
    }
    if let Some(places) = candidate.crowded {
        return Step::Wait(Waiting {
            reason: Reason::WaitingForCapacity,
            message: format!(
                "the operator runs {places} backups at once (maxRunningBackups), and this one has no turn yet"
            ),
            look_again: deadline_left(pass.backup, pass.status, pass.now).unwrap_or_default() + Duration::from_secs(1),
        });
    }
    Step::OpenAttempt { attempt: Box::new(next_attempt(pass, candidate)), take_lock }
}

fn next_attempt(pass: &Pass<'_>, candidate: Candidate) -> Attempt {
    let Pass { backup, status, now } = *pass;
    let number = u32::try_from(status.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
    Attempt {
        number,
        job: names::backup_job(&backup.owner.name, &backup.owner.uid, number),
        store_id: candidate.located.store_id,
        parent: candidate.parent,
        stopped: candidate.stopped,
        mastership: candidate.located.mastership,
        start_time: now_seconds(now),
        completion_time: None,
        reason: None,
        message: None,
        inspection: None,
        pod_uid: None,
    }
}

fn exhausted(backup: &ValidBackup, last: Option<&Attempt>) -> Ending {
    let Some(last) = last else { return Ending::new(Reason::AgentFailed, "no attempt is allowed") };
    let reason = last.reason.as_deref().and_then(parse_reason).unwrap_or(Reason::AgentFailed);
    let cause = last.message.as_deref().unwrap_or_default();
    let message = match reason.remedy() {
        Remedy::Retry if backup.retry_limit > 0 => {
            format!("{cause} (attempt {} of {})", last.number, backup.retry_limit + 1)
        }
        Remedy::Retry | Remedy::Act => cause.to_owned(),
    };
    Ending { reason, message, pod_uid: last.pod_uid.clone() }
}

fn retry_left(backup: &ValidBackup, status: &GraphBackupStatus) -> bool {
    let used = status.attempts.len();
    let last = status.attempts.last().and_then(|a| a.reason.as_deref()).and_then(parse_reason);
    used == 0 || (used <= backup.retry_limit as usize && last.is_none_or(|reason| reason.remedy() == Remedy::Retry))
}

pub(super) fn backoff_left(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> Duration {
    let Some(ended) = status.attempts.last().and_then(|attempt| attempt.completion_time) else { return Duration::ZERO };
    let doublings = u32::try_from(status.attempts.len().saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let base = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX);
    (base + jitter(&backup.owner.uid, doublings, base)).saturating_sub(since(ended, now))
}
