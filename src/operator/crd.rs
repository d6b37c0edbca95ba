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
use serde::Deserialize;
use std::collections::BTreeMap;

/// Fields that a message names.
const NAMED_MAX: usize = 5;

/// The API server's OpenAPI document of one group and version; all but this kind's schema is skipped while it is read.
#[derive(Deserialize)]
struct Document {
    components: Components,
}

#[derive(Deserialize)]
struct Components {
    schemas: Schemas,
}

#[derive(Deserialize)]
struct Schemas {
    #[serde(rename = "dev.graphbackup.v1alpha1.GraphBackup")]
    graph_backup: Option<Schema>,
}

/// The names of the fields in a schema.
#[derive(Clone, Default, Deserialize)]
struct Schema {
    #[serde(default)]
    properties: BTreeMap<String, Self>,
    items: Option<Box<Self>>,
    #[serde(default, rename = "x-kubernetes-preserve-unknown-fields")]
    takes_anything: bool,
}

/// What keeps this version from working with the `CustomResourceDefinition` of the cluster; nothing where it can.
pub async fn problem(client: &Client) -> Result<Option<String>, CallError> {
    let group_version = API_VERSION.split_once('/').unwrap_or_default();
    let served = async {
        let request = Request::new(format!("/openapi/v3/apis/{}", group_version.0));
        let request = request.get(group_version.1, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        client.request::<Document>(request).await
    };
    let served = call("read the OpenAPI document", served).await?;
    let Some(schema) = served.components.schemas.graph_backup else {
        return Ok(Some("the API server does not serve GraphBackup yet".to_owned()));
    };
    Ok(missing(&own(), &schema).map(|fields| {
        format!(
            "the CustomResourceDefinition graphbackups.graphbackup.dev is older than this operator: it lacks {fields}; \
             apply the one of version {}",
            env!("CARGO_PKG_VERSION")
        )
    }))
}

/// The schema of this version.
fn own() -> Schema {
    let crd = serde_json::to_value(GraphBackup::crd()).unwrap_or_default();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema");
    schema.and_then(|schema| Schema::deserialize(schema).ok()).unwrap_or_default()
}

/// The fields of this version that a served schema lacks, in words.
fn missing(own: &Schema, served: &Schema) -> Option<String> {
    let mut missing = Vec::new();
    for part in ["spec", "status"] {
        if let (Some(own), Some(served)) = (own.properties.get(part), served.properties.get(part)) {
            compare(part, own, served, &mut missing);
        }
    }
    let more = missing.len().saturating_sub(NAMED_MAX);
    let named = missing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match (missing.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named),
        (false, more) => Some(format!("{named} and {more} more")),
    }
}

fn compare(path: &str, own: &Schema, served: &Schema, missing: &mut Vec<String>) {
    if served.takes_anything {
        return;
    }
    for (name, property) in &own.properties {
        let path = format!("{path}.{name}");
        match served.properties.get(name) {
            None => missing.push(path),
            Some(found) => compare(&path, property, found, missing),
        }
    }
    if let (Some(own), Some(served)) = (&own.items, &served.items) {
        compare(&format!("{path}[]"), own, served, missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_of_this_version_lacks_nothing_and_a_newer_one_neither() {
        let mut newer = own();
        assert!(newer.properties["status"].properties.contains_key("conditions"));
        assert_eq!(missing(&own(), &newer), None);
        let status = newer.properties.get_mut("status").unwrap();
        status.properties.insert("newer".to_owned(), Schema::default());
        assert_eq!(missing(&own(), &newer), None);
    }

    #[test]
    fn what_an_older_crd_lacks_is_named() {
        let mut older = own();
        let status = &mut older.properties.get_mut("status").unwrap().properties;
        status.remove("adoption").unwrap();
        let attempt = status.get_mut("attempts").unwrap().items.as_mut().unwrap();
        attempt.properties.remove("mastership").unwrap();
        assert_eq!(missing(&own(), &older).as_deref(), Some("status.adoption, status.attempts[].mastership"));
        let mut oldest = own();
        oldest.properties.get_mut("spec").unwrap().properties.clear();
        let said = missing(&own(), &oldest).unwrap();
        assert!(said.contains("spec.") && said.ends_with("more"), "{said}");
    }
}
