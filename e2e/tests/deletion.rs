//! What happens to the files of a deleted object, and to objects that want the same cluster.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, claim, client, eventually, kubectl, marker, real_tool_in,
};
use serde_json::json;
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
