//! The world of a restore by hand: volumes are swapped under the members, and what each member serves then.

use super::controllers::settle;
use super::database::{Database, STORE};
use super::ensemble::{Data, Ensemble};
use super::kubelet::is_ready;
use super::members::{self, CLASS};
use super::volumes::{claim_key, volume_key, volume_of};
use super::{NAMESPACE, controllers, provisioner};
use crate::apiserver::{DeleteOptions, Key, Kind, Store};
use crate::clock::{Clock, in_paused_time};
use graph_backup_operator::api::StoreId;
use serde_json::{Value, json};
use std::time::Duration;

/// Members on volumes, and what people do to them.
struct Scene {
    store: Store,
    database: Database,
}

/// The claims go with the members that are stopped: the worst case.
fn claims_go(set: &mut Value) {
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": "Delete"});
}

fn pod_key(name: &str) -> Key {
    Key { kind: "Pod", namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

fn scene(replicas: i32, change: fn(&mut Value), play: impl FnOnce(Scene)) {
    in_paused_time(async {
        let mut store = Store::new(Clock::start(Duration::ZERO));
        let database = Database::empty();
        members::create_on_volumes(&mut store, &database, replicas, change);
        play(Scene { store, database });
    });
}

impl Scene {
    fn settle(&mut self) {
        settle(&mut self.store, &self.database);
    }

    fn scale(&mut self, replicas: u32) {
        members::scale(&mut self.store, replicas);
        self.settle();
        self.store.collect_garbage();
        self.settle();
    }

    /// Name of the volume of a claim.
    fn volume(&self, claim: &str) -> String {
        volume_of(&self.store, NAMESPACE, claim).unwrap().key().name.clone()
    }

    fn uid(&self, volume: &str) -> String {
        self.store.get(&volume_key(volume)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Phase of a claim or a volume; nothing if it is not there.
    fn phase(&self, key: &Key) -> &str {
        self.store.get(key).and_then(|object| object["status"]["phase"].as_str()).unwrap_or_default()
    }

    fn retain(&mut self, volume: &str) {
        let retain = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        self.store.merge(&volume_key(volume), &retain).unwrap();
    }

    /// A claim on the node where a member runs, with a finished pod; gives its volume.
    fn stage(&mut self, name: &str, data: Option<Data>) -> String {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": CLASS});
        let claim = json!({"metadata": {"name": name}, "spec": spec});
        self.store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, claim).unwrap();
        let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": name}});
        let spec = json!({"restartPolicy": "Never", "containers": [{"name": "agent"}], "volumes": [volume]});
        self.store.create(Kind::named("Pod"), NAMESPACE, json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.settle();
        let volume = self.volume(name);
        if let Some(data) = data {
            self.database.put(&self.uid(&volume), data);
        }
        self.retain(&volume);
        self.store.delete(&pod_key(name), &DeleteOptions::default()).unwrap();
        self.delete_claim(name);
        volume
    }

    fn delete_claim(&mut self, name: &str) {
        let _ = self.store.delete(&claim_key(NAMESPACE, name), &DeleteOptions::default());
        self.settle();
        assert_eq!(self.phase(&claim_key(NAMESPACE, name)), "");
    }

    /// Binds a released volume to a claim of this name.
    fn give(&mut self, volume: &str, claim: &str) {
        let claim_ref = json!({"name": claim, "uid": null, "resourceVersion": null});
        self.store.merge(&volume_key(volume), &json!({"spec": {"claimRef": claim_ref}})).unwrap();
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": CLASS, "volumeName": volume});
        let object = json!({"metadata": {"name": claim}, "spec": spec});
        self.store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, object).unwrap();
        self.settle();
        assert_eq!(self.phase(&claim_key(NAMESPACE, claim)), "Bound");
    }

    /// What a member serves: its last transaction and what was written.
    fn serves(&self, id: i32) -> Option<(i64, Vec<&'static str>)> {
        self.database.served_by(id).map(|data| (data.last_transaction, data.writes.into_iter().collect()))
    }

    fn is_ready(&self, pod: &str) -> bool {
        self.store.get(&pod_key(pod)).is_some_and(|pod| is_ready(pod))
    }
}

fn point() -> Data {
    Data::new(STORE, 40, &["sunday"])
}

#[test]
fn a_volume_is_swapped_and_swapped_back() {
    scene(1, claims_go, |mut scene| {
        let member = claim_key(NAMESPACE, "data-neo4j-0");
        let (original, staged) = (scene.volume("data-neo4j-0"), scene.stage("staged-0", Some(point())));
        scene.retain(&original);
        scene.scale(0);
        // The StatefulSet deletes the claim by itself.
        assert_eq!((scene.phase(&member), scene.phase(&volume_key(&original))), ("", "Released"));
        scene.give(&original, "original-0");
        scene.give(&staged, "data-neo4j-0");
        scene.scale(1);
        assert_eq!(scene.serves(1), Some((40, vec!["sunday"])));
        assert!(scene.database.write("since"));

        scene.scale(0);
        scene.delete_claim("original-0");
        scene.give(&staged, "replaced-0");
        scene.give(&original, "data-neo4j-0");
        scene.scale(1);
        assert_eq!(scene.serves(1), Some((42, vec!["before"])));
        let replaced = scene.database.on(&scene.uid(&staged));
        assert_eq!(replaced, Some(Data::new(STORE, 41, &["since", "sunday"])));
    });
}

#[test]
fn the_data_goes_with_a_volume_that_is_not_retained() {
    scene(1, claims_go, |mut scene| {
        let original = scene.volume("data-neo4j-0");
        let uid = scene.uid(&original);
        scene.scale(0);
        assert_eq!((scene.phase(&volume_key(&original)), scene.database.on(&uid)), ("", None));
        // Members that find nothing at all make an empty store.
        scene.scale(1);
        assert_eq!(scene.serves(1), Some((1, vec![])));
    });
}

/// Swaps the volumes of all members, which do not run.
fn swap_all(scene: &mut Scene, staged: &[String]) {
    for (ordinal, staged) in staged.iter().enumerate() {
        let claim = format!("data-neo4j-{ordinal}");
        let original = scene.volume(&claim);
        scene.retain(&original);
        scene.delete_claim(&claim);
        scene.give(&original, &format!("original-{ordinal}"));
        scene.give(staged, &claim);
    }
}

#[test]
fn members_with_empty_volumes_copy_from_the_seed() {
    scene(
        3,
        |_| (),
        |mut scene| {
            let staged =
                [scene.stage("staged-0", Some(point())), scene.stage("staged-1", None), scene.stage("staged-2", None)];
            let before = scene.database.ensemble(|ensemble| ensemble.rebound());
            scene.scale(0);
            assert_eq!(scene.database.ensemble(|ensemble| ensemble.master()), None);
            assert_eq!(scene.database.ensemble(|ensemble| ensemble.rebound()), before, "it survives");
            swap_all(&mut scene, &staged);
            scene.scale(1);
            assert_eq!(scene.serves(1), Some((40, vec!["sunday"])));
            let (seed, modified) = scene.database.ensemble(|ensemble| ensemble.rebound());
            assert!(seed == 1 && modified > before.1);
            scene.scale(3);
            assert_eq!(scene.serves(3), Some((40, vec!["sunday"])));
            assert!(scene.database.write("since"));
            assert_eq!(scene.serves(2), Some((41, vec!["since", "sunday"])));
        },
    );
}

#[test]
fn a_member_that_kept_a_newer_store_undoes_the_restore() {
    scene(
        2,
        |_| (),
        |mut scene| {
            let staged = [scene.stage("staged-0", Some(point()))];
            scene.scale(0);
            swap_all(&mut scene, &staged);
            scene.scale(2);
            assert_eq!(scene.serves(1), Some((42, vec!["before"])));
        },
    );
}

#[test]
fn a_member_of_another_store_hangs_and_blocks_the_next() {
    scene(
        2,
        |_| (),
        |mut scene| {
            let another = StoreId { random_id: 1, ..STORE };
            let staged = [scene.stage("staged-0", Some(Data::new(another, 50, &["foreign"])))];
            scene.scale(0);
            swap_all(&mut scene, &staged);
            scene.scale(2);
            assert!(scene.serves(1).is_none() && !scene.is_ready("neo4j-0"));
            assert!(scene.store.get(&pod_key("neo4j-1")).is_none());
            // Without the old cluster's znodes it is a new cluster.
            assert!(scene.database.ensemble(Ensemble::forget_cluster));
            scene.store.delete(&pod_key("neo4j-0"), &DeleteOptions::default()).unwrap();
            scene.settle();
            assert_eq!(scene.serves(1), Some((50, vec!["foreign"])));
            // The other one has a store of the old one.
            assert!(scene.serves(2).is_none() && !scene.is_ready("neo4j-1"));
        },
    );
}

#[test]
fn members_that_are_not_ready_block_an_ordered_stop() {
    scene(
        3,
        |_| (),
        |mut scene| {
            for pod in ["neo4j-0", "neo4j-1"] {
                let unready = |pod: &mut Value| {
                    pod["status"]["conditions"] = json!([]);
                    pod["metadata"]["annotations"]["simulation/hangs"] = json!("true");
                };
                scene.store.change(&pod_key(pod), unready).unwrap();
            }
            scene.scale(0);
            let left = |scene: &Scene| controllers::keys(&scene.store, "Pod").len();
            assert_eq!(left(&scene), 2, "only the first that is not ready may go without being ready");
            scene.store.delete(&pod_key("neo4j-1"), &DeleteOptions::default()).unwrap();
            scene.settle();
            assert_eq!(left(&scene), 0);
        },
    );
}

#[test]
fn free_volumes_are_taken_and_classes_may_not_wait() {
    scene(
        1,
        |_| (),
        |mut scene| {
            provisioner::create_class(&mut scene.store, "fast", false, false);
            let claim = |name: &str, class: &str| {
                let size = json!({"requests": {"storage": "1Gi"}});
                let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": size});
                json!({"metadata": {"name": name}, "spec": spec})
            };
            scene.store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, claim("fast-0", "fast")).unwrap();
            scene.settle();
            let volume = scene.volume("fast-0");
            scene.retain(&volume);
            scene.delete_claim("fast-0");
            // Whoever removes the reference gives the volume away.
            let free = json!({"spec": {"claimRef": null}});
            scene.store.merge(&volume_key(&volume), &free).unwrap();
            scene.settle();
            assert_eq!(scene.phase(&volume_key(&volume)), "Available");
            scene.store.create(Kind::named("PersistentVolumeClaim"), NAMESPACE, claim("stranger", "fast")).unwrap();
            scene.settle();
            assert_eq!(scene.volume("stranger"), volume);
            // A volume that is bound cannot go before its claim has gone; a claim whose volume is gone is lost.
            scene.store.delete(&volume_key(&volume), &DeleteOptions::default()).unwrap();
            scene.settle();
            assert_eq!(scene.phase(&volume_key(&volume)), "Bound");
            scene.store.merge(&volume_key(&volume), &json!({"metadata": {"finalizers": null}})).unwrap();
            scene.settle();
            assert_eq!(scene.phase(&claim_key(NAMESPACE, "stranger")), "Lost");
        },
    );
}
