//! A scenario: how the world is and behaves, how the clean run ends, and the enumeration of all its faulty runs.

use super::invariants::{Memory, truth};
use super::jobs::backup;
use super::subject::Backups;
use crate::apiserver::{Call, Key, Kind, Object, Store, Verb};
use crate::clock::{Clock, in_paused_time};
use crate::driver::{Driver, Outcome, Run, Snapshot};
use crate::fault::{self, Fault, Mishap};
use crate::join::Known;
use crate::oracle::{self, Allowance, Budget};
use crate::report::{Report, tell};
use crate::world::NAMESPACE;
use crate::world::agent::Volume;
use crate::world::cluster::{Act, Behaviour, Cluster, Script};
use crate::world::database::{Database, Look, STORE};
use graph_backup_operator::api::Reason;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Name of the object that most scenarios are about.
pub const BACKUP: &str = "nightly";
/// The most that a pass asks: two old Jobs, the claim, the lock and whether it is in use, the lock again, status, a Job
/// that is refused, an Event, status.
const BUDGET: Budget = Budget { per_pass: 12, extra: 60 };
/// What may be there at the end. Jobs and pods may not: they live on for an hour, and the run lasts longer.
const LASTING: [&str; 5] = ["GraphBackup", "Event", "Namespace", "PersistentVolumeClaim", "StatefulSet"];

/// How much was run.
static REPORT: Report = Report::new("scenarios", super::scenarios::COUNT);
/// One run in so many is run in full, too, to see that the join is right.
const IN_FULL_EVERY: usize = 100;

/// How the clean run ends.
#[derive(Clone, Debug)]
enum Ending {
    Succeeds,
    Fails(Reason),
    Waits,
    Gone,
}

/// One scenario. Its parts are set by the methods below.
#[derive(Clone)]
pub struct Scenario {
    title: &'static str,
    object: &'static str,
    spec: Value,
    script: Script,
    looks: Vec<Look>,
    prepare: Vec<fn(&mut Store, &Value)>,
    refuses: fn(&Call) -> bool,
    claim: bool,
    tight: bool,
    every_change: bool,
    budget: Budget,
    master: i32,
    orphan: Option<String>,
    ending: Ending,
    jobs: Vec<String>,
    writes: Option<usize>,
    also: Option<fn(&Run)>,
}

/// A scenario in which nothing goes wrong, until its parts are set.
pub fn scenario(title: &'static str) -> Scenario {
    Scenario {
        title,
        object: BACKUP,
        spec: json!({
            "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"},
            "target": {"claimName": "graph-backups"},
            "tool": {"image": "registry.example/neo4j:1.8"},
            "retry": {"limit": 2},
            "deadlines": {"run": "6h", "podStart": "5m"},
        }),
        script: Script::default(),
        looks: Vec::new(),
        prepare: Vec::new(),
        refuses: |_| false,
        claim: true,
        tight: false,
        every_change: false,
        budget: BUDGET,
        master: 1,
        orphan: None,
        ending: Ending::Succeeds,
        jobs: vec![backup(1)],
        writes: None,
        also: None,
    }
}

impl Scenario {
    /// A node comes back after three hours: an object that is created anew meanwhile waits for its pod, look by look.
    pub fn waits_for_a_node(mut self) -> Self {
        self.budget.extra += 600;
        self
    }

    /// Gives the object another name.
    pub const fn named(mut self, name: &'static str) -> Self {
        self.object = name;
        self
    }

    /// The API server refuses these requests, by quota or RBAC.
    pub fn refusing(mut self, refuses: fn(&Call) -> bool) -> Self {
        self.refuses = refuses;
        self
    }

    /// Another member is master than the first.
    pub const fn master(mut self, id: i32) -> Self {
        self.master = id;
        self
    }

    /// Sets one field of the spec.
    pub fn spec(mut self, pointer: &str, value: Value) -> Self {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        self.spec.pointer_mut(parent).unwrap()[field] = value;
        self
    }

    /// What the next backup Job does.
    pub fn backup_job(mut self, behaviour: Behaviour) -> Self {
        self.script.backups.push(behaviour);
        self
    }

    /// What the Job that checks does before the next attempt's copy.
    pub fn check_job(mut self, behaviour: Behaviour) -> Self {
        self.script.checks.push(behaviour);
        self
    }

    /// What the inspect Job of the next attempt does.
    pub fn inspect_job(mut self, behaviour: Behaviour) -> Self {
        self.script.inspections.push(behaviour);
        self
    }

    /// What every further inspect Job of an attempt does.
    pub const fn inspect_jobs_again(mut self, behaviour: Behaviour) -> Self {
        self.script.inspections_again = behaviour;
        self
    }

