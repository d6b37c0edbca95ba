use super::*;
use crate::api::{GraphBackup, GraphBackupStatus, Mastership, ProbeMark, StoreId, Workload};
use crate::backup::decide::decide;
use crate::backup::validate::{ValidBackup, validate};
use crate::backup::world::{JobRef, Obstacle, PodStart, World};
use crate::contract::failure::Failure;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

fn cold(if_master: IfMaster) -> Cold {
    let workload =
        Workload { stateful_set: "neo4j".into(), volume_claim_template: "data".into(), store_path: "graph.db".into() };
    Cold { workload, if_master }
}

/// Three members that are up, changed as a JSON merge patch says.
fn workload(change: &Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "neo4j", "uid": "set-uid", "generation": 4},
        "spec": {
            "replicas": 3, "serviceName": "neo4j", "selector": {}, "template": {},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
        "status": {"observedGeneration": 4, "replicas": 3, "readyReplicas": 3},
    });
    for part in ["spec", "status"] {
        for (field, value) in change[part].as_object().into_iter().flatten() {
            set[part][field] = value.clone();
        }
    }
    serde_json::from_value(set).unwrap()
}

fn chosen(change: &Value) -> Result<Candidate, Reason> {
    candidate(&cold(IfMaster::Refuse), Some(&workload(change)), "graph-backups").map_err(|unfit| unfit.reason)
}

#[test]
fn the_member_of_the_highest_ordinal_is_chosen() {
    let candidate = chosen(&json!({})).unwrap();
    assert_eq!((candidate.pod.as_str(), candidate.claim.as_str()), ("neo4j-2", "data-neo4j-2"));
    assert_eq!((candidate.replicas, candidate.generation, candidate.stateful_set_uid.as_str()), (3, 4, "set-uid"));
    let numbered_from_five = json!({"spec": {"ordinals": {"start": 5}}});
    assert_eq!(chosen(&numbered_from_five).unwrap().pod, "neo4j-7");
    let alone = json!({"spec": {"replicas": 1}, "status": {"replicas": 1, "readyReplicas": 1}});
    assert_eq!(chosen(&alone).unwrap().pod, "neo4j-0");
}

#[test]
fn every_guard_has_its_reason() {
    let deletes = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}});
    assert_eq!(chosen(&deletes), Err(Reason::ScaleDownDeletesClaim));
    let keeps =
        json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain", "whenDeleted": "Delete"}}});
    assert!(chosen(&keeps).is_ok());
    assert_eq!(chosen(&json!({"spec": {"volumeClaimTemplates": []}})), Err(Reason::WorkloadUnfit));
    for not_whole in [
        json!({"status": {"readyReplicas": 2}}),
        json!({"status": {"replicas": 4}}),
        json!({"status": {"observedGeneration": 3}}),
        json!({"status": {"currentRevision": "neo4j-1", "updateRevision": "neo4j-2", "updatedReplicas": 1}}),
        json!({"status": {"currentRevision": "neo4j-1", "updateRevision": "neo4j-2", "updatedReplicas": 3}}),
        json!({"spec": {"updateStrategy": {"type": "OnDelete"}},
               "status": {"currentRevision": "neo4j-1", "updateRevision": "neo4j-2", "updatedReplicas": 2}}),
        json!({"spec": {"replicas": 0}, "status": {"replicas": 0, "readyReplicas": 0}}),
    ] {
        assert_eq!(chosen(&not_whole), Err(Reason::WorkloadNotReady), "{not_whole}");
    }
    let reason = |workload: Option<&StatefulSet>, target| {
        candidate(&cold(IfMaster::Refuse), workload, target).unwrap_err().reason
    };
    assert_eq!(reason(None, "graph-backups"), Reason::WorkloadMissing);
    assert_eq!(reason(Some(&workload(&json!({}))), "data-neo4j-2"), Reason::WorkloadUnfit);
}

fn members(hosts: &[&str]) -> Vec<Registered> {
    let endpoint = |host: &&str| Some(Endpoint { host: (*host).to_owned(), port: 6362 });
    (1..).zip(hosts).map(|(id, host)| Registered { id, endpoint: endpoint(host) }).collect()
}

