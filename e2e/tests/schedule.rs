//! A schedule at work on the real cluster: full and incremental backups every minute, while the master is killed once
//! and the operator twice.

use crate::support::{
    Copy, Database, NAMESPACE, OPERATOR_NAMESPACE, SOURCE, TOOL_IMAGE, claim, client, eventually, kubectl,
    kubectl_with, marker, scale,
};
use chrono::{DateTime, TimeDelta, Utc};
use graph_backup_operator::api::condition::{self, Truth};
use graph_backup_operator::api::names::{SCHEDULE_LABEL, SLOT_ANNOTATION};
use graph_backup_operator::api::{BackupSchedule, BackupScheduleStatus, GraphBackup};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const CLAIM: &str = "scheduled";
const OPERATOR: &str = "deployment/graph-backup-operator";

/// A schedule under test.
struct Schedule {
    api: Api<BackupSchedule>,
    backups: Api<GraphBackup>,
    name: &'static str,
}

impl Schedule {
    async fn create(client: &Client, name: &'static str) -> Self {
        let api: Api<BackupSchedule> = Api::namespaced(client.clone(), NAMESPACE);
        let backups: Api<GraphBackup> = Api::namespaced(client.clone(), NAMESPACE);
        let schedule = Self { api, backups, name };
        schedule.remove().await;
        kubectl_with(
            &["apply", "--server-side", "-f", "-"],
            &json!({
                "apiVersion": "graphbackup.dev/v1alpha1", "kind": "BackupSchedule",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/instance": "argo"}},
                "spec": {
                    "full": {"schedule": "*/4 * * * *"}, "incremental": {"schedule": "* * * * *"}, "jitter": "2s",
                    "timeZone": "Europe/Berlin",
                    "freshness": {"maxAge": "150s"},
                    "retention": {"keepLast": 3},
                    "drill": {"schedule": "*/2 * * * *"},
                    "template": {
                        "source": {"uri": SOURCE}, "target": {"claimName": CLAIM}, "tool": {"image": TOOL_IMAGE},
                        "retry": {"limit": 3}, "deadlines": {"run": "5m", "podStart": "1m"},
                    },
                },
            }),
        );
        schedule
    }

    /// Removes what an earlier run has left.
    async fn remove(&self) {
        let _ = self.api.delete(self.name, &DeleteParams::default()).await;
        for backup in self.backups().await {
            let _ = self.backups.delete(&backup.name_any(), &DeleteParams::default()).await;
        }
        let limit = Duration::from_secs(60);
        eventually("the backups of an earlier run are gone", limit, || async {
            self.backups().await.is_empty().then_some(())
        })
        .await;
    }

    async fn backups(&self) -> Vec<GraphBackup> {
        let own = ListParams::default().labels(&format!("{SCHEDULE_LABEL}={}", self.name));
        self.backups.list(&own).await.map(|list| list.items).unwrap_or_default()
    }

    async fn status(&self) -> BackupScheduleStatus {
        self.api.get(self.name).await.unwrap().status.unwrap_or_default()
    }

