//! What holds of every schedule and its backups at every moment, whatever goes wrong.

use super::standin::{BY_HAND, STILL, data_from, is_good, moment, truth};
use super::subject::KIND;
use crate::apiserver::{Check, Key, Object, Store};
use crate::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use graph_backup_operator::api::condition::{
    FRESH, READY, RECONCILING, RETENTION_APPLIED, SCHEDULE_VALID, STALLED, SUCCEEDED,
};
use graph_backup_operator::api::names::{
    PIN_ANNOTATION, SCHEDULE_LABEL, SCHEDULE_UID_LABEL, SLOT_ANNOTATION, TAKE_OVER_ANNOTATION,
};
use graph_backup_operator::backup::finalizers::FILES_FINALIZER;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What was there before.
#[derive(Clone, Default)]
pub struct Memory {
    /// Every object as it was last.
    before: BTreeMap<Key, Arc<Object>>,
    /// The UID of each backup of a slot, by namespace and name, also of those that are gone.
    taken: BTreeMap<String, String>,
    /// Names that people have made free.
    freed: BTreeSet<String>,
}

/// Judges the stored objects after every change.
pub fn checker(clock: Clock, memory: Arc<Mutex<Memory>>) -> Check {
    Box::new(move |store| {
        let memory = &mut *memory.lock().unwrap();
        let mut broken = Vec::new();
        let now: BTreeMap<Key, Arc<Object>> = store
            .objects()
            .filter(|object| matches!(object.key().kind, KIND | "GraphBackup"))
            .map(|object| (object.key().clone(), Arc::clone(object)))
            .collect();
        for (key, object) in &now {
            let before = memory.before.get(key).filter(|old| old["metadata"]["uid"] == object["metadata"]["uid"]);
            if before.is_some_and(|before| Arc::ptr_eq(before, object)) {
                continue;
            }
            let mut wrong = |what: String| broken.push(format!("{} at {}: {what}", key.name, clock.now()));
            if object["kind"] == KIND {
                schedule(clock, before.map(|before| &***before), object, &memory.taken, &mut wrong);
                continue;
            }
            if before.is_none() {
                created((clock, store), object, memory, &mut wrong);
            }
        }
        for (key, old) in &memory.before {
            let same = now.get(key).filter(|object| object["metadata"]["uid"] == old["metadata"]["uid"]);
            let going = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
            if old["kind"] == KIND || going(old) || same.is_some_and(|object| !going(object)) {
                if same.is_none() && !old["metadata"]["annotations"][BY_HAND].is_null() {
                    memory.freed.insert(key.name.clone());
                }
                continue;
            }
            let history = store.history(key);
            let uid = &old["metadata"]["uid"];
            let last = history.iter().rev().map(|change| &change.object).find(|last| last["metadata"]["uid"] == *uid);
            let last = last.map_or(old, |last| last);
            if last["metadata"]["annotations"][BY_HAND].is_null() {
                let mut wrong = |what: &str| broken.push(format!("{} at {}: {what}", key.name, clock.now()));
                deleted(store, last, &now, &mut wrong);
            } else if same.is_none() {
                memory.freed.insert(key.name.clone());
            }
        }
        memory.before = now;
        broken
    })
}

fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["labels"][name].as_str().unwrap_or_default()
}

/// The schedule that a backup belongs to, as far as it is there.
fn schedule_of<'a>(store: &'a Store, backup: &Value) -> Option<&'a Value> {
    let uid = label(backup, SCHEDULE_UID_LABEL);
    store.list(KIND).find(|schedule| {
        let earlier = schedule["metadata"]["annotations"][TAKE_OVER_ANNOTATION].as_str().unwrap_or_default();
        schedule["metadata"]["uid"] == uid || !uid.is_empty() && earlier.split(',').any(|earlier| earlier.trim() == uid)
    })
}

