//! Effects on other objects of ours than the one that a pass is about.

use super::{EffectError, OtherObject, Run};
use crate::api::Kind;
use crate::controller::call::{CallError, call};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Field manager of writes to the status of an object that another controller works on.
const OTHERS_STATUS_MANAGER: &str = "graph-backup-operator-findings";

impl<K> Run<'_, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    fn others(&self, kind: Kind) -> Api<DynamicObject> {
        let version = kind.api_version().split_once('/').unwrap_or_default();
        let kind_of_version = GroupVersionKind::gvk(version.0, version.1, kind.as_str());
        let resource = ApiResource::from_gvk_with_plural(&kind_of_version, kind.plural());
        Api::namespaced_with(self.executor.client.clone(), &self.subject.owner.namespace, &resource)
    }

    pub(super) async fn create_object(&self, kind: Kind, object: Value) -> Result<(), EffectError> {
        let object: DynamicObject = serde_json::from_value(object)?;
        call("create a backup", self.others(kind).create(&PostParams::default(), &object)).await?;
        Ok(())
    }

    pub(super) async fn delete_object(&self, object: &OtherObject) -> Result<(), CallError> {
        let preconditions =
            Preconditions { uid: Some(object.uid.clone()), resource_version: object.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match call("delete a backup", self.others(object.kind).delete(&object.name, &params)).await {
            Ok(_) | Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn record_on(&self, object: &OtherObject, status: &Value) -> Result<(), CallError> {
        let kind = object.kind;
        let patch = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": {"uid": object.uid},
            "status": status,
        });
        let params = PatchParams::apply(OTHERS_STATUS_MANAGER).force();
        let others = self.others(kind);
        match call("write on a backup", others.patch_status(&object.name, &params, &Patch::Apply(&patch))).await {
            Ok(_) | Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(()),
            Err(CallError::Refused { message, .. }) => {
                tracing::warn!(%message, "a backup does not tell what was found");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn mark_and_delete(&self, object: OtherObject, mark: Value) -> Result<(), EffectError> {
        let Some(resource_version) = self.change_metadata("mark a backup for removal", &object, mark).await? else {
            return Ok(());
        };
        self.executor.require_leadership()?;
        Ok(self.delete_object(&OtherObject { resource_version: Some(resource_version), ..object }).await?)
    }

    /// Gives the version that the object has then; nothing where it has changed or is gone.
    pub(super) async fn change_metadata(
        &self,
        action: &'static str,
        object: &OtherObject,
        mut change: Value,
    ) -> Result<Option<String>, CallError> {
        change["metadata"]["resourceVersion"] = json!(object.resource_version);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&change));
        match call(action, self.others(object.kind).patch_metadata(&object.name, &params, &patch)).await {
            Ok(changed) => Ok(changed.metadata.resource_version),
            Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
