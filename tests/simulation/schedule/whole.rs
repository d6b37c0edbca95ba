//! Both controllers as the operator runs them, with their watches, in virtual time.

use super::look::{schedule_key, set};
use super::standin::{SCHEDULE, is_good, truth};
use super::subject::{KIND, context};
use crate::apiserver::{ApiServer, Kind, Mishaps, Record, Store, Verb};
use crate::backup::scenario::{create_claim, scenario};
use crate::backup::subject::Backups;
use crate::backup::whole::turn;
use crate::clock::{Clock, in_paused_time};
use crate::driver::Subject;
use crate::world::NAMESPACE;
use graph_backup_operator::backup;
use graph_backup_operator::backup::watches::KnownBackups;
use graph_backup_operator::controller::health::Health;
use graph_backup_operator::controller::store::Scope;
use graph_backup_operator::controller::watch::Watches;
use graph_backup_operator::schedule::controller;
use graph_backup_operator::schedule::watches::KnownSchedules;
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// A turning world, and what is needed to run the operator in it.
pub struct Whole {
    /// Time.
    pub clock: Clock,
    /// The API server.
    pub server: ApiServer,
    /// How the watches are.
    pub health: Arc<Health>,
    world: Backups,
}

impl Whole {
    /// A schedule with these fields beside those that it needs.
    pub fn new(fields: &Value) -> Self {
        Self::with_mishaps(fields, Box::new(|_| None))
    }

    /// The same with something that happens to requests.
    pub fn with_mishaps(fields: &Value, mishaps: Mishaps) -> Self {
        let clock = Clock::start(Duration::ZERO);
        let mut store = Store::new(clock);
        create_claim(&mut store);
        let mut spec = json!({"jitter": "0s", "template": {
            "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"}, "target": {"claimName": "graph-backups"},
            "tool": {"image": "registry.example/neo4j:1.8"},
        }});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        store.create(Kind::named(KIND), NAMESPACE, json!({"metadata": {"name": SCHEDULE}, "spec": spec})).unwrap();
        let turning = scenario("whole").world(clock);
        let check = turning.check();
        let server = ApiServer::new(clock, (store, Vec::new()), mishaps, |_| false, check);
        let whole = Self { clock, server: server.clone(), health: Arc::default(), world: turning.fork(clock) };
        turn(clock, server, turning.cluster);
        whole
    }

    /// Runs the operator for so many seconds.
    pub async fn run(&self, process: usize, seconds: u64) {
        let client = self.server.client(process);
        let watches =
            Watches::new(client.clone(), vec![Scope::Namespace(NAMESPACE.to_owned())], Arc::clone(&self.health));
        let mut backups = KnownBackups::new(usize::MAX);
        let schedules = KnownSchedules::listening_to(&mut backups);
        let leads = Arc::new(AtomicBool::new(true));
        let scheduling = context(self.clock, client.clone(), backups.store.clone(), Arc::clone(&leads));
        let mut of_backups = self.world.context(client, leads);
        of_backups.points = backups.store.clone();
        let of_backups = Mutex::new(Some(of_backups));
        let of_backups = move |_: &str| of_backups.lock().unwrap().take().unwrap();
        let both = futures::future::join(
            backup::controller::run(backups, &watches, of_backups, std::future::pending()),
            controller::run(schedules, &watches, scheduling, std::future::pending()),
        );
        let _ = timeout(Duration::from_secs(seconds), both).await;
    }

    /// The schedule as it is.
    pub fn schedule(&self) -> Value {
        self.server.with(|store| Value::clone(store.get(&schedule_key()).unwrap()))
    }

    /// Names of backups.
    pub fn backups(&self, is: fn(&Value) -> bool) -> Vec<String> {
        let name = |backup: &Value| backup["metadata"]["name"].as_str().unwrap().to_owned();
        self.server.with(|store| store.list("GraphBackup").filter(|backup| is(backup)).map(name).collect())
    }

    /// No invariant was broken.
    pub fn assert_sound(&self) {
        assert_eq!(self.server.broken(), Vec::<String>::new());
    }
}

