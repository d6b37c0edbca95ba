//! What the API server answers to one call.

use super::request::{Call, Verb};
use super::store::{DeleteOptions, Refusal, Store};
use serde_json::{Value, json};
use std::sync::Arc;

/// Does what a call asks for.
pub fn answer(store: &mut Store, call: &Call) -> Result<Arc<Value>, Refusal> {
    let key = call.key();
    match call.verb {
        Verb::Get => {
            let object = store.get(&key).ok_or_else(|| Refusal::not_found(&key))?;
            Ok(if call.metadata_only { Arc::new(metadata(object)) } else { Arc::clone(object) })
        }
        Verb::List => Ok(Arc::new(list(store, call))),
        Verb::Create => store.create(call.kind, &call.namespace, Value::clone(&call.body)),
        Verb::Apply if call.status => {
            assert_eq!(call.query.get("force").map(String::as_str), Some("true"), "apply without force is not modelled");
            store.apply_status(&key, &call.query["fieldManager"], &call.body)
        }
        Verb::Apply => panic!("apply to the object itself is not modelled"),
        Verb::Delete => {
            let policy = &call.body["propagationPolicy"];
            assert!(policy.is_null() || policy == "Background", "propagation policy {policy} is not modelled");
            let text = |field: &str| call.body["preconditions"][field].as_str().map(str::to_owned);
            store.delete(&key, &DeleteOptions { uid: text("uid"), resource_version: text("resourceVersion") })?;
            Ok(Arc::new(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
        }
        Verb::Watch => unreachable!("watches are streams"),
    }
}

fn list(store: &Store, call: &Call) -> Value {
    assert!(!call.query.contains_key("continue"), "a second page is not modelled");
    let limit = call.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let chosen = store.list(call.kind.name).filter(|object| {
        object["metadata"]["namespace"] == call.namespace.as_str() && call.selects(object)
    });
    let items: Vec<Value> =
        chosen.take(limit).map(|object| if call.metadata_only { metadata(object) } else { Value::clone(object) }).collect();
    let (api_version, kind) = if call.metadata_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (call.kind.api_version(), format!("{}List", call.kind.name))
    };
    let version = store.version().to_string();
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": version}, "items": items})
}

/// Only an object's metadata.
pub fn metadata(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

/// The body of an answer that refuses.
pub fn status(refusal: &Refusal) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": refusal.code, "reason": refusal.reason, "message": refusal.message,
    })
}
