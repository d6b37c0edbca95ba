//! Reads what the next step depends on: live, so that nothing stale decides.

use super::decide::attempt_due;
use super::lock_holder::{jobs_of, observe_lock};
use super::points::Points;
use super::request::Request;
use super::status::waits_for;
use super::validate::{ValidBackup, Work};
use super::world::{Adoption, Candidate, DeletionView, LockState, Open, Prerequisites, Remains, Stopping, World};
use crate::api::names::{ATTEMPT_LABEL, BACKUP_UID_LABEL, TASK_LABEL, check_job, prune_job};
use crate::api::{
    Attempt, BackupType, Cold, GraphBackup, GraphBackupStatus, Mastership, ProbeMark, Reason, StoppedMember, StoreId,
};
use crate::contract::task::Task;
use crate::controller::call::{CallError, call, list};
use crate::controller::job::{JobRef, JobState, created, finished, is_over, job_ref, summarize, to_chrono};
use crate::controller::limit::Limit;
use crate::controller::lock::ClusterLocks;
use crate::controller::namespace::is_terminating;
use crate::controller::store::Key;
use crate::discovery::{Discovery, DiscoveryError, Located};
use crate::members::choose;
use crate::members::replicas::{self, MemberState, get_workload};
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, Client, ResourceExt};

/// Observes the world for one pass.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// Finds the master.
    pub discovery: &'a dyn Discovery,
    /// The locks of the database clusters.
    pub locks: &'a ClusterLocks,
    /// The points of other objects.
    pub points: &'a dyn Points,
    /// How many backups may work at the same time. It is asked last: what cannot start takes no place.
    pub limit: &'a Limit,
}

fn key_of(backup: &ValidBackup) -> Key {
    Key { namespace: backup.owner.namespace.clone(), name: backup.owner.name.clone() }
}

/// Reads what the next decision depends on.
pub async fn observe<'a>(
    observer: &Observer<'_>,
    object: &GraphBackup,
    request: &Request,
    status: &'a GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<World<'a>, CallError> {
    match request {
        Request::Object(_) => Ok(World::NotObserved),
        Request::Removal(backup) => {
            let deleted = object.metadata.deletion_timestamp.as_ref().map_or(now, to_chrono);
            observe_deleted(observer, backup, status, deleted).await.map(World::Deleted)
        }
        Request::Backup(backup) => match (&backup.work, status.open_attempt()) {
            (Work::Adopt(store), _) => observe_adoption(observer, backup, status, *store).await,
            (Work::Online | Work::Cold(_), Some(attempt)) => observe_open(observer, backup, attempt).await,
            (Work::Online | Work::Cold(_), None) => observe_idle(observer, backup, status, now).await,
        },
    }
}

async fn observe_adoption<'a>(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    status: &'a GraphBackupStatus,
    store: StoreId,
) -> Result<World<'a>, CallError> {
    let job = match &status.adoption {
        Some(reading) => get_job(observer.client, backup, &reading.job).await?,
        None => None,
    };
    let job = object_job_state(observer.client, backup, job.as_ref(), Task::Inspect).await?;
    let claim = has_claim(observer.client, backup).await?;
    let (taken_by, ahead) = (observer.points.taken_by(backup, store), observer.points.adoptions_ahead(backup));
    Ok(World::Adopting(store, Adoption { claim, taken_by, ahead, job }))
}

async fn observe_open<'a>(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    attempt: &'a Attempt,
) -> Result<World<'a>, CallError> {
    let client = observer.client;
    let member = match member_state(observer, backup, attempt).await? {
        Some((stopped, member)) if stopped.gone_time.is_none() => {
            return observe_stopping(client, backup, attempt, stopped, member).await;
        }
        member => member,
    };
    let state = job_state(client, backup, attempt, &attempt.job, Task::Backup).await?;
    let inspect = match &attempt.inspection {
        Some(inspection) => job_state(client, backup, attempt, &inspection.job, Task::Inspect).await?,
        None => JobState::Absent,
    };
    let missing = missing_member(observer, backup, attempt).await?;
    Ok(World::Open(Open { attempt, backup: state, inspect, member, missing }))
}

