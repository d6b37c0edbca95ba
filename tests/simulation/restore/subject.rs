//! The `Restore` controller as the driver sees it.

use super::invariants::{MEDDLED, Memory, checker};
use super::scenario::{RESTORE, restore_key};
use crate::apiserver::{Change, ChangeType, Check, Key, Object, Store};
use crate::clock::Clock;
use crate::driver::{After, Subject};
use crate::world::agent::Volume;
use crate::world::cluster::Cluster;
use crate::world::database::Database;
use crate::world::members;
use futures::FutureExt;
use futures::future::BoxFuture;
use graph_backup_operator::api::Restore;
use graph_backup_operator::api::names::ROLL_BACK_ANNOTATION;
use graph_backup_operator::controller::lock::ClusterLocks;
use graph_backup_operator::controller::store::Kept;
use graph_backup_operator::discovery::Discovery;
use graph_backup_operator::restore::controller::{self, Context};
use graph_backup_operator::restore::watches::KnownRestore;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kind of what gets passes.
pub const KIND: &str = "Restore";

/// Somebody who does something as soon as the cluster looks like this, once.
#[derive(Clone, Copy)]
pub struct Person {
    /// How the cluster looks.
    pub when: fn(&Store) -> bool,
    /// What is done then.
    pub act: fn(&mut Store, &Database),
}

/// The controller, its cluster and its database.
pub struct Restores {
    /// Time.
    pub clock: Clock,
    /// Jobs, pods, volumes.
    pub cluster: Cluster,
    /// What the members serve.
    pub database: Database,
    /// Those who have not done yet what they do.
    pub people: Vec<Person>,
    /// What the invariants remember.
    pub memory: Arc<Mutex<Memory>>,
}

fn known(object: &Value) -> KnownRestore {
    let unreadable = |error: serde_json::Error| {
        KnownRestore::unreadable(ObjectMeta::deserialize(&object["metadata"]).unwrap(), error.to_string())
    };
    Restore::deserialize(object).map_or_else(unreadable, KnownRestore::keep)
}

/// Somebody asks for the original volumes.
pub fn ask_for_originals(store: &mut Store) {
    let _ = store.change(&restore_key(), |restore| {
        let hash = restore["status"]["plan"]["hash"].as_str().unwrap_or("now").to_owned();
        restore["metadata"]["annotations"][ROLL_BACK_ANNOTATION] = json!(hash);
    });
}

/// Somebody scales the members up, as a tool does that owns their number.
pub fn scale_up(store: &mut Store) {
    let wanted = store.get(&members::key()).and_then(|set| set["metadata"]["annotations"][members::WANTED].as_str());
    if let Some(wanted) = wanted.and_then(|wanted| wanted.parse().ok()) {
        let meddle = |set: &mut Value| set["metadata"]["annotations"][MEDDLED] = json!("true");
        let _ = store.change(&members::key(), meddle);
        members::scale(store, wanted);
    }
}

impl Subject for Restores {
    type Process = Context;

    fn start(&self, client: Client, leads: Arc<AtomicBool>) -> Context {
        let (clock, database) = (self.clock, self.database.clone());
        Context {
            locks: ClusterLocks::new(client.clone(), "graph-backup-operator".to_owned()),
            client,
            discovery: Arc::new(move |_| Arc::new(database.clone()) as Arc<dyn Discovery>),
            clock: Arc::new(move || clock.now()),
            operator_image: "operator:test".to_owned(),
            instance: "replica-0".to_owned(),
            leading: Arc::new(move || leads.load(Ordering::Relaxed)),
            metrics: Arc::default(),
            pace: Arc::default(),
        }
    }

    fn pass(process: &Context, object: &Object) -> BoxFuture<'static, After> {
        let context = process.clone();
        let known = object.typed(known);
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

    /// Somebody asks for the original volumes.
    fn edit(store: &mut Store, _: &Key) {
        ask_for_originals(store);
    }

    /// Somebody scales the members up.
    fn edit_others(store: &mut Store, _: &Key) {
        scale_up(store);
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    fn triggered_by(&self, _: Option<&Object>, change: &Change) -> Option<(Key, Duration)> {
        let own = change.object["kind"] == KIND && change.what != ChangeType::Deleted;
        own.then(|| (Key::of(&change.object), Duration::ZERO))
    }

    fn next(&self) -> Option<Duration> {
        self.cluster.next()
    }

    fn act(&mut self, store: &mut Store) {
        let database = &self.database;
        self.people.retain(|person| {
            let is_time = (person.when)(store);
            if is_time {
                (person.act)(store, database);
            }
            !is_time
        });
        self.cluster.act(store);
    }

    fn down_until(&self) -> Duration {
        self.cluster.down_until()
    }

    fn is_over(_: &Value) -> bool {
        false
    }

    fn check(&self) -> Check {
        checker(self.clock, self.database.clone(), Arc::clone(&self.memory))
    }

    fn describe(&self, out: &mut String) {
        self.cluster.describe(out);
        self.database.describe(out);
        self.memory.lock().unwrap().describe(out);
        write!(out, "; {} of {RESTORE} ahead", self.people.len()).unwrap();
    }

    fn fork(&self, clock: Clock) -> Self {
        let database = self.database.fork();
        let memory = Arc::new(Mutex::new(self.memory.lock().unwrap().clone()));
        let cluster = self.cluster.fork(clock, database.clone(), Arc::new(Mutex::new(Volume::default())));
        Self { clock, cluster, database, people: self.people.clone(), memory }
    }
}
