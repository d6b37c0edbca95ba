use super::*;
use crate::controller::queue::Passes;
use crate::schedule::testing::hourly;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Mutex;

/// Notes the schedules that get a pass.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Passes for Notes {
    fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>> {
        self.0.lock().unwrap().push(key.name.clone());
        futures::future::ready(None).boxed()
    }
}

fn item<T: Kept>(object: &Value) -> Item<T> {
    Item::read(&object.to_string()).unwrap()
}

fn schedule(name: &str, takes_over: &str) -> Item<KnownSchedule> {
    let mut object = hourly().object;
    object["metadata"]["name"] = json!(name);
    object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
    object["metadata"]["annotations"] = json!({"graphbackup.dev/take-over": takes_over});
    item(&object)
}

fn child(version: &str, schedule: &str) -> Item<Known> {
    item(&json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
        "metadata": {"name": "b", "namespace": "graph", "uid": "u", "resourceVersion": version,
                     "labels": {"graphbackup.dev/schedule": schedule,
                                "graphbackup.dev/schedule-uid": format!("uid-of-{schedule}")}},
        "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"}},
    }))
}

async fn passes(schedules: &KnownSchedules) -> Vec<String> {
    let notes = Notes::default();
    schedules.queue.run(Arc::new(notes.clone()), tokio::time::sleep(Duration::from_secs(5))).await;
    let mut names = notes.0.lock().unwrap().clone();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_backup_brings_a_pass_over_whoever_has_it_had_it_or_has_taken_it_over() {
    let mut backups = KnownBackups::new(1);
    let schedules = KnownSchedules::listening_to(&mut backups);
    let scope = Scope::Namespace("graph".to_owned());
    backups.end_list(&scope, 1);
    for item in [schedule("heir", "uid-of-other, uid-of-gone"), schedule("first", ""), schedule("second", "")] {
        schedules.store.put(1, item);
    }
    schedules.end_list(&scope, 1);
    assert_eq!(passes(&schedules).await, ["first", "heir", "second"]);
    backups.changed(2, child("1", "gone"));
    assert_eq!(passes(&schedules).await, ["heir"]);
    backups.removed(child("1", "gone"));
    assert_eq!(passes(&schedules).await, ["heir"]);
    backups.changed(2, child("2", "first"));
    assert_eq!(passes(&schedules).await, ["first"]);
    backups.changed(2, child("3", "second"));
    assert_eq!(passes(&schedules).await, ["first", "second"]);
}
