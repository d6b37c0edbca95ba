//! `GraphBackup`: one backup that runs once. Once it has succeeded, it is the recovery point.

use super::condition::{self, Truth};
use super::parts::{Deadlines, Retry, Source, Target, Tool, Workload};
use super::{Attempt, DrillResult, Inspection, Point};
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A field of the spec that cannot change: it is part of what the recovery point is.
fn immutable(field: &str) -> Rule {
    Rule::new("self == oldSelf").message(refused(field, "cannot be changed").as_str())
}

/// An optional field of the spec that can be neither added nor removed: a rule on the field itself sees neither.
fn settled(field: &str) -> Rule {
    let rule = Rule::new(format!("has(self.{field}) == has(oldSelf.{field})"));
    rule.message(refused(field, "can be neither added nor removed").as_str())
}

fn refused(field: &str, what: &str) -> String {
    format!("{field} {what}, because the spec says what the recovery point is: create a new GraphBackup")
}

/// A rule that backups and the template of a schedule share, as the three below.
pub(super) fn boot_command_is_used() -> Rule {
    Rule::new("!has(self.tool.bootCommand) || self.verification == 'Boot'")
        .message("tool.bootCommand is used only with verification: Boot: set that, or remove tool.bootCommand")
}

pub(super) fn cold_names_a_workload() -> Rule {
    Rule::new("has(self.cold) == (self.method == 'Cold')").message(
        "method: Cold requires spec.cold, which names the StatefulSet whose member is stopped; for any other method, \
         remove spec.cold",
    )
}

pub(super) fn cold_finds_the_member() -> Rule {
    Rule::new("self.method != 'Cold' || self.source.uri.startsWith('ha://')")
        .message("method: Cold requires an ha:// URI: the operator finds the member to stop in ZooKeeper")
}

pub(super) fn cold_runs_no_tool() -> Rule {
    Rule::new("self.method != 'Cold' || !(has(self.tool.command) || has(self.tool.bandwidthLimit))")
        .message("method: Cold does not run the tool: remove tool.command and tool.bandwidthLimit")
}

/// What to back up, with which tool, and where to write it. Immutable except for `deletionPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "graphbackup.dev",
    version = "v1alpha1",
    kind = "GraphBackup",
    plural = "graphbackups",
    shortname = "gb",
    category = "graphbackup",
    namespaced,
    status = "GraphBackupStatus",
    derive = "PartialEq",
    doc = "One backup of an HA graph database that runs once. Once it has succeeded, it is the recovery point.",
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("the name is at most 52 characters, so that the names of the Jobs made from it fit"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].reason"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Master","type":"string","jsonPath":".status.master"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Transaction","type":"integer","jsonPath":".status.point.lastTransaction"}"#,
    printcolumn = r#"{"name":"Verified","type":"string","jsonPath":".status.conditions[?(@.type==\"Verified\")].status"}"#,
    printcolumn = r#"{"name":"Seedable","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Seedable\")].status"}"#,
    printcolumn = r#"{"name":"Parent","type":"string","priority":1,"jsonPath":".status.point.parent.name"}"#,
    printcolumn = r#"{"name":"Data from","type":"date","jsonPath":".status.point.dataFrom"}"#,
    printcolumn = r#"{"name":"Directory","type":"string","priority":1,"jsonPath":".status.directory"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Succeeded\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = boot_command_is_used())]
#[x_kube(validation = cold_names_a_workload())]
#[x_kube(validation = Rule::new("self.method != 'Cold' || self.type == 'Full'")
    .message("method: Cold always copies the whole store: set type: Full; later Incremental backups can start from it"))]
#[x_kube(validation = cold_finds_the_member())]
#[x_kube(validation = cold_runs_no_tool())]
#[x_kube(validation = Rule::new("!has(self.adopt) || (self.type == 'Full' && self.method == 'Online' \
        && self.verification == 'Quick' && !has(self.tool.command) && !has(self.tool.bandwidthLimit))")
    .message("adopt takes an existing point as it is: remove type, method, verification, tool.command and tool.bandwidthLimit"))]
