//! What the `GraphBackup` controller watches, and which object gets a pass after a change.

use super::known::Known;
use super::points::{Points, adoptions_ahead, newest_parent, taken_by};
use super::validate::ValidBackup;
use crate::api::names::{BACKUP_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use crate::api::{GraphBackup, Parent, StoreId};
use crate::controller::queue::Queue;
use crate::controller::store::{Item, Kept, Key, Scope, Store};
use crate::controller::watch::{Sink, Watches};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// The store of all `GraphBackups`, and those that wait for a pass.
#[derive(Clone, Default)]
pub struct KnownBackups {
    /// What is known of every object.
    pub store: Arc<Store<Known>>,
    /// Objects that wait for a pass.
    pub queue: Arc<Queue>,
}

impl KnownBackups {
    /// Watches the objects, their Jobs and their pods, until the future is dropped.
    pub async fn follow(&self, watches: &Watches) {
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let jobs = Arc::new(Parts::<OwnerOfJob>::of(self));
        let pods = Arc::new(Parts::<OwnerOfPod>::of(self));
        futures::join!(
            watches.follow("", Arc::new(self.clone())),
            watches.follow(&ours, jobs),
            watches.follow(&ours, pods)
        );
    }

    /// A pass, unless the object is settled or not known: it gets one then when it becomes known.
    fn trigger(&self, key: Key) {
        let unsettled = self.store.get(&key).is_some_and(|known| !known.is_settled());
        if unsettled && self.store.is_listed(&key.namespace) {
            self.queue.add(key, Duration::ZERO);
        }
    }
}

impl Sink for KnownBackups {
    type Kept = Known;

    fn begin_list(&self) -> u64 {
        self.store.begin_list()
    }

    fn listed(&self, round: u64, item: Item<Known>) {
        self.store.put(round, item);
    }

    fn end_list(&self, scope: &Scope, round: u64) {
        for key in self.store.end_list(scope, round) {
            self.queue.add(key, Duration::ZERO);
        }
    }

    fn changed(&self, round: u64, item: Item<Known>) {
        let key = item.key.clone();
        self.store.put(round, item);
        self.trigger(key);
    }

    fn removed(&self, item: Item<Known>) {
        self.store.remove(&item.key);
    }
}

impl Points for Store<Known> {
    fn newest_parent(&self, backup: &ValidBackup, store: StoreId) -> Option<Parent> {
        self.in_namespace(&backup.owner.namespace, |known| newest_parent(backup, store, known))
    }

    fn taken_by(&self, backup: &ValidBackup, store: StoreId) -> Option<String> {
        self.in_namespace(&backup.owner.namespace, |known| taken_by(backup, store, known))
    }

    fn adoptions_ahead(&self, backup: &ValidBackup) -> usize {
        self.in_namespace(&backup.owner.namespace, |known| adoptions_ahead(backup, known))
    }
}

/// What is kept of a Job: the name of the `GraphBackup` that owns it.
struct OwnerOfJob(Option<String>);

/// What is kept of a pod: the name of the `GraphBackup` that its label names.
struct OwnerOfPod(Option<String>);

/// Something of which only the `GraphBackup` that it belongs to matters.
trait Part: Kept {
    fn owner(&self) -> Option<&str>;
}

impl Kept for OwnerOfJob {
    type Object = PartialObjectMeta<Job>;
    const METADATA_ONLY: bool = true;

    fn keep(job: PartialObjectMeta<Job>) -> Self {
        let owners = job.metadata.owner_references.into_iter().flatten();
        let kind = GraphBackup::kind(&());
        Self(
            owners
                .into_iter()
                .find(|owner| owner.kind == kind && owner.controller == Some(true))
                .map(|owner| owner.name),
        )
    }

    fn unreadable(_: ObjectMeta, _: String) -> Self {
        Self(None)
    }
}

impl Part for OwnerOfJob {
    fn owner(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Kept for OwnerOfPod {
    type Object = PartialObjectMeta<Pod>;
    const METADATA_ONLY: bool = true;

    fn keep(pod: PartialObjectMeta<Pod>) -> Self {
        Self(pod.metadata.labels.and_then(|mut labels| labels.remove(BACKUP_LABEL)))
    }

    fn unreadable(_: ObjectMeta, _: String) -> Self {
        Self(None)
    }
}

impl Part for OwnerOfPod {
    fn owner(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Takes Jobs or pods: nothing is stored of them, each change brings a pass over the object that they belong to.
struct Parts<T> {
    backups: KnownBackups,
    of: PhantomData<fn() -> T>,
}

impl<T> Parts<T> {
    fn of(backups: &KnownBackups) -> Self {
        Self { backups: backups.clone(), of: PhantomData }
    }
}

impl<T: Part> Sink for Parts<T> {
    type Kept = T;

    fn begin_list(&self) -> u64 {
        0
    }

    fn listed(&self, round: u64, item: Item<T>) {
        self.changed(round, item);
    }

    fn end_list(&self, _: &Scope, _: u64) {}

    fn changed(&self, _: u64, item: Item<T>) {
        if let Some(name) = item.kept.owner() {
            self.backups.trigger(Key { namespace: item.key.namespace.clone(), name: name.to_owned() });
        }
    }

    fn removed(&self, item: Item<T>) {
        self.changed(0, item);
    }
}
