//! The objects: namespaces with a claim each, and finished backups that differ from a real one in names and UIDs only.

use futures::StreamExt;
use graph_backup_operator::api::{BackupSchedule, GraphBackup};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// Name of the backup that the others are made after.
pub const TEMPLATE: &str = "nightly-template";
/// Requests at the same time.
const AT_ONCE: usize = 8;

/// Name of a namespace.
pub fn namespace(number: usize) -> String {
    format!("scale-{number:03}")
}

fn made<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The `CustomResourceDefinitions` as they ship.
pub async fn define(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for document in serde_yaml::Deserializer::from_str(include_str!("../../crds/graphbackup.dev.yaml")) {
        crds.create(&PostParams::default(), &made(Value::deserialize(document).unwrap())).await.unwrap();
    }
    for resource in [ApiResource::erase::<GraphBackup>(&()), ApiResource::erase::<BackupSchedule>(&())] {
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
        while objects.list(&kube::api::ListParams::default().limit(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Changes a description in the schema: the API server ends every watch of the kind. Gives the revision after that.
pub async fn touch_definition(client: &Client, number: usize) -> String {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let description = "/spec/versions/0/schema/openAPIV3Schema/description";
    let change = json!([{"op": "add", "path": description, "value": format!("Touched {number} times.")}]);
    let change: Patch<Value> = Patch::Json(made(change));
    let changed = crds.patch("graphbackups.graphbackup.dev", &PatchParams::default(), &change).await.unwrap();
    changed.resource_version().unwrap()
}

/// Namespaces, each with the claim that its backups write to.
pub async fn namespaces(client: &Client, count: usize) {
    let all: Api<Namespace> = Api::all(client.clone());
    let names = (0..count).map(namespace).chain([crate::operator::NAMESPACE.to_owned()]);
    for name in names {
        all.create(&PostParams::default(), &made(json!({"metadata": {"name": name}}))).await.unwrap();
        let claim = json!({
            "metadata": {"name": "graph-backups"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
        });
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &name);
        claims.create(&PostParams::default(), &made(claim)).await.unwrap();
    }
}

/// Backups of a namespace, as JSON.
pub fn backups(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<GraphBackup>(&()))
}

/// A backup as `e2e/manifests/backup.yaml` has it.
pub fn backup(name: &str, uri: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
        "metadata": {"name": name, "labels": labels},
        "spec": {"source": {"uri": uri, "clusterName": "neo4j.ha"}, "target": {"claimName": "graph-backups"},
                 "tool": {"image": "localhost/neo4j-ha:1.8"}},
    })
}

/// Creates an object as `kubectl apply --server-side` does.
pub async fn apply(backups: &Api<DynamicObject>, object: &Value) -> DynamicObject {
    let name = object["metadata"]["name"].as_str().unwrap();
    backups.patch(name, &PatchParams::apply("kubectl"), &Patch::Apply(object)).await.unwrap()
}

/// Finished backups after the example of a finished one: created as people do, with the status written as the operator
/// does.
///
/// The operator must not run meanwhile: it would start each as soon as it is created.
pub async fn finished(client: &Client, template: &DynamicObject, count: usize, namespaces: usize) {
    let manager = template.managed_fields().iter().find(|entry| entry.subresource.as_deref() == Some("status"));
    let manager = manager.and_then(|entry| entry.manager.clone()).unwrap();
    let (uid, status) = (template.uid().unwrap(), template.data["status"].to_string());
    let uri = template.data["spec"]["source"]["uri"].as_str().unwrap();
    let (manager, uid, status) = (&manager, &uid, &status);
    futures::stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| async move {
            let name = format!("nightly-{number:08}");
            let backups = backups(client, &namespace(number % namespaces));
            let created = apply(&backups, &backup(&name, uri, &json!({}))).await;
            let own = created.uid().unwrap();
            let status = status.replace(uid, &own).replace(&uid[..8], &own[..8]).replace(TEMPLATE, &name);
            let status: Value = serde_json::from_str(&status).unwrap();
            let patch = json!({"apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup", "status": status});
            backups.patch_status(&name, &PatchParams::apply(manager), &Patch::Apply(patch)).await.unwrap();
        })
        .await;
}
