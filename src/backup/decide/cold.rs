//! The member that a cold backup stops: what comes next for it. Pure.
//!
//! The attempt is recorded with what puts the cluster back ([`StoppedMember`]) before anything is scaled. The replicas
//! are back before the backup ends, whatever became of the copy. Before a member is stopped, a Job on its node mounts
//! both volumes and checks whether a copy can be made: a misconfiguration is found before any member is stopped.

use super::pod_start::time_to_start;
use super::wait::{LOOK, running, starting};
use crate::api::{Attempt, Reason, StoppedMember, now_seconds};
use crate::backup::step::{
    Decision, Ending, LOOK_WHILE_RUNNING, Pass, Step, Waiting, deadline_left, may_be_uncreated, out_of_time, run_left,
};
use crate::backup::world::Stopping;
use crate::contract::verdict::Verdict;
use crate::controller::effects::ScaleTo;
use crate::controller::job::{JobState, PodStart};
use crate::controller::pace::since;
use crate::discovery::DiscoveryError;
use crate::members::replicas::{MemberState, put_back};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// For a member to be gone, whatever grace its pod has.
const STOP_DEADLINE: Duration = Duration::from_mins(10);
/// What the Job that checks may need beyond the start of its pod.
pub const CHECK_DEADLINE: Duration = Duration::from_mins(1);
/// How the scheduler of Kubernetes says, up to 1.33 and later, that a volume cannot be on a node.
const APART: [&str; 2] = ["volume node affinity conflict", "PersistentVolume's node affinity"];
/// For the registration of a stopped member to go before it is started all the same: a few times the session timeout. A
/// member that finds its last registration when it starts hangs.
pub const RELEASE_WAIT: Duration = Duration::from_mins(2);
/// For a member that was started again to register, beyond the start of its pod: it may have to recover its store.
const RETURN_WAIT: Duration = Duration::from_mins(5);

/// The end of a backup waits until the member that it stopped is back, within bounds. A copy is good all the same.
pub(super) fn hold(pass: &Pass<'_>, decision: Decision, missing: Option<String>) -> Decision {
    let stopped = pass.status.attempts.last().and_then(Attempt::returning_member);
    let (true, Some(state), Some(stopped)) = (decision.step.ends(), missing, stopped) else {
        return decision;
    };
    let limit = pass.backup.pod_start_deadline + RETURN_WAIT;
    let waited = since(stopped.restored_time.unwrap_or(pass.now), pass.now);
    if waited < limit {
        let look_again = (waited / 10).clamp(LOOK.0, LOOK.1);
        return Step::Wait(Waiting { look_again, ..starting(stopped) }).into();
    }
    let note = format!(
        "pod {} (member {}) was started again and is not back after {} s: {state}. If it runs, it hangs in its start: delete \
         the pod",
        stopped.pod,
        stopped.member_id,
        limit.as_secs()
    );
    Step::MemberMissing(note).into()
}

/// The replicas of a closed attempt: they are put back when the member's registration is gone, and after a while all
/// the same.
pub(super) fn bring_back(pass: &Pass<'_>, attempt: &Attempt, stopped: &StoppedMember, seen: &MemberState) -> Step {
    let to = put_back(stopped, seen);
    let gone = matches!(seen, MemberState::Present { registered: Some(Ok(false)), .. });
    if to.is_none() || gone || stopped.gone_time.is_some() || stopped.missing.is_some() {
        return start_or_leave(to);
    }
    let waited = since(attempt.completion_time.unwrap_or(pass.now), pass.now);
    if waited < RELEASE_WAIT {
        let message = format!(
            "pod {} (member {}) is started again once it is gone and its registration in ZooKeeper has gone with it",
            stopped.pod, stopped.member_id
        );
        return Step::Wait(Waiting { reason: Reason::StartingMember, message, look_again: LOOK.0 });
    }
    Step::MemberMissing(format!(
        "pod {} (member {}) is started again although it was not gone {} s after the end of the attempt: if it runs and does \
         not become ready, it hangs in its start: delete the pod",
        stopped.pod,
        stopped.member_id,
        RELEASE_WAIT.as_secs()
    ))
}

