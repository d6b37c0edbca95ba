use super::*;
use crate::api::{Endpoint, GraphBackupStatus, Mastership, ProbeMark, StoreId};
use crate::backup::testing::{Seen, at, drilled, ended, job, lingering};
use crate::backup::validate::ValidBackup;
use crate::contract::failure::Failure;
use crate::controller::job::Obstacle;
use chrono::{DateTime, Utc};

fn backup() -> ValidBackup {
    crate::backup::testing::backup().cold().valid()
}

fn decide(status: &GraphBackupStatus, seen: Seen, now: DateTime<Utc>) -> Step {
    crate::backup::testing::decided(&backup(), status, seen, now).step
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
        stopped: Some(StoppedMember {
            pod: "neo4j-2".into(),
            member_id: 3,
            stateful_set_uid: "set-uid".into(),
            generation: 4,
            replicas: 3,
            checked_time: None,
            gone_time: None,
            restored_time: None,
            missing: None,
        }),
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
    let stateful_set = "neo4j".into();
    MemberState::Present { stateful_set, replicas, generation, resource_version: "9".into(), settled, registered }
}

fn waiting_for(said: &str) -> JobState {
    let job = job("nightly-1a2b3-1c");
    JobState::Active { job, created: at(0), start: PodStart::Waiting(Obstacle::Other(said.to_owned())) }
}

fn decided(seen: MemberState, check: JobState, second: i64) -> Step {
    let attempt = attempt();
    let status = GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() };
    decide(&status, Seen::Stopping { check, check_pod: false, member: seen }, at(second))
}

fn closed(step: Step) -> Reason {
    let Step::CloseAttempt(ending) = step else { panic!("{step:?}") };
    ending.reason
}

#[test]
fn nobody_is_stopped_before_it_is_seen_that_a_copy_can_be_made() {
    let serving = || seen(3, 4, true, None);
    assert_eq!(decided(serving(), JobState::Absent, 1), Step::RecreateCheck);
    let Step::Wait(waiting) = decided(serving(), waiting_for("pulling"), 10) else { panic!() };
    assert_eq!(waiting.reason, Reason::StoppingMember);
    let to = ScaleTo { stateful_set: "neo4j".into(), replicas: 2, resource_version: "9".into() };
    assert_eq!(decided(serving(), ended(Some(Verdict::Ready)), 10), Step::StopMember(to));

    let failure = Failure { reason: Reason::SourceUnreadable, message: "no store".into() };
    assert_eq!(closed(decided(serving(), ended(Some(Verdict::Failed(failure))), 10)), Reason::SourceUnreadable);
    for other in [None, Some(Verdict::Pruned), Some(drilled())] {
        assert_eq!(closed(decided(serving(), ended(other), 10)), Reason::JobLost);
    }
    assert_eq!(closed(decided(serving(), JobState::Foreign, 10)), Reason::JobRefused);
    let apart = "0/3 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity";
    assert_eq!(closed(decided(serving(), waiting_for(apart), 300)), Reason::TopologyMismatch);
    assert_eq!(closed(decided(serving(), waiting_for("Insufficient cpu"), 300)), Reason::PodCannotStart);
}

#[test]
fn a_check_that_something_else_keeps_is_deleted_before_the_member_is_stopped() {
    let lingering = || lingering(Verdict::Ready);
    assert_eq!(decided(seen(3, 4, true, None), lingering(), 10), Step::Checked);
    let mut attempt = attempt();
    attempt.stopped.as_mut().unwrap().checked_time = Some(at(10));
    let status = GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() };
    let next =
        |check, check_pod| decide(&status, Seen::Stopping { check, check_pod, member: seen(3, 4, true, None) }, at(60));
    assert_eq!(next(lingering(), false), Step::DeleteJob(job("j")));
    assert!(matches!(next(JobState::Absent, true), Step::Wait(_)));
    assert!(matches!(next(JobState::Absent, false), Step::StopMember(_)));
}

#[test]
fn a_check_that_vanishes_again_and_again_costs_the_attempt() {
    assert_eq!(decided(seen(3, 4, true, None), JobState::Absent, 29), Step::RecreateCheck);
    assert_eq!(closed(decided(seen(3, 4, true, None), JobState::Absent, 30)), Reason::JobLost);
}

#[test]
fn the_copy_begins_when_the_member_is_gone_from_both() {
    for (settled, registered) in [(false, None), (true, None), (true, Some(true))] {
        let Step::Wait(waiting) = decided(seen(2, 5, settled, registered), JobState::Absent, 20) else { panic!() };
        assert_eq!((waiting.reason, waiting.look_again), (Reason::StoppingMember, LOOK.0));
    }
    let Step::CopyMember(attempt) = decided(seen(2, 5, true, Some(false)), JobState::Absent, 20) else { panic!() };
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

fn copy_ended(status: &GraphBackupStatus, missing: Option<&str>, second: i64) -> Step {
    let failure = Failure { reason: Reason::SourceUnreadable, message: "no store".into() };
    let world = Seen::Open {
        backup: ended(Some(Verdict::Failed(failure))),
        inspect: JobState::Absent,
        member: None,
        missing: missing.map(str::to_owned),
    };
    decide(status, world, at(second))
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
    let after = crate::backup::status::after(&backup(), &copied(Some(&note)), &step, true, at(701));
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
        let seen = Seen::Idle { leftover: None, member: Some(member), missing: None, prerequisites: None };
        decide(&status, seen, at(second))
    };
    let to = ScaleTo { stateful_set: "neo4j".into(), replicas: 3, resource_version: "9".into() };
    assert_eq!(idle(&closed, seen(2, 5, true, Some(false)), 101), Step::StartMember(to.clone()));
    for (settled, registered) in [(true, Some(true)), (false, None)] {
        let Step::Wait(waiting) = idle(&closed, seen(2, 5, settled, registered), 219) else { panic!() };
        assert_eq!(waiting.reason, Reason::StartingMember);
        assert!(matches!(idle(&closed, seen(2, 5, settled, registered), 220), Step::MemberMissing(_)));
    }
    closed.stopped.as_mut().unwrap().missing = Some("told".into());
    assert_eq!(idle(&closed, seen(2, 5, true, Some(true)), 221), Step::StartMember(to));
    // Nothing of ours to put back.
    assert_eq!(idle(&closed, seen(3, 5, true, None), 221), Step::LeaveReplicas);
}

#[test]
fn no_job_is_created_again_for_a_member_that_runs() {
    let mut attempt = attempt();
    attempt.stopped.as_mut().unwrap().gone_time = Some(at(20));
    let status = GraphBackupStatus { start_time: Some(at(0)), attempts: vec![attempt], ..GraphBackupStatus::default() };
    let next = |replicas| {
        let member = Some(seen(replicas, 6, true, None));
        let world = Seen::Open { backup: JobState::Absent, inspect: JobState::Absent, member, missing: None };
        decide(&status, world, at(25))
    };
    assert!(matches!(next(2), Step::RecreateJob(_)), "perhaps it was never created");
    assert_eq!(next(3), Step::LeaveReplicas);
}
