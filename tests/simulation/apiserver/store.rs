//! Objects, their versions, and the log of their changes.

use super::apply;
use super::defaults;
use super::deletion::{self, DeleteOptions, finalizers, is_held};
use super::kinds::{Kind, Scope};
use super::object::Object;
use super::refusal::Refusal;
use super::validate::{validate, validate_change, validate_namespace};
use crate::clock::Clock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use tokio::sync::watch;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// CamelCase kind.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of a stored object.
    pub fn of(object: &Value) -> Self {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let kind = Kind::named(object["kind"].as_str().unwrap()).name;
        Self { kind, namespace: text("namespace"), name: text("name") }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of the log that watches are served from.
#[derive(Clone, Debug)]
pub struct Change {
    /// Resource version of the change.
    pub version: u64,
    /// What happened.
    pub what: ChangeType,
    /// The object after the change, or as it was last.
    pub object: Arc<Object>,
}

/// All objects of one API server.
pub struct Store {
    clock: Clock,
    objects: BTreeMap<Key, Arc<Object>>,
    births: BTreeMap<Key, u32>,
    changes: Vec<Change>,
    version: u64,
    oldest: u64,
    applied: BTreeMap<(String, String), Arc<Object>>,
    news: watch::Sender<u64>,
}

impl Store {
    /// An empty store.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            objects: BTreeMap::new(),
            births: BTreeMap::new(),
            changes: Vec::new(),
            version: 0,
            oldest: 0,
            applied: BTreeMap::new(),
            news: watch::Sender::new(0),
        }
    }

    /// The same objects with the same history, in a time of their own.
    pub fn fork(&self, clock: Clock) -> Self {
        Self {
            clock,
            objects: self.objects.clone(),
            births: self.births.clone(),
            changes: self.changes.clone(),
            version: self.version,
            oldest: self.oldest,
            applied: self.applied.clone(),
            news: watch::Sender::new(self.version),
        }
    }

    /// Describes everything that decides what the server answers from now on to who knows the present.
    pub fn describe(&self, out: &mut String) {
        write!(out, "version {}", self.version).unwrap();
        for (key, births) in &self.births {
            let object = self.objects.get(key).map_or(0, |object| object.fingerprint());
            write!(out, " {} {}/{} {births} {object:x}", key.kind, key.namespace, key.name).unwrap();
        }
        for ((uid, manager), applied) in &self.applied {
            write!(out, " {uid} {manager} {:x}", applied.fingerprint()).unwrap();
        }
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// How often an object of this name was created.
    pub fn births(&self, key: &Key) -> u32 {
        self.births.get(key).copied().unwrap_or_default()
    }

    /// All objects of a kind, by name.
    pub fn list(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |(key, _)| key.kind == kind).map(|(_, object)| &***object)
    }

    /// An object as it was before a change; nothing if it was not there.
    pub fn before(&self, change: &Change) -> Option<&Arc<Object>> {
        let (key, earlier) = (change.object.key(), self.changes.partition_point(|it| it.version < change.version));
        let last = self.changes[..earlier].iter().rev().find(|it| it.object.key() == key)?;
        (last.what != ChangeType::Deleted).then_some(&last.object)
    }

    /// Everything.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// Version of the newest change.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Changes after a version; `None` when the log does not reach back so far.
    pub fn changes_since(&self, version: u64) -> Option<&[Change]> {
        if version < self.oldest {
            return None;
        }
        let start = self.changes.partition_point(|change| change.version <= version);
        Some(&self.changes[start..])
    }

    /// How many changes objects of a kind have had.
    pub fn changes_of(&self, kind: &str) -> usize {
        self.changes.iter().filter(|change| change.object.key().kind == kind).count()
    }

    /// All objects of a kind as they were after so many changes of that kind.
    pub fn after_changes(&self, kind: &str, count: usize) -> Vec<Arc<Object>> {
        let mut objects = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.object.key().kind == kind).take(count) {
            match change.what {
                ChangeType::Deleted => objects.remove(change.object.key()),
                ChangeType::Added | ChangeType::Modified => {
                    objects.insert(change.object.key(), Arc::clone(&change.object))
                }
            };
        }
        objects.into_values().collect()
    }

    /// Every change of one object, oldest first.
    pub fn history(&self, key: &Key) -> Vec<&Change> {
        self.changes.iter().filter(|change| change.object.key() == key).collect()
    }

    /// Forgets the log, as a real server does after some minutes: watches from before get 410.
    pub fn compact(&mut self) {
        self.oldest = self.version;
        self.changes.clear();
    }

    /// Tells about new changes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Creates an object.
    pub fn create(&mut self, kind: &'static Kind, namespace: &str, mut object: Value) -> Result<Arc<Object>, Refusal> {
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.name);
        if kind.scope == Scope::Namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let key = Key::of(&object);
        if self.objects.contains_key(&key) {
            let message = format!("{} {:?} already exists", key.kind, key.name);
            return Err(Refusal { code: 409, reason: "AlreadyExists", message });
        }
        validate(&object)?;
        let home = Key { kind: "Namespace", namespace: String::new(), name: key.namespace.clone() };
        validate_namespace(&object, self.objects.get(&home).map(|home| &***home))?;
        let births = self.births.entry(key.clone()).or_default();
        *births += 1;
        let meta = &mut object["metadata"];
        meta["uid"] = json!(uid(&key, *births));
        meta["creationTimestamp"] = json!(self.clock.now().format("%Y-%m-%dT%H:%M:%SZ").to_string());
        if kind.counts_generations {
            meta["generation"] = json!(1);
        }
        if kind.has_status {
            object.as_object_mut().unwrap().remove("status");
        }
        defaults::fill(&mut object, &self.list("StorageClass").collect::<Vec<_>>());
        Ok(self.put(key, object, ChangeType::Added))
    }

    /// Changes an object; a change that changes nothing has no version.
    pub fn change(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) -> Result<Arc<Object>, Refusal> {
        let before = self.objects.get(key).ok_or_else(|| Refusal::not_found(key))?;
        let mut after = Value::clone(before);
        edit(&mut after);
        if after == ***before {
            return Ok(Arc::clone(before));
        }
        let kind = Kind::named(key.kind);
        if after["spec"] != before["spec"] {
            if kind.frozen_spec && frozen(&after["spec"]) != frozen(&before["spec"]) {
                return Err(Refusal::invalid("the spec cannot be changed"));
            }
            if kind.counts_generations {
                after["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
        }
        validate(&after)?;
        validate_change(before, &after)?;
        if !after["metadata"]["deletionTimestamp"].is_null() {
            if !is_held(&after) {
                return Ok(self.remove(key));
            }
            if !finalizers(&after).all(|finalizer| finalizers(before).any(|old| old == finalizer)) {
                return Err(Refusal::invalid("no new finalizers can be added if the object is being deleted"));
            }
        }
        Ok(self.put(key.clone(), after, ChangeType::Modified))
    }

    /// Server-side apply to the status subresource, with force.
    pub fn apply_status(&mut self, key: &Key, manager: &str, patch: &Value) -> Result<Arc<Object>, Refusal> {
        let live = self.objects.get(key).ok_or_else(|| Refusal::not_found(key))?;
        let meta = &live["metadata"];
        for field in ["resourceVersion", "uid"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != meta[field] {
                return Err(Refusal::conflict(format!("{field} is {}, not {wanted}", meta[field])));
            }
        }
        let (uid, applied) = (meta["uid"].as_str().unwrap().to_owned(), &patch["status"]);
        if apply::names_an_item_twice(applied) {
            let message = "failed to create typed patch object: duplicate entries".to_owned();
            return Err(Refusal { code: 500, reason: "", message });
        }
        let mut last =
            self.applied.get(&(uid.clone(), manager.to_owned())).map_or(Value::Null, |last| Value::clone(last));
        let mut owned = Vec::from([((uid.clone(), manager.to_owned()), Object::new(applied.clone()))]);
        for (owner, theirs) in self.applied.iter().filter(|((of, by), _)| *of == uid && by != manager) {
            let mut kept = Value::clone(theirs);
            apply::give_up(&mut kept, applied);
            apply::keep(&mut last, &kept);
            owned.push((owner.clone(), Object::new(kept)));
        }
        let changed = self.change(key, |object| apply::merge(&mut object["status"], &last, applied))?;
        self.applied.extend(owned);
        Ok(changed)
    }

    /// A merge patch of the scale subresource, for a version that must be given.
    pub fn scale(&mut self, key: &Key, patch: &Value) -> Result<Arc<Object>, Refusal> {
        let live = self.objects.get(key).ok_or_else(|| Refusal::not_found(key))?;
        let wanted = patch["metadata"]["resourceVersion"].as_str().unwrap();
        if live["metadata"]["resourceVersion"] != wanted {
            return Err(Refusal::conflict("the object has been modified"));
        }
        let replicas = patch["spec"]["replicas"].as_u64().unwrap();
        self.change(key, |object| object["spec"]["replicas"] = json!(replicas))
    }

    /// A merge patch of the object itself.
    pub fn merge(&mut self, key: &Key, patch: &Value) -> Result<Arc<Object>, Refusal> {
        let live = self.objects.get(key).ok_or_else(|| Refusal::not_found(key))?;
        let wanted = &patch["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != live["metadata"]["resourceVersion"] {
            return Err(Refusal::conflict("the object has been modified"));
        }
        let mut patch = patch.clone();
        if Kind::named(key.kind).has_status {
            // It is written through its own resource only.
            patch.as_object_mut().unwrap().remove("status");
        }
        self.change(key, |object| {
            apply::merge_patch(object, &patch);
            if finalizers(object).next().is_none() {
                object["metadata"].as_object_mut().unwrap().remove("finalizers");
            }
        })
    }

    /// A merge patch of the status, for a version that must be given.
    pub fn merge_status(&mut self, key: &Key, patch: &Value) -> Result<Arc<Object>, Refusal> {
        let live = self.objects.get(key).ok_or_else(|| Refusal::not_found(key))?;
        if live["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
            return Err(Refusal::conflict("the object has been modified"));
        }
        self.change(key, |object| apply::merge_patch(object, &json!({"status": patch["status"]})))
    }

    /// Deletes an object, or marks it as long as a finalizer holds it: then it is a change of what is wanted, and the
    /// object is given.
    pub fn delete(&mut self, key: &Key, options: &DeleteOptions) -> Result<Option<Arc<Object>>, Refusal> {
        let object = self.objects.get(key).ok_or_else(|| Refusal::not_found(key))?;
        let meta = &object["metadata"];
        for (wanted, field) in [(&options.uid, "uid"), (&options.resource_version, "resourceVersion")] {
            if wanted.is_some() && wanted.as_deref() != meta[field].as_str() {
                return Err(Refusal::conflict(format!("the {field} in the precondition is not the object's")));
            }
        }
        let grace = deletion::grace(object, options);
        if finalizers(object).next().is_none() && grace.is_none() {
            self.remove(key);
            return Ok(None);
        }
        if !meta["deletionTimestamp"].is_null() {
            return match grace {
                Some(_) => Ok(Some(Arc::clone(object))),
                None => self.change(key, deletion::let_go).map(Some),
            };
        }
        let now = self.clock.now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.change(key, |object| deletion::mark(object, &now, grace)).map(Some)
    }

    /// Deletes what is owned only by objects that are gone.
    pub fn collect_garbage(&mut self) {
        for key in self.orphans() {
            // A finalizer may still hold it.
            let _ = self.delete(&key, &DeleteOptions::default());
        }
    }

    /// Whether there is anything that is owned only by objects that are gone.
    pub fn has_orphans(&self) -> bool {
        !self.orphans().is_empty()
    }

    fn orphans(&self) -> Vec<Key> {
        let alive: BTreeSet<Option<&str>> =
            self.objects.values().map(|object| object["metadata"]["uid"].as_str()).collect();
        // One that is deleted already waits for whoever holds it.
        let orphan = |object: &&Arc<Object>| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            let there = object["metadata"]["deletionTimestamp"].is_null();
            there
                && owners.is_some_and(|owners| {
                    !owners.is_empty() && !owners.iter().any(|owner| alive.contains(&owner["uid"].as_str()))
                })
        };
        self.objects.values().filter(orphan).map(|object| Key::of(object)).collect()
    }

    fn put(&mut self, key: Key, object: Value, what: ChangeType) -> Arc<Object> {
        let object = self.log(object, what);
        self.objects.insert(key, Arc::clone(&object));
        object
    }

    fn remove(&mut self, key: &Key) -> Arc<Object> {
        let object = Value::clone(&self.objects.remove(key).unwrap());
        self.log(object, ChangeType::Deleted)
    }

    fn log(&mut self, mut object: Value, what: ChangeType) -> Arc<Object> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Object::new(object);
        self.changes.push(Change { version: self.version, what, object: Arc::clone(&object) });
        self.news.send_replace(self.version);
        object
    }
}

/// What may not change of a spec.
fn frozen(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("deletionPolicy");
    }
    spec
}

/// The same in every run for the same object, and different for the next object of the same name.
fn uid(key: &Key, birth: u32) -> String {
    let hex = hex_digest(&format!("{}/{}/{}/{birth}", key.kind, key.namespace, key.name));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// SHA-256 of a text in hexadecimal.
pub fn hex_digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