/// What the stopped member of an open attempt needs; nothing where the attempt's Jobs decide.
pub(super) fn next(pass: &Pass<'_>, stopped: &StoppedMember, seen: &MemberState, job: &JobState) -> Option<Step> {
    let gone = stopped.gone_time?;
    match (job, seen) {
        // Once the Job has ended it may have been this operator that put them back.
        (JobState::Active { .. }, MemberState::Present { replicas, .. }) if *replicas >= stopped.replicas => {
            Some(Step::CloseAttempt(scaled_meanwhile(stopped, *replicas)))
        }
        (JobState::Active { .. }, _) => None,
        // Put back already, and not recorded: no Job may copy the store of a member that runs.
        (JobState::Absent, MemberState::Present { replicas, .. }) if *replicas >= stopped.replicas => {
            Some(Step::LeaveReplicas)
        }
        (JobState::Absent, _) if may_be_uncreated(gone, pass.now) => None,
        _ => Some(start_or_leave(put_back(stopped, seen))),
    }
}

/// A wait while a member is stopped: nothing tells when somebody scales its StatefulSet. A small store is copied within
/// seconds, so the first looks come soon.
pub(super) fn watchful(stopped: &StoppedMember, waiting: Waiting, now: DateTime<Utc>) -> Waiting {
    let copying = stopped.gone_time.map_or(Duration::ZERO, |gone| since(gone, now));
    let look_again = (copying / 10).clamp(LOOK.0, LOOK.1);
    Waiting { look_again: waiting.look_again.min(look_again), ..waiting }
}

/// Puts the replicas back, or records that there are none to put back.
fn start_or_leave(to: Option<ScaleTo>) -> Step {
    to.map_or(Step::LeaveReplicas, Step::StartMember)
}

/// An attempt whose member is not gone yet: everything is checked while the member still serves, then it is stopped. It
/// is gone when its pod is gone from the API, and its registration from ZooKeeper.
pub(super) fn stop(pass: &Pass<'_>, seen: Stopping<'_>) -> Step {
    let Stopping { attempt, stopped, member, check, check_pod } = seen;
    let MemberState::Present { stateful_set, replicas, generation, resource_version, settled, registered } = member
    else {
        return Step::CloseAttempt(Ending::new(
            Reason::WorkloadMissing,
            format!("the StatefulSet of pod {} was deleted or replaced before the pod was stopped", stopped.pod),
        ));
    };
    let limit = pass.backup.pod_start_deadline + CHECK_DEADLINE + STOP_DEADLINE;
    let down = stopped.replicas - 1;
    match replicas {
        _ if deadline_left(pass.backup, pass.status, pass.now).is_none() => {
            Step::CloseAttempt(out_of_time(pass.status))
        }
        now if now == stopped.replicas && since(attempt.start_time, pass.now) >= limit => {
            Step::CloseAttempt(Ending::new(Reason::JobLost, "the Job that checks the volumes did not end in time"))
        }
        _ if since(attempt.start_time, pass.now) >= limit => {
            Step::CloseAttempt(did_not_stop(stopped, settled, registered.as_ref()))
        }
        now if now == stopped.replicas && generation == stopped.generation => {
            let to = ScaleTo { stateful_set, replicas: down, resource_version };
            judge_check(pass, attempt, stopped, check, check_pod).unwrap_or(Step::StopMember(to))
        }
        now if now == down && settled && matches!(registered, Some(Ok(false))) => {
            let stopped = StoppedMember { gone_time: Some(now_seconds(pass.now)), ..stopped.clone() };
            let attempt = Attempt { stopped: Some(stopped), ..attempt.clone() };
            Step::CopyMember(Box::new(attempt))
        }
        now if now == down => {
            let look_again = (since(attempt.start_time, pass.now) / 10).clamp(LOOK.0, LOOK.1);
            Step::Wait(Waiting { look_again, ..running(pass.status) })
        }
        now => Step::CloseAttempt(scaled_meanwhile(stopped, now)),
    }
}