    /// Every pod gets another container, which never ends.
    pub const fn with_sidecars(mut self) -> Self {
        self.script.sidecar = true;
        self
    }

    /// A policy changes how long Jobs live after their end.
    pub const fn jobs_live(mut self, seconds: u64) -> Self {
        self.script.ttl = Some(seconds);
        self
    }

    /// A policy changes how long Jobs may take.
    pub const fn jobs_may_take(mut self, seconds: u64) -> Self {
        self.script.job_deadline = Some(seconds);
        self
    }

    /// What the first Job that removes files does.
    pub const fn prune_job(mut self, behaviour: Behaviour) -> Self {
        self.script.prune = behaviour;
        self
    }

    /// What the look-ups find; after the last one, the master.
    pub fn looks(mut self, looks: &[Look]) -> Self {
        self.looks = looks.to_vec();
        self
    }

    /// What is there, beside the object with this spec, before the operator starts.
    pub fn prepared(mut self, prepare: fn(&mut Store, &Value)) -> Self {
        self.prepare.push(prepare);
        self
    }

    /// What people do after so many seconds.
    pub fn at(mut self, second: u64, act: Act) -> Self {
        self.script.people.push((second, act));
        self
    }

    /// What people do while the first backup Job runs.
    pub fn in_mid_run(mut self, act: Act) -> Self {
        self.script.people_in_mid_run.push(act);
        self
    }

    /// The tool needs so many seconds.
    pub const fn tool_needs(mut self, seconds: u64) -> Self {
        self.script.tool_seconds = seconds;
        self
    }

    /// The operator starts so many seconds after the object was created.
    pub const fn operator_down_at_first(mut self, seconds: u64) -> Self {
        self.script.down_at_first = seconds;
        self
    }

    /// The operator is down for so many seconds from the time when the first backup Job runs.
    pub const fn operator_down_in_mid_run(mut self, seconds: u64) -> Self {
        self.script.down_in_mid_run = seconds;
        self
    }

    /// A cold backup, of a StatefulSet that `create` makes.
    pub fn cold(mut self, create: fn(&mut Store, &Value)) -> Self {
        self.spec["method"] = json!("Cold");
        let workload = json!({"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"});
        self.spec["cold"] = json!({"workload": workload});
        self.prepared(create)
    }

    /// Adopts a point; `there` says whether it is on the volume.
    pub fn adopts(mut self, there: bool) -> Self {
        let place = format!("{STORE}/20261122T020000Z-lost-1a2b3c4d");
        self.spec["adopt"] = json!(place);
        self.orphan = there.then_some(place);
        self
    }

    /// A member that is told to stop never does.
    pub const fn member_hangs(mut self) -> Self {
        self.script.member_hangs = true;
        self
    }

    /// A member that is started again runs and does not register.
    pub const fn member_stays_away(mut self) -> Self {
        self.script.member_stays_away = true;
        self
    }

    /// The target claim is missing.
    pub const fn without_claim(mut self) -> Self {
        self.claim = false;
        self
    }

    /// Time decides how this one ends: faults that cost minutes may change the end.
    pub const fn tight(mut self) -> Self {
        self.tight = true;
        self
    }

    /// The clean run succeeds and creates these Jobs: `1` for the first attempt's, `1i` for its inspection.
    pub fn succeeds(mut self, jobs: &[String]) -> Self {
        (self.ending, self.jobs) = (Ending::Succeeds, jobs.to_vec());
        self
    }

    /// The clean run fails with this reason.
    pub fn fails(mut self, reason: Reason, jobs: &[String]) -> Self {
        (self.ending, self.jobs) = (Ending::Fails(reason), jobs.to_vec());
        self
    }

    /// The clean run ends with the object as it was: nobody may work on it.
    pub fn stays_untouched(mut self) -> Self {
        (self.ending, self.jobs) = (Ending::Waits, Vec::new());
        self
    }

    /// In the clean run the object is deleted.
    pub fn ends_deleted(mut self, jobs: &[String]) -> Self {
        (self.ending, self.jobs) = (Ending::Gone, jobs.to_vec());
        self
    }

    /// How many writes the clean run needs.
    pub const fn writes(mut self, writes: usize) -> Self {
        self.writes = Some(writes);
        self
    }

    /// Whatever else holds of the clean run.
    pub fn also(mut self, check: fn(&Run)) -> Self {
        self.also = Some(check);
        self
    }

