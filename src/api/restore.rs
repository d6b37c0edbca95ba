//! `Restore`: puts one recovery point into a cluster by swapping the volumes of its members. It can be undone.

use super::journal::Journal;
use super::parts::{PodTemplate, Source, Workload, duration_rule};
use super::{Seed, StoreId};
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to restore, and into which cluster. Immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "graphbackup.dev",
    version = "v1alpha1",
    kind = "Restore",
    plural = "restores",
    shortname = "gbr",
    category = "graphbackup",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    doc = "Puts one recovery point into an HA graph database by swapping the volumes of its members. The original \
           volumes are kept, so that the restore can be undone.",
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("the name is at most 52 characters, so that the names of the Jobs made from it fit"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].reason"}"#,
    printcolumn = r#"{"name":"Point","type":"string","jsonPath":".status.point.name"}"#,
    printcolumn = r#"{"name":"Transaction","type":"integer","jsonPath":".status.point.lastTransaction"}"#,
    printcolumn = r#"{"name":"Down since","type":"date","jsonPath":".status.downtime.from"}"#,
    printcolumn = r#"{"name":"Downtime","type":"string","jsonPath":".status.downtime.text"}"#,
    printcolumn = r#"{"name":"Plan","type":"string","priority":1,"jsonPath":".status.plan.hash"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Succeeded\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a Restore cannot be changed: create another one; to undo this one, see its annotations"))]
pub struct RestoreSpec {
    /// The recovery point.
    pub from: RestoreFrom,
    /// The cluster that gets it.
    pub into: RestoreInto,
    /// Whether the plan needs the approval of a person before anything is changed.
    #[serde(default)]
    pub approval: Approval,
    /// What happens if a step fails after the members were stopped.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How long the original volumes are kept after the restore.
    #[serde(default = "RestoreSpec::default_keep_original_for")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("keepOriginalFor", "168h"))]
    pub keep_original_for: String,
    /// Time limits of the steps.
    #[serde(default)]
    pub deadlines: RestoreDeadlines,
    /// Overrides for the pods that write the new volumes. Their user and group are those of the members' stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

impl RestoreSpec {
    fn default_keep_original_for() -> String {
        "168h".to_owned()
    }
}

/// Where the recovery point comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.backup) != has(self.schedule)")
    .message("from names one thing: either backup (a GraphBackup) or schedule (a BackupSchedule, whose newest point is taken)"))]
#[x_kube(validation = Rule::new("!has(self.asOf) || has(self.schedule)")
    .message("asOf chooses among the points of a schedule: set from.schedule, or remove from.asOf"))]
pub struct RestoreFrom {
    /// Name of a `GraphBackup` in the same namespace that has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub backup: Option<String>,
    /// Name of a `BackupSchedule` in the same namespace: its newest good point is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub schedule: Option<String>,
    /// With `schedule`: the newest good point whose data is not newer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<DateTime<Utc>>,
}

/// The cluster that gets the point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.source.uri.startsWith('ha://')")
    .message("into.source is an ha:// URI: the operator finds and proves the members in ZooKeeper"))]
pub struct RestoreInto {
    /// Where the cluster registers its members.
    pub source: Source,
    /// The StatefulSet that runs the members, and where its volumes hold the store.
    pub workload: Workload,
}

/// Whether a person has to approve the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// The restore goes on by itself.
    #[default]
    Automatic,
    /// It waits for the annotation `graphbackup.dev/approve-plan` with the plan's hash.
    Required,
}

/// What happens if a step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// The original volumes are put back.
    #[default]
    RollBack,
    /// The restore stops where it is and says what to do.
    Hold,
}

/// Time limits of the steps of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDeadlines {
    /// How long to wait for a backup of the same cluster to end, and for what the check finds to be in order.
    #[serde(default = "RestoreDeadlines::default_wait_for_backup")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.waitForBackup", "2h"))]
    pub wait_for_backup: String,
    /// Limit for the new volumes to be written, while the database serves.
    #[serde(default = "RestoreDeadlines::default_stage")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.stage", "6h"))]
    pub stage: String,
    /// Limit for the members to stop, and for their volumes to be exchanged.
    #[serde(default = "RestoreDeadlines::default_stop")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.stop", "10m"))]
    pub stop: String,
    /// Limit for the first member to become master with the restored store.
    #[serde(default = "RestoreDeadlines::default_start")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.start", "30m"))]
    pub start: String,
    /// Limit for every member to serve the restored store.
    #[serde(default = "RestoreDeadlines::default_prove")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.prove", "30m"))]
    pub prove: String,
}

impl RestoreDeadlines {
    fn default_wait_for_backup() -> String {
        "2h".to_owned()
    }

    fn default_stage() -> String {
        "6h".to_owned()
    }

    fn default_stop() -> String {
        "10m".to_owned()
    }

