//! The scheduler and the kubelets, for pods that no Job made. Those of Jobs are only held up here, by their claims.
//!
//! A pod that restarts never ends well after a moment; any other one runs on. It is ready at once, unless it is a
//! member of the database, has a probe that ends with `false`, or has a readiness gate that nobody opens.

use super::controllers::{keys, text};
use super::database::Database;
use super::script::Manners;
use super::volumes::{SELECTED_NODE, claim_key, node_of, volume_of};
use super::{members, pods, provisioner};
use crate::apiserver::{Key, Store, let_go};
use serde_json::{Value, json};

/// Annotation of the pod of a Job that has found no node yet.
const WAITS: &str = "simulation/waits";
/// Annotation of a member that hangs in its start.
const HANGS: &str = "simulation/hangs";
/// Seconds that a member needs to join, and to close its store.
const MEMBER_SECONDS: u64 = 10;
/// Seconds that any other pod needs to stop.
const STOP_SECONDS: u64 = 2;
/// The nodes are `node-1` up to this one.
const NODES: i64 = 3;

/// What a kubelet does with a pod at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The pod.
    pub pod: Key,
    /// UID of the pod.
    pub uid: String,
    /// Name of its first owner.
    pub owner: String,
    /// What it does.
    pub moment: Moment,
    /// After so many seconds.
    pub seconds: u64,
}

/// What happens to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The pod of a Job has found its node.
    StartOfJob,
    /// Its containers start.
    Start,
    /// Its containers end well.
    End,
    /// The member in it has joined, or hangs.
    Join,
    /// It was deleted, and its containers have ended.
    Gone,
}

/// Names of the claims that a pod uses.
pub fn claims(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
}

/// Whether a pod runs and is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    pod["status"]["phase"] == "Running"
        && conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// One look at all pods.
pub fn sync(store: &mut Store, database: &Database, manners: Manners) -> Vec<Want> {
    members::register(store, database);
    let mut wants = Vec::new();
    for key in keys(store, "Pod") {
        if let Some((moment, seconds)) = next(store, database, &key, manners) {
            let meta = &store.get(&key).unwrap()["metadata"];
            let owner = text(&meta["ownerReferences"][0]["name"]).to_owned();
            wants.push(Want { pod: key, uid: text(&meta["uid"]).to_owned(), owner, moment, seconds });
        }
    }
    wants
}

fn next(store: &mut Store, database: &Database, key: &Key, manners: Manners) -> Option<(Moment, u64)> {
    let pod = store.get(key)?.clone();
    let annotations = &pod["metadata"]["annotations"];
    if pods::is_of_job(&pod) {
        return (annotations[WAITS].is_string() && schedule(store, &pod)).then_some((Moment::StartOfJob, 1));
    }
    if pod["spec"]["containers"].as_array().is_none_or(Vec::is_empty) || pods::is_on_dead_node(&pod) {
        return None;
    }
    let member = members::id_of(&pod);
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let Some(id) = member else { return Some((Moment::Gone, STOP_SECONDS)) };
        if manners.hang {
            return None;
        }
        // It leaves the ensemble first, and closes its store later.
        database.leave(id, text(&pod["metadata"]["uid"]));
        return Some((Moment::Gone, MEMBER_SECONDS + 1));
    }
    if pod["spec"]["nodeName"].is_null() {
        schedule(store, &pod);
        return None;
    }
    match text(&pod["status"]["phase"]) {
        "Running" if pod["spec"]["restartPolicy"] == "Never" => Some((Moment::End, 1)),
        "Running" if member.is_some() && !is_ready(&pod) && annotations[HANGS].is_null() => {
            Some((Moment::Join, MEMBER_SECONDS))
        }
        "Running" if member.is_none() && may_be_ready(&pod) != is_ready(&pod) => {
            let ready = condition("Ready", may_be_ready(&pod));
            store.change(key, |pod| set_condition(&mut pod["status"]["conditions"], ready)).unwrap();
            None
        }
        "Running" | "Succeeded" | "Failed" => None,
        _ => Some((Moment::Start, 1)),
    }
}

/// Does what is due with a pod.
pub fn go_on(store: &mut Store, want: &Want, database: &Database, manners: Manners) {
    let pod = store.get(&want.pod).filter(|pod| pod["metadata"]["uid"] == want.uid.as_str()).cloned();
    let Some(pod) = pod else { return };
    let going = !pod["metadata"]["deletionTimestamp"].is_null();
    let member = members::id_of(&pod);
    let mut set = |edit: &dyn Fn(&mut Value)| drop(store.change(&want.pod, edit).unwrap());
    match want.moment {
        Moment::Gone => set(&let_go),
        Moment::Start if !going => {
            let ready = member.is_none() && may_be_ready(&pod);
            set(&|pod| pod["status"] = status("Running", ready));
        }
        Moment::End if !going => set(&|pod| pod["status"] = status("Succeeded", false)),
        Moment::Join if !going => {
            let disk = members::disk_of(store, &pod);
            let joins = !manners.stay_away && database.join(member.unwrap(), &want.uid, &disk);
            let joined = |pod: &mut Value| {
                if joins {
                    pod["status"] = status("Running", true);
                } else {
                    pod["metadata"]["annotations"][HANGS] = json!("true");
                }
            };
            store.change(&want.pod, joined).unwrap();
        }
        Moment::StartOfJob | Moment::Start | Moment::End | Moment::Join => {}
    }
}

