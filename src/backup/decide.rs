//! The next step of a backup: a pure function of the object, the world and the time.

pub mod adopt;
pub mod cold;
pub mod inspection;
mod pod_start;
pub mod removal;

pub use super::step::{DEADLINE_MARGIN, Ending, Step, Waiting, deadline_left};
use super::step::{LOOK_WHILE_RUNNING, Pass, look_again, may_be_uncreated, out_of_time, parse_reason, since};
use super::validate::ValidBackup;
use super::world::{Ground, JobRef, JobState, PodStart, Site, SiteLock, World};
use crate::api::{
    Attempt, BackupType, GraphBackupStatus, Inspection, Mastership, Movement, Reason, Remedy, names, now_seconds,
};
use crate::backup::decide::inspection::Next;
use crate::backup::decide::pod_start::time_to_start;
use crate::contract::verdict::Verdict;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// Wait before the second attempt; doubles with every further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// A point that was finished this long ago has been seen.
const PARENT_GRACE: Duration = Duration::from_secs(15);

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
        (World::Stopping { check, check_pod, member }, Some(attempt)) => match cold::away(attempt) {
            Some(stopped) => cold::stop(&pass, attempt, stopped, &member, cold::Check { job: check, pod: check_pod }),
            None => changed_while_read(),
        },
        (World::Open { backup: job, inspect, member, away }, Some(attempt)) => {
            let first = member.as_ref().and_then(|member| cold::next(&pass, attempt, member, &job));
            let step = first.unwrap_or_else(|| decide_open(&pass, attempt, job, inspect));
            match cold::hold(&pass, step, away) {
                Step::Wait(waiting) if member.is_some() => Step::Wait(cold::watchful(waiting)),
                step => step,
            }
        }
        (World::Idle { leftover: Some(job), .. }, None) => Step::DeleteJob(job),
        (World::Idle { member: Some(member), ground, .. }, None) => {
            let closed = status.attempts.last().and_then(|attempt| Some((attempt, cold::away(attempt)?)));
            match closed {
                Some((attempt, stopped)) => cold::bring_back(&pass, attempt, stopped, &member),
                None => decide_idle(&pass, ground),
            }
        }
        (World::Idle { away, ground, .. }, None) => cold::hold(&pass, decide_idle(&pass, ground), away),
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
        look_again: Duration::from_secs(5),
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
        mastership: site.located.mastership,
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
        JobState::Ended { verdict: Some(verdict), pod_uid, lingering, .. } => {
            judge(pass, attempt, verdict, pod_uid).after_deleting(lingering)
        }
        // It would keep the volume from the Job that asks it.
        JobState::Ended { lingering: Some(job), .. } if attempt.inspection.is_some() => Step::DeleteJob(job),
        JobState::Ended { deadline_exceeded, pod_uid, out_of_memory, .. } => {
            let cause = without_a_verdict(attempt, deadline_exceeded, out_of_memory.as_deref(), pass);
            ask(pass, attempt, inspect, Ending { pod_uid, ..cause })
        }
        JobState::Absent if may_be_created_again(attempt) && may_be_uncreated(decided_time(attempt), pass.now) => {
            Step::Start { attempt: Box::new(attempt.clone()), take_lock: false }
        }
        JobState::Absent => {
            let message = format!("Job {} is gone, and its verdict with it", attempt.job);
            ask(pass, attempt, inspect, Ending::new(Reason::JobLost, message))
        }
        JobState::Foreign => Step::Fail(Ending::new(
            Reason::JobRefused,
            format!(
                "a Job named {} exists and belongs to something else: delete it and create a new GraphBackup",
                attempt.job
            ),
        )),
        JobState::Active { job, created, start } => decide_active(pass, attempt, job, created, start),
    }
}

/// Whether nothing shows that the Job of an attempt was there: neither a question about it, nor that its member was started again.
fn may_be_created_again(attempt: &Attempt) -> bool {
    let started_again = attempt.stopped.as_ref().is_some_and(|stopped| stopped.restored_time.is_some());
    attempt.inspection.is_none() && !started_again
}

