//! A full backup, end to end.

use crate::support::{Backup, Copy, Database, OPERATOR_NAMESPACE, TOOL_IMAGE, claim, client, kubectl, marker};
use graph_backup_operator::api::{Mastership, condition};
use serde_json::json;

#[tokio::test]
async fn a_backup_taken_while_the_database_is_written_to_holds_all_that_was_committed_before() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    let before = marker("before");
    let (nodes, bytes_each) = (2000, 2000);
    database.write(&before, nodes, bytes_each).await;
    let writer = database.keep_writing("during-the-backup").await;

    // The limit gives the writer its time: an HA cluster that has just formed may take seconds for one transaction.
    let spec = json!({"tool": {"bandwidthLimit": "256Ki"}});
    let backup = Backup::create(&client, "whole", "whole", spec).await;
    let status = backup.succeeded().await;

    let point = status.point.clone().unwrap();
    let commits = writer.stop().await;
    let ran = point.data_from..=point.data_to;
    assert!(
        commits.iter().any(|commit| ran.contains(commit)),
        "no commit while the tool ran ({ran:?}), the test proves nothing: {commits:?}"
    );
    let at_the_limit = nodes * bytes_each / (256 << 10);
    let seconds = (point.data_to - point.data_from).num_seconds().unsigned_abs();
    assert!(seconds >= at_the_limit, "{} bytes came in {seconds} s: faster than the limit", point.bytes);
    let directory = status.directory.as_deref().unwrap();
    let copy = Copy { claim: "whole", directory };
    assert_eq!(copy.count(&client, &before).await, nodes);

    let (manifest, digest) = copy.manifest(&client).await;
    assert_eq!(digest, point.manifest_digest);
    assert_eq!(manifest.owner.uid, backup.uid().await);
    assert_eq!(manifest.mastership_before, manifest.mastership_after);
    assert!(matches!(manifest.mastership_after, Mastership::Master(_)));
    assert_eq!((manifest.store_id, manifest.last_transaction), (point.store_id, point.last_transaction));
    assert_eq!(manifest.bytes, manifest.files.iter().map(|file| file.bytes).sum::<u64>());
    let columns = kubectl(&["-n", "graph", "get", "gb", "whole", "-o", "wide"]);
    for word in ["Succeeded", "Full", directory, &point.last_transaction.to_string()] {
        assert!(columns.contains(word), "{word:?} is not in {columns}");
    }
    kubectl(&["-n", "graph", "wait", "gb/whole", "--for=condition=Ready", "--timeout=5s"]);
    backup.delete().await;
}

#[tokio::test]
async fn one_member_can_be_named_directly() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    let written = marker("single");
    database.write(&written, 10, 10).await;
    let uri = format!("single://{}.neo4j.graph.svc", database.master().await.pod);
    let backup = Backup::create(&client, "single", "whole", json!({"source": {"uri": uri}})).await;
    let status = backup.succeeded().await;
    let stable = status.conditions.iter().find(|c| c.type_ == condition::MASTER_STABLE).unwrap();
    assert_eq!((stable.status.as_str(), stable.reason.as_str()), ("Unknown", "NotObservable"));
    let copy = Copy { claim: "whole", directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &written).await, 10);
    backup.delete().await;
}

#[tokio::test]
async fn the_agent_resolves_names_in_images_that_confuse_libc() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    for variant in ["mymachines", "no-nsswitch"] {
        let image = format!("{TOOL_IMAGE}-{variant}");
        let backup = Backup::create(&client, variant, "whole", json!({"tool": {"image": image}})).await;
        backup.succeeded().await;
        backup.delete().await;
    }
}

#[tokio::test]
async fn the_operator_tells_its_health_and_counts() {
    client().await;
    let metrics = kubectl(&[
        "get",
        "--raw",
        &format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/services/graph-backup-operator-metrics:8080/proxy/metrics"),
    ]);
    for name in ["graphbackup_leader 1", "graphbackup_reconcile_passes_total", "graphbackup_backups_finished_total"] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
}

#[tokio::test]
async fn boot_lets_the_real_engine_open_the_copy() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    database.write(&marker("boot"), 30, 100).await;
    let backup = Backup::create(&client, "boot", "whole", json!({"verification": "Boot"})).await;
    let status = backup.succeeded().await;
    let boot = status.point.unwrap().boot.unwrap();
    assert!(boot.nodes.unwrap() >= 30 && boot.relationships.is_some(), "{boot:?}");
    let verified = status.conditions.iter().find(|c| c.type_ == condition::VERIFIED).unwrap();
    assert_eq!((verified.status.as_str(), verified.reason.as_str()), ("True", "StoreOpened"));
    backup.delete().await;

    let command =
        json!(["sh", "-c", "rm \"$0/neostore.nodestore.db\"; exec neo4j-shell -path \"$0\" -c pwd", "{store}"]);
    let spec = json!({"verification": "Boot", "tool": {"bootCommand": command}, "deletionPolicy": "Delete"});
    let broken = Backup::create(&client, "boot-fails", "whole", spec).await;
    broken.failed("BootFailed", &[".failed-"]).await;
    let uid = broken.uid().await;
    let look = || async { Copy { claim: "whole", directory: "" }.listing(&client).await };
    assert!(look().await.contains(&format!(".failed-{uid}-")));
    broken.delete().await;
    kubectl(&["-n", "graph", "wait", "--for=delete", "gb/boot-fails", "--timeout=120s"]);
    assert!(!look().await.contains(&uid));
}
