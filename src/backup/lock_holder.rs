//! Reads whether the holder of a cluster's lock still needs it.

use super::world::LockState;
use crate::api::names::{BACKUP_UID_LABEL, RESTORE_UID_LABEL, ROLL_BACK_ANNOTATION};
use crate::api::{GraphBackup, GraphBackupStatus, Kind, Owner, Restore, RestoreStatus, StoreId};
use crate::controller::call::{CallError, call, list};
use crate::controller::job::{finished, is_working};
use crate::controller::lock::{ClusterLocks, HeldLock, Lock};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};

/// Who holds the lock of the cluster with this store id, seen by `asker`.
pub async fn observe_lock(
    client: &Client,
    locks: &ClusterLocks,
    asker: &Owner,
    store: StoreId,
) -> Result<LockState, CallError> {
    match locks.look(store, asker).await? {
        Lock::Free => Ok(LockState::Free),
        Lock::Ours => Ok(LockState::Ours),
        Lock::Held(held) => examine_holder(client, held).await,
    }
}

/// Whether a lock's holder still needs it: an object that is gone or over, and has neither a Job nor a pod that works,
/// does not.
async fn examine_holder(client: &Client, held: HeldLock) -> Result<LockState, CallError> {
    let Some(holder) = &held.holder else { return Ok(LockState::Held(held.to_string())) };
    match user_of_lock(client, holder).await {
        Ok(None) => Ok(LockState::Abandoned(held)),
        Ok(Some(user)) => Ok(LockState::Held(user)),
        // Its namespace is not watched any more: whether it works cannot be seen.
        Err(CallError::Refused { .. }) => Ok(LockState::Held(format!(
            "{holder}, which this operator may not read (delete Lease {} if it no longer works),",
            held.name
        ))),
        Err(error) => Err(error),
    }
}

/// What still needs the lock of an object, in words; nothing where it was left behind.
async fn user_of_lock(client: &Client, holder: &Owner) -> Result<Option<String>, CallError> {
    if is_unfinished(client, holder).await? {
        return Ok(Some(holder.to_string()));
    }
    let label = match holder.kind {
        Kind::GraphBackup | Kind::BackupSchedule => BACKUP_UID_LABEL,
        Kind::Restore => RESTORE_UID_LABEL,
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), &holder.namespace);
    let selector = format!("{label}={}", holder.uid);
    let jobs = list("list the Jobs of an object", &jobs, &selector).await?;
    if let Some(job) = jobs.iter().find(|job| finished(job).is_none()) {
        return Ok(Some(format!("Job {} of {holder}", job.name_any())));
    }
    // A pod can outlive its Job.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &holder.namespace);
    let pods = list("list the pods of an object", &pods, &selector).await?;
    let pod = pods.iter().find(|pod| is_working(pod));
    Ok(pod.map(|pod| format!("pod {} of {holder}, which has not ended,", pod.name_any())))
}

/// Whether the object is still there and not over.
async fn is_unfinished(client: &Client, holder: &Owner) -> Result<bool, CallError> {
    match holder.kind {
        Kind::GraphBackup => {
            let backups: Api<GraphBackup> = Api::namespaced(client.clone(), &holder.namespace);
            let object = call("read the GraphBackup that holds a lock", backups.get_opt(&holder.name)).await?;
            let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&holder.uid));
            Ok(object.is_some_and(|object| !object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal)))
        }
        Kind::Restore => {
            let restores: Api<Restore> = Api::namespaced(client.clone(), &holder.namespace);
            let object = call("read the Restore that holds a lock", restores.get_opt(&holder.name)).await?;
            let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&holder.uid));
            // One that is over takes the lock again to be undone.
            let is_undone = |object: &Restore| object.annotations().contains_key(ROLL_BACK_ANNOTATION);
            let is_over = |object: &Restore| object.status.as_ref().is_some_and(RestoreStatus::is_over);
            Ok(object.is_some_and(|object| !is_over(&object) || is_undone(&object)))
        }
        // A schedule takes no lock: somebody else wrote this one.
        Kind::BackupSchedule => Ok(true),
    }
}

/// The Jobs of an object.
pub(super) async fn jobs_of(client: &Client, namespace: &str, uid: &str) -> Result<Vec<Job>, CallError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{BACKUP_UID_LABEL}={uid}");
    list("list the Jobs of an object", &jobs, &selector).await
}
