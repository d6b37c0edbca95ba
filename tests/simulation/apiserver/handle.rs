//! What the API server answers to one call.

use super::deletion::DeleteOptions;
use super::object::Object;
use super::refusal::Refusal;
use super::request::{Call, Verb};
use super::store::Store;
use bytes::Bytes;
use serde_json::{Value, json};

/// Does what a call asks for; gives the body of the answer. `reversed` lists in the opposite order.
pub fn answer(store: &mut Store, call: &Call, reversed: bool) -> Result<Bytes, Refusal> {
    let key = call.key();
    match call.verb {
        Verb::Get => {
            let object = store.get(&key).ok_or_else(|| Refusal::not_found(&key))?;
            Ok(shown(object, call))
        }
        Verb::List => Ok(list(store, call, reversed)),
        Verb::Create => Ok(store.create(call.kind, &call.namespace, Value::clone(&call.body))?.text()),
        Verb::Apply if call.status => {
            assert_eq!(
                call.query.get("force").map(String::as_str),
                Some("true"),
                "apply without force is not modelled"
            );
            Ok(store.apply_status(&key, &call.query["fieldManager"], &call.body)?.text())
        }
        Verb::Apply => panic!("apply to the object itself is not modelled"),
        Verb::Patch if call.scale => {
            let object = store.scale(&key, &call.body)?;
            Ok(body(&json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
                "spec": {"replicas": object["spec"]["replicas"]}, "status": {"replicas": object["status"]["replicas"]},
            })))
        }
        Verb::Patch if call.status => Ok(store.merge_status(&key, &call.body)?.text()),
        Verb::Patch => {
            let object = store.merge(&key, &call.body)?;
            Ok(shown(&object, call))
        }
        Verb::Delete => {
            let policy = &call.body["propagationPolicy"];
            assert!(policy.is_null() || policy == "Background", "propagation policy {policy} is not modelled");
            let text = |field: &str| call.body["preconditions"][field].as_str().map(str::to_owned);
            let grace_seconds = call.body["gracePeriodSeconds"].as_i64();
            let options = DeleteOptions { uid: text("uid"), resource_version: text("resourceVersion"), grace_seconds };
            Ok(match store.delete(&key, &options)? {
                Some(going) => going.text(),
                None => body(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})),
            })
        }
        Verb::Watch => unreachable!("watches are streams"),
    }
}

fn list(store: &Store, call: &Call, reversed: bool) -> Bytes {
    assert!(!call.query.contains_key("continue"), "a second page is not modelled");
    let limit = call.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let chosen = store
        .objects()
        .filter(|object| object["kind"] == call.kind.name && call.covers(object) && call.selects(object));
    let mut items: Vec<Bytes> = chosen.map(|object| shown(object, call)).collect();
    if reversed {
        items.reverse();
    }
    let first: usize = call.query.get("continue").map_or(0, |token| token.parse().unwrap());
    let rest = items.len().saturating_sub(first).saturating_sub(limit);
    items = items.into_iter().skip(first).take(limit).collect();
    // A list over its limit says so: whoever overlooks it takes what is missing for absent.
    let more = if rest > 0 {
        format!(r#","continue":"{}","remainingItemCount":{rest}"#, first + limit)
    } else {
        String::new()
    };
    let (api_version, kind) = if call.metadata_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (call.kind.api_version(), format!("{}List", call.kind.name))
    };
    let version = store.version();
    let mut text = format!(
        r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{"resourceVersion":"{version}"{more}}},"items":"#
    )
    .into_bytes();
    if call.metadata_only && items.is_empty() {
        text.extend_from_slice(b"null}");
    } else {
        text.extend_from_slice(&[b"[", &*items.join(&b','), b"]}"].concat());
    }
    Bytes::from(text)
}

/// An object as a call wants to see it.
pub fn shown(object: &Object, call: &Call) -> Bytes {
    if !call.metadata_only {
        return object.text();
    }
    body(&json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"],
    }))
}

/// The body of an answer that refuses.
pub fn status(refusal: &Refusal) -> Bytes {
    body(&json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": refusal.code, "reason": refusal.reason, "message": refusal.message,
    }))
}

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
