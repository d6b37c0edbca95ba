//! People work on the same objects.

use crate::apiserver::{Key, Store};
use crate::backup::scenario::{BACKUP, NAMESPACE, Scenario, scenario};
use crate::driver::Run;
use crate::fault::{delete, recreate};
use graph_backup_operator::api::names::{BACKUP_UID_LABEL, MANAGED_BY_LABEL};
use serde_json::{Value, json};

pub fn deleted_before_the_first_look() -> Scenario {
    scenario("deleted before the first look").operator_down_at_first(20).at(10, delete_backup).ends_deleted(&[])
}

pub fn deleted_while_the_job_runs() -> Scenario {
    scenario("deleted while the Job runs").in_mid_run(delete_backup).ends_deleted(&["1"])
}

pub fn deleted_while_somebody_holds_it() -> Scenario {
    scenario("deleted while somebody holds it")
        .prepared(|store, _| change(store, |backup| backup["metadata"]["finalizers"] = json!(["example.com/hold"])))
        .in_mid_run(delete_backup)
        .at(600, |store| change(store, |backup| backup["metadata"]["finalizers"] = json!([])))
        .ends_deleted(&["1"])
        .also(|run: &Run| assert!(run.end.iter().all(|object| object["kind"] != "Event"), "work went on"))
}

pub fn recreated_while_the_job_runs() -> Scenario {
    scenario("recreated while the Job runs").in_mid_run(|store| recreate(store, &key())).succeeds(&["1", "1"])
}

pub fn label_of_the_job_removed() -> Scenario {
    scenario("label of the Job removed").in_mid_run(|store| strip(store, "Job", MANAGED_BY_LABEL)).succeeds(&["1"])
}

/// The pod cannot be found any more: its verdict is lost.
pub fn label_of_the_pod_removed() -> Scenario {
    scenario("label of the pod removed")
        .in_mid_run(|store| strip(store, "Pod", BACKUP_UID_LABEL))
        .succeeds(&["1", "1i"])
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
        .succeeds(&["1"])
        .also(|run: &Run| {
            let backup = run.end.iter().find(|object| object["kind"] == "GraphBackup").unwrap();
            assert_eq!(backup["status"]["phase"], "Succeeded");
            let conditions = backup["status"]["conditions"].as_array().unwrap();
            assert!(conditions.iter().any(|condition| condition["type"] == "Reviewed"));
        })
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
