//! The `BackupSchedule` controller as the driver sees it.

use super::drills;
use super::invariants::{Memory, checker};
use super::standin::{Standin, is_good};
use crate::apiserver::{Change, ChangeType, Check, Key, Object, Store};
use crate::clock::Clock;
use crate::driver::{After, Subject};
use crate::world::agent::Volume;
use crate::world::cluster::Cluster;
use crate::world::database::Database;
use futures::FutureExt;
use futures::future::BoxFuture;
use graph_backup_operator::api::BackupSchedule;
use graph_backup_operator::api::GraphBackup;
use graph_backup_operator::api::names::{PIN_ANNOTATION, SCHEDULE_LABEL};
use graph_backup_operator::backup::known::Known;
use graph_backup_operator::controller::lock::ClusterLocks;
use graph_backup_operator::controller::store::Kept;
use graph_backup_operator::schedule::children::{self, Child};
use graph_backup_operator::schedule::controller::{self, Backups, Context};
use graph_backup_operator::schedule::validate::ValidSchedule;
use graph_backup_operator::schedule::watches::KnownSchedule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kind of what gets passes.
pub const KIND: &str = "BackupSchedule";

/// The controller and what happens to its backups.
pub struct Schedules {
    /// Time.
    pub clock: Clock,
    /// Whether every change of a backup brings a pass.
    pub every_change: bool,
    /// Backups and people.
    pub world: Standin,
    /// The Jobs of restore drills, if there are any.
    pub jobs: Option<Cluster>,
    /// When the run ends.
    pub ends: Duration,
    /// What the invariants remember.
    pub memory: Arc<Mutex<Memory>>,
}

/// The backups in a process's cache.
#[derive(Clone, Default)]
pub struct View(Arc<Mutex<Vec<Arc<Object>>>>);

impl View {
    /// Takes over what the cache has.
    pub fn set(&self, backups: Vec<Arc<Object>>) {
        *self.0.lock().unwrap() = backups;
    }
}

impl Backups for View {
    fn children(&self, schedule: &ValidSchedule) -> Vec<Child> {
        let backups = self.0.lock().unwrap();
        let known: Vec<Arc<Known>> = backups.iter().map(|backup| backup.typed(known_backup)).collect();
        children::children(schedule, known.iter().map(|known| &**known))
    }
}

/// A process.
pub struct Process {
    context: Arc<Context>,
    view: View,
}

/// What a process keeps of a backup.
pub fn known_backup(object: &Value) -> Known {
    kept(GraphBackup::deserialize(object), object)
}

/// What a process keeps of a schedule.
pub fn known_schedule(object: &Value) -> KnownSchedule {
    kept(BackupSchedule::deserialize(object), object)
}

fn kept<K: Kept>(read: Result<K::Object, serde_json::Error>, object: &Value) -> K {
    let unreadable = |error: serde_json::Error| {
        K::unreadable(ObjectMeta::deserialize(&object["metadata"]).unwrap(), error.to_string())
    };
    read.map_or_else(unreadable, K::keep)
}

/// What every pass works with.
pub fn context(clock: Clock, client: Client, backups: Arc<dyn Backups>, leads: Arc<AtomicBool>) -> Context {
    Context {
        operator_image: "operator:test".to_owned(),
        locks: ClusterLocks::new(client.clone(), "graph-backup-operator".to_owned()),
        client,
        backups,
        clock: Arc::new(move || clock.operators()),
        instance: "replica-0".to_owned(),
        leading: Arc::new(move || leads.load(Ordering::Relaxed)),
        metrics: Arc::default(),
        pace: Arc::default(),
    }
}

/// What of a backup brings its schedule a pass, as its watch has it.
fn stage(known: &Known) -> (bool, bool, bool) {
    let is_deleted = known.origin().is_some_and(|origin| origin.is_deleted);
    (matches!(known, Known::Over(_)), is_deleted, known.point().is_some_and(|(_, point)| point.is_pinned))
}

