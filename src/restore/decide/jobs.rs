//! What the Jobs of the members say.

use super::Pass;
use crate::api::{MemberRecord, Reason};
use crate::contract::task::Task;
use crate::contract::verdict::Verdict;
use crate::controller::job::{JobRef, JobState, Obstacle as PodObstacle, PodStart};
use crate::controller::pace::since;
use crate::restore::build::{Made, job_name};
use crate::restore::step::{Action, Obstacle};
use std::time::Duration;

/// From the creation of a Job to the start of its container, at most.
const POD_START: Duration = Duration::from_mins(5);

/// What became of a member's Job.
pub(super) enum Work {
    /// It is to be created.
    Create,
    /// It works; what it waits for.
    Works(String),
    /// Its agent has answered.
    Answered(Box<Verdict>),
    /// It has ended without an answer: it is to be deleted, and created again.
    Again(Option<JobRef>, String),
    /// It has failed.
    Failed(Obstacle),
}

impl Pass<'_> {
    pub(super) fn made<'b>(&'b self, member: &'b MemberRecord) -> Made<'b> {
        Made {
            restore: self.restore,
            set: self.world.set.as_ref(),
            member,
            has_pod: self.world.pods.iter().any(|pod| pod.name == member.pod && !pod.is_terminating),
            original: self.world.volumes.get(&member.original.name),
            operator_image: self.operator_image,
        }
    }

    pub(super) fn work(&self, task: Task, member: &MemberRecord) -> Work {
        let name = job_name(self.restore, task, member.ordinal);
        let pod = &member.pod;
        let seen = self.world.jobs.get(&name);
        match seen.map(|seen| (&seen.state, seen.is_terminating)) {
            None | Some((JobState::Absent, _)) => Work::Create,
            Some((_, true)) => Work::Works(format!("Job {name} is being deleted")),
            Some((JobState::Foreign, _)) => {
                Work::Failed(Obstacle::new(Reason::NameTaken, format!("a foreign Job has the name {name}: delete it")))
            }
            Some((JobState::Active { start: PodStart::Waiting(obstacle), created, .. }, _)) => {
                let words = words(obstacle);
                let limit = if task == Task::Carry { self.restore.deadlines.stop } else { POD_START };
                if since(*created, self.now) > limit {
                    let reason = reason(obstacle);
                    return Work::Failed(Obstacle::new(
                        reason,
                        format!("the pod of Job {name} did not start within {} s: {words}", limit.as_secs()),
                    ));
                }
                Work::Works(format!("the pod of Job {name} has not started: {words}"))
            }
            Some((JobState::Active { .. }, _)) => Work::Works(format!("Job {name} works for member {pod}")),
            Some((JobState::Ended { verdict: Some(Verdict::Failed(failure)), .. }, _)) => {
                Work::Failed(Obstacle::new(failure.reason, format!("member {pod}: {}", failure.message)))
            }
            Some((JobState::Ended { verdict: Some(verdict), .. }, _)) => Work::Answered(Box::new(verdict.clone())),
            Some((JobState::Ended { deadline_exceeded: true, .. }, _)) => {
                Work::Failed(Obstacle::new(Reason::DeadlineExceeded, format!("Job {name} did not end in time")))
            }
            Some((JobState::Ended { out_of_memory: Some(limit), .. }, _)) => Work::Failed(Obstacle::new(
                Reason::ToolKilled,
                format!(
                    "the agent of Job {name} was killed at its memory limit {limit}: raise spec.podTemplate.resources"
                ),
            )),
            // Its pod is gone, with its answer: it is asked again, within the limit of the step.
            Some((JobState::Ended { .. }, _)) => Work::Again(seen.map(|seen| seen.job.clone()), name),
        }
    }

    /// Deletes the Jobs that are left, and waits until they and their pods are gone: a pod that has ended still keeps
    /// its claims. Nothing where none is left.
    pub(super) fn without_jobs(&self) -> Option<(Vec<Action>, Obstacle)> {
        let ours = self.world.jobs.values().filter(|seen| !matches!(seen.state, JobState::Foreign));
        let left: Vec<_> = ours.clone().filter(|seen| !seen.is_terminating).map(|seen| seen.job.clone()).collect();
        if ours.count() == 0 && self.world.job_pods == 0 {
            return None;
        }
        let message = format!("{} pods of the restore's own Jobs are being removed", self.world.job_pods);
        let obstacle = Obstacle::new(Reason::Staging, message);
        Some((left.into_iter().map(Action::DeleteJob).collect(), obstacle))
    }
}

fn words(obstacle: &PodObstacle) -> String {
    match obstacle {
        PodObstacle::NoneKnown => "nothing is known to be wrong".to_owned(),
        PodObstacle::Image(text) | PodObstacle::Other(text) => text.clone(),
    }
}

fn reason(obstacle: &PodObstacle) -> Reason {
    match obstacle {
        PodObstacle::Image(_) => Reason::ImageCannotBePulled,
        PodObstacle::Other(text) if text.contains("volume node affinity") => Reason::TopologyMismatch,
        PodObstacle::NoneKnown | PodObstacle::Other(_) => Reason::PodCannotStart,
    }
}
