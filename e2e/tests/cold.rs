//! Cold copies: one member stops, the others serve, and the replicas always come back.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, claim, client, eventually, kubectl, marker,
};
use graph_backup_operator::api::{BackupType, GraphBackupStatus, StoppedMember};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

const CLAIM: &str = "cold";
/// The member with the highest ordinal.
const LAST: &str = "neo4j-2";
const SET: &str = "statefulset/neo4j";

fn cold() -> Value {
    let workload = json!({"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"});
    json!({"method": "Cold", "cold": {"workload": workload}})
}

/// The database, with another master than the last member.
async fn spared(client: &Client) -> Database {
    claim(client, CLAIM, "1Gi").await;
    let database = Database::ready(client).await;
    database.spare(&[LAST]).await;
    database
}

fn replicas() -> String {
    kubectl(&["-n", NAMESPACE, "get", SET, "-o", "jsonpath={.spec.replicas}"])
}

fn generation() -> String {
    kubectl(&["-n", NAMESPACE, "get", SET, "-o", "jsonpath={.metadata.generation}"])
}

fn stopped(status: &GraphBackupStatus) -> Option<&StoppedMember> {
    status.attempts.last()?.stopped.as_ref()
}

async fn until_gone(backup: &Backup) {
    let gone = |status: &GraphBackupStatus| stopped(status).is_some_and(|member| member.gone_time.is_some());
    backup.until("the member is gone", gone).await;
}

#[tokio::test]
async fn one_member_is_copied_while_the_others_serve_and_incrementals_build_on_it() {
    let client = client().await;
    let database = spared(&client).await;
    let before = marker("cold");
    database.write(&before, 300, 100).await;
    let writer = database.keep_writing("during-the-cold-backup").await;

    let backup = Backup::create(&client, "cold", CLAIM, cold()).await;
    let status = backup.succeeded().await;
    let commits = writer.stop().await;

    let member = stopped(&status).unwrap();
    let (gone, back) = (member.gone_time.unwrap(), member.restored_time.unwrap());
    assert_eq!((member.pod.as_str(), member.replicas, replicas().as_str()), (LAST, 3, "3"));
    assert!(commits.iter().any(|commit| (gone..=back).contains(commit)), "nobody served from {gone} to {back}");
    assert!(status.master.as_deref().unwrap().starts_with(LAST), "{:?}", status.master);
    let point = status.point.clone().unwrap();
    assert!(point.data_from <= point.data_to);
    let copy = Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &before).await, 300);
    let (manifest, _) = copy.manifest(&client).await;
    assert_eq!((manifest.tool, manifest.mastership_before), (None, manifest.mastership_after));

    let database = Database::ready(&client).await;
    let later = marker("later");
    database.write(&later, 20, 100).await;
    let next = Backup::create(&client, "after-cold", CLAIM, json!({"type": "Incremental"})).await;
    let status = next.succeeded().await;
    let point = status.point.clone().unwrap();
    assert_eq!((point.backup_type, point.parent.unwrap().name.as_str()), (BackupType::Incremental, "cold"));
    let copy = Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() };
    assert_eq!((copy.count(&client, &before).await, copy.count(&client, &later).await), (300, 20));
    next.delete().await;
    backup.delete().await;
}

