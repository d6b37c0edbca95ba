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

/// The highest mode of a file or folder: all permissions, setuid, setgid and sticky.
const MODE_MAX: u32 = 0o7777;

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
    /// What is on a member's volume.
    Surveyed(Box<Surveyed>),
    /// The store of a point is on the new volume of a member, whole and proved.
    Staged(Box<Staged>),
    /// The new volume of a member is ready for a member that joins empty.
    Prepared,
    /// The new volume of a member has what its own volume holds besides the store.
    Carried(Carried),
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

/// What is on a member's volume, which the member may have changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Surveyed {
    /// The folder of the store. Absent if nothing has its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreFolder>,
    /// Number of files and symbolic links outside the store's folder.
    pub outside_files: u64,
    /// Sum of those files' sizes, bytes. Holes count as data.
    pub outside_bytes: u64,
    /// Size of the file system, bytes; 0 if it does not say.
    pub capacity_bytes: u64,
    /// Free space on it, bytes, for users that are not root; 0 if it does not say.
    pub free_bytes: u64,
    /// Owner of the volume's root folder.
    pub root_uid: u32,
    /// Group of the volume's root folder.
    pub root_gid: u32,
    /// Mode of the volume's root folder, with setuid, setgid and sticky.
    pub root_mode: u32,
}

/// The folder of a member's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreFolder {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode, with setuid, setgid and sticky.
    pub folder_mode: u32,
    /// Mode of its file `neostore`; without one, of any of its files; without any, that of the folder without the right
    /// to search it.
    pub file_mode: u32,
    /// Sum of its files' sizes, bytes. Holes count as data.
    pub bytes: u64,
}

/// The facts of a store that was restored to the new volume of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Staged {
    /// SHA-256 of the bytes of the point's `manifest.json`: `sha256:<hex>`. Every file has the digest that this manifest
    /// names, but for the headers in `seed.mended`.
    pub manifest_digest: String,
    /// Identity of the restored store, from its own header.
    pub store_id: StoreId,
    /// Last committed transaction in the restored store, from its own header.
    pub last_transaction: i64,
    /// Number of files in the store.
    pub files: u64,
    /// Sum of their sizes, bytes.
    pub bytes: u64,
    /// Whether a cluster can start from the restored store, by its transaction logs. What is in `mended` was corrected
    /// here, and is still wrong in the point.
    pub seed: Seed,
    /// Free space on the volume with the store on it, bytes, for users that are not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

/// What was carried to the new volume of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// Number of files and symbolic links.
    pub files: u64,
    /// Sum of those files' sizes, bytes.
    pub bytes: u64,
    /// Of these files and links, those that belong to another user on the member's own volume and to the pod's user here:
    /// the pod may give no file away.
    pub other_owner_files: u64,
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
            Self::Surveyed(surveyed) if !surveyed.fits_object() => None,
            Self::Staged(staged) if !staged.fits_object() => None,
            Self::Carried(carried) if !carried.fits_object() => None,
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
        let counts = are_int64([self.files, self.bytes]);
        let seconds = [self.copy_seconds, self.open_seconds, self.total_seconds].iter().all(|number| *number >= 0);
        counts && seconds && is_plain(&self.finished)
    }
}

impl Surveyed {
    /// Whether the API server takes these facts as part of an object: numbers as an `int64` that is not negative, modes
    /// as a `chmod` takes them.
    pub fn fits_object(&self) -> bool {
        let are_modes = |modes: &[u32]| modes.iter().all(|mode| *mode <= MODE_MAX);
        let store = self.store.as_ref();
        are_int64([self.outside_files, self.outside_bytes, self.capacity_bytes, self.free_bytes])
            && store.is_none_or(|store| are_int64([store.bytes]) && are_modes(&[store.folder_mode, store.file_mode]))
            && are_modes(&[self.root_mode])
    }
}

impl Staged {
    /// Whether the API server takes these facts as part of an object: numbers as an `int64` that is not negative.
    pub fn fits_object(&self) -> bool {
        are_int64([self.files, self.bytes, self.free_bytes.unwrap_or_default()])
    }
}

impl Carried {
    /// Whether the API server takes these facts as part of an object: numbers as an `int64` that is not negative.
    pub fn fits_object(&self) -> bool {
        are_int64([self.files, self.bytes, self.other_owner_files])
    }
}

fn are_int64<const N: usize>(numbers: [u64; N]) -> bool {
    numbers.iter().all(|number| i64::try_from(*number).is_ok())
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

    /// The answers of a restore's tasks.
    fn restored() -> [Value; 4] {
        [
            json!({"surveyed": {
                "store": {"uid": 1000, "gid": 1001, "folderMode": 0o2750, "fileMode": 0o640, "bytes": 70},
                "outsideFiles": 3, "outsideBytes": 9, "capacityBytes": 1000, "freeBytes": 900,
                "rootUid": 0, "rootGid": 1001, "rootMode": 0o2775,
            }}),
            json!({"staged": {
                "manifestDigest": "sha256:0", "storeId": STORE, "lastTransaction": 6, "files": 4, "bytes": 70,
                "seed": {"state": "LogsComplete"}, "freeBytes": 830,
            }}),
            json!("prepared"),
            json!({"carried": {"files": 3, "bytes": 9, "otherOwnerFiles": 1}}),
        ]
    }

    #[test]
    fn a_restore_is_told_in_these_words() {
        for told in restored() {
            let read = Verdict::read(&told.to_string()).unwrap_or_else(|| panic!("{told} was not read"));
            assert_eq!(serde_json::to_value(&read).unwrap(), told);
        }
        let [mut surveyed, mut staged, ..] = restored();
        surveyed["surveyed"].as_object_mut().unwrap().remove("store");
        staged["staged"].as_object_mut().unwrap().remove("freeBytes");
        for told in [surveyed, staged] {
            assert_eq!(serde_json::to_value(Verdict::read(&told.to_string()).unwrap()).unwrap(), told);
        }
    }

    #[test]
    fn a_restore_that_no_object_could_carry_is_not_read() {
        let counts = [
            (0, "outsideFiles"),
            (0, "outsideBytes"),
            (0, "capacityBytes"),
            (0, "freeBytes"),
            (0, "rootMode"),
            (1, "files"),
            (1, "bytes"),
            (1, "freeBytes"),
            (3, "files"),
            (3, "bytes"),
            (3, "otherOwnerFiles"),
        ];
        let is_refused = |mut told: Value, part: &str, name: &str| {
            let (_, facts) = told.as_object_mut().unwrap().iter_mut().next().unwrap();
            let facts = if part.is_empty() { facts } else { &mut facts[part] };
            facts[name] = if name.ends_with("Mode") { json!(0o10000) } else { json!(1_u64 << 63) };
            assert!(serde_json::from_value::<Verdict>(told.clone()).is_ok(), "{name}");
            assert_eq!(Verdict::read(&told.to_string()), None, "{name}");
        };
        for (of, name) in counts {
            is_refused(restored()[of].clone(), "", name);
        }
        for name in ["folderMode", "fileMode", "bytes"] {
            is_refused(restored()[0].clone(), "store", name);
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