#[test]
fn the_member_is_found_by_the_name_of_its_pod_and_the_master_is_spared() {
    let candidate = chosen(&json!({})).unwrap();
    let three = members(&["neo4j-0.neo4j", "neo4j-1.neo4j", "neo4j-2.neo4j.graph.svc"]);
    let of = |members: &[Registered], master, if_master| registration(&cold(if_master), &candidate, members, master);
    let found = of(&three, Some(1), IfMaster::Refuse).unwrap();
    assert_eq!((found.0, found.1.host.as_str()), (3, "neo4j-2.neo4j.graph.svc"));
    assert_eq!(of(&three, Some(3), IfMaster::Refuse).unwrap_err().reason, Reason::MemberIsMaster);
    assert!(of(&three, Some(3), IfMaster::FailOver).is_ok());
    // Neither a longer name nor an address is that of the pod.
    let others = members(&["neo4j-20.neo4j", "10.0.0.2", "xneo4j-2"]);
    assert_eq!(of(&others, Some(1), IfMaster::Refuse).unwrap_err().reason, Reason::MemberNotRegistered);
    let alone = Candidate { replicas: 1, ..candidate.clone() };
    assert!(registration(&cold(IfMaster::Refuse), &alone, &three, Some(3)).is_ok(), "nobody else could be master");
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

fn backup() -> ValidBackup {
    let workload = json!({"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"});
    let object: GraphBackup = serde_json::from_value(json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
        "metadata": {"name": "first", "namespace": "graph", "uid": "1a2b3c4d-0000", "generation": 1,
                     "resourceVersion": "7", "creationTimestamp": "2026-11-24T06:00:00Z"},
        "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"},
                 "method": "Cold", "cold": {"workload": workload}, "deadlines": {"run": "1h", "podStart": "5m"}}
    }))
    .unwrap();
    validate(&object).unwrap()
}

/// The record of an attempt at second 0 that stops the third of three members.
fn attempt() -> Attempt {
    let store_id = StoreId { creation_time: 1, random_id: 2 };
    let endpoint = Endpoint { host: "neo4j-2.neo4j".into(), port: 6362 };
    Attempt {
        number: 1,
        job: "first-1a2b3-1".into(),
        store_id,
        parent: None,
        stopped: Some(to_be_stopped(&chosen(&json!({})).unwrap(), 3)),
        mastership: Mastership::Probe(ProbeMark { endpoint, store_id }),
        start_time: at(0),
        completion_time: None,
        reason: None,
        message: None,
        inspection: None,
        pod_uid: None,
    }
}

fn seen(replicas: i32, generation: i64, settled: bool, registered: Option<bool>) -> MemberState {
    let registered = registered.map(Ok);
    MemberState::Present { replicas, generation, resource_version: "9".into(), settled, registered }
}

fn ended(verdict: Option<Verdict>) -> JobState {
    JobState::Ended { deadline_exceeded: false, pod_uid: None, verdict, out_of_memory: None, lingering: None }
}

fn waiting_for(said: &str) -> JobState {
    let job = JobRef { name: "first-1a2b3-1c".into(), uid: "u".into() };
    JobState::Active { job, created: at(0), start: PodStart::Waiting(Obstacle::Other(said.to_owned())) }
}

fn decided(seen: MemberState, check: JobState, second: i64) -> Step {
    let attempt = attempt();
    let status = GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() };
    decide(&backup(), &status, World::Stopping { check, check_pod: false, member: seen }, at(second))
}

fn closed(step: Step) -> Reason {
    let Step::CloseAttempt(ending) = step else { panic!("{step:?}") };
    ending.reason
}