async fn observe_stopping<'a>(
    client: &Client,
    backup: &ValidBackup,
    attempt: &'a Attempt,
    stopped: &'a StoppedMember,
    member: MemberState,
) -> Result<World<'a>, CallError> {
    let check = match &member {
        MemberState::Present { replicas, .. } if *replicas == stopped.replicas => {
            let name = check_job(&backup.owner.name, &backup.owner.uid, attempt.number);
            job_state(client, backup, attempt, &name, Task::Check).await?
        }
        // It has done its part.
        MemberState::Present { .. } | MemberState::WorkloadGone => JobState::Absent,
    };
    let check_pod = match check {
        JobState::Absent if stopped.checked_time.is_some() => {
            has_live_pod(client, backup, attempt, Task::Check).await?
        }
        _ => false,
    };
    Ok(World::Stopping(Stopping { attempt, stopped, member, check, check_pod }))
}

async fn observe_idle<'a>(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    status: &'a GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<World<'a>, CallError> {
    let (mut leftover, mut member, mut missing) = (None, None, None);
    if let Some(attempt) = status.attempts.last() {
        leftover = leftover_job(observer.client, backup, attempt).await?;
        let state = member_state(observer, backup, attempt).await?;
        member = state.map(|(stopped, state)| (attempt, stopped, state));
        missing = missing_member(observer, backup, attempt).await?;
    }
    let due = leftover.is_none() && member.is_none() && attempt_due(backup, status, now);
    let prerequisites = if due { Some(prerequisites(observer, backup, status).await?) } else { None };
    Ok(World::Idle { leftover, member, missing, prerequisites })
}

/// The member that an attempt stops, as long as its replicas are not put back.
async fn member_state<'a>(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    attempt: &'a Attempt,
) -> Result<Option<(&'a StoppedMember, MemberState)>, CallError> {
    let (Some(cold), Some(stopped)) = (backup.cold(), attempt.member_to_restore()) else { return Ok(None) };
    let mut state = scale_state(observer.client, backup, cold, stopped).await?;
    if let MemberState::Present { settled: true, replicas, registered, .. } = &mut state
        && *replicas < stopped.replicas
        && stopped.gone_time.is_none()
    {
        *registered = Some(is_registered(observer.discovery, backup, stopped).await);
    }
    Ok(Some((stopped, state)))
}

/// How the member is whose replicas were put back, if it is to come back and is not registered yet.
async fn missing_member(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    attempt: &Attempt,
) -> Result<Option<String>, CallError> {
    let (Some(cold), Some(stopped)) = (backup.cold(), attempt.returning_member()) else { return Ok(None) };
    match scale_state(observer.client, backup, cold, stopped).await? {
        MemberState::Present { replicas, generation, .. }
            if replicas >= stopped.replicas && generation != stopped.generation => {}
        // It was never stopped, or somebody else does not want it.
        MemberState::Present { .. } | MemberState::WorkloadGone => return Ok(None),
    }
    Ok(match is_registered(observer.discovery, backup, stopped).await {
        Ok(true) => None,
        Ok(false) => Some("it is not registered in ZooKeeper".to_owned()),
        Err(error) => Some(format!("the operator cannot tell whether it is registered in ZooKeeper: {error}")),
    })
}

