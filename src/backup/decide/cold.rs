//! The member that a cold backup stops: whether there is one that may be, and what comes next. Pure.
//!
//! A StatefulSet can do without the member of its highest ordinal alone. The attempt is recorded with what puts the
//! cluster back ([`StoppedMember`]) before anything is scaled; its replicas are back before the backup ends, whatever
//! became of the copy. Before a member is stopped a Job on its node mounts both volumes and looks whether a copy can be
//! made: what is set up wrong costs no member.

use crate::api::{Attempt, Cold, Endpoint, IfMaster, Reason, StoppedMember, now_seconds};
use crate::backup::decide::pod_start::time_to_start;
use crate::backup::decide::{run_left, running};
use crate::backup::step::{
    Ending, LOOK_WHILE_RUNNING, Pass, Step, Waiting, deadline_left, may_be_uncreated, out_of_time, since,
};
use crate::backup::world::{JobState, MemberState, PodStart, ScaleTo, Unfit};
use crate::contract::verdict::Verdict;
use crate::discovery::Registered;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use std::time::Duration;

/// For a member to be gone, whatever grace its pod has.
const STOP_DEADLINE: Duration = Duration::from_mins(10);
/// What the Job that checks may need beyond the start of its pod.
pub const CHECK_DEADLINE: Duration = Duration::from_mins(1);
/// How the scheduler of Kubernetes says, up to 1.33 and later, that a volume cannot be on a node.
const APART: [&str; 2] = ["volume node affinity conflict", "PersistentVolume's node affinity"];
/// Bounds of the time between two looks at a member that stops: nothing tells when it is gone from ZooKeeper.
pub const LOOK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));
/// For the registration of a stopped member to go before it is started all the same: a few times the session timeout. A member
/// that finds its last registration when it starts hangs.
pub const RELEASE_WAIT: Duration = Duration::from_mins(2);
/// For a member that was started again to register, beyond the start of its pod: it may have to recover its store.
const RETURN_WAIT: Duration = Duration::from_mins(5);
/// Longest time between two looks at the StatefulSet while its member is copied.
const LOOK_WHILE_COPYING: Duration = Duration::from_secs(15);

/// The member that would be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of its pod.
    pub pod: String,
    /// Name of the claim of its volume.
    pub claim: String,
    /// UID of the StatefulSet.
    pub stateful_set_uid: String,
    /// `metadata.generation` of the StatefulSet.
    pub generation: i64,
    /// `spec.replicas` of the StatefulSet, 1 or more.
    pub replicas: i32,
}

/// Name of the claim that a StatefulSet makes for a pod.
pub fn claim_of(cold: &Cold, pod: &str) -> String {
    format!("{}-{pod}", cold.workload.volume_claim_template)
}

/// The member with the highest ordinal, if the StatefulSet is whole and lets it go without harm.
pub fn candidate(cold: &Cold, workload: Option<&StatefulSet>, target_claim: &str) -> Result<Candidate, Unfit> {
    let name = &cold.workload.stateful_set;
    let Some((workload, spec)) = workload.and_then(|set| Some((set, set.spec.as_ref()?))) else {
        return Err(Unfit::new(
            Reason::WorkloadMissing,
            format!("StatefulSet {name} does not exist: create it, or correct spec.cold.workload in a new GraphBackup"),
        ));
    };
    let template = &cold.workload.volume_claim_template;
    let templates = spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.as_deref());
    if !templates.clone().any(|name| name == template) {
        let known: Vec<_> = templates.collect();
        return Err(Unfit::new(
            Reason::WorkloadUnfit,
            format!("StatefulSet {name} has no volumeClaimTemplate {template}, it has {known:?}"),
        ));
    }
    let retention = spec.persistent_volume_claim_retention_policy.as_ref();
    if retention.and_then(|policy| policy.when_scaled.as_deref()) == Some("Delete") {
        return Err(Unfit::new(
            Reason::ScaleDownDeletesClaim,
            format!(
                "StatefulSet {name} deletes the claim of a member that is scaled down: set \
                 spec.persistentVolumeClaimRetentionPolicy.whenScaled to Retain"
            ),
        ));
    }
    let replicas = spec.replicas.unwrap_or(1);
    require_whole(name, workload, replicas)?;
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let pod = format!("{name}-{}", first.saturating_add(replicas).saturating_sub(1));
    let claim = claim_of(cold, &pod);
    if claim == target_claim {
        return Err(Unfit::new(
            Reason::WorkloadUnfit,
            format!("spec.target.claimName is {claim}, the member's own volume: a backup belongs on another one"),
        ));
    }
    Ok(Candidate {
        pod,
        claim,
        stateful_set_uid: workload.metadata.uid.clone().unwrap_or_default(),
        generation: workload.metadata.generation.unwrap_or_default(),
        replicas,
    })
}

