//! A stand-in for the `GraphBackup` controller and its Jobs: backups start, end and go by a script. And people.

use crate::apiserver::{Key, Kind, Store};
use crate::clock::Clock;
use crate::world::NAMESPACE;
use crate::world::database::STORE;
use chrono::{DateTime, TimeDelta, Utc};
use graph_backup_operator::api::names::{SCHEDULE_LABEL, SLOT_ANNOTATION};
use graph_backup_operator::backup::finalizers::FILES_FINALIZER;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Name of the schedule.
pub const SCHEDULE: &str = "nightly";
/// Annotation of what people delete themselves.
pub const BY_HAND: &str = "example.com/by-hand";
/// Annotation of a backup that nobody works on.
pub const STILL: &str = "example.com/still";
/// From the deletion of a point to the end of the Job that removes its files.
const REMOVAL: TimeDelta = TimeDelta::seconds(20);
/// The shortest time that a backup takes.
const SHORTEST: TimeDelta = TimeDelta::seconds(30);

/// What people do.
pub type Act = fn(&mut Store);

/// How a backup ends, and how many seconds after its slot.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// With a point.
    Good(i64),
    /// With this reason.
    Fails(&'static str, i64),
    /// Not at all.
    Never,
}

/// What happens in the world.
#[derive(Clone)]
pub struct Script {
    /// How a backup ends, by its name without that of the schedule.
    pub ends: fn(&str) -> End,
    /// What people do, and at which second.
    pub people: Vec<(u64, Act)>,
    /// From and until when the operator is down.
    pub down: Vec<(u64, u64)>,
}

/// The world at work.
pub struct Standin {
    clock: Clock,
    script: Script,
    done: usize,
    next: Option<DateTime<Utc>>,
}

impl Standin {
    /// A world in which nothing has happened yet.
    pub const fn new(clock: Clock, script: Script) -> Self {
        Self { clock, script, done: 0, next: None }
    }

    /// The same world in another time.
    pub fn fork(&self, clock: Clock) -> Self {
        Self { clock, script: self.script.clone(), done: self.done, next: self.next }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let people = self.script.people.get(self.done).map(|(second, _)| Duration::from_secs(*second));
        let down = self.script.down.iter().map(|(from, _)| Duration::from_secs(*from)).filter(|from| *from > now);
        let backups = self.next.and_then(|next| Some(now + (next - self.clock.now()).to_std().ok()?));
        down.chain(people).chain(backups).chain(self.clock.next_jump()).min()
    }

    /// Until when the operator is down by the script.
    pub fn down_until(&self) -> Duration {
        let now = self.clock.elapsed().as_secs();
        let window = self.script.down.iter().find(|(from, until)| (*from..*until).contains(&now));
        Duration::from_secs(window.map_or(0, |(_, until)| *until))
    }

    /// Describes what has happened.
    pub fn describe(&self, out: &mut String) {
        write!(out, "; {} {:?}", self.done, self.next).unwrap();
    }

    /// Lets everything happen that is due.
    pub fn act(&mut self, store: &mut Store) {
        while let Some((second, act)) = self.script.people.get(self.done) {
            if self.clock.elapsed() < Duration::from_secs(*second) {
                break;
            }
            act(store);
            self.done += 1;
        }
        let now = self.clock.now();
        let backups: Vec<Value> = store.list("GraphBackup").filter(|backup| is_at_work(backup)).cloned().collect();
        let moments = backups.iter().filter_map(|backup| self.tend(store, backup, now));
        self.next = moments.collect::<Vec<_>>().into_iter().min();
    }

    /// Does what is due for one backup; gives when the next thing is.
    fn tend(&self, store: &mut Store, backup: &Value, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let key = Key::of(backup);
        let meta = &backup["metadata"];
        if let Some(deleted) = moment(&meta["deletionTimestamp"]) {
            if now < deleted + REMOVAL {
                return Some(deleted + REMOVAL);
            }
            let kept = meta["finalizers"].as_array().into_iter().flatten().filter(|name| *name != FILES_FINALIZER);
            let kept: Vec<Value> = kept.cloned().collect();
            store.change(&key, |backup| backup["metadata"]["finalizers"] = json!(kept)).unwrap();
            return None;
        }
        if backup["status"].is_null() {
            let parent = (backup["spec"]["type"] != "Full").then(|| newest_good(store)).flatten();
            store.change(&key, |backup| backup["status"] = begun(backup, parent.as_ref(), now)).unwrap();
        }
        let created = moment(&meta["creationTimestamp"])?;
        let slot = moment(&meta["annotations"][SLOT_ANNOTATION]).map_or(created, |slot| slot.min(created));
        let (seconds, reason) = match (self.script.ends)(suffix(&key.name)) {
            End::Good(seconds) => (seconds, None),
            End::Fails(reason, seconds) => (seconds, Some(reason)),
            End::Never => return None,
        };
        let end = (slot + TimeDelta::seconds(seconds)).max(created + SHORTEST);
        if now < end {
            return Some(end);
        }
        let from = (slot + TimeDelta::seconds(5)).max(created);
        store.change(&key, |backup| finish(backup, reason, from, end)).unwrap();
        None
    }
}

/// Name of a backup without that of the schedule.
pub fn suffix(name: &str) -> &str {
    name.strip_prefix(SCHEDULE).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name)
}

