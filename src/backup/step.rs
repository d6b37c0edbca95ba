//! What a decision looks at and what it says: the words that all its parts share. Pure.

use super::validate::ValidBackup;
use crate::api::condition::SUCCEEDED;
use crate::api::{Attempt, GraphBackupStatus, Inspection, Reason, StoreId};
use crate::contract::verdict::Published;
use crate::controller::effects::ScaleTo;
use crate::controller::job::JobRef;
use crate::controller::lock::HeldLock;
use crate::controller::pace::since;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A Job that is missing this soon after its attempt was recorded was never created: the process ended in between.
pub(super) const JOB_CREATION_GRACE: Duration = Duration::from_secs(30);
/// The agent ends itself at the deadline; its Job is ended after this margin by the Job controller, after twice by us.
pub const DEADLINE_MARGIN: Duration = Duration::from_mins(1);

/// Longest time between two looks at a Job that runs: should its end be missed, its verdict is still there to be read.
pub(super) const LOOK_WHILE_RUNNING: Duration = Duration::from_mins(10);

/// What one pass does.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// A Job to delete before the step: its agent has ended, something else keeps its pod, and the step ends the
    /// backup.
    pub delete_first: Option<JobRef>,
    /// The step.
    pub step: Step,
}

impl From<Step> for Decision {
    fn from(step: Step) -> Self {
        Self { delete_first: None, step }
    }
}

/// What to do next, as data. What each step writes, and in which order, says [`super::effects`].
#[derive(Debug, PartialEq)]
pub enum Step {
    /// A step that needs nothing of the spec.
    Object(ObjectStep),
    /// Nothing, until the object or a Job changes, or the time has come.
    Wait(Waiting),
    /// Open an attempt: take the cluster's lock if it is not held yet, record the attempt, and create its first Job.
    OpenAttempt {
        /// The attempt.
        attempt: Box<Attempt>,
        /// Whether the lock is to be taken first.
        take_lock: bool,
    },
    /// Record that the member of the open attempt is gone, then create the Job that copies its store.
    CopyMember(Box<Attempt>),
    /// Create the Job of the open attempt again: the process ended before it was created.
    RecreateJob(Box<Attempt>),
    /// Create the Job that checks whether a cold copy can be made again: the process ended before it was created.
    RecreateCheck,
    /// Record that a cold copy can be made.
    Checked,
    /// Scale the StatefulSet down by the member that is to be copied.
    StopMember(ScaleTo),
    /// Put the replicas back, then record that.
    StartMember(ScaleTo),
    /// Record that there are no replicas to put back: somebody has scaled the StatefulSet, or it is gone.
    LeaveReplicas,
    /// Tell and record that the member that was stopped is not back as it was; the text says how it is.
    MemberMissing(String),
    /// Delete the lock that an object left behind.
    BreakLock(HeldLock),
    /// Record that the point of this store is read back to be adopted, then create the Job that does it.
    Adopt(StoreId, Box<Inspection>),
    /// Record that the volume is inspected, then create the Job that does it.
    Inspect(Box<Inspection>),
    /// Record that the inspection gave no answer, then delete its Job, where one is left.
    Unanswered(Box<Inspection>, Option<JobRef>),
    /// Record why the newest attempt failed; another one may follow.
    CloseAttempt(Ending),
    /// Delete a Job that nobody waits for any more.
    DeleteJob(JobRef),
    /// End the backup with a recovery point.
    Succeed(Box<Published>),
    /// End the backup without one. The newest attempt, when still open, ends with the same reason.
    Fail(Ending),
    /// A step of the removal of a deleted object.
    Remove(Removal),
}

/// A step that needs nothing of the spec.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectStep {
    /// Nothing, and nothing is waited for.
    Nothing,
    /// Set the finalizers that the object needs.
    SetFinalizers(Vec<String>),
    /// End an object that no pass can work on.
    Refuse(Ending),
    /// End an object whose status is that of another one, and put its own status in the place of that.
    Disown(Ending),
    /// Take our finalizers from a deleted object for which nothing has to be done. What still works of it keeps its
    /// lock. The note tells of files that stay.
    Release(Option<Note>),
}

/// What to do next with a deleted object that has work left.
#[derive(Debug, PartialEq)]
pub enum Removal {
    /// Release the lock and take our finalizers away: nothing of the object works any more. The note tells of files
    /// that stay.
    Release(Option<Note>),
    /// Delete a Job that could still write.
    StopJob(JobRef),
    /// Put the replicas of the stopped member back.
    StartMember(ScaleTo),
    /// Create the Job that removes the files.
    Prune,
    /// Tell that the files could not be removed, then wait or try again.
    Failed {
        /// What happened and what to do.
        note: Note,
        /// The Job that failed, once it is to make room for the next one.
        job: Option<JobRef>,
    },
    /// Look again after this time, if nothing happens before.
    Wait(Duration),
}

/// What an Event of a removal says.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Typed reason.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// What it means that an effect is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Another object has the lock: the backup waits for it.
    LockHeld,
    /// The attempt has failed with this reason: nothing of it has run.
    CloseAttempt(Reason),
    /// The inspection got no answer.
    Unanswered(Box<Inspection>),
}

impl Step {
    /// The step that ends a backup, after the Job that would otherwise outlive it. A Job that is left by any other step
    /// is found by the next pass.
    pub(super) fn after_deleting(self, lingering: Option<JobRef>) -> Decision {
        let delete_first = lingering.filter(|_| self.ends());
        Decision { delete_first, step: self }
    }

    /// Whether the backup is over after the step.
    pub const fn ends(&self) -> bool {
        matches!(self, Self::Succeed(_) | Self::Fail(_))
    }
}

/// Why a backup waits, and for how long.
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

/// Time left of `deadlines.run`; `None` when it is over.
pub fn deadline_left(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> Option<Duration> {
    let used = status.start_time.map_or(Duration::ZERO, |start| since(start, now));
    backup.run_deadline.checked_sub(used).filter(|left| !left.is_zero())
}

/// Time until a Job of this backup is not waited for any more: the agent ends itself before, and the Job controller its
/// Job.
pub(super) fn run_left(pass: &Pass<'_>) -> Duration {
    let used = since(pass.status.start_time.unwrap_or(pass.now), pass.now);
    (pass.backup.run_deadline + 2 * DEADLINE_MARGIN).saturating_sub(used)
}

/// When to look again for something that is not there yet.
pub(super) fn look_again(status: &GraphBackupStatus, now: DateTime<Utc>) -> Duration {
    crate::controller::pace::look_again(since(status_moment(status), now))
}

/// When the present state began: the end of the newest attempt, its start while it is open, or the first look.
fn status_moment(status: &GraphBackupStatus) -> DateTime<Utc> {
    let newest = status.attempts.last().map(|attempt| attempt.completion_time.unwrap_or(attempt.start_time));
    newest.or(status.start_time).unwrap_or_default()
}

/// Time ran out: the reason stays the one that held the backup up, where there is one.
pub(super) fn out_of_time(status: &GraphBackupStatus) -> Ending {
    let succeeded = status.conditions.iter().find(|c| c.type_ == SUCCEEDED);
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
