//! Incremental backups, and what happens where one cannot be made.

use crate::support::{Backup, Copy, Database, NAMESPACE, claim, client, kubectl, marker};
use graph_backup_operator::api::{BackupType, GraphBackupStatus};
use kube::Client;
use serde_json::json;

const CLAIM: &str = "chain";

async fn take(client: &Client, name: &str, backup_type: &str) -> (Backup, GraphBackupStatus) {
    let backup = Backup::create(client, name, CLAIM, json!({"type": backup_type})).await;
    let status = backup.succeeded().await;
    (backup, status)
}

fn copy(status: &GraphBackupStatus) -> Copy<'_> {
    Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() }
}

#[tokio::test]
async fn every_point_of_a_chain_is_whole_and_none_needs_another() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let written = marker("chain");
    database.write(&written, 100, 2000).await;
    let (full, first) = take(&client, "chain-full", "Full").await;
    database.write(&written, 10, 100).await;
    let (parent, second) = take(&client, "chain-second", "Incremental").await;
    database.write(&written, 1, 100).await;
    let (last, third) = take(&client, "chain-third", "Auto").await;

    let points = [&first, &second, &third].map(|status| status.point.clone().unwrap());
    assert_eq!(points.each_ref().map(|point| point.depth), [0, 1, 2]);
    assert_eq!(points[2].backup_type, BackupType::Incremental, "{third:?}");
    assert_eq!(points[2].parent.as_ref().map(|parent| parent.name.as_str()), Some("chain-second"));
    assert!(points[0].last_transaction < points[1].last_transaction);
    assert!(points[1].last_transaction < points[2].last_transaction);
    // The volume is XFS with reflinks: what did not change is there once.
    assert!(points[1].shared_bytes > 0 && points[1].shared_bytes < points[1].bytes, "{points:?}");

    for (status, nodes) in [(&first, 100), (&second, 110), (&third, 111)] {
        assert_eq!(copy(status).count(&client, &written).await, nodes, "{:?}", status.directory);
    }
    // The points that it was made from go; it stays what it is.
    for status in [&first, &second] {
        let script = format!("rm -r /backups/{}", status.directory.as_deref().unwrap());
        copy(status).change(&client, &script).await;
    }
    assert_eq!(copy(&third).count(&client, &written).await, 111);
    for backup in [full, parent, last] {
        backup.delete().await;
    }
}

#[tokio::test]
async fn logs_that_are_gone_from_the_master_give_a_full_copy_with_the_reason() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    claim(&client, "whole", "1Gi").await;
    let written = marker("pruned");
    database.write(&written, 10, 100).await;
    let (full, _) = take(&client, "pruned-full", "Full").await;
    database.write(&written, 1, 100).await;
    // A backup makes the master begin a new log, here one whose point is elsewhere.
    let elsewhere = Backup::create(&client, "pruned-elsewhere", "whole", json!({})).await;
    elsewhere.succeeded().await;
    let master = database.master().await.pod;
    kubectl(&[
        "-n",
        NAMESPACE,
        "exec",
        &master,
        "--",
        "sh",
        "-c",
        "find /data -name 'nioneo_logical.log.v*' -exec rm {} +",
    ]);
    database.write(&written, 1, 100).await;

    let strict = Backup::create(&client, "pruned-strict", CLAIM, json!({"type": "Incremental"})).await;
    let (_, outcome) = strict.finished().await;
    assert_eq!(outcome.truth, "False", "{outcome:?}");
    let auto = Backup::create(&client, "pruned-auto", CLAIM, json!({"type": "Auto"})).await;
    let (status, outcome) = auto.finished().await;
    assert_eq!((outcome.truth.as_str(), outcome.reason.as_str()), ("True", "FellBackToFull"), "{outcome:?}");
    assert!(outcome.message.contains("LogsPruned"), "{outcome:?}");
    assert_eq!(status.point.as_ref().unwrap().backup_type, BackupType::Full);
    assert_eq!(copy(&status).count(&client, &written).await, 12);
    for backup in [full, elsewhere, strict, auto] {
        backup.delete().await;
    }
}

#[tokio::test]
async fn incremental_without_a_parent_fails_and_says_so() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "orphans", "1Gi").await;
    let backup = Backup::create(&client, "no-parent", "orphans", json!({"type": "Incremental"})).await;
    backup.failed("NoParent", &["Full", "Auto"]).await;
    backup.delete().await;
}
