//! A scenario: how the world is and behaves, how the clean run ends, and the enumeration of its faulty runs.

use super::invariants::{Memory, Original};
use super::look::{BUDGET, LASTING, ending, unfinished};
use super::subject::{KIND, Person, Restores};
use crate::apiserver::{Key, Kind, Store, Verb};
use crate::clock::{Clock, in_paused_time};
use crate::driver::{Driver, Outcome, Run, Snapshot};
use crate::fault::{self, Fault, Mishap};
use crate::join::Known;
use crate::oracle;
use crate::report::{Report, tell};
use crate::world::NAMESPACE;
use crate::world::agent::Volume;
use crate::world::cluster::{Behaviour, Cluster, Script};
use crate::world::database::{Database, STORE};
use crate::world::members;
use crate::world::restorer::{LAST_TRANSACTION, SIZE};
use crate::world::volumes::{claim_key, volume_of};
use graph_backup_operator::api::{Reason, Seed, StoreId};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Name of the object that the scenarios are about.
pub const RESTORE: &str = "undo";
/// How much was run.
static REPORT: Report = Report::new("restore scenarios", super::scenarios::COUNT);
/// One run in so many is run in full, too, to see that the join is right.
const IN_FULL_EVERY: usize = 200;

/// Key of the object.
pub fn restore_key() -> Key {
    Key { kind: KIND, namespace: NAMESPACE.to_owned(), name: RESTORE.to_owned() }
}

/// One scenario. Its parts are set by the methods below.
#[derive(Clone)]
pub struct Scenario {
    title: &'static str,
    spec: Value,
    members: i32,
    set: fn(&mut Value),
    script: Script,
    people: Vec<Person>,
    ends: (&'static str, &'static str),
    every: usize,
}

/// A restore of a cluster of two members in which nothing goes wrong, until its parts are set.
pub fn scenario(title: &'static str) -> Scenario {
    Scenario {
        title,
        spec: json!({
            "from": {"backup": "nightly"},
            "into": {
                "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"},
                "workload": {"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"},
            },
            "keepOriginalFor": "30m",
        }),
        members: 2,
        set: |_| {},
        script: Script { tool_seconds: 5, ..Script::default() },
        people: Vec::new(),
        ends: ("Succeeded", ""),
        every: 1,
    }
}

impl Scenario {
    /// Sets one field of the spec.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// So many members.
    pub const fn members(mut self, members: i32) -> Self {
        self.members = members;
        self
    }

    /// The StatefulSet is another one than usual.
    pub fn set(mut self, change: fn(&mut Value)) -> Self {
        self.set = change;
        self
    }

    /// Somebody does something as soon as the cluster looks like this.
    pub fn person(mut self, when: fn(&Store) -> bool, act: fn(&mut Store, &Database)) -> Self {
        self.people.push(Person { when, act });
        self
    }

    /// What the Jobs do that write new volumes.
    pub const fn stage_jobs(mut self, behaviour: Behaviour) -> Self {
        self.script.stage = behaviour;
        self
    }

    /// The store that is staged is of another cluster, and the agent does not notice: no member starts with it.
    pub const fn stages(mut self, store: StoreId) -> Self {
        self.script.staged_store = store;
        self
    }

    /// The clean run ends in this phase, with this cause.
    pub const fn ends(mut self, phase: &'static str, cause: &'static str) -> Self {
        self.ends = (phase, cause);
        self
    }

    /// Only one in so many faults.
    pub const fn one_fault_in(mut self, every: usize) -> Self {
        self.every = every;
        self
    }

    /// Objects and world at the beginning.
    fn begin(&self, clock: Clock) -> (Store, Restores) {
        let (mut store, database) = (Store::new(clock), Database::empty());
        members::create_on_volumes(&mut store, &database, self.members, self.set);
        create_point(&mut store, clock);
        let restore = json!({"metadata": {"name": RESTORE}, "spec": self.spec});
        store.create(Kind::named(KIND), NAMESPACE, restore).unwrap();
        let volume = Arc::new(Mutex::new(Volume::default()));
        let cluster = Cluster::new(clock, self.script.clone(), database.clone(), volume);
        let memory = Memory::of(originals(&store, self.members));
        let memory = Arc::new(Mutex::new(memory));
        (store, Restores { clock, cluster, database, people: self.people.clone(), memory })
    }

