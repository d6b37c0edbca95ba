//! Does what was decided: the only place that writes. Each write can be repeated.

use super::build;
use super::event::{event, removal_event};
use super::foreign::files_stay;
use super::status;
use super::step::{Ending, Step};
use super::validate::ValidBackup;
use super::world::{JobRef, ScaleTo};
use crate::api::Owner;
use crate::api::{Attempt, DeletionPolicy, GraphBackup, GraphBackupStatus, Reason, now_seconds};
use crate::backup::decide::inspection::unanswered;
use crate::backup::decide::removal::{PRUNE_AGAIN, Removal, other_finalizers};
use crate::contract::task::Task;
use crate::controller::call::{CallError, call};
use crate::controller::lock::ClusterLocks;
use chrono::{DateTime, Utc};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// From the end of a Job that was told to stop to the next look.
const STOPPING: Duration = Duration::from_secs(5);
/// Field manager of status writes.
const STATUS_MANAGER: &str = "graph-backup-operator-status";

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A call to the API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A Job's task cannot be written as JSON.
    #[error("failed to write a Job's task: {0}")]
    Encode(#[from] serde_json::Error),
    /// Somebody else has taken the cluster's lock since it was looked at.
    #[error("failed to take the lock of the cluster: another backup was faster")]
    LockTaken,
    /// This process is not the leader any more.
    #[error("failed to go on: this replica does not lead any more")]
    NotLeading,
}

impl ApplyError {
    /// Static word for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Call(error) => error.category(),
            Self::Encode(_) => "bug",
            Self::LockTaken => "conflict",
            Self::NotLeading => "not_leading",
        }
    }
}

/// What applying needs besides the decision.
pub struct Hands<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// The locks of the database clusters.
    pub locks: &'a ClusterLocks,
    /// Image that holds the agent.
    pub operator_image: &'a str,
    /// Name of this replica, for Events.
    pub instance: &'a str,
    /// Asked right before every write.
    pub leading: &'a (dyn Fn() -> bool + Send + Sync),
}

/// Applies one step; returns the status that now stands on the object.
///
/// The order is: Event (its name makes it unique), the cluster's lock, status (the intent), then the Job. A crash in between
/// leaves a state in which the same step, or the one after it, is decided again. A Job that the API server refuses ends
/// its attempt at once: nothing has run. The lock is taken before the first attempt is recorded, and given back before
/// the end is: then nothing of this backup runs any more. The member of a cold backup is recorded before it is stopped, and
/// started before that is recorded.
pub async fn apply(
    hands: &Hands<'_>,
    backup: &ValidBackup,
    before: &GraphBackupStatus,
    step: &Step,
    now: DateTime<Utc>,
) -> Result<GraphBackupStatus, ApplyError> {
    if let Step::DeleteFirst(job, then) = step {
        // A crash right after it costs no point: the Job is gone, so the volume is asked.
        require_unchanged(hands, backup).await?;
        delete_job(hands, backup, job).await?;
        return Box::pin(apply(hands, backup, before, then, now)).await;
    }
    if let Step::Start { attempt, take_lock: true } = step {
        take_lock(hands, backup, attempt, now).await?;
    }
    if matches!(step, Step::Check | Step::StopMember(_) | Step::StartMember(Some(_))) {
        // A stale object would check or scale for an attempt that is over.
        require_unchanged(hands, backup).await?;
    }
    if let Step::StartMember(Some(to)) = step {
        scale(hands, backup, to).await?;
    }
    let (status, version) = record(hands, backup, before, step, now).await?;
    let done = match step {
        // The member has to stop first, and before that it is seen whether its store can be copied.
        Step::Start { attempt, .. } if attempt.stopped.as_ref().is_some_and(|stopped| stopped.gone_time.is_none()) => {
            create_check_job(hands, backup, &status, now).await
        }
        Step::Start { attempt, .. } => {
            let job = build::backup_job(backup, &status, attempt, Task::Backup, hands.operator_image, now)?;
            create_job(hands, backup, job).await
        }
        Step::Inspect(_) => create_inspect_job(hands, backup, &status).await,
        Step::Adopt(store, reading) => {
            create_job(hands, backup, build::adopt_job(backup, *store, &reading.job, hands.operator_image)?).await
        }
        Step::Check => create_check_job(hands, backup, &status, now).await,
        Step::StopMember(to) => scale(hands, backup, to).await,
        Step::DeleteJob(job) | Step::Unanswered(_, Some(job)) => delete_job(hands, backup, job).await,
        Step::BreakLock(lock) => {
            lead(hands)?;
            Ok(hands.locks.delete(lock).await?)
        }
        Step::Wait(_)
        | Step::StartMember(_)
        | Step::MemberMissing(_)
        | Step::CloseAttempt(_)
        | Step::Succeed(_)
        | Step::Fail(_)
        | Step::Checked
        | Step::DeleteFirst(..)
        | Step::Unanswered(_, None) => Ok(()),
    };
    let Err(error) = done else { return Ok(status) };
    let then = match &error {
        ApplyError::Call(refusal @ CallError::Refused { .. }) => refused(step, &refusal.to_string(), now),
        _ => None,
    };
    let Some(then) = then else { return Err(error) };
    let backup = ValidBackup { resource_version: version, ..backup.clone() };
    Ok(record(hands, &backup, &status, &then, now).await?.0)
}

