//! What the `Restore` controller watches.

use crate::api::Restore;
use crate::controller::queue::Queue;
use crate::controller::store::{Item, Kept, Key, Scope, Store};
use crate::controller::watch::{Sink, Watches};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use std::time::Duration;

/// A `Restore` as the process knows it: a pass reads the object itself.
#[derive(Debug)]
pub enum KnownRestore {
    /// Its namespace and name.
    Readable(Key),
    /// This version cannot read it; why.
    Unreadable(Key, String),
}

impl KnownRestore {
    /// Namespace and name.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Readable(key) | Self::Unreadable(key, _) => key,
        }
    }
}

impl Kept for KnownRestore {
    type Object = Restore;

    fn keep(object: Restore) -> Self {
        Self::Readable(Key::of(&object.metadata))
    }

    fn unreadable(metadata: ObjectMeta, error: String) -> Self {
        Self::Unreadable(Key::of(&metadata), error)
    }
}

/// The store of all `Restores`, and those that wait for a pass.
#[derive(Clone, Default)]
pub struct KnownRestores {
    /// What is known of every object.
    pub store: Arc<Store<KnownRestore>>,
    /// Objects that wait for a pass.
    pub queue: Arc<Queue>,
}

impl KnownRestores {
    /// Watches the objects, until the future is dropped.
    pub async fn follow(&self, watches: &Watches) {
        watches.follow("", Arc::new(self.clone())).await;
    }
}

impl Sink for KnownRestores {
    type Kept = KnownRestore;

    fn begin_list(&self) -> u64 {
        self.store.begin_list()
    }

    fn listed(&self, round: u64, item: Item<KnownRestore>) {
        self.store.put(round, item);
    }

    fn end_list(&self, scope: &Scope, round: u64) {
        self.store.end_list(scope, round);
        for key in self.store.keys(scope) {
            self.queue.add(key, Duration::ZERO);
        }
    }

    fn changed(&self, round: u64, item: Item<KnownRestore>) {
        let key = item.key.clone();
        self.store.put(round, item);
        self.queue.add(key, Duration::ZERO);
    }

    fn removed(&self, item: Item<KnownRestore>) {
        self.store.remove(&item.key);
        self.queue.add(item.key, Duration::ZERO);
    }
}
