//! Pods, Jobs and operators that vanish.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, claim, client, eventually, kubectl, real_tool_in, scale,
};
use graph_backup_operator::api::names::BACKUP_LABEL;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// Pod of a Job.
pub async fn pod_of(client: &Client, job: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    eventually("the Job has a pod", SOON, || async {
        pods.list(&selector).await.ok()?.items.first().map(ResourceExt::name_any)
    })
    .await
}

/// Waits until the log of a Job's pod holds a text.
pub async fn wait_for_log(client: &Client, job: &str, text: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = pod_of(client, job).await;
    let tool = LogParams { container: Some("tool".into()), ..LogParams::default() };
    eventually(&format!("{text:?} in the log of {pod}"), SOON, || async {
        pods.logs(&pod, &tool).await.ok().filter(|log| log.contains(text))
    })
    .await;
}

/// Runs a command in the tool's container of a Job's pod.
pub async fn in_tool(client: &Client, job: &str, script: &str) {
    let pod = pod_of(client, job).await;
    kubectl(&["-n", NAMESPACE, "exec", &pod, "-c", "tool", "--", "sh", "-c", script]);
}

/// The real tool, kept waiting by the test.
fn slow() -> serde_json::Value {
    json!({"tool": {"command": real_tool_in("echo waiting for a minute; sleep 20; exec neo4j-backup \"$@\"")}})
}

async fn start(client: &Client, name: &str, limit: u32) -> (Backup, String) {
    Database::ready(client).await;
    claim(client, "whole", "1Gi").await;
    let mut spec = slow();
    spec["retry"] = json!({"limit": limit});
    let backup = Backup::create(client, name, "whole", spec).await;
    let status = backup.until("an attempt runs", |status| !status.attempts.is_empty()).await;
    let job = status.attempts[0].job.clone();
    wait_for_log(client, &job, "waiting for a minute").await;
    (backup, job)
}

#[tokio::test]
async fn a_job_deleted_in_mid_run_is_lost_and_run_again() {
    let client = client().await;
    let (backup, job) = start(&client, "job-deleted", 1).await;
    // Younger than this, a missing Job counts as not yet created and is made again under its name.
    tokio::time::sleep(Duration::from_secs(31)).await;
    kubectl(&["-n", NAMESPACE, "delete", "job", &job]);
    let status = backup.succeeded().await;
    if status.attempts.len() == 2 {
        assert_eq!(status.attempts[0].reason.as_deref(), Some("JobLost"));
    }
    backup.delete().await;
}

#[tokio::test]
async fn a_pod_deleted_in_mid_run_is_no_success() {
    let client = client().await;
    let (backup, job) = start(&client, "pod-deleted", 0).await;
    kubectl(&["-n", NAMESPACE, "delete", "pod", &pod_of(&client, &job).await, "--grace-period=0", "--force"]);
    let (status, outcome) = backup.finished().await;
    assert_eq!(outcome.truth, "False", "{outcome:?}");
    assert!(["JobLost", "Interrupted"].contains(&outcome.reason.as_str()), "{outcome:?}");
    assert!(status.point.is_none());
    backup.delete().await;
}

#[tokio::test]
async fn an_agent_killed_in_mid_run_leaves_no_point() {
    let client = client().await;
    let (backup, job) = start(&client, "agent-killed", 0).await;
    // The agent is process 1 of its container: from inside it cannot be killed, from the node it can.
    let pod = pod_of(&client, &job).await;
    let id =
        kubectl(&["-n", NAMESPACE, "get", "pod", &pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"]);
    let id = id.trim_start_matches("containerd://");
    let killed =
        std::process::Command::new("ctr").args(["-n", "k8s.io", "task", "kill", "-s", "SIGKILL", id]).status().unwrap();
    assert!(killed.success());
    backup.failed("JobLost", &["without a verdict"]).await;
    let point = format!("{}-", "agent-killed");
    let listing = Copy { claim: "whole", directory: "" }.listing(&client).await;
    let published = listing
        .lines()
        .filter(|line| line.contains(&point) && line.ends_with("manifest.json") && !line.contains(".partial-"))
        .count();
    assert_eq!(published, 0, "{listing}");
    backup.delete().await;
}

#[tokio::test]
async fn a_published_point_is_recognised_from_the_volume_when_only_the_report_was_lost() {
    let client = client().await;
    let (backup, job) = start(&client, "report-lost", 0).await;
    scale(OPERATOR_NAMESPACE, "deployment/graph-backup-operator", 0);
    kubectl(&["-n", NAMESPACE, "wait", &format!("job/{job}"), "--for=condition=Complete", "--timeout=180s"]);
    kubectl(&[
        "-n",
        NAMESPACE,
        "delete",
        "pod",
        "-l",
        &format!("{BACKUP_LABEL}=report-lost"),
        "--grace-period=0",
        "--force",
    ]);
    scale(OPERATOR_NAMESPACE, "deployment/graph-backup-operator", 1);
    let status = backup.succeeded().await;
    assert_eq!(status.attempts.len(), 1);
    assert!(status.attempts[0].inspection.is_some(), "the volume was not asked");
    backup.delete().await;
}

#[tokio::test]
async fn an_operator_killed_in_mid_backup_goes_on_where_it_was() {
    let client = client().await;
    let (backup, _) = start(&client, "operator-killed", 0).await;
    kubectl(&[
        "-n",
        OPERATOR_NAMESPACE,
        "delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=graph-backup-operator",
        "--grace-period=0",
        "--force",
    ]);
    let status = backup.succeeded().await;
    assert_eq!(status.attempts.len(), 1, "nothing was run twice");
    backup.delete().await;
}
