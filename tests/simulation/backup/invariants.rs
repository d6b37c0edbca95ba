//! What holds of every `GraphBackup` at every moment, whatever goes wrong.

use super::jobs;
use crate::apiserver::{Check, Store};
use crate::world::agent::Volume;
use crate::world::members;
use chrono::{DateTime, Utc};
use graph_backup_operator::api::condition::{
    MASTER_STABLE, READY, RECONCILING, SEEDABLE, STALLED, SUCCEEDED, VERIFIED,
};
use graph_backup_operator::api::names::{BACKUP_UID_LABEL, MANAGED_BY, MANAGED_BY_LABEL, TASK_LABEL};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Status of each object by UID, as it was last: some of it may not change any more.
pub type Memory = BTreeMap<String, Value>;

/// Judges the stored objects after every change.
pub fn checker(volume: Arc<Mutex<Volume>>, memory: Arc<Mutex<Memory>>) -> Check {
    Box::new(move |store| {
        let before = &mut *memory.lock().unwrap();
        let mut broken = Vec::new();
        for backup in store.list("GraphBackup") {
            let uid = backup["metadata"]["uid"].as_str().unwrap();
            let mut wrong = |what: &str| broken.push(format!("{}: {what}", backup["metadata"]["name"]));
            let status = &backup["status"];
            // One that was written for another object says nothing about this one.
            let foreign = status["uid"].is_string() && status["uid"] != uid;
            if !status.is_null() && !foreign {
                complete(backup, &mut wrong);
                let going = !backup["metadata"]["deletionTimestamp"].is_null();
                evidence(status, uid, going, &volume.lock().unwrap(), &mut wrong);
                history(before.get(uid).unwrap_or(&Value::Null), status, &mut wrong);
                before.insert(uid.to_owned(), status.clone());
                if backup["spec"]["deletionPolicy"] == "Delete" {
                    before.entry(DELETES.to_owned()).or_insert_with(|| json!({}))[uid] = json!(true);
                }
            }
            recorded(store, backup, &mut wrong);
            jobs::sound(store, backup, &mut wrong);
        }
        gone(store, before, &volume.lock().unwrap(), &mut broken);
        broken.extend(members::broken(store));
        broken.extend(store.list("Job").filter(|job| is_ours(job)).filter_map(owner));
        // All scenarios are about one database cluster.
        if store.list("Job").filter(|job| is_ours(job) && copies(store, job)).count() > 1 {
            broken.push("two backup Jobs of one cluster work at the same time".to_owned());
        }
        broken
    })
}

/// Where it is remembered which objects want their files removed.
pub const DELETES: &str = "deletionPolicy";

/// An object that wanted its files removed is gone: so are its files, unless the claim is gone too.
fn gone(store: &Store, before: &Memory, volume: &Volume, broken: &mut Vec<String>) {
    let wanted = before.get(DELETES).and_then(Value::as_object);
    let there = |uid: &str| store.list("GraphBackup").any(|backup| backup["metadata"]["uid"] == uid);
    let claim = store.list("PersistentVolumeClaim").next().is_some();
    for uid in wanted.into_iter().flat_map(serde_json::Map::keys) {
        if claim && !there(uid) && volume.holds_any_of(uid) {
            broken.push(format!("the object with UID {uid} is gone and its files are not"));
        }
    }
}

/// Status of a condition.
pub fn truth<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|c| c["type"] == kind));
    found.and_then(|condition| condition["status"].as_str()).unwrap_or("absent")
}

fn is_over(status: &Value) -> bool {
    matches!(truth(status, SUCCEEDED), "True" | "False")
}

fn complete(backup: &Value, wrong: &mut impl FnMut(&str)) {
    let status = &backup["status"];
    for kind in [READY, RECONCILING, STALLED, SUCCEEDED, MASTER_STABLE, VERIFIED, SEEDABLE] {
        if truth(status, kind) == "absent" {
            wrong(&format!("condition {kind} is absent"));
        }
    }
    let generation = backup["metadata"]["generation"].as_i64();
    if status["observedGeneration"].as_i64().is_none() || status["observedGeneration"].as_i64() > generation {
        wrong("observedGeneration is absent or ahead of generation");
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let reason = condition["reason"].as_str().unwrap_or_default();
        // As every controller's should be; the API server does not look.
        if !reason.starts_with(|c: char| c.is_ascii_alphabetic()) || !reason.chars().all(|c| c.is_ascii_alphanumeric())
        {
            wrong(&format!("reason {reason:?} of a condition is no word"));
        }
    }
    if is_over(status) == (truth(status, RECONCILING) == "True") {
        wrong("Reconciling contradicts Succeeded");
    }
}

fn evidence(status: &Value, uid: &str, going: bool, volume: &Volume, wrong: &mut impl FnMut(&str)) {
    let point = &status["point"];
    if (truth(status, SUCCEEDED) == "True") == point.is_null() {
        wrong("a point without success, or success without a point");
    }
    let Some(digest) = point["manifestDigest"].as_str().filter(|_| !going) else { return };
    let maker = point["ownerUid"].as_str().unwrap_or(uid);
    if !volume.holds_for(status["directory"].as_str().unwrap_or_default(), maker, digest) {
        wrong("the point in status is not the one on the volume, or it mixes two histories");
    }
}

