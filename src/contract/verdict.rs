//! What the agent answers: one JSON object in the container's termination message, at most 4 KiB.

use super::failure::Failure;
use super::task::{Mode, Parent};
use crate::api::{Boot, CopiedBy, Mastership, Seed, StoreId};
use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Serialize};

/// Limit of Kubernetes for a termination message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Where the container writes its termination message.
pub const MESSAGE_PATH: &str = "/dev/termination-log";

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// A point of this object is on the volume, whole and proved.
    Published(Box<Published>),
    /// There is none, and this is why.
    Failed(Failure),
    /// No file of the object is left on the volume.
    Pruned,
    /// A cold copy can be made.
    Ready,
}

/// The facts of a published point that the object carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// UID of the `GraphBackup` in the manifest.
    pub owner_uid: String,
    /// Attempt that made the point.
    pub attempt: u32,
    /// SHA-256 of the bytes of `manifest.json`: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Full or incremental.
    pub mode: Mode,
    /// What an incremental one was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Number of incremental runs since the last full one.
    pub depth: u32,
    /// Why the whole store was copied although an incremental run was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<Failure>,
    /// Identity of the copied store.
    pub store_id: StoreId,
    /// Last committed transaction in the copied store.
    pub last_transaction: i64,
    /// Number of files in the store.
    pub files: u64,
    /// Sum of their sizes, bytes.
    pub bytes: u64,
    /// Of these, bytes in files that are the parent's, unchanged, and share its blocks on the volume.
    pub shared_bytes: u64,
    /// How an incremental one's parent was copied forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_by: Option<CopiedBy>,
    /// What the engine found when it opened a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Whether a cluster can start from the copy, by its transaction logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// Free space on the volume after the copy, bytes, for users that are not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// When the tool started.
    pub data_from: DateTime<Utc>,
    /// When the tool ended.
    pub data_to: DateTime<Utc>,
    /// A point of an earlier object of the same namespace and name, as `spec.adopt` names it: `<store id>/<folder>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<String>,
    /// Mastership right before the tool.
    pub mastership_before: Mastership,
    /// Mastership right after the tool.
    pub mastership_after: Mastership,
    /// Whether every file was read back from the volume and agreed with the manifest.
    pub verified: bool,
}

impl Verdict {
    /// Reads a container's termination message. Nothing if it is not an agent's, or if no object could carry it.
    pub fn read(message: &str) -> Option<Self> {
        if message.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let verdict = serde_json::from_str(message.trim()).ok()?;
        match &verdict {
            Self::Published(point) if !point.fits_object() => None,
            _ => Some(verdict),
        }
    }
}

impl Published {
    /// Whether the API server takes these facts as part of an object: `attempt` and `depth` as an `int32`, times as RFC
    /// 3339 has them, with four digits for the year and no leap second. A status that it refuses would be written again
    /// for ever.
    pub fn fits_object(&self) -> bool {
        let is_plain = |time: &DateTime<Utc>| (0..=9999).contains(&time.year()) && time.nanosecond() < 1_000_000_000;
        let is_int32 = |number: u32| i32::try_from(number).is_ok();
        is_int32(self.attempt) && is_int32(self.depth) && is_plain(&self.data_from) && is_plain(&self.data_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const STORE: &str = "0000000000000001-0000000000000002";

    fn mastership() -> Value {
        json!({"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": STORE}})
    }

    fn message(change: impl FnOnce(&mut Published)) -> String {
        let mut point: Published = serde_json::from_value(json!({
            "ownerUid": "backup-uid", "attempt": 1, "manifestDigest": "sha256:0", "mode": "Full", "depth": 0,
            "storeId": STORE, "lastTransaction": 6, "files": 1, "bytes": 69, "sharedBytes": 0,
            "dataFrom": "2026-11-24T06:00:00Z", "dataTo": "2026-11-24T06:00:10Z",
            "mastershipBefore": mastership(), "mastershipAfter": mastership(), "verified": true,
        }))
        .unwrap();
        change(&mut point);
        serde_json::to_string(&Verdict::Published(Box::new(point))).unwrap()
    }

    #[test]
    fn a_point_that_no_object_could_carry_is_not_read() {
        assert!(matches!(Verdict::read(&message(|_| {})), Some(Verdict::Published(_))));
        assert_eq!(Verdict::read(&message(|point| point.depth = 1 << 31)), None);
        assert_eq!(Verdict::read(&message(|point| point.attempt = u32::MAX)), None);
        for time in ["+10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "2026-11-24T06:00:60Z"] {
            let time: DateTime<Utc> = time.parse().unwrap();
            assert_eq!(Verdict::read(&message(|point| point.data_from = time)), None, "{time}");
            assert_eq!(Verdict::read(&message(|point| point.data_to = time)), None, "{time}");
        }
    }

    #[test]
    fn a_message_longer_than_a_termination_message_is_not_read() {
        let pruned = |blanks: usize| format!("\"pruned\"{}", " ".repeat(blanks));
        assert_eq!(Verdict::read(&pruned(MESSAGE_BYTES_MAX - 8)), Some(Verdict::Pruned));
        assert_eq!(Verdict::read(&pruned(MESSAGE_BYTES_MAX - 7)), None);
    }
}
