//! The state of a `BackupSchedule`. It stays small however long the schedule lives.

use super::BackupType;
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of the schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleStatus {
    /// UID of the object that this status is about. The operator does not believe the status of another object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A summary for people, derived from the conditions. Programs should read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<SchedulePhase>,
    /// `Ready`, `Reconciling` and `Stalled` (as kstatus defines them), `ScheduleValid`, `Fresh` and `RetentionApplied`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The full backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<TimingStatus>,
    /// The incremental backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<TimingStatus>,
    /// Delay from a slot to its backup, such as `37s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// The next three slots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub next_slots: Vec<Slot>,
    /// The slot that waits for an earlier backup to end, or for a restore drill that goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Slot>,
    /// Name of the backup that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// The newest recovery point of this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<LastPoint>,
    /// The newest full recovery point of this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full: Option<LastPoint>,
    /// Backups that failed since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Failures>,
    /// Slots without a backup, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub skipped: Vec<Skipped>,
    /// Backups that were replaced before they ended, since the last one that ended by itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(with = "i32")]
    pub replaced: u32,
    /// The last backup that the annotation `graphbackup.dev/backup-now` asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_now: Option<BackupNow>,
    /// What retention keeps and removes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// How the target fills up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// The restore drills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillStatus>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The state of a schedule, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchedulePhase {
    /// Takes backups.
    Active,
    /// `spec.suspend` is `true`.
    Suspended,
    /// Needs a person; the condition `Stalled` says why.
    Stalled,
}

/// How far one of the two expressions has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimingStatus {
    /// The expression, as the operator read it last.
    pub schedule: String,
    /// The time zone, as the operator read it last.
    pub time_zone: String,
    /// Slots up to this time are not due: the expression or the zone was new, or the schedule was suspended.
    pub since: DateTime<Utc>,
    /// The newest slot that was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<DateTime<Utc>>,
}

/// A time at which a backup is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// The time that the expression gives, without jitter.
    pub time: DateTime<Utc>,
    /// `Full`, or `Auto` for an incremental backup.
    #[serde(rename = "type")]
    pub backup_type: BackupType,
}

/// The newest recovery point of its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPoint {
    /// Name of its `GraphBackup`.
    pub name: String,
    /// Everything that was committed before this time is in the point.
    pub data_from: DateTime<Utc>,
    /// Number of incremental backups since the last full one; 0 for a full backup.
    #[serde(default)]
    #[schemars(with = "i32")]
    pub depth: u32,
}

/// Backups that failed since the last success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// How many.
    #[schemars(with = "i32")]
    pub in_a_row: u32,
    /// Name of the newest one.
    pub name: String,
    /// Reason of the newest one.
    pub reason: String,
    /// When the newest one ended.
    pub time: DateTime<Utc>,
}

/// Slots that were skipped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// The reason.
    pub reason: String,
    /// How many, since the schedule was created.
    pub count: i64,
    /// The newest of them.
    pub last_slot: DateTime<Utc>,
}

/// A backup that the annotation asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupNow {
    /// Value of the annotation.
    #[schemars(length(max = 63))]
    pub token: String,
    /// Name of the `GraphBackup`. Absent for a value that was there when the schedule was created: it is not a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What retention keeps and removes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// The points that stay, each with the rules that keep it: this schedule's own first, newest first. At most 50 are
    /// listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub keeps: Vec<Keeps>,
    /// Number of this schedule's points that stay.
    #[schemars(with = "i32")]
    pub kept: u32,
    /// Number of points of others on the same target: they stay, and take no place.
    #[serde(default)]
    #[schemars(with = "i32")]
    pub others: u32,
    /// The points that are to be removed; at most 50 are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub removes: Vec<Removes>,
    /// Number of points that are to be removed.
    #[schemars(with = "i32")]
    pub removing: u32,
    /// What a person has approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Approved>,
    /// Identifies the plan. The annotation `graphbackup.dev/approve-plan` with this value approves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// A plan that a person has approved. Each removal makes another plan; the approval counts for all points that the first
/// one removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// Generation of the spec: a later one needs another approval.
    pub generation: i64,
    /// Data time of the newest point that the plan removed.
    pub until: DateTime<Utc>,
}

/// A point that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keeps {
    /// Name of its `GraphBackup`.
    pub name: String,
    /// Why, such as `keepLast`, `keepDaily 2026-11-24`, `pinned` or `made by hand`.
    #[schemars(length(max = 8))]
    pub rules: Vec<String>,
}

/// A point that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Removes {
    /// Name of its `GraphBackup`.
    pub name: String,
    /// Why.
    pub why: String,
}

/// How the target fills up, by the sizes of this schedule's points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Free space after the newest point, in bytes.
    pub free_bytes: i64,
    /// What the newest point takes on the volume, in bytes, without what it shares with its parent.
    pub point_bytes: i64,
    /// What the points of a day take, in bytes: the average of those that are kept from the last seven days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<i64>,
    /// Days until the target is full at this pace, if nothing is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
}

/// The restore drills of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillStatus {
    /// How far the expression has come.
    pub timing: TimingStatus,
    /// The drill that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningDrill>,
    /// How the last drill ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<DrillResult>,
}

/// A drill that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningDrill {
    /// Name of the `GraphBackup` whose point is tried.
    pub name: String,
    /// UID of that `GraphBackup`.
    pub uid: String,
    /// SHA-256 of the manifest of the point: `sha256:<hex>`.
    pub manifest_digest: String,
    /// Name of the Job.
    pub job: String,
    /// When the drill was decided.
    pub start_time: DateTime<Utc>,
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillResult {
    /// Name of the `GraphBackup` whose point was tried.
    pub name: String,
    /// Whether the engine opened the copy.
    pub passed: bool,
    /// Why not; `StoreOpened` if it did.
    pub reason: String,
    /// For people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When it ended.
    pub time: DateTime<Utc>,
    /// The measured recovery time: whole seconds from the start of copying to the engine's success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// The last transaction that the engine found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transaction: Option<i64>,
}
