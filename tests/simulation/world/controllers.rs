//! The controllers of Kubernetes that care for every volume, claim and StatefulSet, and the kubelets of their pods.
//!
//! They look at everything there is, a second after anything of it has changed, until nothing is left to do. So the
//! operator sees every state in between, as it does when the real ones lag behind.

use super::database::Database;
use super::kubelet::{self, Want};
use super::script::Manners;
use super::{stateful_set, volumes};
use crate::apiserver::{Key, Store};
use serde_json::Value;

/// Seconds from a change to the look at it.
pub const SECONDS: u64 = 1;
/// More rounds than anything needs that ends.
const ROUNDS_MAX: usize = 200;

/// Whether a change is one to look at.
pub fn watch(store: &Store, changed: &Value) -> bool {
    match changed["kind"].as_str() {
        Some("StatefulSet" | "PersistentVolume" | "StorageClass") => true,
        // Those of a StatefulSet that is gone have to go, too.
        Some("Pod") if changed["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet" => true,
        Some("PersistentVolumeClaim" | "Pod") => {
            store.list("StatefulSet").next().is_some() || store.list("StorageClass").next().is_some()
        }
        _ => false,
    }
}

/// One look at everything. Gives what the kubelets do at some time.
pub fn sync(store: &mut Store, database: &Database, members: Manners) -> Vec<Want> {
    volumes::sync(store, database);
    for key in keys(store, "StatefulSet") {
        stateful_set::sync(store, &key);
    }
    kubelet::sync(store, database, members)
}

/// Lets everything happen at once that would happen in a long time.
pub fn settle(store: &mut Store, database: &Database) {
    for _ in 0..ROUNDS_MAX {
        let version = store.version();
        let wants = sync(store, database, Manners::default());
        for want in &wants {
            kubelet::go_on(store, want, database, Manners::default());
        }
        if wants.is_empty() && store.version() == version {
            return;
        }
    }
    panic!("the world does not settle");
}

/// Keys of all objects of a kind.
pub fn keys(store: &Store, kind: &str) -> Vec<Key> {
    store.list(kind).map(Key::of).collect()
}

/// A text, or nothing.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
