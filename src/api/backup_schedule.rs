//! `BackupSchedule`: when to take full and incremental backups, what to keep, and how fresh the newest point must be.

use super::graph_backup::{cold_finds_the_member, cold_names_a_workload, cold_runs_no_tool};
use super::parts::{Deadlines, Retry, Source, Target, Tool, duration_rule};
use super::schedule_status::BackupScheduleStatus;
use super::{BackupType, Cold, DeletionPolicy, GraphBackupSpec, Method, Verification};
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Five fields or one of the words that stand for them; the operator reads the fields themselves.
fn expression_rule() -> Rule {
    Rule::new(
        "self.matches('^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[^\\\\s@=]+( +[^\\\\s=]+){4})$')",
    )
    .message(
        "write five fields, such as '15 * * * *' (minute, hour, day of month, month, day of week), or one of @hourly, \
         @daily, @midnight, @weekly, @monthly, @yearly and @annually; a time zone goes into spec.timeZone",
    )
}

/// When to take backups, what to keep, and what each backup is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "graphbackup.dev",
    version = "v1alpha1",
    kind = "BackupSchedule",
    plural = "backupschedules",
    shortname = "gbs",
    category = "graphbackup",
    namespaced,
    status = "BackupScheduleStatus",
    derive = "PartialEq",
    doc = "Takes backups of an HA graph database at fixed times, and removes the recovery points that are no longer needed.",
    validation = Rule::new("size(self.metadata.name) <= 38")
        .message("the name is at most 38 characters, so that the names of the backups and Jobs made from it fit"),
    printcolumn = r#"{"name":"Full","type":"string","jsonPath":".spec.full.schedule"}"#,
    printcolumn = r#"{"name":"Incremental","type":"string","jsonPath":".spec.incremental.schedule"}"#,
    printcolumn = r#"{"name":"Zone","type":"string","jsonPath":".spec.timeZone"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Fresh","type":"string","jsonPath":".status.conditions[?(@.type==\"Fresh\")].status"}"#,
    printcolumn = r#"{"name":"Last data","type":"date","jsonPath":".status.lastSuccess.dataFrom"}"#,
    printcolumn = r#"{"name":"Active","type":"string","jsonPath":".status.active"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.nextSlots[0].time"}"#,
    printcolumn = r#"{"name":"Last full","type":"date","priority":1,"jsonPath":".status.lastFull.dataFrom"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.full) || has(self.incremental)")
    .message("a schedule takes backups at some time: set full.schedule, incremental.schedule, or both"))]
#[x_kube(validation = Rule::new("!has(self.incremental) || self.template.method != 'Cold'")
    .message("template.method: Cold always copies the whole store: remove incremental, or use template.method: Online"))]
#[x_kube(validation = Rule::new("!has(self.template.tool.bootCommand) || self.template.verification == 'Boot' || has(self.drill)")
    .message("template.tool.bootCommand is used only with template.verification: Boot or with drill: set one of them, or \
              remove template.tool.bootCommand"))]
pub struct BackupScheduleSpec {
    /// When to take `Full` backups. At a time when an incremental backup is due as well, the full one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Timing>,
    /// When to take incremental backups. Their type is `Auto`: each is a full one where no incremental one is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<Timing>,
    /// Time zone of both schedules, by its IANA name, such as `Europe/Berlin`.
    #[serde(default = "BackupScheduleSpec::default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+/-]+$')")
        .message("timeZone is an IANA name such as 'Europe/Berlin' or 'UTC'"))]
    pub time_zone: String,
    /// The longest delay from a slot to its backup. Each schedule gets a fixed part of it, by its UID, so that schedules
    /// with the same times do not all start at once; `status.jitter` shows it. `0s` for none.
    #[serde(default = "BackupScheduleSpec::default_jitter")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = Rule::new("self == '0s' || (self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') \
            && self.matches('[1-9]') && duration(self) <= duration('24h'))")
        .message("jitter is a duration of at most 24h in hours, minutes and seconds, such as '5m', or '0s' for none"))]
    pub jitter: String,
    /// How late a backup may start. A slot that is later than this is skipped. Without it, the newest slot that was
    /// missed is always caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("startingDeadline", "30m"))]
    pub starting_deadline: Option<String>,
    /// What happens to a slot that comes while an earlier backup of this schedule is not over.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Takes no backups while it is `true`. Slots that pass meanwhile are not caught up.
    #[serde(default)]
    pub suspend: bool,
    /// How old the data of the newest recovery point may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// Which recovery points to keep. Without it, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// How many failed backups to keep, newest first.
    #[serde(default = "BackupScheduleSpec::default_failed_history_limit")]
    #[schemars(with = "i32", range(min = 0, max = 50))]
    pub failed_history_limit: u32,
    /// When to try whether the newest recovery point can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// What happens to the recovery points when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// What each backup is made of. A change counts for the backups that are taken later.
    pub template: BackupTemplate,
}

