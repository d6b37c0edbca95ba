//! A scenario: how the world is and behaves, what the clean run does, and the enumeration of all its faulty runs.

use super::invariants::{Memory, skipped};
use super::standin::{Act, End, SCHEDULE, Script, Standin, moment, suffix, text, truth};
use super::subject::{KIND, Schedules};
use crate::apiserver::{Call, Key, Kind, Record, Store, Verb};
use crate::clock::Clock;
use crate::driver::{Driver, Outcome, Run, Snapshot};
use crate::fault::{self, Fault, Mishap};
use crate::join::Known;
use crate::oracle::{self, Allowance, Budget};
use crate::world::NAMESPACE;
use chrono::{DateTime, Utc};
use graph_backup_operator::api::names::SLOT_ANNOTATION;
use graph_backup_operator::schedule::slots::{Expression, parse_zone};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The most that a pass asks: the newest backup, whether anything has changed, a refused backup, two Events, a look at a
/// point, status, whether anything has changed, the mark, the removal.
const BUDGET: Budget = Budget { per_pass: 12, extra: 60 };
const LASTING: [&str; 3] = [KIND, "GraphBackup", "Event"];
/// One run in so many is run in full, too, to see that the join is right.
const IN_FULL_EVERY: usize = 40;

/// One scenario. Its parts are set by the methods below.
#[derive(Clone)]
pub struct Scenario {
    title: &'static str,
    spec: Value,
    meta: Value,
    script: Script,
    prepare: Vec<Act>,
    refuses: fn(&Call) -> bool,
    strictness: Strictness,
    every_change: bool,
    accounts: bool,
    stays: bool,
    ends: u64,
    takes: Vec<String>,
    removes: Vec<String>,
    skips: Vec<(&'static str, i64)>,
    also: Option<fn(&Run)>,
}

/// What decides how a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strictness {
    /// The slots.
    Exact,
    /// Minutes, too.
    Tight,
    /// Also which of several writes was the last.
    Loose,
}

/// How much a faulty run may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Not at all, but for Events where that is `Some`.
    Same(Option<&'static str>),
    /// The same backups are taken and removed, and the same slots skipped.
    SameSlots,
    /// Every slot has a backup or a reason.
    Accounted,
    /// Nothing but the invariants.
    Free,
}

/// Full backups at 08:00, incremental ones from 07:00 to 11:00, no jitter. It is 06:00; the run ends at 14:00.
pub fn scenario(title: &'static str) -> Scenario {
    Scenario {
        title,
        spec: json!({
            "full": {"schedule": "0 8 * * *"},
            "incremental": {"schedule": "0 7-11 * * *"},
            "jitter": "0s",
            "template": {
                "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"},
                "target": {"claimName": "graph-backups"},
                "tool": {"image": "registry.example/neo4j:1.8"},
            },
        }),
        meta: json!({"name": SCHEDULE}),
        script: Script { ends: |_| End::Good(120), people: Vec::new(), down: Vec::new() },
        prepare: Vec::new(),
        refuses: |_| false,
        strictness: Strictness::Exact,
        every_change: false,
        accounts: true,
        stays: true,
        ends: 8 * 3600,
        takes: ["0700", "0800F", "0900", "1000", "1100"].map(str::to_owned).to_vec(),
        removes: Vec::new(),
        skips: Vec::new(),
        also: None,
    }
}

