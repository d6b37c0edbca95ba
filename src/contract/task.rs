//! What the controller asks of the agent: the contract from operator to Job.

pub use crate::api::Parent;
use crate::api::{Mastership, Owner, StoreId, Verification};
use crate::discovery::SourceUri;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;

/// Environment variable that holds the run as one JSON object ([`BackupRun`], [`InspectRun`], [`PruneRun`],
/// [`DrillRun`], [`SurveyRun`], [`StageRun`] or [`CarryRun`]).
pub const RUN_VARIABLE: &str = "GRAPHBACKUP_RUN";
/// Environment variable that holds the UID of the pod, from the downward API.
pub const POD_UID_VARIABLE: &str = "GRAPHBACKUP_POD_UID";
/// Where the target claim is mounted in every agent's pod.
pub const TARGET_MOUNT: &str = "/target";
/// Where a member's own volume is mounted: that of a stopped one for a cold copy, any one's for a restore.
pub const SOURCE_MOUNT: &str = "/source";
/// Where the scratch volume of a drill is mounted.
pub const SCRATCH_MOUNT: &str = "/scratch";
/// Where the new volume of a member is mounted while a restore fills it.
pub const STAGED_MOUNT: &str = "/staged";
/// Folder of the emptyDir into which the init container copies the operator's binary.
pub const AGENT_MOUNT: &str = "/graphbackup";
/// File name of the binary in [`AGENT_MOUNT`].
pub const BINARY_NAME: &str = "graph-backup-operator";

/// What a Job can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make an attempt.
    Backup,
    /// Say whether a cold copy can be made.
    Check,
    /// Say whether an attempt published.
    Inspect,
    /// Remove the files of a deleted object.
    Prune,
    /// Restore a point to a scratch volume and let the engine open it.
    Drill,
    /// Say what is on a member's volume.
    Survey,
    /// Restore a point to the new volume of a member.
    Stage,
    /// Copy to that volume what the member's own volume holds besides the store.
    Carry,
}

impl Task {
    /// The agent's subcommand, and the value of the label of Job and pod.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Check => "check",
            Self::Inspect => "inspect",
            Self::Prune => "prune",
            Self::Drill => "drill",
            Self::Survey => "survey",
            Self::Stage => "stage",
            Self::Carry => "carry",
        }
    }
}

/// Full or incremental, in the tool's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A copy of the whole store.
    Full,
    /// The transactions since an earlier point, replayed over a copy of it.
    Incremental,
}

impl Mode {
    /// What `{mode}` in the tool's command becomes: `-{mode}` gives `-full`.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// Where on the target claim a point lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `spec.target.directory`: relative path below the claim's root, may be empty.
    pub directory: String,
    /// Store id of the cluster; names the folder that holds the cluster's points.
    pub cluster: StoreId,
    /// Name of the point: one folder name.
    pub point: String,
}

/// `<directory>/<store id>/<point>`, relative to the claim's root.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.directory.is_empty() {
            write!(f, "{}/", self.directory)?;
        }
        write!(f, "{}/{}", self.cluster, self.point)
    }
}

/// What an attempt copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Plan {
    /// The whole store.
    Full,
    /// The transactions since the parent, over a copy of it.
    #[serde(rename_all = "camelCase")]
    Incremental {
        /// Where it starts from.
        parent: Parent,
        /// Whether the whole store is copied instead when that cannot be done.
        or_full: bool,
    },
    /// The whole store, from the volume of a member that is stopped.
    #[serde(rename_all = "camelCase")]
    Cold {
        /// Folder of the store on that volume, relative to its root.
        store_path: String,
        /// Whether that member is the only one of the database.
        alone: bool,
    },
}

/// One attempt of one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupRun {
    /// The object that asked.
    pub owner: Owner,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Where the database is, for reading the mastership.
    pub source: SourceUri,
    /// Cluster name, with `ha://` only.
    pub cluster_name: Option<String>,
    /// The master that the controller found. The agent refuses to start the tool if the mastership has changed since.
    pub mastership: Mastership,
    /// What is copied.
    pub plan: Plan,
    /// Command of the tool with its placeholders: `{mode}`, `{host}`, `{port}`, `{target}`, `{clusterName}`.
    pub command: Vec<String>,
    /// Command that opens a copy of the store, with `verification: Boot`; placeholder `{store}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_command: Option<Vec<String>>,
    /// The most bytes a second that the tool may take from the member; its connection then goes through the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<NonZeroU64>,
    /// Where to publish.
    pub place: Place,
    /// How the copy is checked before it is published.
    pub verification: Verification,
    /// Seconds that the whole attempt may take.
    pub deadline_seconds: u64,
    /// Image of the tool as the pod names it, for the manifest.
    pub image: String,
}

/// The end of a deleted object's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PruneRun {
    /// The object whose files are removed.
    pub owner: Owner,
    /// Where its point and its partials may be: one place for each store that its attempts found.
    pub places: Vec<Place>,
}

