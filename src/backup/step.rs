//! What a decision looks at and what it says: the words that all its parts share. Pure.

use super::validate::ValidBackup;
use super::world::{JobRef, ScaleTo};
use crate::api::{Attempt, GraphBackupStatus, Inspection, Reason, StoreId};
use crate::contract::verdict::Published;
use crate::controller::lock::HeldLock;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A Job that is missing this soon after its attempt was recorded was never created: the process ended in between.
const JOB_CREATION_GRACE: Duration = Duration::from_secs(30);
/// The agent ends itself at the deadline; its Job is ended after this margin by the Job controller, after twice by us.
pub const DEADLINE_MARGIN: Duration = Duration::from_mins(1);
/// Bounds of the wait between two looks for something that is not there yet.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

/// Longest time between two looks at a Job that runs: should its end be missed, its verdict is still there to be read.
pub(super) const LOOK_WHILE_RUNNING: Duration = Duration::from_mins(10);

/// What to do next, as data.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing, until the object or a Job changes, or the time has come.
    Wait(Waiting),
    /// Take the cluster's lock if it is not ours yet, record the attempt, then create its Job, unless a member has to stop first.
    /// Also used when that has stopped, and to create the Job of a recorded attempt again.
    Start {
        /// The attempt.
        attempt: Box<Attempt>,
        /// Whether the lock is to be taken first.
        take_lock: bool,
    },
    /// Create the Job that checks whether a cold copy can be made.
    Check,
    /// Scale the StatefulSet down by the member that is to be copied.
    StopMember(ScaleTo),
    /// Put the replicas back if they are still as the backup left them, then record that.
    StartMember(Option<ScaleTo>),
    /// Tell and record that the member that was stopped is not back as it was; the text says how it is.
    MemberMissing(String),
    /// Delete the lock that an object left behind.
    BreakLock(HeldLock),
    /// Record that the point of this store is read back to be adopted, then create the Job that does it.
    Adopt(StoreId, Box<Inspection>),
    /// Record that the volume is asked, then create the Job that asks.
    Inspect(Box<Inspection>),
    /// Record that the volume gave no answer, then delete the Job that asked it, where one is left.
    Unanswered(Box<Inspection>, Option<JobRef>),
    /// Record that a cold copy can be made. The Job that found it out goes before the member is stopped.
    Checked,
    /// Delete a Job whose agent has ended but whose pod has not, then do the step that ends the backup.
    DeleteFirst(JobRef, Box<Step>),
    /// Record why the newest attempt failed; another one may follow.
    CloseAttempt(Ending),
    /// Delete a Job that nobody waits for any more.
    DeleteJob(JobRef),
    /// Over, with a recovery point.
    Succeed(Box<Published>),
    /// Over, without one. The newest attempt, when still open, ends with the same reason.
    Fail(Ending),
}

impl Step {
    /// The step, without the Job that is deleted first.
    pub fn deed(&self) -> &Self {
        match self {
            Self::DeleteFirst(_, then) => then.deed(),
            step => step,
        }
    }

    /// The step that ends a backup, after the Job that would otherwise outlive it; a Job that is left by any other step is
    /// found by the next pass.
    pub(super) fn after_deleting(self, lingering: Option<JobRef>) -> Self {
        match (self, lingering) {
            (step @ (Self::Succeed(_) | Self::Fail(_)), Some(job)) => Self::DeleteFirst(job, Box::new(step)),
            (step, _) => step,
        }
    }
}

/// Why a backup stands still, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Typed reason.
    pub reason: Reason,
    /// For people; the same text as long as nothing changes.
    pub message: String,
    /// When to look again without any event.
    pub look_again: Duration,
}

/// How an attempt or a backup ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Typed reason.
    pub reason: Reason,
    /// What happened and what to do.
    pub message: String,
    /// UID of the pod that ran, if known.
    pub pod_uid: Option<String>,
}

impl Ending {
    /// Without a pod.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), pod_uid: None }
    }
}

/// What every part of one decision looks at.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub backup: &'a ValidBackup,
    pub status: &'a GraphBackupStatus,
    pub now: DateTime<Utc>,
}

/// Time from a moment to now; none where that is ahead.
pub(super) fn since(moment: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - moment).to_std().unwrap_or(Duration::ZERO)
}

/// Time left of `deadlines.run`; `None` when it is over.
pub fn deadline_left(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> Option<Duration> {
    let used = status.start_time.map_or(Duration::ZERO, |start| since(start, now));
    backup.run_deadline.checked_sub(used).filter(|left| !left.is_zero())
}

/// A quarter of the time waited so far, within bounds: prompt at first, patient later, without any memory.
pub(super) fn look_again(status: &GraphBackupStatus, now: DateTime<Utc>) -> Duration {
    let waited = since(status_moment(status), now);
    (waited / 4).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1)
}

/// When the present state began: the end of the newest attempt, its start while it is open, or the first look.
fn status_moment(status: &GraphBackupStatus) -> DateTime<Utc> {
    let newest = status.attempts.last().map(|attempt| attempt.completion_time.unwrap_or(attempt.start_time));
    newest.or(status.start_time).unwrap_or_default()
}

/// Time ran out: the reason stays the one that held the backup up, where there is one.
pub(super) fn out_of_time(status: &GraphBackupStatus) -> Ending {
    let succeeded = status.conditions.iter().find(|c| c.type_ == crate::api::condition::SUCCEEDED);
    let held_up = succeeded.and_then(|c| parse_reason(&c.reason).map(|reason| (reason, c.message.as_str())));
    match held_up {
        Some((reason, message)) if names_an_obstacle(reason) => {
            Ending::new(reason, format!("{message} (given up after deadlines.run)"))
        }
        _ => Ending::new(
            Reason::DeadlineExceeded,
            "the backup did not end within deadlines.run: raise it in a new GraphBackup, or find out what is slow",
        ),
    }
}

/// Reasons of waiting that say more than that time ran out.
fn names_an_obstacle(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Pending | Reason::Running | Reason::StoppingMember | Reason::Inspecting | Reason::RetryScheduled
    )
}

/// Reads a reason back from a condition or an attempt.
pub fn parse_reason(text: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == text)
}

/// Whether a Job that was decided then and is missing was perhaps never created.
pub(super) fn may_be_uncreated(decided: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    since(decided, now) < JOB_CREATION_GRACE
}
