//! Reads what the next step depends on: live, so that nothing stale decides.

use super::build::job_name;
use super::step::Obstacle;
use super::swap::{ASIDE, STRAYS_MAX, stray_claim};
use super::validate::{From, ValidRestore};
use super::world::{ClaimRef, ClaimSeen, Holds, JobSeen, PodSeen, VolumeSeen, World};
use crate::api::names::{POINTED_AT_ANNOTATION, RESTORE_UID_ANNOTATION, RESTORE_UID_LABEL, SCHEDULE_LABEL};
use crate::api::{Endpoint, GraphBackup, Mastership, Point, Reason, RestorePoint, RestoreStatus, RestoreStep, StoreId};
use crate::backup::lock_holder::observe_lock;
use crate::backup::validate::validate as validate_backup;
use crate::contract::task::Task;
use crate::controller::call::{CallError, call, list};
use crate::controller::job::{JobState, job_ref, summarize};
use crate::controller::lock::ClusterLocks;
use crate::controller::namespace::is_terminating;
use crate::controller::pod::volume_group;
use crate::discovery::{ClusterView, Discovery, DiscoveryError, Located, probe::ProbeError};
use crate::members::replicas::get_workload;
use crate::members::workload::SetSeen;
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;

/// Claims above the highest ordinal that are looked for: somebody has scaled down from there.
const BEYOND: i32 = 4;

/// Who answers the questions.
pub struct Observer<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// Finds the master.
    pub discovery: &'a dyn Discovery,
    /// The locks of the database clusters.
    pub locks: &'a ClusterLocks,
}

/// Reads the world for one pass.
pub async fn observe(
    observer: &Observer<'_>,
    restore: &ValidRestore,
    status: &RestoreStatus,
) -> Result<World, CallError> {
    let namespace = restore.owner.namespace.as_str();
    let set = get_workload(observer.client, namespace, &restore.workload).await?.map(SetSeen::of);
    let ordinals = ordinals(set.as_ref(), status);
    let pods = pods(observer.client, restore, &ordinals).await?;
    let members = members_of(set.as_ref(), status);
    let claims = claims(observer.client, restore, &claim_names(restore, status, &ordinals, &members)).await?;
    let volumes = volumes(observer.client, &claims, status).await?;
    let (jobs, job_pods) = jobs(observer.client, restore, status, &ordinals).await?;
    let point = match status.point {
        None => Some(point(observer.client, restore).await?),
        Some(_) => None,
    };
    let asked = ask(observer, restore, status).await;
    let lock = match lock_of(status) {
        Some(store) => Some(observe_lock(observer.client, observer.locks, &restore.owner, store).await?),
        None => None,
    };
    Ok(World {
        point,
        holders: holders(observer.client, namespace, &claims).await?,
        set,
        pods,
        claims,
        volumes,
        jobs,
        job_pods,
        cluster: asked.cluster,
        master: asked.master,
        holds: asked.holds,
        lock,
        is_terminating: status.step == RestoreStep::Check && is_terminating(observer.client, namespace).await,
    })
}

/// Members of the StatefulSet now, and those of the journal.
fn ordinals(set: Option<&SetSeen>, status: &RestoreStatus) -> Vec<i32> {
    let recorded = status.journal.iter().flat_map(|journal| &journal.members).map(|member| member.ordinal);
    let now = set.into_iter().flat_map(|set| set.ordinals(set.replicas.clamp(0, 64)));
    let mut ordinals: Vec<_> = recorded.chain(now).collect();
    let last = ordinals.iter().max().copied();
    ordinals.extend(last.into_iter().flat_map(|last| last.saturating_add(1)..=last.saturating_add(BEYOND)));
    ordinals.extend(set.into_iter().flat_map(|set| set.first.saturating_sub(BEYOND).max(0)..set.first));
    ordinals.sort_unstable();
    ordinals.dedup();
    ordinals
}

/// The lock matters before the restore begins, and before it is undone.
const fn lock_of(status: &RestoreStatus) -> Option<StoreId> {
    match (status.step, &status.point, &status.plan) {
        (RestoreStep::Check | RestoreStep::Ended, Some(point), Some(_)) => Some(point.store_id),
        _ => None,
    }
}

