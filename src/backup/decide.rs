//! The next step of a backup: a pure function of the object, the world and the time.

use super::adopt;
use super::cold;
use super::validate::ValidBackup;
use super::world::{Ground, JobRef, JobState, Obstacle, PodStart, ScaleTo, Site, SiteLock, World};
use crate::agent::verdict::{Published, Verdict};
use crate::api::{
    Attempt, BackupType, Fence, GraphBackupStatus, Movement, Reason, Remedy, StoreId, names, now_seconds,
};
use crate::cluster_lock::HeldLock;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A Job that is missing this soon after its attempt was recorded was never created: the process ended in between.
const JOB_CREATION_GRACE: Duration = Duration::from_secs(30);
/// The agent ends itself at the deadline; its Job is ended after this margin by the Job controller, after twice by us.
pub const DEADLINE_MARGIN: Duration = Duration::from_mins(1);
/// Limit of the question to the volume, from the creation of its Job to its answer.
const INSPECT_DEADLINE: Duration = Duration::from_mins(15);
/// Wait before the second attempt; doubles with every further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// A point that was finished this long ago has been seen.
const PARENT_GRACE: Duration = Duration::from_secs(15);
/// Bounds of the wait between two looks for something that is not there yet.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

/// Longest time between two looks at a Job that runs: should its end be missed, its verdict is still there to be read.
const LOOK_WHILE_RUNNING: Duration = Duration::from_mins(10);

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
    /// Delete the lock that an object left behind.
    BreakLock(HeldLock),
    /// Record that the point of this store is read back to be adopted, then create the Job that does it.
    Adopt(StoreId),
    /// Record that the volume is asked, then create the Job that asks.
    Inspect,
    /// Record why the newest attempt failed; another one may follow.
    CloseAttempt(Ending),
    /// Delete a Job that nobody waits for any more.
    DeleteJob(JobRef),
    /// Over, with a recovery point.
    Succeed(Box<Published>),
    /// Over, without one. The newest attempt, when still open, ends with the same reason.
    Fail(Ending),
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

/// The attempt that has not ended yet.
pub fn open_attempt(status: &GraphBackupStatus) -> Option<&Attempt> {
    status.attempts.last().filter(|attempt| attempt.completion_time.is_none())
}

/// Whether an attempt may start now, so that the ground is worth looking at.
pub fn attempt_due(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> bool {
    deadline_left(backup, status, now).is_some()
        && retry_left(backup, status)
        && backoff_left(backup, status, now).is_zero()
}

/// What every part of one decision looks at.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub backup: &'a ValidBackup,
    pub status: &'a GraphBackupStatus,
    pub now: DateTime<Utc>,
}

/// Decides the next step.
pub fn decide(backup: &ValidBackup, status: &GraphBackupStatus, world: World, now: DateTime<Utc>) -> Step {
    let pass = Pass { backup, status, now };
    if let Some(store) = backup.adopt {
        return match world {
            World::Adopting(seen) => adopt::next(&pass, store, seen),
            World::Idle { .. } | World::Stopping { .. } | World::Open { .. } => changed_while_read(),
        };
    }
    match (world, open_attempt(status)) {
        (World::Stopping { check, member }, Some(attempt)) => match cold::away(attempt) {
            Some(stopped) => cold::stop(&pass, attempt, stopped, &member, check),
            None => changed_while_read(),
        },
        (World::Open { backup: job, inspect, member }, Some(attempt)) => {
            let first = member.as_ref().and_then(|member| cold::next(&pass, attempt, member, &job));
            match first.unwrap_or_else(|| decide_open(&pass, attempt, job, inspect)) {
                Step::Wait(waiting) if member.is_some() => Step::Wait(cold::watchful(waiting)),
                step => step,
            }
        }
        (World::Idle { leftover: Some(job), .. }, None) => Step::DeleteJob(job),
        (World::Idle { member: Some(member), ground, .. }, None) => match status.attempts.last().and_then(cold::away) {
            Some(stopped) => Step::StartMember(cold::put_back(stopped, &member)),
            None => decide_idle(&pass, ground),
        },
        (World::Idle { ground, .. }, None) => decide_idle(&pass, ground),
        // The world was read for another state than the one decided on: read it again.
        (World::Idle { .. }, Some(_))
        | (World::Open { .. } | World::Stopping { .. }, None)
        | (World::Adopting(_), _) => changed_while_read(),
    }
}

fn changed_while_read() -> Step {
    Step::Wait(Waiting {
        reason: Reason::Pending,
        message: "the state changed while it was read".to_owned(),
        look_again: LOOK_AGAIN.0,
    })
}