    /// The objects at the beginning.
    pub fn objects(&self, clock: Clock) -> Store {
        let mut store = Store::new(clock);
        if self.claim {
            create_claim(&mut store);
        }
        create_backup(&mut store, self.object, &self.spec);
        for prepare in &self.prepare {
            prepare(&mut store, &self.spec);
        }
        store
    }

    /// The world at the beginning.
    pub fn world(&self, clock: Clock) -> Backups {
        let volume = match &self.orphan {
            Some(place) => Volume::with_orphan(place.clone(), clock.now()),
            None => Volume::default(),
        };
        let volume = Arc::new(Mutex::new(volume));
        let memory = Arc::new(Mutex::new(Memory::default()));
        let database = Database::new(&self.looks);
        (1..self.master).for_each(|_| database.move_master());
        let cluster = Cluster::new(clock, self.script.clone(), database.clone(), Arc::clone(&volume));
        Backups { clock, every_change: self.every_change, cluster, database, volume, memory }
    }

    /// A run from the beginning, and what is needed to go on from each of its passes if it is the clean one.
    fn run(&self, fault: Fault, known: &Known) -> Outcome<Backups> {
        in_paused_time(async {
            let clock = Clock::start(Duration::ZERO);
            Driver::begin(clock, self.objects(clock), self.world(clock), self.refuses, fault, known).run().await
        })
    }

    /// A run with a fault: up to the pass in which it happens it is the clean one.
    fn run_on(&self, snapshot: &Snapshot<Backups>, fault: Fault, known: &Known) -> Outcome<Backups> {
        in_paused_time(async {
            let clock = Clock::start(snapshot.at());
            Driver::resume(clock, snapshot, self.refuses, fault, known).run().await
        })
    }

    /// The clean run, then every fault at every place.
    pub fn enumerate(&self) {
        self.run_with(fault::every);
    }

    /// The same where every change brings a pass, also those in which no pass finds anything to do.
    pub fn enumerate_with_a_pass_for_every_change(mut self) {
        self.every_change = true;
        self.run_with(fault::every);
    }

    /// Runs it once without faults, then once with each pair of a mishap and a crash soon after.
    pub fn enumerate_pairs(&self) {
        self.run_with(fault::pairs);
    }

