//! A recovery point on its volume, looked at by a pod that has nothing to do with the operator.

use super::{NAMESPACE, OPERATOR_IMAGE, TOOL_IMAGE, eventually, kubectl};
use graph_backup_operator::agent::store::manifest::Manifest;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::Duration;

/// A point's folder on a claim.
pub struct Copy<'a> {
    /// Name of the claim.
    pub claim: &'a str,
    /// `status.directory`.
    pub directory: &'a str,
}

impl Copy<'_> {
    /// Opens a copy of the store with the real engine; gives the number of nodes, and of those with the marker.
    pub async fn count(&self, client: &Client, marker: &str) -> u64 {
        let script =
            format!("cp -r /backups/{}/store /tmp/store && neo4j-count-nodes /tmp/store {marker}", self.directory);
        let said = self.run(client, &script).await;
        let line = said.lines().last().unwrap_or_default();
        let counted: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("the engine did not open the copy: {said}"));
        counted["nodes"].as_u64().unwrap()
    }

    /// The manifest and the SHA-256 of its bytes.
    pub async fn manifest(&self, client: &Client) -> (Manifest, String) {
        let file = format!("/backups/{}/manifest.json", self.directory);
        let said = self.run(client, &format!("sha256sum {file} && cat {file}")).await;
        let (sum, manifest) = said.split_once('\n').unwrap();
        let digest = format!("sha256:{}", sum.split_whitespace().next().unwrap());
        (serde_json::from_str(manifest).unwrap(), digest)
    }

    /// Every file below the claim's root.
    pub async fn listing(&self, client: &Client) -> String {
        self.run(client, "find /backups").await
    }

    /// What `graph-backup-operator points` prints of the claim.
    pub async fn points(&self, client: &Client) -> String {
        let command = ["/graph-backup-operator", "points", "--target", "/backups", "--claim", self.claim];
        self.run_in(client, OPERATOR_IMAGE, &command, true).await
    }

    /// Runs a script in a pod that mounts the claim read-only at /backups; gives what it prints.
    pub async fn run(&self, client: &Client, script: &str) -> String {
        self.run_in(client, TOOL_IMAGE, &["sh", "-c", script], true).await
    }

    /// The same with a claim that can be written, as somebody who tidies up by hand.
    pub async fn change(&self, client: &Client, script: &str) -> String {
        self.run_in(client, TOOL_IMAGE, &["sh", "-c", script], false).await
    }

    async fn run_in(&self, client: &Client, image: &str, command: &[&str], read_only: bool) -> String {
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let name = format!("look-{}", self.claim);
        let pod = serde_json::from_value(pod(&name, self.claim, image, command, read_only)).unwrap();
        let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        eventually("the earlier pod is gone", Duration::from_secs(60), || async {
            pods.get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let phase = eventually("the pod ends", Duration::from_secs(120), || async {
            let phase = pods.get(&name).await.ok()?.status?.phase?;
            matches!(phase.as_str(), "Succeeded" | "Failed").then_some(phase)
        })
        .await;
        let said = pods.logs(&name, &LogParams::default()).await.unwrap();
        kubectl(&["-n", NAMESPACE, "delete", "pod", &name, "--wait=false", "--grace-period=0"]);
        assert_eq!(phase, "Succeeded", "{command:?}: {said}");
        said
    }
}

fn pod(name: &str, claim: &str, image: &str, command: &[&str], read_only: bool) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "look",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
                "volumeMounts": [{"name": "backups", "mountPath": "/backups", "readOnly": read_only}, {"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": claim}}, {"name": "tmp", "emptyDir": {}}],
        }
    })
}