#[x_kube(validation = settled("cold"))]
#[x_kube(validation = settled("adopt"))]
pub struct GraphBackupSpec {
    /// Where the database is.
    #[x_kube(validation = immutable("source"))]
    pub source: Source,
    /// What to copy. `Full` copies the whole store. `Incremental` copies the newest earlier point of the same cluster
    /// on the same target and replays the transactions since then onto that copy; it fails if that is not possible.
    /// `Auto` is `Incremental` if possible; otherwise it is `Full`, and the condition says why. Each produces a whole
    /// store.
    #[x_kube(validation = immutable("type"))]
    #[serde(default, rename = "type")]
    pub backup_type: BackupType,
    /// How to copy. `Online` runs the database's own tool against the master while the database serves. `Cold` stops
    /// one member, copies its store from its volume, and starts it again; it is for platforms on which the tool cannot
    /// make a first copy.
    #[x_kube(validation = immutable("method"))]
    #[serde(default)]
    pub method: Method,
    /// Which member to stop. Required with `method: Cold`, and not allowed otherwise.
    #[x_kube(validation = immutable("cold"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<Cold>,
    /// A point that is already on the target, as `<store id>/<folder>`. Nothing is copied: every file of the point is
    /// read back, and the point becomes this object's recovery point. For points whose objects were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 35, max = 287))]
    #[x_kube(validation = immutable("adopt"))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{16}-[0-9a-f]{16}/[A-Za-z0-9_][A-Za-z0-9._-]*$')")
        .message("adopt names a point's folder below target.directory: '<store id>/<folder>', as in status.directory"))]
    pub adopt: Option<String>,
    /// Where to write the recovery point.
    #[x_kube(validation = immutable("target"))]
    pub target: Target,
    /// The database's backup tool, and how its pod is made.
    #[x_kube(validation = immutable("tool"))]
    pub tool: Tool,
    /// How the copy is checked before it counts.
    #[x_kube(validation = immutable("verification"))]
    #[serde(default)]
    pub verification: Verification,
    /// How often a failed attempt is repeated.
    #[x_kube(validation = immutable("retry"))]
    #[serde(default)]
    pub retry: Retry,
    /// Time limits.
    #[x_kube(validation = immutable("deadlines"))]
    #[serde(default)]
    pub deadlines: Deadlines,
    /// What happens to the files when this object is deleted. The only field that can be changed.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupType {
    /// The whole store.
    #[default]
    Full,
    /// The transactions since an earlier point, replayed onto a copy of that point.
    Incremental,
    /// Incremental if possible, otherwise full.
    Auto,
}

/// What happens to the files of a point when its object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They are removed first.
    Delete,
}

/// How to copy the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Method {
    /// With the database's own tool, while the database serves.
    #[default]
    Online,
    /// From the volume of a member that is stopped meanwhile.
    Cold,
}

/// Which member to stop for a cold copy. A StatefulSet can only shed its highest ordinal, so that is the member that is
/// stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cold {
    /// The StatefulSet that runs the members.
    pub workload: Workload,
    /// What to do if that member is the master. If the database has only one member, that member is stopped in either
    /// case.
    #[serde(default)]
    pub if_master: IfMaster,
}

/// What a cold backup does if the member to be stopped is the master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IfMaster {
    /// Fail, and stop no member.
    #[default]
    Refuse,
    /// Stop the master anyway. Another member takes over, and nothing can be written until it has.
    FailOver,
}

/// How a copy is checked before it is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verification {
    /// Only the tool's own verdict and the store's header are checked.
    None,
    /// Every file is also read back from the volume and compared with the manifest.
    #[default]
    Quick,
    /// As `Quick`, and the real engine opens a scratch copy of the store first.
    Boot,
}

/// The state of the backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphBackupStatus {
    /// UID of the object that this status is about. The operator does not believe the status of another object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A summary for people, derived from the conditions. Programs should read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// `Ready`, `Reconciling` and `Stalled` (as kstatus defines them), `Succeeded`, `MasterStable`, `Verified` and
    /// `Seedable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the operator first saw the object; `deadlines.run` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,
    /// When the backup succeeded or finally failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<DateTime<Utc>>,
    /// Every attempt that was started, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 11))]
    pub attempts: Vec<Attempt>,
    /// Host and port of the member that the newest attempt copies from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Folder of the point on the target claim: `<directory>/<store id>/<point>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Size of the copied store, for people, such as `1.2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Free space on the target after the copy, for people, such as `12Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
    /// The reading of a point that is being adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Inspection>,
    /// The recovery point. Present exactly when `Succeeded` is `True`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<Point>,
    /// How the last restore drill of the point ended. The schedule that ran the drill writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillResult>,
}

impl GraphBackupStatus {
    /// Whether there is a recovery point.
    pub fn has_succeeded(&self) -> bool {
        condition::get(&self.conditions, condition::SUCCEEDED) == Some(Truth::True)
    }

    /// Whether the backup is over: such an object is never worked on again.
    pub fn is_terminal(&self) -> bool {
        matches!(condition::get(&self.conditions, condition::SUCCEEDED), Some(Truth::True | Truth::False))
    }

    /// The attempt that has not ended yet.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.completion_time.is_none())
    }
}

/// The state of a backup, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Waiting for the master, the claim, a lock, or the next attempt.
    Pending,
    /// An attempt is in progress.
    Running,
    /// A manifest is on the volume, and its digest is in `point`.
    Succeeded,
    /// Ended without a recovery point.
    Failed,
}
