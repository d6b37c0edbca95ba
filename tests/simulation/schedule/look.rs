//! What is read off a run and its objects.

use super::drills;
use super::invariants::skipped;
use super::standin::{SCHEDULE, moment, suffix, text, truth};
use super::subject::KIND;
use crate::apiserver::{Call, Key, Record, Store, Verb};
use crate::driver::Run;
use crate::fault::{Fault, Mishap};
use crate::oracle::{self, Budget};
use crate::world::NAMESPACE;
use chrono::{DateTime, Utc};
use graph_backup_operator::api::names::SLOT_ANNOTATION;
use graph_backup_operator::schedule::slots::{Expression, parse_zone};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The most that a pass asks: the newest backup, whether anything has changed, a refused backup, two Events, a look at a
/// point, status, whether anything has changed, the mark, the removal.
pub const BUDGET: Budget = Budget { per_pass: 12, extra: 60 };
const LASTING: [&str; 3] = [KIND, "GraphBackup", "Event"];

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

/// Every schedule at the end.
pub fn schedules(run: &Run) -> impl Iterator<Item = &Value> {
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

/// Every backup that was created.
pub fn creates(run: &Run) -> impl Iterator<Item = &Record> {
    applied(run, Verb::Create)
}

/// Every backup that was deleted.
pub fn deletes(run: &Run) -> impl Iterator<Item = &Record> {
    applied(run, Verb::Delete)
}

/// The end of a name: of a slot of the first day, the time.
pub fn short(name: &str) -> &str {
    let suffix = suffix(name);
    suffix.strip_prefix("20261124-").unwrap_or(suffix)
}

/// The slot of a backup that was created; `F` for a full one.
pub fn slot_of(call: &Call) -> String {
    let full = if call.body["spec"]["type"] == "Full" { "F" } else { "" };
    format!("{}{full}", short(&call.name))
}

/// Which backups were taken, and which were removed.
pub fn deeds(run: &Run) -> BTreeSet<String> {
    let taken = creates(run).map(|record| format!("take {}", slot_of(&record.call)));
    taken.chain(deletes(run).map(|record| format!("remove {}", short(&record.call.name)))).collect()
}

/// How many slots were skipped at the end, by reason.
pub fn skips(run: &Run) -> BTreeMap<String, i64> {
    let skipped = schedules(run).filter_map(|schedule| schedule["status"]["skipped"].as_array()).flatten();
    skipped
        .map(|skipped| (skipped["reason"].as_str().unwrap().to_owned(), skipped["count"].as_i64().unwrap()))
        .collect()
}

/// An expression. Each is read once in a thread: every run of a scenario has the same ones.
fn expression(text: &str) -> Rc<Expression> {
    thread_local! {
        static READ: RefCell<BTreeMap<String, Rc<Expression>>> = const { RefCell::new(BTreeMap::new()) };
    }
    READ.with_borrow_mut(|read| {
        let known = read.entry(text.to_owned()).or_insert_with(|| Rc::new(Expression::parse(text).unwrap()));
        Rc::clone(known)
    })
}

/// Every slot since the creation of the schedule has a backup or is counted as skipped, and none has both.
pub fn accounts(run: &Run, end: DateTime<Utc>) -> Vec<String> {
    let Some(schedule) = schedules(run).next() else { return vec!["the schedule is gone".to_owned()] };
    let spec = &schedule["spec"];
    let zone = parse_zone(spec["timeZone"].as_str().unwrap_or("UTC")).unwrap();
    let created = moment(&schedule["metadata"]["creationTimestamp"]).unwrap();
    let read = |timing: &str| spec[timing]["schedule"].as_str().map(expression);
    let (full, incremental) = (read("full"), read("incremental"));
    let mut slots = BTreeMap::new();
    let mut due = 0;
    for expression in [full, incremental].into_iter().flatten() {
        let mut after = created;
        while let Some(slot) = expression.next(&zone, after).filter(|slot| *slot <= end) {
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

/// What is wrong with a run by itself.
pub fn sound(run: &Run, fault: &Fault) -> Vec<String> {
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
    wrong.extend(drills::sound(run));
    wrong.extend(looked_before(run));
    wrong.extend(told_once(run));
    wrong
}
