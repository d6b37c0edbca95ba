//! The conditions that sum up a schedule. Pure.

use super::due::rest;
use super::facts::{is_replaced_too_soon, replaced_too_soon, set};
use crate::api::condition::{READY, RECONCILING, SCHEDULE_VALID, STALLED, Truth};
use crate::api::{BackupScheduleStatus, Reason, SchedulePhase, moment};
use crate::schedule::validate::ValidSchedule;
use chrono::{DateTime, Utc};

/// Sets what follows from everything else.
pub fn close(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    refused: Option<(Reason, &str)>,
    now: DateTime<Utc>,
) {
    status.observed_generation = Some(schedule.generation);
    let stalled = stalled(status, now);
    status.phase = Some(match (&stalled, schedule.is_suspended) {
        (_, true) => SchedulePhase::Suspended,
        (Some(_), false) => SchedulePhase::Stalled,
        (None, false) => SchedulePhase::Active,
    });
    set(status, schedule, SCHEDULE_VALID, (Truth::True, Reason::Valid, ""), now);
    let (ready, reconciling, reason, message) = match (stalled.clone(), refused) {
        (Some((reason, message)), _) => (Truth::False, Truth::False, reason, message),
        (None, Some((reason, words))) => (Truth::False, Truth::True, reason, words.to_owned()),
        (None, None) if schedule.is_suspended => {
            (Truth::True, Truth::False, Reason::Suspended, "spec.suspend is true: no slot gets a backup".to_owned())
        }
        (None, None) => (Truth::True, Truth::False, Reason::Active, String::new()),
    };
    set(status, schedule, READY, (ready, reason, &message), now);
    set(status, schedule, RECONCILING, (reconciling, reason, ""), now);
    let (truth, message) = stalled.map_or((Truth::False, String::new()), |(_, message)| (Truth::True, message));
    set(status, schedule, STALLED, (truth, reason, &message), now);
}

/// What a person has to see to, although the schedule goes on.
fn stalled(status: &BackupScheduleStatus, now: DateTime<Utc>) -> Option<(Reason, String)> {
    if is_replaced_too_soon(status) {
        return Some((Reason::ReplacedTooSoon, replaced_too_soon(status.replaced)));
    }
    let until = rest(status).filter(|until| now < *until)?;
    let failures = status.failures.as_ref()?;
    let text = format!(
        "the last {} backups failed with {} (see {}): repair the target; slots until {} are skipped",
        failures.in_a_row,
        failures.reason,
        failures.name,
        moment(until)
    );
    Some((Reason::TargetKeepsFailing, text))
}