/// A cluster that lacks a member already, or is about to, does not lose another one to a backup.
fn require_whole(name: &str, workload: &StatefulSet, replicas: i32) -> Result<(), Unfit> {
    let status = workload.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or_default();
    let seen = status.observed_generation >= workload.metadata.generation;
    if !(replicas >= 1 && seen && status.replicas == replicas && ready == replicas) {
        return Err(Unfit::new(
            Reason::WorkloadNotReady,
            format!(
                "StatefulSet {name} wants {replicas} members and has {ready} ready: none is stopped before all are up"
            ),
        ));
    }
    if is_rolled_out(workload, &status) {
        return Ok(());
    }
    Err(Unfit::new(
        Reason::WorkloadNotReady,
        format!(
            "StatefulSet {name} has members of two revisions ({} of {replicas} are of the new one): none is stopped before \
             its update is complete",
            status.updated_replicas.unwrap_or_default()
        ),
    ))
}

/// Whether every member is of the newest revision. With `OnDelete` the controller does not raise `currentRevision`: there the
/// number of updated members tells.
fn is_rolled_out(workload: &StatefulSet, status: &StatefulSetStatus) -> bool {
    let strategy = workload.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
    let on_delete = strategy == Some("OnDelete");
    status.current_revision == status.update_revision || (on_delete && status.updated_replicas == Some(status.replicas))
}

/// Id and endpoint under which the candidate is registered, if it may be stopped. `master` is the master's id.
pub fn registration(
    cold: &Cold,
    candidate: &Candidate,
    members: &[Registered],
    master: Option<i32>,
) -> Result<(i32, Endpoint), Unfit> {
    let pod = &candidate.pod;
    let is_its = |endpoint: &Endpoint| endpoint.host.split('.').next() == Some(pod);
    let found = members.iter().find_map(|member| Some((member.id, member.endpoint.as_ref().filter(|e| is_its(e))?)));
    let Some((id, endpoint)) = found else {
        let known: Vec<_> = members.iter().filter_map(|member| Some(member.endpoint.as_ref()?.host.as_str())).collect();
        return Err(Unfit::new(
            Reason::MemberNotRegistered,
            format!(
                "no member is registered in ZooKeeper under the name of pod {pod}, there are {known:?}: start it (restart \
                 it if it runs), or let ha.server of each member be the name of its pod"
            ),
        ));
    };
    if candidate.replicas > 1 && master == Some(id) && cold.if_master == IfMaster::Refuse {
        return Err(Unfit::new(
            Reason::MemberIsMaster,
            format!(
                "pod {pod}, which has the highest ordinal, is the master (member {id}): let another member take over, or \
                 set spec.cold.ifMaster to FailOver in a new GraphBackup"
            ),
        ));
    }
    Ok((id, endpoint.clone()))
}

/// The record of a member that is to be stopped.
pub fn to_be_stopped(candidate: &Candidate, member_id: i32) -> StoppedMember {
    StoppedMember {
        pod: candidate.pod.clone(),
        member_id,
        stateful_set_uid: candidate.stateful_set_uid.clone(),
        generation: candidate.generation,
        replicas: candidate.replicas,
        checked_time: None,
        gone_time: None,
        restored_time: None,
        missing: None,
    }
}

/// The member of an attempt whose replicas are not put back yet.
pub fn away(attempt: &Attempt) -> Option<&StoppedMember> {
    attempt.stopped.as_ref().filter(|stopped| stopped.restored_time.is_none())
}

/// The member of an attempt whose replicas were put back and that is waited for.
pub fn returning(attempt: &Attempt) -> Option<&StoppedMember> {
    attempt.stopped.as_ref().filter(|stopped| stopped.restored_time.is_some() && stopped.missing.is_none())
}

