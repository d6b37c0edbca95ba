//! The journal of a restore: every object that it changes, by UID, and what it was before. Written before the change.

use chrono::{DateTime, Utc};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The objects of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// UID of the StatefulSet.
    pub stateful_set_uid: String,
    /// `spec.replicas` of the StatefulSet before it was scaled; the same at the end.
    pub replicas: i32,
    /// The mark of the last master before the members were stopped: the modification zxid of `master-rebound`. The
    /// restored master has a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebound: Option<i64>,
    /// Whether a member was started on the restored volumes: from then on they may hold writes of clients.
    #[serde(default)]
    pub started: bool,
    /// The members, by ordinal.
    #[schemars(length(max = 16))]
    pub members: Vec<MemberRecord>,
}

/// One member and its volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberRecord {
    /// Ordinal of its pod.
    pub ordinal: i32,
    /// Name of its pod.
    pub pod: String,
    /// Its claim, as it was; a claim of this name is made for every volume that takes its place.
    pub claim: ClaimRecord,
    /// The volume that it had.
    pub original: VolumeRecord,
    /// What the operator read on that volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survey: Option<SurveyRecord>,
    /// The volume that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<VolumeRecord>,
    /// When that volume was written and proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged_time: Option<DateTime<Utc>>,
    /// When everything outside the store was copied to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_time: Option<DateTime<Utc>>,
    /// Volumes that a claim of somebody else brought under the member's name meanwhile; they are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub strays: Vec<VolumeRecord>,
}

impl MemberRecord {
    /// All its volumes.
    pub fn volumes(&self) -> impl Iterator<Item = (VolumeRole, &VolumeRecord)> {
        let own = [(VolumeRole::Original, Some(&self.original)), (VolumeRole::Staged, self.staged.as_ref())];
        let own = own.into_iter().filter_map(|(role, volume)| Some((role, volume?)));
        own.chain(self.strays.iter().map(|stray| (VolumeRole::Stray, stray)))
    }
}

/// What a volume is to a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeRole {
    /// The member had it before.
    Original,
    /// It holds the restored store, or is empty for a member that copies it.
    Staged,
    /// Somebody else's, which came under the member's name.
    Stray,
}

impl VolumeRole {
    /// The word in annotations and in the names of claims.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Staged => "staged",
            Self::Stray => "stray",
        }
    }
}

/// A PersistentVolume of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its reclaim policy before it was set to Retain.
    pub reclaim_policy: String,
    /// UID of the claim that it was last seen bound to.
    pub claim_uid: String,
}

/// A claim as it was, as far as a new one of its name has to be like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRecord {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations, without those of the volume controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its access modes.
    #[schemars(length(max = 8))]
    pub access_modes: Vec<String>,
    /// The storage that it requests.
    pub storage: String,
    /// The class that it names; an empty text is a class, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Its volume mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// Its `VolumeAttributesClass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_attributes_class_name: Option<String>,
    /// Capacity of its volume: the new volume gets at least as much.
    pub capacity: String,
}

/// What the operator read on the volume of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SurveyRecord {
    /// User that owns the store.
    pub uid: i64,
    /// Group that owns the store.
    pub gid: i64,
    /// Mode of the store's folder.
    pub folder_mode: i32,
    /// Mode of the store's files.
    pub file_mode: i32,
    /// Number of files outside the store.
    pub outside_files: i64,
    /// Sum of their sizes, in bytes.
    pub outside_bytes: i64,
}
