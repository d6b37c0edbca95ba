//! Whether a namespace is being deleted.

use super::call::call;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

/// Whether a namespace is being deleted, as far as this operator may know.
pub async fn is_terminating(client: &Client, namespace: &str) -> bool {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = call("read a namespace", namespaces.get_metadata_opt(namespace)).await;
    namespace.ok().flatten().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
}