impl Scenario {
    /// Sets one field of the spec; `null` removes it.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        let fields = self.spec.as_object_mut().unwrap();
        if value.is_null() {
            fields.remove(field);
        } else {
            fields.insert(field.to_owned(), value);
        }
        self
    }

    /// Sets an annotation of the schedule from the beginning.
    pub fn annotated(mut self, name: &str, value: &str) -> Self {
        self.meta["annotations"][name] = json!(value);
        self
    }

    /// How backups end, by the end of their names: the slot, or what stands for a token.
    pub fn backups(mut self, ends: fn(&str) -> End) -> Self {
        self.script.ends = ends;
        self
    }

    /// What people do at a second, in the order of the seconds.
    pub fn at(mut self, second: u64, act: Act) -> Self {
        self.script.people.push((second, act));
        self
    }

    /// The operator is down.
    pub fn down(mut self, from: u64, until: u64) -> Self {
        self.script.down.push((from, until));
        self
    }

    /// What is there before the operator starts.
    pub fn prepared(mut self, prepare: Act) -> Self {
        self.prepare.push(prepare);
        self
    }

    /// The API server refuses these requests.
    pub fn refusing(mut self, refuses: fn(&Call) -> bool) -> Self {
        self.refuses = refuses;
        self
    }

    /// Time decides: faults that cost minutes may change what becomes of a slot.
    pub const fn tight(mut self) -> Self {
        self.strictness = Strictness::Tight;
        self
    }

    /// One backup stands for several slots: which ones, a crash before the record forgets.
    pub const fn loose(mut self) -> Self {
        self.strictness = Strictness::Loose;
        self
    }

    /// The spec changes on the way, so that the slots cannot be counted by the last one.
    pub const fn uncounted(mut self) -> Self {
        self.accounts = false;
        self
    }

    /// The schedule is deleted on the way.
    pub const fn goes(mut self) -> Self {
        (self.accounts, self.stays) = (false, false);
        self
    }

    /// When the run ends.
    pub const fn hours(mut self, hours: u64) -> Self {
        self.ends = hours * 3600;
        self
    }

    /// The slots, or tokens, that the clean run takes backups for; `F` for a full one.
    pub fn takes(mut self, slots: &[&str]) -> Self {
        self.takes = slots.iter().map(|slot| (*slot).to_owned()).collect();
        self
    }

    /// What the clean run removes, in its order.
    pub fn removes(mut self, names: &[&str]) -> Self {
        self.removes = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// What the clean run skips.
    pub fn skips(mut self, reasons: &[(&'static str, i64)]) -> Self {
        self.skips = reasons.to_vec();
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
        let schedule = json!({"metadata": self.meta, "spec": self.spec});
        store.create(Kind::named(KIND), NAMESPACE, schedule).unwrap();
        for prepare in &self.prepare {
            prepare(&mut store);
        }
        store
    }

    /// The world at the beginning.
    pub fn world(&self, clock: Clock) -> Schedules {
        Schedules {
            clock,
            every_change: self.every_change,
            world: Standin::new(clock, self.script.clone()),
            ends: Duration::from_secs(self.ends),
            memory: Arc::new(Mutex::new(Memory::default())),
        }
    }

    fn run(&self, fault: Fault, known: &Known) -> Outcome<Schedules> {
        in_paused_time(async {
            let clock = Clock::start(Duration::ZERO);
            Driver::begin(clock, self.objects(clock), self.world(clock), self.refuses, fault, known).run().await
        })
    }

    fn run_on(&self, snapshot: &Snapshot<Schedules>, fault: Fault, known: &Known) -> Outcome<Schedules> {
        in_paused_time(async {
            let clock = Clock::start(snapshot.at());
            Driver::resume(clock, snapshot, self.refuses, fault, known).run().await
        })
    }

    /// The clean run, then every fault at every place.
    pub fn enumerate(&self) {
        self.run_with(|clean| [fault::every(clean), fault::edits(clean)].concat());
    }

    /// The same where every change of a backup brings a pass.
    pub fn enumerate_with_a_pass_for_every_change(mut self) {
        self.every_change = true;
        self.enumerate();
    }

    /// The clean run, then each pair of a mishap and a crash soon after.
    pub fn enumerate_pairs(&self) {
        self.run_with(fault::pairs);
    }

    fn run_with(&self, faults: fn(&Run) -> Vec<Fault>) {
        let mut known = Known::default();
        let in_full_every = if std::env::var_os("SIMULATION_IN_FULL").is_some() { 1 } else { IN_FULL_EVERY };
        let Outcome { run: clean, snapshots, moments } = self.run(Fault::None, &known);
        let wrong = self.judge_clean(&clean);
        assert!(wrong.is_empty(), "{}, clean run: {}\n{}", self.title, wrong.join("\n"), tell(&clean, 0));
        let clean = Arc::new(clean);
        known.remember(&clean, moments);
        let faults = faults(&clean);
        let mut failures = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            let first = fault.first_pass(&clean);
            let go = |known: &Known| match snapshots.get(first) {
                Some(snapshot) => self.run_on(snapshot, fault.clone(), known),
                None => self.run(fault.clone(), known),
            };
            let Outcome { run, moments, .. } = go(&known);
            let run = Arc::new(run);
            let level = self.level(&clean, fault);
            let mut wrong = sound(&run, fault);
            wrong.extend(self.differences(&clean, &run, level));
            if number.is_multiple_of(in_full_every) {
                wrong.extend(oracle::not_the_same(&run, &go(&Known::default()).run));
            }
            if wrong.is_empty() {
                known.remember(&run, moments);
            } else {
                failures.push(format!("--- {fault} ({level:?})\n{}\n{}", wrong.join("\n"), tell(&run, first)));
            }
        }
        report(self.title, clean.records.len(), faults.len());
        let count = failures.len();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for line in failures.iter().filter_map(|failure| failure.lines().nth(1)) {
            *kinds.entry(line).or_default() += 1;
        }
        let kinds: Vec<String> = kinds.iter().take(12).map(|(line, count)| format!("{count} x {line}")).collect();
        let shown = failures.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            count == 0,
            "{}: {count} of {} runs are wrong\n{}\n{shown}",
            self.title,
            faults.len(),
            kinds.join("\n")
        );
    }

    fn judge_clean(&self, clean: &Run) -> Vec<String> {
        let mut wrong = sound(clean, &Fault::None);
        let taken: Vec<String> = creates(clean).map(|record| slot_of(&record.call)).collect();
        if taken != self.takes {
            wrong.push(format!("it takes {taken:?}, not {:?}", self.takes));
        }
        let removed: Vec<&str> = deletes(clean).map(|record| short(&record.call.name)).collect();
        if removed != self.removes {
            wrong.push(format!("it removes {removed:?}, not {:?}", self.removes));
        }
        let skips = skips(clean);
        let wanted: BTreeMap<String, i64> = self.skips.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        if skips != wanted {
            wrong.push(format!("it skips {skips:?}, not {wanted:?}"));
        }
        if self.stays != schedules(clean).next().is_some() {
            wrong.push("the schedule is there, or not, as it should not be".to_owned());
        }
        if self.accounts {
            wrong.extend(accounts(clean));
        }
        if let Some(also) = self.also {
            also(clean);
        }
        wrong
    }

    fn differences(&self, clean: &Run, run: &Run, level: Level) -> Vec<String> {
        let mut wrong = Vec::new();
        match level {
            Level::Same(missing) => {
                let allowance = missing.map_or(Allowance::Nothing, Allowance::Missing);
                wrong.extend(oracle::differences(clean, run, allowance, KIND, BUDGET));
            }
            Level::SameSlots => {
                if deeds(clean) != deeds(run) {
                    wrong.push(format!("it does {:?}, not {:?}", deeds(run), deeds(clean)));
                }
                if skips(clean) != skips(run) {
                    wrong.push(format!("it skips {:?}, not {:?}", skips(run), skips(clean)));
                }
            }
            Level::Accounted | Level::Free => {}
        }
        if self.accounts && level != Level::Free {
            wrong.extend(accounts(run));
        }
        wrong
    }

    /// How much a fault may change.
    fn level(&self, clean: &Run, fault: &Fault) -> Level {
        let hit = |at: usize| clean.records.get(at).map(|record| &*record.call);
        let costs_minutes = matches!(
            fault,
            Fault::Request { down: 600.., .. } | Fault::Outage { .. } | Fault::TwoLeaders { whole: true, .. }
        );
        let tight = self.strictness == Strictness::Tight;
        let hides = matches!(
            fault,
            Fault::Request { mishap: Mishap::Silent { .. }, .. } | Fault::Stale { .. } | Fault::Behind { .. }
        );
        match fault {
            Fault::Request { mishap: Mishap::Deleted | Mishap::Edited | Mishap::OthersEdited, .. }
            | Fault::Pair { mishap: Mishap::Deleted, .. } => Level::Free,
            Fault::Request { mishap: Mishap::Recreated, .. } | Fault::Pair { mishap: Mishap::Recreated, .. } => {
                if self.stays { Level::Accounted } else { Level::Free }
            }
            Fault::Request { down: 3600.., .. } => Level::Accounted,
            _ if self.strictness == Strictness::Loose => Level::Accounted,
            _ if tight && (costs_minutes || hides) => Level::Accounted,
            _ if costs_minutes => Level::SameSlots,
            Fault::Request { at, mishap: Mishap::Refused(403 | 422), .. }
                if hit(*at).is_some_and(|call| call.verb == Verb::Create && call.kind.name == "Event") =>
            {
                Level::Same(Some("Event"))
            }
            // An Event tells that a backup is refused, or its removal.
            Fault::Request { at, mishap: Mishap::Refused(403 | 422), .. }
                if hit(*at).is_some_and(|call| call.writes() && call.kind.name == "GraphBackup") =>
            {
                Level::SameSlots
            }
            Fault::Pair { .. } => Level::SameSlots,
            _ => Level::Same(None),
        }
    }
}

