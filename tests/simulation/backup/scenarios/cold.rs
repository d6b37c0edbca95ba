//! A member is stopped, its store copied, and the member started again, whatever happens in between.

use crate::apiserver::{DeleteOptions, Key, Store, Verb};
use crate::backup::jobs::{self, backup, check, inspect};
use crate::backup::scenario::{BACKUP, Scenario, scenario};
use crate::driver::Run;
use crate::fault::delete;
use crate::world::NAMESPACE;
use crate::world::cluster::Behaviour;
use crate::world::members;
use graph_backup_operator::api::Reason;
use serde_json::{Value, json};

fn cold(title: &'static str) -> Scenario {
    scenario(title).cold(|store, _| members::create(store, 3)).also(|run| assert_eq!(replicas(run), Some(3)))
}

/// `spec.replicas` of the StatefulSet at the end.
fn replicas(run: &Run) -> Option<i64> {
    run.end.iter().find(|object| object["kind"] == "StatefulSet")?["spec"]["replicas"].as_i64()
}

pub fn a_member_is_stopped_and_started() -> Scenario {
    // Beside those of an online backup: the finalizer, the Job that checks, the scale-down, that the member is gone,
    // the scale-up, that it is back, and the finalizer again.
    cold("a member is stopped and started").succeeds(&[check(1), backup(1)]).writes(13)
}

/// Its database is down meanwhile: there is no other member.
pub fn the_only_member_is_stopped_and_started() -> Scenario {
    scenario("the only member is stopped and started")
        .cold(|store, _| members::create(store, 1))
        .succeeds(&[check(1), backup(1)])
        .also(|run| assert_eq!(replicas(run), Some(1)))
}

pub fn the_copy_fails_once() -> Scenario {
    cold("the copy fails once").backup_job(Behaviour::Fails(Reason::UncleanShutdown)).succeeds(&[
        check(1),
        backup(1),
        check(2),
        backup(2),
    ])
}

/// Nobody is stopped for it.
pub fn the_check_fails() -> Scenario {
    let behaviour = Behaviour::Fails(Reason::SourceUnreadable);
    cold("the check fails").check_job(behaviour).fails(Reason::SourceUnreadable, &[check(1)]).also(|run| {
        assert_eq!(replicas(run), Some(3));
        assert!(run.records.iter().all(|record| !record.call.scale), "a member was stopped");
    })
}

pub fn the_copy_cannot_be_made() -> Scenario {
    let behaviour = Behaviour::Fails(Reason::SourceUnreadable);
    cold("the copy cannot be made").backup_job(behaviour).fails(Reason::SourceUnreadable, &[check(1), backup(1)])
}

pub fn the_agent_is_killed_after_publishing() -> Scenario {
    cold("the agent is killed after publishing").backup_job(Behaviour::Dies { published: true }).succeeds(&[
        check(1),
        backup(1),
        inspect(1, 1),
    ])
}

pub fn the_job_is_deleted_in_mid_copy() -> Scenario {
    cold("the Job is deleted in mid-copy")
        .tool_needs(60)
        .backup_job(Behaviour::JobVanishes { published: false })
        .succeeds(&[check(1), backup(1), inspect(1, 1), check(2), backup(2)])
}

pub fn the_object_is_deleted_in_mid_copy() -> Scenario {
    let backup = |store: &mut Store| {
        delete(store, &Key { kind: "GraphBackup", namespace: NAMESPACE.to_owned(), name: BACKUP.to_owned() });
    };
    cold("the object is deleted in mid-copy").in_mid_run(backup).ends_deleted(&[check(1), jobs::backup(1)])
}

pub fn somebody_scales_up_in_mid_copy() -> Scenario {
    cold("somebody scales up in mid-copy")
        .tool_needs(60)
        .in_mid_run(|store| members::scale(store, 3))
        .tight()
        .fails(Reason::ScaledMeanwhile, &[check(1), backup(1)])
}

/// What people make of the replicas stays.
pub fn somebody_stops_all_in_mid_copy() -> Scenario {
    scenario("somebody stops all in mid-copy")
        .cold(|store, _| members::create(store, 3))
        .tool_needs(60)
        .in_mid_run(|store| members::scale(store, 0))
        .tight()
        .succeeds(&[check(1), backup(1)])
        .also(|run| assert_eq!(replicas(run), Some(0)))
}

pub fn the_member_does_not_stop() -> Scenario {
    cold("the member does not stop")
        .member_hangs()
        .spec("/retry/limit", json!(0))
        .tight()
        .fails(Reason::MemberDidNotStop, &[check(1)])
}

/// It runs and hangs in its start: the copy is good all the same, and the object names the member.
pub fn the_member_does_not_come_back() -> Scenario {
    let cold = cold("the member does not come back").spec("/deadlines/run", json!("40m"));
    cold.member_stays_away().tight().succeeds(&[check(1), backup(1)]).also(|run| {
        let backup = run.end.iter().find(|object| object["kind"] == "GraphBackup").unwrap();
        let conditions = backup["status"]["conditions"].as_array().unwrap();
        let told = |condition: &Value| condition["message"].as_str().unwrap().contains("pod neo4j-2 (member 3)");
        assert!(conditions.iter().any(|condition| condition["type"] == "Succeeded" && told(condition)));
        assert!(run.end.iter().any(|event| event["kind"] == "Event" && event["reason"] == "MemberNotBack"));
    })
}

pub fn the_member_is_the_master() -> Scenario {
    cold("the member is the master").master(3).fails(Reason::MemberIsMaster, &[])
}

pub fn scaling_is_refused() -> Scenario {
    cold("scaling is refused")
        .refusing(|call| call.kind.name == "StatefulSet" && call.verb == Verb::Patch)
        .fails(Reason::ScaleRefused, &[check(1), check(2), check(3)])
}

pub fn the_workload_comes_later() -> Scenario {
    scenario("the workload comes later")
        .cold(|_, _| ())
        .at(600, |store| members::create(store, 3))
        .tight()
        .succeeds(&[check(1), backup(1)])
        .also(|run| assert_eq!(replicas(run), Some(3)))
}

/// There is nothing to put back; the volume was copied all the same.
pub fn the_workload_is_deleted_in_mid_copy() -> Scenario {
    scenario("the workload is deleted in mid-copy")
        .spec("/retry/limit", json!(0))
        .cold(|store, _| members::create(store, 3))
        .tool_needs(60)
        .in_mid_run(|store| drop(store.delete(&members::key(), &DeleteOptions::default())))
        .tight()
        .succeeds(&[check(1), backup(1)])
}
