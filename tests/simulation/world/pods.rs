//! Pods and Jobs as the kubelet and the Job controller write them.

use crate::apiserver::let_go;
use graph_backup_operator::controller::pod::AGENT_CONTAINER;
use serde_json::{Value, json};

/// Name of the pod of a Job.
pub fn name_of(job: &Value) -> String {
    format!("{}-{}", job["metadata"]["name"].as_str().unwrap(), &job["metadata"]["uid"].as_str().unwrap()[..5])
}

/// With this the Job controller holds a pod until it has taken note of its end.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// The pod of a Job; of the spec, what the scheduler looks at.
pub fn pod_of(job: &Value) -> Value {
    let (name, uid) = (&job["metadata"]["name"], &job["metadata"]["uid"]);
    let mut labels = job["spec"]["template"]["metadata"]["labels"].clone();
    labels["batch.kubernetes.io/job-name"] = name.clone();
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true});
    let template = &job["spec"]["template"]["spec"];
    let volumes = template["volumes"].as_array().into_iter().flatten();
    let volumes: Vec<&Value> = volumes.filter(|volume| volume["persistentVolumeClaim"].is_object()).collect();
    json!({
        "metadata": {"name": name_of(job), "labels": labels, "ownerReferences": [owner], "finalizers": [FINALIZER]},
        "spec": {
            "containers": [], "volumes": volumes,
            "affinity": template["affinity"], "nodeSelector": template["nodeSelector"],
        },
    })
}

/// Whether a Job made a pod.
pub fn is_of_job(pod: &Value) -> bool {
    pod["metadata"]["ownerReferences"][0]["kind"] == "Job"
}

/// Annotation of a pod whose node does not answer: it stays, whoever deletes it.
const DEAD_NODE: &str = "simulation/dead-node";

/// Whether this is a pod of a Job that was deleted and is still held, by somebody who works.
pub fn is_going(object: &Value) -> bool {
    let going = object["kind"] == "Pod" && !object["metadata"]["deletionTimestamp"].is_null();
    going && is_of_job(object) && !is_on_dead_node(object)
}

/// Whether the node of a pod does not answer.
pub fn is_on_dead_node(pod: &Value) -> bool {
    pod["metadata"]["annotations"][DEAD_NODE] == "true"
}

/// The node of a pod does not answer any more.
pub fn lose_node(pod: &mut Value) {
    pod["metadata"]["annotations"] = json!({DEAD_NODE: "true"});
}

/// The Job controller does not hold a pod any more, nor does the kubelet.
pub fn release(pod: &mut Value) {
    let_go(pod);
    pod["metadata"].as_object_mut().unwrap().remove("finalizers");
}

/// What keeps a pod from starting.
#[derive(Clone, Copy, Debug)]
pub enum Stuck {
    /// Its image cannot be pulled.
    Image,
    /// No node takes it.
    Unschedulable,
}

/// Status of a pod that does not start.
pub fn stuck(why: Stuck) -> Value {
    let scheduled = |status: &str, message: &str| json!([{"type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message}]);
    match why {
        Stuck::Image => {
            let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
            json!({"phase": "Pending", "conditions": scheduled("True", ""), "containerStatuses": [container(&waiting)]})
        }
        Stuck::Unschedulable => {
            json!({"phase": "Pending", "conditions": scheduled("False", "0/3 nodes are available")})
        }
    }
}

/// Status of a pod whose containers run.
pub fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [container(&json!({"running": {}}))]})
}

/// The same pod with another container that never ends.
pub fn with_sidecar(mut status: Value) -> Value {
    let mut proxy = container(&json!({"running": {}}));
    proxy["name"] = json!("proxy");
    status["phase"] = json!("Running");
    status["containerStatuses"].as_array_mut().unwrap().push(proxy);
    status
}

/// Status of a pod whose container has ended, with what it left in its termination message.
pub fn ended(exit_code: i32, message: &str) -> Value {
    let terminated = json!({"terminated": {"exitCode": exit_code, "message": message}});
    let phase = if exit_code == 0 { "Succeeded" } else { "Failed" };
    json!({"phase": phase, "containerStatuses": [container(&terminated)]})
}

fn container(state: &Value) -> Value {
    json!({"name": AGENT_CONTAINER, "state": state, "image": "tool", "imageID": "", "ready": false, "restartCount": 0})
}

/// Conditions that the Job controller sets right before the final one.
pub fn job_ends(complete: bool, reason: &str) -> Value {
    condition(if complete { "SuccessCriteriaMet" } else { "FailureTarget" }, reason)
}

/// The final condition of a Job.
pub fn job_ended(complete: bool, reason: &str) -> Value {
    condition(if complete { "Complete" } else { "Failed" }, reason)
}

fn condition(kind: &str, reason: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason})
}