    fn default_start() -> String {
        "30m".to_owned()
    }

    fn default_prove() -> String {
        "30m".to_owned()
    }
}

impl Default for RestoreDeadlines {
    fn default() -> Self {
        Self {
            wait_for_backup: Self::default_wait_for_backup(),
            stage: Self::default_stage(),
            stop: Self::default_stop(),
            start: Self::default_start(),
            prove: Self::default_prove(),
        }
    }
}

/// The state of the restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// UID of the object that this status is about. The operator does not believe the status of another object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A summary for people, derived from the step and the direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// `Ready`, `Reconciling` and `Stalled` (as kstatus defines them), and `Succeeded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What the restore is doing. Everything of a step is done only after this names the step.
    #[serde(default)]
    pub step: RestoreStep,
    /// When the step began; its deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_time: Option<DateTime<Utc>>,
    /// Towards the recovery point, or back to the original volumes.
    #[serde(default)]
    pub direction: Direction,
    /// Why the restore goes back, or ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// When the operator first saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,
    /// When the restore ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<DateTime<Utc>>,
    /// The recovery point. Chosen once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<RestorePoint>,
    /// What will be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlan>,
    /// What has been done: every volume and claim, by its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// How long no member served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime: Option<Downtime>,
    /// Until when the original volumes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<DateTime<Utc>>,
}

impl RestoreStatus {
    /// Whether the restore has ended: as planned, undone, or without having begun.
    pub fn is_over(&self) -> bool {
        matches!(self.step, RestoreStep::Ended)
    }

    /// Whether the point is in the cluster.
    pub fn has_succeeded(&self) -> bool {
        self.is_over() && self.direction == Direction::Forward && self.cause.is_none()
    }
}

/// A summary for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// The operator checks whether and how the restore can be done.
    Checking,
    /// The plan waits for approval.
    WaitingForApproval,
    /// New volumes are written while the database serves.
    Staging,
    /// The members are being stopped.
    Stopping,
    /// The volumes are being exchanged.
    Swapping,
    /// The members are being started.
    Starting,
    /// The operator waits until every member serves the restored store.
    Proving,
    /// Every member serves the restored store.
    Succeeded,
    /// The original volumes are being put back.
    RollingBack,
    /// The original volumes serve again.
    RolledBack,
    /// A step failed, and `spec.onFailure` is `Hold`: a person has to decide.
    Held,
    /// The restore ended before it had changed anything.
    Failed,
}

/// What a restore is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RestoreStep {
    /// Finding out whether and how it can be done. Changes nothing.
    #[default]
    Check,
    /// Writing new volumes beside those of the members.
    Stage,
    /// Setting the reclaim policy of every volume to Retain, then stopping the members.
    Stop,
    /// Copying to the new volumes what lies outside the store.
    Carry,
    /// Exchanging the volumes under the claims of the members.
    Swap,
    /// Starting the first member alone, and waiting until it is master.
    StartFirst,
    /// Starting the other members, and waiting until every member serves.
    StartAll,
    /// Removing what is no longer needed, and putting reclaim policies back.
    CleanUp,
    /// Nothing any more.
    Ended,
}

/// Where a restore goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// To the recovery point.
    #[default]
    Forward,
    /// To the original volumes.
    Back,
}

/// Why a restore goes back, or ended without success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// Typed reason.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What happened, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// The recovery point that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestorePoint {
    /// Name of its `GraphBackup`.
    pub name: String,
    /// UID of its `GraphBackup`.
    pub uid: String,
    /// UID of the object that made the point, as its manifest names it.
    pub owner_uid: String,
    /// Claim that holds it.
    pub claim_name: String,
    /// `spec.target.directory` of its `GraphBackup`.
    #[serde(default)]
    pub directory: String,
    /// Folder name of the point.
    pub folder: String,
    /// Group that may read its files.
    pub group: i64,
    /// SHA-256 of its manifest: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Identity of its store.
    #[schemars(with = "String")]
    pub store_id: StoreId,
    /// The last transaction in it.
    pub last_transaction: i64,
    /// Number of files.
    pub files: i64,
    /// Sum of the files' sizes, in bytes.
    pub bytes: i64,
    /// Whether a cluster can start from it, by its transaction logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// Everything that was committed before this time is in it.
    pub data_from: DateTime<Utc>,
}

/// What a restore will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// Names this plan: an approval counts for this one only. 16 hexadecimal digits.
    pub hash: String,
    /// The steps, in their order, for people.
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub steps: Vec<String>,
    /// Bytes that are copied while no member serves: everything on the members' volumes that lies outside the store.
    pub carried_bytes: i64,
}

/// How long no member served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Downtime {
    /// When the operator began to stop the members.
    pub from: DateTime<Utc>,
    /// When the first member served again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DateTime<Utc>>,
    /// The time between both, for people, such as `41s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