/// A backup has appeared.
fn created((clock, store): (Clock, &Store), backup: &Value, memory: &mut Memory, wrong: &mut impl FnMut(String)) {
    let meta = &backup["metadata"];
    let (name, uid) = (meta["name"].as_str().unwrap().to_owned(), meta["uid"].as_str().unwrap().to_owned());
    if label(backup, SCHEDULE_LABEL).is_empty() || truth(backup, SUCCEEDED) == "True" {
        return;
    }
    if memory.taken.insert(name.clone(), uid).is_some() && !memory.freed.contains(&name) {
        wrong("it is created again".to_owned());
    }
    if !meta["ownerReferences"].is_null() {
        wrong("it has an owner".to_owned());
    }
    let Some(schedule) = schedule_of(store, backup) else { return };
    let created = moment(&schedule["metadata"]["creationTimestamp"]);
    if let Some(slot) = moment(&meta["annotations"][SLOT_ANNOTATION]) {
        for timing in ["full", "incremental"] {
            let known = &schedule["status"][timing];
            let other = if timing == "full" { "incremental" } else { "full" };
            let applies = schedule["spec"][other].is_null() && !known.is_null();
            let decided = moment(&known["lastSlot"]).filter(|last| *last <= clock.operators() + TimeDelta::minutes(1));
            if applies && decided.is_some_and(|last| slot < last) {
                wrong(format!("{slot} is before a slot that was decided on"));
            }
        }
        if created.is_some_and(|created| slot <= created) && !clock.is_set() {
            wrong(format!("{slot} is before the schedule was there"));
        }
        let now = moment(&meta["creationTimestamp"]).max(Some(clock.operators()));
        if now.is_some_and(|now| slot > now) {
            wrong(format!("{slot} has not come"));
        }
    }
    let uid = label(backup, SCHEDULE_UID_LABEL);
    let is_working = |other: &&Value| {
        let is_readable = other["metadata"]["annotations"][STILL].is_null();
        is_readable && label(other, SCHEDULE_UID_LABEL) == uid && !matches!(truth(other, SUCCEEDED), "True" | "False")
    };
    let working: Vec<&Value> =
        store.list("GraphBackup").filter(is_working).map(|other| &other["metadata"]["name"]).collect();
    if working.len() > 1 {
        wrong(format!("two backups are at work: {working:?}"));
    }
}

/// A schedule has changed.
fn schedule(
    clock: Clock,
    before: Option<&Value>,
    object: &Value,
    taken: &BTreeMap<String, String>,
    wrong: &mut impl FnMut(String),
) {
    let (meta, status) = (&object["metadata"], &object["status"]);
    // One that was written for another object says nothing about this one.
    if status.is_null() || status["uid"] != meta["uid"] {
        return;
    }
    for kind in [READY, RECONCILING, STALLED, SCHEDULE_VALID] {
        if truth(object, kind) == "absent" {
            wrong(format!("condition {kind} is absent"));
        }
    }
    let valid = truth(object, SCHEDULE_VALID) == "True";
    if valid && [FRESH, RETENTION_APPLIED].iter().any(|kind| truth(object, kind) == "absent") {
        wrong("a condition is absent".to_owned());
    }
    if status["observedGeneration"].as_i64().is_none_or(|seen| Some(seen) > meta["generation"].as_i64()) {
        wrong("observedGeneration is absent or ahead of generation".to_owned());
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let reason = condition["reason"].as_str().unwrap_or_default();
        if reason.is_empty() || !reason.chars().all(|c| c.is_ascii_alphanumeric()) {
            wrong(format!("reason {reason:?} of a condition is no word"));
        }
    }
    let Some(before) = before.filter(|before| before["status"]["uid"] == meta["uid"]) else { return };
    for timing in ["full", "incremental"] {
        let slot = |object: &Value| moment(&object["status"][timing]["lastSlot"]);
        let since = |object: &Value| moment(&object["status"][timing]["since"]);
        let decided = |object: &Value| slot(object).max(since(object));
        let (old, new) = (decided(before), decided(object));
        // What stands ahead of the clock was decided by a clock that was wrong.
        let is_ahead = old > Some(clock.operators() + TimeDelta::minutes(1));
        if new.is_some() && old > new && !is_ahead {
            wrong(format!("{timing} went back from {old:?} to {new:?}"));
        }
        if let Some(new) = slot(object).filter(|new| slot(before) != Some(*new)) {
            let name = format!("{}-{}", meta["name"].as_str().unwrap(), new.format("%Y%m%d-%H%M"));
            if !taken.contains_key(&name) && skipped(object) == skipped(before) {
                wrong(format!("{timing} slot {new} was decided on without a backup or a reason"));
            }
        }
    }
    if skipped(object) < skipped(before) {
        wrong("skipped slots are forgotten".to_owned());
    }
}

