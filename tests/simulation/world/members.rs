//! The StatefulSet of the members, as its controller and the members make it go on.

use super::NAMESPACE;
use super::agent::Source;
use super::database::Database;
use crate::apiserver::{Change, Key, Kind, Store};
use serde_json::{Value, json};

/// Annotation of the StatefulSet: how many replicas people want. The operator gives them back.
pub const WANTED: &str = "simulation/replicas";
/// Annotation of the StatefulSet: how many members there were at first.
const MEMBERS: &str = "simulation/members";
/// Annotation of the StatefulSet: how often its last member was started again.
const STARTS: &str = "simulation/starts";

/// What happens after its replicas were changed.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// The controller has seen it.
    Seen,
    /// The pods are there, or gone.
    Pods,
    /// The members have joined, or their sessions are over.
    Members,
}

impl Moment {
    /// In order.
    pub const ALL: [Self; 3] = [Self::Seen, Self::Pods, Self::Members];

    /// Seconds after the change.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Seen => 1,
            Self::Pods => 12,
            Self::Members => 14,
        }
    }
}

/// Three members that are up, and the claim of the last one.
pub fn create(store: &mut Store, replicas: i32) {
    let claim = json!({"metadata": {"name": format!("data-neo4j-{}", replicas - 1)}, "spec": {}});
    store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, claim).unwrap();
    let set = json!({
        "metadata": {"name": "neo4j", "annotations": {WANTED: replicas.to_string(), MEMBERS: replicas.to_string(), STARTS: "0"}},
        "spec": {
            "replicas": replicas, "serviceName": "neo4j", "selector": {}, "template": {},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        },
    });
    store.create(Kind::named("StatefulSet"), NAMESPACE, set).unwrap();
    let status = json!({"observedGeneration": 1, "replicas": replicas, "readyReplicas": replicas});
    store.change(&key(), |set| set["status"] = status).unwrap();
}

/// The StatefulSet.
pub fn key() -> Key {
    Key { kind: "StatefulSet", namespace: NAMESPACE.to_owned(), name: "neo4j".to_owned() }
}

/// What somebody does with `kubectl scale`.
pub fn scale(store: &mut Store, replicas: u32) {
    let scaled = store.change(&key(), |set| {
        set["spec"]["replicas"] = json!(replicas);
        set["metadata"]["annotations"][WANTED] = json!(replicas.to_string());
    });
    scaled.unwrap();
}

/// The StatefulSet of a change, if its controller has to do something about it.
pub fn unsettled(change: &Change, store: &Store) -> Option<Key> {
    let key = (change.object["kind"] == "StatefulSet").then(|| Key::of(&change.object))?;
    let set = store.get(&key)?;
    (set["metadata"]["generation"] != set["status"]["observedGeneration"]).then_some(key)
}

/// Every member gets its claims, which stay when it goes.
fn make_claims(store: &mut Store, set: &Value) {
    for template in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        for ordinal in 0..set["spec"]["replicas"].as_i64().unwrap() {
            let meta = &set["metadata"];
            let [template_name, name, namespace] =
                [&template["metadata"]["name"], &meta["name"], &meta["namespace"]].map(|text| text.as_str().unwrap());
            let claim =
                json!({"metadata": {"name": format!("{template_name}-{name}-{ordinal}")}, "spec": template["spec"]});
            // One that is there is used.
            let _ = store.create(Kind::named("PersistentVolumeClaim"), namespace, claim);
        }
    }
}

/// One step of what follows. `hangs`: a member that is told to stop never does. `returns`: one that is started
/// registers.
pub fn go_on(store: &mut Store, key: &Key, moment: Moment, database: &Database, hangs: bool, returns: bool) {
    let Some(set) = store.get(key).cloned() else { return };
    let wanted = set["spec"]["replicas"].clone();
    let stops = wanted.as_i64() < set["status"]["replicas"].as_i64();
    match moment {
        Moment::Seen => {
            if set["status"].is_null() {
                make_claims(store, &set);
            }
            // A member that stops leaves the ensemble first, and closes its store later.
            if let (true, false, Some(stays)) = (stops, hangs, wanted.as_i64()) {
                database.register(i32::try_from(stays).unwrap());
            }
            let generation = set["metadata"]["generation"].clone();
            store.change(key, |set| set["status"]["observedGeneration"] = generation).unwrap();
        }
        Moment::Pods if !(stops && hangs) => {
            let started = wanted.as_i64() == count(&set, MEMBERS) && wanted != set["status"]["replicas"];
            let starts = (count(&set, STARTS).unwrap_or_default() + i64::from(started)).to_string();
            let pods = |set: &mut Value| {
                set["metadata"]["annotations"][STARTS] = json!(starts);
                set["status"]["replicas"] = wanted.clone();
                set["status"]["readyReplicas"] = wanted;
            };
            store.change(key, pods).unwrap();
        }
        Moment::Pods => {}
        Moment::Members => {
            let members = i32::try_from(set["status"]["replicas"].as_i64().unwrap()).unwrap();
            if returns || members < database.registered() {
                database.register(members);
            }
        }
    }
}

fn count(set: &Value, annotation: &str) -> Option<i64> {
    set["metadata"]["annotations"][annotation].as_str()?.parse().ok()
}

/// What an agent that copies the last member sees of its store. Without the StatefulSet no member runs.
pub fn source(store: &Store) -> Source {
    let Some(set) = store.get(&key()) else { return Some(0) };
    (set["status"]["replicas"].as_i64()? < count(set, MEMBERS)?).then(|| count(set, STARTS))?
}

/// Whoever's cluster lacks a member has a record that puts it back.
pub fn broken(store: &Store) -> Option<String> {
    let set = store.get(&key())?;
    let wanted = count(set, WANTED)?;
    let replicas = set["spec"]["replicas"].as_i64()?;
    let away = |backup: &Value| {
        let attempts = backup["status"]["attempts"].as_array();
        let stopped = attempts.and_then(|attempts| attempts.last()).map(|attempt| &attempt["stopped"]);
        stopped.is_some_and(|stopped| stopped.is_object() && stopped["restoredTime"].is_null())
    };
    let recorded = store.list("GraphBackup").any(away);
    match wanted - replicas {
        0 => None,
        1 if recorded => None,
        1 => Some("a member is stopped and nothing tells who starts it".to_owned()),
        _ => Some(format!("{replicas} replicas instead of {wanted}")),
    }
}
