//! Reads what the next step depends on: live, so that nothing stale decides.

use super::build::{AGENT_CONTAINER, Task};
use super::cold;
use super::decide::{attempt_due, open_attempt};
use super::points::Points;
use super::removal::Remains;
use super::status::is_terminal;
use super::validate::ValidBackup;
use super::world::{Adoption, Ground, JobRef, JobState, MemberState, Obstacle, PodStart, Site, SiteLock, World};
use crate::agent::run::Owner;
use crate::agent::verdict::Verdict;
use crate::api::names::{ATTEMPT_LABEL, BACKUP_UID_LABEL, TASK_LABEL, adopt_job, check_job, prune_job};
use crate::api::{Attempt, BackupType, Cold, Fence, GraphBackup, GraphBackupStatus, ProbeMark, StoppedMember, StoreId};
use crate::client::{CallError, call};
use crate::cluster_lock::{ClusterLocks, HeldLock, Lock};
use crate::discovery::{Discovery, Located};
use chrono::{DateTime, Utc};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Pods of one Job are few; a list longer than this is cut.
const PODS_MAX: u32 = 20;
/// Reasons with which a container waits for its image.
const IMAGE_REASONS: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"];

/// What looking needs.
#[derive(Clone, Copy)]
pub struct Eyes<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// Finds the master.
    pub discovery: &'a dyn Discovery,
    /// The locks of the database clusters.
    pub locks: &'a ClusterLocks,
    /// The points of other objects.
    pub points: &'a dyn Points,
}

/// Reads the world for the next decision.
pub async fn observe(
    eyes: &Eyes<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<World, CallError> {
    if let Some(store) = backup.adopt {
        return observe_adoption(eyes, backup, store).await;
    }
    match open_attempt(status) {
        Some(attempt) => observe_open(eyes, backup, attempt).await,
        None => observe_idle(eyes, backup, status, now).await,
    }
}

async fn observe_adoption(eyes: &Eyes<'_>, backup: &ValidBackup, store: StoreId) -> Result<World, CallError> {
    let name = adopt_job(&backup.owner.name, &backup.owner.uid);
    let job = get_job(eyes.client, backup, &name).await?;
    let job = object_job_state(eyes.client, backup, job.as_ref(), Task::Inspect).await?;
    let claim = get_claim(eyes.client, backup).await?;
    Ok(World::Adopting(Adoption { claim, taken_by: eyes.points.taken_by(backup, store), job }))
}

async fn observe_open(eyes: &Eyes<'_>, backup: &ValidBackup, attempt: &Attempt) -> Result<World, CallError> {
    let client = eyes.client;
    let member = member_state(eyes, backup, attempt).await?;
    let is_to_stop = cold::away(attempt).is_some_and(|stopped| stopped.gone_time.is_none());
    let member = match member {
        Some(member) if is_to_stop => return observe_stopping(client, backup, attempt, member).await,
        member => member,
    };
    let state = job_state(client, backup, attempt, &attempt.job, Task::Backup).await?;
    let inspect = match &attempt.inspection {
        Some(inspection) => job_state(client, backup, attempt, &inspection.job, Task::Inspect).await?,
        None => JobState::Absent,
    };
    Ok(World::Open { backup: state, inspect, member })
}

async fn observe_stopping(
    client: &Client,
    backup: &ValidBackup,
    attempt: &Attempt,
    member: MemberState,
) -> Result<World, CallError> {
    let wanted = attempt.stopped.as_ref().map(|stopped| stopped.replicas);
    let check = match &member {
        MemberState::Present { replicas, .. } if Some(*replicas) == wanted => {
            let name = check_job(&backup.owner.name, &backup.owner.uid, attempt.number);
            job_state(client, backup, attempt, &name, Task::Check).await?
        }
        // It has done its part.
        MemberState::Present { .. } | MemberState::WorkloadGone => JobState::Absent,
    };
    Ok(World::Stopping { check, member })
}

async fn observe_idle(
    eyes: &Eyes<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<World, CallError> {
    let leftover = match status.attempts.last() {
        Some(attempt) => leftover(eyes.client, backup, attempt).await?,
        None => None,
    };
    let member = match status.attempts.last() {
        Some(attempt) => member_state(eyes, backup, attempt).await?,
        None => None,
    };
    let due = leftover.is_none() && member.is_none() && attempt_due(backup, status, now);
    let ground = if due { Some(ground(eyes, backup).await?) } else { None };
    Ok(World::Idle { leftover, member, ground })
}

/// The member that an attempt stops, as long as its replicas are not put back.
async fn member_state(
    eyes: &Eyes<'_>,
    backup: &ValidBackup,
    attempt: &Attempt,
) -> Result<Option<MemberState>, CallError> {
    let (Some(cold), Some(stopped)) = (&backup.cold, cold::away(attempt)) else { return Ok(None) };
    let mut state = scale_state(eyes.client, backup, cold, stopped).await?;
    if let MemberState::Present { settled: true, replicas, registered, .. } = &mut state
        && *replicas < stopped.replicas
        && stopped.gone_time.is_none()
    {
        let members = eyes.discovery.members(&backup.source, backup.cluster_name.as_deref()).await;
        *registered = Some(members.map(|members| members.iter().any(|member| member.id == stopped.member_id)));
    }
    Ok(Some(state))
}

/// The StatefulSet of a stopped member.
pub async fn scale_state(
    client: &Client,
    backup: &ValidBackup,
    cold: &Cold,
    stopped: &StoppedMember,
) -> Result<MemberState, CallError> {
    let set = get_workload(client, backup, cold).await?;
    let set = set.filter(|set| set.metadata.uid.as_deref() == Some(&stopped.stateful_set_uid));
    let Some(set) = set else { return Ok(MemberState::WorkloadGone) };
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let settled = set
        .status
        .as_ref()
        .is_some_and(|status| status.observed_generation >= set.metadata.generation && status.replicas == replicas);
    Ok(MemberState::Present {
        replicas,
        generation: set.metadata.generation.unwrap_or_default(),
        resource_version: set.resource_version().unwrap_or_default(),
        settled,
        registered: None,
    })
}

async fn get_workload(client: &Client, backup: &ValidBackup, cold: &Cold) -> Result<Option<StatefulSet>, CallError> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &backup.owner.namespace);
    call("read the StatefulSet of the members", sets.get_opt(&cold.workload.stateful_set)).await
}

