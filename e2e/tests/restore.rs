//! Restores on the real cluster: the volumes are exchanged, every member serves the point, and all of it is undone.

use crate::support::{
    Backup, Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, SOURCE, claim, client, eventually, kubectl, kubectl_with,
    marker, scale,
};
use graph_backup_operator::api::{Restore, RestorePhase, RestoreStatus, RestoreStep, condition};
use kube::api::DeleteParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CLAIM: &str = "restores";
/// Longest time that any restore of these tests may take.
const LIMIT: Duration = Duration::from_secs(420);

/// A restore under test.
struct Undo {
    api: Api<Restore>,
    name: &'static str,
}

impl Undo {
    async fn create(client: &Client, name: &'static str, backup: &str, spec: Value) -> Self {
        let restore = Self { api: Api::namespaced(client.clone(), NAMESPACE), name };
        restore.remove().await;
        let mut object = json!({
            "apiVersion": "graphbackup.dev/v1alpha1", "kind": "Restore",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "from": {"backup": backup},
                "into": {
                    "source": {"uri": SOURCE},
                    "workload": {"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"},
                },
                "deadlines": {"waitForBackup": "2m", "stage": "3m", "stop": "3m", "start": "4m", "prove": "5m"},
            },
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        kubectl_with(&["apply", "--server-side", "-f", "-"], &object);
        restore
    }

    async fn status(&self) -> RestoreStatus {
        self.api.get(self.name).await.map(|object| object.status.unwrap_or_default()).unwrap_or_default()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&RestoreStatus) -> bool) -> RestoreStatus {
        let what = format!("{}: {what}", self.name);
        eventually(&what, LIMIT, || async { Some(self.status().await).filter(|status| wanted(status)) }).await
    }

    async fn ended(&self, phase: RestorePhase) -> RestoreStatus {
        let over =
            |status: &RestoreStatus| status.step == RestoreStep::Ended || status.phase == Some(RestorePhase::Held);
        let status = self.until("it has ended", over).await;
        let told = status.conditions.iter().find(|c| c.type_ == condition::SUCCEEDED).map(|c| c.message.clone());
        assert_eq!(status.phase, Some(phase), "{told:?} {:?}", status.cause);
        status
    }

    /// Deletes it, and the claims that it keeps.
    async fn remove(&self) {
        let _ = self.api.delete(self.name, &DeleteParams::default()).await;
        eventually("the restore is gone", LIMIT, || async {
            self.api.get_opt(self.name).await.unwrap().is_none().then_some(())
        })
        .await;
        let claims = kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "jsonpath={.items[*].metadata.name}"]);
        let kept: Vec<_> = claims.split_whitespace().filter(|claim| self.has_made(claim)).collect();
        if !kept.is_empty() {
            kubectl(&[&["-n", NAMESPACE, "delete", "pvc", "--timeout=60s"][..], &kept].concat());
        }
    }

    fn has_made(&self, claim: &str) -> bool {
        let rest = claim.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('-'));
        let word = rest.and_then(|rest| rest.split('-').next());
        word.is_some_and(|word| ["original", "replaced", "stray", "staged"].contains(&word))
    }

    fn annotate(&self, annotation: &str) {
        kubectl(&["-n", NAMESPACE, "annotate", "restore", self.name, annotation]);
    }
}

/// A database that holds `a`, which is in a backup, and `b`, which is not.
async fn backed_up(client: &Client, name: &str) -> (Database, String, String) {
    claim(client, CLAIM, "2Gi").await;
    let database = Database::ready(client).await;
    let (a, b) = (marker(&format!("{name}-a")), marker(&format!("{name}-b")));
    database.write(&a, 200, 100).await;
    Backup::create(client, name, CLAIM, json!({})).await.succeeded().await;
    database.write_through_all(&b, 50).await;
    (database, a, b)
}

/// Number of nodes with a marker that each of the members holds.
async fn counts(client: &Client, marker: &str) -> Vec<u64> {
    Database::ready(client).await.counts(marker).await
}

