//! A question to the volume: asked by a Job, again where that gives no answer, within bounds. Pure.
//!
//! Only the agent's word about the volume is an answer. A Job that is refused, does not start, is interrupted or
//! vanishes says nothing about what is there.

use super::pod_start::time_to_start;
use crate::api::condition::{MESSAGE_BYTES_MAX, shorten};
use crate::api::{Inspection, Reason, now_seconds};
use crate::backup::step::{DEADLINE_MARGIN, LOOK_WHILE_RUNNING, Pass, may_be_uncreated};
use crate::backup::validate::ValidBackup;
use crate::contract::failure::Failure;
use crate::contract::verdict::{Published, Verdict};
use crate::controller::job::{JobRef, JobState, PodStart};
use crate::controller::pace::since;
use std::time::Duration;

/// How often the volume is asked before its answer is given up.
pub const TRIES_MAX: u32 = 5;
/// Wait before the volume is asked for the second time; doubles with every further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(30);
/// A store is read back at least this long before the reading is given up.
const READING_LEAST: Duration = Duration::from_mins(14);

/// Longest time that a Job may read a store back, without the start of its pod: what took long to copy takes long to
/// read.
pub fn reading_limit(backup: &ValidBackup) -> Duration {
    backup.run_deadline.max(READING_LEAST)
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Ask: record this, then create its Job.
    Ask(Box<Inspection>),
    /// Record that the newest Job gave no answer, and delete it where it is left.
    Unanswered(Box<Inspection>, Option<JobRef>),
    /// Wait.
    Wait(Duration),
    /// A point is there. A Job that is left is named.
    Point(Box<Published>, Option<JobRef>),
    /// None is there that counts, and this is why.
    Nothing(Failure, Option<JobRef>),
    /// The volume could not be asked within bounds; the text says what was in the way.
    GiveUp(String, Option<JobRef>),
}

/// The next step of a question. `name` gives the Job of each try, `cause` why it is asked.
pub(super) fn next(
    pass: &Pass<'_>,
    asked: Option<&Inspection>,
    name: impl Fn(u32) -> String,
    cause: Option<(Reason, &str)>,
    job: JobState,
) -> Next {
    let Some(asked) = asked else {
        let now = now_seconds(pass.now);
        return Next::Ask(Box::new(Inspection {
            job: name(1),
            start_time: now,
            tries: 1,
            asked_time: Some(now),
            reason: cause.map(|(reason, _)| reason.to_string()),
            message: cause.map(|(_, message)| shorten(message, MESSAGE_BYTES_MAX)),
            unanswered_time: None,
            unanswered: None,
        }));
    };
    match asked.unanswered_time {
        // A Job that the API server refuses is recorded without a look at the bounds.
        Some(_) if is_given_up(pass, asked) => Next::GiveUp(asked.unanswered.clone().unwrap_or_default(), None),
        Some(unanswered) => {
            let backoff = BACKOFF_FIRST * 2u32.pow(asked.tries.saturating_sub(1).min(TRIES_MAX));
            let left = backoff.saturating_sub(since(unanswered, pass.now));
            if left.is_zero() { Next::Ask(again(pass, asked, name)) } else { Next::Wait(left) }
        }
        None => judge(pass, asked, job),
    }
}

/// The record of the next try.
fn again(pass: &Pass<'_>, asked: &Inspection, name: impl Fn(u32) -> String) -> Box<Inspection> {
    let tries = asked.tries.saturating_add(1);
    let asked_time = Some(now_seconds(pass.now));
    Box::new(Inspection { job: name(tries), tries, asked_time, unanswered_time: None, ..asked.clone() })
}

/// What became of the newest Job.
fn judge(pass: &Pass<'_>, asked: &Inspection, job: JobState) -> Next {
    let silent = |why: String, job| silence(pass, asked, why, job);
    match job {
        JobState::Absent if may_be_uncreated(asked.asked_time.unwrap_or(asked.start_time), pass.now) => {
            Next::Ask(Box::new(asked.clone()))
        }
        JobState::Absent => silent(format!("Job {} vanished before its answer was read", asked.job), None),
        JobState::Foreign => silent(format!("a foreign Job has the name {}", asked.job), None),
        JobState::Active { job, created, start } => {
            let limit = pass.backup.pod_start_deadline + reading_limit(pass.backup) + 2 * DEADLINE_MARGIN;
            let left = limit.saturating_sub(since(created, pass.now));
            match (left.is_zero(), start) {
                (true, _) => silent(format!("Job {} did not end in time", job.name), Some(job)),
                (false, PodStart::Started | PodStart::Unseen) => Next::Wait(left.min(LOOK_WHILE_RUNNING)),
                (false, PodStart::Waiting(obstacle)) => {
                    match time_to_start(pass.backup, &job, created, obstacle, pass.now) {
                        Ok(to_start) => Next::Wait(to_start.min(left)),
                        Err(ending) => silent(ending.message, Some(job)),
                    }
                }
            }
        }
        JobState::Ended { verdict: Some(Verdict::Published(point)), lingering, .. } => Next::Point(point, lingering),
        JobState::Ended { verdict: Some(Verdict::Failed(failure)), lingering, .. } if answers(failure.reason) => {
            Next::Nothing(failure, lingering)
        }
        JobState::Ended { verdict: Some(Verdict::Failed(failure)), lingering, .. } => {
            silent(format!("{}: {}", failure.reason, failure.message), lingering)
        }
        JobState::Ended { lingering, .. } => silent(format!("Job {} ended without an answer", asked.job), lingering),
    }
}

/// Whether a failure of the agent says what is on the volume. Every other one says only that it could not look.
const fn answers(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::JobLost
            | Reason::PointMissing
            | Reason::PointExists
            | Reason::ManifestMissing
            | Reason::VerificationFailed
            | Reason::StoreMismatch
    )
}

/// Whether a try without an answer was the last one.
fn is_given_up(pass: &Pass<'_>, asked: &Inspection) -> bool {
    let total = 2 * (pass.backup.pod_start_deadline + reading_limit(pass.backup));
    asked.tries >= TRIES_MAX || since(asked.start_time, pass.now) >= total
}

fn silence(pass: &Pass<'_>, asked: &Inspection, why: String, job: Option<JobRef>) -> Next {
    if is_given_up(pass, asked) {
        return Next::GiveUp(why, job);
    }
    Next::Unanswered(Box::new(unanswered(asked, &why, now_seconds(pass.now))), job)
}

/// The record of a try without an answer.
pub fn unanswered(asked: &Inspection, why: &str, now: chrono::DateTime<chrono::Utc>) -> Inspection {
    Inspection { unanswered_time: Some(now), unanswered: Some(shorten(why, MESSAGE_BYTES_MAX)), ..asked.clone() }
}
