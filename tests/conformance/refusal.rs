//! What the API server does not take: the rules that objects of ours could break.

use super::api::{backup, event, job};
use super::stage::{Stage, version};
use super::task::STORE;
use graph_backup_operator::api::GraphBackup;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

/// An object with one value changed.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

pub async fn of_jobs(stage: &Stage) {
    let jobs = stage.objects::<Job>();
    let owner =
        |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid, "controller": true});
    for (pointer, value) in [
        // It becomes a label of the pods.
        ("/metadata/name", json!("n".repeat(64))),
        ("/metadata/name", json!("One")),
        ("/metadata/name", json!("one-")),
        ("/metadata/labels", json!({"a": "v".repeat(64)})),
        ("/metadata/labels", json!({"a": "not a value"})),
        ("/metadata/labels", json!({"a": "-b"})),
        ("/spec/template/metadata", json!({"labels": {"a": "v".repeat(64)}})),
        ("/metadata/ownerReferences", json!([owner("a"), owner("b")])),
    ] {
        jobs.create(&with(job("one"), pointer, value)).await.is("422 Invalid");
    }
    jobs.create(&job(&"n".repeat(63))).await.is("201");
    jobs.create(&with(job("labelled"), "/metadata/labels", json!({"a": "v".repeat(63), "b": ""}))).await.is("201");
}

pub async fn of_events(stage: &Stage) {
    let events = stage.objects::<Event>();
    let one = || event("one", stage.namespace());
    for (pointer, value) in [
        ("/note", json!("n".repeat(1025))),
        ("/action", json!("")),
        ("/action", json!("a".repeat(129))),
        ("/reason", json!("")),
        ("/reason", json!("r".repeat(129))),
        ("/reportingController", json!("")),
        ("/reportingInstance", json!("")),
        ("/reportingInstance", json!("i".repeat(129))),
        ("/eventTime", Value::Null),
        ("/type", json!("Alarm")),
    ] {
        events.create(&with(one(), pointer, value)).await.is("422 Invalid");
    }
    events.create(&with(one(), "/note", json!("ö".repeat(512)))).await.is("201");
}

fn condition() -> Value {
    json!({"type": "Ready", "status": "True", "reason": "AsTold", "message": "", "lastTransitionTime": "2026-11-24T06:00:00Z"})
}

fn attempt(number: usize) -> Value {
    json!({
        "number": number, "job": "one", "startTime": "2026-11-24T06:00:00Z", "message": "ö".repeat(1024),
        "storeId": STORE, "mastership": {"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": STORE}},
    })
}

pub async fn of_status(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let created = backups.create(&backup("one")).await.is("201");
    let conditions = |count: usize| (0..count).map(|n| with(condition(), "/type", json!(format!("C{n}")))).collect();
    let attempts = |count: usize| (1..=count).map(attempt).collect();
    for (field, value) in [
        ("conditions", conditions(17)),
        ("conditions", json!([with(condition(), "/reason", Value::Null)])),
        ("conditions", json!([with(condition(), "/message", Value::Null)])),
        ("conditions", json!([with(condition(), "/lastTransitionTime", Value::Null)])),
        ("attempts", attempts(12)),
        ("attempts", json!([with(attempt(1), "/message", json!("ö".repeat(1025)))])),
    ] {
        backups.apply_status("one", "conformance", version(&created), &json!({field: value})).await.is("422 Invalid");
    }
    let twice = json!({"conditions": [condition(), condition()]});
    backups.apply_status("one", "conformance", version(&created), &twice).await.is("500");
    let full: Value = json!({"conditions": conditions(16), "attempts": attempts(11)});
    backups.apply_status("one", "conformance", version(&created), &full).await.is("200");
}
