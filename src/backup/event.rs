//! Events of a backup: named by what they say, so that saying it twice is impossible.

use super::decide::{Ending, Step};
use super::status::success;
use crate::agent::run::Owner;
use crate::api::condition::shorten;
use crate::api::{GraphBackup, GraphBackupStatus, to_kubernetes};
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
            let (reason, message) = success(point);
            ("Normal", reason, message, "Backup")
        }
        Step::CloseAttempt(Ending { reason, message, .. }) => ("Warning", *reason, message.clone(), "Attempt"),
        Step::Fail(Ending { reason, message, .. }) => ("Warning", *reason, message.clone(), "Backup"),
        Step::Wait(_) | Step::Start { .. } | Step::BreakLock(_) | Step::Inspect | Step::DeleteJob(_) => return None,
    };
    let uid = owner.uid.get(..8).unwrap_or(&owner.uid);
    let name = format!("{}.{uid}.{}.{}", owner.name, status.attempts.len(), action.to_lowercase());
    Some(Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(owner.namespace.clone()), ..ObjectMeta::default() },
        action: Some(action.to_owned()),
        event_time: Some(MicroTime(to_kubernetes(now).0)),
        note: Some(shorten(&note, NOTE_BYTES_MAX)),
        reason: Some(reason.to_string()),
        regarding: Some(ObjectReference {
            api_version: Some(GraphBackup::api_version(&()).into_owned()),
            kind: Some(GraphBackup::kind(&()).into_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            uid: Some(owner.uid.clone()),
            resource_version: Some(resource_version.to_owned()),
            field_path: None,
        }),
        reporting_controller: Some("graphbackup.dev/graph-backup-operator".to_owned()),
        reporting_instance: Some(shorten(instance, 128)),
        type_: Some(kind.to_owned()),
        ..Event::default()
    })
}
