//! The objects are lost, the volume is not.

use crate::support::{Backup, Copy, Database, NAMESPACE, claim, client, kubectl, marker};
use graph_backup_operator::api::BackupType;
use serde_json::{Value, json};

const CLAIM: &str = "adopted";

#[tokio::test]
async fn a_point_whose_object_is_lost_is_found_adopted_built_upon_and_removed() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let before = marker("adopted");
    database.write(&before, 40, 100).await;
    let lost = Backup::create(&client, "lost", CLAIM, json!({})).await;
    let made = lost.succeeded().await;
    let (uid, directory) = (lost.uid().await, made.directory.unwrap());
    lost.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/lost", "--timeout=60s"]);

    let volume = Copy { claim: CLAIM, directory: "" };
    let printed = volume.points(&client).await;
    let found: Vec<Value> = printed.split("---").filter_map(|document| serde_json::from_str(document).ok()).collect();
    let object = found.iter().find(|object| object["spec"]["adopt"] == directory.as_str()).unwrap_or_else(|| {
        panic!("{directory} is not in {printed}");
    });
    assert_eq!((&object["metadata"]["name"], &object["metadata"]["namespace"]), (&json!("lost"), &json!(NAMESPACE)));

    // Under its old name, as it was printed.
    let backup = Backup::create(&client, "lost", CLAIM, object["spec"].clone()).await;
    let (status, outcome) = backup.finished().await;
    assert_eq!((outcome.truth.as_str(), outcome.reason.as_str()), ("True", "Adopted"), "{}", outcome.message);
    let point = status.point.clone().unwrap();
    assert_eq!((point.owner_uid.as_ref(), status.directory.as_ref()), (Some(&uid), Some(&directory)));
    assert_eq!(point.manifest_digest, made.point.unwrap().manifest_digest);

    let twice = Backup::create(&client, "lost-twice", CLAIM, json!({"adopt": directory})).await;
    twice.failed("PointTaken", &["lost"]).await;
    twice.delete().await;
    let missing = json!({"adopt": format!("{}-nothing", directory)});
    let missing = Backup::create(&client, "lost-missing", CLAIM, missing).await;
    missing.failed("PointMissing", &["-nothing"]).await;
    missing.delete().await;

    let next = Backup::create(&client, "after-lost", CLAIM, json!({"type": "Incremental"})).await;
    let status = next.succeeded().await;
    let parent = status.point.clone().unwrap();
    assert_eq!((parent.backup_type, parent.parent.unwrap().name.as_str()), (BackupType::Incremental, "lost"));
    let copy = Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &before).await, 40);
    next.delete().await;

    kubectl(&["-n", NAMESPACE, "patch", "gb/lost", "--type=merge", "-p", r#"{"spec":{"deletionPolicy":"Delete"}}"#]);
    let folder = directory.rsplit('/').next().unwrap();
    assert!(volume.listing(&client).await.contains(folder));
    // The finalizer is set by the next pass over the object.
    kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "gb/lost",
        "--for=jsonpath={.metadata.finalizers[0]}=graphbackup.dev/files",
        "--timeout=30s",
    ]);
    backup.delete().await;
    kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "gb/lost", "--timeout=120s"]);
    assert!(!volume.listing(&client).await.contains(folder));
}
