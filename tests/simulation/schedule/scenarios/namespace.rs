//! The namespace goes: nothing new is created in it, and no finalizer of ours holds it.

use crate::apiserver::{Key, Kind, Store};
use crate::fault::delete;
use crate::schedule::look::schedule_key;
use crate::schedule::scenario::{Scenario, scenario};
use crate::schedule::standin::{BY_HAND, End};
use crate::world::NAMESPACE;
use serde_json::json;

fn namespace_key() -> Key {
    Key { kind: "Namespace", namespace: String::new(), name: NAMESPACE.to_owned() }
}

fn create_namespace(store: &mut Store) {
    let namespace = json!({"metadata": {"name": NAMESPACE, "finalizers": ["kubernetes"]}});
    store.create(Kind::named("Namespace"), "", namespace).unwrap();
}

fn delete_namespace(store: &mut Store) {
    delete(store, &namespace_key());
}

/// The namespace controller deletes what is in it, kind by kind.
fn delete_backups(store: &mut Store) {
    let backups: Vec<Key> = store.list("GraphBackup").map(Key::of).collect();
    for key in backups {
        let _ = store.change(&key, |backup| backup["metadata"]["annotations"][BY_HAND] = json!("true"));
        delete(store, &key);
    }
}

fn delete_schedules(store: &mut Store) {
    delete(store, &schedule_key());
}

fn goes(title: &'static str) -> Scenario {
    scenario(title).prepared(create_namespace).spec("deletionPolicy", json!("Delete")).goes().tight()
}

/// The schedules first: their points are the namespace's to delete.
pub fn the_namespace_goes() -> Scenario {
    goes("the namespace goes")
        .at(12_000, delete_namespace)
        .at(12_001, delete_schedules)
        .at(12_300, delete_backups)
        .takes(&["0700", "0800F", "0900"])
}

/// The schedule is still there when its next slot comes: its backup is refused.
pub fn the_namespace_goes_across_a_slot() -> Scenario {
    goes("the namespace goes across a slot")
        .at(14_000, delete_namespace)
        .at(14_500, delete_schedules)
        .at(14_800, delete_backups)
        .takes(&["0700", "0800F", "0900"])
}

pub fn the_namespace_goes_in_mid_run() -> Scenario {
    goes("the namespace goes in mid-run")
        .backups(|slot| if slot.ends_with("0900") { End::Never } else { End::Good(120) })
        .at(10_860, delete_namespace)
        .at(10_861, delete_schedules)
        .at(11_100, delete_backups)
        .takes(&["0700", "0800F", "0900"])
}

/// The operator may not read the namespace: the schedule goes after its points, which are deleted already.
pub fn the_namespace_goes_and_cannot_be_read() -> Scenario {
    goes("the namespace goes and cannot be read")
        .refusing(|call| call.kind.name == "Namespace")
        .at(12_000, delete_namespace)
        .at(12_001, delete_backups)
        .at(12_001, delete_schedules)
        .takes(&["0700", "0800F", "0900"])
}
