//! The Event that tells of a step. Pure.

use super::status::{success, with_member};
use super::step::{Ending, Note as Told, ObjectStep, Removal, Step};
use crate::api::{GraphBackupStatus, Owner, Reason};
use crate::controller::event::{self, Note};
use chrono::{DateTime, Utc};
use k8s_openapi::api::events::v1::Event;

/// The Event that tells of a step, created before the step is recorded in status: a crash in between repeats the
/// creation, which the Event's name makes harmless. Progress has none: status tells of it.
pub fn event(
    owner: &Owner,
    resource_version: &str,
    status: &GraphBackupStatus,
    step: &Step,
    instance: &str,
    now: DateTime<Utc>,
) -> Option<Event> {
    let (severity, reason, text, action) = match step {
        Step::Succeed(point) => {
            let (reason, message) = success(point, &owner.uid);
            ("Normal", reason, with_member(message, status), "Backup")
        }
        Step::CloseAttempt(Ending { reason, message, .. }) => ("Warning", *reason, message.clone(), "Attempt"),
        Step::Fail(Ending { reason, message, .. })
        | Step::Object(
            ObjectStep::Refuse(Ending { reason, message, .. }) | ObjectStep::Disown(Ending { reason, message, .. }),
        ) => ("Warning", *reason, with_member(message.clone(), status), "Backup"),
        Step::MemberMissing(note) => ("Warning", Reason::MemberNotBack, note.clone(), "Member"),
        Step::Object(ObjectStep::Release(Some(note)))
        | Step::Remove(Removal::Release(Some(note)) | Removal::Failed { note, .. }) => {
            return Some(removal(owner, resource_version, note, instance, now));
        }
        Step::Object(ObjectStep::Nothing | ObjectStep::SetFinalizers(_) | ObjectStep::Release(None))
        | Step::Wait(_)
        | Step::OpenAttempt { .. }
        | Step::CopyMember(_)
        | Step::RecreateJob(_)
        | Step::RecreateCheck
        | Step::Checked
        | Step::StopMember(_)
        | Step::StartMember(_)
        | Step::LeaveReplicas
        | Step::BreakLock(_)
        | Step::Adopt(..)
        | Step::Inspect(_)
        | Step::Unanswered(..)
        | Step::DeleteJob(_)
        | Step::Remove(
            Removal::Release(None) | Removal::StopJob(_) | Removal::StartMember(_) | Removal::Prune | Removal::Wait(_),
        ) => {
            return None;
        }
    };
    let turn = format!("{}.{}", status.attempts.len(), action.to_lowercase());
    let note = Note { severity, reason, text: &text, action, turn: &turn };
    Some(event::event(owner, resource_version, note, instance, now))
}

/// The Event of a removal that failed, or left something: one for each reason.
fn removal(owner: &Owner, resource_version: &str, told: &Told, instance: &str, now: DateTime<Utc>) -> Event {
    let turn = format!("removal.{}", told.reason.as_str().to_lowercase());
    let note = Note { severity: "Warning", reason: told.reason, text: &told.message, action: "Removal", turn: &turn };
    event::event(owner, resource_version, note, instance, now)
}
