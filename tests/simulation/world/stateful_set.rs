//! The StatefulSet controller: pods in order, claims that are made and may be deleted, scaling and updates.
//!
//! Coarser than the real one: no partitions, no `minReadySeconds`, pods without an owner are not adopted, and a new pod
//! is always of the newest revision.

use super::claims_of_set::{self as claims, Refused};
use super::controllers::text;
use super::kubelet::is_ready;
use super::members::ordinal;
use crate::apiserver::{DeleteOptions, Key, Kind, Object, Store, hex_digest};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;

/// Label of pods: the revision that they were made of.
const REVISION: &str = "controller-revision-hash";

/// What becomes of the rest after one pod was looked at.
#[derive(PartialEq)]
enum Then {
    /// The others are looked at.
    GoOn,
    /// They wait, if they start in order.
    Wait,
    /// Nothing else is done, in whatever order they start.
    Stop,
}

/// One look at a StatefulSet.
pub fn sync(store: &mut Store, key: &Key) {
    let Some(set) = store.get(key).cloned() else { return };
    if set["metadata"]["deletionTimestamp"].is_null() {
        work(store, &set);
    }
    write_status(store, &set);
}

/// The ordinals that a StatefulSet wants.
pub fn wanted(set: &Value) -> Range<i64> {
    let first = set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
    first..first + set["spec"]["replicas"].as_i64().unwrap_or(1)
}

/// The pods of a StatefulSet, by ordinal.
fn pods_of(store: &Store, set: &Value) -> Vec<(i64, Arc<Object>)> {
    let pods = store.objects().filter(|object| object["kind"] == "Pod");
    let own = pods.filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"]);
    let with_ordinal = |pod: &Arc<Object>| Some((ordinal(text(&pod["metadata"]["name"]))?, Arc::clone(pod)));
    let mut pods: Vec<_> = own.filter_map(with_ordinal).collect();
    pods.sort_by_key(|(ordinal, _)| *ordinal);
    pods
}

fn pod_key(set: &Value, ordinal: i64) -> Key {
    let (name, namespace) = (text(&set["metadata"]["name"]), text(&set["metadata"]["namespace"]));
    Key { kind: "Pod", namespace: namespace.to_owned(), name: format!("{name}-{ordinal}") }
}

/// Name of the revision of a StatefulSet.
fn revision(set: &Value) -> String {
    let hash = hex_digest(&set["spec"]["template"].to_string());
    format!("{}-{}", text(&set["metadata"]["name"]), &hash[..10])
}

