//! Each thing that can be wrong has its own reason, and a message that says what to do.

use crate::support::{Backup, Database, NAMESPACE, SOURCE, claim, client, scale};
use kube::Client;
use serde_json::{Value, json};

async fn ready() -> Client {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    client
}

async fn fails(name: &str, spec: Value, reason: &str, tells: &[&str]) {
    let client = ready().await;
    let backup = Backup::create(&client, name, "whole", spec).await;
    backup.failed(reason, tells).await;
    backup.delete().await;
}

/// A command of the tool: a shell script that is given the usual arguments.
fn script(text: &str) -> Value {
    json!({"tool": {"command": ["sh", "-c", text, "tool", "{host}", "{port}", "{target}"]}})
}

#[tokio::test]
async fn ensemble_without_quorum() {
    let client = ready().await;
    scale(NAMESPACE, "statefulset/zookeeper", 1);
    let backup = Backup::create(&client, "no-quorum", "whole", json!({})).await;
    let said = backup.waits("EnsembleUnavailable").await;
    assert!(said.message.contains("zookeeper-0.zookeeper:2181"), "{}", said.message);
    // It passes by itself: the same object succeeds once the servers are back.
    scale(NAMESPACE, "statefulset/zookeeper", 3);
    backup.succeeded().await;
    backup.delete().await;
}

#[tokio::test]
async fn unknown_cluster_name() {
    let source = json!({"source": {"uri": SOURCE, "clusterName": "no-such.ha"}, "deadlines": {"run": "20s"}});
    fails("unknown-cluster", source, "ClusterUnknown", &["no-such.ha", "deadlines.run"]).await;
}

#[tokio::test]
async fn wrong_port_of_a_member() {
    let source = json!({"source": {"uri": "single://neo4j-0.neo4j:9999"}, "deadlines": {"run": "20s"}});
    fails("wrong-port", source, "MemberUnreachable", &["neo4j-0.neo4j:9999"]).await;
}

#[tokio::test]
async fn ha_port_instead_of_the_backup_port() {
    let source = json!({"source": {"uri": "single://neo4j-0.neo4j:6361"}});
    fails("not-a-backup-port", source, "NotABackupServer", &["neo4j-0.neo4j:6361", "protocol version"]).await;
}

#[tokio::test]
async fn missing_claim() {
    let target = json!({"target": {"claimName": "no-such-claim"}, "deadlines": {"run": "10s"}});
    fails("no-claim", target, "TargetClaimMissing", &["no-such-claim", "create it"]).await;
}

#[tokio::test]
async fn image_that_cannot_be_pulled() {
    let tool = json!({"tool": {"image": "localhost/no-such-image:1"}, "deadlines": {"podStart": "60s"}});
    fails("no-image", tool, "ImageCannotBePulled", &["localhost/no-such-image:1", "spec.tool.image"]).await;
}

#[tokio::test]
async fn command_that_the_image_lacks() {
    let tool = json!({"tool": {"command": ["no-such-tool", "{host}", "{port}", "{target}"]}});
    fails("no-tool", tool, "ToolNotFound", &["no-such-tool"]).await;
}

#[tokio::test]
async fn tool_that_exits_1() {
    fails("exits-1", script("echo the reactor is on fire; exit 1"), "ToolFailed", &["the reactor is on fire"]).await;
}

#[tokio::test]
async fn tool_that_exits_0_with_no_result() {
    fails("no-result", script("mkdir -p \"$3\"; echo Done"), "ToolLeftNoStore", &[]).await;
}

#[tokio::test]
async fn unschedulable_pod_says_why() {
    let tool = json!({"tool": {"podTemplate": {"nodeSelector": {"no-such": "node"}}}, "deadlines": {"podStart": "5s"}});
    fails("unschedulable", tool, "PodCannotStart", &["cannot be scheduled", "node"]).await;
}

#[tokio::test]
async fn run_that_takes_too_long() {
    let mut slow = script("sleep 600");
    slow["deadlines"] = json!({"run": "20s"});
    fails("too-slow", slow, "DeadlineExceeded", &["deadlines.run"]).await;
}
