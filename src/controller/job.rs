//! What a Job and its pods say together. Pure.

use super::pod::AGENT_CONTAINER;
use crate::contract::verdict::Verdict;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// An object by name and UID, for a delete that cannot hit another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRef {
    /// Name of the Job.
    pub name: String,
    /// UID of the Job.
    pub uid: String,
}

/// State of one Job of ours.
#[derive(Debug)]
pub enum JobState {
    /// There is none of this name.
    Absent,
    /// There is one of this name, but it is not ours.
    Foreign,
    /// It works, or waits to.
    Active {
        /// The Job.
        job: JobRef,
        /// When it was created.
        created: DateTime<Utc>,
        /// Whether its pod's containers have started, and if not, what keeps them.
        start: PodStart,
    },
    /// The agent has ended, or the Job has.
    Ended {
        /// Whether the Job controller ended it for `activeDeadlineSeconds`.
        deadline_exceeded: bool,
        /// UID of the pod whose verdict this is, or of the newest one.
        pod_uid: Option<String>,
        /// The agent's answer, if a pod still holds it.
        verdict: Option<Verdict>,
        /// The memory limit at which the agent was killed, if it was; empty where it had none.
        out_of_memory: Option<String>,
        /// The Job, if something else than the agent keeps its pod running.
        lingering: Option<JobRef>,
    },
}

impl JobState {
    /// The Job, if it still works or something keeps its pod.
    pub fn working(&self) -> Option<JobRef> {
        match self {
            Self::Active { job, .. } | Self::Ended { lingering: Some(job), .. } => Some(job.clone()),
            Self::Absent | Self::Foreign | Self::Ended { lingering: None, .. } => None,
        }
    }
}

/// How far a Job's pod came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodStart {
    /// The tool's container has started.
    Started,
    /// It has not, and this is what the cluster says about it.
    Waiting(Obstacle),
    /// The Job has a pod, but it cannot be found: it may work.
    Unseen,
}

/// What keeps a pod from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing is known to be wrong yet.
    NoneKnown,
    /// An image cannot be pulled; the text names it.
    Image(String),
    /// Scheduling, volumes, or the container's configuration; the text says which.
    Other(String),
}

/// Reasons with which a container waits for its image.
const IMAGE_REASONS: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"];

/// What a Job and its pods say together: evidence is only what a pod says whose controller is this very Job. Labels are
/// not: anybody may set them. The agent's own container decides when the work is over, whatever else runs in its pod.
pub fn summarize(job: &Job, pods: &[Pod]) -> JobState {
    let ours: Vec<&Pod> = pods.iter().filter(|pod| is_of(pod, job)).collect();
    let newest = ours.iter().copied().max_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
    let proves = |pod: &&Pod| matches!(verdict(pod), Some(Verdict::Published(_) | Verdict::Drilled(_)));
    let over = finished(job);
    if over.is_none() && newest.and_then(terminated).is_none() {
        return JobState::Active {
            job: job_ref(job),
            created: created(job),
            start: match newest {
                _ if has_run(job) => PodStart::Started,
                Some(pod) => pod_start(pod),
                None if has_pods(job) => PodStart::Unseen,
                None => PodStart::Waiting(Obstacle::NoneKnown),
            },
        };
    }
    let telling = ours.iter().copied().find(proves).or(newest);
    JobState::Ended {
        deadline_exceeded: over.unwrap_or_else(|| is_cut_off(job)),
        pod_uid: telling.and_then(ResourceExt::uid),
        verdict: telling.and_then(verdict),
        out_of_memory: telling.and_then(out_of_memory),
        lingering: (over.is_none() && newest.is_some_and(is_held_up)).then(|| job_ref(job)),
    }
}

fn is_of(pod: &Pod, job: &Job) -> bool {
    let uid = job.metadata.uid.as_ref();
    pod.owner_references().iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == uid)
}

/// The Job of a reference that a delete cannot miss.
pub fn job_ref(job: &Job) -> JobRef {
    JobRef { name: job.name_any(), uid: job.uid().unwrap_or_default() }
}

/// `None` while the Job works; else whether it ended for its deadline.
pub fn finished(job: &Job) -> Option<bool> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| c.status == "True" && (c.type_ == "Complete" || c.type_ == "Failed"))?;
    Some(ended.reason.as_deref() == Some("DeadlineExceeded"))
}

/// Whether the Job controller ends the Job for its `activeDeadlineSeconds`.
fn is_cut_off(job: &Job) -> bool {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .any(|c| c.status == "True" && c.type_ == "FailureTarget" && c.reason.as_deref() == Some("DeadlineExceeded"))
}