/// A question to the volume: is there a published point of this object?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InspectRun {
    /// The object whose point is looked for.
    pub owner: Owner,
    /// Where the point would be.
    pub place: Place,
    /// Whether a point that was made for another object counts too.
    #[serde(default)]
    pub adopt: bool,
    /// Whether the target is looked at under the lock, and partials of the object are removed when it has no point: its
    /// run is over then.
    #[serde(default)]
    pub clean: bool,
}

/// A restore drill of one point: how long does it take to have it back, and does the engine open it?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillRun {
    /// Where the point is.
    pub place: Place,
    /// UID of the object that made the point, as the manifest names it.
    pub owner_uid: String,
    /// SHA-256 of the bytes of the point's `manifest.json`: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Command that opens the copy; placeholder `{store}`.
    pub boot_command: Vec<String>,
    /// Seconds that the whole drill may take.
    pub deadline_seconds: u64,
}

/// A question to a member's own volume, while the member may serve: what has a restore to keep, and how large is it?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SurveyRun {
    /// Folder of the store on that volume, relative to its root.
    pub store_path: String,
    /// Seconds that the survey may take.
    pub deadline_seconds: u64,
}

/// The new volume of a member gets the store of a point, or is made ready for a member that joins empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageRun {
    /// Folder of the store on the volume, relative to its root.
    pub store_path: String,
    /// What is restored; nothing for a member that joins empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<StagePoint>,
    /// Mode of the store's folders, with setuid, setgid and sticky: 0 to 0o7777.
    pub folder_mode: u32,
    /// Mode of its files, likewise.
    pub file_mode: u32,
    /// Seconds that the whole run may take.
    pub deadline_seconds: u64,
}

/// The point that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StagePoint {
    /// Where it is.
    pub place: Place,
    /// UID of the object that made it, as the manifest must name it. Without one, a point of any object counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_uid: Option<String>,
    /// SHA-256 that the bytes of its `manifest.json` must have: `sha256:<hex>`. Without one, any manifest counts that
    /// agrees with the place and with itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<String>,
}

/// The new volume of a member, which is stopped, gets what its own volume holds besides the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CarryRun {
    /// Folder of the store on both volumes, relative to their roots. It is not copied.
    pub store_path: String,
    /// Seconds that the whole run may take.
    pub deadline_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_drill_is_asked_for_in_these_words() {
        let asked = json!({
            "place": {"directory": "team", "cluster": "0000000000000001-0000000000000002", "point": "p"},
            "ownerUid": "backup-uid", "manifestDigest": "sha256:0", "bootCommand": ["neo4j-shell", "-path", "{store}"],
            "deadlineSeconds": 3600,
        });
        let run: DrillRun = serde_json::from_value(asked.clone()).unwrap();
        assert_eq!(serde_json::to_value(&run).unwrap(), asked);
        assert_eq!(run.place.to_string(), "team/0000000000000001-0000000000000002/p");
        let mut unknown = asked;
        unknown["readWrite"] = true.into();
        assert!(serde_json::from_value::<DrillRun>(unknown).is_err());
        assert_eq!(Task::Drill.word(), "drill");
    }

    /// Reads what is asked in these words, writes it in the same, and refuses one word more.
    #[track_caller]
    fn asked<T: Serialize + serde::de::DeserializeOwned>(words: &serde_json::Value) -> T {
        let run: T = serde_json::from_value(words.clone()).unwrap();
        assert_eq!(serde_json::to_value(&run).unwrap(), *words);
        let mut unknown = words.clone();
        unknown["readWrite"] = true.into();
        assert!(serde_json::from_value::<T>(unknown).is_err(), "{words}");
        run
    }

    #[test]
    fn the_tasks_of_a_restore_are_asked_for_in_these_words() {
        let survey: SurveyRun = asked(&json!({"storePath": "data/graph.db", "deadlineSeconds": 600}));
        assert_eq!((survey.store_path.as_str(), survey.deadline_seconds), ("data/graph.db", 600));
        let mut words = json!({
            "storePath": "graph.db", "folderMode": 0o750, "fileMode": 0o640, "deadlineSeconds": 3600,
            "point": {
                "place": {"directory": "", "cluster": "0000000000000001-0000000000000002", "point": "p"},
                "ownerUid": "backup-uid", "manifestDigest": "sha256:0",
            },
        });
        assert!(asked::<StageRun>(&words).point.is_some());
        for part in ["ownerUid", "manifestDigest"] {
            words["point"].as_object_mut().unwrap().remove(part);
            assert!(asked::<StageRun>(&words).point.is_some());
        }
        words.as_object_mut().unwrap().remove("point");
        assert_eq!(asked::<StageRun>(&words).point, None);
        asked::<CarryRun>(&json!({"storePath": "graph.db", "deadlineSeconds": 3600}));
        assert_eq!([Task::Survey, Task::Stage, Task::Carry].map(Task::word), ["survey", "stage", "carry"]);
    }
}