#[tokio::test]
async fn the_member_comes_back_when_the_operator_is_killed_and_when_the_object_is_deleted() {
    let client = client().await;
    spared(&client).await;
    let backup = Backup::create(&client, "cold-killed", CLAIM, cold()).await;
    eventually("the StatefulSet is scaled down", Duration::from_secs(60), || async {
        (replicas() == "2").then_some(())
    })
    .await;
    kubectl(&["-n", OPERATOR_NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force"]);
    backup.succeeded().await;
    assert_eq!(replicas(), "3");
    backup.delete().await;

    spared(&client).await;
    let backup = Backup::create(&client, "cold-deleted", CLAIM, cold()).await;
    until_gone(&backup).await;
    assert_eq!(replicas(), "2");
    backup.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/cold-deleted", "--timeout=120s"]);
    assert_eq!(replicas(), "3", "the object is gone before the member is back");
    Database::ready(&client).await;
}

#[tokio::test]
async fn somebody_who_scales_up_in_mid_copy_ends_the_attempt() {
    let client = client().await;
    spared(&client).await;
    let backup = Backup::create(&client, "cold-scaled", CLAIM, cold()).await;
    until_gone(&backup).await;
    kubectl(&["-n", NAMESPACE, "scale", SET, "--replicas=3"]);
    backup.failed("ScaledMeanwhile", &["scaled the StatefulSet to 3", LAST]).await;
    assert_eq!(replicas(), "3");
    backup.delete().await;
    Database::ready(&client).await;
}

#[tokio::test]
async fn what_is_set_up_wrong_stops_nobody() {
    let client = client().await;
    spared(&client).await;
    let before = generation();
    let mut elsewhere = cold();
    elsewhere["cold"]["workload"]["storePath"] = json!("databases/graph.db");
    let backup = Backup::create(&client, "cold-path", CLAIM, elsewhere).await;
    backup.failed("SourceUnreadable", &["storePath"]).await;
    backup.delete().await;

    let mut template = cold();
    template["cold"]["workload"]["volumeClaimTemplate"] = json!("store");
    let backup = Backup::create(&client, "cold-template", CLAIM, template).await;
    backup.failed("WorkloadUnfit", &["no volumeClaimTemplate store", "data"]).await;
    backup.delete().await;

    far_away();
    let mut far = cold();
    far["deadlines"]["podStart"] = json!("10s");
    let backup = Backup::create(&client, "cold-far", "far-away", far).await;
    backup.failed("TopologyMismatch", &["affinity"]).await;
    backup.delete().await;
    assert_eq!(generation(), before, "the StatefulSet was changed");

    let policy = |when: &str| {
        let patch = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": when}}}).to_string();
        kubectl(&["-n", NAMESPACE, "patch", SET, "--type=merge", "-p", &patch]);
    };
    policy("Delete");
    let backup = Backup::create(&client, "cold-deletes", CLAIM, cold()).await;
    let (_, outcome) = backup.finished().await;
    policy("Retain");
    assert_eq!(outcome.reason, "ScaleDownDeletesClaim", "{}", outcome.message);
    backup.delete().await;
}

/// A claim whose volume is on a node that does not exist.
fn far_away() {
    let capacity = json!({"storage": "1Gi"});
    let term =
        json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["elsewhere"]}]});
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "far-away"},
        "spec": {
            "capacity": capacity, "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "claimRef": {"namespace": NAMESPACE, "name": "far-away"},
            "local": {"path": "/nowhere"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "far-away", "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "volumeName": "far-away",
            "resources": {"requests": capacity},
        },
    });
    for object in [volume, claim] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    }
    kubectl(&["-n", NAMESPACE, "wait", "pvc/far-away", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s"]);
}

#[tokio::test]
async fn the_master_is_spared_unless_it_is_said_otherwise() {
    let client = client().await;
    claim(&client, CLAIM, "1Gi").await;
    let database = Database::ready(&client).await;
    database.spare(&["neo4j-0", "neo4j-1"]).await;
    let backup = Backup::create(&client, "cold-master", CLAIM, cold()).await;
    backup.failed("MemberIsMaster", &[LAST, "ifMaster"]).await;
    backup.delete().await;

    let written = marker("cold-master");
    database.write(&written, 50, 100).await;
    let mut fail_over = cold();
    fail_over["cold"]["ifMaster"] = json!("FailOver");
    let backup = Backup::create(&client, "cold-fail-over", CLAIM, fail_over).await;
    let status = backup.succeeded().await;
    let copy = Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &written).await, 50);
    backup.delete().await;
    Database::ready(&client).await;
}
