//! A recovery point, as the status records it.

use super::{BackupType, Seed, StoreId};
use chrono::{DateTime, Utc};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recovery point, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// SHA-256 of `manifest.json`: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Identity of the copied store.
    #[schemars(with = "String")]
    pub store_id: StoreId,
    /// How the point was made in the end: `Full` or `Incremental`.
    #[serde(rename = "type")]
    pub backup_type: BackupType,
    /// What an incremental point was made from. The point does not need its parent, because its store is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Number of incremental backups since the last full one; 0 for a full backup.
    #[serde(default)]
    #[schemars(with = "i32")]
    pub depth: u32,
    /// The last committed transaction in the copy.
    pub last_transaction: i64,
    /// Number of files.
    pub files: i64,
    /// Sum of the files' sizes, in bytes.
    pub bytes: i64,
    /// The part of `bytes` in files that are identical to the parent's and share its blocks on the volume.
    #[serde(default)]
    pub shared_bytes: i64,
    /// Free space on the target after the copy, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// How the parent's store was copied forward, for an incremental point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_by: Option<CopiedBy>,
    /// What the engine found when it opened a copy (`verification: Boot`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Whether a cluster can start from the copy, judged by its transaction logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// Everything that was committed before this time is in the copy. It is when the tool started; for a cold copy, it
    /// is when the first transaction that the copy lacks began, or when copying began, whichever is earlier.
    pub data_from: DateTime<Utc>,
    /// When the tool or the copying ended.
    pub data_to: DateTime<Utc>,
    /// Number of the attempt that made the point.
    #[schemars(with = "i32")]
    pub attempt: u32,
    /// UID of the object that made the point, if it was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_uid: Option<String>,
}

/// The earlier point that an incremental backup starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Name of its `GraphBackup`.
    pub name: String,
    /// UID of its `GraphBackup`.
    pub uid: String,
    /// Folder name of the point, in the same cluster's folder.
    pub point: String,
    /// SHA-256 of its manifest: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Last committed transaction in it.
    pub last_transaction: i64,
}

/// How the parent's store was copied into an incremental point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CopiedBy {
    /// Cloned: both share their blocks on the volume until one of them is written.
    Reflink,
    /// Copied byte by byte, because the file system cannot clone.
    Copy,
}

/// What the engine found when it opened a copy of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Boot {
    /// Whole seconds from the start of the command to its end.
    pub seconds: i64,
    /// Number of nodes, if the command printed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i64>,
    /// Number of relationships, if the command printed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relationships: Option<i64>,
}
