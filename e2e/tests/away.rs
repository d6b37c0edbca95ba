//! An ensemble that has no quorum for a while, just when the copy is made.

use crate::failover::tool_that_waits;
use crate::lost::{in_tool, wait_for_log};
use crate::support::{Backup, Copy, Database, NAMESPACE, claim, client, kubectl, kubectl_succeeds, marker};
use serde_json::json;
use std::time::Duration;

/// Longer than any one look-up tries.
const AWAY: Duration = Duration::from_secs(25);

/// An ensemble of one server of three, until this is dropped.
struct NoQuorum;

impl NoQuorum {
    fn make() -> Self {
        kubectl(&["-n", NAMESPACE, "scale", "statefulset/zookeeper", "--replicas=1"]);
        kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "pod/zookeeper-1", "pod/zookeeper-2", "--timeout=60s"]);
        Self
    }
}

impl Drop for NoQuorum {
    fn drop(&mut self) {
        let _ = kubectl_succeeds(&["-n", NAMESPACE, "scale", "statefulset/zookeeper", "--replicas=3"]);
        let _ = kubectl_succeeds(&["-n", NAMESPACE, "rollout", "status", "statefulset/zookeeper", "--timeout=180s"]);
    }
}

#[tokio::test]
async fn an_ensemble_that_is_away_after_the_copy_costs_time_and_not_the_copy() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    let written = marker("away");
    database.write(&written, 20, 100).await;
    let spec = json!({"tool": {"command": tool_that_waits("/tmp/go")}});
    let backup = Backup::create(&client, "away", "whole", spec).await;
    let running = backup.until("an attempt runs", |status| !status.attempts.is_empty()).await;
    wait_for_log(&client, &running.attempts[0].job, "waiting for").await;

    let no_quorum = NoQuorum::make();
    in_tool(&client, &running.attempts[0].job, "touch /tmp/go").await;
    tokio::time::sleep(AWAY).await;
    assert!(backup.status().await.completion_time.is_none(), "it ended while nothing could be said of the master");
    drop(no_quorum);

    let status = backup.succeeded().await;
    assert_eq!(status.attempts.len(), 1);
    let copy = Copy { claim: "whole", directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &written).await, 20);
    backup.delete().await;
    Database::ready(&client).await;
}