/// Ordinals of the members in the journal, or of those that would be in it.
fn members_of(set: Option<&SetSeen>, status: &RestoreStatus) -> Vec<i32> {
    match (&status.journal, set) {
        (Some(journal), _) if status.step > RestoreStep::Check => {
            journal.members.iter().map(|member| member.ordinal).collect()
        }
        (_, Some(set)) => set.ordinals(set.replicas.clamp(0, 64)).collect(),
        (_, None) => Vec::new(),
    }
}

async fn pods(client: &Client, restore: &ValidRestore, ordinals: &[i32]) -> Result<Vec<PodSeen>, CallError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &restore.owner.namespace);
    let mut pods = Vec::new();
    for ordinal in ordinals {
        let name = format!("{}-{ordinal}", restore.workload.stateful_set);
        if let Some(pod) = call("read the pod of a member", api.get_opt(&name)).await? {
            pods.push(pod_seen(&pod));
        }
    }
    Ok(pods)
}

fn pod_seen(pod: &Pod) -> PodSeen {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    PodSeen {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        is_ready: conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
        claims: claims_of(pod),
    }
}

fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())).collect()
}

/// The claims that the step looks at. Only the check asks who else has a claim: under a name of this restore, or beside
/// the members.
fn claim_names(restore: &ValidRestore, status: &RestoreStatus, ordinals: &[i32], members: &[i32]) -> Vec<String> {
    let checks = status.step == RestoreStep::Check;
    let own = |ordinal: &i32| {
        format!("{}-{}-{ordinal}", restore.workload.volume_claim_template, restore.workload.stateful_set)
    };
    let strays = |ordinal: i32| {
        let recorded = status.journal.iter().flat_map(|journal| &journal.members);
        let recorded = recorded.filter(|member| member.ordinal == ordinal).map(|member| member.strays.len()).sum();
        let number = if checks { STRAYS_MAX } else { recorded };
        (0..number).map(move |number| stray_claim(restore, ordinal, number))
    };
    let aside = members
        .iter()
        .flat_map(|ordinal| ASIDE.iter().map(|word| restore.aside(word, *ordinal)).chain(strays(*ordinal)));
    let owners = if checks { ordinals } else { members };
    owners.iter().map(own).chain(aside).collect()
}

async fn claims(
    client: &Client,
    restore: &ValidRestore,
    names: &[String],
) -> Result<BTreeMap<String, ClaimSeen>, CallError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &restore.owner.namespace);
    let mut claims = BTreeMap::new();
    for name in names {
        if let Some(claim) = call("read a claim", api.get_opt(name)).await? {
            claims.insert(name.clone(), claim_seen(claim));
        }
    }
    Ok(claims)
}

fn claim_seen(claim: PersistentVolumeClaim) -> ClaimSeen {
    let phase = claim.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    ClaimSeen {
        name: claim.name_any(),
        uid: claim.uid().unwrap_or_default(),
        volume: claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty()),
        is_bound: phase == "Bound" && claim.annotations().contains_key("pv.kubernetes.io/bind-completed"),
        is_lost: phase == "Lost",
        is_terminating: claim.metadata.deletion_timestamp.is_some(),
        restore_uid: claim.annotations().get(RESTORE_UID_ANNOTATION).cloned(),
        is_marked: claim.annotations().contains_key(POINTED_AT_ANNOTATION),
        object: Box::new(claim),
    }
}

async fn volumes(
    client: &Client,
    claims: &BTreeMap<String, ClaimSeen>,
    status: &RestoreStatus,
) -> Result<BTreeMap<String, VolumeSeen>, CallError> {
    let api: Api<PersistentVolume> = Api::all(client.clone());
    let recorded = status.journal.iter().flat_map(|journal| &journal.members);
    let recorded =
        recorded.flat_map(|member| member.volumes().map(|(_, volume)| volume.name.clone()).collect::<Vec<_>>());
    let mut names: Vec<_> = claims.values().filter_map(|claim| claim.volume.clone()).chain(recorded).collect();
    names.sort_unstable();
    names.dedup();
    let mut volumes = BTreeMap::new();
    for name in names {
        if let Some(volume) = call("read a volume", api.get_opt(&name)).await? {
            volumes.insert(name, volume_seen(volume));
        }
    }
    Ok(volumes)
}