/// How an attempt ended whose agent left no verdict.
fn without_a_verdict(attempt: &Attempt, cut_off: bool, out_of_memory: Option<&str>, pass: &Pass<'_>) -> Ending {
    let job = &attempt.job;
    match (out_of_memory, cut_off) {
        (Some(""), _) => Ending::new(
            Reason::ToolKilled,
            format!("the container of Job {job} was killed because its node had no memory left"),
        ),
        (Some(limit), _) => Ending::new(
            Reason::ToolKilled,
            format!(
                "the container of Job {job} was killed at its memory limit of {limit}: raise \
                 spec.tool.podTemplate.resources.limits.memory, or give the tool a smaller heap (JAVA_OPTS)"
            ),
        ),
        (None, true) if deadline_left(pass.backup, pass.status, pass.now).is_some() => Ending::new(
            Reason::JobLost,
            format!(
                "Job {job} was ended for an activeDeadlineSeconds that is shorter than the one the operator gave it: look \
                 for what changes Jobs, such as an admission policy"
            ),
        ),
        (None, _) => Ending::new(Reason::JobLost, format!("Job {job} ended without a verdict")),
    }
}

/// When the Job of an attempt was decided: with its start, or when its member was gone.
fn decided_time(attempt: &Attempt) -> DateTime<Utc> {
    attempt.stopped.as_ref().and_then(|stopped| stopped.gone_time).unwrap_or(attempt.start_time)
}

/// A Job that works. When its time is over and it has run, it is not waited for any more, as where its node is dead and its pod
/// stays: the volume is asked, then the Job is deleted.
fn decide_active(pass: &Pass<'_>, attempt: &Attempt, job: JobRef, created: DateTime<Utc>, start: PodStart) -> Step {
    let run_left = run_left(pass);
    let waits =
        |left: Duration| Step::Wait(Waiting { look_again: left.min(LOOK_WHILE_RUNNING), ..running(pass.status) });
    let to_start = match start {
        PodStart::Started if !run_left.is_zero() => return waits(run_left),
        PodStart::Unseen if !run_left.is_zero() && since(created, pass.now) < pass.backup.pod_start_deadline => {
            return waits(run_left.min(pass.backup.pod_start_deadline));
        }
        PodStart::Waiting(_) if run_left.is_zero() => return Step::CloseAttempt(out_of_time(pass.status)),
        PodStart::Waiting(obstacle) => time_to_start(pass.backup, &job, created, obstacle, pass.now),
        PodStart::Started | PodStart::Unseen if attempt.inspection.is_some() => return Step::DeleteJob(job),
        PodStart::Started | PodStart::Unseen => {
            let message = format!(
                "Job {} did not end in time: its pod cannot be seen, or its node does not answer and keeps the pod \
                 terminating",
                job.name
            );
            return ask(pass, attempt, JobState::Absent, Ending::new(Reason::JobLost, message));
        }
    };
    to_start.map_or_else(Step::CloseAttempt, |left| waits(left.min(run_left)))
}

/// Time until a Job of this backup is not waited for any more: the agent ends itself before, and the Job controller its Job.
pub(super) fn run_left(pass: &Pass<'_>) -> Duration {
    let used = since(pass.status.start_time.unwrap_or(pass.now), pass.now);
    (pass.backup.run_deadline + 2 * DEADLINE_MARGIN).saturating_sub(used)
}