/// What follows when the API server refuses a step, in its words: the attempt has failed, or the volume was not asked.
fn refused(step: &Step, said: &str, now: DateTime<Utc>) -> Option<Step> {
    let close = |reason| Some(Step::CloseAttempt(Ending::new(reason, said)));
    match step {
        Step::Start { .. } | Step::Check => close(Reason::JobRefused),
        Step::StopMember(_) => close(Reason::ScaleRefused),
        Step::Inspect(inspection) | Step::Adopt(_, inspection) => {
            Some(Step::Unanswered(Box::new(unanswered(inspection, said, now_seconds(now))), None))
        }
        _ => None,
    }
}

/// Tells and records a step; returns the status and the object's resource version.
async fn record(
    hands: &Hands<'_>,
    backup: &ValidBackup,
    before: &GraphBackupStatus,
    step: &Step,
    now: DateTime<Utc>,
) -> Result<(GraphBackupStatus, String), ApplyError> {
    if let Some(event) = event(&backup.owner, &backup.resource_version, before, step, hands.instance, now) {
        // A stale object would tell and record its end a second time, to be refused.
        require_unchanged(hands, backup).await?;
        create_event(hands, &backup.owner.namespace, event).await?;
    }
    if matches!(step, Step::Succeed(_) | Step::Fail(_)) {
        release_lock(hands, &backup.owner).await?;
    }
    let after = status::after(backup, before, step, now);
    // What creates a Job always writes first: an object that has moved on refuses it, and with it the Job of a step that
    // is not the next one any more.
    let creates = matches!(step, Step::Start { .. } | Step::Inspect(_) | Step::Adopt(..));
    let version = if after == *before && !creates {
        backup.resource_version.clone()
    } else {
        patch_status(hands, &backup.owner.namespace, &backup.owner.name, &backup.resource_version, &after).await?
    };
    Ok((after, version))
}

/// Fails when the object has moved on since it was read.
async fn require_unchanged(hands: &Hands<'_>, backup: &ValidBackup) -> Result<(), ApplyError> {
    let backups: Api<GraphBackup> = Api::namespaced(hands.client.clone(), &backup.owner.namespace);
    let action = "find a GraphBackup as it was read";
    let object = call(action, backups.get_metadata(&backup.owner.name)).await?;
    if object.metadata.resource_version.as_ref() == Some(&backup.resource_version) {
        Ok(())
    } else {
        Err(CallError::Conflict { action }.into())
    }
}

async fn take_lock(
    hands: &Hands<'_>,
    backup: &ValidBackup,
    attempt: &Attempt,
    now: DateTime<Utc>,
) -> Result<(), ApplyError> {
    // A stale object would take the lock again when everything is over.
    require_unchanged(hands, backup).await?;
    lead(hands)?;
    match hands.locks.take(attempt.store_id, &backup.owner, now).await {
        Ok(()) => Ok(()),
        Err(CallError::Exists { .. }) => Err(ApplyError::LockTaken),
        Err(error) => Err(error.into()),
    }
}

async fn release_lock(hands: &Hands<'_>, owner: &Owner) -> Result<(), ApplyError> {
    let released = async {
        for lock in hands.locks.held_by(owner).await? {
            lead(hands)?;
            hands.locks.delete(&lock).await?;
        }
        Ok(())
    };
    match released.await {
        // A lost right must not keep a verdict from the object: whoever wants the lock next breaks it.
        Err(ApplyError::Call(CallError::Refused { message, .. })) => {
            tracing::warn!(%message, "the lock of a cluster could not be given back");
            Ok(())
        }
        released => released,
    }
}

