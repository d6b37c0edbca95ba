//! Effects on claims, volumes and pods of the members of a StatefulSet.

use super::Run;
use crate::api::names::POINTED_AT_ANNOTATION;
use crate::controller::call::{CallError, call};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// A change of a PersistentVolume, if it is as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumePatch {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Merge patch without name, UID and resource version.
    pub patch: Value,
}

impl<K> Run<'_, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    /// One of this name that exists is left for the next pass to judge.
    pub(super) async fn create_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), CallError> {
        let claims: Api<PersistentVolumeClaim> = self.executor.namespaced(self.subject);
        match call("create a claim", claims.create(&PostParams::default(), claim)).await {
            Ok(_) | Err(CallError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete_claim(&self, name: &str, uid: &str) -> Result<(), CallError> {
        let claims: Api<PersistentVolumeClaim> = self.executor.namespaced(self.subject);
        gone(call("delete a claim", claims.delete(name, &exactly(uid))).await)
    }

    pub(super) async fn mark_claim(&self, name: &str, uid: &str) -> Result<(), CallError> {
        let claims: Api<PersistentVolumeClaim> = self.executor.namespaced(self.subject);
        let patch = json!({"metadata": {"uid": uid, "annotations": {POINTED_AT_ANNOTATION: ""}}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        gone(call("mark a claim", claims.patch_metadata(name, &params, &patch)).await)
    }

    pub(super) async fn delete_pod(&self, name: &str, uid: &str) -> Result<(), CallError> {
        let pods: Api<Pod> = self.executor.namespaced(self.subject);
        gone(call("delete the pod of a member", pods.delete(name, &exactly(uid))).await)
    }

    pub(super) async fn change_volume(&self, volume: &VolumePatch) -> Result<(), CallError> {
        let mut patch = volume.patch.clone();
        patch["metadata"]["uid"] = json!(volume.uid);
        patch["metadata"]["resourceVersion"] = json!(volume.resource_version);
        let volumes: Api<PersistentVolume> = Api::all(self.executor.client.clone());
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let changed = volumes.patch(&volume.name, &params, &patch);
        match call("change a volume", changed).await {
            // The next pass looks at it as it is then.
            Ok(_) | Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn exactly(uid: &str) -> DeleteParams {
    let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::default() }
}

/// What is gone, or another one of its name, needs no deletion.
fn gone<T>(deleted: Result<T, CallError>) -> Result<(), CallError> {
    match deleted {
        Ok(_) | Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