fn status(phase: &str, ready: bool) -> Value {
    json!({"phase": phase, "conditions": [condition("PodScheduled", true), condition("Ready", ready)]})
}

fn condition(kind: &str, holds: bool) -> Value {
    json!({"type": kind, "status": if holds { "True" } else { "False" }})
}

fn set_condition(conditions: &mut Value, condition: Value) {
    let conditions = conditions.as_array_mut().unwrap();
    match conditions.iter_mut().find(|other| other["type"] == condition["type"]) {
        Some(other) => *other = condition,
        None => conditions.push(condition),
    }
}

/// Whether the probe of a pod succeeds and its readiness gates are open.
fn may_be_ready(pod: &Value) -> bool {
    let probe = &pod["spec"]["containers"][0]["readinessProbe"]["exec"]["command"];
    let fails = probe.as_array().and_then(|words| words.last()).is_some_and(|word| word == "false");
    let conditions = pod["status"]["conditions"].as_array();
    let is_open = |gate: &Value| {
        let open = |it: &Value| it["type"] == gate["conditionType"] && it["status"] == "True";
        conditions.is_some_and(|conditions| conditions.iter().any(open))
    };
    !fails && pod["spec"]["readinessGates"].as_array().into_iter().flatten().all(is_open)
}

/// Whether the pod of a Job is there and its containers may start: its claims are bound, and in reach of one node.
pub fn may_start(store: &mut Store, key: &Key) -> bool {
    let Some(pod) = store.get(key).cloned() else { return false };
    // Without classes, claims hold up nobody.
    if store.list("StorageClass").next().is_none() || pod["spec"]["nodeName"].is_string() || schedule(store, &pod) {
        return true;
    }
    store.change(key, |pod| pod["metadata"]["annotations"][WAITS] = json!("true")).unwrap();
    false
}

/// What the scheduler makes of a pod.
enum Place {
    /// It runs there.
    On(String),
    /// No node takes it: because of a claim, or of the nodes that its volumes can be reached from.
    Nowhere(String),
    /// Nowhere yet: these claims wait to learn the node.
    Later(String, Vec<Key>),
}

/// Gives a pod a node, if its claims are bound. Until then, each that waits for a pod learns the node.
fn schedule(store: &mut Store, pod: &Value) -> bool {
    match place(store, pod) {
        Place::On(node) => {
            let scheduled = |pod: &mut Value| {
                pod["spec"]["nodeName"] = json!(node);
                pod["status"] = json!({"phase": "Pending", "conditions": [condition("PodScheduled", true)]});
                if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(WAITS);
                }
            };
            store.change(&Key::of(pod), scheduled).unwrap();
            return true;
        }
        Place::Nowhere(why) => {
            let message = format!("0/{NODES} nodes are available: {why}");
            let no = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
            let refused = |pod: &mut Value| pod["status"] = json!({"phase": "Pending", "conditions": [no]});
            store.change(&Key::of(pod), refused).unwrap();
        }
        Place::Later(node, claims) => {
            for key in &claims {
                let learn = |claim: &mut Value| claim["metadata"]["annotations"][SELECTED_NODE] = json!(node);
                store.change(key, learn).unwrap();
            }
        }
    }
    false
}

fn place(store: &Store, pod: &Value) -> Place {
    let mut node = wish(pod).map(str::to_owned);
    let mut unbound = Vec::new();
    // Without classes, claims hold up nobody.
    let with_volumes = store.list("StorageClass").next().is_some();
    for name in claims(pod).filter(|_| with_volumes) {
        let namespace = text(&pod["metadata"]["namespace"]);
        let key = claim_key(namespace, name);
        let Some(claim) = store.get(&key) else {
            return Place::Nowhere(format!("persistentvolumeclaim {name:?} not found"));
        };
        if !claim["metadata"]["deletionTimestamp"].is_null() {
            return Place::Nowhere(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        let Some(volume) = volume_of(store, namespace, name) else {
            if claim["status"]["phase"] == "Lost" {
                return Place::Nowhere(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume"
                ));
            }
            if !provisioner::is_delayed(store, claim) || !text(&claim["spec"]["volumeName"]).is_empty() {
                return Place::Nowhere("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
            unbound.push(key);
            continue;
        };
        if let Some(only) = node_of(&volume)
            && node.get_or_insert_with(|| only.to_owned()) != only
        {
            return Place::Nowhere("node(s) didn't match PersistentVolume's node affinity".to_owned());
        }
    }
    let node = node.unwrap_or_else(|| home(pod));
    if unbound.is_empty() { Place::On(node) } else { Place::Later(node, unbound) }
}

/// The node that a pod wants.
fn wish(pod: &Value) -> Option<&str> {
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
    let by_affinity = || {
        let term = pod.pointer(required)?["matchExpressions"].as_array()?;
        term.iter().find(|term| term["key"] == "kubernetes.io/hostname")?["values"][0].as_str()
    };
    pod["spec"]["nodeSelector"]["kubernetes.io/hostname"].as_str().or_else(by_affinity)
}

/// The node of a pod that could run anywhere: members are spread.
fn home(pod: &Value) -> String {
    let ordinal = members::ordinal(text(&pod["metadata"]["name"])).unwrap_or_default();
    format!("node-{}", ordinal.rem_euclid(NODES) + 1)
}