    fn run(&self, fault: Fault, known: &Known) -> Outcome<Restores> {
        in_paused_time(async {
            let clock = Clock::start(Duration::ZERO);
            let (store, world) = self.begin(clock);
            Driver::begin(clock, store, world, |_| false, fault, known).run().await
        })
    }

    fn run_on(snapshot: &Snapshot<Restores>, fault: Fault, known: &Known) -> Outcome<Restores> {
        in_paused_time(async {
            let clock = Clock::start(snapshot.at());
            Driver::resume(clock, snapshot, |_| false, fault, known).run().await
        })
    }

    /// The clean run, then the faults.
    pub fn enumerate(&self) {
        let mut known = Known::default();
        let originals = in_paused_time(async { self.begin(Clock::start(Duration::ZERO)).1.memory });
        let originals = originals.lock().unwrap().originals.clone();
        let Outcome { run: clean, snapshots, moments } = self.run(Fault::None, &known);
        let wrong = self.judge_clean(&clean, &originals);
        assert!(wrong.is_empty(), "{}, clean run: {}\n{}", self.title, wrong.join("\n"), short(&clean, 0));
        let clean = Arc::new(clean);
        known.remember(&clean, moments);
        let in_full = std::env::var_os("SIMULATION_IN_FULL").is_some();
        let faults = faults(&clean, if in_full { 1 } else { self.every });
        let mut failures = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            let first = fault.first_pass(&clean);
            let go = |known: &Known| match snapshots.get(first) {
                Some(snapshot) => Self::run_on(snapshot, fault.clone(), known),
                None => self.run(fault.clone(), known),
            };
            let Outcome { run, moments, .. } = go(&known);
            let run = Arc::new(run);
            let mut wrong = judge(&run, &originals);
            if is_harmless(fault) && ending(&run).0 != self.ends.0 {
                wrong.push(format!("it ends {:?}, not {:?}", ending(&run), self.ends));
            }
            if number.is_multiple_of(IN_FULL_EVERY) {
                wrong.extend(oracle::not_the_same(&run, &go(&Known::default()).run));
            }
            if wrong.is_empty() {
                known.remember(&run, moments);
            } else {
                wrong.dedup();
                wrong.truncate(8);
                failures.push(format!("--- {fault}\n{}\n{}", wrong.join("\n"), short(&run, first.saturating_sub(1))));
            }
        }
        REPORT.add(self.title, clean.records.len(), faults.len());
        let count = failures.len();
        failures.truncate(3);
        assert!(count == 0, "{}: {count} of {} runs are wrong\n{}", self.title, faults.len(), failures.join("\n"));
    }

    fn judge_clean(&self, clean: &Run, originals: &[Original]) -> Vec<String> {
        let mut wrong = judge(clean, originals);
        let (phase, cause) = ending(clean);
        if (phase.as_str(), cause.as_str()) != self.ends {
            wrong.push(format!("it ends {phase} {cause}, not {:?}", self.ends));
        }
        wrong
    }
}

fn judge(run: &Run, originals: &[Original]) -> Vec<String> {
    let mut wrong = oracle::unsound(run, BUDGET, &LASTING);
    wrong.extend(unfinished(run, originals));
    wrong
}

/// Passes that write, for people.
fn short(run: &Run, first: usize) -> String {
    let all = tell(run, first, usize::MAX);
    let is_read = |line: &&str| (line.contains(" get ") || line.contains(" list ")) && !line.contains("!!");
    let lines: Vec<&str> = all.lines().filter(|line| !is_read(line)).collect();
    if lines.len() > 160 { [&lines[..100], &["..."], &lines[lines.len() - 60..]].concat() } else { lines }.join("\n")
}