/// What is wrong with a run by itself.
fn sound(run: &Run, fault: &Fault) -> Vec<String> {
    let mut wrong = oracle::unsound(run, BUDGET, &LASTING);
    // A creation that was under way while its process stood still comes late. Only the API server could refuse it.
    if matches!(fault, Fault::TwoLeaders { whole: true, .. }) {
        wrong.retain(|what| !what.contains("created again") && !what.contains("two backups are at work"));
    }
    // The plan was recorded, and the schedule there, a moment before.
    let gone = Mishap::Deleted;
    if matches!(fault, Fault::Request { mishap, .. } | Fault::Pair { mishap, .. } if *mishap == gone || *mishap == Mishap::Recreated)
    {
        wrong.retain(|what| !what.contains("of no schedule that is there"));
    }
    wrong.extend(looked_before(run));
    wrong.extend(told_once(run));
    wrong
}

/// Runs something in virtual time of its own.
pub fn in_paused_time<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(run)
}

/// Key of the schedule.
pub fn schedule_key() -> Key {
    Key { kind: KIND, namespace: NAMESPACE.to_owned(), name: SCHEDULE.to_owned() }
}

/// Changes the schedule, as people do.
pub fn change(store: &mut Store, edit: impl FnOnce(&mut Value)) {
    let _ = store.change(&schedule_key(), edit);
}

