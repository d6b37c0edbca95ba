//! The Events that tell of a schedule. Pure.

use super::step::{Note, Step};
use crate::api::{BackupScheduleStatus, Owner, Reason};
use crate::controller::event;
use chrono::{DateTime, Utc};
use k8s_openapi::api::events::v1::Event;

/// The Event of a note, created before the note is recorded: a crash in between repeats the creation, which the Event's
/// name makes harmless.
pub fn event(owner: &Owner, resource_version: &str, note: &Note, instance: &str, now: DateTime<Utc>) -> Event {
    let told = event::Note {
        severity: "Warning",
        reason: note.reason,
        text: &note.text,
        action: "Schedule",
        turn: &note.turn,
    };
    event::event(owner, resource_version, told, instance, now)
}

/// What is told of a schedule that cannot be read, once for each generation.
pub fn invalid(status: &BackupScheduleStatus, reason: Reason, text: String) -> Note {
    let turn = format!("invalid.{}", status.observed_generation.unwrap_or_default());
    Note { reason, text, turn }
}

/// Logs what was done.
pub fn log(owner: &Owner, step: &Step, notes: &[Note]) {
    let schedule = owner.name.as_str();
    for Note { reason, text, .. } in notes {
        tracing::warn!(schedule, %reason, "{text}");
    }
    match step {
        Step::Record | Step::Look(_) | Step::AskTime | Step::Count | Step::SetFinalizers(_) => {}
        Step::Take(child) => {
            let backup = child.metadata.name.as_deref().unwrap_or_default();
            tracing::info!(schedule, backup, "backup created");
        }
        Step::Replace(child) => tracing::info!(schedule, backup = child.name, "backup replaced before its end"),
        Step::Forget(child) => tracing::info!(schedule, backup = child.name, "backup without a point deleted"),
        Step::Unmark(child) => tracing::info!(schedule, backup = child.name, "mark of a point that stays taken off"),
        Step::Prune(child) => tracing::info!(schedule, backup = child.name, "point deleted: no rule keeps it"),
        Step::Drill { job, .. } => tracing::info!(schedule, job, "restore drill started"),
        Step::EndDrill { result, .. } => {
            tracing::info!(schedule, backup = result.name, passed = result.passed, "restore drill ended");
        }
    }
}
