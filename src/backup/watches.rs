//! What the `GraphBackup` controller watches, and which object gets a pass after a change.

use super::known::{Known, pass_after};
use super::points::{Points, adoptions_ahead, newest_parent, taken_by, upcoming};
use super::validate::ValidBackup;
use crate::api::names::{BACKUP_LABEL, MANAGED_BY, MANAGED_BY_LABEL, SCHEDULE_LABEL};
use crate::api::{Kind, Parent, StoreId};
use crate::controller::limit::Limit;
use crate::controller::progress::{AFTER_A_JOB, Part, Progress};
use crate::controller::queue::Queue;
use crate::controller::store::{Item, Kept, Key, Scope, Store};
use crate::controller::watch::{Sink, Watches};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use std::time::Duration;

/// Another controller that hears of every change of a `GraphBackup`.
pub trait Listener: Send + Sync {
    /// What is known of a backup has changed. One of the two is there at least.
    fn changed(&self, key: &Key, before: Option<&Known>, after: Option<&Known>);
    /// Every backup of a scope is known.
    fn listed(&self, scope: &Scope);
    /// A Job or a pod of an object of another kind has come further, or is gone.
    fn part_changed(&self, owner: Key, after: Duration);
}

/// The store of all `GraphBackups`, and those that wait for a pass.
#[derive(Clone)]
pub struct KnownBackups {
    /// What is known of every object.
    pub store: Arc<Store<Known>>,
    /// Objects that wait for a pass.
    pub queue: Arc<Queue>,
    /// How many of them may work at the same time.
    pub limit: Arc<Limit>,
    /// Who hears of the changes.
    pub listener: Option<Arc<dyn Listener>>,
}

impl KnownBackups {
    /// None is known yet; so many may work at the same time.
    pub fn new(places: usize) -> Self {
        let queue = Arc::<Queue>::default();
        let limit = Arc::new(Limit::new(places, Arc::clone(&queue)));
        Self { store: Arc::default(), queue, limit, listener: None }
    }

    /// Watches the objects, their Jobs and their pods, until the future is dropped.
    pub async fn follow(&self, watches: &Watches) {
        self.limit.expect(watches.scopes());
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let jobs = Arc::new(Parts::<KnownJob>::of(self));
        let pods = Arc::new(Parts::<KnownPod>::of(self));
        futures::join!(
            watches.follow("", Arc::new(self.clone())),
            watches.follow(&ours, jobs),
            watches.follow(&ours, pods),
            self.limit.expect_no_longer()
        );
    }

    /// A pass after some time, unless the object is settled or not known: it gets one then when it becomes known.
    fn trigger(&self, key: Key, after: Duration) {
        let unsettled = self.store.get(&key).is_some_and(|known| !known.is_settled());
        if unsettled && self.store.is_listed(&key.namespace) {
            self.queue.add(key, after);
        }
    }

    /// Counts a backup that works. One that is over, or that this version cannot read, neither works nor waits.
    fn count(&self, key: &Key, known: &Known) {
        match known {
            Known::Over(_) | Known::Unreadable { .. } => self.limit.forget(key),
            Known::Open(_) => self.limit.works(key, known.is_at_work()),
        }
    }

    fn tell(&self, key: &Key, before: Option<&Known>, after: Option<&Known>) {
        if let Some(listener) = &self.listener {
            listener.changed(key, before, after);
        }
    }
}

impl Sink for KnownBackups {
    type Kept = Known;

    fn begin_list(&self) -> u64 {
        self.store.begin_list()
    }

    fn listed(&self, round: u64, item: Item<Known>) {
        self.count(&item.key, &item.kept);
        self.store.put(round, item);
    }

    fn end_list(&self, scope: &Scope, round: u64) {
        let listed = self.store.end_list(scope, round);
        for (key, _) in listed.gone {
            self.limit.forget(&key);
        }
        self.limit.listed(scope);
        for key in listed.unsettled {
            self.queue.add(key, Duration::ZERO);
        }
        if let Some(listener) = &self.listener {
            listener.listed(scope);
        }
    }

    fn changed(&self, round: u64, item: Item<Known>) {
        let (key, after) = (item.key.clone(), Arc::clone(&item.kept));
        let before = self.store.get(&key);
        self.store.put(round, item);
        self.count(&key, &after);
        self.tell(&key, before.as_deref(), Some(&after));
        self.trigger(key, pass_after(before.as_deref(), &after));
    }

    fn removed(&self, item: Item<Known>) {
        let before = self.store.get(&item.key);
        self.store.remove(&item.key);
        self.limit.forget(&item.key);
        self.tell(&item.key, before.as_deref().or(Some(&item.kept)), None);
    }
}

impl Points for Store<Known> {
    fn newest_parent(&self, backup: &ValidBackup, store: StoreId) -> Option<Parent> {
        self.in_namespace(&backup.owner.namespace, |known| newest_parent(backup, store, known))
    }

