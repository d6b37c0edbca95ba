//! The rules of the CRDs: each with a value that passes and values that do not; and what holds for every schema.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test says what it wants in the fewest words")]

mod backup;
mod restore;
mod schedule;

use graph_backup_operator::api;
use kube::CustomResourceExt;
use kube::core::cel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    object
}

fn parse<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).unwrap()
}

/// Messages of the rules that an object breaks.
fn refusals<K: CustomResourceExt + DeserializeOwned + Serialize>(object: &Value) -> String {
    match cel::validate_cel(&parse::<K>(object)) {
        Ok(()) => String::new(),
        Err(errors) => format!("{errors}"),
    }
}

/// The object as the API server gives it back.
fn stored<K: DeserializeOwned>(mut object: Value, name: &str) -> K {
    let metadata = json!({
        "name": name, "namespace": "graph", "uid": "1a2b3c4d", "resourceVersion": "7", "generation": 1,
        "creationTimestamp": "2026-11-24T06:00:00Z",
    });
    object["metadata"] = metadata;
    parse(&object)
}

fn passes<K: CustomResourceExt + DeserializeOwned + Serialize>(object: Value, pointer: &str, value: Value) {
    assert_eq!(refusals::<K>(&with(object, pointer, value.clone())), "", "{pointer} = {value} is refused");
}

fn refused<K: CustomResourceExt + DeserializeOwned + Serialize>(
    object: Value,
    pointer: &str,
    value: Value,
    hint: &str,
) {
    let said = refusals::<K>(&with(object, pointer, value.clone()));
    assert!(said.contains(hint), "{pointer} = {value}: expected a hint with {hint:?}, got {said:?}");
}

/// The schema of each kind, with its name.
fn schemas() -> Vec<(String, Value)> {
    let yaml = api::crds_yaml().unwrap();
    let crds = serde_yaml::Deserializer::from_str(&yaml).map(|document| Value::deserialize(document).unwrap());
    let schema = |mut crd: Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
    crds.map(|crd| (crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(), schema(crd))).collect()
}

/// Calls `look` with every part of a schema and its path, but not with what is below a type of Kubernetes itself.
fn walk(path: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    const OF_KUBERNETES: [&str; 7] =
        ["affinity", "env", "resources", "tolerations", "securityContext", "imagePullSecrets", "conditions"];
    look(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if !OF_KUBERNETES.contains(&name.as_str()) {
            walk(&format!("{path}.{name}"), property, look);
        }
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], look);
    }
}

#[test]
fn every_kind_is_in_the_crds() {
    let kinds: Vec<_> = schemas().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["GraphBackup", "BackupSchedule", "Restore"]);
}

/// The schema is strict where an object is written: only the two notes of the operator to itself keep fields that it
/// does not name.
#[test]
fn the_schema_keeps_no_unknown_field() {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, part| {
            if part["x-kubernetes-preserve-unknown-fields"] == true {
                found.push(path.to_owned());
            }
        });
    }
    assert_eq!(found, ["GraphBackup.status.attempts[].mastership"]);
}

#[test]
fn every_string_list_and_map_of_ours_has_a_bound() {
    // The API server estimates the cost of rules from these bounds. Embedded Kubernetes types have none.
    let mut missing = Vec::new();
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, part| {
            let bound = match part["type"].as_str() {
                Some("string") if part["enum"].is_null() && part["format"].is_null() => "maxLength",
                Some("array") => "maxItems",
                Some("object") if part["additionalProperties"].is_object() => "maxProperties",
                _ => "type",
            };
            if part[bound].is_null() {
                missing.push(format!("{path}: {bound}"));
            }
        });
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_status_stays_small() {
    let mut missing = Vec::new();
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.status"), &schema["properties"]["status"], &mut |path, part| {
            if part["type"] == "array" && part["maxItems"].is_null() {
                missing.push(path.to_owned());
            }
        });
    }
    assert!(missing.is_empty(), "lists without maxItems: {missing:#?}");
}