/// What stands on the object while an attempt is open.
pub fn running(status: &GraphBackupStatus) -> Waiting {
    let message = match status.attempts.last() {
        Some(Attempt { inspection: Some(inspection), job, .. }) => {
            return Waiting {
                reason: Reason::Inspecting,
                message: format!(
                    "Job {job} ended without a verdict: {}",
                    asking(inspection, "asks the volume whether it published")
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
        Some(Attempt { stopped: Some(stopped), .. }) if stopped.restored_time.is_some() => {
            return cold::starting(stopped);
        }
        Some(Attempt { stopped: Some(stopped), job, .. }) => {
            format!("Job {job} copies the store of pod {}, which is stopped", stopped.pod)
        }
        Some(attempt) => format!("Job {} copies from {}", attempt.job, attempt.mastership.endpoint()),
        None => String::new(),
    };
    Waiting { reason: Reason::Running, message, look_again: DEADLINE_MARGIN }
}

/// What a question to the volume is doing. `does` says it of its Job.
pub(super) fn asking(inspection: &Inspection, does: &str) -> String {
    match (&inspection.unanswered, inspection.unanswered_time) {
        (Some(why), Some(_)) => format!("Job {} gave no answer and is run again: {why}", inspection.job),
        _ => format!("Job {} {does}", inspection.job),
    }
}

/// The backup Job gave no verdict: only the volume knows what became of it. `lost` is the ending when it published nothing.
fn ask(pass: &Pass<'_>, attempt: &Attempt, inspect: JobState, lost: Ending) -> Step {
    let owner = &pass.backup.owner;
    let name = |number| names::inspect_job(&owner.name, &owner.uid, attempt.number, number);
    let asked = attempt.inspection.as_ref();
    // The cause was recorded with the first question: its Job may be gone by now.
    let recorded = asked.and_then(|asked| Some((parse_reason(asked.reason.as_deref()?)?, asked.message.clone()?)));
    let (reason, message) = recorded.unwrap_or((lost.reason, lost.message));
    let cause = Some((reason, message.as_str()));
    match inspection::next(pass, asked, name, cause, inspect) {
        Next::Ask(inspection) => Step::Inspect(inspection),
        Next::Unanswered(inspection, job) => Step::Unanswered(inspection, job),
        Next::Wait(look_again) => Step::Wait(Waiting { look_again, ..running(pass.status) }),
        Next::Point(point, lingering) => {
            judge(pass, attempt, Verdict::Published(point), None).after_deleting(lingering)
        }
        Next::Nothing(failure, lingering) => {
            let reason = match failure.reason {
                Reason::JobLost
                    if reason == Reason::JobLost && deadline_left(pass.backup, pass.status, pass.now).is_none() =>
                {
                    Reason::DeadlineExceeded
                }
                Reason::JobLost | Reason::ManifestMissing => reason,
                of_volume => of_volume,
            };
            let message = format!("{message}, and it published nothing: {}", failure.message);
            end_attempt(pass, Ending { reason, message, pod_uid: lost.pod_uid }).after_deleting(lingering)
        }
        Next::GiveUp(why, lingering) => {
            let ending = outcome_unknown(pass, attempt, &message, &why);
            Step::Fail(Ending { pod_uid: lost.pod_uid, ..ending }).after_deleting(lingering)
        }
    }
}

/// The end of a backup that may have made its point: a person has to look, and is told how to take it.
fn outcome_unknown(pass: &Pass<'_>, attempt: &Attempt, cause: &str, why: &str) -> Ending {
    let place = pass.backup.place(attempt.store_id);
    let message = format!(
        "{cause}, and the volume could not be asked whether it published: {why}. If the folder {place} is on claim {}, take it \
         with a new GraphBackup that has spec.adopt: {}/{}",
        pass.backup.target.claim_name, place.cluster, place.point
    );
    Ending::new(Reason::OutcomeUnknown, message)
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
    if let Movement::Moved(how) = point.mastership_before.movement(&point.mastership_after) {
        return refuse(Reason::MasterChanged, format!("while the tool ran, {how}"));
    }
    // A point that an earlier attempt published carries that attempt's mastership.
    let decided = pass.status.attempts.iter().find(|a| a.number == point.attempt);
    match decided.map(|a| a.mastership.movement(&point.mastership_before)) {
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

fn retry_left(backup: &ValidBackup, status: &GraphBackupStatus) -> bool {
    let used = status.attempts.len();
    let last = status.attempts.last().and_then(|a| a.reason.as_deref()).and_then(parse_reason);
    used == 0 || (used <= backup.retry_limit as usize && last.is_none_or(|reason| reason.remedy() == Remedy::Retry))
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

/// Whether a mastership can show that the master did not change.
pub fn observable(mastership: &Mastership) -> bool {
    matches!(mastership, Mastership::Master(_))
}

#[cfg(test)]
mod tests;
