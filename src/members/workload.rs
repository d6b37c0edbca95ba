//! The StatefulSet of the members as it was read.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

/// A StatefulSet, as far as its members depend on it.
#[derive(Clone, Debug)]
pub struct SetSeen {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.ordinals.start`.
    pub first: i32,
    /// As it was read.
    pub object: Box<StatefulSet>,
}

impl SetSeen {
    /// From the object.
    pub fn of(set: StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        Self {
            name: set.name_any(),
            uid: set.uid().unwrap_or_default(),
            resource_version: set.resource_version().unwrap_or_default(),
            replicas,
            first: spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0),
            object: Box::new(set),
        }
    }

    /// Ordinals of this many members.
    pub fn ordinals(&self, replicas: i32) -> impl Iterator<Item = i32> + use<> {
        self.first..self.first.saturating_add(replicas)
    }

    /// Name of a member's pod.
    pub fn pod(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.name)
    }
}
