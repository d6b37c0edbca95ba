//! Several clusters in several namespaces, and fewer places than backups: the limit holds whatever goes wrong, and
//! everybody gets a turn.

use super::invariants::truth;
use super::scenario::scenario;
use super::subject::Backups;
use super::whole::turn;
use crate::apiserver::{ApiServer, Key, Kind, Mishaps, Record, Store, Verb};
use crate::clock::{Clock, in_paused_time};
use crate::driver::Subject;
use crate::fault::{Mishap, delete};
use crate::world::database::Database;
use futures::future::BoxFuture;
use graph_backup_operator::api::{Endpoint, StoreId};
use graph_backup_operator::backup::controller;
use graph_backup_operator::backup::watches::KnownBackups;
use graph_backup_operator::controller::store::Scope;
use graph_backup_operator::controller::watch::Watches;
use graph_backup_operator::discovery::probe::{ProbeError, Transaction};
use graph_backup_operator::discovery::{ClusterView, Discovery, DiscoveryError, Located, Registered, SourceUri};
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How many backups each namespace has. Each backup is of a cluster of its own.
const NAMESPACES: [(&str, usize); 3] = [("a", 4), ("b", 2), ("c", 2)];
/// How many may work at the same time.
const PLACES: usize = 2;
/// Long after everything is over.
const LONG: u64 = 4 * 3600;

/// What happens at one request.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// Nothing.
    None,
    /// Something happens to the request.
    Request(Mishap),
    /// The operator ends, and another process starts.
    Crash,
    /// Somebody deletes every backup that works.
    HoldersGo,
    /// The same, and nothing holds them.
    HoldersVanish,
    /// Somebody deletes every backup that waits.
    WaitingGo,
    /// Every watch breaks, and what happened meanwhile is forgotten.
    Watches,
}

const BLOWS: [Blow; 10] = [
    Blow::Request(Mishap::Silent { applied: false }),
    Blow::Request(Mishap::Silent { applied: true }),
    Blow::Request(Mishap::Broken { applied: true }),
    Blow::Request(Mishap::Refused(503)),
    Blow::Request(Mishap::Refused(409)),
    Blow::Crash,
    Blow::HoldersGo,
    Blow::HoldersVanish,
    Blow::WaitingGo,
    Blow::Watches,
];

fn works(backup: &Value) -> bool {
    let attempts = backup["status"]["attempts"].as_array();
    attempts.and_then(|attempts| attempts.last()).is_some_and(|attempt| attempt["completionTime"].is_null())
        && !is_over(backup)
}

fn is_over(backup: &Value) -> bool {
    matches!(truth(&backup["status"], "Succeeded"), "True" | "False")
}

/// Deletes backups.
fn remove(store: &mut Store, which: fn(&Value) -> bool, force: bool) {
    let keys: Vec<Key> = store.list("GraphBackup").filter(|backup| which(backup)).map(Key::of).collect();
    for key in keys {
        delete(store, &key);
        if force {
            let _ = store.change(&key, |backup| backup["metadata"]["finalizers"] = json!([]));
        }
    }
}

fn objects(clock: Clock) -> Store {
    let mut store = Store::new(clock);
    for (namespace, count) in NAMESPACES {
        let claim = json!({"metadata": {"name": "graph-backups"}, "spec": {"accessModes": ["ReadWriteMany"]}});
        store.create(Kind::named("PersistentVolumeClaim"), namespace, claim).unwrap();
        for number in 0..count {
            let backup = json!({"metadata": {"name": format!("backup-{number}")}, "spec": {
                "source": {"uri": format!("ha://zk-{number}")}, "target": {"claimName": "graph-backups"},
                "tool": {"image": "registry.example/neo4j:1.8"}, "retry": {"limit": 2},
                "deadlines": {"run": "6h", "podStart": "5m"},
            }});
            store.create(Kind::named("GraphBackup"), namespace, backup).unwrap();
        }
    }
    store
}

/// Finds the cluster that a URI names, in one namespace.
struct Clusters(usize);

impl Clusters {
    fn of(&self, source: &str) -> Database {
        let number = source.bytes().filter(u8::is_ascii_digit).fold(0, |number, digit| number * 10 + i64::from(digit));
        Database::of(StoreId { creation_time: 1 + i64::try_from(self.0).unwrap(), random_id: number })
    }
}

impl Discovery for Clusters {
    fn cluster<'a>(
        &'a self,
        source: &'a SourceUri,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ClusterView, DiscoveryError>> {
        let database = self.of(&source.to_string());
        Box::pin(async move { database.cluster(source, name).await })
    }

    fn transaction<'a>(
        &'a self,
        _member: &'a Endpoint,
        _id: i64,
    ) -> BoxFuture<'a, Result<Option<Transaction>, ProbeError>> {
        Box::pin(async { Ok(None) })
    }

    fn members<'a>(
        &'a self,
        source: &'a SourceUri,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Registered>, DiscoveryError>> {
        let database = self.of(&source.to_string());
        Box::pin(async move { database.members(source, name).await })
    }

    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>> {
        let database = self.of(&source.to_string());
        Box::pin(async move { database.locate(source, name).await })
    }
}