/// Sets one field of its spec.
pub fn set(store: &mut Store, field: &str, value: Value) {
    change(store, |schedule| schedule["spec"][field] = value);
}

fn schedules(run: &Run) -> impl Iterator<Item = &Value> {
    run.end.iter().filter(|object| object["kind"] == KIND).map(|object| &***object)
}

/// The schedule at the end.
pub fn schedule(run: &Run) -> &Value {
    schedules(run).next().unwrap()
}

/// A backup at the end, by the end of its name.
pub fn backup<'a>(run: &'a Run, end: &str) -> Option<&'a Value> {
    let found = run.end.iter().find(|object| {
        object["kind"] == "GraphBackup" && object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end))
    });
    found.map(|object| &***object)
}

fn applied(run: &Run, verb: Verb) -> impl Iterator<Item = &Record> {
    let done =
        move |record: &&Record| record.applied() && record.call.verb == verb && record.call.kind.name == "GraphBackup";
    run.records.iter().filter(done)
}

fn creates(run: &Run) -> impl Iterator<Item = &Record> {
    applied(run, Verb::Create)
}

fn deletes(run: &Run) -> impl Iterator<Item = &Record> {
    applied(run, Verb::Delete)
}

/// The end of a name: of a slot of the first day, the time.
fn short(name: &str) -> &str {
    let suffix = suffix(name);
    suffix.strip_prefix("20261124-").unwrap_or(suffix)
}

fn slot_of(call: &Call) -> String {
    let full = if call.body["spec"]["type"] == "Full" { "F" } else { "" };
    format!("{}{full}", short(&call.name))
}

/// Which backups were taken, and which were removed.
fn deeds(run: &Run) -> BTreeSet<String> {
    let taken = creates(run).map(|record| format!("take {}", slot_of(&record.call)));
    taken.chain(deletes(run).map(|record| format!("remove {}", short(&record.call.name)))).collect()
}

/// How many slots were skipped at the end, by reason.
fn skips(run: &Run) -> BTreeMap<String, i64> {
    let skipped = schedules(run).filter_map(|schedule| schedule["status"]["skipped"].as_array()).flatten();
    skipped
        .map(|skipped| (skipped["reason"].as_str().unwrap().to_owned(), skipped["count"].as_i64().unwrap()))
        .collect()
}

