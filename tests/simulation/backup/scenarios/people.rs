//! People work on the same objects.

use crate::apiserver::{Key, Kind, Store};
use crate::backup::jobs::{backup, inspect};
use crate::backup::scenario::{BACKUP, Scenario, scenario};
use crate::driver::Run;
use crate::fault::{delete, recreate};
use crate::world::NAMESPACE;
use crate::world::agent::claim;
use crate::world::cluster::Behaviour::Fails;
use crate::world::database::STORE;
use crate::world::pods;
use graph_backup_operator::api::Reason;
use graph_backup_operator::api::names::{BACKUP_UID_LABEL, MANAGED_BY_LABEL};
use serde_json::{Value, json};

pub fn deleted_before_the_first_look() -> Scenario {
    scenario("deleted before the first look").operator_down_at_first(20).at(10, delete_backup).ends_deleted(&[])
}

pub fn deleted_while_the_job_runs() -> Scenario {
    scenario("deleted while the Job runs").in_mid_run(delete_backup).ends_deleted(&[backup(1)])
}

pub fn deleted_while_somebody_holds_it() -> Scenario {
    scenario("deleted while somebody holds it")
        .prepared(|store, _| change(store, |backup| backup["metadata"]["finalizers"] = json!(["example.com/hold"])))
        .in_mid_run(delete_backup)
        .at(600, |store| change(store, |backup| backup["metadata"]["finalizers"] = json!([])))
        .ends_deleted(&[backup(1)])
        .also(|run: &Run| assert!(run.end.iter().all(|object| object["kind"] != "Event"), "work went on"))
}

pub fn recreated_while_the_job_runs() -> Scenario {
    scenario("recreated while the Job runs")
        .in_mid_run(|store| recreate(store, &key()))
        .succeeds(&[backup(1), backup(1)])
}

pub fn label_of_the_job_removed() -> Scenario {
    scenario("label of the Job removed")
        .in_mid_run(|store| strip(store, "Job", MANAGED_BY_LABEL))
        .succeeds(&[backup(1)])
}

/// The pod cannot be found any more: its verdict is lost.
pub fn label_of_the_pod_removed() -> Scenario {
    scenario("label of the pod removed")
        .in_mid_run(|store| strip(store, "Pod", BACKUP_UID_LABEL))
        .succeeds(&[backup(1), inspect(1, 1)])
}

/// Server-side apply: what is ours we take back, what is theirs stays.
pub fn status_edited() -> Scenario {
    scenario("status edited")
        .in_mid_run(|store| {
            change(store, |backup| {
                let status = &mut backup["status"];
                status["conditions"].as_array_mut().unwrap().push(json!({
                    "type": "Reviewed", "status": "True", "reason": "ByHand", "message": "",
                    "lastTransitionTime": "2026-11-24T06:00:00Z",
                }));
                status["phase"] = json!("Failed");
            });
        })
        .succeeds(&[backup(1)])
        .also(|run: &Run| {
            let backup = run.end.iter().find(|object| object["kind"] == "GraphBackup").unwrap();
            assert_eq!(backup["status"]["phase"], "Succeeded");
            let conditions = backup["status"]["conditions"].as_array().unwrap();
            assert!(conditions.iter().any(|condition| condition["type"] == "Reviewed"));
        })
}

/// As a tool does that restores objects together with their status.
fn with_the_status_of_another(store: &mut Store, phase: &str) {
    let condition = json!({"type": "Succeeded", "status": if phase == "Succeeded" { "True" } else { "Unknown" },
        "reason": phase, "message": "", "lastTransitionTime": "2026-11-24T06:00:00Z"});
    let status = json!({"uid": "uid-of-another", "phase": phase, "conditions": [condition],
        "observedGeneration": 1, "directory": format!("{STORE}/20261122T020000Z-nightly-1a2b3c4d")});
    store.change(&key(), |backup| backup["status"] = status).unwrap();
}

fn disowned(run: &Run) {
    let backup = run.end.iter().find(|object| object["kind"] == "GraphBackup").unwrap();
    assert_eq!(backup["status"]["uid"], backup["metadata"]["uid"]);
    assert!(backup["status"]["directory"].is_null());
    let told = backup["status"]["conditions"].to_string();
    assert!(told.contains(&format!("spec.adopt: {STORE}/20261122T020000Z-nightly-1a2b3c4d")), "{told}");
}

pub fn the_status_is_that_of_another_object() -> Scenario {
    scenario("the status is that of another object")
        .prepared(|store, _| with_the_status_of_another(store, "Running"))
        .fails(Reason::ForeignStatus, &[])
        .also(disowned)
}

pub fn the_status_is_the_success_of_another_object() -> Scenario {
    scenario("the status is the success of another object")
        .spec("/deletionPolicy", json!("Delete"))
        .prepared(|store, _| with_the_status_of_another(store, "Succeeded"))
        .fails(Reason::ForeignStatus, &[])
        .also(disowned)
}

/// It has all our labels and says that it has published, but it is nobody's.
pub fn a_pod_with_our_labels_claims_success() -> Scenario {
    fn forge(store: &mut Store) {
        let Some(job) = store.list("Job").next().cloned() else { return };
        let status = pods::ended(0, &serde_json::to_string(&claim(&job)).unwrap());
        let pod = json!({"metadata": {"name": "forged", "labels": job["metadata"]["labels"]}});
        store.create(Kind::named("Pod"), NAMESPACE, pod).unwrap();
        let key = Key { kind: "Pod", namespace: NAMESPACE.to_owned(), name: "forged".to_owned() };
        store.change(&key, |pod| pod["status"] = status).unwrap();
    }
    scenario("a pod with our labels claims success")
        .spec("/retry/limit", json!(0))
        .backup_job(Fails(Reason::ToolFailed))
        .in_mid_run(forge)
        .fails(Reason::ToolFailed, &[backup(1)])
}

fn key() -> Key {
    Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() }
}

fn delete_backup(store: &mut Store) {
    delete(store, &key());
}

/// Changes the object, if it is still there.
fn change(store: &mut Store, edit: fn(&mut Value)) {
    if store.get(&key()).is_some() {
        store.change(&key(), edit).unwrap();
    }
}

/// Removes a label from all objects of a kind.
fn strip(store: &mut Store, kind: &str, label: &str) {
    let keys: Vec<Key> = store.list(kind).map(Key::of).collect();
    for key in keys {
        store.change(&key, |object| drop(object["metadata"]["labels"].as_object_mut().unwrap().remove(label))).unwrap();
    }
}