impl Subject for Schedules {
    type Process = Process;

    fn start(&self, client: Client, leads: Arc<AtomicBool>) -> Process {
        let view = View::default();
        let context = context(self.clock, client, Arc::new(view.clone()), leads);
        Process { context: Arc::new(context), view }
    }

    fn pass(process: &Process, object: &Object) -> BoxFuture<'static, After> {
        let context = Arc::clone(&process.context);
        let known = object.typed(known_schedule);
        async move {
            match controller::pass(&known, &context).await {
                Ok(again) => After::Done(again),
                Err(error) => {
                    let again = controller::retry_after(&known, &error, &context);
                    After::Failed(error.to_string(), again)
                }
            }
        }
        .boxed()
    }

    fn looks_at() -> Option<&'static str> {
        Some("GraphBackup")
    }

    fn show(process: &Process, others: Vec<Arc<Object>>) {
        process.view.set(others);
    }

    /// Somebody suspends it.
    fn edit(store: &mut Store, key: &Key) {
        let _ = store.change(key, |schedule| schedule["spec"]["suspend"] = json!(true));
    }

    /// Somebody pins every point.
    fn edit_others(store: &mut Store, _: &Key) {
        let points: Vec<Key> = store.list("GraphBackup").filter(|backup| is_good(backup)).map(Key::of).collect();
        for key in points {
            let _ = store.change(&key, |backup| backup["metadata"]["annotations"][PIN_ANNOTATION] = json!("audit"));
        }
    }

    fn ends(&self) -> Option<Duration> {
        Some(self.ends)
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    fn triggered_by(&self, before: Option<&Object>, change: &Change) -> Option<(Key, Duration)> {
        let object = &change.object;
        let namespace = object["metadata"]["namespace"].as_str()?.to_owned();
        if object["kind"] == KIND {
            let gone = change.what == ChangeType::Deleted;
            return (!gone).then(|| (Key::of(object), Duration::ZERO));
        }
        if object["kind"] != "GraphBackup" {
            return drills::triggered_by(before, change);
        }
        let label = |object: &Value| object["metadata"]["labels"][SCHEDULE_LABEL].as_str().map(str::to_owned);
        let name = label(object).or_else(|| label(before?))?;
        let stage = |object: &Object| stage(&object.typed(known_backup));
        let is_news = match (before, change.what) {
            (Some(before), ChangeType::Modified) => self.every_change || stage(before) != stage(object),
            _ => true,
        };
        is_news.then_some((Key { kind: KIND, namespace, name }, Duration::ZERO))
    }

    fn next(&self) -> Option<Duration> {
        self.world.next().into_iter().chain(self.jobs.as_ref().and_then(Cluster::next)).min()
    }

    fn act(&mut self, store: &mut Store) {
        self.world.act(store);
        if let Some(jobs) = &mut self.jobs {
            jobs.act(store);
        }
    }

    fn down_until(&self) -> Duration {
        self.world.down_until()
    }

    fn is_over(_: &Value) -> bool {
        false
    }

    fn check(&self) -> Check {
        checker(self.clock, Arc::clone(&self.memory))
    }

    /// What the invariants remember is about objects that are described, and about names that were used.
    fn describe(&self, out: &mut String) {
        self.world.describe(out);
        if let Some(jobs) = &self.jobs {
            jobs.describe(out);
        }
    }

    fn fork(&self, clock: Clock) -> Self {
        let memory = Arc::new(Mutex::new(self.memory.lock().unwrap().clone()));
        let world = self.world.fork(clock);
        let volume = || Arc::new(Mutex::new(Volume::default()));
        let jobs = self.jobs.as_ref().map(|jobs| jobs.fork(clock, Database::new(&[]), volume()));
        Self { clock, every_change: self.every_change, world, jobs, ends: self.ends, memory }
    }
}