fn decide_idle(pass: &Pass<'_>, ground: Option<Ground>) -> Step {
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
    match ground {
        Some(Ground::Found(site)) => decide_start(pass, *site, look_again),
        Some(Ground::NotFound(error)) if error.reason().remedy() == Remedy::Act => {
            Step::Fail(Ending::new(error.reason(), error.to_string()))
        }
        Some(Ground::NotFound(error)) => {
            Step::Wait(Waiting { reason: error.reason(), message: error.to_string(), look_again })
        }
        Some(Ground::Unfit(unfit)) if unfit.reason.remedy() == Remedy::Act => {
            Step::Fail(Ending::new(unfit.reason, unfit.message))
        }
        Some(Ground::Unfit(unfit)) => Step::Wait(Waiting { reason: unfit.reason, message: unfit.message, look_again }),
        Some(Ground::ClaimMissing) => Step::Wait(claim_missing(backup, look_again)),
        None => Step::Wait(Waiting {
            reason: Reason::Pending,
            message: "waiting for the first look at the database".to_owned(),
            look_again,
        }),
    }
}

/// The target claim is waited for.
pub(super) fn claim_missing(backup: &ValidBackup, look_again: Duration) -> Waiting {
    Waiting {
        reason: Reason::TargetClaimMissing,
        message: format!(
            "PersistentVolumeClaim {} does not exist in namespace {}: create it, or correct spec.target.claimName in a new \
             GraphBackup",
            backup.target.claim_name, backup.owner.namespace
        ),
        look_again,
    }
}

/// The database is found: is it free, and what is copied?
fn decide_start(pass: &Pass<'_>, site: Site, look_again: Duration) -> Step {
    let take_lock = match &site.lock {
        SiteLock::Free => true,
        SiteLock::Ours => false,
        SiteLock::Abandoned(lock) => return Step::BreakLock(lock.clone()),
        SiteLock::Held(holder) => {
            return Step::Wait(Waiting {
                reason: Reason::WaitingForLock,
                message: format!("{holder} works on the same cluster; this backup starts when that has ended"),
                look_again,
            });
        }
    };
    if pass.backup.backup_type == BackupType::Incremental && site.parent.is_none() {
        let message = format!(
            "there is no earlier point of store {} on the target: take a Full backup first, or use type Auto",
            site.located.store_id
        );
        let seen = pass.status.start_time.is_some_and(|start| since(start, pass.now) >= PARENT_GRACE);
        return if seen {
            Step::Fail(Ending::new(Reason::NoParent, message))
        } else {
            Step::Wait(Waiting { reason: Reason::NoParent, message, look_again: PARENT_GRACE })
        };
    }
    Step::Start { attempt: Box::new(next_attempt(pass, site)), take_lock }
}

