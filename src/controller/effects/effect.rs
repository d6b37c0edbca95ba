//! What a controller writes, as data.

use super::VolumePatch;
use crate::api::{Kind, StoreId};
use crate::controller::job::JobRef;
use crate::controller::lock::HeldLock;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::events::v1::Event;
use serde::Serialize;
use serde_json::Value;

/// One write, or a check right before one. `R` says what a refusal means to the controller.
///
/// A refusal of an effect that carries no such meaning is an error, and the pass is repeated with backoff. The
/// exceptions are named at the effects that they belong to.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<R> {
    /// Fail with [`CallError::Conflict`](crate::controller::call::CallError::Conflict) unless the object is as it was read.
    RequireUnchanged,
    /// Take the lock of a cluster.
    TakeLock {
        /// Identity of the cluster's store.
        store: StoreId,
        /// What it means that another object has it; that object is named in the words of the refusal.
        held: R,
    },
    /// Delete every lock that the object holds. A refusal is logged: a lost right must not keep a verdict from the
    /// object, and whoever needs the lock next finds it abandoned.
    ReleaseLocks,
    /// Delete a lock that another object left behind.
    DeleteLock(HeldLock),
    /// Create an Event; its name makes a second one impossible. A refusal is logged: a quota must not keep a verdict
    /// from the object.
    CreateEvent(Box<Event>),
    /// Write the whole status by server-side apply, if the object is as it was read.
    RecordStatus(Value),
    /// Write the whole status over one that somebody else wrote, if the object is as it was read. Fields that are
    /// `null` go: server-side apply would leave them.
    ReplaceStatus(Value),
    /// Write the finalizers, if the object is as it was read.
    SetFinalizers(Vec<String>),
    /// Create a Job. One of this name that exists is left for the next pass to judge.
    CreateJob {
        /// The Job.
        job: Box<Job>,
        /// What a refusal means.
        refusal: Option<R>,
    },
    /// Delete a Job, if it is still that one.
    DeleteJob(JobRef),
    /// Create another object of ours.
    CreateObject {
        /// Its kind.
        kind: Kind,
        /// The object.
        object: Box<Value>,
        /// What it means that an object of this name exists.
        exists: R,
        /// What a refusal means.
        refusal: R,
    },
    /// Delete another object of ours, if it is still that one.
    DeleteObject {
        /// The object.
        object: OtherObject,
        /// What a refusal means.
        refusal: R,
    },
    /// Write a part of the status of another object of ours that only this controller writes, if it is still that object.
    /// A refusal is logged: what is recorded there stands on the subject as well.
    RecordOn {
        /// The object.
        object: OtherObject,
        /// The part.
        status: Value,
    },
    /// Change the metadata of another object of ours, if it is as it was read, and delete it as it is then. One that has
    /// changed is left for the next pass.
    MarkAndDelete {
        /// The object.
        object: OtherObject,
        /// Merge patch.
        mark: Value,
        /// What a refusal means.
        refusal: R,
    },
    /// Change the metadata of another object of ours, if it is as it was read. One that has changed is left for the next
    /// pass.
    ChangeMetadata {
        /// The object.
        object: OtherObject,
        /// Merge patch.
        change: Value,
        /// What a refusal means.
        refusal: R,
    },
    /// Create a claim. One of this name that exists is left for the next pass to judge.
    CreateClaim {
        /// The claim.
        claim: Box<PersistentVolumeClaim>,
        /// What a refusal means.
        refusal: R,
    },
    /// Delete a claim, if it is still that one.
    DeleteClaim {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// What a refusal means.
        refusal: R,
    },
    /// Say on a claim that a volume has been pointed at it, if it is still that one.
    MarkClaim {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// What a refusal means.
        refusal: R,
    },
    /// Change a volume, if it is as it was read. One that has changed is left for the next pass.
    ChangeVolume {
        /// The change.
        volume: VolumePatch,
        /// What a refusal means.
        refusal: R,
    },
    /// Delete a pod, if it is still that one.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// What a refusal means.
        refusal: R,
    },
    /// Set the replicas of a StatefulSet, if it is still as it was read.
    Scale {
        /// How many.
        to: ScaleTo,
        /// What a refusal means.
        refusal: Option<R>,
    },
}

/// Another object in the namespace of the subject, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherObject {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`, where the object must not have changed since.
    pub resource_version: Option<String>,
}

/// A number of replicas, for a StatefulSet as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleTo {
    /// Name of the StatefulSet, in the namespace of the object.
    pub stateful_set: String,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `metadata.resourceVersion` of the StatefulSet: scaling fails when it has changed since.
    pub resource_version: String,
}

/// The status, where it changes anything. One on the object that was written for another object goes first.
pub fn record<S: Serialize + PartialEq, R>(
    status: &S,
    before: Option<&S>,
    is_foreign: bool,
) -> Result<Option<Effect<R>>, serde_json::Error> {
    if before == Some(status) {
        return Ok(None);
    }
    if !is_foreign {
        return Ok(Some(Effect::RecordStatus(serde_json::to_value(status)?)));
    }
    // All of it goes, and the next pass records its own: what is written in this way is of another field manager, and
    // would stay when it is left out later.
    let foreign = serde_json::to_value(before)?;
    let gone = foreign.as_object().into_iter().flatten().map(|(field, _)| (field.clone(), Value::Null));
    Ok(Some(Effect::ReplaceStatus(Value::Object(gone.collect()))))
}