    fn run_with(&self, faults: fn(&Run) -> Vec<Fault>) {
        let mut known = Known::default();
        let in_full_every = if std::env::var_os("SIMULATION_IN_FULL").is_some() { 1 } else { IN_FULL_EVERY };
        let Outcome { run: clean, snapshots, moments } = self.run(Fault::None, &known);
        let wrong = self.judge_clean(&clean);
        assert!(wrong.is_empty(), "{}, clean run: {}\n{}", self.title, wrong.join("\n"), tell(&clean, 0, 80));
        let clean = Arc::new(clean);
        known.remember(&clean, moments);
        let faults = faults(&clean);
        let mut failures = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            let go = |known: &Known| match snapshots.get(fault.first_pass(&clean)) {
                Some(snapshot) => self.run_on(snapshot, fault.clone(), known),
                None => self.run(fault.clone(), known),
            };
            let Outcome { run, moments, .. } = go(&known);
            let run = Arc::new(run);
            let allowance = self.allowance(&clean, fault);
            let mut wrong = oracle::unsound(&run, self.budget, &LASTING);
            wrong.extend(oracle::differences(&clean, &run, allowance, "GraphBackup", self.budget));
            if self.events_must_agree(fault, allowance) {
                wrong.extend(events(&run));
            }
            if number.is_multiple_of(in_full_every) {
                wrong.extend(oracle::not_the_same(&run, &go(&Known::default()).run));
            }
            if wrong.is_empty() {
                known.remember(&run, moments);
            } else {
                failures.push(format!("--- {fault} ({allowance:?})\n{}\n{}", wrong.join("\n"), tell(&run, 0, 80)));
            }
        }
        REPORT.add(self.title, clean.records.len(), faults.len());
        let count = failures.len();
        failures.truncate(3);
        assert!(count == 0, "{}: {count} of {} runs are wrong\n{}", self.title, faults.len(), failures.join("\n"));
    }

    fn judge_clean(&self, clean: &Run) -> Vec<String> {
        let mut wrong = oracle::unsound(clean, self.budget, &LASTING);
        wrong.extend(events(clean));
        let status = clean
            .end
            .iter()
            .find(|object| object["kind"] == "GraphBackup" && object["metadata"]["name"] == self.object);
        let said = status.map(|object| (truth(&object["status"], "Succeeded"), reason(object)));
        let as_wanted = match (&self.ending, said) {
            (Ending::Succeeds, Some(("True", "Succeeded" | "Adopted")))
            | (Ending::Waits, Some(("absent", _)))
            | (Ending::Gone, None) => true,
            (Ending::Fails(wanted), Some(("False", reason))) => wanted.as_str() == reason,
            _ => false,
        };
        if !as_wanted {
            wrong.push(format!("it ends with {said:?}, not with {:?}", self.ending));
        }
        let jobs: Vec<&str> =
            created(clean, "Job").iter().filter_map(|name| name.rsplit_once('-')).map(|(_, end)| end).collect();
        if jobs != self.jobs {
            wrong.push(format!("it creates the Jobs {jobs:?}, not {:?}", self.jobs));
        }
        let writes = clean.records.iter().filter(|record| record.call.writes()).count();
        if self.writes.is_some_and(|wanted| wanted != writes) {
            wrong.push(format!("it writes {writes} times"));
        }
        if let Some(also) = self.also {
            also(clean);
        }
        wrong
    }

    /// How much a fault may change. Everything that is not listed here may change nothing.
    fn allowance(&self, clean: &Run, fault: &Fault) -> Allowance {
        let hit = |at: usize, kind: &str| {
            let call = clean.records.get(at).map(|record| &record.call);
            call.is_some_and(|call| call.verb == Verb::Create && call.kind.name == kind)
        };
        let scales = |at: usize| clean.records.get(at).is_some_and(|record| record.call.scale);
        let of_lock = |at: usize| clean.records.get(at).is_some_and(|record| record.call.kind.name == "Lease");
        // The last thing that was done is the record of an attempt whose Job is still to be created.
        let between = |at: usize, applied: bool| hit(if applied { at + 1 } else { at }, "Job");
        let several = clean.end.iter().filter(|object| object["kind"] == "GraphBackup").count() > 1;
        match *fault {
            // Somebody deletes the object while nobody, or another replica, looks: it is found in another state, and
            // what was under way may be told of an object that goes. What counts is that it goes, and its files with
            // it.
            Fault::Request { down: 30.., .. }
            | Fault::Outage { .. }
            | Fault::TwoLeaders { .. }
            | Fault::DroppedTrigger { .. }
            | Fault::Pair { .. }
            | Fault::Stale { .. }
                if matches!(self.ending, Ending::Gone) =>
            {
                Allowance::Gone
            }
            Fault::Request { mishap: Mishap::Deleted, .. } if several => Allowance::Anything,
            Fault::Request { mishap: Mishap::Deleted, .. } | Fault::Pair { mishap: Mishap::Deleted, .. } => {
                Allowance::Gone
            }
            // Its finalizer holds the object as long as it works: it cannot be created anew before it is gone.
            Fault::Request { mishap: Mishap::Recreated, .. } | Fault::Pair { mishap: Mishap::Recreated, .. }
                if self.spec["method"] == "Cold" =>
            {
                Allowance::Anything
            }
            // The second fault of a pair hits whatever the first has led to: what counts is the judgement.
            Fault::Pair { .. } | Fault::Request { mishap: Mishap::Recreated, .. } => self.another_way(),
            // A refused Event must not keep the verdict from the object.
            Fault::Request { at, mishap: Mishap::Refused(403 | 422), .. } if hit(at, "Event") => {
                if self.loses_verdicts() { Allowance::Anything } else { Allowance::Missing("Event") }
            }
            // The verdict goes with a Job that is deleted before the end is recorded, or right after it has ended.
            _ if self.loses_verdicts() => self.another_way(),
            // A lock that may not be given back must not keep the verdict either: the next taker breaks it. The same
            // holds of one whose creation was under way when its process was replaced, and comes late.
            Fault::Request { at, mishap: Mishap::Refused(403 | 422), .. } | Fault::TwoLeaders { at, .. }
                if of_lock(at) =>
            {
                Allowance::Missing("Lease")
            }
            // A refused Job ends its attempt: nothing has run.
            Fault::Request { at, mishap: Mishap::Refused(403 | 422), .. } if hit(at, "Job") => {
                self.one_attempt_less(clean)
            }
            // Away for longer than JOB_CREATION_GRACE between the record of an attempt and its Job: the Job looks lost.
            Fault::Request { at, mishap: Mishap::Crash { applied }, down: 30.. } if between(at, applied) => {
                self.one_attempt_less(clean)
            }
            // A refused scale-down ends its attempt, too: nobody was stopped.
            Fault::Request { at, mishap: Mishap::Refused(403), .. } if scales(at) => self.one_attempt_less(clean),
            Fault::Outage { at, .. } if between(at, false) => self.one_attempt_less(clean),
            Fault::Request { down: 30.., .. } | Fault::Outage { .. } if self.tight => Allowance::Anything,
            // The Job's TTL ends it before anybody looks: the volume is asked.
            Fault::Request { down: 3600.., .. } => self.another_way(),
            // A create that was under way when its process was replaced comes late; the Job was deleted meanwhile.
            Fault::TwoLeaders { at, whole: true } if hit(at, "Job") => self.another_way(),
            _ => Allowance::Nothing,
        }
    }

    /// What is done another way succeeds all the same; a failure may be another one.
    const fn another_way(&self) -> Allowance {
        if self.tight || !matches!(self.ending, Ending::Succeeds) { Allowance::Anything } else { Allowance::AnotherWay }
    }

    /// An attempt is lost to the fault; with none to spare the end may be another one.
    fn one_attempt_less(&self, clean: &Run) -> Allowance {
        let used = created(clean, "Job").iter().filter(|name| is_of_attempt(name)).count();
        let spare = self.spec["retry"]["limit"].as_u64().unwrap() + 1 > used as u64;
        if spare { self.another_way() } else { Allowance::Anything }
    }

    /// An Event comes before the status that it tells of. Its process may end in between, and the evidence be gone when
    /// the next one looks: the status then tells something else.
    fn events_must_agree(&self, fault: &Fault, allowance: Allowance) -> bool {
        let evidence_gone =
            matches!(fault, Fault::Request { down: 3600.., .. }) || (self.tight && allowance == Allowance::Anything);
        let event_refused = matches!(fault, Fault::Pair { mishap: Mishap::Refused(403 | 422), .. });
        allowance != Allowance::Missing("Event")
            && !event_refused
            && !evidence_gone
            && (matches!(fault, Fault::None) || !self.loses_verdicts())
    }

    /// Whether a Job may be gone, and its verdict with it, before the end is recorded.
    const fn loses_verdicts(&self) -> bool {
        self.script.sidecar || self.script.ttl.is_some() || self.script.job_deadline.is_some()
    }
}

