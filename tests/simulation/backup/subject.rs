//! The `GraphBackup` controller as the driver sees it.

use super::invariants::{DELETES, Memory, checker};
use crate::apiserver::{Change, ChangeType, Check, Key, Object, Store};
use crate::clock::Clock;
use crate::driver::{After, Subject};
use crate::world::agent::Volume;
use crate::world::cluster::Cluster;
use crate::world::database::Database;
use futures::FutureExt;
use futures::future::BoxFuture;
use graph_backup_operator::api::names::{BACKUP_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use graph_backup_operator::api::{GraphBackup, GraphBackupStatus, Parent, StoreId};
use graph_backup_operator::backup::controller::{self, Context};
use graph_backup_operator::backup::known::{Known, pass_after};
use graph_backup_operator::backup::points::Points;
use graph_backup_operator::backup::validate::ValidBackup;
use graph_backup_operator::controller::limit::Limit;
use graph_backup_operator::controller::lock::ClusterLocks;
use graph_backup_operator::controller::metrics::Metrics;
use graph_backup_operator::controller::pace::Pace;
use graph_backup_operator::controller::progress::{AFTER_A_JOB, Progress};
use graph_backup_operator::controller::store::Kept;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "graph-backup-operator";

/// The controller, its cluster, its database and its volume.
pub struct Backups {
    /// Time.
    pub clock: Clock,
    /// Whether every change of an object, its Jobs and its pods brings a pass.
    pub every_change: bool,
    /// Jobs, pods, people.
    pub cluster: Cluster,
    /// Where the master is.
    pub database: Database,
    /// Where the points are.
    pub volume: Arc<Mutex<Volume>>,
    /// What the invariants remember.
    pub memory: Arc<Mutex<Memory>>,
}

/// What a process keeps of an object.
fn known(object: &Value) -> Known {
    let unreadable = |error: serde_json::Error| {
        Known::unreadable(ObjectMeta::deserialize(&object["metadata"]).unwrap(), error.to_string())
    };
    GraphBackup::deserialize(object).map_or_else(unreadable, Known::keep)
}

/// One earlier point, which no object but its own has.
struct Sunday;

impl Points for Sunday {
    fn newest_parent(&self, _: &ValidBackup, _: StoreId) -> Option<Parent> {
        Some(sunday())
    }

    fn upcoming(&self, _: &ValidBackup, _: StoreId) -> Option<String> {
        None
    }

    fn taken_by(&self, _: &ValidBackup, _: StoreId) -> Option<String> {
        None
    }

    fn adoptions_ahead(&self, _: &ValidBackup) -> usize {
        0
    }
}

/// The earlier point that an incremental backup finds.
fn sunday() -> Parent {
    Parent {
        name: "sunday".to_owned(),
        uid: "uid-of-sunday".to_owned(),
        point: "20261122T020000Z-sunday-1a2b3c4d".to_owned(),
        manifest_digest: format!("sha256:{}", "b".repeat(64)),
        last_transaction: 40,
    }
}

impl Backups {
    /// What a process works with.
    pub fn context(&self, client: Client, leads: Arc<AtomicBool>) -> Context {
        let clock = self.clock;
        Context {
            locks: ClusterLocks::new(client.clone(), OPERATOR_NAMESPACE.to_owned()),
            client,
            discovery: Arc::new(self.database.clone()),
            points: Arc::new(Sunday),
            clock: Arc::new(move || clock.now()),
            operator_image: "operator:test".to_owned(),
            instance: "replica-0".to_owned(),
            leading: Arc::new(move || leads.load(Ordering::Relaxed)),
            metrics: Arc::new(Metrics::default()),
            pace: Pace::default(),
            limit: Arc::new(Limit::new(usize::MAX, Arc::default())),
        }
    }
}

impl Subject for Backups {
    type Process = Arc<Context>;

    fn start(&self, client: Client, leads: Arc<AtomicBool>) -> Arc<Context> {
        Arc::new(self.context(client, leads))
    }

    fn pass(process: &Arc<Context>, object: &Object) -> BoxFuture<'static, After> {
        let context = Arc::clone(process);
        let known = object.typed(known);
        async move {
            match controller::pass(Arc::clone(&known), Arc::clone(&context)).await {
                Ok(again) => After::Done(again),
                Err(error) => {
                    let again = controller::retry_after(&known, &error, &context);
                    After::Failed(error.to_string(), again)
                }
            }
        }
        .boxed()
    }

    fn kind(&self) -> &'static str {
        "GraphBackup"
    }

    /// As the watches of the controller do it: by owner for Jobs, by label for pods, ours only, and only what is news.
    /// The real watches bring more passes while a member is stopped; none is needed.
    fn triggered_by(&self, before: Option<&Object>, change: &Change) -> Option<(Key, Duration)> {
        let object = &change.object;
        let meta = &object["metadata"];
        let key = |name: &Value| {
            let namespace = meta["namespace"].as_str()?.to_owned();
            Some(Key { kind: "GraphBackup", namespace, name: name.as_str()?.to_owned() })
        };
        let ours = meta["labels"][MANAGED_BY_LABEL] == MANAGED_BY;
        let due = |progress: fn(&Value) -> Progress, after_its_end| {
            if self.every_change || change.what == ChangeType::Deleted {
                return Some(Duration::ZERO);
            }
            let before = before.map(|before| progress(before)).unwrap_or_default();
            progress(object).due(before, after_its_end)
        };
        match object["kind"].as_str()? {
            "GraphBackup" => {
                let before = before.map(|before| before.typed(known));
                let after = pass_after(before.as_deref(), &object.typed(known));
                Some((key(&meta["name"])?, if self.every_change { Duration::ZERO } else { after }))
            }
            "Job" if ours => {
                let mut owners = meta["ownerReferences"].as_array()?.iter();
                let owner = owners.find(|owner| owner["kind"] == "GraphBackup" && owner["controller"] == true)?;
                Some((key(&owner["name"])?, due(|job| Progress::of_job(&Job::deserialize(job).unwrap()), AFTER_A_JOB)?))
            }
            "Pod" if ours => {
                let owner = key(&meta["labels"][BACKUP_LABEL])?;
                Some((owner, due(|pod| Progress::of_pod(&Pod::deserialize(pod).unwrap()), Duration::ZERO)?))
            }
            _ => None,
        }
    }

    fn next(&self) -> Option<Duration> {
        self.cluster.next()
    }

    fn act(&mut self, store: &mut Store) {
        self.cluster.act(store);
    }

    fn down_until(&self) -> Duration {
        self.cluster.down_until()
    }

    fn is_over(object: &Value) -> bool {
        let status = GraphBackupStatus::deserialize(&object["status"]);
        status.is_ok_and(|status| status.is_terminal())
    }

    fn check(&self) -> Check {
        checker(Arc::clone(&self.volume), Arc::clone(&self.memory))
    }

    fn describe(&self, out: &mut String) {
        self.cluster.describe(out);
        self.database.describe(out);
        // The memory of objects that are there is their status.
        let memory = self.memory.lock().unwrap();
        let uids: Vec<&String> = memory.keys().collect();
        write!(out, "; {:?}; {uids:?} {:?}", self.volume.lock().unwrap(), memory.get(DELETES)).unwrap();
    }

    fn fork(&self, clock: Clock) -> Self {
        let database = self.database.fork();
        let volume = Arc::new(Mutex::new(self.volume.lock().unwrap().clone()));
        let memory = Arc::new(Mutex::new(self.memory.lock().unwrap().clone()));
        let cluster = self.cluster.fork(clock, database.clone(), Arc::clone(&volume));
        Self { clock, every_change: self.every_change, cluster, database, volume, memory }
    }
}
