//! What happens to the files of a deleted object, and to objects that want the same cluster.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, SHORT_LIVED, TOOL_IMAGE, claim, claim_in, client,
    eventually, kubectl, kubectl_refused, kubectl_with, marker, real_tool_in,
};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);

#[tokio::test]
async fn delete_removes_the_files_first_and_retain_leaves_them() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "deleted", "1Gi").await;
    let written = marker("deleted");
    database.write(&written, 10, 100).await;
    let kept = Backup::create(&client, "kept", "deleted", json!({})).await;
    let kept_status = kept.succeeded().await;
    let goes = Backup::create(&client, "goes", "deleted", json!({"type": "Auto", "deletionPolicy": "Delete"})).await;
    let gone = goes.succeeded().await.directory.unwrap();
    let child = Backup::create(&client, "child", "deleted", json!({"type": "Auto"})).await;
    let child_status = child.succeeded().await;
    assert_eq!(child_status.point.as_ref().unwrap().parent.as_ref().unwrap().name, "goes");

    for backup in [kept, goes] {
        let name = backup.name.clone();
        backup.delete().await;
        kubectl(&["-n", NAMESPACE, "wait", "--for=delete", &format!("gb/{name}"), "--timeout=120s"]);
    }
    let listing = Copy { claim: "deleted", directory: "" }.listing(&client).await;
    assert!(!listing.contains(&gone) && !listing.contains(".pruned-"), "{listing}");
    for status in [&kept_status, &child_status] {
        let copy = Copy { claim: "deleted", directory: status.directory.as_deref().unwrap() };
        assert_eq!(copy.count(&client, &written).await, 10);
    }
    child.delete().await;
}

#[tokio::test]
async fn the_policy_can_be_changed_later_and_deleting_in_mid_run_leaves_nothing() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "deleted", "1Gi").await;
    let slow = json!({"tool": {"command": real_tool_in("neo4j-backup \"$@\" && echo copied && sleep 120")}});
    let backup = Backup::create(&client, "cut-short", "deleted", slow).await;
    let status = backup.until("an attempt runs", |status| !status.attempts.is_empty()).await;
    crate::lost::wait_for_log(&client, &status.attempts[0].job, "copied").await;
    let patch = r#"{"spec":{"deletionPolicy":"Delete"}}"#;
    kubectl(&["-n", NAMESPACE, "patch", "gb", "cut-short", "--type=merge", "-p", patch]);
    eventually("the finalizer is set", SOON, || async {
        let object = kubectl(&["-n", NAMESPACE, "get", "gb", "cut-short", "-o", "jsonpath={.metadata.finalizers}"]);
        object.contains("graphbackup.dev/files").then_some(())
    })
    .await;
    let uid = backup.uid().await;
    backup.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/cut-short", "--timeout=120s"]);
    let listing = Copy { claim: "deleted", directory: "" }.listing(&client).await;
    assert!(!listing.contains(&uid) && !listing.contains("cut-short"), "{listing}");
}

#[tokio::test]
async fn two_backups_of_one_cluster_run_one_after_the_other() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    claim(&client, "deleted", "1Gi").await;
    let slow = json!({"tool": {"command": real_tool_in("sleep 15; exec neo4j-backup \"$@\"")}});
    let first = Backup::create(&client, "first-of-two", "whole", slow).await;
    first.until("the first runs", |status| !status.attempts.is_empty()).await;
    // Another claim: nothing but the cluster is the same.
    let second = Backup::create(&client, "second-of-two", "deleted", json!({})).await;
    let said = second.waits("WaitingForLock").await;
    assert!(said.message.contains("graph/first-of-two"), "{}", said.message);
    let (first_status, second_status) = (first.succeeded().await, second.succeeded().await);
    assert!(second_status.attempts[0].start_time >= first_status.completion_time.unwrap());
    let leases = kubectl(&["-n", OPERATOR_NAMESPACE, "get", "leases", "-o", "name"]);
    assert!(!leases.contains("graphbackup-"), "{leases}");
    for backup in [first, second] {
        backup.delete().await;
    }
}