fn volume_seen(volume: PersistentVolume) -> VolumeSeen {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.clone());
    let claim = spec.and_then(|spec| spec.claim_ref.as_ref()).map(|of| ClaimRef {
        namespace: of.namespace.clone().unwrap_or_default(),
        name: of.name.clone().unwrap_or_default(),
        uid: of.uid.clone().filter(|uid| !uid.is_empty()),
    });
    VolumeSeen {
        name: volume.name_any(),
        uid: volume.uid().unwrap_or_default(),
        resource_version: volume.resource_version().unwrap_or_default(),
        reclaim_policy: policy.unwrap_or_else(|| "Retain".to_owned()),
        claim,
        is_bound: volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound"),
        is_terminating: volume.metadata.deletion_timestamp.is_some(),
        object: Box::new(volume),
    }
}

/// The pods that keep a claim which is being deleted.
async fn holders(
    client: &Client,
    namespace: &str,
    claims: &BTreeMap<String, ClaimSeen>,
) -> Result<Vec<(String, String)>, CallError> {
    if !claims.values().any(|claim| claim.is_terminating) {
        return Ok(Vec::new());
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = match list("list the pods of the namespace", &api, "").await {
        Ok(pods) => pods,
        // A namespace with more pods than one list takes: the holder stays unnamed.
        Err(CallError::Transient { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let held = pods.iter().flat_map(|pod| claims_of(pod).into_iter().map(|claim| (claim, pod.name_any())));
    Ok(held.filter(|(claim, _)| claims.get(claim).is_some_and(|claim| claim.is_terminating)).collect())
}

async fn jobs(
    client: &Client,
    restore: &ValidRestore,
    status: &RestoreStatus,
    ordinals: &[i32],
) -> Result<(BTreeMap<String, JobSeen>, usize), CallError> {
    let namespace = &restore.owner.namespace;
    let selector = format!("{RESTORE_UID_LABEL}={}", restore.owner.uid);
    // The Jobs first: a pod that ends in between is then seen with its verdict.
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let found = list("list the Jobs of a restore", &api, &selector).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = list("list the pods of a restore", &api, &selector).await?;
    let mut jobs = BTreeMap::new();
    for job in found {
        let is_ours = job.owner_references().iter().any(|owner| owner.uid == restore.owner.uid);
        let state = if is_ours { summarize(&job, &pods) } else { JobState::Foreign };
        let is_terminating = job.metadata.deletion_timestamp.is_some();
        jobs.insert(job.name_any(), JobSeen { job: job_ref(&job), is_terminating, state });
    }
    // Of these Jobs, none is made later.
    let first = if status.step <= RestoreStep::Stage { ordinals } else { &[] };
    for name in missing(restore, first, &jobs) {
        // A foreign Job of the name has none of our labels.
        if let Some(job) = call("read a Job", api.get_metadata_opt(&name)).await? {
            let reference = crate::controller::job::JobRef { name: job.name_any(), uid: job.uid().unwrap_or_default() };
            jobs.insert(name, JobSeen { job: reference, is_terminating: false, state: JobState::Foreign });
        }
    }
    Ok((jobs, pods.len()))
}

/// Names that Jobs of the first member would have: one that is taken is told before anything begins.
fn missing(restore: &ValidRestore, ordinals: &[i32], jobs: &BTreeMap<String, JobSeen>) -> Vec<String> {
    let first = ordinals.first().copied();
    let names =
        first.into_iter().flat_map(|ordinal| [Task::Survey, Task::Stage].map(|task| job_name(restore, task, ordinal)));
    names.filter(|name| !jobs.contains_key(name)).collect()
}

/// The point that the spec names.
async fn point(client: &Client, restore: &ValidRestore) -> Result<Result<RestorePoint, Obstacle>, CallError> {
    let api: Api<GraphBackup> = Api::namespaced(client.clone(), &restore.owner.namespace);
    match &restore.from {
        From::Backup(name) => {
            let found = call("read the GraphBackup of a restore", api.get_opt(name)).await?;
            Ok(found.map_or_else(
                || Err(Obstacle::new(Reason::PointMissing, format!("GraphBackup {name} does not exist"))),
                |backup| point_of(&backup),
            ))
        }
        From::Schedule(schedule, as_of) => {
            let backups = list("list the backups of a schedule", &api, &format!("{SCHEDULE_LABEL}={schedule}")).await?;
            let points = backups.iter().filter_map(|backup| Some((good(backup)?.data_to, backup)));
            let newest = points
                .filter(|(data_to, _)| as_of.is_none_or(|as_of| *data_to <= as_of))
                .max_by_key(|(data_to, _)| *data_to);
            Ok(newest.map_or_else(
                || {
                    let message = format!("BackupSchedule {schedule} has no good point at that time");
                    Err(Obstacle::new(Reason::PointMissing, message))
                },
                |(_, backup)| point_of(backup),
            ))
        }
    }
}

fn good(backup: &GraphBackup) -> Option<&Point> {
    let status = backup.status.as_ref().filter(|status| status.has_succeeded())?;
    let is_broken = status.drill.as_ref().is_some_and(|drill| !drill.passed);
    status.point.as_ref().filter(|_| backup.metadata.deletion_timestamp.is_none() && !is_broken)
}

fn point_of(backup: &GraphBackup) -> Result<RestorePoint, Obstacle> {
    let name = backup.name_any();
    let unready = |why: String| Obstacle::new(Reason::PointMissing, format!("GraphBackup {name} {why}"));
    let point = good(backup).ok_or_else(|| unready("has no good recovery point: see its conditions".to_owned()))?;
    let valid = validate_backup(backup).map_err(|error| unready(format!("cannot be read: {error}")))?;
    let uid = backup.uid().unwrap_or_default();
    Ok(RestorePoint {
        owner_uid: point.owner_uid.clone().unwrap_or_else(|| uid.clone()),
        name,
        uid,
        claim_name: valid.target.claim_name.clone(),
        directory: valid.target.directory.clone(),
        folder: valid.point,
        group: volume_group(&valid.pod_template),
        manifest_digest: point.manifest_digest.clone(),
        store_id: point.store_id,
        last_transaction: point.last_transaction,
        files: point.files,
        bytes: point.bytes,
        seed: point.seed.clone(),
        data_from: point.data_from,
    })
}

/// What ZooKeeper and the members said.
#[derive(Default)]
struct Asked {
    cluster: Option<Result<ClusterView, DiscoveryError>>,
    master: Option<Result<Located, DiscoveryError>>,
    holds: Vec<(Endpoint, Holds)>,
}

async fn ask(observer: &Observer<'_>, restore: &ValidRestore, status: &RestoreStatus) -> Asked {
    let (source, name) = (&restore.source, restore.cluster_name.as_deref());
    let mut asked = Asked::default();
    match status.step {
        RestoreStep::Check | RestoreStep::Stop => {
            asked.cluster = Some(observer.discovery.cluster(source, name).await);
        }
        RestoreStep::StartFirst => {
            let master = observer.discovery.locate(source, name).await;
            if let (Ok(Located { mastership: Mastership::Master(token), .. }), Some(point)) = (&master, &status.point) {
                asked.holds = vec![holds(observer.discovery, &token.endpoint, point.last_transaction).await];
            }
            asked.master = Some(master);
        }
        RestoreStep::StartAll => {
            let cluster = observer.discovery.cluster(source, name).await;
            if let (Ok(view), Some(point)) = (&cluster, &status.point) {
                let members = view.members.iter().filter_map(|member| member.endpoint.as_ref());
                let questions = members.map(|member| holds(observer.discovery, member, point.last_transaction));
                asked.holds = join_all(questions).await;
            }
            asked.cluster = Some(cluster);
        }
        RestoreStep::Stage | RestoreStep::Carry | RestoreStep::Swap | RestoreStep::CleanUp | RestoreStep::Ended => {}
    }
    asked
}

/// Whether a member holds a transaction. Logs that begin later hold a later one.
async fn holds(discovery: &dyn Discovery, member: &Endpoint, transaction: i64) -> (Endpoint, Holds) {
    // Transaction 1 is the empty store.
    if transaction < 2 {
        return (member.clone(), Holds::Yes);
    }
    let holds = match discovery.transaction(member, transaction).await {
        Ok(Some(_)) | Err(ProbeError::LogsGone(_) | ProbeError::Skipped { .. }) => Holds::Yes,
        Ok(None) => Holds::No,
        Err(error) => Holds::Unknown(error.to_string()),
    };
    (member.clone(), holds)
}
