//! One writer per database cluster, in the API: a Lease in the operator's namespace, named by the cluster's store id.
//!
//! Taken by *create*, so that of two takers one loses; it never expires. Its holder deletes it. If the holder was
//! deleted or has finished, and no Job or pod of it works any more, the next object that needs the lock deletes it.
//! Shared by everything that writes to a cluster's folder or to the cluster itself, in all namespaces that the operator
//! watches.

use crate::api::names::{MANAGED_BY, MANAGED_BY_LABEL, cluster_lock};
use crate::api::{Kind, Owner, StoreId, to_kubernetes};
use crate::controller::call::{CallError, call, list};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use std::fmt;

/// Label with the UID of the object that holds the lock.
pub const HOLDER_UID_LABEL: &str = "graphbackup.dev/holder-uid";

/// Who holds the lock of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    Free,
    /// The object that asks.
    Ours,
    /// Somebody else.
    Held(HeldLock),
}

/// A lock that another object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Name of the Lease.
    pub name: String,
    /// UID of the Lease: a delete cannot hit another.
    pub uid: String,
    /// Who holds it, as the Lease says.
    pub identity: String,
    /// The same as an object; nothing where its kind is none that this version knows: such a lock is never deleted.
    pub holder: Option<Owner>,
}

/// Who holds it, for people.
impl fmt::Display for HeldLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => holder.fmt(f),
            None => write!(f, "{}, the holder of Lease {},", self.identity, self.name),
        }
    }
}

/// The locks of one operator.
#[derive(Clone)]
pub struct ClusterLocks {
    client: Client,
    namespace: String,
}

impl ClusterLocks {
    /// `namespace` is the operator's own.
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Who holds the lock of the cluster with this store id, seen by `asker`.
    pub async fn look(&self, store: StoreId, asker: &Owner) -> Result<Lock, CallError> {
        let lease = call("read the Lease of a cluster", self.leases().get_opt(&cluster_lock(store))).await?;
        Ok(lease.map_or(Lock::Free, |lease| seen(lease, asker)))
    }

    /// Takes the lock, or gives the one that another object holds. [`CallError::Conflict`] where that one has just been
    /// released.
    pub async fn take(&self, store: StoreId, taker: &Owner, now: DateTime<Utc>) -> Result<Option<HeldLock>, CallError> {
        let lease = lease(&self.namespace, store, taker, now);
        match call("create the Lease of a cluster", self.leases().create(&PostParams::default(), &lease)).await {
            Ok(_) => Ok(None),
            Err(CallError::Exists { action }) => match self.look(store, taker).await? {
                // The answer to an earlier request of ours may have been lost.
                Lock::Ours => Ok(None),
                Lock::Held(lock) => Ok(Some(lock)),
                Lock::Free => Err(CallError::Conflict { action }),
            },
            Err(error) => Err(error),
        }
    }

    /// The locks that an object holds.
    pub async fn held_by(&self, holder: &Owner) -> Result<Vec<HeldLock>, CallError> {
        let selector = format!("{HOLDER_UID_LABEL}={}", holder.uid);
        let leases = list("list the Leases of an object", &self.leases(), &selector).await?;
        Ok(leases.into_iter().map(held).collect())
    }

    /// Deletes a lock, if it is still that one.
    pub async fn delete(&self, lock: &HeldLock) -> Result<(), CallError> {
        let preconditions = Some(Preconditions { uid: Some(lock.uid.clone()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match call("delete the Lease of a cluster", self.leases().delete(&lock.name, &params)).await {
            Ok(_) | Err(CallError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn lease(namespace: &str, store: StoreId, taker: &Owner, now: DateTime<Utc>) -> Lease {
    let labels = [(MANAGED_BY_LABEL, MANAGED_BY), (HOLDER_UID_LABEL, taker.uid.as_str())];
    Lease {
        metadata: ObjectMeta {
            name: Some(cluster_lock(store)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(format!("{}/{}/{}/{}", taker.kind, taker.namespace, taker.name, taker.uid)),
            acquire_time: Some(MicroTime(to_kubernetes(now).0)),
            ..LeaseSpec::default()
        }),
    }
}

fn seen(lease: Lease, asker: &Owner) -> Lock {
    let lock = held(lease);
    if lock.holder.as_ref().is_some_and(|holder| holder.uid == asker.uid) { Lock::Ours } else { Lock::Held(lock) }
}

fn held(lease: Lease) -> HeldLock {
    let identity = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    HeldLock {
        name: lease.metadata.name.unwrap_or_default(),
        uid: lease.metadata.uid.unwrap_or_default(),
        holder: parse_holder(&identity),
        identity,
    }
}

fn parse_holder(identity: &str) -> Option<Owner> {
    let (kind, object) = identity.split_once('/')?;
    let mut parts = object.split('/').map(str::to_owned);
    let kind = Kind::parse(kind)?;
    let owner = Owner { kind, namespace: parts.next()?, name: parts.next()?, uid: parts.next()? };
    (parts.next().is_none() && !owner.uid.is_empty()).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        Owner { kind: Kind::GraphBackup, namespace: "graph".into(), name: "nightly".into(), uid: uid.into() }
    }

    #[test]
    fn a_lock_tells_its_holder() {
        let store = StoreId { creation_time: 1, random_id: 2 };
        let mut lock = lease("operator", store, &owner("a"), DateTime::UNIX_EPOCH);
        lock.metadata.uid = Some("lease-uid".into());
        assert_eq!(seen(lock.clone(), &owner("a")), Lock::Ours);
        let name = cluster_lock(store);
        let identity = "GraphBackup/graph/nightly/a".into();
        let held = HeldLock { name, uid: "lease-uid".into(), identity, holder: Some(owner("a")) };
        assert_eq!(seen(lock, &owner("b")), Lock::Held(held));
    }

    #[test]
    fn a_foreign_lease_is_held_by_nobody_we_know() {
        for identity in
            ["", "pod-7", "a/b/c", "GraphBackup/a/b", "GraphBackup/a/b/", "GraphBackup/a/b/c/d", "Rollback/a/b/c"]
        {
            assert_eq!(parse_holder(identity), None, "{identity:?}");
        }
    }
}