    fn upcoming(&self, backup: &ValidBackup, store: StoreId) -> Option<String> {
        self.in_namespace(&backup.owner.namespace, |known| upcoming(backup, store, known))
    }

    fn taken_by(&self, backup: &ValidBackup, store: StoreId) -> Option<String> {
        self.in_namespace(&backup.owner.namespace, |known| taken_by(backup, store, known))
    }

    fn adoptions_ahead(&self, backup: &ValidBackup) -> usize {
        self.in_namespace(&backup.owner.namespace, |known| adoptions_ahead(backup, known))
    }
}

/// What is kept of a Job: the object that owns it, and how far it has come.
struct KnownJob(Option<(Kind, String)>, Progress);

/// What is kept of a pod: the object that its label names, and how far it has come.
struct KnownPod(Option<(Kind, String)>, Progress);

impl Kept for KnownJob {
    type Object = Job;

    fn keep(job: Job) -> Self {
        let progress = Progress::of_job(&job);
        let owner = job.metadata.owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
        Self(owner.and_then(|owner| Some((Kind::parse(&owner.kind)?, owner.name))), progress)
    }

    fn unreadable(_: ObjectMeta, _: String) -> Self {
        Self(None, Progress::default())
    }
}

impl Part for KnownJob {
    const AFTER_ITS_END: Duration = AFTER_A_JOB;

    fn owner(&self) -> Option<(Kind, &str)> {
        self.0.as_ref().map(|(kind, name)| (*kind, name.as_str()))
    }

    fn progress(&self) -> Progress {
        self.1
    }
}

impl Kept for KnownPod {
    type Object = Pod;

    fn keep(pod: Pod) -> Self {
        let progress = Progress::of_pod(&pod);
        let owner = pod.metadata.labels.and_then(|mut labels| {
            let of_backup = labels.remove(BACKUP_LABEL).map(|name| (Kind::GraphBackup, name));
            of_backup.or_else(|| Some((Kind::BackupSchedule, labels.remove(SCHEDULE_LABEL)?)))
        });
        Self(owner, progress)
    }

    fn unreadable(_: ObjectMeta, _: String) -> Self {
        Self(None, Progress::default())
    }
}

impl Part for KnownPod {
    const AFTER_ITS_END: Duration = Duration::ZERO;

    fn owner(&self) -> Option<(Kind, &str)> {
        self.0.as_ref().map(|(kind, name)| (*kind, name.as_str()))
    }

    fn progress(&self) -> Progress {
        self.1
    }
}

/// Takes Jobs or pods: each that has come further, or is gone, brings a pass over the object that it belongs to.
struct Parts<T> {
    backups: KnownBackups,
    known: Store<T>,
}

impl<T: Part> Parts<T> {
    fn of(backups: &KnownBackups) -> Self {
        Self { backups: backups.clone(), known: Store::default() }
    }

    /// The object that a Job or a pod belongs to.
    fn owner(key: &Key, part: &T) -> Option<(Kind, Key)> {
        let (kind, name) = part.owner()?;
        Some((kind, Key { namespace: key.namespace.clone(), name: name.to_owned() }))
    }

    /// Whether a member of the owner's database is stopped. Then every change is an occasion to see that somebody has
    /// scaled its StatefulSet: a small store is copied within two seconds.
    fn may_be_scaled(&self, item: &Item<T>) -> bool {
        match Self::owner(&item.key, &item.kept) {
            Some((Kind::GraphBackup, owner)) => {
                self.backups.store.get(&owner).is_some_and(|known| known.has_stopped_member())
            }
            Some((Kind::BackupSchedule | Kind::Restore, _)) | None => false,
        }
    }

    fn trigger(&self, key: &Key, part: &T, after: Duration) {
        match (Self::owner(key, part), &self.backups.listener) {
            (Some((Kind::GraphBackup, owner)), _) => self.backups.trigger(owner, after),
            (Some((Kind::BackupSchedule, owner)), Some(listener)) => listener.part_changed(owner, after),
            // A restore looks at its Jobs itself, every few seconds while it works.
            (Some((Kind::Restore, _)) | None, _) | (Some((Kind::BackupSchedule, _)), None) => {}
        }
    }
}

impl<T: Part> Sink for Parts<T> {
    type Kept = T;

    fn begin_list(&self) -> u64 {
        self.known.begin_list()
    }

    fn listed(&self, round: u64, item: Item<T>) {
        self.changed(round, item);
    }

    fn end_list(&self, scope: &Scope, round: u64) {
        for (key, part) in self.known.end_list(scope, round).gone {
            self.trigger(&key, &part, Duration::ZERO);
        }
    }

