//! What must hold of a faulty run, measured by the clean one.

use crate::apiserver::{Record, Verb};
use crate::driver::Run;
use serde_json::Value;
use std::collections::BTreeMap;

/// How much a faulty run may differ from the clean one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Not at all: same objects at the end, same creates and deletes of each.
    Nothing,
    /// Objects of one kind may be missing.
    Missing(&'static str),
    /// The way may be another one; what the controller is done with must be judged alike.
    AnotherWay,
    /// Somebody deleted the object: nothing but what is meant to stay may be left.
    Gone,
    /// Nothing but the invariants.
    Anything,
}

/// Limits of requests.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Of one pass.
    pub per_pass: usize,
    /// Of a faulty run, beyond twice those of the clean one.
    pub extra: usize,
}

/// Everything that is wrong with a run by itself.
pub fn unsound(run: &Run, budget: Budget, lasting: &[&str]) -> Vec<String> {
    let mut wrong = run.broken.clone();
    for pass in &run.passes {
        if pass.requests.len() > budget.per_pass {
            wrong.push(format!("{} requests in one pass", pass.requests.len()));
        }
    }
    let uids: Vec<&Value> = run.end.iter().map(|object| &object["metadata"]["uid"]).collect();
    for object in &run.end {
        let owners = object["metadata"]["ownerReferences"].as_array();
        if owners.is_some_and(|owners| owners.iter().any(|owner| !uids.contains(&&owner["uid"]))) {
            wrong.push(format!("{} is orphaned", name(object)));
        }
        let kind = object["kind"].as_str().unwrap();
        // The pods of a StatefulSet are meant to stay. One that never stops is not our business.
        let member = object["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet";
        if !lasting.contains(&kind) && !member && owners.is_some() {
            wrong.push(format!("{} is left over", name(object)));
        }
        // A namespace goes when everything in it has gone.
        if kind != "Namespace" && !member && !object["metadata"]["deletionTimestamp"].is_null() {
            wrong.push(format!("{} cannot go", name(object)));
        }
    }
    wrong
}

/// What of a faulty run differs from the clean one more than is allowed.
pub fn differences(clean: &Run, faulty: &Run, allowance: Allowance, kind: &str, budget: Budget) -> Vec<String> {
    let mut wrong = Vec::new();
    if faulty.records.len() > 2 * clean.records.len() + budget.extra {
        wrong.push(format!("{} requests instead of {}", faulty.records.len(), clean.records.len()));
    }
    match allowance {
        Allowance::Nothing => {
            compare(&mut wrong, &objects(clean, ""), &objects(faulty, ""), "object");
            compare(&mut wrong, &deeds(clean, ""), &deeds(faulty, ""), "write");
        }
        Allowance::Missing(missing) => {
            compare(&mut wrong, &objects(clean, missing), &objects(faulty, missing), "object");
            compare(&mut wrong, &deeds(clean, missing), &deeds(faulty, missing), "write");
        }
        Allowance::AnotherWay => compare(&mut wrong, &judged(clean, kind), &judged(faulty, kind), "judgement"),
        Allowance::Gone => {
            wrong.extend(
                faulty.end.iter().filter(|object| object["kind"] == kind).map(|o| format!("{} is there", name(o))),
            );
        }
        Allowance::Anything => {}
    }
    wrong
}

/// What differs between a run that joined another one and the same run in full, but for the number of its process.
pub fn not_the_same(joined: &Run, full: &Run) -> Option<String> {
    let requests = |run: &Run| -> Vec<String> {
        run.records.iter().map(|r| format!("{} {:?} {} {:?} {:?}", r.index, r.at, r.call, r.code, r.mishap)).collect()
    };
    let passes = |run: &Run| -> Vec<String> {
        run.passes.iter().map(|p| format!("{:?} {:?} {:?} {}", p.key, p.at, p.requests, p.after)).collect()
    };
    let end = |run: &Run| -> Vec<_> { run.end.iter().map(|object| object.text()).collect() };
    let same = requests(joined) == requests(full) && passes(joined) == passes(full) && end(joined) == end(full);
    (!same).then(|| "it is not the same in full".to_owned())
}

/// Compares two maps and tells every difference.
fn compare<T: PartialEq + std::fmt::Display>(
    wrong: &mut Vec<String>,
    clean: &BTreeMap<String, T>,
    faulty: &BTreeMap<String, T>,
    what: &str,
) {
    for (key, value) in clean {
        match faulty.get(key) {
            None => wrong.push(format!("{what} {key} is missing")),
            Some(other) if other != value => wrong.push(format!("{what} {key}:\n  clean:  {value}\n  faulty: {other}")),
            Some(_) => {}
        }
    }
    wrong.extend(faulty.keys().filter(|key| !clean.contains_key(*key)).map(|key| format!("{what} {key} is new")));
}

/// Objects at the end, without what time and chance put into them.
fn objects<'a>(run: &'a Run, but: &str) -> BTreeMap<String, &'a Value> {
    let kept = run.end.iter().filter(|object| object["kind"] != but);
    kept.map(|object| (name(object), object.reduced(timeless))).collect()
}

/// How often each object was created and deleted by the controller.
fn deeds(run: &Run, but: &str) -> BTreeMap<String, usize> {
    let mut deeds = BTreeMap::new();
    let done = |record: &&Record| record.applied() && matches!(record.call.verb, Verb::Create | Verb::Delete);
    for record in run.records.iter().filter(done).filter(|record| record.call.kind.name != but) {
        *deeds.entry(record.call.to_string()).or_default() += 1;
    }
    deeds
}

/// What the controller's own objects say to everybody (kstatus).
fn judged(run: &Run, kind: &str) -> BTreeMap<String, String> {
    let own = run.end.iter().filter(|object| object["kind"] == kind);
    own.map(|object| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let general = conditions.iter().filter(|c| c["type"] == "Ready" || c["type"] == "Stalled");
        let words = general.map(|c| format!("{}={}", c["type"], c["status"]));
        (name(object), words.collect::<Vec<_>>().join(" "))
    })
    .collect()
}

fn name(object: &Value) -> String {
    format!(
        "{} {}",
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            // When a restore drill ended.
            let is_drill = fields.contains_key("passed");
            let kept = fields.iter().filter(|(field, _)| !(is_of_time(field) || is_drill && *field == "time"));
            Value::Object(kept.map(|(field, value)| (field.clone(), timeless(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(timeless).collect()),
        // A point is named by when its object was created.
        Value::String(text) => Value::String(without_moment(text)),
        other => other.clone(),
    }
}

/// Replaces a moment such as `20261124T060000Z` in a text.
fn without_moment(text: &str) -> String {
    let is_moment = |part: &&[u8]| part.len() == 16 && part[8] == b'T' && part[15] == b'Z' && part[..8].is_ascii();
    let digits = |part: &[u8]| part.iter().filter(|byte| byte.is_ascii_digit()).count() == 14;
    let found = text.as_bytes().windows(16).position(|part| is_moment(&part) && digits(part));
    found.map_or_else(|| text.to_owned(), |at| format!("{}<moment>{}", &text[..at], &text[at + 16..]))
}

fn is_of_time(field: &str) -> bool {
    let last = ["Time", "Timestamp", "From", "To", "Version", "since"];
    last.iter().any(|end| field.ends_with(end)) && field != "apiVersion"
}
