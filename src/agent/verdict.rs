//! What the agent answers: one JSON object in the container's termination message, at most 4 KiB.

use crate::api::{Fence, Reason, StoreId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Limit of Kubernetes for a termination message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Where the container writes its termination message.
pub const MESSAGE_PATH: &str = "/dev/termination-log";

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// A point of this object is on the volume, whole and fenced.
    Published(Box<Published>),
    /// There is none, and this is why.
    Failed(Failure),
}

/// The facts of a published point that the object carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Published {
    /// UID of the `GraphBackup` in the manifest.
    pub owner_uid: String,
    /// Attempt that made the point.
    pub attempt: u32,
    /// SHA-256 of the bytes of `manifest.json`: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Identity of the copied store.
    pub store_id: StoreId,
    /// Last committed transaction in the copied store.
    pub last_transaction: i64,
    /// Number of files in the store.
    pub files: u64,
    /// Sum of their sizes, bytes.
    pub bytes: u64,
    /// When the tool started.
    pub data_from: DateTime<Utc>,
    /// When the tool ended.
    pub data_to: DateTime<Utc>,
    /// Fence right before the tool.
    pub fence_before: Fence,
    /// Fence right after the tool.
    pub fence_after: Fence,
    /// Whether every file was read back from the volume and agreed with the manifest.
    pub verified: bool,
}

/// Why there is no point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failure {
    /// Typed reason.
    pub reason: Reason,
    /// What happened and what to do, for people; at most 1 KiB.
    pub message: String,
}