/// The end of a backup waits until the member that it stopped is back, within bounds. A copy is good all the same.
pub(super) fn hold(pass: &Pass<'_>, step: Step, away: Option<String>) -> Step {
    let stopped = pass.status.attempts.last().and_then(returning);
    let (Step::Succeed(_) | Step::Fail(_), Some(state), Some(stopped)) = (step.deed(), away, stopped) else {
        return step;
    };
    let limit = pass.backup.pod_start_deadline + RETURN_WAIT;
    let waited = since(stopped.restored_time.unwrap_or(pass.now), pass.now);
    if waited < limit {
        let look_again = (waited / 10).clamp(LOOK.0, LOOK.1);
        return Step::Wait(Waiting { look_again, ..starting(stopped) });
    }
    Step::MemberMissing(format!(
        "pod {} (member {}) was started again and is not back after {} s: {state}. If it runs, it hangs in its start: delete the pod",
        stopped.pod,
        stopped.member_id,
        limit.as_secs()
    ))
}

/// What stands on the object while its member comes back.
pub(super) fn starting(stopped: &StoppedMember) -> Waiting {
    Waiting {
        reason: Reason::StartingMember,
        message: format!(
            "pod {} (member {}) is started again and waited for until it is registered in ZooKeeper",
            stopped.pod, stopped.member_id
        ),
        look_again: LOOK.0,
    }
}

