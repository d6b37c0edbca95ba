//! From the specification as stored to one that cannot be wrong. Pure.

use super::retention::Policy;
use super::slots::{Expression, ExpressionError, Zone, ZoneError, parse_zone};
use crate::api::names::{APPROVE_PLAN_ANNOTATION, BACKUP_NOW_ANNOTATION, TAKE_OVER_ANNOTATION};
use crate::api::{
    BackupSchedule, BackupTemplate, BackupType, ConcurrencyPolicy, Deadlines, DeletionPolicy, Drill, DrillVerification,
    GraphBackup, Kind, Owner, Reason, Retention, Scratch, Timing, parse_duration, to_kubernetes,
};
use crate::backup::validate::{InvalidBackup, validate as validate_backup};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::core::ObjectMeta;
use std::time::Duration;

/// Longest `spec.jitter`.
const JITTER_MAX: Duration = Duration::from_hours(24);
/// Longest value of an annotation that asks for a backup.
const TOKEN_CHARACTERS_MAX: usize = 63;

/// Why a schedule cannot be worked on; the schema refuses most of these earlier.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSchedule {
    /// Metadata that the API server always sets is missing.
    #[error("the object has no {0}; only objects read from the API server can be worked on")]
    Metadata(&'static str),
    /// A cron expression.
    #[error("spec.{field}.schedule: {error}")]
    Expression {
        /// `full`, `incremental` or `drill`.
        field: &'static str,
        /// What is wrong.
        error: ExpressionError,
    },
    /// `spec.timeZone`.
    #[error("spec.timeZone: {0}")]
    Zone(#[from] ZoneError),
    /// A duration.
    #[error("spec.{0} is not a duration such as '30m' or '2h'")]
    Duration(&'static str),
    /// `spec.template`.
    #[error("{}", in_template(.0))]
    Template(#[from] InvalidBackup),
}

impl InvalidSchedule {
    /// The reason of the condition.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Expression { .. } => Reason::InvalidExpression,
            Self::Zone(_) => Reason::InvalidTimeZone,
            Self::Metadata(_) | Self::Duration(_) | Self::Template(_) => Reason::InvalidSpec,
        }
    }
}

/// A `BackupSchedule` whose every field has been read.
#[derive(Clone, Debug)]
pub struct ValidSchedule {
    /// Namespace, name and UID.
    pub owner: Owner,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: DateTime<Utc>,
    /// When full backups are due.
    pub full: Option<Timetable>,
    /// When incremental backups are due.
    pub incremental: Option<Timetable>,
    /// The zone of both.
    pub zone: Zone,
    /// From a slot to its backup.
    pub jitter: Duration,
    /// How late a backup may start.
    pub starting_deadline: Option<Duration>,
    /// What happens to a slot while an earlier backup is not over.
    pub concurrency: ConcurrencyPolicy,
    /// Takes no backups.
    pub is_suspended: bool,
    /// How old the newest data may be.
    pub fresh_for: Option<Duration>,
    /// Which points stay; all of them without it.
    pub retention: Option<Rules>,
    /// How many failed backups stay.
    pub failed_history_limit: usize,
    /// When and where the newest point is tried.
    pub drill: Option<ValidDrill>,
    /// What happens to the points when the schedule is deleted.
    pub deletion_policy: DeletionPolicy,
    /// What a backup is made of.
    pub template: BackupTemplate,
    /// Limit of a backup, and of a drill.
    pub run_deadline: Duration,
    /// Limit from a Job to its running pod.
    pub pod_start_deadline: Duration,
    /// Value of the annotation that asks for a backup at once.
    pub backup_now: Option<String>,
    /// UIDs of earlier schedules whose backups are this one's.
    pub earlier: Vec<String>,
}

/// An expression, as written and as read.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    /// As written.
    pub text: String,
    /// As read.
    pub expression: Expression,
}

/// When the newest point is tried, and on which volume.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidDrill {
    /// When.
    pub timetable: Timetable,
    /// The volume, if it is not an `emptyDir`.
    pub scratch: Option<Scratch>,
}

/// Which points stay, and what a person has to approve.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Which points stay.
    pub policy: Policy,
    /// A plan that removes more than this at once waits for a person.
    pub approve_above: usize,
    /// The plan that a person has approved.
    pub approved: Option<String>,
}

impl ValidSchedule {
    /// The type of the backups at incremental slots, or on request.
    pub const fn usual_type(&self) -> BackupType {
        if self.incremental.is_some() { BackupType::Auto } else { BackupType::Full }
    }
}

/// Reads an object from the API server. Of one that is deleted only whose the points are matters: it goes, whatever is
/// wrong with the rest.
pub fn validate(object: &BackupSchedule) -> Result<ValidSchedule, InvalidSchedule> {
    if object.metadata.deletion_timestamp.is_none() {
        let valid = read(object)?;
        require_valid_children(&valid)?;
        return Ok(valid);
    }
    let mut bare = object.clone();
    let spec = &mut bare.spec;
    (spec.full, spec.incremental, spec.drill, spec.starting_deadline) = (None, None, None, None);
    (spec.freshness, spec.retention) = (None, None);
    (spec.time_zone, spec.jitter) = ("UTC".to_owned(), "0s".to_owned());
    spec.template.deadlines = Deadlines::default();
    read(&bare)
}