/// Every slot since the creation of the schedule has a backup or is counted as skipped, and none has both.
fn accounts(run: &Run) -> Vec<String> {
    let Some(schedule) = schedules(run).next() else { return vec!["the schedule is gone".to_owned()] };
    let spec = &schedule["spec"];
    let zone = parse_zone(spec["timeZone"].as_str().unwrap_or("UTC")).unwrap();
    let created = moment(&schedule["metadata"]["creationTimestamp"]).unwrap();
    let end: DateTime<Utc> = "2026-11-25T06:00:00Z".parse().unwrap();
    let read = |timing: &str| spec[timing]["schedule"].as_str().map(|text| Expression::parse(text).unwrap());
    let (full, incremental) = (read("full"), read("incremental"));
    let mut slots = BTreeMap::new();
    let mut due = 0;
    for expression in [&full, &incremental].into_iter().flatten() {
        let mut after = created;
        while let Some(slot) = expression.next(zone, after).filter(|slot| *slot <= end) {
            *slots.entry(slot).or_insert(0) += 1;
            due += 1;
            after = slot;
        }
    }
    let (mut covered, mut seen) = (0, BTreeSet::new());
    // One that a person removed before it was recorded is created again.
    for record in creates(run).filter(|record| seen.insert(record.call.name.clone())) {
        let Some(slot) = moment(&record.call.body["metadata"]["annotations"][SLOT_ANNOTATION]) else { continue };
        if slot > created {
            let is_full = record.call.body["spec"]["type"] == "Full";
            let of_slot = slots.get(&slot).copied().unwrap_or(0);
            covered += if is_full { of_slot } else { of_slot.min(1) };
        }
    }
    let counted = skipped(schedule);
    let mut wrong = Vec::new();
    if covered + counted != due {
        wrong.push(format!("{due} slots were due: {covered} have a backup, and {counted} are counted as skipped"));
    }
    if truth(schedule, "Ready") != "True" && truth(schedule, "Stalled") != "True" {
        wrong.push(format!("the schedule is not ready at {}", text(end)));
    }
    wrong
}

/// Right before a backup is created or marked, the schedule was looked at, and was as the pass had it.
fn looked_before(run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    for record in applied(run, Verb::Create).chain(applied(run, Verb::Patch)) {
        let before = run.records[..record.index].iter().rev().find(|other| other.process == record.process);
        let looked = before.is_some_and(|other| other.call.kind.name == KIND && other.call.verb == Verb::Get);
        if !looked {
            let before = before.map(|other| other.call.to_string()).unwrap_or_default();
            wrong.push(format!("{} comes right after {before:?}", record.call));
        }
    }
    wrong
}

/// Nothing is told twice.
fn told_once(run: &Run) -> Vec<String> {
    let mut told = BTreeSet::new();
    // What is wrong with a spec is told once for each version of it.
    let of_spec = |event: &Value| event["reason"].as_str().is_some_and(|reason| reason.starts_with("Invalid"));
    let events = run.end.iter().filter(|object| object["kind"] == "Event" && !of_spec(object));
    let text = |event: &Value| format!("{} {} {}", event["regarding"]["uid"], event["reason"], event["note"]);
    events
        .map(|event| text(event))
        .filter(|text| !told.insert(text.clone()))
        .map(|text| format!("told twice: {text}"))
        .collect()
}

/// Every pass that does anything and every request, for people.
fn tell(run: &Run, first: usize) -> String {
    let mut lines = Vec::new();
    for (number, pass) in run.passes.iter().enumerate().skip(first.saturating_sub(1)) {
        lines.push(format!("{:>6}s pass {number} over {} → {}", pass.at.as_secs(), pass.key.name, pass.after));
        for record in pass.requests.iter().map(|index| &run.records[*index]) {
            let mishap = record.mishap.map(|mishap| format!(" !! {mishap:?}")).unwrap_or_default();
            let code = record.code.map_or("not done".to_owned(), |code| code.to_string());
            lines.push(format!("{:>6}s   {} {} {code}{mishap}", record.at.as_secs(), record.index, record.call));
        }
    }
    lines.truncate(60);
    lines.join("\n")
}

static SCENARIOS_DONE: AtomicUsize = AtomicUsize::new(0);
static RUNS_DONE: AtomicUsize = AtomicUsize::new(0);

/// Tells how much was run, past the capture of the test harness.
fn report(name: &str, requests: usize, faults: usize) {
    let scenarios = SCENARIOS_DONE.fetch_add(1, Ordering::Relaxed) + 1;
    let runs = RUNS_DONE.fetch_add(faults + 1, Ordering::Relaxed) + faults + 1;
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "simulation: {name}: {requests} requests, {faults} faults");
    if scenarios == super::scenarios::COUNT {
        let _ = writeln!(out, "simulation: {scenarios} schedule scenarios x their faults = {runs} runs");
    }
}