/// Whether a name ends as that of an attempt's own Job: with a number after the last dash.
fn is_of_attempt(job: &str) -> bool {
    job.rsplit_once('-').is_some_and(|(_, end)| end.parse::<u32>().is_ok())
}

/// The claim that recovery points are written to.
pub fn create_claim(store: &mut Store) {
    let claim = json!({"metadata": {"name": "graph-backups"}, "spec": {"accessModes": ["ReadWriteMany"]}});
    store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, claim).unwrap();
}

/// A `GraphBackup`.
pub fn create_backup(store: &mut Store, name: &str, spec: &Value) {
    let backup = json!({"metadata": {"name": name}, "spec": spec});
    store.create(Kind::named("GraphBackup"), NAMESPACE, backup).unwrap();
}

/// UID of the object that most scenarios are about.
pub fn backup_uid(store: &Store) -> String {
    let key = Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() };
    store.get(&key).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Names of the objects that the controller created, in order.
pub fn created<'a>(run: &'a Run, kind: &str) -> Vec<&'a str> {
    let creates = run.records.iter().filter(|record| record.applied() && record.call.verb == Verb::Create);
    creates.filter(|record| record.call.kind.name == kind).map(|record| record.call.name.as_str()).collect()
}

/// Reason of the condition `Succeeded`.
pub fn reason(backup: &Value) -> &str {
    let conditions = backup["status"]["conditions"].as_array();
    let succeeded = conditions.and_then(|all| all.iter().find(|c| c["type"] == "Succeeded"));
    succeeded.and_then(|condition| condition["reason"].as_str()).unwrap_or_default()
}

/// Every finished backup has exactly one Event that tells its end, and every failed attempt before it has one.
fn events(run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    for backup in run.end.iter().filter(|object| object["kind"] == "GraphBackup") {
        if !matches!(truth(&backup["status"], "Succeeded"), "True" | "False") {
            continue;
        }
        let told = |action: &str| -> Vec<&str> {
            let about = |event: &&Arc<Object>| {
                event["kind"] == "Event"
                    && event["regarding"]["uid"] == backup["metadata"]["uid"]
                    && event["action"] == action
            };
            run.end.iter().filter(about).map(|event| event["reason"].as_str().unwrap()).collect()
        };
        if told("Backup") != [reason(backup)] {
            wrong.push(format!("the Events tell {:?} of a backup that ended with {}", told("Backup"), reason(backup)));
        }
        let attempts = backup["status"]["attempts"].as_array().map_or(0, Vec::len);
        if told("Attempt").len() + 1 < attempts {
            wrong.push(format!("{attempts} attempts, but the Events tell of {:?}", told("Attempt")));
        }
    }
    wrong
}
