//! The controller as the operator runs it, with its watches, in virtual time.

use super::invariants::truth;
use super::scenario::{BACKUP, Scenario, create_backup, reason, scenario};
use super::subject::Backups;
use crate::apiserver::{ApiServer, Key, Mishaps, Record, Store, Verb};
use crate::clock::{Clock, in_paused_time};
use crate::driver::Subject;
use crate::fault::Mishap;
use crate::world::NAMESPACE;
use crate::world::cluster::{Behaviour, Cluster};
use graph_backup_operator::api::Reason;
use graph_backup_operator::api::names::{MANAGED_BY, MANAGED_BY_LABEL};
use graph_backup_operator::backup::controller;
use graph_backup_operator::backup::watches::KnownBackups;
use graph_backup_operator::controller::store::Scope;
use graph_backup_operator::controller::watch::Watches;
use serde_json::json;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// A turning world, and what is needed to run controllers in it.
struct Whole {
    clock: Clock,
    server: ApiServer,
    /// A twin of the world that turns: for starting processes only.
    world: Backups,
}

impl Whole {
    fn new(scenario: &Scenario, mishaps: Mishaps) -> Self {
        let clock = Clock::start(Duration::ZERO);
        let turning = scenario.world(clock);
        let past = (scenario.objects(clock), Vec::new());
        let server = ApiServer::new(clock, past, mishaps, |_| false, turning.check());
        let whole = Self { clock, server: server.clone(), world: turning.fork(clock) };
        turn(clock, server, turning.cluster);
        whole
    }

    /// Runs the controller for so many seconds.
    async fn run(&self, process: usize, seconds: u64) {
        self.run_until(process, seconds, std::future::pending()).await;
    }

    /// Runs the controller until `shutdown` has ended it, at most for so many seconds.
    async fn run_until(
        &self,
        process: usize,
        seconds: u64,
        shutdown: impl Future<Output = ()> + Send + Sync + 'static,
    ) {
        let client = self.server.client(process);
        let watches = Watches::new(client.clone(), vec![Scope::Namespace(NAMESPACE.to_owned())], Arc::default());
        let context = Mutex::new(Some(self.world.context(client, Arc::new(AtomicBool::new(true)))));
        // Of the one namespace.
        let context = move |_: &str| context.lock().unwrap().take().unwrap();
        let controller = controller::run(KnownBackups::new(usize::MAX), &watches, context, shutdown);
        let _ = timeout(Duration::from_secs(seconds), controller).await;
    }

    fn said(&self, name: &str) -> (String, String) {
        self.server.with(|store| {
            let key = Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: name.to_owned() };
            let backup = store.get(&key).unwrap();
            (truth(&backup["status"], "Succeeded").to_owned(), reason(backup).to_owned())
        })
    }
}

/// Lets a cluster work on its own, beside everything else.
pub fn turn(clock: Clock, server: ApiServer, mut cluster: Cluster) {
    tokio::spawn(async move {
        let mut news = server.with(|store| store.subscribe());
        loop {
            server.with(|store| cluster.act(store));
            news.borrow_and_update();
            let next = cluster.next().unwrap_or_else(|| clock.elapsed() + Duration::from_hours(24));
            tokio::select! {
                biased;
                _ = news.changed() => {}
                () = clock.wait_until(next) => {}
            }
        }
    });
}

fn succeeded() -> (String, String) {
    ("True".to_owned(), "Succeeded".to_owned())
}

/// Writes, and reads that no watch begins with.
fn own_requests(records: &[Record]) -> Vec<String> {
    let watches = |record: &&Record| {
        let call = &record.call;
        // A watch begins with a list: of all GraphBackups, of all Jobs and pods of ours. A pass asks for those of one
        // object.
        let begins = match call.query.get("labelSelector") {
            Some(selector) => *selector == format!("{MANAGED_BY_LABEL}={MANAGED_BY}"),
            None => call.kind.name == "GraphBackup",
        };
        call.verb == Verb::Watch || (call.verb == Verb::List && begins)
    };
    records.iter().filter(|record| !watches(record)).map(|record| record.call.to_string()).collect()
}