fn next_attempt(pass: &Pass<'_>, site: Site) -> Attempt {
    let Pass { backup, status, now } = *pass;
    let number = u32::try_from(status.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
    Attempt {
        number,
        job: names::backup_job(&backup.owner.name, &backup.owner.uid, number),
        store_id: site.located.store_id,
        parent: site.parent,
        stopped: site.stopped,
        fence: site.located.fence,
        start_time: now_seconds(now),
        completion_time: None,
        reason: None,
        message: None,
        inspection: None,
        pod_uid: None,
    }
}

fn decide_open(pass: &Pass<'_>, attempt: &Attempt, job: JobState, inspect: JobState) -> Step {
    match job {
        JobState::Ended { verdict: Some(verdict), pod_uid, .. } => judge(pass, attempt, verdict, pod_uid),
        JobState::Ended { deadline_exceeded, pod_uid, verdict: None } => {
            let reason = if deadline_exceeded { Reason::DeadlineExceeded } else { Reason::JobLost };
            decide_inspect(pass, attempt, inspect, Ending { pod_uid, ..Ending::new(reason, "") })
        }
        JobState::Absent if may_be_uncreated(decided_time(attempt), pass.now) => {
            Step::Start { attempt: Box::new(attempt.clone()), take_lock: false }
        }
        JobState::Absent => decide_inspect(pass, attempt, inspect, Ending::new(Reason::JobLost, "")),
        JobState::Foreign => Step::Fail(Ending::new(
            Reason::JobRefused,
            format!(
                "a Job named {} exists and belongs to something else: delete it and create a new GraphBackup",
                attempt.job
            ),
        )),
        JobState::Active { job, created, start } => decide_active(pass, &job, created, start),
    }
}

/// When the Job of an attempt was decided: with its start, or when its member was gone.
fn decided_time(attempt: &Attempt) -> DateTime<Utc> {
    attempt.stopped.as_ref().and_then(|stopped| stopped.gone_time).unwrap_or(attempt.start_time)
}

/// Whether a Job that was decided then and is missing was perhaps never created.
pub(super) fn may_be_uncreated(decided: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    since(decided, now) < JOB_CREATION_GRACE
}

pub(super) fn decide_active(pass: &Pass<'_>, job: &JobRef, created: DateTime<Utc>, start: PodStart) -> Step {
    let Pass { backup, status, now } = *pass;
    let used = since(status.start_time.unwrap_or(now), now);
    let run_left = (backup.run_deadline + 2 * DEADLINE_MARGIN).saturating_sub(used);
    if run_left.is_zero() {
        return Step::CloseAttempt(out_of_time(status));
    }
    let running = |left: Duration| Step::Wait(Waiting { look_again: left.min(LOOK_WHILE_RUNNING), ..running(status) });
    let PodStart::Waiting(obstacle) = start else { return running(run_left) };
    let start_left = backup.pod_start_deadline.saturating_sub(since(created, now));
    if !start_left.is_zero() {
        return running(start_left.min(run_left));
    }
    let head = format!(
        "the pod of Job {} did not start within deadlines.podStart ({} s)",
        job.name,
        backup.pod_start_deadline.as_secs()
    );
    Step::CloseAttempt(match obstacle {
        Obstacle::Image(said) => Ending::new(
            Reason::ImageCannotBePulled,
            format!("{head}: {said}; check spec.tool.image and the pull secrets"),
        ),
        Obstacle::Other(said) => Ending::new(Reason::PodCannotStart, format!("{head}: {said}")),
        Obstacle::NoneKnown => Ending::new(Reason::PodCannotStart, format!("{head} and the cluster does not say why")),
    })
}

/// What stands on the object while an attempt is open.
pub fn running(status: &GraphBackupStatus) -> Waiting {
    let message = match status.attempts.last() {
        Some(Attempt { inspection: Some(inspection), job, .. }) => {
            return Waiting {
                reason: Reason::Inspecting,
                message: format!(
                    "Job {job} ended without a verdict: Job {} asks the volume whether it published",
                    inspection.job
                ),
                look_again: DEADLINE_MARGIN,
            };
        }
        Some(Attempt { stopped: Some(stopped), .. }) if stopped.gone_time.is_none() => {
            return Waiting {
                reason: Reason::StoppingMember,
                message: format!(
                    "pod {} (member {}) is stopped as soon as it is seen that its store can be copied",
                    stopped.pod, stopped.member_id
                ),
                look_again: DEADLINE_MARGIN,
            };
        }
        Some(Attempt { stopped: Some(stopped), job, .. }) => {
            format!("Job {job} copies the store of pod {}, which is stopped", stopped.pod)
        }
        Some(attempt) => format!("Job {} copies from {}", attempt.job, attempt.fence.endpoint()),
        None => String::new(),
    };
    Waiting { reason: Reason::Running, message, look_again: DEADLINE_MARGIN }
}

/// The backup Job gave no verdict: only the volume knows what became of it. `lost` is the ending when it published nothing.
fn decide_inspect(pass: &Pass<'_>, attempt: &Attempt, inspect: JobState, lost: Ending) -> Step {
    let asked = attempt.inspection.as_ref().map(|inspection| since(inspection.start_time, pass.now));
    let in_time = asked.is_none_or(|asked| asked < INSPECT_DEADLINE);
    let head = format!("Job {} ended without a verdict", attempt.job);
    let lost = |tail: String| end_attempt(pass, Ending { message: format!("{head}{tail}"), ..lost });
    match inspect {
        // Also later: a Job that is gone since nobody looked in time may be asked for again.
        JobState::Absent if in_time || deadline_left(pass.backup, pass.status, pass.now).is_some() => Step::Inspect,
        JobState::Active { created, .. } if since(created, pass.now) < INSPECT_DEADLINE => {
            Step::Wait(running(pass.status))
        }
        JobState::Ended { verdict: Some(Verdict::Published(point)), .. } => {
            judge(pass, attempt, Verdict::Published(point), None)
        }
        JobState::Ended { verdict: Some(Verdict::Failed(failure)), .. } => {
            lost(format!(" and published nothing: {}", failure.message))
        }
        JobState::Ended { verdict: None | Some(Verdict::Pruned | Verdict::Ready), .. } => {
            lost(", and so did the Job that asked the volume".to_owned())
        }
        JobState::Foreign => lost(", and a foreign Job has the name of the one that would ask the volume".to_owned()),
        JobState::Absent | JobState::Active { .. } => lost(", and the volume could not be asked in time".to_owned()),
    }
}

/// Ends an attempt whose Job is over: another one may follow, or the backup has failed.
fn end_attempt(pass: &Pass<'_>, ending: Ending) -> Step {
    let used = pass.status.attempts.len();
    let again = ending.reason.remedy() == Remedy::Retry
        && used <= pass.backup.retry_limit as usize
        && deadline_left(pass.backup, pass.status, pass.now).is_some();
    if again {
        return Step::CloseAttempt(ending);
    }
    Step::Fail(match ending.reason.remedy() {
        Remedy::Retry if pass.backup.retry_limit > 0 => Ending {
            message: format!("{} (attempt {used} of {})", ending.message, pass.backup.retry_limit + 1),
            ..ending
        },
        Remedy::Retry | Remedy::Act => ending,
    })
}

/// The controller's own check of the evidence: the agent's word alone is not enough.
fn judge(pass: &Pass<'_>, attempt: &Attempt, verdict: Verdict, pod_uid: Option<String>) -> Step {
    let refuse = move |reason, message| end_attempt(pass, Ending { reason, message, pod_uid });
    let point = match verdict {
        Verdict::Failed(failure) => return refuse(failure.reason, failure.message),
        Verdict::Pruned | Verdict::Ready => {
            return refuse(Reason::AgentFailed, "the agent answered another question".to_owned());
        }
        Verdict::Published(point) => point,
    };
    if point.owner_uid != pass.backup.owner.uid {
        return refuse(
            Reason::ManifestMissing,
            format!("the manifest on the volume belongs to another object, UID {}", point.owner_uid),
        );
    }
    if !is_digest(&point.manifest_digest) {
        return refuse(
            Reason::ManifestMissing,
            "the agent reported a point without the digest of its manifest".to_owned(),
        );
    }
    if point.store_id != attempt.store_id {
        let message = format!("the copy is of store {}, the cluster has store {}", point.store_id, attempt.store_id);
        return refuse(Reason::StoreMismatch, message);
    }
    if let Movement::Moved(how) = point.fence_before.movement(&point.fence_after) {
        return refuse(Reason::MasterChanged, format!("while the tool ran, {how}"));
    }
    // A point that an earlier attempt published carries that attempt's fence.
    let decided = pass.status.attempts.iter().find(|a| a.number == point.attempt);
    match decided.map(|a| a.fence.movement(&point.fence_before)) {
        Some(Movement::None) => Step::Succeed(point),
        Some(Movement::Moved(how)) => {
            refuse(Reason::MasterChanged, format!("between the look-up and the start of the tool, {how}"))
        }
        None => refuse(
            Reason::ManifestMissing,
            format!("the manifest names attempt {}, which this object never started", point.attempt),
        ),
    }
}

pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
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

fn retry_left(backup: &ValidBackup, status: &GraphBackupStatus) -> bool {
    let used = status.attempts.len();
    let last = status.attempts.last().and_then(|a| a.reason.as_deref()).and_then(parse_reason);
    used == 0 || (used <= backup.retry_limit as usize && last.is_none_or(|reason| reason.remedy() == Remedy::Retry))
}

/// Time left of `deadlines.run`; `None` when it is over.
pub fn deadline_left(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> Option<Duration> {
    let used = status.start_time.map_or(Duration::ZERO, |start| since(start, now));
    backup.run_deadline.checked_sub(used).filter(|left| !left.is_zero())
}

fn backoff_left(backup: &ValidBackup, status: &GraphBackupStatus, now: DateTime<Utc>) -> Duration {
    let Some(ended) = status.attempts.last().and_then(|attempt| attempt.completion_time) else { return Duration::ZERO };
    let doublings = u32::try_from(status.attempts.len().saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let base = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX);
    (base + jitter(&backup.owner.uid, doublings, base)).saturating_sub(since(ended, now))
}

/// Up to a quarter of the wait, the same for the same object and attempt: many backups that failed together do not
/// come back together.
fn jitter(uid: &str, attempt: u32, base: Duration) -> Duration {
    let spread = uid.bytes().fold(attempt, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte))) % 256;
    base * spread / 1024
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

/// Time from a moment to now; none where that is ahead.
pub(super) fn since(moment: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - moment).to_std().unwrap_or(Duration::ZERO)
}

/// Whether a fence can show that the master did not change.
pub fn observable(fence: &Fence) -> bool {
    matches!(fence, Fence::Master(_))
}

#[cfg(test)]
mod tests;
