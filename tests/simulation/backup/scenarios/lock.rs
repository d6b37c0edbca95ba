//! The lock of the cluster is not free, and backups that start from an earlier point.

use crate::apiserver::{Key, Kind, Store};
use crate::backup::jobs::{backup, inspect};
use crate::backup::scenario::{Scenario, scenario};
use crate::backup::subject::OPERATOR_NAMESPACE;
use crate::driver::Run;
use crate::fault::delete;
use crate::world::cluster::Behaviour::Dies;
use crate::world::database::STORE;
use graph_backup_operator::api::names::cluster_lock;
use graph_backup_operator::controller::lock::HOLDER_UID_LABEL;
use serde_json::json;

pub fn the_holder_of_the_lock_is_gone() -> Scenario {
    scenario("the holder of the lock is gone")
        .prepared(|store, _| create_lock(store, "GraphBackup/graph/gone/uid-of-gone", "uid-of-gone"))
        .succeeds(&[backup(1)])
}

pub fn the_holder_of_the_lock_is_unknown() -> Scenario {
    scenario("the holder of the lock is unknown")
        .prepared(|store, _| create_lock(store, "somebody", "somebody"))
        .at(100, |store| {
            let name = cluster_lock(STORE);
            delete(store, &Key { kind: "Lease", namespace: OPERATOR_NAMESPACE.to_owned(), name });
        })
        .succeeds(&[backup(1)])
}

pub fn an_incremental_backup_whose_verdict_is_lost() -> Scenario {
    scenario("an incremental backup whose verdict is lost")
        .spec("/type", json!("Incremental"))
        .backup_job(Dies { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
        .also(|run: &Run| {
            let backup = run.end.iter().find(|object| object["kind"] == "GraphBackup").unwrap();
            assert_eq!(backup["status"]["point"]["parent"], backup["status"]["attempts"][0]["parent"]);
            assert_eq!(backup["status"]["point"]["parent"]["name"], "sunday");
        })
}

fn create_lock(store: &mut Store, holder: &str, uid: &str) {
    let lease = json!({"metadata": {"name": cluster_lock(STORE), "labels": {HOLDER_UID_LABEL: uid}}, "spec": {"holderIdentity": holder}});
    store.create(Kind::named("Lease"), OPERATOR_NAMESPACE, lease).unwrap();
}