/// Whether the Job controller counts a pod that is not over: one was made, whoever hides it.
fn has_pods(job: &Job) -> bool {
    let count =
        job.status.as_ref().map(|status| status.active.unwrap_or_default() + status.terminating.unwrap_or_default());
    count.is_some_and(|pods| pods > 0)
}

/// Whether a pod of the Job has run and is over, though the Job controller has not ended the Job yet: the pod itself
/// may be gone by then.
fn has_run(job: &Job) -> bool {
    let Some(status) = &job.status else { return false };
    let counted = status.failed.unwrap_or_default() + status.succeeded.unwrap_or_default() > 0;
    let noted = status
        .uncounted_terminated_pods
        .as_ref()
        .is_some_and(|pods| [&pods.failed, &pods.succeeded].into_iter().flatten().any(|uids| !uids.is_empty()));
    let ending = status.conditions.iter().flatten().any(|condition| {
        condition.status == "True" && (condition.type_ == "FailureTarget" || condition.type_ == "SuccessCriteriaMet")
    });
    counted || noted || ending
}

/// Whether a pod has ended, with all its containers.
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the agent of a pod may still work: it has not ended, and neither has the pod.
pub fn is_working(pod: &Pod) -> bool {
    !is_over(pod) && terminated(pod).is_none()
}

fn agent_container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == AGENT_CONTAINER)
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    agent_container(pod)?.state.as_ref()?.terminated.as_ref()
}

fn verdict(pod: &Pod) -> Option<Verdict> {
    Verdict::read(terminated(pod)?.message.as_deref()?)
}

/// Whether another container keeps a pod whose agent has ended. Sidecars among the init containers do not: the kubelet
/// ends them.
fn is_held_up(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.terminated.is_some());
    statuses.into_iter().any(|container| container.name != AGENT_CONTAINER && !ended(container))
}

/// The memory limit of an agent's container that the kernel killed for it, as the pod has it; empty without a limit.
fn out_of_memory(pod: &Pod) -> Option<String> {
    terminated(pod).filter(|ended| ended.reason.as_deref() == Some("OOMKilled"))?;
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == AGENT_CONTAINER)?;
    let limit = container.resources.as_ref().and_then(|resources| resources.limits.as_ref()?.get("memory"));
    Some(limit.map(|limit| limit.0.clone()).unwrap_or_default())
}

fn pod_start(pod: &Pod) -> PodStart {
    let main = agent_container(pod).and_then(|container| container.state.as_ref());
    if main.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
        return PodStart::Started;
    }
    PodStart::Waiting(container_obstacle(pod).or_else(|| pod_obstacle(pod)).unwrap_or(Obstacle::NoneKnown))
}

/// A container that waits for its image or its configuration, init containers first.
fn container_obstacle(pod: &Pod) -> Option<Obstacle> {
    let status = pod.status.as_ref()?;
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter().flatten().flatten().find_map(|container| {
        let state = container.state.as_ref()?;
        if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
            let said = ended.message.as_deref().or(ended.reason.as_deref()).unwrap_or_default();
            return Some(Obstacle::Other(format!(
                "container {} exited with code {}: {said}",
                container.name, ended.exit_code
            )));
        }
        let waiting = state.waiting.as_ref()?;
        let reason =
            waiting.reason.as_deref().filter(|reason| !matches!(*reason, "PodInitializing" | "ContainerCreating"))?;
        let text = format!("image {}: {reason}: {}", container.image, waiting.message.as_deref().unwrap_or_default());
        Some(if IMAGE_REASONS.contains(&reason) {
            Obstacle::Image(text)
        } else {
            Obstacle::Other(format!(
                "container {}: {reason}: {}",
                container.name,
                waiting.message.as_deref().unwrap_or_default()
            ))
        })
    })
}

/// A pod that is not scheduled or whose volumes are not there.
fn pod_obstacle(pod: &Pod) -> Option<Obstacle> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions
        .iter()
        .find(|c| c.status == "False" && (c.type_ == "PodScheduled" || c.type_ == "PodReadyToStartContainers"))?;
    let said = failed.message.as_deref().or(failed.reason.as_deref()).unwrap_or("no more is known");
    Some(Obstacle::Other(match failed.type_.as_str() {
        "PodScheduled" => format!("it cannot be scheduled: {said}"),
        _ => "its volumes or its sandbox are not ready: see the Events of the pod".to_owned(),
    }))
}

/// When the Job was created.
pub fn created(job: &Job) -> DateTime<Utc> {
    job.creation_timestamp().as_ref().map(to_chrono).unwrap_or_default()
}

/// A time of the API server, to the second.
pub fn to_chrono(time: &Time) -> DateTime<Utc> {
    DateTime::from_timestamp(time.0.as_second(), 0).unwrap_or_default()
}

#[cfg(test)]
mod tests;
