//! Objects that come back after they were lost: as backup programs for clusters restore them, without their status or
//! with that of the object that is gone.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, claim, client, eventually, kubectl, kubectl_with, marker,
    scale,
};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

const CLAIM: &str = "restored";
const OPERATOR: &str = "deployment/graph-backup-operator";

/// The object as the API server has it.
fn saved(name: &str) -> Value {
    serde_json::from_str(&kubectl(&["-n", NAMESPACE, "get", "gb", name, "-o", "json"])).unwrap()
}

/// The same without what belongs to one object alone.
fn to_create(saved: &Value) -> Value {
    let mut object = saved.clone();
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    object
}

fn create(saved: &Value) {
    kubectl_with(&["create", "-f", "-"], &to_create(saved));
}

/// The object is gone, and what it left on the volume is not.
fn lose(name: &str) {
    kubectl(&["-n", NAMESPACE, "patch", "gb", name, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    kubectl(&["-n", NAMESPACE, "delete", "gb", name, "--timeout=60s"]);
}

/// An operator that is away until this is dropped.
struct Away;

impl Away {
    fn go() -> Self {
        scale(OPERATOR_NAMESPACE, OPERATOR, 0);
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let back = ["-n", OPERATOR_NAMESPACE, "scale", OPERATOR, "--replicas=1"];
        let _ = crate::support::kubectl_succeeds(&back);
    }
}

async fn prepared() -> (Client, Database) {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    (client, database)
}

#[tokio::test]
async fn an_object_that_comes_back_without_its_status_tells_of_the_point_of_the_one_before() {
    let (client, _) = prepared().await;
    let backup = Backup::create(&client, "comes-back", CLAIM, json!({})).await;
    let point = backup.succeeded().await.directory.unwrap();
    let object = saved("comes-back");
    lose("comes-back");

    create(&object);
    let backup = Backup::existing(&client, "comes-back");
    let (status, outcome) = backup.finished().await;
    assert_eq!(outcome.truth, "True", "{} {}", outcome.reason, outcome.message);
    assert_ne!(status.directory.as_ref(), Some(&point), "each object has a point of its own");
    let adopt = point.rsplit('/').take(2).collect::<Vec<_>>();
    let adopt = format!("{}/{}", adopt[1], adopt[0]);
    assert!(outcome.message.contains(&adopt) && outcome.message.contains("spec.adopt"), "{}", outcome.message);
    backup.delete().await;
}

#[tokio::test]
async fn a_cold_object_that_comes_back_without_its_status_stops_no_member() {
    let (client, database) = prepared().await;
    database.spare(&["neo4j-2"]).await;
    // Any point of the name will do: what matters is that the object was there before.
    let backup = Backup::create(&client, "cold-again", CLAIM, json!({})).await;
    let point = backup.succeeded().await.directory.unwrap();
    let mut object = saved("cold-again");
    lose("cold-again");

    let generation = ["-n", NAMESPACE, "get", "statefulset/neo4j", "-o", "jsonpath={.metadata.generation}"];
    let before = kubectl(&generation);
    let workload = json!({"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"});
    object["spec"]["method"] = json!("Cold");
    object["spec"]["cold"] = json!({"workload": workload});
    create(&object);
    let backup = Backup::existing(&client, "cold-again");
    backup.failed("EarlierPoint", &["spec.adopt", point.rsplit('/').next().unwrap()]).await;
    assert_eq!(kubectl(&generation), before, "the StatefulSet was changed");
    backup.delete().await;
}

#[tokio::test]
async fn a_status_of_another_object_is_not_believed_and_removes_nothing() {
    let (client, database) = prepared().await;
    let written = marker("status");
    database.write(&written, 10, 100).await;
    let backup = Backup::create(&client, "with-status", CLAIM, json!({"deletionPolicy": "Delete"})).await;
    let point = backup.succeeded().await.directory.unwrap();
    let object = saved("with-status");

    let away = Away::go();
    lose("with-status");
    create(&object);
    let mut with_status = to_create(&object);
    with_status["status"] = object["status"].clone();
    kubectl_with(&["replace", "--subresource=status", "-f", "-"], &with_status);
    drop(away);

    let backup = Backup::existing(&client, "with-status");
    // The status that was put there is a finished one, too: the operator's own comes in its place.
    eventually("the operator refuses the status", Duration::from_secs(90), || async {
        let conditions = backup.status().await.conditions;
        conditions.iter().any(|condition| condition.reason == "ForeignStatus").then_some(())
    })
    .await;
    let old = object["metadata"]["uid"].as_str().unwrap();
    backup.failed("ForeignStatus", &[old, "spec.adopt", point.rsplit('/').next().unwrap()]).await;

    backup.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/with-status", "--timeout=60s"]);
    let copy = Copy { claim: CLAIM, directory: &point };
    assert_eq!(copy.count(&client, &written).await, 10, "the files of the other object are there");
    let events = ["-n", NAMESPACE, "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].note}"];
    assert!(kubectl(&events).contains(&format!("files of the object with UID {old} stay")), "{}", kubectl(&events));
}