    fn changed(&self, round: u64, item: Item<T>) {
        let before = self.known.get(&item.key).map(|known| known.progress()).unwrap_or_default();
        self.known.put(round, item.clone());
        let due = item.kept.progress().due(before, T::AFTER_ITS_END);
        if let Some(after) = due.or_else(|| self.may_be_scaled(&item).then_some(Duration::ZERO)) {
            self.trigger(&item.key, &item.kept, after);
        }
    }

    fn removed(&self, item: Item<T>) {
        self.known.remove(&item.key);
        self.trigger(&item.key, &item.kept, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GraphBackup;
    use crate::backup::testing::{at, backup};
    use crate::controller::queue::Passes;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use serde_json::{Value, json};
    use std::sync::Mutex;

    /// Notes the objects that get a pass.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl Passes for Notes {
        fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>> {
            self.0.lock().unwrap().push(key.to_string());
            futures::future::ready(None).boxed()
        }
    }

    fn item<T: Kept>(object: &Value) -> Item<T> {
        Item::read(&object.to_string()).unwrap()
    }

    fn pod(version: u32, phase: &str) -> Item<KnownPod> {
        item(&json!({
            "metadata": {"name": "p", "namespace": "graph", "resourceVersion": version.to_string(),
                         "labels": {BACKUP_LABEL: "nightly"}},
            "status": {"phase": phase},
        }))
    }

    /// Number of passes that these changes of a pod bring over the object that it belongs to.
    async fn passes(object: &GraphBackup, pods: impl FnOnce(&Parts<KnownPod>)) -> usize {
        let backups = KnownBackups::new(1);
        backups.listed(1, item(&serde_json::to_value(object).unwrap()));
        backups.store.end_list(&Scope::Namespace("graph".to_owned()), 1);
        pods(&Parts::of(&backups));
        let notes = Notes::default();
        backups.queue.run(Arc::new(notes.clone()), tokio::time::sleep(Duration::from_secs(5))).await;
        notes.0.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_brings_a_pass_when_it_ends_and_when_it_is_missed_in_a_list() {
        let open = backup().attempted().object();
        assert_eq!(passes(&open, |pods| pods.changed(1, pod(1, "Pending"))).await, 0);
        assert_eq!(passes(&open, |pods| pods.changed(1, pod(1, "Succeeded"))).await, 1);
        let missed = |pods: &Parts<KnownPod>| {
            pods.listed(1, pod(1, "Running"));
            pods.end_list(&Scope::Cluster, 2);
        };
        assert_eq!(passes(&open, missed).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_one_backup_gives_its_place_and_a_pass_to_the_next() {
        let backups = KnownBackups::new(1);
        let put = |backup: &GraphBackup| backups.changed(1, item(&serde_json::to_value(backup).unwrap()));
        let mut first = backup().named("first").attempted().object();
        put(&first);
        let next = Key { namespace: "graph".to_owned(), name: "next".to_owned() };
        assert!(!backups.limit.admit(&next));
        let status = first.status.as_mut().unwrap();
        status.attempts[0].completion_time = Some(at(9));
        first.metadata.resource_version = Some("99".to_owned());
        put(&first);
        assert!(backups.limit.admit(&next));
        // One that ends while it waits does not get a place later.
        let waits = Key { namespace: "graph".to_owned(), name: "waits".to_owned() };
        assert!(!backups.limit.admit(&waits));
        let mut over = backup().named("waits").attempted().object();
        over.metadata.resource_version = Some("100".to_owned());
        let failed = json!([{"type": "Succeeded", "status": "False", "reason": "DeadlineExceeded", "message": "",
                             "lastTransitionTime": "2026-11-24T06:00:00Z"}]);
        over.status.as_mut().unwrap().conditions = serde_json::from_value(failed).unwrap();
        put(&over);
        backups.limit.release(&next);
        assert!(backups.limit.admit(&next), "its place went to one that is over");
        let notes = Notes::default();
        backups.queue.run(Arc::new(notes.clone()), tokio::time::sleep(Duration::from_secs(5))).await;
        assert_eq!(*notes.0.lock().unwrap(), ["graph/next"]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_brings_a_pass_while_a_member_is_stopped() {
        let mut cold = backup().cold().attempted().object();
        let stops = json!({"pod": "neo4j-2", "memberId": 3, "statefulSetUid": "u", "generation": 1, "replicas": 3});
        let attempt = &mut cold.status.as_mut().unwrap().attempts[0];
        attempt.stopped = Some(serde_json::from_value(stops).unwrap());
        assert_eq!(passes(&cold, |pods| pods.changed(1, pod(1, "Running"))).await, 1);
        cold.status.as_mut().unwrap().attempts[0].stopped.as_mut().unwrap().restored_time = Some(at(9));
        assert_eq!(passes(&cold, |pods| pods.changed(1, pod(1, "Running"))).await, 0);
    }
}
