//! Volumes and claims, as the binder of Kubernetes finds them for each other.
//!
//! What a volume holds is in the database, under the volume's UID. In a world without classes, claims exist or do not,
//! and nothing here happens.

use super::controllers::{keys, text};
use super::database::Database;
use super::provisioner;
use crate::apiserver::{Key, Object, Store};
use serde_json::{Value, json};
use std::sync::Arc;

/// Annotation of a claim: it was bound once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of a claim or a volume: the controller chose the other one.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of a claim: the node of the pod that waits for it.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Key of a claim.
pub fn claim_key(namespace: &str, name: &str) -> Key {
    Key { kind: "PersistentVolumeClaim", namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Key of a volume.
pub fn volume_key(name: &str) -> Key {
    Key { kind: "PersistentVolume", namespace: String::new(), name: name.to_owned() }
}

/// The volume that a claim is bound to, from both sides.
pub fn volume_of(store: &Store, namespace: &str, claim: &str) -> Option<Arc<Object>> {
    let claim = store.get(&claim_key(namespace, claim))?;
    let volume = store.get(&volume_key(text(&claim["spec"]["volumeName"])))?;
    let bound = claim["status"]["phase"] == "Bound" && volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"];
    bound.then(|| Arc::clone(volume))
}

/// One look at all volumes and claims.
pub fn sync(store: &mut Store, database: &Database) {
    if store.list("StorageClass").next().is_none() {
        return;
    }
    for key in keys(store, "PersistentVolume") {
        sync_volume(store, database, &key);
    }
    for key in keys(store, "PersistentVolumeClaim") {
        sync_claim(store, &key);
    }
    provisioner::protect(store);
}

fn sync_volume(store: &mut Store, database: &Database, key: &Key) {
    let volume = store.get(key).unwrap().clone();
    let wanted = &volume["spec"]["claimRef"];
    if text(&wanted["uid"]).is_empty() {
        // Nobody's, or reserved for a claim that may come.
        return set_phase(store, key, "Available");
    }
    let claim = store.get(&claim_key(text(&wanted["namespace"]), text(&wanted["name"])));
    let claim = claim.filter(|claim| claim["metadata"]["uid"] == wanted["uid"]);
    match claim.map(|claim| text(&claim["spec"]["volumeName"]).to_owned()).as_deref() {
        None => provisioner::reclaim(store, database, &volume),
        // The claim does it.
        Some("") => {}
        Some(name) if name == key.name => set_phase(store, key, "Bound"),
        Some(_) if provisioner::deletes(&volume) => provisioner::reclaim(store, database, &volume),
        Some(_) => unbind(store, key),
    }
}

/// The claim that a volume waits for is bound to another one.
fn unbind(store: &mut Store, key: &Key) {
    let unbound = store.change(key, |volume| {
        let by_controller = volume["metadata"]["annotations"][BOUND_BY_CONTROLLER].is_string();
        let (part, field) = if by_controller { ("/spec", "claimRef") } else { ("/spec/claimRef", "uid") };
        volume.pointer_mut(part).unwrap().as_object_mut().unwrap().remove(field);
        if by_controller {
            volume["metadata"]["annotations"].as_object_mut().unwrap().remove(BOUND_BY_CONTROLLER);
        }
        volume["status"]["phase"] = json!("Available");
    });
    unbound.unwrap();
}

fn sync_claim(store: &mut Store, key: &Key) {
    let claim = store.get(key).unwrap().clone();
    let named = store.get(&volume_key(text(&claim["spec"]["volumeName"]))).cloned();
    let reserved = |volume: &Value| !volume["spec"]["claimRef"].is_null();
    if claim["metadata"]["annotations"][BIND_COMPLETED].is_string() {
        let own = |volume: &Value| volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"];
        match named.filter(|volume| own(volume) || !reserved(volume)) {
            Some(volume) => bind(store, &volume, &claim),
            None => set_phase(store, key, "Lost"),
        }
        return;
    }
    if !text(&claim["spec"]["volumeName"]).is_empty() {
        // A volume that another claim has, or that is not there, is waited for.
        let free = |volume: &Value| !reserved(volume) && fits(volume, &claim) && is_of_class(volume, &claim);
        if let Some(volume) = named.filter(|volume| is_meant_for(volume, &claim) || free(volume)) {
            bind(store, &volume, &claim);
        }
        return;
    }
    let delayed = provisioner::waits_for_consumer(store, &claim);
    match best_match(store, &claim, delayed).cloned() {
        Some(volume) => bind(store, &volume, &claim),
        None if delayed => {}
        None => provisioner::provision(store, &claim),
    }
}

/// Whether a volume names this claim: by its name, and by its UID if it names one.
fn is_meant_for(volume: &Value, claim: &Value) -> bool {
    let (wanted, meta) = (&volume["spec"]["claimRef"], &claim["metadata"]);
    let by_name = wanted["name"] == meta["name"] && wanted["namespace"] == meta["namespace"];
    by_name && (text(&wanted["uid"]).is_empty() || wanted["uid"] == meta["uid"])
}

/// The volume that was reserved for a claim, or else the smallest one that anybody may take.
fn best_match<'a>(store: &'a Store, claim: &Value, delayed: bool) -> Option<&'a Arc<Object>> {
    let all = || {
        let volumes = store.objects().filter(|object| object["kind"] == "PersistentVolume");
        volumes.filter(|volume| fits(volume, claim) && volume["metadata"]["deletionTimestamp"].is_null())
    };
    if let Some(reserved) = all().find(|volume| is_meant_for(volume, claim)) {
        return Some(reserved);
    }
    let node = claim["metadata"]["annotations"][SELECTED_NODE].as_str();
    let free = |volume: &&Arc<Object>| {
        volume["spec"]["claimRef"].is_null()
            && volume["status"]["phase"] == "Available"
            && is_of_class(volume, claim)
            && node.is_none_or(|node| is_on(volume, node))
    };
    all().filter(|_| !delayed).filter(free).min_by_key(|volume| bytes(&volume["spec"]["capacity"]["storage"]))
}

