//! The status of a schedule before and after a decision. Pure.

use super::validate::{InvalidSchedule, ValidSchedule, requested};
use crate::api::condition::{self, FRESH, READY, RECONCILING, SCHEDULE_VALID, STALLED, Truth};
use crate::api::{
    BackupNow, BackupSchedule, BackupScheduleStatus, DrillStatus, Reason, SchedulePhase, TimingStatus, parse_duration,
};
use crate::controller::metrics::ScheduleFacts;
use chrono::{DateTime, Utc};
use kube::api::DynamicObject;
use serde_json::json;

/// The status of the object, unless it was written for another one, as where a tool restored it with its status.
pub fn own(object: &BackupSchedule) -> BackupScheduleStatus {
    let status = object.status.clone().unwrap_or_default();
    let is_foreign = status.uid.is_some() && status.uid != object.metadata.uid;
    if is_foreign { BackupScheduleStatus::default() } else { status }
}

/// A deleted schedule that this version cannot read, as far as it matters: what a later version may have written in the
/// rest of its spec has no part in its end. A `deletionPolicy` that is not known is taken for the one that removes
/// nothing.
pub fn remains(object: &DynamicObject) -> Result<BackupSchedule, serde_json::Error> {
    let policy = if object.data["spec"]["deletionPolicy"] == "Delete" { "Delete" } else { "Retain" };
    let template = json!({"source": {"uri": ""}, "target": {"claimName": ""}, "tool": {"image": ""}});
    let spec = serde_json::from_value(json!({"deletionPolicy": policy, "template": template}))?;
    let status = serde_json::from_value(object.data["status"].clone()).ok();
    let unread = || BackupScheduleStatus { uid: object.metadata.uid.clone(), ..BackupScheduleStatus::default() };
    Ok(BackupSchedule { metadata: object.metadata.clone(), spec, status: Some(status.unwrap_or_else(unread)) })
}

/// The status that a decision starts from.
pub fn begun(schedule: &ValidSchedule, before: &BackupScheduleStatus) -> BackupScheduleStatus {
    BackupScheduleStatus { uid: Some(schedule.owner.uid.clone()), ..before.clone() }
}

/// In which words the API server refuses what this condition is about, if it does.
pub fn refusal<'a>(status: Option<&'a BackupScheduleStatus>, kind: &str) -> Option<&'a str> {
    let told = status?.conditions.iter().find(|condition| condition.type_ == kind)?;
    let refused = [Reason::BackupRefused, Reason::RemovalRefused];
    refused.iter().any(|reason| reason.as_str() == told.reason).then_some(told.message.as_str())
}

/// What the metrics tell of a schedule.
pub fn facts(status: &BackupScheduleStatus) -> ScheduleFacts {
    ScheduleFacts {
        is_fresh: match condition::get(&status.conditions, FRESH) {
            Some(Truth::True) => Some(true),
            Some(Truth::False) => Some(false),
            Some(Truth::Unknown) | None => None,
        },
        data_from: status.last_success.as_ref().map(|point| point.data_from.timestamp()),
        next_slot: status.next_slots.first().map(|slot| slot.time.timestamp()),
        failures: status.failures.as_ref().map_or(0, |failures| i64::from(failures.in_a_row)),
        skipped: status.skipped.iter().map(|skipped| skipped.count).fold(0, i64::saturating_add),
    }
}

/// The status of a schedule that cannot be read, and when its data gets too old.
pub fn invalid(
    object: &BackupSchedule,
    error: &InvalidSchedule,
    now: DateTime<Utc>,
) -> (BackupScheduleStatus, Option<DateTime<Utc>>) {
    let generation = object.metadata.generation;
    let (reason, message) = (error.reason(), error.to_string());
    let before = own(object);
    let is_new = before.observed_generation.is_none();
    let wish = requested(object).filter(|_| is_new).map(|token| BackupNow { token, name: None });
    let mut status = BackupScheduleStatus {
        uid: object.metadata.uid.clone(),
        observed_generation: generation,
        phase: Some(SchedulePhase::Stalled),
        // Nothing is due for the time in which the schedule cannot be read.
        full: None,
        incremental: None,
        drill: before
            .drill
            .clone()
            .map(|drill| DrillStatus { timing: TimingStatus { schedule: String::new(), ..drill.timing }, ..drill }),
        next_slots: Vec::new(),
        backup_now: before.backup_now.clone().or(wish),
        ..before
    };
    let mut set = |kind, truth| {
        condition::set(&mut status.conditions, kind, truth, reason, &message, generation, now);
    };
    for (kind, truth) in
        [(SCHEDULE_VALID, Truth::False), (READY, Truth::False), (RECONCILING, Truth::False), (STALLED, Truth::True)]
    {
        set(kind, truth);
    }
    let stale_at = stale_at(object, status.last_success.as_ref().map(|point| point.data_from));
    let is_stale = stale_at.is_some_and(|stale_at| now >= stale_at);
    if is_stale {
        condition::set(&mut status.conditions, FRESH, Truth::False, reason, &message, generation, now);
    }
    (status, stale_at.filter(|_| !is_stale))
}

/// When the data of a schedule that cannot be read gets too old, as far as that can be read.
fn stale_at(object: &BackupSchedule, data_from: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    let created = || DateTime::from_timestamp(object.metadata.creation_timestamp.as_ref()?.0.as_second(), 0);
    let fresh_for = parse_duration(&object.spec.freshness.as_ref()?.max_age)?;
    Some(data_from.or_else(created)? + fresh_for)
}
