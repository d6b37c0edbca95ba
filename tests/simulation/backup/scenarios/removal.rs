//! Objects that want their files removed are deleted.

use crate::apiserver::{Key, Kind, Store, Verb};
use crate::backup::jobs::{backup, prune};
use crate::backup::scenario::{BACKUP, Scenario, scenario};
use crate::fault::delete;
use crate::world::NAMESPACE;
use crate::world::cluster::Behaviour::{Fails, JobVanishes};
use crate::world::database::STORE;
use graph_backup_operator::api::Reason;
use graph_backup_operator::backup::finalizers::FILES_FINALIZER;
use serde_json::{Value, json};

fn deletes(title: &'static str) -> Scenario {
    scenario(title).spec("/deletionPolicy", json!("Delete"))
}

pub fn files_go_with_the_object() -> Scenario {
    deletes("files go with the object").at(600, delete_backup).ends_deleted(&[backup(1), prune()])
}

pub fn files_go_in_mid_run() -> Scenario {
    deletes("files go in mid-run").in_mid_run(delete_backup).ends_deleted(&[backup(1), prune()])
}

pub fn nothing_was_written_yet() -> Scenario {
    deletes("nothing was written yet").operator_down_at_first(20).at(10, delete_backup).ends_deleted(&[])
}

pub fn the_removal_fails_at_first() -> Scenario {
    deletes("the removal fails at first").prune_job(Fails(Reason::TargetLocked)).at(600, delete_backup).ends_deleted(&[
        backup(1),
        prune(),
        prune(),
    ])
}

pub fn the_job_of_the_removal_is_deleted() -> Scenario {
    deletes("the Job of the removal is deleted")
        .prune_job(JobVanishes { published: false })
        .at(600, delete_backup)
        .ends_deleted(&[backup(1), prune(), prune()])
}

pub fn the_claim_went_first() -> Scenario {
    deletes("the claim went first").at(600, delete_claim).at(600, delete_backup).ends_deleted(&[backup(1)])
}

/// With a namespace the rights that the operator has in it are deleted, too.
pub fn the_namespace_goes() -> Scenario {
    deletes("the namespace goes")
        .prepared(|store, _| {
            let namespace = json!({"metadata": {"name": NAMESPACE, "finalizers": ["kubernetes"]}});
            store.create(Kind::named("Namespace"), "", namespace).unwrap();
            delete(store, &Key { kind: "Namespace", namespace: String::new(), name: NAMESPACE.to_owned() });
            let last_attempt = json!({"attempts": [{
                "number": 1, "job": "one", "startTime": "2026-11-24T06:00:00Z", "storeId": STORE,
                "mastership": {"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": STORE}},
            }]});
            let key = Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() };
            let worked_on = |backup: &mut Value| {
                backup["metadata"]["finalizers"] = json!([FILES_FINALIZER]);
                backup["status"] = last_attempt;
            };
            store.change(&key, worked_on).unwrap();
            delete(store, &key);
        })
        .refusing(|call| {
            !matches!(call.kind.name, "GraphBackup" | "Namespace" | "Lease")
                || call.verb == Verb::Get && call.kind.name == "GraphBackup"
        })
        .ends_deleted(&[])
}

fn delete_backup(store: &mut Store) {
    delete(store, &Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() });
}

fn delete_claim(store: &mut Store) {
    delete(
        store,
        &Key { kind: "PersistentVolumeClaim", namespace: NAMESPACE.to_owned(), name: "graph-backups".to_owned() },
    );
}