/// No more than the places work at the same time.
fn within_limit(store: &Store) -> Vec<String> {
    let working: Vec<String> = store
        .list("GraphBackup")
        .filter(|backup| works(backup))
        .map(|backup| format!("{}/{}", backup["metadata"]["namespace"], backup["metadata"]["name"]))
        .collect();
    let over = working.len() > PLACES;
    over.then(|| format!("{} backups work at the same time: {working:?}", working.len())).into_iter().collect()
}

struct Many {
    clock: Clock,
    server: ApiServer,
    world: Backups,
}

impl Many {
    fn new(mishaps: Mishaps) -> Self {
        let clock = Clock::start(Duration::ZERO);
        let turning = scenario("several clusters").world(clock);
        let past = (objects(clock), Vec::new());
        let server = ApiServer::new(clock, past, mishaps, |_| false, Box::new(within_limit));
        let many = Self { clock, server: server.clone(), world: turning.fork(clock) };
        turn(clock, server, turning.cluster);
        many
    }

    /// Runs one process, which watches every namespace in one list.
    async fn run(&self, process: usize, seconds: u64) {
        let client = self.server.client(process);
        let watches = Watches::new(client.clone(), vec![Scope::Cluster], Arc::default());
        let backups = KnownBackups::new(PLACES);
        let (fork, limit) = (Mutex::new(self.world.fork(self.clock)), Arc::clone(&backups.limit));
        let context = move |namespace: &str| {
            let number = NAMESPACES.iter().position(|(name, _)| *name == namespace).unwrap();
            let world = fork.lock().unwrap();
            let mut context = world.context(client.clone(), Arc::new(AtomicBool::new(true)));
            context.limit = Arc::clone(&limit);
            context.discovery = Arc::new(Clusters(number));
            context
        };
        let controller = controller::run(backups, &watches, context, std::future::pending());
        let _ = timeout(Duration::from_secs(seconds), controller).await;
    }

    fn strike(&self, blow: Blow) {
        let server = &self.server;
        match blow {
            Blow::HoldersGo => server.with(|store| remove(store, works, false)),
            Blow::HoldersVanish => server.with(|store| remove(store, works, true)),
            Blow::WaitingGo => server.with(|store| remove(store, |backup| !works(backup) && !is_over(backup), false)),
            Blow::Watches => {
                server.with(Store::compact);
                server.break_watches();
            }
            Blow::None | Blow::Request(_) | Blow::Crash => {}
        }
    }

    fn assert_all_over(&self, what: &str) {
        assert_eq!(self.server.broken(), Vec::<String>::new(), "{what}");
        let open = self.server.with(|store| {
            let open = store.list("GraphBackup").filter(|backup| truth(&backup["status"], "Succeeded") != "True");
            open.map(ToString::to_string).collect::<Vec<_>>()
        });
        assert!(open.is_empty(), "{what}: {} do not succeed: {open:#?}", open.len());
    }
}

/// A run in which this happens at a request; whether it came, and every request.
fn run(number: usize, blow: Blow) -> (bool, Vec<Record>) {
    in_paused_time(async {
        let came = Arc::new(Notify::new());
        let tell = Arc::clone(&came);
        let many = Many::new(Box::new(move |record: &Record| {
            if record.index != number {
                return None;
            }
            tell.notify_one();
            match blow {
                Blow::Request(mishap) if record.call.verb != Verb::Watch => Some(mishap),
                _ => None,
            }
        }));
        let crashes = matches!(blow, Blow::Crash);
        let struck = tokio::select! {
            () = many.run(0, LONG) => false,
            struck = async {
                came.notified().await;
                many.strike(blow);
                if !crashes {
                    std::future::pending::<()>().await;
                }
                true
            } => struck,
        };
        if struck {
            many.run(1, LONG).await;
        }
        many.assert_all_over(&format!("{blow:?} at request {number}"));
        let records = many.server.records();
        (records.len() > number, records)
    })
}

/// The namespaces in the order in which their backups began.
fn begun(records: &[Record]) -> Vec<&str> {
    let jobs = records.iter().filter(|record| record.applied() && record.call.verb == Verb::Create);
    jobs.filter(|record| record.call.kind.name == "Job").map(|record| record.call.namespace.as_str()).collect()
}

#[test]
fn the_limit_holds_and_namespaces_take_turns() {
    let (_, records) = run(usize::MAX, Blow::None);
    let begun = begun(&records);
    assert_eq!(begun.len(), 8, "{begun:?}");
    // Whichever begin first: while the others have one that waits, the namespace with the most has no second turn.
    assert_eq!(begun.last(), Some(&"a"), "{begun:?}");
    assert!(begun[..6].iter().filter(|namespace| **namespace != "a").count() >= 3, "{begun:?}");
}

#[test]
fn the_limit_holds_whatever_happens_at_any_request() {
    // Of the requests that a run needs; the watches go on for ever.
    let (_, records) = run(usize::MAX, Blow::None);
    let last = records.iter().rposition(|record| record.call.writes()).unwrap();
    for number in 0..=last {
        for blow in BLOWS {
            run(number, blow);
        }
    }
}
