//! Whether the `CustomResourceDefinition` of the cluster has every field that this version reads and writes.
//!
//! The API server prunes fields that its schema does not have, and refuses a server-side apply that names one: with an older
//! `CustomResourceDefinition` the operator could write no status. A newer one is no problem, because unknown fields are read past.
//! The schema is read from the API server's OpenAPI document, which needs no right of its own.

use crate::api::{API_VERSION, GraphBackup};
use crate::controller::call::{CallError, call};
use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, CustomResourceExt};
use serde_json::Value;

/// Fields that a message names.
const NAMED_MAX: usize = 5;

/// What keeps this version from working with the `CustomResourceDefinition` of the cluster; nothing where it can.
pub async fn problem(client: &Client) -> Result<Option<String>, CallError> {
    let group_version = API_VERSION.split_once('/').unwrap_or_default();
    let served = async {
        let request = Request::new(format!("/openapi/v3/apis/{}", group_version.0));
        let request = request.get(group_version.1, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        client.request::<Value>(request).await
    };
    let served = call("read the OpenAPI document", served).await?;
    let Some(schema) = served.pointer("/components/schemas/dev.graphbackup.v1alpha1.GraphBackup") else {
        return Ok(Some("the API server does not serve GraphBackup yet".to_owned()));
    };
    Ok(missing(schema).map(|fields| {
        format!(
            "the CustomResourceDefinition graphbackups.graphbackup.dev is older than this operator: it lacks {fields}; apply the \
             one of version {}",
            env!("CARGO_PKG_VERSION")
        )
    }))
}

/// The fields of this version that a served schema lacks, in words.
fn missing(served: &Value) -> Option<String> {
    let own = serde_json::to_value(GraphBackup::crd()).unwrap_or_default();
    let own = own.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
    let mut missing = Vec::new();
    for part in ["spec", "status"] {
        compare(part, &own["properties"][part], &served["properties"][part], &mut missing);
    }
    let more = missing.len().saturating_sub(NAMED_MAX);
    let named = missing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match (missing.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named),
        (false, more) => Some(format!("{named} and {more} more")),
    }
}

fn compare(path: &str, own: &Value, served: &Value, missing: &mut Vec<String>) {
    if served.is_null() || served["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (name, property) in own["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match &served["properties"][name] {
            Value::Null => missing.push(path),
            found => compare(&path, property, found, missing),
        }
    }
    if own["items"].is_object() {
        compare(&format!("{path}[]"), &own["items"], &served["items"], missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Value {
        let crd = serde_json::to_value(GraphBackup::crd()).unwrap();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    }

    #[test]
    fn the_crd_of_this_version_lacks_nothing_and_a_newer_one_neither() {
        let mut newer = own();
        assert_eq!(missing(&newer), None);
        newer["properties"]["status"]["properties"]["newer"] = serde_json::json!({"type": "string"});
        assert_eq!(missing(&newer), None);
    }

    #[test]
    fn what_an_older_crd_lacks_is_named() {
        let mut older = own();
        let status = older["properties"]["status"]["properties"].as_object_mut().unwrap();
        status.remove("adoption").unwrap();
        let attempt = status["attempts"]["items"]["properties"].as_object_mut().unwrap();
        attempt.remove("mastership").unwrap();
        assert_eq!(missing(&older).as_deref(), Some("status.adoption, status.attempts[].mastership"));
        let mut oldest = own();
        oldest["properties"]["spec"]["properties"] = serde_json::json!({});
        let said = missing(&oldest).unwrap();
        assert!(said.contains("spec.") && said.ends_with("more"), "{said}");
    }
}