fn read(object: &BackupSchedule) -> Result<ValidSchedule, InvalidSchedule> {
    let meta = &object.metadata;
    let owner = owner_of(object);
    let created = meta.creation_timestamp.as_ref().and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0));
    let spec = &object.spec;
    let timetable =
        |timing: Option<&Timing>, field| timing.map(|timing| read_timetable(&timing.schedule, field)).transpose();
    let duration = |text: Option<&String>, name| {
        text.map(|text| parse_duration(text).ok_or(InvalidSchedule::Duration(name))).transpose()
    };
    let longest_jitter = match spec.jitter.as_str() {
        "0s" => Duration::ZERO,
        jitter => {
            parse_duration(jitter).filter(|jitter| *jitter <= JITTER_MAX).ok_or(InvalidSchedule::Duration("jitter"))?
        }
    };
    let deadline = |text: &str, name| parse_duration(text).ok_or(InvalidBackup::Duration(name));
    let annotation = |name: &str| object.annotations().get(name).cloned().filter(|value| !value.is_empty());
    Ok(ValidSchedule {
        generation: meta.generation.ok_or(InvalidSchedule::Metadata("generation"))?,
        created: created.ok_or(InvalidSchedule::Metadata("creationTimestamp"))?,
        full: timetable(spec.full.as_ref(), "full")?,
        incremental: timetable(spec.incremental.as_ref(), "incremental")?,
        zone: parse_zone(&spec.time_zone)?,
        jitter: part_of(longest_jitter, &owner.uid),
        starting_deadline: duration(spec.starting_deadline.as_ref(), "startingDeadline")?,
        concurrency: spec.concurrency_policy,
        is_suspended: spec.suspend,
        fresh_for: duration(spec.freshness.as_ref().map(|fresh| &fresh.max_age), "freshness.maxAge")?,
        retention: spec
            .retention
            .as_ref()
            .map(|rules| read_rules(rules, annotation(APPROVE_PLAN_ANNOTATION)))
            .transpose()?,
        drill: read_drill(spec.drill.as_ref())?,
        failed_history_limit: spec.failed_history_limit as usize,
        deletion_policy: spec.deletion_policy,
        template: spec.template.clone(),
        run_deadline: deadline(&spec.template.deadlines.run, "run")?,
        pod_start_deadline: deadline(&spec.template.deadlines.pod_start, "podStart")?,
        backup_now: requested(object),
        earlier: taken_over(object).map(str::to_owned).collect(),
        owner,
    })
}

/// UIDs of the earlier schedules whose backups this one has taken over.
pub fn taken_over(object: &BackupSchedule) -> impl Iterator<Item = &str> {
    let uids = object.annotations().get(TAKE_OVER_ANNOTATION);
    uids.into_iter().flat_map(|uids| uids.split(',')).map(str::trim).filter(|uid| !uid.is_empty())
}

/// The value of the annotation that asks for a backup at once.
pub fn requested(object: &BackupSchedule) -> Option<String> {
    let token = object.annotations().get(BACKUP_NOW_ANNOTATION).filter(|token| !token.is_empty())?;
    Some(token.chars().take(TOKEN_CHARACTERS_MAX).collect())
}

/// What a backup of this schedule could be refused for is found now, not at its first slot.
fn require_valid_children(schedule: &ValidSchedule) -> Result<(), InvalidSchedule> {
    let incremental = schedule.incremental.as_ref().map(|_| BackupType::Auto);
    for backup_type in [BackupType::Full].into_iter().chain(incremental) {
        let mut example = GraphBackup::new("example", schedule.template.backup(backup_type));
        example.metadata = ObjectMeta {
            namespace: Some(schedule.owner.namespace.clone()),
            uid: Some(String::new()),
            resource_version: Some(String::new()),
            generation: Some(1),
            creation_timestamp: Some(to_kubernetes(schedule.created)),
            ..example.metadata
        };
        validate_backup(&example)?;
    }
    Ok(())
}

/// Words about a backup, as words about the template.
fn in_template(error: &InvalidBackup) -> String {
    let text = error.to_string();
    match text.strip_prefix("spec.") {
        Some(rest) => format!("spec.template.{rest}"),
        None => format!("spec.template: {text}"),
    }
}

fn read_timetable(text: &str, field: &'static str) -> Result<Timetable, InvalidSchedule> {
    match Expression::parse(text) {
        Ok(expression) => Ok(Timetable { text: text.to_owned(), expression }),
        Err(error) => Err(InvalidSchedule::Expression { field, error }),
    }
}

fn read_drill(drill: Option<&Drill>) -> Result<Option<ValidDrill>, InvalidSchedule> {
    let Some(Drill { schedule, verification: DrillVerification::Boot, scratch }) = drill else { return Ok(None) };
    Ok(Some(ValidDrill { timetable: read_timetable(schedule, "drill")?, scratch: scratch.clone() }))
}

fn read_rules(rules: &Retention, approved: Option<String>) -> Result<Rules, InvalidSchedule> {
    let max_age =
        rules.max_age.as_ref().map(|text| parse_duration(text).ok_or(InvalidSchedule::Duration("retention.maxAge")));
    Ok(Rules {
        policy: Policy {
            keep_last: rules.keep_last,
            keep_daily: rules.keep_daily,
            keep_weekly: rules.keep_weekly,
            keep_monthly: rules.keep_monthly,
            keep_yearly: rules.keep_yearly,
            max_age: max_age.transpose()?,
            minimum_keep: rules.minimum_keep,
        },
        approve_above: rules.approve_above as usize,
        approved,
    })
}

/// A part of a duration in whole seconds, the same for the same UID.
fn part_of(longest: Duration, uid: &str) -> Duration {
    // FNV-1a: neighbouring UIDs get parts far apart.
    let hash = uid
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Duration::from_secs(hash % (longest.as_secs() + 1))
}

/// The schedule as the owner of what belongs to it.
pub fn owner_of(object: &BackupSchedule) -> Owner {
    Owner {
        kind: Kind::BackupSchedule,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}
