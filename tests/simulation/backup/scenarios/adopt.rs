//! Points whose objects were lost become the points of new ones.

use crate::apiserver::{Key, Store};
use crate::backup::jobs::{adopt, prune};
use crate::backup::scenario::{BACKUP, Scenario, reason, scenario};
use crate::fault::delete;
use crate::world::NAMESPACE;
use graph_backup_operator::api::Reason;
use serde_json::json;

pub fn a_point_is_adopted() -> Scenario {
    // Status, the Job that reads the point back, Event, status.
    scenario("a point is adopted").adopts(true).succeeds(&[adopt(1)]).writes(4).also(|run| {
        let backup = run.end.iter().find(|object| object["kind"] == "GraphBackup").unwrap();
        assert_eq!(reason(backup), "Adopted");
        assert_eq!(backup["status"]["point"]["ownerUid"], "uid-of-the-lost-one");
    })
}

pub fn the_point_is_missing() -> Scenario {
    scenario("the point is missing").adopts(false).fails(Reason::PointMissing, &[adopt(1)])
}

pub fn adopted_files_go_with_the_object() -> Scenario {
    let backup = |store: &mut Store| {
        delete(store, &Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() });
    };
    scenario("adopted files go with the object")
        .adopts(true)
        .spec("/deletionPolicy", json!("Delete"))
        .at(600, backup)
        .ends_deleted(&[adopt(1), prune()])
}
