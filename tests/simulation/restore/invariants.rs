//! What holds of a restore at every moment, whatever goes wrong.

use super::look::{is_succeeded, member_claim, step, steps};
use super::scenario::restore_key;
use crate::apiserver::{Check, Key, Store};
use crate::clock::Clock;
use crate::world::NAMESPACE;
use crate::world::database::Database;
use crate::world::members;
use crate::world::restorer::IN_POINT;
use crate::world::volumes::{claim_key, volume_key, volume_of};
use chrono::{DateTime, Utc};
use graph_backup_operator::api::names::{ORIGINAL_CLAIM_ANNOTATION, RESTORE_UID_ANNOTATION, ROLL_BACK_ANNOTATION};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

/// Annotation of the StatefulSet: somebody has scaled it while the restore worked.
pub const MEDDLED: &str = "simulation/meddled";
/// What was written before the restore, and is not in the point.
pub const BEFORE: &str = "before";
/// What a client writes after a restore.
pub const SINCE: &str = "since";

/// The volume of a member as it was at first.
#[derive(Clone, Debug)]
pub struct Original {
    /// Name of its claim.
    pub claim: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What is remembered between two changes.
#[derive(Clone, Default)]
pub struct Memory {
    /// The members' volumes.
    pub originals: Vec<Original>,
    /// Whether the members have been stopped, and the restore has not come to its end since.
    stopped: bool,
    /// Whether the originals may go.
    expired: bool,
    /// Whether a client wrote after a restore.
    since: bool,
    /// The object as it was last.
    last: Value,
}

impl Memory {
    /// Knows only which volumes the members have.
    pub fn of(originals: Vec<Original>) -> Self {
        Self { originals, ..Self::default() }
    }

    /// Describes what is not in the stored objects.
    pub fn describe(&self, out: &mut String) {
        write!(out, "; {} {} {}", self.stopped, self.expired, self.since).unwrap();
    }
}

/// One look at everything.
struct Look<'a> {
    store: &'a Store,
    database: &'a Database,
    restore: Value,
    set: Value,
    broken: Vec<String>,
}

/// Judges the stored objects after every change.
pub fn checker(clock: Clock, database: Database, memory: Arc<Mutex<Memory>>) -> Check {
    Box::new(move |store| {
        let memory = &mut *memory.lock().unwrap();
        let object = |key: &Key| store.get(key).map_or(Value::Null, |object| Value::clone(object));
        let (restore, set) = (object(&restore_key()), object(&members::key()));
        let mut look = Look { store, database: &database, restore, set, broken: Vec::new() };
        look.judge(memory, clock.now());
        memory.last = look.restore;
        look.broken
    })
}

