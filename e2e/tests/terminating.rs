//! A pod that stays `Terminating`, as on a dead node or under a container runtime that has stopped: the point lies on
//! the volume, and nobody is left to say so.

use crate::lost::{pod_of, wait_for_log};
use crate::support::{Backup, Copy, Database, NAMESPACE, claim, client, eventually, kubectl, real_tool_in};
use serde_json::json;
use std::process::Command;
use std::time::Duration;

const CLAIM: &str = "terminating";

/// A container's shim, stopped until this is dropped: the container goes on, but its end is told to nobody.
struct Frozen(u32);

impl Frozen {
    fn shim_of(pod: &str) -> Self {
        let id =
            kubectl(&["-n", NAMESPACE, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"]);
        let id = id.trim_start_matches("containerd://");
        let tasks = Command::new("ctr").args(["-n", "k8s.io", "tasks", "ls"]).output().unwrap();
        let tasks = String::from_utf8(tasks.stdout).unwrap();
        let task = tasks.lines().find(|line| line.starts_with(id)).expect("the container runs");
        let process = task.split_whitespace().nth(1).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        let shim = Self(parent);
        assert!(shim.name().starts_with("containerd-shim"), "{} is no shim", shim.name());
        shim.signal("STOP");
        shim
    }

    fn name(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.0.to_string()]).status();
        assert!(std::thread::panicking() || sent.is_ok_and(|status| status.success()), "SIG{signal}");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

#[tokio::test]
async fn a_pod_that_stays_terminating_does_not_hide_its_point() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let slow = real_tool_in("echo waiting for a while; sleep 15; exec neo4j-backup \"$@\"");
    let spec = json!({"tool": {"command": slow}, "deadlines": {"run": "60s"}});
    let backup = Backup::create(&client, "stays", CLAIM, spec).await;
    let job = backup.until("an attempt runs", |status| !status.attempts.is_empty()).await.attempts[0].job.clone();
    wait_for_log(&client, &job, "waiting for a while").await;
    let pod = pod_of(&client, &job).await;
    let frozen = Frozen::shim_of(&pod);

    let uid = backup.uid().await;
    let point = format!("-stays-{}/manifest.json", &uid[..8]);
    let volume = Copy { claim: CLAIM, directory: "" };
    eventually("the point is published", Duration::from_secs(90), || async {
        volume.listing(&client).await.contains(&point).then_some(())
    })
    .await;
    kubectl(&["-n", NAMESPACE, "delete", "pod", &pod, "--wait=false"]);

    let status = backup.succeeded().await;
    assert!(status.attempts[0].inspection.is_some(), "the volume was not asked");
    let stays = ["-n", NAMESPACE, "get", "pod", &pod, "-o", "jsonpath={.status.phase} {.metadata.deletionTimestamp}"];
    assert!(kubectl(&stays).starts_with("Running 2"), "the pod did not stay: the test proves nothing");
    drop(frozen);
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "pod", &pod, "--timeout=120s"]);
    backup.delete().await;
}
