//! How objects go.

use serde_json::{Value, json};

/// Seconds that a pod has to stop if it does not say otherwise.
const GRACE_SECONDS: i64 = 30;

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Only the object with this UID.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
    /// After so many seconds at most; with 0 at once, whatever still runs.
    pub grace_seconds: Option<i64>,
}

/// How long a pod that is deleted has to stop; `None` for what goes at once: everything else, and a pod that runs
/// nowhere.
pub fn grace(object: &Value, options: &DeleteOptions) -> Option<i64> {
    let over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if object["kind"] != "Pod" || !object["spec"]["nodeName"].is_string() || over {
        return None;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(GRACE_SECONDS);
    Some(options.grace_seconds.unwrap_or(own)).filter(|seconds| *seconds > 0)
}

/// Marks an object as deleted: that is a change of what is wanted.
pub fn mark(object: &mut Value, now: &str, grace: Option<i64>) {
    let meta = &mut object["metadata"];
    meta["deletionTimestamp"] = json!(now);
    if let Some(grace) = grace {
        meta["deletionGracePeriodSeconds"] = json!(grace);
    }
    if let Some(generation) = meta["generation"].as_i64() {
        meta["generation"] = json!(generation + 1);
    }
}

/// Whether an object that was deleted is still held: by a finalizer, or by the kubelet that stops it.
pub fn is_held(object: &Value) -> bool {
    finalizers(object).next().is_some() || object["metadata"]["deletionGracePeriodSeconds"].is_i64()
}

/// The kubelet has stopped a pod that was deleted.
pub fn let_go(object: &mut Value) {
    object["metadata"].as_object_mut().unwrap().remove("deletionGracePeriodSeconds");
}

/// Whoever holds an object.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten()
}