/// A Job of a closed attempt that still works.
async fn leftover(client: &Client, backup: &ValidBackup, attempt: &Attempt) -> Result<Option<JobRef>, CallError> {
    let (name, uid) = (&backup.owner.name, &backup.owner.uid);
    let check = attempt.stopped.as_ref().map(|_| check_job(name, uid, attempt.number));
    let inspect = attempt.inspection.as_ref().map(|inspection| inspection.job.clone());
    for name in [Some(&attempt.job), check.as_ref(), inspect.as_ref()].into_iter().flatten() {
        if let Some(job) = get_job(client, backup, name).await?
            && is_ours(&job, backup)
            && finished(&job).is_none()
            && job.metadata.deletion_timestamp.is_none()
        {
            return Ok(Some(job_ref(&job)));
        }
    }
    Ok(None)
}

async fn ground(eyes: &Eyes<'_>, backup: &ValidBackup) -> Result<Ground, CallError> {
    if !get_claim(eyes.client, backup).await? {
        return Ok(Ground::ClaimMissing);
    }
    let mut located = match eyes.discovery.locate(&backup.source, backup.cluster_name.as_deref()).await {
        Ok(located) => located,
        Err(error) => return Ok(Ground::NotFound(error)),
    };
    let mut stopped = None;
    if let Some(cold) = &backup.cold {
        match choose(eyes, backup, cold, &located).await? {
            Choice::Member(member, of_member) => (stopped, located) = (Some(member), of_member),
            Choice::Nobody(ground) => return Ok(ground),
        }
    }
    let lock = match eyes.locks.look(located.store_id, &backup.owner).await? {
        Lock::Free => SiteLock::Free,
        Lock::Ours => SiteLock::Ours,
        Lock::Held(held) => examine_holder(eyes.client, held).await?,
    };
    let parent = match backup.backup_type {
        BackupType::Full => None,
        BackupType::Incremental | BackupType::Auto => eyes.points.newest_parent(backup, located.store_id),
    };
    Ok(Ground::Found(Box::new(Site { located, stopped, lock, parent })))
}

/// Which member a cold backup would stop.
enum Choice {
    /// This one, and what tells its store.
    Member(StoppedMember, Located),
    /// None; why.
    Nobody(Ground),
}