    async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&BackupScheduleStatus) -> bool,
    ) -> BackupScheduleStatus {
        eventually(what, limit, || async { Some(self.status().await).filter(|status| wanted(status)) }).await
    }

    async fn fresh(&self, truth: Truth, limit: Duration) {
        let what = format!("Fresh is {}", truth.as_str());
        self.until(&what, limit, |status| condition::get(&status.conditions, condition::FRESH) == Some(truth)).await;
    }

    /// Notes every backup that there ever is, by name: its UID and its slot.
    fn follow(&self) -> (JoinHandle<()>, Arc<Mutex<Seen>>) {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (backups, noted) = (self.backups.clone(), Arc::clone(&seen));
        let own = ListParams::default().labels(&format!("{SCHEDULE_LABEL}={}", self.name));
        let task = tokio::spawn(async move {
            loop {
                for backup in backups.list(&own).await.map(|list| list.items).unwrap_or_default() {
                    let slot = backup.annotations().get(SLOT_ANNOTATION).and_then(|slot| slot.parse().ok());
                    let uid = backup.uid().unwrap_or_default();
                    noted.lock().unwrap().entry(backup.name_any()).or_default().insert(uid, slot);
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        (task, seen)
    }
}

/// UIDs and slots of the backups, by name.
type Seen = BTreeMap<String, BTreeMap<String, Option<DateTime<Utc>>>>;

fn kill_operator() {
    let label = "app.kubernetes.io/name=graph-backup-operator";
    kubectl(&["-n", OPERATOR_NAMESPACE, "delete", "pod", "-l", label, "--grace-period=0", "--force"]);
}

#[tokio::test]
async fn a_schedule_keeps_its_slots_while_the_master_and_the_operator_are_killed() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let survives = marker("scheduled");
    database.write(&survives, 20, 100).await;
    let schedule = Schedule::create(&client, "every-minute").await;
    let (follower, seen) = schedule.follow();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);

    schedule.until("a first point", minutes(3), |status| status.last_success.is_some()).await;
    schedule.fresh(Truth::True, minutes(1)).await;
    kill_operator();
    let (held, _) = database.kill_master().await;
    let killed = Utc::now();
    schedule
        .until("a point from the new master", minutes(4), |status| {
            status.last_success.as_ref().is_some_and(|point| point.data_from > killed)
        })
        .await;
    drop(held);
    Database::ready(&client).await;

    // Longer away than the data may be old.
    scale(OPERATOR_NAMESPACE, OPERATOR, 0);
    tokio::time::sleep(Duration::from_secs(200)).await;
    let back = Utc::now();
    scale(OPERATOR_NAMESPACE, OPERATOR, 1);
    schedule.fresh(Truth::False, minutes(2)).await;
    schedule.fresh(Truth::True, minutes(2)).await;
    kill_operator();
    schedule
        .until("incremental points after it", minutes(4), |status| {
            let newest =
                status.last_success.as_ref().is_some_and(|point| point.data_from > back + TimeDelta::seconds(70));
            newest && status.active.is_none() && status.retention.as_ref().is_some_and(|plan| plan.removing == 0)
        })
        .await;
    let drilled = schedule.until("a drill has passed", minutes(5), |status| {
        let last = status.drill.as_ref().and_then(|drill| drill.last.as_ref());
        last.is_some_and(|last| last.passed && last.time > back)
    });
    let last = drilled.await.drill.unwrap().last.unwrap();
    assert!(last.seconds.is_some() && last.last_transaction > Some(1), "{last:?}");
    kubectl(&["-n", NAMESPACE, "patch", "gbs", "every-minute", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    let status = schedule.until("idle", minutes(2), |status| {
        status.phase == Some(graph_backup_operator::api::SchedulePhase::Suspended) && status.active.is_none()
    });
    let status = status.await;
    follower.abort();
    each_slot_once(&seen.lock().unwrap(), &status);
    let uids = seen.lock().unwrap().values().flat_map(BTreeMap::keys).cloned().collect::<Vec<_>>();
    what_is_pruned_is_gone(&client, &schedule, &uids, (&database, &survives)).await;
    schedule.remove().await;
}

/// Every minute between the first slot and the last has one backup, or is counted as skipped.
fn each_slot_once(seen: &Seen, status: &BackupScheduleStatus) {
    for (name, uids) in seen {
        assert_eq!(uids.len(), 1, "{name} was created {} times", uids.len());
    }
    let slots: Vec<_> = seen.values().flat_map(BTreeMap::values).copied().map(Option::unwrap).collect();
    let (first, last) = (slots.iter().min().unwrap(), slots.iter().max().unwrap());
    let between = (*last - *first).num_minutes() + 1;
    let skipped: i64 = status.skipped.iter().filter(|skipped| skipped.reason != "Suspended").map(|s| s.count).sum();
    let counted = i64::try_from(slots.len()).unwrap() + skipped;
    // A slot that both expressions have is counted by each where it is skipped.
    let shared = between / 4 + 1;
    assert!(
        (between..=between + shared).contains(&counted),
        "{between} slots, {counted} counted: {:?}",
        status.skipped
    );
    assert!(slots.len() >= 5, "{slots:?}");
}

/// The points on the volume are those of the API, and the newest one has the data.
async fn what_is_pruned_is_gone(
    client: &Client,
    schedule: &Schedule,
    uids: &[String],
    (database, survives): (&Database, &str),
) {
    let gone = || async {
        let backups = schedule.backups().await;
        backups.iter().all(|backup| backup.metadata.deletion_timestamp.is_none()).then_some(backups)
    };
    let backups = eventually("the removed points are gone", Duration::from_secs(120), gone).await;
    let good: Vec<_> = backups.iter().filter(|backup| backup.status.as_ref().unwrap().has_succeeded()).collect();
    assert_eq!(good.len(), 3);
    let labels = ["app.kubernetes.io/instance"];
    assert!(good.iter().all(|backup| labels.iter().all(|label| !backup.labels().contains_key(*label))));
    let directories: Vec<_> = good.iter().map(|backup| backup.status.clone().unwrap().directory.unwrap()).collect();
    let listing = Copy { claim: CLAIM, directory: "" }.listing(client).await;
    // An earlier run on the same cluster has left its own.
    let is_of_this_run = |line: &str| uids.iter().any(|uid| line.contains(&uid[..8]));
    let manifests = listing.lines().filter(|line| line.ends_with("manifest.json") && is_of_this_run(line));
    let mut on_volume: Vec<_> = manifests
        .map(|line| line.trim_start_matches("/backups/").trim_end_matches("/manifest.json").to_owned())
        .collect();
    let mut in_api = directories.clone();
    on_volume.sort();
    in_api.sort();
    assert_eq!(on_volume, in_api);
    let newest = in_api.last().unwrap();
    let copy = Copy { claim: CLAIM, directory: newest };
    assert_eq!(copy.count(client, survives).await, database.count(survives).await);
}
