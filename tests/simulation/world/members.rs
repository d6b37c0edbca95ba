//! The StatefulSet of the members of the database: its pods are the members, and what they serve is on their volumes.

use super::agent::Source;
use super::controllers::{settle, text};
use super::database::{Database, STORE};
use super::ensemble::Data;
use super::volumes::{claim_key, volume_of};
use super::{NAMESPACE, kubelet, provisioner};
use crate::apiserver::{Key, Kind, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Annotation of the StatefulSet: how many replicas people want. The operator gives them back.
pub const WANTED: &str = "simulation/replicas";
/// Annotation of the StatefulSet: how many members there were at first.
const MEMBERS: &str = "simulation/members";
/// Name of the StatefulSet.
const NAME: &str = "neo4j";
/// Class of the volumes.
pub const CLASS: &str = "xfs";

fn set(replicas: i32) -> Value {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let container = json!({"name": NAME, "image": "registry.example/neo4j:1.8"});
    let storage = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}});
    json!({
        "metadata": {"name": NAME, "annotations": {WANTED: replicas.to_string(), MEMBERS: replicas.to_string()}},
        "spec": {
            "replicas": replicas, "serviceName": NAME, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": storage}],
        },
    })
}

/// Members that are up, with their claims, in a world without classes.
pub fn create(store: &mut Store, replicas: i32) {
    store.create(Kind::named("StatefulSet"), NAMESPACE, set(replicas)).unwrap();
    // The database finds its members in the pods.
    settle(store, &Database::new(&[]));
}

/// Members that are up, each on a volume of its own, after a first write to the database, which must be empty.
/// `change` makes another StatefulSet of the usual one.
pub fn create_on_volumes(store: &mut Store, database: &Database, replicas: i32, change: fn(&mut Value)) {
    provisioner::create_class(store, CLASS, true, true);
    let mut set = set(replicas);
    change(&mut set);
    store.create(Kind::named("StatefulSet"), NAMESPACE, set).unwrap();
    settle(store, database);
    database.ensemble(|ensemble| ensemble.spread(&Data::new(STORE, 42, &["before"])));
}

/// The StatefulSet.
pub fn key() -> Key {
    Key { kind: "StatefulSet", namespace: NAMESPACE.to_owned(), name: NAME.to_owned() }
}

/// What somebody does with `kubectl scale`.
pub fn scale(store: &mut Store, replicas: u32) {
    let scaled = store.change(&key(), |set| {
        set["spec"]["replicas"] = json!(replicas);
        set["metadata"]["annotations"][WANTED] = json!(replicas.to_string());
    });
    scaled.unwrap();
}

/// The ordinal in the name of a pod.
pub fn ordinal(pod: &str) -> Option<i64> {
    pod.rsplit_once('-')?.1.parse().ok()
}

/// The id of the member that runs in a pod, if one does.
pub fn id_of(pod: &Value) -> Option<i32> {
    let owner = &pod["metadata"]["ownerReferences"][0];
    let is_member = owner["kind"] == "StatefulSet" && owner["name"] == NAME;
    ordinal(text(&pod["metadata"]["name"])).filter(|_| is_member).map(|ordinal| i32::try_from(ordinal + 1).unwrap())
}

/// What the store of a member is on: its volume, or its claim in a world without volumes.
pub fn disk_of(store: &Store, pod: &Value) -> String {
    let (namespace, claim) = (text(&pod["metadata"]["namespace"]), kubelet::claims(pod).next().unwrap_or_default());
    let uid = |meta: &Value| text(&meta["uid"]).to_owned();
    let of_claim = || store.get(&claim_key(namespace, claim)).map(|claim| uid(&claim["metadata"]));
    volume_of(store, namespace, claim).map(|volume| uid(&volume["metadata"])).or_else(of_claim).unwrap_or_default()
}

/// The database learns which pods its members are, and whose sessions are over.
pub fn register(store: &Store, database: &Database) {
    let pods = || store.list("Pod").filter_map(|pod| Some((id_of(pod)?, pod)));
    if store.get(&key()).is_none() && pods().next().is_none() {
        return;
    }
    database.ensemble(|ensemble| {
        for (id, pod) in pods().filter(|(_, pod)| kubelet::is_ready(pod)) {
            ensemble.adopt(id, text(&pod["metadata"]["uid"]), &disk_of(store, pod));
        }
        ensemble.retain(&pods().map(|(_, pod)| text(&pod["metadata"]["uid"])).collect::<BTreeSet<_>>());
    });
}

/// What an agent that copies the last member sees of its store: how often it was started again, while it does not run.
/// Without the StatefulSet no member runs.
pub fn source(store: &Store) -> Source {
    let Some(set) = store.get(&key()) else { return Some(0) };
    let members: i64 = text(&set["metadata"]["annotations"][MEMBERS]).parse().ok()?;
    let pod = Key { kind: "Pod", namespace: NAMESPACE.to_owned(), name: format!("{NAME}-{}", members - 1) };
    store.get(&pod).is_none().then(|| i64::from(store.births(&pod)) - 1)
}

/// Whoever's cluster lacks a member has a record that puts it back.
pub fn broken(store: &Store) -> Option<String> {
    let set = store.get(&key())?;
    let wanted: i64 = text(&set["metadata"]["annotations"][WANTED]).parse().ok()?;
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