/// How many slots were skipped.
pub fn skipped(schedule: &Value) -> i64 {
    let skipped = schedule["status"]["skipped"].as_array();
    skipped.into_iter().flatten().filter_map(|skipped| skipped["count"].as_i64()).sum()
}

/// The operator has deleted a backup.
fn deleted(store: &Store, last: &Value, now: &BTreeMap<Key, Arc<Object>>, wrong: &mut impl FnMut(&str)) {
    let Some(schedule) = schedule_of(store, last) else {
        wrong("it is deleted, and it is of no schedule that is there");
        return;
    };
    let going = !schedule["metadata"]["deletionTimestamp"].is_null();
    let takes_all = going && schedule["spec"]["deletionPolicy"] == "Delete";
    if !last["metadata"]["annotations"][PIN_ANNOTATION].is_null() {
        wrong("it is pinned, and it is deleted");
    }
    let others = || now.values().filter(|other| other["kind"] == "GraphBackup");
    let uid = &schedule["metadata"]["uid"];
    let is_ours = |other: &Value| schedule_of(store, other).is_some_and(|schedule| schedule["metadata"]["uid"] == *uid);
    match truth(last, SUCCEEDED) {
        "True" => {
            let newer = |other: &Arc<Object>| is_good(other) && data_from(other) > data_from(last) && is_ours(other);
            if !takes_all && !others().any(newer) {
                wrong("it is the last good point, and it is deleted");
            }
            if others().any(|other| uses(other, last)) {
                wrong("it is in use, and it is deleted");
            }
            let finalizers = last["metadata"]["finalizers"].as_array();
            if finalizers.is_none_or(|names| !names.iter().any(|name| name == FILES_FINALIZER)) {
                wrong("it is deleted without its files");
            }
            if !takes_all {
                planned(schedule, last, wrong);
            }
        }
        "False" => {
            let limit = schedule["spec"]["failedHistoryLimit"].as_u64().unwrap_or(3);
            let there = |other: &Value| other["metadata"]["deletionTimestamp"].is_null();
            let failed = others().filter(|other| truth(other, SUCCEEDED) == "False" && there(other) && is_ours(other));
            if !takes_all && (failed.count() as u64) < limit {
                wrong("it is a failed backup within the limit, and it is deleted");
            }
        }
        _ => {
            let waits = !schedule["status"]["waiting"].is_null();
            let replaces = waits && schedule["spec"]["concurrencyPolicy"] == "Replace";
            if !takes_all && !replaces {
                wrong("it is at work, and it is deleted");
            }
        }
    }
}

/// Whether a backup at work starts from a point.
fn uses(other: &Value, point: &Value) -> bool {
    let attempts = other["status"]["attempts"].as_array();
    let open = attempts.and_then(|attempts| attempts.last()).filter(|attempt| attempt["completionTime"].is_null());
    open.is_some_and(|attempt| attempt["parent"]["uid"] == point["metadata"]["uid"])
}

/// The plan that a point goes by is recorded, and approved where it has to be.
fn planned(schedule: &Value, point: &Value, wrong: &mut impl FnMut(&str)) {
    let plan = &schedule["status"]["retention"];
    let removing = plan["removing"].as_i64().unwrap_or(0);
    let mut removes = plan["removes"].as_array().into_iter().flatten();
    if removing <= 50 && !removes.any(|one| one["name"] == point["metadata"]["name"]) {
        wrong("it is deleted before the plan says so");
    }
    let limit = schedule["spec"]["retention"]["approveAbove"].as_i64().unwrap_or(10);
    let approved = &plan["approved"];
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let is_covered = approved["generation"] == schedule["status"]["observedGeneration"]
        && moment(&point["status"]["point"]["dataFrom"]) <= moment(&approved["until"]);
    if removing > limit && !is_covered {
        wrong("nobody has approved that it is deleted");
    }
}
