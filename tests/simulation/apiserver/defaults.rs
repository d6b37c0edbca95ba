//! What the API server adds to a new object by itself.

use serde_json::{Value, json};

/// Annotation of the class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Fills in a claim or a volume. In a world without classes, claims exist or do not: nobody would take the protection
/// off them again.
pub fn fill(object: &mut Value, classes: &[&Value]) {
    let protection = match object["kind"].as_str() {
        Some("PersistentVolumeClaim") => "kubernetes.io/pvc-protection",
        Some("PersistentVolume") => "kubernetes.io/pv-protection",
        _ => return,
    };
    object["status"] = json!({"phase": "Pending"});
    if classes.is_empty() {
        return;
    }
    let finalizers = &mut object["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(others) => others.push(json!(protection)),
        None => *finalizers = json!([protection]),
    }
    let is_volume = object["kind"] == "PersistentVolume";
    let spec = &mut object["spec"];
    if spec["volumeMode"].is_null() {
        spec["volumeMode"] = json!("Filesystem");
    }
    if is_volume {
        if spec["persistentVolumeReclaimPolicy"].is_null() {
            spec["persistentVolumeReclaimPolicy"] = json!("Retain");
        }
        return;
    }
    let is_default = |class: &&&Value| class["metadata"]["annotations"][DEFAULT_CLASS] == "true";
    if let (true, Some(class)) = (spec["storageClassName"].is_null(), classes.iter().find(is_default)) {
        spec["storageClassName"] = class["metadata"]["name"].clone();
    }
}