/// Names of the backups that were created.
pub fn taken(records: &[Record]) -> Vec<&str> {
    let creates = records.iter().filter(|record| record.applied() && record.call.verb == Verb::Create);
    creates.filter(|record| record.call.kind.name == "GraphBackup").map(|record| record.call.name.as_str()).collect()
}

#[test]
fn backups_are_taken_end_and_go_with_their_files() {
    in_paused_time(async {
        let whole = Whole::new(&json!({
            "full": {"schedule": "0 * * * *"}, "incremental": {"schedule": "*/5 * * * *"},
            "retention": {"keepLast": 3},
        }));
        // The operator is replaced twice, once in the minute of a slot.
        for (process, seconds) in [(0, 1805), (1, 3605), (2, 1990)] {
            whole.run(process, seconds).await;
        }
        let records = whole.server.records();
        let (mut names, all) = (taken(&records), taken(&records).len());
        names.dedup();
        assert_eq!((names.len(), all), (24, 24), "{names:?}");
        let there = whole.backups(is_good);
        assert_eq!(there.len(), 3, "{there:?}");
        let jobs = records.iter().filter(|record| record.call.kind.name == "Job" && record.call.verb == Verb::Create);
        let removals = jobs.filter(|record| record.applied() && record.call.name.ends_with('p')).count();
        assert_eq!(removals, 21);
        assert_eq!(whole.schedule()["status"]["skipped"], Value::Null);
        whole.assert_sound();
    });
}

#[test]
fn a_thousand_minutes_in_rest_write_nothing() {
    in_paused_time(async {
        let whole = Whole::new(&json!({
            "full": {"schedule": "30 6 24 11 *"}, "freshness": {"maxAge": "1h"}, "retention": {"maxAge": "4000h"},
        }));
        whole.run(0, 7200).await;
        assert_eq!(whole.backups(is_good).len(), 1);
        assert_eq!(truth(&whole.schedule(), "Fresh"), "False");
        let before = whole.server.requests();
        whole.run(1, 60_000).await;
        let further = whole.server.records().split_off(before);
        assert!(further.len() > 600, "the watches are renewed");
        let own = further.iter().filter(|record| !matches!(record.call.verb, Verb::List | Verb::Watch));
        assert_eq!(own.map(|record| record.call.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
        whole.assert_sound();
    });
}

#[test]
fn watches_that_break_and_lose_history_are_healed() {
    in_paused_time(async {
        let whole = Whole::new(&json!({"incremental": {"schedule": "*/10 * * * *"}, "retention": {"keepLast": 2}}));
        let (clock, server) = (whole.clock, whole.server.clone());
        tokio::spawn(async move {
            for second in 1..700 {
                clock.wait_until(Duration::from_secs(second * 5)).await;
                server.break_watches();
            }
        });
        whole.run(0, 3600 + 300).await;
        assert_eq!(taken(&whole.server.records()).len(), 6);
        assert_eq!(whole.backups(is_good).len(), 2);
        whole.assert_sound();
    });
}

#[test]
fn the_schedule_goes_with_its_points() {
    in_paused_time(async {
        let whole = Whole::new(&json!({"incremental": {"schedule": "*/10 * * * *"}, "deletionPolicy": "Delete"}));
        whole.run(0, 2402).await;
        assert_eq!(whole.backups(is_good).len(), 3);
        // The fourth is at work.
        whole.server.with(|store| crate::fault::delete(store, &schedule_key()));
        whole.run(0, 600).await;
        assert!(whole.backups(|_| true).is_empty());
        assert!(whole.server.with(|store| store.get(&schedule_key()).is_none()));
        whole.assert_sound();
    });
}

#[test]
fn suspended_in_the_second_of_a_slot() {
    in_paused_time(async {
        for second in [1799, 1800, 1801] {
            let whole = Whole::new(&json!({"incremental": {"schedule": "*/10 * * * *"}}));
            let (clock, server) = (whole.clock, whole.server.clone());
            tokio::spawn(async move {
                clock.wait_until(Duration::from_secs(second)).await;
                server.with(|store| set(store, "suspend", json!(true)));
            });
            whole.run(0, 7200).await;
            let count = taken(&whole.server.records()).len();
            assert!(count == 2 || second >= 1800 && count == 3, "{count}");
            whole.assert_sound();
        }
    });
}
