//! Jobs and pods are not as the operator made them: a policy adds a container that never ends, or changes times.

use crate::apiserver::{Key, Store};
use crate::backup::jobs::{self, adopt, backup, check, inspect, prune};
use crate::backup::scenario::{BACKUP, Scenario, scenario};
use crate::fault::delete;
use crate::world::NAMESPACE;
use crate::world::cluster::Behaviour::{Dies, Fails};
use crate::world::members;
use graph_backup_operator::api::Reason;
use serde_json::json;

pub fn a_sidecar_never_ends() -> Scenario {
    // The Job is deleted by us.
    scenario("a sidecar never ends").with_sidecars().succeeds(&[backup(1)]).writes(7)
}

pub fn a_sidecar_beside_a_failure() -> Scenario {
    scenario("a sidecar beside a failure")
        .with_sidecars()
        .backup_job(Fails(Reason::ConsistencyFailed))
        .fails(Reason::ConsistencyFailed, &[backup(1)])
}

pub fn a_sidecar_beside_a_failure_that_passes() -> Scenario {
    scenario("a sidecar beside a failure that passes")
        .with_sidecars()
        .backup_job(Fails(Reason::ToolFailed))
        .succeeds(&[backup(1), backup(2)])
}

pub fn a_sidecar_beside_a_lost_verdict() -> Scenario {
    scenario("a sidecar beside a lost verdict")
        .with_sidecars()
        .backup_job(Dies { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn a_sidecar_beside_a_cold_copy() -> Scenario {
    scenario("a sidecar beside a cold copy")
        .with_sidecars()
        .cold(|store, _| members::create(store, 3))
        .succeeds(&[check(1), backup(1)])
}

pub fn a_sidecar_beside_an_adoption() -> Scenario {
    scenario("a sidecar beside an adoption").with_sidecars().adopts(true).succeeds(&[adopt(1)])
}

pub fn a_sidecar_beside_a_removal() -> Scenario {
    let backup = |store: &mut Store| {
        delete(store, &Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() });
    };
    scenario("a sidecar beside a removal")
        .with_sidecars()
        .spec("/deletionPolicy", json!("Delete"))
        .at(600, backup)
        // Without it nothing would trigger a pass any more if that deletion did not.
        .at(4000, touch)
        .ends_deleted(&[jobs::backup(1), prune()])
}

fn touch(store: &mut Store) {
    let key = Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() };
    if store.get(&key).is_some() {
        store.change(&key, |backup| backup["metadata"]["annotations"] = json!({"touched": "true"})).unwrap();
    }
}

pub fn jobs_go_when_they_end() -> Scenario {
    scenario("Jobs go when they end").jobs_live(0).succeeds(&[backup(1)]).writes(6)
}

pub fn jobs_go_when_they_end_with_their_verdict() -> Scenario {
    scenario("Jobs go when they end, with their verdict")
        .jobs_live(0)
        .backup_job(Dies { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn jobs_go_when_they_end_beside_a_cold_copy() -> Scenario {
    scenario("Jobs go when they end, beside a cold copy")
        .jobs_live(0)
        .cold(|store, _| members::create(store, 3))
        .succeeds(&[check(1), backup(1), inspect(1, 1)])
}

pub fn jobs_go_when_they_end_beside_an_adoption() -> Scenario {
    scenario("Jobs go when they end, beside an adoption").jobs_live(0).adopts(true).succeeds(&[adopt(1)])
}

/// It costs attempts, and what it says is not that the backup's own time is over.
pub fn deadlines_of_jobs_are_shortened() -> Scenario {
    scenario("deadlines of Jobs are shortened")
        .jobs_may_take(30)
        .tool_needs(60)
        .spec("/retry/limit", json!(1))
        .fails(Reason::JobLost, &[backup(1), inspect(1, 1), backup(2), inspect(2, 1)])
}