impl BackupScheduleSpec {
    fn default_time_zone() -> String {
        "UTC".to_owned()
    }

    fn default_jitter() -> String {
        "1m".to_owned()
    }

    const fn default_failed_history_limit() -> u32 {
        3
    }
}

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// A cron expression of five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = expression_rule())]
    pub schedule: String,
}

/// What happens to a slot that comes while an earlier backup of the schedule is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It is skipped. A full backup waits for an incremental one all the same.
    #[default]
    Forbid,
    /// It waits. At most one waits: the newest, but a full backup is not displaced by an incremental one.
    Queue,
    /// The earlier backup is deleted. An incremental backup does not replace a full one.
    Replace,
}

/// How fresh the newest recovery point must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    /// Age of the data from which the condition `Fresh` is `False`.
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("freshness.maxAge", "2h"))]
    pub max_age: String,
}

/// Which recovery points to keep. A point stays if one of the rules keeps it; each of the calendar rules keeps the
/// newest point of each of the newest days, weeks, months or years that have one, in the schedule's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.keepLast + self.keepDaily + self.keepWeekly + self.keepMonthly + self.keepYearly > 0 \
        || has(self.maxAge)")
    .message("retention without a rule would remove all points but minimumKeep: set keepLast, keepDaily, keepWeekly, \
              keepMonthly, keepYearly or maxAge, or remove retention to keep all of them"))]
pub struct Retention {
    /// The newest points.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub keep_last: u32,
    /// The newest point of each day.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub keep_daily: u32,
    /// The newest point of each week, Monday to Sunday.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub keep_weekly: u32,
    /// The newest point of each month.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub keep_monthly: u32,
    /// The newest point of each year.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub keep_yearly: u32,
    /// A point whose data is older is removed, whichever other rule would keep it. Alone, it keeps all younger points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("retention.maxAge", "2160h"))]
    pub max_age: Option<String>,
    /// This many of the newest points stay, whatever the other rules say.
    #[serde(default = "Retention::default_minimum_keep")]
    #[schemars(with = "i32", range(min = 1, max = 1000))]
    pub minimum_keep: u32,
    /// A plan that removes more points than this at once waits until a person approves it.
    #[serde(default = "Retention::default_approve_above")]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub approve_above: u32,
}

impl Retention {
    const fn default_minimum_keep() -> u32 {
        1
    }

    const fn default_approve_above() -> u32 {
        10
    }
}

/// A restore drill: a Job copies the newest recovery point to a scratch volume, compares every file with the manifest,
/// and opens the copy with the real engine. It never touches the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// A cron expression, as in `full.schedule`, in the same time zone.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = expression_rule())]
    pub schedule: String,
    /// What is tried.
    #[serde(default)]
    pub verification: DrillVerification,
    /// Where the copy is made. Default: an `emptyDir` on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
}

/// What a drill tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrillVerification {
    /// The real engine opens the copy.
    #[default]
    Boot,
}

/// A volume that is made for a drill and deleted with its pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scratch {
    /// Size of the volume, such as `20Gi`.
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,9}(k|M|G|T|Ki|Mi|Gi|Ti)?$')")
        .message("scratch.size is an amount of bytes such as '20Gi'"))]
    pub size: String,
    /// StorageClass of the volume. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// What each backup of a schedule is made of: a `GraphBackup` without its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cold_names_a_workload())]
#[x_kube(validation = cold_finds_the_member())]
#[x_kube(validation = cold_runs_no_tool())]
pub struct BackupTemplate {
    /// Where the database is.
    pub source: Source,
    /// How to copy.
    #[serde(default)]
    pub method: Method,
    /// Which member to stop. Required with `method: Cold`, and not allowed otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<Cold>,
    /// Where to write the recovery points.
    pub target: Target,
    /// The database's backup tool, and how its pod is made.
    pub tool: Tool,
    /// How a copy is checked before it counts.
    #[serde(default)]
    pub verification: Verification,
    /// How often a failed attempt is repeated.
    #[serde(default)]
    pub retry: Retry,
    /// Time limits of a backup.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// What happens to the files of a point when somebody deletes its `GraphBackup`. Retention removes the files in any
    /// case.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl BackupTemplate {
    /// The spec of a backup of this type.
    pub fn backup(&self, backup_type: BackupType) -> GraphBackupSpec {
        let mut template = self.clone();
        if template.verification != Verification::Boot {
            // The restore drill has its own use for it.
            template.tool.boot_command = None;
        }
        GraphBackupSpec {
            source: template.source,
            backup_type,
            method: template.method,
            cold: template.cold,
            adopt: None,
            target: template.target,
            tool: template.tool,
            verification: template.verification,
            retry: template.retry,
            deadlines: template.deadlines,
            deletion_policy: template.deletion_policy,
        }
    }
}