fn is_going(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_healthy(pod: &Value) -> bool {
    is_ready(pod) && !is_going(pod)
}

fn work(store: &mut Store, set: &Value) {
    let ordered = set["spec"]["podManagementPolicy"] != "Parallel";
    for ordinal in wanted(set) {
        match look_at(store, set, ordinal, ordered) {
            Then::GoOn => {}
            Then::Wait if !ordered => {}
            Then::Wait | Then::Stop => return,
        }
    }
    let pods = pods_of(store, set);
    let condemned: Vec<_> = pods.iter().rev().filter(|(ordinal, _)| !wanted(set).contains(ordinal)).collect();
    for (ordinal, pod) in &condemned {
        claims::own(store, set, *ordinal, pod);
    }
    // Only the first pod that is not ready may go without being ready.
    let unhealthy = condemned.iter().rev().find(|(_, pod)| !is_healthy(pod)).map(|(ordinal, _)| *ordinal);
    for (ordinal, pod) in condemned {
        if ordered && (is_going(pod) || (!is_ready(pod) && unhealthy != Some(*ordinal))) {
            return;
        }
        if !is_going(pod) {
            delete(store, pod);
            if ordered {
                return;
            }
        }
    }
    if set["spec"]["updateStrategy"]["type"] != "OnDelete" {
        update(store, set);
    }
}

/// Replaces the last pod that is of an old revision.
fn update(store: &mut Store, set: &Value) {
    let newest = revision(set);
    for ordinal in wanted(set).rev() {
        let Some(pod) = store.get(&pod_key(set, ordinal)).cloned() else { return };
        if pod["metadata"]["labels"][REVISION] != newest.as_str() && !is_going(&pod) {
            delete(store, &pod);
            return;
        }
        if !is_healthy(&pod) {
            return;
        }
    }
}

/// One pod that is wanted.
fn look_at(store: &mut Store, set: &Value, ordinal: i64, ordered: bool) -> Then {
    let key = pod_key(set, ordinal);
    let pod = match store.get(&key).cloned() {
        None => {
            if claims::are_stale(store, set, ordinal) {
                return Then::Wait;
            }
            if claims::make(store, set, ordinal).is_err() {
                return Then::Stop;
            }
            let pod = store.create(Kind::named("Pod"), &key.namespace, pod_of(set, ordinal)).unwrap();
            claims::own(store, set, ordinal, &pod);
            if ordered {
                return Then::Wait;
            }
            pod
        }
        Some(pod) if pod["metadata"]["ownerReferences"][0]["uid"] != set["metadata"]["uid"] => return Then::Stop,
        Some(pod) => pod,
    };
    match text(&pod["status"]["phase"]) {
        "Succeeded" | "Failed" => {
            if !is_going(&pod) {
                delete(store, &pod);
            }
            return Then::Wait;
        }
        "Running" => {}
        _ => {
            if let Err(Refused) = claims::make(store, set, ordinal) {
                return Then::Stop;
            }
        }
    }
    if ordered && (is_going(&pod) || !is_ready(&pod)) {
        return Then::Wait;
    }
    claims::own(store, set, ordinal, &pod);
    Then::GoOn
}

fn delete(store: &mut Store, pod: &Value) {
    let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
    let _ = store.delete(&Key::of(pod), &DeleteOptions { uid, ..DeleteOptions::default() });
}

fn pod_of(set: &Value, ordinal: i64) -> Value {
    let (meta, template) = (&set["metadata"], &set["spec"]["template"]);
    let name = pod_key(set, ordinal).name;
    let mut labels = template["metadata"]["labels"].clone();
    labels["statefulset.kubernetes.io/pod-name"] = json!(name);
    labels["apps.kubernetes.io/pod-index"] = json!(ordinal.to_string());
    labels[REVISION] = json!(revision(set));
    let mut spec = template["spec"].clone();
    let mut volumes: Vec<Value> = spec["volumes"].as_array().cloned().unwrap_or_default();
    for (template, claim) in claims::names(set, ordinal) {
        volumes.retain(|volume| volume["name"] != template.as_str());
        volumes.push(json!({"name": template, "persistentVolumeClaim": {"claimName": claim}}));
    }
    spec["volumes"] = json!(volumes);
    spec["hostname"] = json!(name);
    let mut annotations = template["metadata"]["annotations"].clone();
    if annotations.is_null() {
        annotations = json!({});
    }
    let owner = claims::owner("apps/v1", "StatefulSet", meta);
    let meta = json!({"name": name, "labels": labels, "annotations": annotations, "ownerReferences": [owner]});
    json!({"metadata": meta, "spec": spec})
}

fn write_status(store: &mut Store, set: &Value) {
    let (pods, newest) = (pods_of(store, set), revision(set));
    let count = |which: &dyn Fn(&Value) -> bool| pods.iter().filter(|(_, pod)| which(pod)).count();
    let ready = count(&|pod| is_ready(pod));
    let updated = count(&|pod| pod["metadata"]["labels"][REVISION] == newest.as_str() && !is_going(pod));
    let replicas = pods.len();
    let wanted = wanted(set).count();
    let complete = [replicas, ready, updated].iter().all(|count| *count == wanted);
    let old = &set["status"]["currentRevision"];
    let on_delete = set["spec"]["updateStrategy"]["type"] == "OnDelete";
    let current = if old.is_null() || (complete && !on_delete) { json!(newest) } else { old.clone() };
    let of_current = count(&|pod| pod["metadata"]["labels"][REVISION] == current && !is_going(pod));
    let status = json!({
        "observedGeneration": set["metadata"]["generation"], "replicas": replicas, "readyReplicas": ready,
        "availableReplicas": ready, "currentReplicas": of_current, "updatedReplicas": updated,
        "currentRevision": current, "updateRevision": newest, "collisionCount": 0,
    });
    let _ = store.change(&Key::of(set), |set| set["status"] = status);
}
