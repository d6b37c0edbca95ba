//! Events about an object: named by what they say, so that saying it twice is impossible. Pure.

use crate::api::condition::shorten;
use crate::api::{Owner, Reason, to_kubernetes};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// Limit of the API server for a note, bytes.
const NOTE_BYTES_MAX: usize = 1024;
/// Limit of the API server for `reportingInstance`, bytes.
const INSTANCE_BYTES_MAX: usize = 128;

/// What an Event says.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// `Normal` or `Warning`.
    pub severity: &'static str,
    /// Typed reason.
    pub reason: Reason,
    /// For people.
    pub text: &'a str,
    /// What the operator was doing, one word.
    pub action: &'static str,
    /// Tells the Event from the others about the same object.
    pub turn: &'a str,
}

/// An Event about an object, as this replica reports it.
pub fn event(owner: &Owner, resource_version: &str, note: Note<'_>, instance: &str, now: DateTime<Utc>) -> Event {
    let uid = owner.uid.get(..8).unwrap_or(&owner.uid);
    let name = format!("{}.{uid}.{}", owner.name, note.turn);
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(owner.namespace.clone()), ..ObjectMeta::default() },
        action: Some(note.action.to_owned()),
        event_time: Some(MicroTime(to_kubernetes(now).0)),
        note: Some(shorten(note.text, NOTE_BYTES_MAX)),
        reason: Some(note.reason.to_string()),
        regarding: Some(ObjectReference {
            api_version: Some(owner.kind.api_version().to_owned()),
            kind: Some(owner.kind.as_str().to_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            uid: Some(owner.uid.clone()),
            resource_version: Some(resource_version.to_owned()),
            field_path: None,
        }),
        reporting_controller: Some("graphbackup.dev/graph-backup-operator".to_owned()),
        reporting_instance: Some(shorten(instance, INSTANCE_BYTES_MAX)),
        type_: Some(note.severity.to_owned()),
        ..Event::default()
    }
}