/// Tells and records that an object cannot be worked on.
pub async fn refuse(
    hands: &Hands<'_>,
    object: &GraphBackup,
    before: &GraphBackupStatus,
    ending: Ending,
    now: DateTime<Utc>,
) -> Result<(), ApplyError> {
    let (owner, version) = (owner_of(object), object.resource_version().unwrap_or_default());
    let after = status::refused(object, before, &ending, now);
    if let Some(event) = event(&owner, &version, before, &Step::Fail(ending), hands.instance, now) {
        create_event(hands, &owner.namespace, event).await?;
    }
    patch_status(hands, &owner.namespace, &owner.name, &version, &after).await?;
    Ok(())
}

/// Tells and records that the status of an object is another one's, and puts its own in the place of all of it: with
/// server-side apply the fields that somebody else has set would stay.
pub async fn disown(
    hands: &Hands<'_>,
    object: &GraphBackup,
    ending: Ending,
    now: DateTime<Utc>,
) -> Result<(), ApplyError> {
    let (owner, version) = (owner_of(object), object.resource_version().unwrap_or_default());
    let none = GraphBackupStatus::default();
    let after = status::refused(object, &none, &ending, now);
    if let Some(event) = event(&owner, &version, &none, &Step::Fail(ending), hands.instance, now) {
        create_event(hands, &owner.namespace, event).await?;
    }
    let (before, mut after) = (serde_json::to_value(&object.status)?, serde_json::to_value(after)?);
    for (field, _) in before.as_object().into_iter().flatten() {
        if after.get(field).is_none() {
            after[field] = serde_json::Value::Null;
        }
    }
    lead(hands)?;
    let backups: Api<GraphBackup> = Api::namespaced(hands.client.clone(), &owner.namespace);
    let patch = json!({"metadata": {"resourceVersion": version}, "status": after});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let written = backups.patch_status(&owner.name, &params, &patch);
    call("replace the status of a GraphBackup", written).await?;
    Ok(())
}

/// Tells that the files of another object stay, then lets a deleted object go whose status is that of the other one.
pub async fn let_foreign_go(
    hands: &Hands<'_>,
    object: &GraphBackup,
    uid: &str,
    now: DateTime<Utc>,
) -> Result<(), ApplyError> {
    if object.spec.deletion_policy == DeletionPolicy::Delete {
        let (owner, version) = (owner_of(object), object.resource_version().unwrap_or_default());
        let event = removal_event(&owner, &version, Reason::ForeignStatus, &files_stay(uid), hands.instance, now);
        create_event(hands, &owner.namespace, event).await?;
    }
    set_finalizers(hands, object, other_finalizers(object)).await
}

