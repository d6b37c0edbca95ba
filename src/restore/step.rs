//! What a decision about a restore says. Pure.

use crate::api::{Reason, RestoreStatus, StoreId};
use crate::controller::effects::{ScaleTo, VolumePatch};
use crate::controller::job::JobRef;
use crate::controller::lock::HeldLock;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use std::time::Duration;

/// What a pass does: it records the status, if it has changed, and then makes the changes in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status that the restore has before the changes are made: it names what they are about.
    pub status: RestoreStatus,
    /// What is changed.
    pub actions: Vec<Action>,
    /// What is told of it.
    pub notes: Vec<Note>,
    /// When to look again without any event.
    pub look_again: Option<Duration>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take the lock of the cluster. This comes before the record: a restore that has begun has the lock.
    TakeLock(StoreId),
    /// Delete a lock that another object has left behind.
    BreakLock(HeldLock),
    /// Give it back.
    ReleaseLocks,
    /// Write the finalizers of the restore.
    SetFinalizers(Vec<String>),
    /// Create a Job.
    CreateJob(Box<Job>),
    /// Delete a Job and its pods.
    DeleteJob(JobRef),
    /// Create a claim.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Delete a claim.
    DeleteClaim(Named),
    /// Say on a claim that a volume has been pointed at it.
    MarkClaim(Named),
    /// Change a volume.
    ChangeVolume(VolumePatch),
    /// Set the replicas of the StatefulSet.
    Scale(ScaleTo),
    /// Delete the pod of a member.
    DeletePod(Named),
}

/// An object by name and UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What is in the way, in a typed reason and in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Typed reason.
    pub reason: Reason,
    /// For people; the same text as long as nothing changes.
    pub message: String,
}

impl Obstacle {
    /// From its parts.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Something that an Event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `Normal` or `Warning`.
    pub severity: &'static str,
    /// The reason.
    pub reason: Reason,
    /// For people.
    pub text: String,
    /// Tells the Event from the others about the same restore.
    pub turn: String,
}

/// What an action that was refused means: what it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another object has the lock.
    LockHeld,
    /// The action was refused, with this reason.
    Refused(Reason),
}
