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
    /// A point was restored to a scratch volume, and the engine opened it.
    Drilled(Box<Drilled>),
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

/// What a restore drill found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drilled {
    /// SHA-256 of the bytes of the point's `manifest.json`: `sha256:<hex>`. Every file that was restored has the digest
    /// that this manifest names.
    pub manifest_digest: String,
    /// Identity of the restored store, from its own header.
    pub store_id: StoreId,
    /// Last committed transaction in the restored store, from its own header, before the engine opened it.
    pub last_transaction: i64,
    /// Number of files that were restored.
    pub files: u64,
    /// Sum of their sizes, bytes.
    pub bytes: u64,
    /// Whole seconds that it took to copy and compare every file.
    pub copy_seconds: i64,
    /// Whole seconds from the start of the engine to its success.
    pub open_seconds: i64,
    /// Whole seconds from the start of the copying to the engine's success: the measured recovery time.
    pub total_seconds: i64,
    /// Number of nodes, if the command that opened the store printed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i64>,
    /// Number of relationships, if the command that opened the store printed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relationships: Option<i64>,
    /// When the engine had opened the store.
    pub finished: DateTime<Utc>,
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
            Self::Drilled(drilled) if !drilled.fits_object() => None,
            _ => Some(verdict),
        }
    }
}

impl Published {
    /// Whether the API server takes these facts as part of an object: `attempt` and `depth` as an `int32`, times as RFC
    /// 3339 has them, with four digits for the year and no leap second. A status that it refuses would be written again
    /// for ever.
    pub fn fits_object(&self) -> bool {
        let is_int32 = |number: u32| i32::try_from(number).is_ok();
        is_int32(self.attempt) && is_int32(self.depth) && is_plain(&self.data_from) && is_plain(&self.data_to)
    }
}

impl Drilled {
    /// Whether the API server takes these facts as part of an object: numbers as an `int64` that is not negative, the
    /// time as for a point.
    pub fn fits_object(&self) -> bool {
        let counts = [self.files, self.bytes].iter().all(|number| i64::try_from(*number).is_ok());
        let seconds = [self.copy_seconds, self.open_seconds, self.total_seconds].iter().all(|number| *number >= 0);
        counts && seconds && is_plain(&self.finished)
    }
}

/// Whether RFC 3339 has this time with four digits for the year and no leap second.
fn is_plain(time: &DateTime<Utc>) -> bool {
    (0..=9999).contains(&time.year()) && time.nanosecond() < 1_000_000_000
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

    fn drilled() -> Value {
        json!({"drilled": {
            "manifestDigest": "sha256:0", "storeId": STORE, "lastTransaction": 6, "files": 4, "bytes": 70,
            "copySeconds": 61, "openSeconds": 9, "totalSeconds": 71, "nodes": 7, "relationships": 3,
            "finished": "2026-11-24T06:01:10Z",
        }})
    }

    #[test]
    fn a_drill_is_told_in_these_words() {
        let Some(Verdict::Drilled(told)) = Verdict::read(&drilled().to_string()) else { panic!("not read") };
        assert_eq!((told.copy_seconds, told.open_seconds, told.total_seconds), (61, 9, 71));
        assert_eq!((told.nodes, told.relationships), (Some(7), Some(3)));
        assert_eq!(serde_json::to_value(Verdict::Drilled(told)).unwrap(), drilled());
        let mut silent = drilled();
        silent["drilled"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !["nodes", "relationships"].contains(&name.as_str()));
        let read = Verdict::read(&silent.to_string()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), silent);
    }

    #[test]
    fn a_drill_that_no_object_could_carry_is_not_read() {
        let changes = [
            ("files", json!(u64::MAX)),
            ("bytes", json!(1_u64 << 63)),
            ("copySeconds", json!(-1)),
            ("openSeconds", json!(-1)),
            ("totalSeconds", json!(-1)),
            ("finished", json!("+10000-01-01T00:00:00Z")),
            ("finished", json!("2026-11-24T06:00:60Z")),
        ];
        for (name, value) in changes {
            let mut told = drilled();
            told["drilled"][name] = value;
            assert!(serde_json::from_value::<Verdict>(told.clone()).is_ok(), "{name}");
            assert_eq!(Verdict::read(&told.to_string()), None, "{name}");
        }
    }

    #[test]
    fn the_other_verdicts_are_read_as_before() {
        assert_eq!(Verdict::read("\"pruned\""), Some(Verdict::Pruned));
        assert_eq!(Verdict::read("\"ready\""), Some(Verdict::Ready));
        let failed = Verdict::read(r#"{"failed":{"reason":"TargetFull","message":"x"}}"#);
        assert!(matches!(failed, Some(Verdict::Failed(_))), "{failed:?}");
        assert!(matches!(Verdict::read(&message(|_| {})), Some(Verdict::Published(_))));
        assert_eq!(Verdict::read("\"drilled\""), None);
    }

    #[test]
    fn a_message_longer_than_a_termination_message_is_not_read() {
        let pruned = |blanks: usize| format!("\"pruned\"{}", " ".repeat(blanks));
        assert_eq!(Verdict::read(&pruned(MESSAGE_BYTES_MAX - 8)), Some(Verdict::Pruned));
        assert_eq!(Verdict::read(&pruned(MESSAGE_BYTES_MAX - 7)), None);
    }
}
