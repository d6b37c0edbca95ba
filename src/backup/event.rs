//! Events of a backup: named by what they say, so that saying it twice is impossible.

use super::status::{success, with_member};
use super::step::{Ending, Step};
use crate::api::Owner;
use crate::api::condition::shorten;
use crate::api::{GraphBackup, GraphBackupStatus, Reason, to_kubernetes};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Resource;

/// Limit of the API server for a note, bytes.
const NOTE_BYTES_MAX: usize = 1024;

/// The Event that a step is told with, before it is recorded in status: a crash in between repeats the Event's
/// creation, which its name makes harmless. Progress makes none: status tells it.
pub fn event(
    owner: &Owner,
    resource_version: &str,
    status: &GraphBackupStatus,
    step: &Step,
    instance: &str,
    now: DateTime<Utc>,
) -> Option<Event> {
    let (kind, reason, note, action) = match step {
        Step::Succeed(point) => {
            let (reason, message) = success(point, &owner.uid);
            ("Normal", reason, with_member(message, status), "Backup")
        }
        Step::CloseAttempt(Ending { reason, message, .. }) => ("Warning", *reason, message.clone(), "Attempt"),
        Step::Fail(Ending { reason, message, .. }) => {
            ("Warning", *reason, with_member(message.clone(), status), "Backup")
        }
        Step::MemberMissing(note) => ("Warning", Reason::MemberNotBack, note.clone(), "Member"),
        Step::Wait(_)
        | Step::Start { .. }
        | Step::Adopt(..)
        | Step::Unanswered(..)
        | Step::DeleteFirst(..)
        | Step::Check
        | Step::Checked
        | Step::StopMember(_)
        | Step::StartMember(_)
        | Step::BreakLock(_)
        | Step::Inspect(_)
        | Step::DeleteJob(_) => return None,
    };
    let turn = format!("{}.{}", status.attempts.len(), action.to_lowercase());
    Some(about(owner, resource_version, &turn, Said { kind, reason, note: &note, action }, instance, now))
}

/// The Event of a removal that failed, or left something: one for each reason.
pub fn removal_event(
    owner: &Owner,
    resource_version: &str,
    reason: Reason,
    note: &str,
    instance: &str,
    now: DateTime<Utc>,
) -> Event {
    let turn = format!("removal.{}", reason.as_str().to_lowercase());
    let said = Said { kind: "Warning", reason, note, action: "Removal" };
    about(owner, resource_version, &turn, said, instance, now)
}

#[derive(Clone, Copy)]
struct Said<'a> {
    kind: &'static str,
    reason: Reason,
    note: &'a str,
    action: &'static str,
}

/// An Event about an object. `turn` tells it from the others about the same object.
fn about(owner: &Owner, version: &str, turn: &str, said: Said<'_>, instance: &str, now: DateTime<Utc>) -> Event {
    let uid = owner.uid.get(..8).unwrap_or(&owner.uid);
    let name = format!("{}.{uid}.{turn}", owner.name);
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(owner.namespace.clone()), ..ObjectMeta::default() },
        action: Some(said.action.to_owned()),
        event_time: Some(MicroTime(to_kubernetes(now).0)),
        note: Some(shorten(said.note, NOTE_BYTES_MAX)),
        reason: Some(said.reason.to_string()),
        regarding: Some(ObjectReference {
            api_version: Some(GraphBackup::api_version(&()).into_owned()),
            kind: Some(GraphBackup::kind(&()).into_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            uid: Some(owner.uid.clone()),
            resource_version: Some(version.to_owned()),
            field_path: None,
        }),
        reporting_controller: Some("graphbackup.dev/graph-backup-operator".to_owned()),
        reporting_instance: Some(shorten(instance, 128)),
        type_: Some(said.kind.to_owned()),
        ..Event::default()
    }
}
