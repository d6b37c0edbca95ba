//! Reads what the next step depends on: live, so that nothing stale decides.

use super::decide::{attempt_due, open_attempt};
use super::points::Points;
use super::status::is_terminal;
use super::validate::ValidBackup;
use super::world::{Adoption, Ground, JobRef, JobState, MemberState, Site, SiteLock, World};
use crate::api::Owner;
use crate::api::names::{ATTEMPT_LABEL, BACKUP_UID_LABEL, TASK_LABEL, check_job, prune_job};
use crate::api::{
    Attempt, BackupType, Cold, GraphBackup, GraphBackupStatus, Mastership, ProbeMark, StoppedMember, StoreId,
};
use crate::backup::decide::cold;
use crate::backup::decide::removal::Remains;
use crate::contract::task::Task;
use crate::controller::call::{CallError, call, list};
use crate::controller::job::{created, finished, job_ref, summarize};
use crate::controller::lock::{ClusterLocks, HeldLock, Lock};
use crate::discovery::{Discovery, DiscoveryError, Located};
use chrono::{DateTime, Utc};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::{Api, Client, ResourceExt};

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
        return observe_adoption(eyes, backup, status, store).await;
    }
    match open_attempt(status) {
        Some(attempt) => observe_open(eyes, backup, attempt).await,
        None => observe_idle(eyes, backup, status, now).await,
    }
}

async fn observe_adoption(
    eyes: &Eyes<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    store: StoreId,
) -> Result<World, CallError> {
    let job = match &status.adoption {
        Some(reading) => get_job(eyes.client, backup, &reading.job).await?,
        None => None,
    };
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
    let away = member_away(eyes, backup, attempt).await?;
    Ok(World::Open { backup: state, inspect, member, away })
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
    let checked = attempt.stopped.as_ref().is_some_and(|stopped| stopped.checked_time.is_some());
    let check_pod = match check {
        JobState::Absent if checked => has_live_pod(client, backup, attempt, Task::Check).await?,
        _ => false,
    };
    Ok(World::Stopping { check, check_pod, member })
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
    let away = match status.attempts.last() {
        Some(attempt) => member_away(eyes, backup, attempt).await?,
        None => None,
    };
    let due = leftover.is_none() && member.is_none() && attempt_due(backup, status, now);
    let ground = if due { Some(ground(eyes, backup).await?) } else { None };
    Ok(World::Idle { leftover, member, away, ground })
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
        *registered = Some(is_registered(eyes.discovery, backup, stopped).await);
    }
    Ok(Some(state))
}

/// How the member is whose replicas were put back, if it is to come back and is not registered yet.
async fn member_away(eyes: &Eyes<'_>, backup: &ValidBackup, attempt: &Attempt) -> Result<Option<String>, CallError> {
    let (Some(cold), Some(stopped)) = (&backup.cold, cold::returning(attempt)) else { return Ok(None) };
    match scale_state(eyes.client, backup, cold, stopped).await? {
        MemberState::Present { replicas, generation, .. }
            if replicas >= stopped.replicas && generation != stopped.generation => {}
        // It was never stopped, or somebody else does not want it.
        MemberState::Present { .. } | MemberState::WorkloadGone => return Ok(None),
    }
    Ok(match is_registered(eyes.discovery, backup, stopped).await {
        Ok(true) => None,
        Ok(false) => Some("it is not registered in ZooKeeper".to_owned()),
        Err(error) => Some(format!("whether it is registered in ZooKeeper cannot be told: {error}")),
    })
}

/// Whether a member is registered in ZooKeeper.
async fn is_registered(
    discovery: &dyn Discovery,
    backup: &ValidBackup,
    stopped: &StoppedMember,
) -> Result<bool, DiscoveryError> {
    let members = discovery.members(&backup.source, backup.cluster_name.as_deref()).await?;
    Ok(members.iter().any(|member| member.id == stopped.member_id))
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

/// Whether a pod of an attempt's Jobs is not over yet.
async fn has_live_pod(client: &Client, backup: &ValidBackup, attempt: &Attempt, task: Task) -> Result<bool, CallError> {
    let pods = pods(client, backup, &selector(backup, attempt, task)).await?;
    let is_over = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(!pods.iter().all(is_over))
}

/// A Job of a closed attempt that still works, or whose pod something else than the agent keeps.
async fn leftover(client: &Client, backup: &ValidBackup, attempt: &Attempt) -> Result<Option<JobRef>, CallError> {
    let (name, uid) = (&backup.owner.name, &backup.owner.uid);
    let check = attempt.stopped.as_ref().map(|_| check_job(name, uid, attempt.number));
    let inspect = attempt.inspection.as_ref().map(|inspection| inspection.job.clone());
    let jobs = [(Some(&attempt.job), Task::Backup), (check.as_ref(), Task::Check), (inspect.as_ref(), Task::Inspect)];
    for (name, task) in jobs.into_iter().filter_map(|(name, task)| Some((name?, task))) {
        let Some(job) = get_job(client, backup, name).await? else { continue };
        if !is_ours(&job, backup) || finished(&job).is_some() || job.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let pods = pods(client, backup, &selector(backup, attempt, task)).await?;
        match summarize(&job, &pods) {
            JobState::Active { job, .. } | JobState::Ended { lingering: Some(job), .. } => return Ok(Some(job)),
            JobState::Ended { lingering: None, .. } | JobState::Absent | JobState::Foreign => {}
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
    let master = match &located.mastership {
        Mastership::Master(token) => Some(token.member_id),
        Mastership::Probe(_) => None,
    };
    let (id, endpoint) = match cold::registration(cold, &candidate, &members, master) {
        Ok(registered) => registered,
        Err(problem) => return unfit(problem),
    };
    // The store is told by the member it was: which one is master does not matter to it.
    let mastership = Mastership::Probe(ProbeMark { endpoint, store_id: located.store_id });
    let located = Located { store_id: located.store_id, mastership };
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
    list("list the Jobs of an object", &jobs, &selector).await
}

/// Reads what is left of a deleted object.
pub async fn observe_remains(
    client: &Client,
    discovery: &dyn Discovery,
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
    let registered = match stopped.filter(|stopped| stopped.gone_time.is_none()) {
        // Where it cannot be told it is taken for registered, as long as that is waited for.
        Some(stopped) => is_registered(discovery, backup, stopped).await.unwrap_or(true),
        None => false,
    };
    let name = prune_job(&backup.owner.name, &backup.owner.uid);
    let job = get_job(client, backup, &name).await?;
    let prune = object_job_state(client, backup, job.as_ref(), Task::Prune).await?;
    Ok(Remains {
        at_work: jobs.iter().filter(at_work).map(job_ref).collect(),
        member,
        registered,
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
    Ok(summarize(&job, &pods(client, backup, &selector(backup, attempt, task)).await?))
}

/// Labels of the pods of an attempt's Jobs.
fn selector(backup: &ValidBackup, attempt: &Attempt, task: Task) -> String {
    let (uid, attempt, task) = (&backup.owner.uid, attempt.number, task.word());
    format!("{BACKUP_UID_LABEL}={uid},{ATTEMPT_LABEL}={attempt},{TASK_LABEL}={task}")
}

async fn pods(client: &Client, backup: &ValidBackup, selector: &str) -> Result<Vec<Pod>, CallError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &backup.owner.namespace);
    list("list a Job's pods", &pods, selector).await
}

fn is_ours(job: &Job, backup: &ValidBackup) -> bool {
    job.owner_references().iter().any(|owner| owner.uid == backup.owner.uid && owner.controller == Some(true))
}
