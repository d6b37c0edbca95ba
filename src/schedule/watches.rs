//! What the `BackupSchedule` controller watches, and which schedule gets a pass after a change.

use super::validate::taken_over;
use crate::api::BackupSchedule;
use crate::backup::known::{Known, Origin};
use crate::backup::watches::{KnownBackups, Listener};
use crate::controller::queue::Queue;
use crate::controller::store::{Item, Kept, Key, Scope, Store};
use crate::controller::watch::{Sink, Watches};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use std::time::Duration;

/// A `BackupSchedule` as the process knows it.
#[derive(Debug)]
pub enum KnownSchedule {
    /// Whole, and packed.
    Readable(Packed),
    /// This version cannot read it.
    Unreadable {
        /// Namespace and name.
        key: Key,
        /// Why.
        error: String,
        /// Whether it is being deleted and waits for its points.
        is_held: bool,
    },
}

/// A `BackupSchedule` as JSON. A pass comes a few times an hour, and unpacks it in microseconds; in between it takes a
/// fraction of the memory.
#[derive(Debug)]
pub struct Packed {
    key: Key,
    /// UIDs of the earlier schedules whose backups it has taken over.
    taken_over: Box<[Box<str>]>,
    json: Box<[u8]>,
}

impl Packed {
    fn of(object: &BackupSchedule) -> Result<Self, serde_json::Error> {
        let taken_over = taken_over(object).map(Box::from).collect();
        let json = serde_json::to_vec(object)?.into_boxed_slice();
        Ok(Self { key: Key::of(&object.metadata), taken_over, json })
    }

    /// The object.
    pub fn unpack(&self) -> Result<BackupSchedule, serde_json::Error> {
        serde_json::from_slice(&self.json)
    }
}

impl KnownSchedule {
    /// Namespace and name.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Readable(Packed { key, .. }) | Self::Unreadable { key, .. } => key,
        }
    }
}

impl Kept for KnownSchedule {
    type Object = BackupSchedule;

    fn keep(object: BackupSchedule) -> Self {
        match Packed::of(&object) {
            Ok(packed) => Self::Readable(packed),
            Err(error) => Self::unreadable(object.metadata, error.to_string()),
        }
    }

    fn unreadable(metadata: ObjectMeta, error: String) -> Self {
        let is_held = metadata.deletion_timestamp.is_some()
            && metadata.finalizers.as_deref().is_some_and(super::world::holds_points);
        Self::Unreadable { key: Key::of(&metadata), error, is_held }
    }
}

/// The store of all `BackupSchedules`, and those that wait for a pass.
#[derive(Clone)]
pub struct KnownSchedules {
    /// What is known of every object.
    pub store: Arc<Store<KnownSchedule>>,
    /// Objects that wait for a pass.
    pub queue: Arc<Queue>,
    /// The backups.
    pub backups: Arc<Store<Known>>,
}

impl KnownSchedules {
    /// Schedules that hear of every change of these backups.
    pub fn listening_to(backups: &mut KnownBackups) -> Self {
        let schedules = Self { store: Arc::default(), queue: Arc::default(), backups: Arc::clone(&backups.store) };
        backups.listener = Some(Arc::new(schedules.clone()));
        schedules
    }

    /// Watches the objects, until the future is dropped.
    pub async fn follow(&self, watches: &Watches) {
        watches.follow("", Arc::new(self.clone())).await;
    }

    /// Whether all that a pass in a namespace looks at is known, as far as a watch can know it.
    pub fn is_ready(&self, namespace: &str) -> bool {
        self.store.is_listed(namespace) && self.backups.is_listed(namespace)
    }

    fn trigger(&self, key: Key) {
        self.trigger_after(key, Duration::ZERO);
    }

    fn trigger_after(&self, key: Key, after: Duration) {
        if self.store.get(&key).is_some() && self.is_ready(&key.namespace) {
            self.queue.add(key, after);
        }
    }

    /// The schedules of other names that have taken over the backups of an earlier one.
    fn heirs(&self, namespace: &str, origin: &Origin) -> Vec<Key> {
        let is_heir = |known: &&KnownSchedule| match known {
            KnownSchedule::Readable(Packed { key, taken_over, .. }) => {
                key.name != *origin.schedule && taken_over.contains(&origin.schedule_uid)
            }
            KnownSchedule::Unreadable { .. } => false,
        };
        self.store.in_namespace(namespace, |known| known.filter(is_heir).map(|known| known.key().clone()).collect())
    }

    fn trigger_all(&self, scope: &Scope) {
        for key in self.store.keys(scope) {
            self.trigger(key);
        }
    }
}

impl Listener for KnownSchedules {
    fn changed(&self, key: &Key, before: Option<&Known>, after: Option<&Known>) {
        let origins = [before, after].map(|known| known.and_then(Known::origin));
        if before.is_some() && stage(before) == stage(after) && !has_moved(&origins) {
            return;
        }
        for origin in origins.into_iter().flatten() {
            self.trigger(Key { namespace: key.namespace.clone(), name: origin.schedule.to_string() });
            for heir in self.heirs(&key.namespace, &origin) {
                self.trigger(heir);
            }
        }
    }

    fn listed(&self, scope: &Scope) {
        self.trigger_all(scope);
    }

    fn part_changed(&self, owner: Key, after: Duration) {
        self.trigger_after(owner, after);
    }
}

/// Whether a backup was taken by another schedule than it was.
fn has_moved(origins: &[Option<Origin>; 2]) -> bool {
    let [before, after] = origins.each_ref().map(|origin| origin.as_ref().map(|origin| &origin.schedule_uid));
    before != after
}

/// What of a backup its schedule acts on: whether it is there, over, being deleted, pinned, broken.
fn stage(known: Option<&Known>) -> [bool; 5] {
    let is_over = known.is_some_and(|known| matches!(known, Known::Over(_)));
    let is_deleted = known.and_then(Known::origin).is_some_and(|origin| origin.is_deleted);
    let is_pinned = known.is_some_and(Known::is_pinned);
    let is_broken = known.and_then(Known::point).is_some_and(|(_, point)| point.is_broken);
    [known.is_some(), is_over, is_deleted, is_pinned, is_broken]
}

impl Sink for KnownSchedules {
    type Kept = KnownSchedule;

    fn begin_list(&self) -> u64 {
        self.store.begin_list()
    }

    fn listed(&self, round: u64, item: Item<KnownSchedule>) {
        self.store.put(round, item);
    }

    fn end_list(&self, scope: &Scope, round: u64) {
        self.store.end_list(scope, round);
        self.trigger_all(scope);
    }

    fn changed(&self, round: u64, item: Item<KnownSchedule>) {
        let key = item.key.clone();
        self.store.put(round, item);
        self.trigger(key);
    }

    fn removed(&self, item: Item<KnownSchedule>) {
        self.store.remove(&item.key);
        self.queue.add(item.key, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests;