/// Whether there is anything to do for a backup.
fn is_at_work(backup: &Value) -> bool {
    let meta = &backup["metadata"];
    let ours = !meta["labels"][SCHEDULE_LABEL].is_null() || !meta["annotations"][SLOT_ANNOTATION].is_null();
    let over = matches!(truth(backup, "Succeeded"), "True" | "False") && meta["deletionTimestamp"].is_null();
    ours && !over && (meta["annotations"][STILL].is_null() || !meta["deletionTimestamp"].is_null())
}

/// A time in an object.
pub fn moment(text: &Value) -> Option<DateTime<Utc>> {
    text.as_str()?.parse().ok()
}

/// How it is written.
pub fn text(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Status of a condition.
pub fn truth<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.and_then(|condition| condition["status"].as_str()).unwrap_or("absent")
}

/// Whether a backup has a point and is not being deleted.
pub fn is_good(backup: &Value) -> bool {
    truth(backup, "Succeeded") == "True" && backup["metadata"]["deletionTimestamp"].is_null()
}

/// The moment that the data of a point is from.
pub fn data_from(backup: &Value) -> DateTime<Utc> {
    moment(&backup["status"]["point"]["dataFrom"]).unwrap()
}

fn newest_good(store: &Store) -> Option<Value> {
    store.list("GraphBackup").filter(|backup| is_good(backup)).max_by_key(|backup| data_from(backup)).cloned()
}

fn condition(truth: &str, reason: &str, now: DateTime<Utc>) -> Value {
    json!({"type": "Succeeded", "status": truth, "reason": reason, "message": "", "lastTransitionTime": text(now)})
}

fn begun(backup: &Value, parent: Option<&Value>, now: DateTime<Utc>) -> Value {
    let parent = parent.map(|parent| {
        json!({"name": parent["metadata"]["name"], "uid": parent["metadata"]["uid"], "point": "folder",
            "manifestDigest": parent["status"]["point"]["manifestDigest"], "lastTransaction": 1})
    });
    let token = json!({"memberId": 1, "endpoint": {"host": "a", "port": 6362}, "serverCreated": 1,
        "electionCreated": 1, "rebound": 1, "reboundModified": 1, "clusterModified": 1});
    let mut attempt = json!({"number": 1, "job": "job", "storeId": STORE.to_string(), "startTime": text(now),
        "mastership": {"master": token}});
    if let Some(parent) = parent {
        attempt["parent"] = parent;
    }
    json!({"uid": backup["metadata"]["uid"], "startTime": text(now), "attempts": [attempt],
        "conditions": [condition("Unknown", "Running", now)]})
}

/// A point of an object, or its failure.
pub fn finish(backup: &mut Value, reason: Option<&str>, from: DateTime<Utc>, end: DateTime<Utc>) {
    let depth = i64::from(!backup["status"]["attempts"][0]["parent"].is_null());
    let digest = format!("sha256:{}", backup["metadata"]["uid"].as_str().unwrap());
    let status = &mut backup["status"];
    status["completionTime"] = json!(text(end));
    status["attempts"] = json!([]);
    if let Some(reason) = reason {
        status["conditions"] = json!([condition("False", reason, end)]);
        return;
    }
    status["conditions"] = json!([condition("True", "Succeeded", end)]);
    status["directory"] = json!(format!("{STORE}/folder"));
    status["point"] = json!({"manifestDigest": digest, "storeId": STORE.to_string(),
        "type": if depth == 0 { "Full" } else { "Incremental" }, "depth": depth, "lastTransaction": 1, "files": 1,
        "bytes": 1000, "freeBytes": 1_000_000, "attempt": 1, "dataFrom": text(from), "dataTo": text(end)});
}

/// Key of a backup.
pub fn backup_key(name: &str) -> Key {
    Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

/// What somebody does with `kubectl delete` to a backup.
pub fn delete_by_hand(store: &mut Store, name: &str) {
    let key = backup_key(name);
    if store.change(&key, |backup| backup["metadata"]["annotations"][BY_HAND] = json!("true")).is_ok() {
        crate::fault::delete(store, &key);
    }
}

/// A backup at work that somebody has made: it starts from a point.
pub fn start_from(store: &mut Store, name: &str, parent: &str, spec: &Value) {
    let Some(parent) = store.get(&backup_key(parent)).map(|parent| Value::clone(parent)) else { return };
    let backup = json!({"metadata": {"name": name, "annotations": {STILL: ""}}, "spec": spec});
    let created = store.create(Kind::named("GraphBackup"), NAMESPACE, backup).unwrap();
    let now = moment(&created["metadata"]["creationTimestamp"]).unwrap();
    store.change(&backup_key(name), |backup| backup["status"] = begun(backup, Some(&parent), now)).unwrap();
}

/// A point that was made long before, of a schedule with this UID, or of none.
pub fn old_point(store: &mut Store, name: &str, schedule: Option<(&str, &str)>, spec: &Value, from: &str) {
    let kind = Kind::named("GraphBackup");
    let labels = schedule
        .map_or_else(|| json!({}), |(name, uid)| json!({SCHEDULE_LABEL: name, "graphbackup.dev/schedule-uid": uid}));
    let from: DateTime<Utc> = from.parse().unwrap();
    let backup = json!({"metadata": {"name": name, "labels": labels, "annotations": {STILL: ""}}, "spec": spec});
    store.create(kind, NAMESPACE, backup).unwrap();
    store
        .change(&backup_key(name), |backup| {
            backup["status"] = begun(backup, None, from);
            finish(backup, None, from, from + TimeDelta::seconds(60));
        })
        .unwrap();
}