fn history(before: &Value, after: &Value, wrong: &mut impl FnMut(&str)) {
    if is_over(before) && before != after {
        wrong("the status changed after it was final");
    }
    let attempts = |status: &Value| status["attempts"].as_array().cloned().unwrap_or_default();
    let (old, new) = (attempts(before), attempts(after));
    let ended = |attempt: &Value| !attempt["completionTime"].is_null();
    for (index, attempt) in old.iter().enumerate() {
        let kept = new.get(index).is_some_and(|now| {
            if ended(attempt) { result(now) == result(attempt) } else { now["job"] == attempt["job"] }
        });
        if !kept {
            wrong("an attempt was forgotten or rewritten");
        }
    }
    if new.iter().rev().skip(1).any(|attempt| !ended(attempt)) {
        wrong("two attempts are open");
    }
    if new.iter().enumerate().any(|(index, attempt)| attempt["number"].as_u64() != Some(index as u64 + 1)) {
        wrong("the attempts are not numbered");
    }
    for (number, pair) in new.windows(2).enumerate() {
        let time = |text: &Value| text.as_str().map(|text| text.parse::<DateTime<Utc>>().unwrap());
        let backoff = (10i64 << number.min(5)).min(300);
        let waited = time(&pair[0]["completionTime"]).zip(time(&pair[1]["startTime"])).map(|(end, start)| start - end);
        // Both are whole seconds.
        if waited.is_none_or(|waited| waited.num_seconds() < backoff - 1) {
            wrong("an attempt did not wait for its backoff");
        }
    }
    if !before["startTime"].is_null() && before["startTime"] != after["startTime"] {
        wrong("startTime moved");
    }
}

/// An attempt but for when its member was started again, and how it is: that comes after its end.
fn result(attempt: &Value) -> Value {
    let mut attempt = attempt.clone();
    if let Some(stopped) = attempt["stopped"].as_object_mut() {
        stopped.remove("restoredTime");
        stopped.remove("missing");
    }
    attempt
}

/// Whether a Job has one of the names of a question that was asked so many times.
fn is_try(name: &Value, question: &Value, first: &str) -> bool {
    let tries = question["tries"].as_u64().unwrap_or_default();
    (1..=tries).any(|number| *name == if number > 1 { format!("{first}{number}") } else { first.to_owned() })
}

fn recorded(store: &Store, backup: &Value, wrong: &mut impl FnMut(&str)) {
    let uid = &backup["metadata"]["uid"];
    let of_backup = |job: &&Value| is_ours(job) && job["metadata"]["labels"][BACKUP_UID_LABEL] == *uid;
    let ours: Vec<&Value> = store.list("Job").filter(of_backup).collect();
    let attempts = backup["status"]["attempts"].as_array().cloned().unwrap_or_default();
    for job in &ours {
        let name = &job["metadata"]["name"];
        if job["metadata"]["labels"][TASK_LABEL] == "prune" {
            if backup["metadata"]["deletionTimestamp"].is_null() {
                wrong("files are removed although nobody deleted the object");
            }
            let began = |job: &Value| job["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
            if ours.iter().any(|other| copies(store, other) && began(other) < began(job)) {
                wrong("files are removed although a Job still writes some");
            }
            continue;
        }
        let check = |attempt: &Value| attempt["job"].as_str().is_some_and(|job| *name == format!("{job}c"));
        // One of the questions, the newest or one before it.
        let asks =
            |attempt: &Value| is_try(name, &attempt["inspection"], &format!("{}i", attempt["job"].as_str().unwrap()));
        let known = |attempt: &Value| attempt["job"] == *name || asks(attempt) || check(attempt);
        let adopts = |adoption: &Value| name.as_str().is_some_and(|name| name.contains("-a")) && !adoption.is_null();
        if !adopts(&backup["status"]["adoption"]) && !attempts.iter().any(known) {
            wrong(&format!("Job {name} was created before status says so"));
        }
    }
}

/// Whether a Job may still write a copy: it has not ended, nor has the agent in its pod.
fn copies(store: &Store, job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    let agent_ended = |pod: &Value| {
        let of_job = pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"];
        of_job && pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object()
    };
    let ended = conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Complete" || c["type"] == "Failed"))
        || store.list("Pod").any(agent_ended);
    !ended && job["metadata"]["labels"][TASK_LABEL] == "backup"
}

/// Whether a Job says that it is the operator's.
pub fn is_ours(job: &Value) -> bool {
    job["metadata"]["labels"][MANAGED_BY_LABEL] == MANAGED_BY
}

fn owner(job: &Value) -> Option<String> {
    let owners = job["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let controllers: Vec<&Value> = owners.iter().filter(|owner| owner["controller"] == true).collect();
    let sound = controllers.len() == 1
        && controllers[0]["kind"] == "GraphBackup"
        && controllers[0]["uid"] == job["metadata"]["labels"][BACKUP_UID_LABEL];
    (!sound).then(|| format!("Job {} has not its GraphBackup as its controller", job["metadata"]["name"]))
}