fn none() -> Mishaps {
    Box::new(|_| None)
}

#[test]
fn six_writes_six_reads_and_then_nothing_but_watches() {
    in_paused_time(async {
        let whole = Whole::new(&scenario("whole"), none());
        // The pod ends after 18 s; no look is due before 30 s.
        whole.run(0, 20).await;
        assert_eq!(whole.said(BACKUP), succeeded());
        let records = whole.server.records();
        let writes: Vec<_> = records.iter().filter(|record| record.call.writes()).map(|r| r.call.to_string()).collect();
        assert_eq!(writes.len(), 6, "{writes:?}");
        let all = own_requests(&records);
        assert!(all.len() - writes.len() <= 6, "{all:?}");
        // A process that starts when everything is done, and stays for a thousand minutes.
        whole.run(1, 60_000).await;
        let further = whole.server.records().split_off(records.len());
        assert!(further.len() > 600, "the watches are renewed");
        assert_eq!(own_requests(&further), Vec::<String>::new());
    });
}

#[test]
fn a_backup_that_runs_for_a_thousand_minutes_writes_nothing() {
    in_paused_time(async {
        let endless = scenario("endless").spec("/deadlines/run", json!("48h")).backup_job(Behaviour::Hangs);
        let whole = Whole::new(&endless, none());
        whole.run(0, 60).await;
        let before = whole.server.requests();
        whole.run(1, 60_000).await;
        let further = whole.server.records().split_off(before);
        assert_eq!(further.iter().filter(|record| record.call.writes()).count(), 0);
        // A look every ten minutes: the Job and its pods.
        assert!(own_requests(&further).len() <= 210, "{} requests", own_requests(&further).len());
    });
}

#[test]
fn watches_that_break_and_lose_history_are_healed() {
    in_paused_time(async {
        let whole = Whole::new(&scenario("broken watches"), none());
        let (clock, server) = (whole.clock, whole.server.clone());
        tokio::spawn(async move {
            for second in 1..40 {
                clock.wait_until(Duration::from_secs(second)).await;
                server.with(Store::compact);
                server.break_watches();
            }
        });
        whole.run(0, 3000).await;
        assert_eq!(whole.said(BACKUP), succeeded());
    });
}

#[test]
fn one_object_whose_calls_hang_does_not_hold_up_the_others() {
    in_paused_time(async {
        let hang = |record: &Record| {
            let of_one = record.call.name.starts_with(BACKUP);
            of_one.then_some(Mishap::Silent { applied: false })
        };
        let two = scenario("two").prepared(|store, spec| create_backup(store, "weekly", spec));
        let whole = Whole::new(&two, Box::new(hang));
        whole.run(0, 60).await;
        assert_eq!(whole.said("weekly"), succeeded());
        assert_eq!(whole.said(BACKUP).0, "absent");
    });
}

#[test]
fn shutdown_at_any_request_drains_and_the_next_process_goes_on() {
    let requests = drained(usize::MAX);
    for at in 0..requests {
        drained(at);
    }
}

/// Shuts down while a request is under way, then starts anew; gives the number of requests of the first process.
fn drained(at: usize) -> usize {
    in_paused_time(async {
        let whole = Whole::new(&scenario("drained").backup_job(Behaviour::Fails(Reason::ToolFailed)), none());
        let server = whole.server.clone();
        let shutdown = async move {
            while server.requests() <= at {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        whole.run_until(0, 300, shutdown).await;
        let requests = whole.server.requests();
        whole.run(1, 300).await;
        assert_eq!(whole.said(BACKUP), succeeded());
        let records = whole.server.records();
        let creates = records.iter().filter(|record| record.applied() && record.call.verb == Verb::Create);
        // The lock, a Job and an Event for each attempt.
        assert_eq!(creates.count(), 5);
        assert_eq!(whole.server.broken(), Vec::<String>::new());
        requests
    })
}