/// Whether a fault costs so little that the restore ends as it would without it.
const fn is_harmless(fault: &Fault) -> bool {
    match fault {
        Fault::Request { mishap, down, .. } => {
            let meant = matches!(mishap, Mishap::Deleted | Mishap::Recreated | Mishap::Edited | Mishap::OthersEdited);
            !meant && *down < 30
        }
        Fault::Outage { .. } | Fault::TwoLeaders { whole: true, .. } => false,
        _ => true,
    }
}

/// Every fault at every write, and at one read of every pass one of its faults; what people do at both.
fn faults(clean: &Run, every: usize) -> Vec<Fault> {
    let is_write = |at: usize| clean.records[at].call.writes();
    let read_of = |at: usize| {
        let (number, pass) = clean.passes.iter().enumerate().find(|(_, pass)| pass.requests.contains(&at))?;
        let reads: Vec<usize> = pass.requests.iter().copied().filter(|at| !is_write(*at)).collect();
        (reads.get(number % reads.len().max(1)) == Some(&at)).then_some(number)
    };
    let reads: Vec<Option<usize>> = (0..clean.records.len()).map(read_of).collect();
    let all = fault::every(clean).into_iter().chain(fault::edits(clean));
    let mut turns = vec![0_usize; clean.records.len()];
    // A lock that comes late is left, and whoever needs it next deletes it.
    let takes_lock = |at: usize| {
        let call = &clean.records[at].call;
        call.kind.name == "Lease" && call.verb == Verb::Create
    };
    let chosen = all.filter(|fault| match fault.request() {
        Some(at) if takes_lock(at) && matches!(fault, Fault::TwoLeaders { .. }) => false,
        Some(at) if is_write(at) => true,
        Some(at) => {
            turns[at] += 1;
            reads[at].is_some_and(|number| turns[at] % 8 == number % 8)
        }
        None => match fault {
            Fault::Stale { at, versions, .. } => *versions == 1 && at % 16 == 0,
            Fault::Twice { at } | Fault::DroppedTrigger { at } => at % 8 == 0,
            _ => true,
        },
    });
    chosen.enumerate().filter(|(number, _)| number % every == 0).map(|(_, fault)| fault).collect()
}

fn originals(store: &Store, members: i32) -> Vec<Original> {
    let original = |ordinal: i32| {
        let claim = format!("data-neo4j-{ordinal}");
        let volume = volume_of(store, NAMESPACE, &claim).unwrap();
        let text = |field: &str| volume["metadata"][field].as_str().unwrap().to_owned();
        assert!(store.get(&claim_key(NAMESPACE, &claim)).is_some());
        Original { claim, name: text("name"), uid: text("uid") }
    };
    (0..members).map(original).collect()
}

/// A backup that has succeeded, and the claim of its point.
fn create_point(store: &mut Store, clock: Clock) {
    let storage = json!({"requests": {"storage": "20Gi"}});
    let claim = json!({
        "metadata": {"name": "graph-backups"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": storage},
    });
    store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, claim).unwrap();
    let spec = json!({
        "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"},
        "target": {"claimName": "graph-backups"},
        "tool": {"image": "registry.example/neo4j:1.8"},
    });
    let backup = json!({"metadata": {"name": "nightly"}, "spec": spec});
    let backup = store.create(Kind::named("GraphBackup"), NAMESPACE, backup).unwrap();
    let time = clock.now();
    let succeeded = json!({
        "type": "Succeeded", "status": "True", "reason": Reason::Succeeded.as_str(), "message": "",
        "lastTransitionTime": time,
    });
    let point = json!({
        "manifestDigest": format!("sha256:{}", "a".repeat(64)), "storeId": STORE, "type": "Full", "depth": 0,
        "lastTransaction": LAST_TRANSACTION, "files": SIZE.0, "bytes": SIZE.1, "seed": Seed::COMPLETE,
        "dataFrom": time, "dataTo": time, "attempt": 1,
    });
    let status = json!({"uid": backup["metadata"]["uid"], "conditions": [succeeded], "point": point});
    store.change(backup.key(), |backup| backup["status"] = status).unwrap();
}