#[tokio::test]
async fn every_member_serves_the_point_the_originals_are_kept_and_all_of_it_is_undone() {
    let client = client().await;
    let (_, a, b) = backed_up(&client, "before-the-mistake").await;
    let restore = Undo::create(&client, "undo", "before-the-mistake", json!({})).await;
    let status = restore.ended(RestorePhase::Succeeded).await;
    println!("downtime {:?}", status.downtime);
    assert_eq!((counts(&client, &a).await, counts(&client, &b).await), (vec![200; 3], vec![0; 3]));
    for ordinal in 0..3 {
        let original = format!("undo-original-{ordinal}");
        let copy = Copy { claim: &original, directory: "" };
        let script = format!("cp -r /backups/graph.db /tmp/store && neo4j-count-nodes /tmp/store {b}");
        let said = copy.run(&client, &script).await;
        assert!(said.contains("\"nodes\":150"), "{original} does not hold what was written after the backup: {said}");
    }
    let database = Database::ready(&client).await;
    let later = marker("after-the-restore");
    database.write_through_all(&later, 10).await;

    let hash = status.plan.unwrap().hash;
    restore.annotate(&format!("graphbackup.dev/roll-back={hash}"));
    restore.until("it goes back", |status| status.phase == Some(RestorePhase::RollingBack)).await;
    let status = restore.ended(RestorePhase::RolledBack).await;
    println!("downtime of the undo {:?}", status.downtime);
    assert_eq!((counts(&client, &a).await, counts(&client, &b).await), (vec![200; 3], vec![150; 3]));
    assert_eq!(counts(&client, &later).await, vec![0; 3]);
    restore.remove().await;
}

#[tokio::test]
async fn a_corrupt_point_never_stops_a_member() {
    let client = client().await;
    let (_, a, _) = backed_up(&client, "corrupt").await;
    let status = Backup::existing(&client, "corrupt").status().await;
    let copy = Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() };
    let file = format!("/backups/{}/store/neostore.propertystore.db", copy.directory);
    copy.change(&client, &format!("chmod u+w {file}; printf x | dd of={file} bs=1 seek=99 conv=notrunc")).await;
    let generation =
        || kubectl(&["-n", NAMESPACE, "get", "statefulset/neo4j", "-o", "jsonpath={.metadata.generation}"]);
    let before = generation();
    let restore = Undo::create(&client, "corrupted", "corrupt", json!({})).await;
    let status = restore.ended(RestorePhase::RolledBack).await;
    assert_eq!(status.cause.unwrap().reason, "VerificationFailed");
    assert_eq!((generation(), counts(&client, &a).await), (before, vec![200; 3]));
    restore.remove().await;
}

#[tokio::test]
async fn the_operator_is_killed_in_every_step_and_somebody_scales_up_in_between() {
    let client = client().await;
    let (_, a, b) = backed_up(&client, "killed").await;
    let restore = Undo::create(&client, "killed-often", "killed", json!({})).await;
    let over = Arc::new(AtomicBool::new(false));
    let killer = {
        let (api, over) = (restore.api.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let (mut last, mut kills) = (None, 0);
            while !over.load(Ordering::Relaxed) {
                let status = api.get("killed-often").await.ok().and_then(|object| object.status).unwrap_or_default();
                if last != Some(status.step) && status.step != RestoreStep::Ended {
                    last = Some(status.step);
                    kills += 1;
                    let delete = ["-n", OPERATOR_NAMESPACE, "delete", "pod", "--all", "--force", "--wait=false"];
                    tokio::task::spawn_blocking(move || kubectl(&delete)).await.unwrap();
                    if status.step == RestoreStep::Swap {
                        scale(NAMESPACE, "statefulset/neo4j", 3);
                    }
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            kills
        })
    };
    let status = restore.ended(RestorePhase::Succeeded).await;
    over.store(true, Ordering::Relaxed);
    assert!(killer.await.unwrap() >= 6);
    println!("downtime {:?}", status.downtime);
    assert_eq!((counts(&client, &a).await, counts(&client, &b).await), (vec![200; 3], vec![0; 3]));
    let replicas = kubectl(&["-n", NAMESPACE, "get", "statefulset/neo4j", "-o", "jsonpath={.spec.replicas}"]);
    assert_eq!(replicas, "3");
    restore.remove().await;
}