/// Whether a volume has the size, the mode and the access that a claim wants.
fn fits(volume: &Value, claim: &Value) -> bool {
    let (has, wants) = (&volume["spec"], &claim["spec"]);
    let modes = |spec: &Value| spec["accessModes"].as_array().cloned().unwrap_or_default();
    let has_modes = modes(has);
    bytes(&has["capacity"]["storage"]) >= bytes(&wants["resources"]["requests"]["storage"])
        && has["volumeMode"] == wants["volumeMode"]
        && modes(wants).iter().all(|mode| has_modes.contains(mode))
}

fn is_of_class(volume: &Value, claim: &Value) -> bool {
    text(&volume["spec"]["storageClassName"]) == text(&claim["spec"]["storageClassName"])
}

/// Whether a volume can be reached from a node.
pub fn is_on(volume: &Value, node: &str) -> bool {
    node_of(volume).is_none_or(|only| only == node)
}

/// The only node from which a volume can be reached, if there is one.
pub fn node_of(volume: &Value) -> Option<&str> {
    volume.pointer("/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0")?.as_str()
}

/// Both sides name each other.
fn bind(store: &mut Store, volume: &Value, claim: &Value) {
    let to_volume = store.change(&Key::of(volume), |volume| {
        let meta = &claim["metadata"];
        if volume["spec"]["claimRef"].is_null() {
            volume["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        if volume["spec"]["claimRef"]["uid"] != meta["uid"] {
            volume["spec"]["claimRef"] = reference(claim);
        }
        volume["status"]["phase"] = json!("Bound");
    });
    to_volume.unwrap();
    let to_claim = store.change(&Key::of(claim), |claim| {
        if text(&claim["spec"]["volumeName"]).is_empty() {
            claim["spec"]["volumeName"] = volume["metadata"]["name"].clone();
            claim["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        claim["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
        claim["status"]["phase"] = json!("Bound");
        claim["status"]["capacity"] = volume["spec"]["capacity"].clone();
        claim["status"]["accessModes"] = volume["spec"]["accessModes"].clone();
    });
    to_claim.unwrap();
}

/// How a volume names its claim.
pub fn reference(claim: &Value) -> Value {
    let meta = &claim["metadata"];
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"], "name": meta["name"],
        "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
    })
}

/// Sets the phase of a volume or a claim.
pub fn set_phase(store: &mut Store, key: &Key, phase: &str) {
    store.change(key, |object| object["status"]["phase"] = json!(phase)).unwrap();
}

/// A quantity, as in `300Mi`; nothing is 0.
pub fn bytes(quantity: &Value) -> u64 {
    let quantity = text(quantity);
    let (number, unit) = quantity.split_at(quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len()));
    let shift = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        _ => panic!("quantity {quantity} is not modelled"),
    };
    number.parse::<u64>().unwrap_or_default() << shift
}
