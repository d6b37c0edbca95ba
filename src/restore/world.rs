//! What one pass sees of the world, already read and typed. Pure data.

use crate::api::{Endpoint, RestorePoint, VolumeRecord};
use crate::backup::world::LockState;
use crate::controller::job::{JobRef, JobState};
use crate::discovery::{ClusterView, DiscoveryError, Located};
use crate::members::workload::SetSeen;
use crate::restore::step::Obstacle;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use std::collections::BTreeMap;

/// What matters for the next step; observed anew in every pass.
#[derive(Debug)]
pub struct World {
    /// The recovery point; not looked for once it is chosen.
    pub point: Option<Result<RestorePoint, Obstacle>>,
    /// The StatefulSet of the members.
    pub set: Option<SetSeen>,
    /// Pods of its members.
    pub pods: Vec<PodSeen>,
    /// Claims by name: those of the members, and those of this restore.
    pub claims: BTreeMap<String, ClaimSeen>,
    /// Volumes by name: those of these claims, and those in the journal.
    pub volumes: BTreeMap<String, VolumeSeen>,
    /// Which pods keep a claim that is being deleted: claim and pod.
    pub holders: Vec<(String, String)>,
    /// The Jobs of this restore by name.
    pub jobs: BTreeMap<String, JobSeen>,
    /// How many pods of its Jobs are there.
    pub job_pods: usize,
    /// What ZooKeeper says of the cluster, where the step needs it.
    pub cluster: Option<Result<ClusterView, DiscoveryError>>,
    /// The master, where the step needs it.
    pub master: Option<Result<Located, DiscoveryError>>,
    /// Whether the members hold the last transaction of the point, where the step needs it.
    pub holds: Vec<(Endpoint, Holds)>,
    /// Who has the lock of the cluster, where the step needs it.
    pub lock: Option<LockState>,
    /// Whether the namespace is being deleted.
    pub is_terminating: bool,
}

/// A Job that has the name of one of this restore.
#[derive(Debug)]
pub struct JobSeen {
    /// Name and UID.
    pub job: JobRef,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// What became of it.
    pub state: JobState,
}

/// Whether a member holds a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does, or it has gone further.
    Yes,
    /// It has not come so far.
    No,
    /// It did not say; the text tells why.
    Unknown(String),
}

/// A pod of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// The claims that it mounts.
    pub claims: Vec<String>,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ClaimSeen {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// `spec.volumeName`.
    pub volume: Option<String>,
    /// Whether its phase is `Bound` and the binding is complete.
    pub is_bound: bool,
    /// Its phase is `Lost`: its volume is gone.
    pub is_lost: bool,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// The restore that made it, by UID.
    pub restore_uid: Option<String>,
    /// Whether it says that a volume has been pointed at it.
    pub is_marked: bool,
    /// As it was read.
    pub object: Box<PersistentVolumeClaim>,
}

/// A PersistentVolume.
#[derive(Clone, Debug)]
pub struct VolumeSeen {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `spec.persistentVolumeReclaimPolicy`.
    pub reclaim_policy: String,
    /// Namespace, name and UID in `spec.claimRef`.
    pub claim: Option<ClaimRef>,
    /// Whether its phase is `Bound`.
    pub is_bound: bool,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// As it was read.
    pub object: Box<PersistentVolume>,
}

/// The claim that a volume names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, once there is one.
    pub uid: Option<String>,
}

impl VolumeSeen {
    /// As the journal has it.
    pub fn record(&self, claim: Option<&ClaimSeen>) -> VolumeRecord {
        VolumeRecord {
            name: self.name.clone(),
            uid: self.uid.clone(),
            reclaim_policy: self.reclaim_policy.clone(),
            claim_uid: claim.map(|claim| claim.uid.clone()).unwrap_or_default(),
        }
    }
}

impl World {
    /// The volume to which a claim is bound, by both sides.
    pub fn bound(&self, claim: &ClaimSeen) -> Option<&VolumeSeen> {
        let volume = self.volumes.get(claim.volume.as_ref()?)?;
        let is_its =
            volume.claim.as_ref().is_some_and(|of| of.name == claim.name && of.uid.as_ref() == Some(&claim.uid));
        (is_its && claim.is_bound && volume.is_bound).then_some(volume)
    }

    /// The pod that keeps a claim, in words.
    pub fn holder(&self, claim: &str) -> String {
        let pods: Vec<_> = self.holders.iter().filter(|(held, _)| held == claim).map(|(_, pod)| pod.as_str()).collect();
        if pods.is_empty() {
            format!("claim {claim} is being deleted and not gone yet: see its finalizers")
        } else {
            format!("claim {claim} is being deleted, and pod {} still uses it: delete that pod", pods.join(", "))
        }
    }
}