/// What the Job that checks still needs; nothing when it found that a copy can be made, and is over. `pod` says whether
/// a pod of it is left although the Job is gone.
fn judge_check(
    pass: &Pass<'_>,
    attempt: &Attempt,
    stopped: &StoppedMember,
    check: JobState,
    pod: bool,
) -> Option<Step> {
    let close = |reason, message: String| Some(Step::CloseAttempt(Ending::new(reason, message)));
    match (check, stopped.checked_time) {
        // It is deleted before the member is stopped: what keeps its pod would keep the member's volume, too.
        (job, Some(_)) => match job.working() {
            Some(job) => Some(Step::DeleteJob(job)),
            None => pod.then(|| Step::Wait(Waiting { look_again: LOOK.0, ..running(pass.status) })),
        },
        (JobState::Absent, None) if may_be_uncreated(attempt.start_time, pass.now) => Some(Step::RecreateCheck),
        (JobState::Absent, None) => {
            close(Reason::JobLost, "the Job that checks the volumes vanished before its answer was read".to_owned())
        }
        (JobState::Active { job, created, start }, None) => Some(match start {
            _ if run_left(pass).is_zero() => Step::CloseAttempt(out_of_time(pass.status)),
            PodStart::Started | PodStart::Unseen => {
                Step::Wait(Waiting { look_again: run_left(pass).min(LOOK_WHILE_RUNNING), ..running(pass.status) })
            }
            PodStart::Waiting(obstacle) => match time_to_start(pass.backup, &job, created, obstacle, pass.now) {
                Ok(left) => Step::Wait(Waiting { look_again: left.min(run_left(pass)), ..running(pass.status) }),
                // The scheduler's words for a volume that no node with the other one can have.
                Err(ending) if APART.iter().any(|words| ending.message.contains(words)) => {
                    Step::CloseAttempt(Ending { reason: Reason::TopologyMismatch, ..ending })
                }
                Err(ending) => Step::CloseAttempt(ending),
            },
        }),
        (JobState::Ended { verdict: Some(Verdict::Ready), lingering, .. }, None) => lingering.map(|_| Step::Checked),
        (JobState::Ended { verdict: Some(Verdict::Failed(failure)), .. }, None) => {
            close(failure.reason, failure.message)
        }
        (JobState::Ended { .. }, None) => {
            close(Reason::JobLost, "the Job that checks the volumes ended without a verdict".to_owned())
        }
        (JobState::Foreign, None) => {
            let message = "a foreign Job has the name of the one that would check the volumes: delete it";
            close(Reason::JobRefused, message.to_owned())
        }
    }
}

fn did_not_stop(stopped: &StoppedMember, pod_gone: bool, registered: Option<&Result<bool, DiscoveryError>>) -> Ending {
    let still = match registered {
        _ if !pod_gone => "its pod is still there".to_owned(),
        Some(Err(error)) => format!("the operator cannot tell whether it is still registered in ZooKeeper: {error}"),
        _ => format!("member {} is still registered in ZooKeeper", stopped.member_id),
    };
    let message = format!("pod {} did not stop in time: {still}; see its log", stopped.pod);
    Ending::new(Reason::MemberDidNotStop, message)
}

fn scaled_meanwhile(stopped: &StoppedMember, replicas: i32) -> Ending {
    let message = format!(
        "somebody scaled the StatefulSet to {replicas} while pod {} was to be stopped and copied: make sure that \
         nothing else sets its replicas in the meantime (an autoscaler, a GitOps tool), and create a new GraphBackup",
        stopped.pod
    );
    Ending::new(Reason::ScaledMeanwhile, message)
}

#[cfg(test)]
mod tests;