/// The replicas of a closed attempt: they are put back when the member's registration is gone, and after a while all the same.
pub(super) fn bring_back(pass: &Pass<'_>, attempt: &Attempt, stopped: &StoppedMember, seen: &MemberState) -> Step {
    let to = put_back(stopped, seen);
    let gone = matches!(seen, MemberState::Present { registered: Some(Ok(false)), .. });
    if to.is_none() || gone || stopped.gone_time.is_some() || stopped.missing.is_some() {
        return Step::StartMember(to);
    }
    let waited = since(attempt.completion_time.unwrap_or(pass.now), pass.now);
    if waited < RELEASE_WAIT {
        let message = format!(
            "pod {} (member {}) is started again as soon as it is gone and its registration in ZooKeeper with it",
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

/// What the stopped member of an open attempt asks for; nothing where the attempt's Jobs decide.
pub(super) fn next(pass: &Pass<'_>, attempt: &Attempt, seen: &MemberState, job: &JobState) -> Option<Step> {
    let stopped = away(attempt)?;
    let gone = stopped.gone_time?;
    match (job, seen) {
        // Once the Job has ended it may have been this operator that put them back.
        (JobState::Active { .. }, MemberState::Present { replicas, .. }) if *replicas >= stopped.replicas => {
            Some(Step::CloseAttempt(scaled_meanwhile(stopped, *replicas)))
        }
        (JobState::Active { .. }, _) => None,
        // Put back already, and not recorded: no Job may copy the store of a member that runs.
        (JobState::Absent, MemberState::Present { replicas, .. }) if *replicas >= stopped.replicas => {
            Some(Step::StartMember(None))
        }
        (JobState::Absent, _) if may_be_uncreated(gone, pass.now) => None,
        _ => Some(Step::StartMember(put_back(stopped, seen))),
    }
}

/// A wait while a member is stopped: nothing tells when somebody scales its StatefulSet.
pub(super) fn watchful(waiting: Waiting) -> Waiting {
    Waiting { look_again: waiting.look_again.min(LOOK_WHILE_COPYING), ..waiting }
}

/// The replicas to put back, if they are as the backup left them: what somebody else has made of them since stays.
pub fn put_back(stopped: &StoppedMember, seen: &MemberState) -> Option<ScaleTo> {
    match seen {
        MemberState::Present { replicas, resource_version, .. } if *replicas == stopped.replicas - 1 => {
            Some(ScaleTo { replicas: stopped.replicas, resource_version: resource_version.clone() })
        }
        MemberState::Present { .. } | MemberState::WorkloadGone => None,
    }
}

/// An attempt whose member is not gone yet: everything is checked while that still serves, then it is stopped. It is gone
/// when its pod is gone from the API, and its registration from ZooKeeper.
pub(super) fn stop(
    pass: &Pass<'_>,
    attempt: &Attempt,
    stopped: &StoppedMember,
    seen: &MemberState,
    check: Check,
) -> Step {
    let MemberState::Present { replicas, generation, resource_version, settled, registered } = seen else {
        return Step::CloseAttempt(Ending::new(
            Reason::WorkloadMissing,
            format!("the StatefulSet of pod {} was deleted or replaced before the pod was stopped", stopped.pod),
        ));
    };
    let limit = pass.backup.pod_start_deadline + CHECK_DEADLINE + STOP_DEADLINE;
    let down = stopped.replicas - 1;
    match *replicas {
        _ if deadline_left(pass.backup, pass.status, pass.now).is_none() => {
            Step::CloseAttempt(out_of_time(pass.status))
        }
        now if now == stopped.replicas && since(attempt.start_time, pass.now) >= limit => {
            Step::CloseAttempt(Ending::new(Reason::JobLost, "the Job that checks the volumes did not end in time"))
        }
        _ if since(attempt.start_time, pass.now) >= limit => {
            Step::CloseAttempt(did_not_stop(stopped, *settled, registered.as_ref()))
        }
        now if now == stopped.replicas && *generation == stopped.generation => {
            let to = ScaleTo { replicas: down, resource_version: resource_version.clone() };
            judge_check(pass, attempt, stopped, check).unwrap_or(Step::StopMember(to))
        }
        now if now == down && *settled && matches!(registered, Some(Ok(false))) => {
            let stopped = StoppedMember { gone_time: Some(now_seconds(pass.now)), ..stopped.clone() };
            let attempt = Attempt { stopped: Some(stopped), ..attempt.clone() };
            Step::Start { attempt: Box::new(attempt), take_lock: false }
        }
        now if now == down => {
            let look_again = (since(attempt.start_time, pass.now) / 10).clamp(LOOK.0, LOOK.1);
            Step::Wait(Waiting { look_again, ..running(pass.status) })
        }
        now => Step::CloseAttempt(scaled_meanwhile(stopped, now)),
    }
}

/// What is left of the Job that checks whether a copy can be made.
pub(super) struct Check {
    /// The Job.
    pub job: JobState,
    /// Whether a pod of it is still there although the Job is gone.
    pub pod: bool,
}

/// What the Job that checks asks for; nothing when it found that a copy can be made, and is over.
fn judge_check(pass: &Pass<'_>, attempt: &Attempt, stopped: &StoppedMember, check: Check) -> Option<Step> {
    let close = |reason, message: String| Some(Step::CloseAttempt(Ending::new(reason, message)));
    match (check.job, stopped.checked_time) {
        // It is deleted before the member is stopped: what keeps its pod would keep the member's volume, too.
        (job, Some(_)) => match job.at_work() {
            Some(job) => Some(Step::DeleteJob(job)),
            None => check.pod.then(|| Step::Wait(Waiting { look_again: LOOK.0, ..running(pass.status) })),
        },
        (JobState::Absent, None) if may_be_uncreated(attempt.start_time, pass.now) => Some(Step::Check),
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

fn did_not_stop(
    stopped: &StoppedMember,
    pod_gone: bool,
    registered: Option<&Result<bool, crate::discovery::DiscoveryError>>,
) -> Ending {
    let still = match registered {
        _ if !pod_gone => "its pod is still there".to_owned(),
        Some(Err(error)) => format!("whether it is still registered in ZooKeeper cannot be told: {error}"),
        _ => format!("member {} is still registered in ZooKeeper", stopped.member_id),
    };
    let message = format!("pod {} did not stop in time: {still}; see its log", stopped.pod);
    Ending::new(Reason::MemberDidNotStop, message)
}

fn scaled_meanwhile(stopped: &StoppedMember, replicas: i32) -> Ending {
    let message = format!(
        "somebody scaled the StatefulSet to {replicas} while pod {} was to be stopped and copied: let nothing else set its \
         replicas meanwhile (an autoscaler, a GitOps tool), and create a new GraphBackup",
        stopped.pod
    );
    Ending::new(Reason::ScaledMeanwhile, message)
}

#[cfg(test)]
mod tests;
