//! A scenario: how the world is and behaves, what the clean run does, and the enumeration of all its faulty runs.

use super::drills;
use super::invariants::Memory;
use super::look::{BUDGET, accounts, creates, deeds, deletes, schedules, short, skips, slot_of, sound};
use super::standin::{Act, End, SCHEDULE, Script, Standin};
use super::subject::{KIND, Schedules};
use crate::apiserver::{Call, Kind, Store, Verb};
use crate::clock::{Calendar, Clock, Jump, in_paused_time};
use crate::driver::{Driver, Outcome, Run, Snapshot};
use crate::fault::{self, Fault, Mishap};
use crate::join::Known;
use crate::oracle::{self, Allowance};
use crate::report::{Report, tell};
use crate::world::NAMESPACE;
use crate::world::agent::Volume;
use crate::world::cluster::{self, Behaviour, Cluster};
use crate::world::database::Database;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How much was run.
static REPORT: Report = Report::new("schedule scenarios", super::scenarios::COUNT);
/// One run in so many is run in full, too, to see that the join is right.
const IN_FULL_EVERY: usize = 100;

/// One scenario. Its parts are set by the methods below.
#[derive(Clone)]
pub struct Scenario {
    title: &'static str,
    spec: Value,
    meta: Value,
    script: Script,
    calendar: Calendar,
    /// What becomes of the first Job of a restore drill, if there are any.
    drill: Option<Behaviour>,
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
        calendar: Calendar::default(),
        drill: None,
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

    /// The run begins at another time.
    pub fn begins(mut self, time: &str) -> Self {
        self.calendar = self.calendar.beginning(time.parse().unwrap());
        self
    }

    /// Every clock is set on the way.
    pub const fn set_clocks(mut self, jumps: &'static [Jump]) -> Self {
        self.calendar = self.calendar.set(jumps);
        self
    }

    /// Only the operator's clock is set on the way.
    pub const fn set_own_clock(mut self, jumps: &'static [Jump]) -> Self {
        self.calendar = self.calendar.set_own(jumps);
        self
    }

    /// Restore drills at this time; what becomes of the Job of the first one. Those after it pass.
    pub fn drilled(mut self, schedule: &str, first: Behaviour) -> Self {
        self.drill = Some(first);
        self.spec("drill", json!({"schedule": schedule}))
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
        let jobs = self.drill.map(|drill| {
            let script = cluster::Script { drill, tool_seconds: 60, ..cluster::Script::default() };
            Cluster::new(clock, script, Database::new(&[]), Arc::new(Mutex::new(Volume::default())))
        });
        Schedules {
            clock,
            every_change: self.every_change,
            jobs,
            world: Standin::new(clock, self.script.clone()),
            ends: Duration::from_secs(self.ends),
            memory: Arc::new(Mutex::new(Memory::default())),
        }
    }

    /// When it ends, by the wall clock.
    fn end(&self) -> DateTime<Utc> {
        self.calendar.at(Duration::from_secs(self.ends))
    }

    fn run(&self, fault: Fault, known: &Known) -> Outcome<Schedules> {
        in_paused_time(async {
            let clock = Clock::start_in(self.calendar, Duration::ZERO);
            Driver::begin(clock, self.objects(clock), self.world(clock), self.refuses, fault, known).run().await
        })
    }

    fn run_on(&self, snapshot: &Snapshot<Schedules>, fault: Fault, known: &Known) -> Outcome<Schedules> {
        in_paused_time(async {
            let clock = Clock::start_in(self.calendar, snapshot.at());
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
        assert!(wrong.is_empty(), "{}, clean run: {}\n{}", self.title, wrong.join("\n"), tell(&clean, 0, 60));
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
                failures.push(format!(
                    "--- {fault} ({level:?})\n{}\n{}",
                    wrong.join("\n"),
                    tell(&run, first.saturating_sub(1), 60)
                ));
            }
        }
        REPORT.add(self.title, clean.records.len(), faults.len());
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
        if self.drill.is_some() {
            wrong.extend(drills::ended(clean));
        }
        if self.stays != schedules(clean).next().is_some() {
            wrong.push("the schedule is there, or not, as it should not be".to_owned());
        }
        if self.accounts {
            wrong.extend(accounts(clean, self.end()));
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
        if self.drill.is_some() && level != Level::Free && self.stays {
            wrong.extend(drills::ended(run));
        }
        if self.accounts && level != Level::Free {
            wrong.extend(accounts(run, self.end()));
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
            Fault::Request { mishap: Mishap::Silent { .. }, .. }
                | Fault::Stale { .. }
                | Fault::Behind { .. }
                | Fault::AllOld { .. }
        );
        match fault {
            // Where the operator cannot tell that the namespace goes, the points go as they always do.
            Fault::Request { at, .. } if hit(*at).is_some_and(|call| call.kind.name == "Namespace") => Level::Free,
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
            Fault::Request { at, mishap, .. } if hit(*at).is_some_and(|call| drills::may_lose(call, *mishap)) => {
                Level::SameSlots
            }
            Fault::Pair { .. } => Level::SameSlots,
            _ => Level::Same(None),
        }
    }
}