impl Look<'_> {
    fn judge(&mut self, memory: &mut Memory, now: DateTime<Utc>) {
        let down = self.is_down(memory);
        let at_end = matches!(step(&self.restore), "CleanUp" | "Ended" | "");
        memory.stopped = down || memory.stopped && !at_end;
        memory.expired |= is_succeeded(&self.restore) && keep_until(&self.restore).is_some_and(|until| until <= now);
        memory.since |= self.served().iter().flatten().any(|data| data.writes.contains(SINCE));
        if down && !self.is_meddled() && matches!(step(&self.restore), "Check" | "Stage" | "CleanUp" | "Ended" | "") {
            self.wrong("members are down and no step says so");
        }
        self.volumes(memory);
        self.pods(memory);
        self.claims(memory);
        self.history(&memory.last);
        self.data(memory);
    }

    fn wrong(&mut self, what: impl Into<String>) {
        let what = format!("{} {}: {}", step(&self.restore), self.restore["status"]["direction"], what.into());
        self.broken.push(what);
    }

    /// Whether somebody has scaled the StatefulSet meanwhile.
    fn is_meddled(&self) -> bool {
        self.set["metadata"]["annotations"][MEDDLED] == "true"
    }

    fn journal(&self) -> &[Value] {
        self.restore["status"]["journal"]["members"].as_array().map_or(&[], Vec::as_slice)
    }

    fn started(&self) -> bool {
        self.restore["status"]["journal"]["started"] == true
    }

    fn back(&self) -> bool {
        self.restore["status"]["direction"] == "Back"
    }

    /// Whether any member is stopped, or has no claim.
    fn is_down(&self, memory: &Memory) -> bool {
        let wanted = i64::try_from(memory.originals.len()).unwrap();
        let replicas = self.set["spec"]["replicas"].as_i64().unwrap_or_default();
        let has_claim = |original: &Original| {
            let claim = self.store.get(&claim_key(NAMESPACE, &original.claim));
            claim.is_some_and(|claim| claim["metadata"]["deletionTimestamp"].is_null())
        };
        replicas < wanted || !memory.originals.iter().all(has_claim)
    }

    /// What each member serves.
    fn served(&self) -> Vec<Option<crate::world::ensemble::Data>> {
        let count = i32::try_from(self.journal().len()).unwrap();
        (1..=count).map(|id| self.database.served_by(id)).collect()
    }

    /// Every volume with data that is nowhere else is there, named, and outlives its claim.
    fn volumes(&mut self, memory: &Memory) {
        let mut unique: Vec<(String, String, String, bool)> = Vec::new();
        if !memory.expired {
            let all = memory.originals.iter();
            unique.extend(all.map(|it| (it.name.clone(), it.uid.clone(), it.claim.clone(), self.back())));
        }
        if self.started() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let staged = self.journal().iter().filter(|member| member["staged"].is_object());
            let volumes = staged.map(|member| {
                let staged = &member["staged"];
                (text(&staged["name"]), text(&staged["uid"]), text(&member["claim"]["name"]), !self.back())
            });
            unique.extend(volumes.collect::<Vec<_>>());
        }
        for (name, uid, claim, belongs_there) in unique {
            self.volume(memory, &name, &uid, &claim, belongs_there);
        }
    }

    fn volume(&mut self, memory: &Memory, name: &str, uid: &str, claim: &str, belongs_there: bool) {
        let volume = self.store.get(&volume_key(name)).filter(|volume| volume["metadata"]["uid"] == uid).cloned();
        let Some(volume) = volume else { return self.wrong(format!("volume {name} of {claim} is gone")) };
        if !volume["metadata"]["deletionTimestamp"].is_null() {
            self.wrong(format!("volume {name} of {claim} is being deleted"));
        }
        let is_bound = volume_of(self.store, NAMESPACE, claim).is_some_and(|bound| bound["metadata"]["uid"] == uid);
        let has_begun = memory.stopped || self.started();
        let at_end = matches!(step(&self.restore), "CleanUp" | "Ended" | "");
        // In its place at the end, or before anything was done.
        let is_home = is_bound && if has_begun { belongs_there && at_end && !memory.stopped } else { true };
        // An undo that has just begun has not stopped anybody yet.
        let undo_begins = is_bound && step(&self.restore) == "Stop" && !memory.stopped;
        if is_home || undo_begins {
            return;
        }
        if volume["spec"]["persistentVolumeReclaimPolicy"] != "Retain" {
            self.wrong(format!("volume {name} of {claim} goes with its claim"));
        }
        let annotations = &volume["metadata"]["annotations"];
        let named = annotations[ORIGINAL_CLAIM_ANNOTATION] == claim && annotations[RESTORE_UID_ANNOTATION].is_string();
        if !named {
            self.wrong(format!("volume {name} does not say that it is of {claim}"));
        }
        let there = !self.restore.is_null();
        if there && !self.journal().iter().any(|member| member.to_string().contains(uid)) {
            self.wrong(format!("volume {name} of {claim} is not in the journal"));
        }
    }

    /// Who runs, and on what.
    fn pods(&mut self, memory: &Memory) {
        if self.is_meddled() {
            return;
        }
        let pods: Vec<Value> = self.store.list("Pod").filter(|pod| members::id_of(pod).is_some()).cloned().collect();
        if !pods.is_empty() && matches!(step(&self.restore), "Carry" | "Swap") {
            self.wrong("a member is there while its volume is exchanged");
        }
        let firsts = pods.iter().filter(|pod| members::id_of(pod) == Some(1)).count();
        if step(&self.restore) == "StartFirst" && pods.len() > firsts {
            self.wrong("another member starts before the first one is master");
        }
        for pod in pods.iter().filter(|pod| memory.stopped && pod["status"]["phase"] == "Running") {
            let disk = members::disk_of(self.store, pod);
            if !self.journal().iter().any(|member| member.to_string().contains(&disk)) {
                self.wrong(format!("pod {} runs on a volume that the journal does not know", pod["metadata"]["name"]));
            }
        }
    }

    /// Nothing is done to claims before the step says so.
    fn claims(&mut self, memory: &Memory) {
        let known = |status: &Value| steps().iter().position(|known| *known == step(status)).unwrap_or_default();
        let at = known(&self.restore);
        for (ordinal, original) in memory.originals.iter().enumerate() {
            let volume = self.store.get(&volume_key(&original.name));
            let moved = volume.is_some_and(|volume| volume["spec"]["claimRef"]["name"] != original.claim.as_str());
            if moved && at < known(&json!({"status": {"step": "Swap"}})) && !self.back() && !self.restore.is_null() {
                self.wrong(format!("the volume of {} is moved too early", original.claim));
            }
            let staged = self.store.get(&claim_key(NAMESPACE, &member_claim("staged", ordinal))).is_some();
            if staged && at == 0 && !self.restore.is_null() {
                self.wrong("a claim is made before the plan is carried out");
            }
        }
    }

    /// What was recorded stays, and steps follow each other.
    fn history(&mut self, last: &Value) {
        let same = self.restore["metadata"]["uid"] == last["metadata"]["uid"];
        if !same || self.restore.is_null() || step(last).is_empty() {
            return;
        }
        let place = |restore: &Value| steps().iter().position(|known| *known == step(restore)).unwrap();
        let (from, to) = (place(last), place(&self.restore));
        let was_back = last["status"]["direction"] == "Back";
        let turns = self.back() && !was_back;
        if from > to && !turns {
            self.wrong(format!("it was in {}", step(last)));
        }
        if was_back && !self.back() {
            self.wrong("it goes forward again");
        }
        if step(last) == "Ended" && to != from {
            let asked = &self.restore["metadata"]["annotations"][ROLL_BACK_ANNOTATION];
            if *asked != self.restore["status"]["plan"]["hash"] || !is_succeeded(last) {
                self.wrong("it goes on after its end, and nobody asked for it");
            }
        }
        if from == 0 {
            return;
        }
        let (old, new) = (&last["status"]["journal"], &self.restore["status"]["journal"]);
        let mut broken = old["started"] == true && new["started"] != true || old["replicas"] != new["replicas"];
        let members = |journal: &Value| journal["members"].as_array().cloned().unwrap_or_default();
        for (old, new) in members(old).iter().zip(members(new)) {
            let uids = |it: &Value, part: &str| (it[part]["uid"].clone(), it[part]["reclaimPolicy"].clone());
            broken |= uids(old, "original") != uids(&new, "original") || old["claim"] != new["claim"];
            broken |= old["staged"].is_object() && uids(old, "staged") != uids(&new, "staged");
            let strays = |member: &Value| member["strays"].as_array().map_or(0, Vec::len);
            broken |= strays(old) > strays(&new);
        }
        if broken || members(old).len() != members(new).len() {
            self.wrong("the journal was rewritten");
        }
    }

    /// What is on the volumes, and who serves it.
    fn data(&mut self, memory: &Memory) {
        let on = |uid: &str| self.database.on(uid).map(|data| data.writes).unwrap_or_default();
        let mut wrong = Vec::new();
        for original in memory.originals.iter().filter(|_| !memory.expired) {
            let writes = on(&original.uid);
            if !writes.contains(BEFORE) || writes.contains(IN_POINT) {
                wrong.push(format!("the original volume of {} has {writes:?}", original.claim));
            }
        }
        let staged: Vec<_> = self.journal().iter().filter_map(|member| member["staged"]["uid"].as_str()).collect();
        if staged.iter().any(|uid| on(uid).contains(BEFORE)) {
            wrong.push("a new volume has what the restore takes back".to_owned());
        }
        let ended = step(&self.restore) == "Ended";
        if ended && memory.since && !memory.originals.is_empty() && !staged.iter().any(|uid| on(uid).contains(SINCE)) {
            wrong.push("what a client wrote after the restore is nowhere".to_owned());
        }
        let restored = ended && !self.back() && self.restore["status"]["cause"].is_null();
        for (id, served) in self.served().into_iter().enumerate().filter(|_| ended && !self.is_meddled()) {
            let writes = served.map(|data| data.writes).unwrap_or_default();
            if writes.contains(IN_POINT) != restored || writes.contains(BEFORE) == restored {
                wrong.push(format!("member {} serves {writes:?} at the end", id + 1));
            }
        }
        for what in wrong {
            self.wrong(what);
        }
    }
}

fn keep_until(restore: &Value) -> Option<DateTime<Utc>> {
    restore["status"]["keepUntil"].as_str()?.parse().ok()
}