async fn choose(eyes: &Eyes<'_>, backup: &ValidBackup, cold: &Cold, located: &Located) -> Result<Choice, CallError> {
    let unfit = |unfit| Ok(Choice::Nobody(Ground::Unfit(unfit)));
    let target_claim = &backup.target.claim_name;
    let workload = get_workload(eyes.client, backup, cold).await?;
    let candidate = match cold::candidate(cold, workload.as_ref(), target_claim) {
        Ok(candidate) => candidate,
        Err(problem) => return unfit(problem),
    };
    let members = match eyes.discovery.members(&backup.source, backup.cluster_name.as_deref()).await {
        Ok(members) => members,
        Err(error) => return Ok(Choice::Nobody(Ground::NotFound(error))),
    };
    let master = match &located.fence {
        Fence::Master(token) => Some(token.member_id),
        Fence::Probe(_) => None,
    };
    let (id, endpoint) = match cold::registration(cold, &candidate, &members, master) {
        Ok(registered) => registered,
        Err(problem) => return unfit(problem),
    };
    // The store is told by the member it was: which one is master does not matter to it.
    let fence = Fence::Probe(ProbeMark { endpoint, store_id: located.store_id });
    let located = Located { store_id: located.store_id, fence };
    Ok(Choice::Member(cold::to_be_stopped(&candidate, id), located))
}

/// Whether a lock's holder still needs it: an object that is gone or over, and has no Job that works, does not.
async fn examine_holder(client: &Client, held: HeldLock) -> Result<SiteLock, CallError> {
    let Some(holder) = &held.holder else {
        return Ok(SiteLock::Held(format!("the unknown holder of Lease {}", held.name)));
    };
    match needs_lock(client, holder).await {
        Ok(false) => Ok(SiteLock::Abandoned(held)),
        Ok(true) => Ok(SiteLock::Held(format!("GraphBackup {}/{}", holder.namespace, holder.name))),
        // Its namespace is not watched any more: whether it works cannot be seen.
        Err(CallError::Refused { .. }) => Ok(SiteLock::Held(format!(
            "GraphBackup {}/{}, which this operator may not read (delete Lease {} if it does not work any more),",
            holder.namespace, holder.name, held.name
        ))),
        Err(error) => Err(error),
    }
}

async fn needs_lock(client: &Client, holder: &Owner) -> Result<bool, CallError> {
    let backups: Api<GraphBackup> = Api::namespaced(client.clone(), &holder.namespace);
    let object = call("read the GraphBackup that holds a lock", backups.get_opt(&holder.name)).await?;
    let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&holder.uid));
    let at_work = object.is_some_and(|object| !object.status.as_ref().is_some_and(is_terminal));
    Ok(at_work || works(client, &holder.namespace, &holder.uid).await?)
}

/// Whether a Job of the object works.
async fn works(client: &Client, namespace: &str, uid: &str) -> Result<bool, CallError> {
    Ok(jobs_of(client, namespace, uid).await?.iter().any(|job| finished(job).is_none()))
}

async fn jobs_of(client: &Client, namespace: &str, uid: &str) -> Result<Vec<Job>, CallError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{BACKUP_UID_LABEL}={uid}");
    Ok(call("list the Jobs of an object", jobs.list(&ListParams::default().labels(&selector))).await?.items)
}

/// Reads what is left of a deleted object.
pub async fn observe_remains(
    client: &Client,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
) -> Result<Remains, CallError> {
    let jobs = jobs_of(client, &backup.owner.namespace, &backup.owner.uid).await?;
    let prunes = |job: &Job| job.labels().get(TASK_LABEL).map(String::as_str) == Some(Task::Prune.word());
    let at_work = |job: &&Job| {
        !prunes(job) && is_ours(job, backup) && finished(job).is_none() && job.metadata.deletion_timestamp.is_none()
    };
    let claim = get_claim(client, backup).await?;
    let stopped = status.attempts.last().and_then(cold::away);
    let member = match (&backup.cold, stopped) {
        (Some(cold), Some(stopped)) => Some(scale_state(client, backup, cold, stopped).await?),
        _ => None,
    };
    let name = prune_job(&backup.owner.name, &backup.owner.uid);
    let job = get_job(client, backup, &name).await?;
    let prune = object_job_state(client, backup, job.as_ref(), Task::Prune).await?;
    Ok(Remains {
        at_work: jobs.iter().filter(at_work).map(job_ref).collect(),
        member,
        claim,
        prune,
        prune_job: job.map(|job| (job_ref(&job), created(&job))),
    })
}