#[test]
fn nobody_is_stopped_before_it_is_seen_that_a_copy_can_be_made() {
    let serving = || seen(3, 4, true, None);
    assert_eq!(decided(serving(), JobState::Absent, 1), Step::Check);
    let Step::Wait(waiting) = decided(serving(), waiting_for("pulling"), 10) else { panic!() };
    assert_eq!(waiting.reason, Reason::StoppingMember);
    let to = ScaleTo { replicas: 2, resource_version: "9".into() };
    assert_eq!(decided(serving(), ended(Some(Verdict::Ready)), 10), Step::StopMember(to));

    let failure = Failure { reason: Reason::SourceUnreadable, message: "no store".into() };
    assert_eq!(closed(decided(serving(), ended(Some(Verdict::Failed(failure))), 10)), Reason::SourceUnreadable);
    assert_eq!(closed(decided(serving(), ended(None), 10)), Reason::JobLost);
    assert_eq!(closed(decided(serving(), JobState::Foreign, 10)), Reason::JobRefused);
    let apart = "0/3 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity";
    assert_eq!(closed(decided(serving(), waiting_for(apart), 300)), Reason::TopologyMismatch);
    assert_eq!(closed(decided(serving(), waiting_for("Insufficient cpu"), 300)), Reason::PodCannotStart);
}

#[test]
fn a_check_that_something_else_keeps_is_deleted_before_the_member_is_stopped() {
    let job = || JobRef { name: "first-1a2b3-1c".into(), uid: "u".into() };
    let lingering = || JobState::Ended {
        deadline_exceeded: false,
        pod_uid: None,
        verdict: Some(Verdict::Ready),
        out_of_memory: None,
        lingering: Some(job()),
    };
    assert_eq!(decided(seen(3, 4, true, None), lingering(), 10), Step::Checked);
    let mut attempt = attempt();
    attempt.stopped.as_mut().unwrap().checked_time = Some(at(10));
    let status = GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() };
    let next = |check, check_pod| {
        decide(&backup(), &status, World::Stopping { check, check_pod, member: seen(3, 4, true, None) }, at(60))
    };
    assert_eq!(next(lingering(), false), Step::DeleteJob(job()));
    assert!(matches!(next(JobState::Absent, true), Step::Wait(_)));
    assert!(matches!(next(JobState::Absent, false), Step::StopMember(_)));
}

#[test]
fn a_check_that_vanishes_again_and_again_costs_the_attempt() {
    assert_eq!(decided(seen(3, 4, true, None), JobState::Absent, 29), Step::Check);
    assert_eq!(closed(decided(seen(3, 4, true, None), JobState::Absent, 30)), Reason::JobLost);
}

#[test]
fn the_copy_begins_when_the_member_is_gone_from_both() {
    for (settled, registered) in [(false, None), (true, None), (true, Some(true))] {
        let Step::Wait(waiting) = decided(seen(2, 5, settled, registered), JobState::Absent, 20) else { panic!() };
        assert_eq!((waiting.reason, waiting.look_again), (Reason::StoppingMember, LOOK.0));
    }
    let Step::Start { attempt, take_lock: false } = decided(seen(2, 5, true, Some(false)), JobState::Absent, 20) else {
        panic!()
    };
    assert_eq!(attempt.stopped.unwrap().gone_time, Some(at(20)));
    assert_eq!(closed(decided(seen(2, 5, false, None), JobState::Absent, 960)), Reason::MemberDidNotStop);
}

#[test]
fn what_somebody_else_does_to_the_replicas_ends_the_attempt_and_stays() {
    for changed in [seen(3, 5, true, None), seen(5, 5, true, None), seen(0, 6, true, None)] {
        assert_eq!(closed(decided(changed, JobState::Absent, 20)), Reason::ScaledMeanwhile);
    }
    assert_eq!(closed(decided(MemberState::WorkloadGone, JobState::Absent, 20)), Reason::WorkloadMissing);
    let stopped = attempt().stopped.unwrap();
    let back = |seen| put_back(&stopped, &seen).map(|to| to.replicas);
    assert_eq!(back(seen(2, 5, true, None)), Some(3));
    assert_eq!(
        [back(seen(3, 6, true, None)), back(seen(0, 6, true, None)), back(MemberState::WorkloadGone)],
        [None; 3]
    );
}

