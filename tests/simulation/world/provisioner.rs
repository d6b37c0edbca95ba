//! How volumes come and go: the provisioner of the classes, what becomes of a volume whose claim is gone, and what
//! holds a claim or a volume that was deleted.

use super::controllers::{keys, text};
use super::database::Database;
use super::kubelet;
use super::volumes::{SELECTED_NODE, reference, set_phase, volume_key};
use crate::apiserver::{DeleteOptions, Key, Kind, Store, finalizers};
use serde_json::{Value, json};

/// Annotation of a volume: who made it, and removes it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Annotation of a claim: who is to make its volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The provisioner of a class that has none.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// What holds claims that pods use.
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// What holds volumes that are bound.
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// A class: of claims that name none, if it is the default, and with volumes made when the first pod needs them, if it
/// waits.
pub fn create_class(store: &mut Store, name: &str, is_default: bool, waits: bool) {
    let mode = if waits { "WaitForFirstConsumer" } else { "Immediate" };
    let class = json!({
        "metadata": {"name": name, "annotations": {
            "storageclass.kubernetes.io/is-default-class": is_default.to_string(),
        }},
        "provisioner": "simulation/disks", "reclaimPolicy": "Delete", "volumeBindingMode": mode,
    });
    store.create(Kind::named("StorageClass"), "", class).unwrap();
}

fn class_of<'a>(store: &'a Store, claim: &Value) -> Option<&'a Value> {
    let name = text(&claim["spec"]["storageClassName"]);
    store.list("StorageClass").find(|class| class["metadata"]["name"] == name)
}

/// Whether the class of a claim waits for a pod that uses it.
pub fn is_delayed(store: &Store, claim: &Value) -> bool {
    class_of(store, claim).is_some_and(|class| class["volumeBindingMode"] == "WaitForFirstConsumer")
}

/// Whether it does, and no node has been chosen for that pod yet.
pub fn waits_for_consumer(store: &Store, claim: &Value) -> bool {
    is_delayed(store, claim) && claim["metadata"]["annotations"][SELECTED_NODE].is_null()
}

/// Asks for the volume of a claim, and makes it later. The binder finds it by its claim.
pub fn provision(store: &mut Store, claim: &Value) {
    let Some(class) = class_of(store, claim).cloned() else { return };
    if class["provisioner"] == NO_PROVISIONER {
        return;
    }
    if claim["metadata"]["annotations"][PROVISIONER].is_null() {
        let ask = |claim: &mut Value| claim["metadata"]["annotations"][PROVISIONER] = class["provisioner"].clone();
        store.change(&Key::of(claim), ask).unwrap();
        return;
    }
    let name = format!("pvc-{}", text(&claim["metadata"]["uid"]));
    if store.get(&volume_key(&name)).is_some() {
        return;
    }
    let spec = &claim["spec"];
    let mut volume = json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: class["provisioner"]}},
        "spec": {
            "storageClassName": spec["storageClassName"], "volumeMode": spec["volumeMode"],
            "accessModes": spec["accessModes"], "capacity": spec["resources"]["requests"],
            "persistentVolumeReclaimPolicy": class["reclaimPolicy"].as_str().unwrap_or("Delete"),
            "claimRef": reference(claim), "local": {"path": format!("/volumes/{name}")},
        },
    });
    if let Some(node) = claim["metadata"]["annotations"][SELECTED_NODE].as_str() {
        let host = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        let terms = json!([{"matchExpressions": [host]}]);
        volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
    store.create(Kind::named("PersistentVolume"), "", volume).unwrap();
}

/// Whether a volume goes when its claim has gone.
pub fn deletes(volume: &Value) -> bool {
    volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        && volume["metadata"]["annotations"][PROVISIONED_BY].is_string()
}

/// The claim of a volume is gone: the volume is released, and then goes with its data or stays.
pub fn reclaim(store: &mut Store, database: &Database, volume: &Value) {
    let key = Key::of(volume);
    match volume["status"]["phase"].as_str() {
        Some("Released") if deletes(volume) => {
            if volume["metadata"]["deletionTimestamp"].is_null() {
                database.erase(text(&volume["metadata"]["uid"]));
                store.delete(&key, &DeleteOptions::default()).unwrap();
            }
        }
        Some("Released") if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete" => {
            // Nobody knows how to.
            set_phase(store, &key, "Failed");
        }
        Some("Released" | "Failed") => {}
        _ => set_phase(store, &key, "Released"),
    }
}

/// Lets go of what was deleted: claims that no pod uses, and volumes that are not bound.
pub fn protect(store: &mut Store) {
    for (kind, finalizer) in [("PersistentVolumeClaim", CLAIM_PROTECTION), ("PersistentVolume", VOLUME_PROTECTION)] {
        for key in keys(store, kind) {
            let object = store.get(&key).unwrap();
            let going = !object["metadata"]["deletionTimestamp"].is_null();
            if going && finalizers(object).any(|held| held == finalizer) && !is_in_use(store, object) {
                store.change(&key, |object| take_off(object, finalizer)).unwrap();
            }
        }
    }
}

/// A pod uses its claims from the time it has a node until it is gone, also when it has ended.
fn is_in_use(store: &Store, object: &Value) -> bool {
    if object["kind"] == "PersistentVolume" {
        return object["status"]["phase"] == "Bound";
    }
    let meta = &object["metadata"];
    let uses = |pod: &Value| {
        pod["metadata"]["namespace"] == meta["namespace"]
            && pod["spec"]["nodeName"].is_string()
            && kubelet::claims(pod).any(|claim| meta["name"] == claim)
    };
    store.list("Pod").any(uses)
}

fn take_off(object: &mut Value, finalizer: &str) {
    let meta = object["metadata"].as_object_mut().unwrap();
    let list = meta["finalizers"].as_array_mut().unwrap();
    list.retain(|held| held != finalizer);
    if list.is_empty() {
        meta.remove("finalizers");
    }
}