/// Its Role goes first, and the operator's rights with it; then everything that it would need to remove files.
#[tokio::test]
async fn a_namespace_is_deleted_whatever_its_objects_were_at() {
    let client = client().await;
    Database::ready(&client).await;
    let source = "ha://zookeeper-0.zookeeper.graph,zookeeper-1.zookeeper.graph";
    let spec = |over: Value| {
        let mut spec = json!({"source": {"uri": source}, "deletionPolicy": "Delete"});
        spec.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        spec
    };
    claim_in(SHORT_LIVED, &client, "target", "1Gi").await;
    Backup::create_in(SHORT_LIVED, &client, "ended", "target", spec(json!({}))).await.succeeded().await;
    let slow = json!({"tool": {"command": real_tool_in("sleep 120; exec neo4j-backup \"$@\"")}});
    let at_work = Backup::create_in(SHORT_LIVED, &client, "at-work", "target", spec(slow)).await;
    at_work.until("an attempt runs", |status| !status.attempts.is_empty()).await;

    schedule_with_a_finalizer(source).await;

    kubectl(&["delete", "namespace", SHORT_LIVED, "--timeout=120s"]);
    let leases = kubectl(&["-n", OPERATOR_NAMESPACE, "get", "leases", "-o", "name"]);
    assert!(!leases.contains("graphbackup-"), "the lock of the cluster is left: {leases}");

    // Made again it is served again, without a restart of the operator.
    kubectl(&["create", "namespace", SHORT_LIVED]);
    let release =
        "helm get manifest graph-backup-operator -n graph-backup | kubectl apply --server-side --force-conflicts -f -";
    assert!(Command::new("sh").args(["-c", release]).output().unwrap().status.success());
    claim_in(SHORT_LIVED, &client, "target", "1Gi").await;
    let anew = Backup::create_in(SHORT_LIVED, &client, "anew", "target", spec(json!({}))).await;
    anew.succeeded().await;
    let label = json!({"labels": {"a": "b"}});
    refused_to_the_operator(SHORT_LIVED, "anew", &label, "the operator changes no spec, no label and no owner");
    anew.delete().await;
    kubectl(&["-n", SHORT_LIVED, "wait", "--for=delete", "gb/anew", "--timeout=120s"]);
}

/// A schedule whose points would go with it, and which holds its namespace until the operator releases it.
async fn schedule_with_a_finalizer(source: &str) {
    let schedule = json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "yearly", "namespace": SHORT_LIVED},
        "spec": {
            "full": {"schedule": "@yearly"}, "deletionPolicy": "Delete",
            "template": {"source": {"uri": source}, "target": {"claimName": "target"}, "tool": {"image": TOOL_IMAGE}},
        },
    });
    kubectl_with(&["apply", "--server-side", "-f", "-"], &schedule);
    eventually("the schedule has its finalizer", SOON, || async {
        let object = kubectl(&["-n", SHORT_LIVED, "get", "gbs", "yearly", "-o", "jsonpath={.metadata.finalizers}"]);
        object.contains("graphbackup.dev/points").then_some(())
    })
    .await;
}

/// The right that outlives the Role is narrow: this is refused.
fn refused_to_the_operator(namespace: &str, name: &str, metadata: &Value, because: &str) {
    let account = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:graph-backup-operator");
    let mut object = json!({"apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup", "metadata": metadata});
    object["metadata"]["namespace"] = json!(namespace);
    object["metadata"]["name"] = json!(name);
    let said = kubectl_refused(&[&account, "apply", "--server-side", "-f", "-"], &object.to_string());
    assert!(said.contains(because), "{said}");
}

#[tokio::test]
async fn the_operator_may_not_touch_objects_in_other_namespaces() {
    let client = client().await;
    let elsewhere = Backup::create_in("default", &client, "elsewhere", "none", json!({})).await;
    let finalizer = json!({"finalizers": ["graphbackup.dev/files"]});
    refused_to_the_operator("default", "elsewhere", &finalizer, "watched namespaces only");
    elsewhere.delete().await;
}