fn owner_of(object: &GraphBackup) -> Owner {
    Owner {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// Sets the replicas of the members' StatefulSet, if that is still as it was read.
async fn scale(hands: &Hands<'_>, backup: &ValidBackup, to: &ScaleTo) -> Result<(), ApplyError> {
    let Some(cold) = &backup.cold else { return Ok(()) };
    lead(hands)?;
    let sets: Api<StatefulSet> = Api::namespaced(hands.client.clone(), &backup.owner.namespace);
    let patch = json!({"metadata": {"resourceVersion": to.resource_version}, "spec": {"replicas": to.replicas}});
    let (name, params, patch) = (&cold.workload.stateful_set, PatchParams::default(), Patch::Merge(&patch));
    match call("scale the StatefulSet of the members", sets.patch_scale(name, &params, &patch)).await {
        Ok(_) | Err(CallError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn create_inspect_job(
    hands: &Hands<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
) -> Result<(), ApplyError> {
    let Some((attempt, inspection)) = status.attempts.last().and_then(|a| a.inspection.as_ref().map(|i| (a, i))) else {
        return Ok(());
    };
    let job = build::inspect_job(backup, attempt, &inspection.job, hands.operator_image)?;
    create_job(hands, backup, job).await
}

async fn create_check_job(
    hands: &Hands<'_>,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    now: DateTime<Utc>,
) -> Result<(), ApplyError> {
    let Some(attempt) = status.attempts.last() else { return Ok(()) };
    let job = build::backup_job(backup, status, attempt, Task::Check, hands.operator_image, now)?;
    create_job(hands, backup, job).await
}

/// Does one step of the removal of a deleted object; says when to look again, if not at the next event.
pub async fn apply_removal(
    hands: &Hands<'_>,
    object: &GraphBackup,
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    removal: &Removal,
    now: DateTime<Utc>,
) -> Result<Option<Duration>, ApplyError> {
    match removal {
        Removal::LetGo(why) => {
            if let Some(why) = why {
                let event = removal_event(
                    &backup.owner,
                    &backup.resource_version,
                    Reason::TargetClaimMissing,
                    why,
                    hands.instance,
                    now,
                );
                create_event(hands, &backup.owner.namespace, event).await?;
            }
            let_go(hands, object, backup).await
        }
        Removal::Stop(job) => {
            delete_job(hands, backup, job).await?;
            Ok(Some(STOPPING))
        }
        Removal::StartMember(to) => {
            require_unchanged(hands, backup).await?;
            scale(hands, backup, to).await?;
            Ok(Some(Duration::ZERO))
        }
        Removal::Prune => {
            let job = build::prune_job(backup, status, hands.operator_image)?;
            create_job(hands, backup, job).await?;
            Ok(Some(backup.pod_start_deadline))
        }
        Removal::Failed { reason, message, job } => {
            let event = removal_event(&backup.owner, &backup.resource_version, *reason, message, hands.instance, now);
            create_event(hands, &backup.owner.namespace, event).await?;
            if let Some(job) = job {
                delete_job(hands, backup, job).await?;
            }
            Ok(Some(PRUNE_AGAIN))
        }
        Removal::Wait(wait) => Ok(Some(*wait)),
    }
}

/// Lets a deleted object go: nothing of it works any more.
pub async fn let_go(
    hands: &Hands<'_>,
    object: &GraphBackup,
    backup: &ValidBackup,
) -> Result<Option<Duration>, ApplyError> {
    release_lock(hands, &backup.owner).await?;
    set_finalizers(hands, object, other_finalizers(object)).await?;
    Ok(None)
}

/// Writes the finalizers, if the object is still the one that was read.
pub async fn set_finalizers(
    hands: &Hands<'_>,
    object: &GraphBackup,
    finalizers: Vec<String>,
) -> Result<(), ApplyError> {
    lead(hands)?;
    let namespace = object.namespace().unwrap_or_default();
    let backups: Api<GraphBackup> = Api::namespaced(hands.client.clone(), &namespace);
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
    let (name, params, patch) = (object.name_any(), PatchParams::default(), Patch::Merge(&patch));
    let written = backups.patch_metadata(&name, &params, &patch);
    match call("write the finalizers of a GraphBackup", written).await {
        Ok(_) | Err(CallError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes a whole status, if the object is still the one that was read; returns its new resource version.
async fn patch_status(
    hands: &Hands<'_>,
    namespace: &str,
    name: &str,
    resource_version: &str,
    status: &GraphBackupStatus,
) -> Result<String, ApplyError> {
    lead(hands)?;
    let backups: Api<GraphBackup> = Api::namespaced(hands.client.clone(), namespace);
    let patch = json!({
        "apiVersion": GraphBackup::api_version(&()),
        "kind": GraphBackup::kind(&()),
        "metadata": {"resourceVersion": resource_version},
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    let written =
        call("write the status of a GraphBackup", backups.patch_status(name, &params, &Patch::Apply(&patch))).await?;
    Ok(written.metadata.resource_version.unwrap_or_default())
}

async fn create_event(hands: &Hands<'_>, namespace: &str, event: Event) -> Result<(), ApplyError> {
    lead(hands)?;
    let events: Api<Event> = Api::namespaced(hands.client.clone(), namespace);
    match call("create an Event", events.create(&PostParams::default(), &event)).await {
        // A namespace that is going away, or a quota, must not keep a verdict from the object.
        Ok(_) | Err(CallError::Exists { .. }) => Ok(()),
        Err(CallError::Refused { message, .. }) => {
            tracing::warn!(%message, "an Event was refused");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn create_job(hands: &Hands<'_>, backup: &ValidBackup, job: Job) -> Result<(), ApplyError> {
    lead(hands)?;
    let jobs: Api<Job> = Api::namespaced(hands.client.clone(), &backup.owner.namespace);
    match call("create a Job", jobs.create(&PostParams::default(), &job)).await {
        // Whose it is, the next pass sees.
        Ok(_) | Err(CallError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn delete_job(hands: &Hands<'_>, backup: &ValidBackup, job: &JobRef) -> Result<(), ApplyError> {
    lead(hands)?;
    let jobs: Api<Job> = Api::namespaced(hands.client.clone(), &backup.owner.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(job.uid.clone()), resource_version: None }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match call("delete a Job", jobs.delete(&job.name, &params)).await {
        Ok(_) | Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn lead(hands: &Hands<'_>) -> Result<(), ApplyError> {
    if (hands.leading)() { Ok(()) } else { Err(ApplyError::NotLeading) }
}
