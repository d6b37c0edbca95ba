//! A container that never ends beside ours, as service meshes without native sidecars and many node agents add it: the
//! verdict is the agent's, and the Job is not waited for.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, TOOL_IMAGE, claim, client, eventually, kubectl,
    kubectl_with, marker,
};
use graph_backup_operator::api::names::{BACKUP_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CLAIM: &str = "meshed";
/// A backup of the test's small store takes seconds; its deadline is three minutes.
const SOON: Duration = Duration::from_secs(60);
const POLICY: &str = "never-ending-sidecar";

/// A policy of somebody else, until this is dropped.
struct Policy;

impl Policy {
    async fn apply() -> Self {
        let context = "Object.spec.containers.securityContext";
        let drop = format!("capabilities: {context}.capabilities{{drop: [\"ALL\"]}}");
        let context = format!("securityContext: {context}{{allowPrivilegeEscalation: false, {drop}}}");
        let program = format!("name: \"proxy\", image: \"{TOOL_IMAGE}\", command: [\"sleep\", \"86400\"]");
        let sidecar = format!("Object.spec.containers{{{program}, {context}}}");
        let expression = format!("[JSONPatch{{op: \"add\", path: \"/spec/containers/-\", value: {sidecar}}}]");
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": POLICY},
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "objectSelector": {"matchLabels": {MANAGED_BY_LABEL: MANAGED_BY}},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                },
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY},
            "spec": {
                "policyName": POLICY,
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}},
            },
        });
        kubectl_with(&["apply", "-f", "-"], &json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}));
        eventually("the policy adds its container", SOON, || async { Self::works().then_some(()) }).await;
        Self
    }

    /// The API server learns of a new policy in its own time.
    fn works() -> bool {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "probe", "namespace": NAMESPACE, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "spec": {
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "probe", "image": TOOL_IMAGE,
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        let names = ["create", "--dry-run=server", "-f", "-", "-o", "jsonpath={.spec.containers[*].name}"];
        kubectl_with(&names, &pod).contains("proxy")
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            let _ = crate::support::kubectl_succeeds(&["delete", kind, POLICY]);
        }
    }
}

fn containers(name: &str) -> String {
    let label = format!("{BACKUP_LABEL}={name}");
    kubectl(&["-n", NAMESPACE, "get", "pods", "-l", &label, "-o", "jsonpath={.items[*].spec.containers[*].name}"])
}

/// The Job is deleted, and with it the pod; nobody holds the cluster's lock.
async fn nothing_is_left(name: &str) {
    let label = format!("{BACKUP_LABEL}={name}");
    // The sidecar does not end when it is asked to: its pod stays for the grace period.
    eventually(&format!("Jobs and pods of {name} are gone"), Duration::from_secs(90), || async {
        kubectl(&["-n", NAMESPACE, "get", "jobs,pods", "-l", &label, "-o", "name"]).is_empty().then_some(())
    })
    .await;
    let leases = kubectl(&["-n", OPERATOR_NAMESPACE, "get", "leases", "-o", "name"]);
    assert!(!leases.contains("/graphbackup-"), "{leases}");
}

#[tokio::test]
async fn a_container_that_never_ends_holds_up_neither_a_backup_nor_an_adoption_nor_a_deletion() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let written = marker("meshed");
    database.write(&written, 30, 100).await;
    let policy = Policy::apply().await;

    let begin = Instant::now();
    let backup = Backup::create(&client, "meshed", CLAIM, json!({})).await;
    backup.until("its pod is there", |status| !status.attempts.is_empty()).await;
    eventually("the pod has its sidecar", SOON, || async { containers("meshed").contains("proxy").then_some(()) })
        .await;
    let status = backup.succeeded().await;
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    nothing_is_left("meshed").await;
    let directory = status.directory.unwrap();
    backup.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/meshed", "--timeout=60s"]);

    let begin = Instant::now();
    let adopted = json!({"adopt": directory, "deletionPolicy": "Delete"});
    let backup = Backup::create(&client, "meshed-adopted", CLAIM, adopted).await;
    backup.succeeded().await;
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());

    let volume = Copy { claim: CLAIM, directory: "" };
    let folder = directory.rsplit('/').next().unwrap();
    assert!(volume.listing(&client).await.contains(folder));
    backup.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/meshed-adopted", "--timeout=60s"]);
    assert!(!volume.listing(&client).await.contains(folder));
    drop(policy);
}

#[tokio::test]
#[ignore = "a minute more; the simulation has a sidecar in every kind of Job"]
async fn a_container_that_never_ends_does_not_keep_a_stopped_member_down() {
    let client = client().await;
    let database = Database::ready(&client).await;
    database.spare(&["neo4j-2"]).await;
    claim(&client, CLAIM, "1Gi").await;
    let policy = Policy::apply().await;
    let workload = json!({"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"});
    let cold: Value = json!({"method": "Cold", "cold": {"workload": workload}});
    let backup = Backup::create(&client, "meshed-cold", CLAIM, cold).await;
    backup.succeeded().await;
    nothing_is_left("meshed-cold").await;
    drop(policy);
    backup.delete().await;
    Database::ready(&client).await;
}