/// An open attempt whose copy has ended well, and whose member was started again at second 100.
fn copied(missing: Option<&str>) -> GraphBackupStatus {
    let mut attempt = attempt();
    let stopped = attempt.stopped.as_mut().unwrap();
    (stopped.gone_time, stopped.restored_time) = (Some(at(20)), Some(at(100)));
    stopped.missing = missing.map(str::to_owned);
    GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() }
}

fn copy_ended(status: &GraphBackupStatus, away: Option<&str>, second: i64) -> Step {
    let failure = Failure { reason: Reason::SourceUnreadable, message: "no store".into() };
    let world = World::Open {
        backup: ended(Some(Verdict::Failed(failure))),
        inspect: JobState::Absent,
        member: None,
        away: away.map(str::to_owned),
    };
    decide(&backup(), status, world, at(second))
}

#[test]
fn a_backup_is_over_when_its_member_is_back_or_was_waited_for() {
    let over = |step: &Step| matches!(step, Step::Fail(Ending { reason: Reason::SourceUnreadable, .. }));
    assert!(over(&copy_ended(&copied(None), None, 101)));
    let Step::Wait(waiting) = copy_ended(&copied(None), Some("it is not registered"), 699) else { panic!() };
    assert_eq!(waiting.reason, Reason::StartingMember);
    let Step::MemberMissing(note) = copy_ended(&copied(None), Some("it is not registered"), 700) else { panic!() };
    assert!(note.contains("neo4j-2 (member 3)") && note.contains("delete the pod"), "{note}");
    // It is said once, and the verdict of the copy stands.
    assert!(over(&copy_ended(&copied(Some(&note)), None, 701)));
    let step = copy_ended(&copied(Some(&note)), None, 701);
    let after = crate::backup::status::after(&backup(), &copied(Some(&note)), &step, at(701));
    assert!(after.conditions.iter().any(|c| c.type_ == "Succeeded" && c.message.ends_with(&note)));
}

#[test]
fn replicas_are_put_back_when_the_registration_is_gone_or_after_a_while() {
    let mut closed = attempt();
    closed.completion_time = Some(at(100));
    let idle = |closed: &Attempt, member, second| {
        let status = GraphBackupStatus {
            start_time: Some(at(0)),
            attempts: vec![closed.clone()],
            ..GraphBackupStatus::default()
        };
        decide(
            &backup(),
            &status,
            World::Idle { leftover: None, member: Some(member), away: None, ground: None },
            at(second),
        )
    };
    let to = Some(ScaleTo { replicas: 3, resource_version: "9".into() });
    assert_eq!(idle(&closed, seen(2, 5, true, Some(false)), 101), Step::StartMember(to.clone()));
    for (settled, registered) in [(true, Some(true)), (false, None)] {
        let Step::Wait(waiting) = idle(&closed, seen(2, 5, settled, registered), 219) else { panic!() };
        assert_eq!(waiting.reason, Reason::StartingMember);
        assert!(matches!(idle(&closed, seen(2, 5, settled, registered), 220), Step::MemberMissing(_)));
    }
    closed.stopped.as_mut().unwrap().missing = Some("told".into());
    assert_eq!(idle(&closed, seen(2, 5, true, Some(true)), 221), Step::StartMember(to));
    // Nothing of ours to put back.
    assert_eq!(idle(&closed, seen(3, 5, true, None), 221), Step::StartMember(None));
}

#[test]
fn no_job_is_created_again_for_a_member_that_runs() {
    let mut attempt = attempt();
    attempt.stopped.as_mut().unwrap().gone_time = Some(at(20));
    let status = GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() };
    let next = |replicas| {
        let member = Some(seen(replicas, 6, true, None));
        let world = World::Open { backup: JobState::Absent, inspect: JobState::Absent, member, away: None };
        decide(&backup(), &status, world, at(25))
    };
    assert!(matches!(next(2), Step::Start { .. }), "perhaps it was never created");
    assert_eq!(next(3), Step::StartMember(None));
}
