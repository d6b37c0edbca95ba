//! An attempt is open: what its Jobs say, and what follows from the agent's verdict. Pure.

use super::inspection::{self, Next};
use super::pod_start::time_to_start;
use super::wait::running;
use crate::api::{Attempt, Mastership, Movement, Reason, Remedy, names};
use crate::backup::step::{
    Decision, Ending, LOOK_WHILE_RUNNING, Pass, Step, Waiting, deadline_left, may_be_uncreated, out_of_time,
    parse_reason, run_left,
};
use crate::contract::verdict::Verdict;
use crate::controller::job::{JobRef, JobState, PodStart};
use crate::controller::pace::since;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// The next step of an open attempt, by its Jobs.
pub(super) fn decide_open(pass: &Pass<'_>, attempt: &Attempt, job: JobState, inspect: JobState) -> Decision {
    match job {
        JobState::Ended { verdict: Some(verdict), pod_uid, lingering, .. } => {
            judge(pass, attempt, verdict, pod_uid).after_deleting(lingering)
        }
        // It would keep the volume from the Job that asks it.
        JobState::Ended { lingering: Some(job), .. } if attempt.inspection.is_some() => Step::DeleteJob(job).into(),
        JobState::Ended { deadline_exceeded, pod_uid, out_of_memory, .. } => {
            let cause = without_a_verdict(attempt, deadline_exceeded, out_of_memory.as_deref(), pass);
            inspect_volume(pass, attempt, inspect, Ending { pod_uid, ..cause })
        }
        JobState::Absent if may_be_created_again(attempt) && may_be_uncreated(decided_time(attempt), pass.now) => {
            Step::RecreateJob(Box::new(attempt.clone())).into()
        }
        JobState::Absent => {
            let message = format!("Job {} is gone, and its verdict with it", attempt.job);
            inspect_volume(pass, attempt, inspect, Ending::new(Reason::JobLost, message))
        }
        JobState::Foreign => {
            let message = format!(
                "a Job named {} exists and belongs to something else: delete it and create a new GraphBackup",
                attempt.job
            );
            Step::Fail(Ending::new(Reason::JobRefused, message)).into()
        }
        JobState::Active { job, created, start } => decide_active(pass, attempt, job, created, start),
    }
}

/// Whether nothing shows that the Job of an attempt was there: neither a question about it, nor that its member was
/// started again.
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

/// A Job that works. When its time is over and it has run, it is not waited for any more, as where its node is dead and
/// its pod stays: the volume is asked, then the Job is deleted.
fn decide_active(pass: &Pass<'_>, attempt: &Attempt, job: JobRef, created: DateTime<Utc>, start: PodStart) -> Decision {
    let run_left = run_left(pass);
    let waits = |left: Duration| {
        Decision::from(Step::Wait(Waiting { look_again: left.min(LOOK_WHILE_RUNNING), ..running(pass.status) }))
    };
    let to_start = match start {
        PodStart::Started if !run_left.is_zero() => return waits(run_left),
        PodStart::Unseen if !run_left.is_zero() && since(created, pass.now) < pass.backup.pod_start_deadline => {
            return waits(run_left.min(pass.backup.pod_start_deadline));
        }
        PodStart::Waiting(_) if run_left.is_zero() => return Step::CloseAttempt(out_of_time(pass.status)).into(),
        PodStart::Waiting(obstacle) => time_to_start(pass.backup, &job, created, obstacle, pass.now),
        PodStart::Started | PodStart::Unseen if attempt.inspection.is_some() => return Step::DeleteJob(job).into(),
        PodStart::Started | PodStart::Unseen => {
            let message = format!(
                "Job {} did not end in time: its pod cannot be seen, or its node does not answer and keeps the pod \
                 terminating",
                job.name
            );
            return inspect_volume(pass, attempt, JobState::Absent, Ending::new(Reason::JobLost, message));
        }
    };
    to_start.map_or_else(|ending| Step::CloseAttempt(ending).into(), |left| waits(left.min(run_left)))
}

/// The backup Job gave no verdict: only the volume knows what became of it. `lost` is the ending when it published
/// nothing.
fn inspect_volume(pass: &Pass<'_>, attempt: &Attempt, inspect: JobState, lost: Ending) -> Decision {
    let owner = &pass.backup.owner;
    let name = |number| names::inspect_job(&owner.name, &owner.uid, attempt.number, number);
    let asked = attempt.inspection.as_ref();
    // The cause was recorded with the first question: its Job may be gone by now.
    let recorded = asked.and_then(|asked| Some((parse_reason(asked.reason.as_deref()?)?, asked.message.clone()?)));
    let (reason, message) = recorded.unwrap_or((lost.reason, lost.message));
    let cause = Some((reason, message.as_str()));
    match inspection::next(pass, asked, name, cause, inspect) {
        Next::Ask(inspection) => Step::Inspect(inspection).into(),
        Next::Unanswered(inspection, job) => Step::Unanswered(inspection, job).into(),
        Next::Wait(look_again) => Step::Wait(Waiting { look_again, ..running(pass.status) }).into(),
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
        "{cause}, and the volume could not be inspected for a published point: {why}. If the folder {place} is on \
         claim {}, take it \
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
        Verdict::Published(point) => point,
        _ => return refuse(Reason::AgentFailed, "the agent returned a verdict for a different task".to_owned()),
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
            refuse(Reason::MasterChanged, format!("between the lookup and the start of the tool, {how}"))
        }
        None => refuse(
            Reason::ManifestMissing,
            format!("the manifest names attempt {}, which this object never started", point.attempt),
        ),
    }
}

/// Whether a text is the digest of a manifest as the agent writes it.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a mastership can show that the master did not change.
pub fn is_observable(mastership: &Mastership) -> bool {
    matches!(mastership, Mastership::Master(_))
}