async fn scale_state(
    client: &Client,
    backup: &ValidBackup,
    cold: &Cold,
    stopped: &StoppedMember,
) -> Result<MemberState, CallError> {
    replicas::member_state(client, &backup.owner.namespace, &cold.workload, stopped).await
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

/// Whether a pod of an attempt's Jobs is not over yet.
async fn has_live_pod(client: &Client, backup: &ValidBackup, attempt: &Attempt, task: Task) -> Result<bool, CallError> {
    let pods = pods(client, backup, &selector(backup, attempt, task)).await?;
    Ok(!pods.iter().all(is_over))
}

/// A Job of a closed attempt that still works, or whose pod something else than the agent keeps.
async fn leftover_job(client: &Client, backup: &ValidBackup, attempt: &Attempt) -> Result<Option<JobRef>, CallError> {
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

async fn prerequisites(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
) -> Result<Prerequisites, CallError> {
    if !has_claim(observer.client, backup).await? {
        return Ok(Prerequisites::ClaimMissing);
    }
    let mut located = match observer.discovery.locate(&backup.source, backup.cluster_name.as_deref()).await {
        Ok(located) => located,
        Err(error) => return Ok(Prerequisites::NotFound(error)),
    };
    let mut stopped = None;
    if let Some(cold) = backup.cold() {
        match choose_member(observer, backup, cold, &located).await? {
            Choice::Member(member, of_member) => (stopped, located) = (Some(member), of_member),
            Choice::Nobody(why) => return Ok(why),
        }
    }
    let lock = if status.attempts.is_empty() && !waits_for(status, Reason::WaitingForLock) {
        LockState::NotObserved
    } else {
        observe_lock(observer.client, observer.locks, &backup.owner, located.store_id).await?
    };
    let parent = match backup.backup_type {
        BackupType::Full => None,
        BackupType::Incremental | BackupType::Auto => observer.points.newest_parent(backup, located.store_id),
    };
    let upcoming = match (backup.backup_type, &parent) {
        (BackupType::Incremental, None) => observer.points.upcoming(backup, located.store_id),
        (BackupType::Incremental | BackupType::Full | BackupType::Auto, _) => None,
    };
    let crowded = (!observer.limit.admit(&key_of(backup))).then(|| observer.limit.number());
    Ok(Prerequisites::Met(Box::new(Candidate { located, stopped, lock, parent, upcoming, crowded })))
}

/// Which member a cold backup would stop.
enum Choice {
    /// This one, and what tells its store.
    Member(StoppedMember, Located),
    /// None; why.
    Nobody(Prerequisites),
}

async fn choose_member(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    cold: &Cold,
    located: &Located,
) -> Result<Choice, CallError> {
    let ineligible = |why| Ok(Choice::Nobody(Prerequisites::Ineligible(why)));
    let set = get_workload(observer.client, &backup.owner.namespace, &cold.workload).await?;
    let candidate = match choose::candidate(&cold.workload, set.as_ref(), &backup.target.claim_name) {
        Ok(candidate) => candidate,
        Err(why) => return ineligible(why),
    };
    let members = match observer.discovery.members(&backup.source, backup.cluster_name.as_deref()).await {
        Ok(members) => members,
        Err(error) => return Ok(Choice::Nobody(Prerequisites::NotFound(error))),
    };
    let master = match &located.mastership {
        Mastership::Master(token) => Some(token.member_id),
        Mastership::Probe(_) => None,
    };
    let (id, endpoint) = match choose::registration(cold.if_master, &candidate, &members, master) {
        Ok(registered) => registered,
        Err(why) => return ineligible(why),
    };
    // The store is identified by the member that held it: which one is master does not matter to it.
    let mastership = Mastership::Probe(ProbeMark { endpoint, store_id: located.store_id });
    let located = Located { store_id: located.store_id, mastership };
    Ok(Choice::Member(choose::to_be_stopped(&candidate, id), located))
}

/// Reads what is left of a deleted object.
async fn observe_deleted(
    observer: &Observer<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    deleted: DateTime<Utc>,
) -> Result<DeletionView, CallError> {
    let client = observer.client;
    if is_terminating(client, &backup.owner.namespace).await {
        return Ok(DeletionView::NamespaceTerminating);
    }
    let jobs = jobs_of(client, &backup.owner.namespace, &backup.owner.uid).await?;
    let prunes = |job: &Job| job.labels().get(TASK_LABEL).map(String::as_str) == Some(Task::Prune.word());
    let works = |job: &&Job| {
        !prunes(job) && is_ours(job, backup) && finished(job).is_none() && job.metadata.deletion_timestamp.is_none()
    };
    let stopped = status.attempts.last().and_then(Attempt::member_to_restore);
    let member = match (backup.cold(), stopped) {
        (Some(cold), Some(stopped)) => Some((stopped.clone(), scale_state(client, backup, cold, stopped).await?)),
        _ => None,
    };
    let registered = match stopped.filter(|stopped| stopped.gone_time.is_none()) {
        // While it cannot be told, the member counts as registered, within the bound of the wait.
        Some(stopped) => is_registered(observer.discovery, backup, stopped).await.unwrap_or(true),
        None => false,
    };
    let name = prune_job(&backup.owner.name, &backup.owner.uid);
    let job = get_job(client, backup, &name).await?;
    Ok(DeletionView::Remains(Box::new(Remains {
        deleted,
        working: jobs.iter().filter(works).map(job_ref).collect(),
        member,
        registered,
        claim: has_claim(client, backup).await?,
        prune: object_job_state(client, backup, job.as_ref(), Task::Prune).await?,
        prune_terminating: job.as_ref().is_some_and(|job| job.metadata.deletion_timestamp.is_some()),
        prune_job: job.map(|job| (job_ref(&job), created(&job))),
    })))
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
async fn has_claim(client: &Client, backup: &ValidBackup) -> Result<bool, CallError> {
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