/// Whether the object's namespace is being deleted, as far as this operator may know.
pub async fn namespace_goes(client: &Client, backup: &ValidBackup) -> bool {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = call("read a namespace", namespaces.get_metadata_opt(&backup.owner.namespace)).await;
    namespace.ok().flatten().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
}

/// State of a Job that belongs to no attempt.
async fn object_job_state(
    client: &Client,
    backup: &ValidBackup,
    job: Option<&Job>,
    task: Task,
) -> Result<JobState, CallError> {
    match job {
        None => Ok(JobState::Absent),
        Some(job) if !is_ours(job, backup) => Ok(JobState::Foreign),
        Some(job) => {
            let selector = format!("{BACKUP_UID_LABEL}={},{TASK_LABEL}={}", backup.owner.uid, task.word());
            Ok(summarize(job, &pods(client, backup, &selector).await?))
        }
    }
}

fn created(job: &Job) -> DateTime<Utc> {
    job.creation_timestamp().as_ref().map(to_chrono).unwrap_or_default()
}

/// Whether the target claim is there.
async fn get_claim(client: &Client, backup: &ValidBackup) -> Result<bool, CallError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &backup.owner.namespace);
    Ok(call("read the target claim", claims.get_metadata_opt(&backup.target.claim_name)).await?.is_some())
}

async fn get_job(client: &Client, backup: &ValidBackup, name: &str) -> Result<Option<Job>, CallError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &backup.owner.namespace);
    call("read a Job", jobs.get_opt(name)).await
}

async fn job_state(
    client: &Client,
    backup: &ValidBackup,
    attempt: &Attempt,
    name: &str,
    task: Task,
) -> Result<JobState, CallError> {
    let Some(job) = get_job(client, backup, name).await? else { return Ok(JobState::Absent) };
    if !is_ours(&job, backup) {
        return Ok(JobState::Foreign);
    }
    let selector = format!(
        "{BACKUP_UID_LABEL}={},{ATTEMPT_LABEL}={},{TASK_LABEL}={}",
        backup.owner.uid,
        attempt.number,
        task.word()
    );
    Ok(summarize(&job, &pods(client, backup, &selector).await?))
}

async fn pods(client: &Client, backup: &ValidBackup, selector: &str) -> Result<Vec<Pod>, CallError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &backup.owner.namespace);
    let params = ListParams::default().labels(selector).limit(PODS_MAX);
    Ok(call("list a Job's pods", pods.list(&params)).await?.items)
}

/// What a Job and its pods say together. Pure.
pub fn summarize(job: &Job, pods: &[Pod]) -> JobState {
    let newest = pods.iter().max_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
    let published = |pod: &&Pod| matches!(verdict(pod), Some(Verdict::Published(_)));
    match finished(job) {
        Some(deadline_exceeded) => {
            let telling = pods.iter().find(published).or(newest);
            JobState::Ended {
                deadline_exceeded,
                pod_uid: telling.and_then(ResourceExt::uid),
                verdict: telling.and_then(verdict),
            }
        }
        None => JobState::Active {
            job: job_ref(job),
            created: created(job),
            start: match newest {
                _ if has_run(job) => PodStart::Started,
                Some(pod) => pod_start(pod),
                None => PodStart::Waiting(Obstacle::NoneKnown),
            },
        },
    }
}

fn is_ours(job: &Job, backup: &ValidBackup) -> bool {
    job.owner_references().iter().any(|owner| owner.uid == backup.owner.uid && owner.controller == Some(true))
}

fn job_ref(job: &Job) -> JobRef {
    JobRef { name: job.name_any(), uid: job.uid().unwrap_or_default() }
}

/// `None` while the Job works; else whether it ended for its deadline.
fn finished(job: &Job) -> Option<bool> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| c.status == "True" && (c.type_ == "Complete" || c.type_ == "Failed"))?;
    Some(ended.reason.as_deref() == Some("DeadlineExceeded"))
}

/// Whether a pod of the Job has run and is over, though the Job controller has not ended the Job yet: the pod itself may
/// be gone by then.
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

fn agent_container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == AGENT_CONTAINER)
}

fn verdict(pod: &Pod) -> Option<Verdict> {
    let terminated = agent_container(pod)?.state.as_ref()?.terminated.as_ref()?;
    Verdict::read(terminated.message.as_deref()?)
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

fn to_chrono(time: &Time) -> DateTime<Utc> {
    DateTime::from_timestamp(time.0.as_second(), 0).unwrap_or_default()
}
