use super::start::{BACKOFF_FIRST, BACKOFF_MAX, backoff_left};
use super::*;
use crate::api::condition::{self, MASTER_STABLE, READY, RECONCILING, SEEDABLE, STALLED, SUCCEEDED, Truth, VERIFIED};
use crate::api::{
    BackupType, Endpoint, Mastership, MastershipToken, MendedHeader, Parent, Phase, Reason, Remedy, Seed, SeedState,
};
use crate::backup::status;
use crate::backup::step::{Ending, Waiting};
use crate::backup::testing::{STORE, Seen, UID, active, at, decided, drilled, ended, job, lingering};
use crate::backup::validate::ValidBackup;
use crate::backup::world::{Candidate, LockState, Prerequisites};
use crate::contract::failure::Failure;
use crate::contract::task::Mode;
use crate::contract::verdict::{Published, Verdict};
use crate::controller::job::{JobState, Obstacle, PodStart};
use crate::controller::lock::HeldLock;
use crate::controller::pace::jitter;
use crate::discovery::{DiscoveryError, Located};

fn backup() -> ValidBackup {
    crate::backup::testing::backup().valid()
}

fn mastership(rebound_modified: i64) -> Mastership {
    Mastership::Master(MastershipToken {
        member_id: 1,
        endpoint: Endpoint { host: "neo4j-0.neo4j".into(), port: 6362 },
        server_created: 8,
        election_created: 9,
        rebound: 1,
        rebound_modified,
        cluster_modified: 3,
        incarnation: None,
    })
}

fn located() -> Seen {
    candidate(LockState::Free, None)
}

fn candidate(lock: LockState, parent: Option<Parent>) -> Seen {
    let located = Located { store_id: STORE, mastership: mastership(15) };
    Seen::Idle {
        leftover: None,
        member: None,
        missing: None,
        prerequisites: Some(Prerequisites::Met(Box::new(Candidate {
            located,
            stopped: None,
            lock,
            parent,
            upcoming: None,
            crowded: None,
        }))),
    }
}

fn open(job: JobState) -> Seen {
    Seen::Open { backup: job, inspect: JobState::Absent, member: None, missing: None }
}

fn point() -> Published {
    Published {
        mode: Mode::Full,
        parent: None,
        depth: 0,
        fell_back: None,
        shared_bytes: 0,
        copied_by: None,
        boot: None,
        seed: Some(Seed::COMPLETE),
        free_bytes: None,
        earlier: None,
        owner_uid: UID.into(),
        attempt: 1,
        manifest_digest: format!("sha256:{}", "a".repeat(64)),
        store_id: STORE,
        last_transaction: 42,
        files: 11,
        bytes: 1 << 20,
        data_from: at(1),
        data_to: at(2),
        mastership_before: mastership(15),
        mastership_after: mastership(15),
        verified: true,
    }
}

fn published(change: impl FnOnce(&mut Published)) -> Verdict {
    let mut point = point();
    change(&mut point);
    Verdict::Published(Box::new(point))
}

fn faulty(state: SeedState) -> Seed {
    Seed { state, problem: Some("the log".into()), ..Seed::COMPLETE }
}

fn failed(reason: Reason) -> Verdict {
    Verdict::Failed(Failure { reason, message: "the tool said so".into() })
}

/// Decides and records; gives the status that a user sees.
fn play(before: &GraphBackupStatus, seen: Seen, now: DateTime<Utc>) -> (Step, GraphBackupStatus) {
    let step = decided(&backup(), before, seen, now).step;
    let after = status::after(&backup(), before, &step, true, now);
    (step, after)
}

fn started() -> GraphBackupStatus {
    play(&GraphBackupStatus::default(), located(), at(0)).1
}

fn truth(status: &GraphBackupStatus, kind: &str) -> Option<Truth> {
    condition::get(&status.conditions, kind)
}

fn reason(status: &GraphBackupStatus) -> &str {
    &status.conditions.iter().find(|c| c.type_ == SUCCEEDED).unwrap().reason
}

#[test]
fn a_found_master_starts_the_first_attempt_with_its_mastership() {
    let (step, status) = play(&GraphBackupStatus::default(), located(), at(0));
    let Step::OpenAttempt { attempt, .. } = step else { panic!("{step:?}") };
    assert_eq!((attempt.number, attempt.store_id, &attempt.mastership), (1, STORE, &mastership(15)));
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(
        status.directory.as_deref(),
        Some("000001a202462d5f-d1407c3bb8e8fb07/20261124T060000Z-nightly-1a2b3c4d")
    );
    assert_eq!(truth(&status, RECONCILING), Some(Truth::True));
    assert_eq!(truth(&status, SUCCEEDED), Some(Truth::Unknown));
}

#[test]
fn every_condition_is_there_from_the_first_pass() {
    let world =
        Seen::Idle { leftover: None, member: None, missing: None, prerequisites: Some(Prerequisites::ClaimMissing) };
    let (_, status) = play(&GraphBackupStatus::default(), world, at(0));
    for kind in [READY, RECONCILING, STALLED, SUCCEEDED, MASTER_STABLE, VERIFIED, SEEDABLE] {
        assert!(truth(&status, kind).is_some(), "{kind}");
    }
    assert_eq!((reason(&status), status.observed_generation), ("TargetClaimMissing", Some(1)));
}

#[test]
fn what_may_pass_is_waited_for_until_the_deadline_and_then_named() {
    let missing = || {
        let error = DiscoveryError::NoMaster { cluster: "neo4j.ha".into(), detail: "no member is registered".into() };
        Seen::Idle { leftover: None, member: None, missing: None, prerequisites: Some(Prerequisites::NotFound(error)) }
    };
    let (step, status) = play(&GraphBackupStatus::default(), missing(), at(0));
    assert!(matches!(step, Step::Wait(Waiting { reason: Reason::NoMaster, .. })));
    // Nothing changed: the second look writes nothing.
    let (_, again) = play(&status, missing(), at(60));
    assert_eq!(again, status);
    let (step, status) =
        play(&again, Seen::Idle { leftover: None, member: None, missing: None, prerequisites: None }, at(3600));
    assert!(matches!(step, Step::Fail(_)));
    assert_eq!((reason(&status), truth(&status, STALLED)), ("NoMaster", Some(Truth::True)));
}

#[test]
fn what_needs_a_person_fails_at_once() {
    let error = DiscoveryError::MultipleRoots { servers: "zk:2181".into(), roots: "/1_2,/3_4".into() };
    let world =
        Seen::Idle { leftover: None, member: None, missing: None, prerequisites: Some(Prerequisites::NotFound(error)) };
    assert!(matches!(play(&GraphBackupStatus::default(), world, at(0)).0, Step::Fail(_)));
}

#[test]
fn evidence_makes_success_and_nothing_else_does() {
    let (_, status) = play(&started(), open(ended(published(|_| {}))), at(9));
    assert_eq!(truth(&status, SUCCEEDED), Some(Truth::True));
    assert_eq!(truth(&status, MASTER_STABLE), Some(Truth::True));
    assert_eq!(truth(&status, VERIFIED), Some(Truth::True));
    assert_eq!(status.point.as_ref().unwrap().last_transaction, 42);
    assert!(status.is_terminal());

    let seeds = [
        (Some(Seed::COMPLETE), Truth::True, "LogsComplete"),
        (
            Some(Seed {
                mended: vec![MendedHeader { file: "nioneo_logical.log.v3".into(), from: 5, to: 4 }],
                ..Seed::COMPLETE
            }),
            Truth::True,
            "LogHeaderMended",
        ),
        (Some(faulty(SeedState::LogHeaderWrong)), Truth::False, "LogHeaderWrong"),
        (Some(faulty(SeedState::LastTransactionNotLogged)), Truth::False, "LastTransactionNotLogged"),
        (Some(faulty(SeedState::LogsUnreadable)), Truth::Unknown, "LogsUnreadable"),
        (None, Truth::Unknown, "NotYetKnown"),
    ];
    for (seed, expected, reason) in seeds {
        let (_, status) = play(&started(), open(ended(published(|p| p.seed.clone_from(&seed)))), at(9));
        assert_eq!(truth(&status, SUCCEEDED), Some(Truth::True), "a copy that cannot seed is a copy");
        assert_eq!(truth(&status, SEEDABLE), Some(expected), "{seed:?}");
        let condition = status.conditions.iter().find(|condition| condition.type_ == SEEDABLE).unwrap();
        assert_eq!(condition.reason, reason);
        assert_eq!(condition.message.contains("alone"), expected == Truth::False, "{}", condition.message);
        assert_eq!(status.point.unwrap().seed, seed);
    }

    let cases: [(&str, Verdict); 6] = [
        ("ManifestMissing", published(|p| p.owner_uid = "other".into())),
        ("ManifestMissing", published(|p| p.manifest_digest = String::new())),
        ("ManifestMissing", published(|p| p.attempt = 7)),
        ("StoreMismatch", published(|p| p.store_id.random_id = 1)),
        ("MasterChanged", published(|p| p.mastership_after = mastership(99))),
        ("MasterChanged", published(|p| (p.mastership_before, p.mastership_after) = (mastership(99), mastership(99)))),
    ];
    for (expected, verdict) in cases {
        let (_, status) = play(&started(), open(ended(verdict)), at(9));
        assert_ne!(truth(&status, SUCCEEDED), Some(Truth::True), "{expected}");
        assert!(status.point.is_none());
        assert_eq!(status.attempts[0].reason.as_deref(), Some(expected));
    }
}

#[test]
fn a_verdict_for_another_task_is_no_evidence() {
    for verdict in [Verdict::Pruned, Verdict::Ready, drilled()] {
        let (step, status) = play(&started(), open(ended(verdict.clone())), at(9));
        assert!(matches!(step, Step::CloseAttempt(_)), "{verdict:?}: {step:?}");
        assert_eq!(status.attempts[0].reason.as_deref(), Some("AgentFailed"), "{verdict:?}");
        assert!(status.point.is_none(), "{verdict:?}");
    }
}

#[test]
fn a_job_that_ended_without_a_verdict_asks_the_volume() {
    let (step, status) = play(&started(), open(ended(None)), at(9));
    assert!(matches!(step, Step::Inspect(_)), "{step:?}");
    assert_eq!((reason(&status), status.phase), ("Inspecting", Some(Phase::Running)));

    let asked = |inspect| Seen::Open { backup: ended(None), inspect, member: None, missing: None };
    let (_, recognised) = play(&status, asked(ended(published(|_| {}))), at(20));
    assert_eq!(truth(&recognised, SUCCEEDED), Some(Truth::True));

    let (step, lost) = play(&status, asked(ended(failed(Reason::JobLost))), at(20));
    assert!(matches!(step, Step::CloseAttempt(_)), "{step:?}");
    assert_eq!(lost.attempts[0].reason.as_deref(), Some("JobLost"));
}

#[test]
fn no_answer_is_no_evidence_of_absence() {
    let (_, status) = play(&started(), open(ended(None)), at(9));
    let asked = |inspect| Seen::Open { backup: ended(None), inspect, member: None, missing: None };
    let silences = [
        ended(None),
        ended(failed(Reason::Interrupted)),
        ended(failed(Reason::TargetNotWritable)),
        ended(Verdict::Ready),
        ended(drilled()),
        JobState::Foreign,
    ];
    for inspect in silences {
        let (step, again) = play(&status, asked(inspect), at(20));
        assert!(matches!(step, Step::Unanswered(..)), "{step:?}");
        assert_eq!((reason(&again), again.attempts[0].completion_time), ("Inspecting", None));
    }
    // A Job that vanished was perhaps never created; later it is one without an answer.
    assert!(matches!(play(&status, asked(JobState::Absent), at(20)).0, Step::Inspect(_)));
    assert!(matches!(play(&status, asked(JobState::Absent), at(100)).0, Step::Unanswered(..)));
    // A store that takes hours to copy takes long to read: the limit is that of the run, and the start of the pod.
    assert!(matches!(play(&status, asked(active(PodStart::Started)), at(3600 + 300)).0, Step::Wait(_)));
    assert!(matches!(play(&status, asked(active(PodStart::Started)), at(3600 + 300 + 200)).0, Step::Unanswered(..)));
}

#[test]
fn a_volume_that_never_answers_leaves_the_outcome_to_a_person() {
    let (_, mut status) = play(&started(), open(ended(None)), at(9));
    let mut now = 20;
    let mut jobs = vec![];
    let step = loop {
        jobs.push(status.attempts[0].inspection.clone().unwrap().job);
        let (step, after) = play(
            &status,
            Seen::Open { backup: ended(None), inspect: ended(None), member: None, missing: None },
            at(now),
        );
        if !matches!(step, Step::Unanswered(..)) {
            break step;
        }
        let world = || Seen::Open { backup: ended(None), inspect: ended(None), member: None, missing: None };
        assert!(matches!(play(&after, world(), at(now + 5)).0, Step::Wait(_)), "it is asked again after a while");
        now += 600;
        let (step, after) = play(&after, world(), at(now));
        assert!(matches!(step, Step::Inspect(_)), "{step:?}");
        status = after;
        now += 60;
    };
    assert_eq!(jobs.len(), 5);
    assert_eq!(jobs.iter().collect::<std::collections::BTreeSet<_>>().len(), 5, "{jobs:?}");
    let Step::Fail(ending) = step else { panic!("{step:?}") };
    assert_eq!(ending.reason, Reason::OutcomeUnknown);
    let adopt = "spec.adopt: 000001a202462d5f-d1407c3bb8e8fb07/20261124T060000Z-nightly-1a2b3c4d";
    assert!(ending.message.contains(adopt), "{}", ending.message);
}

#[test]
fn a_question_that_is_always_refused_has_an_end() {
    let (_, mut status) = play(&started(), open(ended(None)), at(9));
    let asked = status.attempts[0].inspection.as_mut().unwrap();
    (asked.tries, asked.unanswered_time, asked.unanswered) = (5, Some(at(20)), Some("quota".into()));
    let (step, _) = play(&status, open(ended(None)), at(21));
    let Step::Fail(Ending { reason: Reason::OutcomeUnknown, message, .. }) = step else { panic!("{step:?}") };
    assert!(message.contains("quota"), "{message}");
}

#[test]
fn a_job_that_does_not_end_is_left_for_the_volume() {
    let world = |inspect| Seen::Open { backup: active(PodStart::Started), inspect, member: None, missing: None };
    let over = 3600 + 120;
    assert!(matches!(play(&started(), world(JobState::Absent), at(over - 1)).0, Step::Wait(_)));
    let (step, status) = play(&started(), world(JobState::Absent), at(over));
    assert!(matches!(step, Step::Inspect(_)), "{step:?}");
    assert_eq!(play(&status, world(JobState::Absent), at(over + 1)).0, Step::DeleteJob(job("j")));
    let gone = |inspect| Seen::Open { backup: JobState::Absent, inspect, member: None, missing: None };
    let (_, found) = play(&status, gone(ended(published(|_| {}))), at(over + 60));
    assert_eq!(truth(&found, SUCCEEDED), Some(Truth::True));
    let (_, lost) = play(&status, gone(ended(failed(Reason::JobLost))), at(over + 60));
    assert_eq!(reason(&lost), "DeadlineExceeded");
}

#[test]
fn a_job_that_something_else_keeps_is_deleted_before_the_end_is_recorded() {
    for verdict in [published(|_| {}), failed(Reason::ConsistencyFailed)] {
        let decision = decided(&backup(), &started(), open(lingering(verdict)), at(9));
        assert!(decision.step.ends() && decision.delete_first == Some(job("j")), "{decision:?}");
    }
    // What has a next pass is recorded first.
    let (step, _) = play(&started(), open(lingering(failed(Reason::ToolFailed))), at(9));
    assert!(matches!(step, Step::CloseAttempt(_)), "{step:?}");
    let (step, status) = play(&started(), open(lingering(None)), at(9));
    assert!(matches!(step, Step::Inspect(_)), "{step:?}");
    assert!(matches!(play(&status, open(lingering(None)), at(10)).0, Step::DeleteJob(_)));
}

#[test]
fn an_agent_that_was_killed_for_memory_says_at_which_limit() {
    let killed = |limit: &str| JobState::Ended {
        deadline_exceeded: false,
        pod_uid: None,
        verdict: None,
        out_of_memory: Some(limit.into()),
        lingering: None,
    };
    let (_, status) = play(&started(), open(killed("512Mi")), at(9));
    // The pod is gone by now.
    let world =
        Seen::Open { backup: JobState::Absent, inspect: ended(failed(Reason::JobLost)), member: None, missing: None };
    let (_, lost) = play(&status, world, at(30));
    assert_eq!(lost.attempts[0].reason.as_deref(), Some("ToolKilled"));
    let message = lost.attempts[0].message.as_deref().unwrap();
    assert!(message.contains("memory limit of 512Mi"), "{message}");
}

#[test]
fn a_deadline_that_somebody_shortened_costs_an_attempt_only() {
    let cut_off = || JobState::Ended {
        deadline_exceeded: true,
        pod_uid: None,
        verdict: None,
        out_of_memory: None,
        lingering: None,
    };
    let (_, status) = play(&started(), open(cut_off()), at(9));
    let asked = |second| {
        let world =
            Seen::Open { backup: cut_off(), inspect: ended(failed(Reason::JobLost)), member: None, missing: None };
        play(&status, world, at(second))
    };
    let (step, lost) = asked(30);
    assert!(matches!(step, Step::CloseAttempt(_)), "{step:?}");
    assert!(lost.attempts[0].message.as_deref().unwrap().contains("activeDeadlineSeconds"));
    assert_eq!(reason(&asked(3601).1), "DeadlineExceeded");
}

#[test]
fn a_job_that_vanished_is_not_a_success() {
    // Right after the record: the process ended before the creation. Creating it twice is impossible by its name.
    let (step, again) = play(&started(), open(JobState::Absent), at(5));
    assert!(matches!(step, Step::RecreateJob(_)));
    assert_eq!(again.attempts.len(), 1);
    // Later: somebody deleted it.
    let (step, _) = play(&started(), open(JobState::Absent), at(100));
    assert!(matches!(step, Step::Inspect(_)), "{step:?}");
}

#[test]
fn retryable_failures_run_again_within_the_limit_and_after_a_wait() {
    let (step, status) = play(&started(), open(ended(failed(Reason::MasterChanged))), at(9));
    assert!(matches!(step, Step::CloseAttempt(_)));
    assert_eq!((reason(&status), truth(&status, MASTER_STABLE)), ("RetryScheduled", Some(Truth::False)));

    let (step, _) =
        play(&status, Seen::Idle { leftover: None, member: None, missing: None, prerequisites: None }, at(10));
    assert!(matches!(step, Step::Wait(Waiting { reason: Reason::RetryScheduled, .. })));
    assert!(!attempt_due(&backup(), &status, at(10)));
    assert!(attempt_due(&backup(), &status, at(60)));

    let (step, status) = play(&status, located(), at(60));
    let Step::OpenAttempt { attempt, .. } = step else { panic!("{step:?}") };
    assert_eq!(attempt.number, 2);
    let (step, status) = play(&status, open(ended(failed(Reason::MasterChanged))), at(70));
    assert!(matches!(step, Step::Fail(_)), "the limit is one retry");
    assert_eq!((reason(&status), status.phase), ("MasterChanged", Some(Phase::Failed)));
    assert!(status.conditions.iter().any(|c| c.message.contains("(attempt 2 of 2)")));
}

#[test]
fn what_needs_a_person_is_not_run_again() {
    for reason in Reason::ALL.iter().copied().filter(|reason| reason.remedy() == Remedy::Act) {
        let (step, _) = play(&started(), open(ended(failed(reason))), at(9));
        assert!(matches!(step, Step::Fail(_)), "{reason}");
    }
}

#[test]
fn a_pod_that_cannot_start_ends_the_attempt_with_what_the_cluster_says() {
    let image = PodStart::Waiting(Obstacle::Image("image neo4j:typo: ErrImagePull: not found".into()));
    let (step, status) = play(&started(), open(active(image.clone())), at(299));
    assert!(matches!(step, Step::Wait(_)));
    assert_eq!(status, started());
    let (_, status) = play(&started(), open(active(image)), at(300));
    assert_eq!(status.attempts[0].reason.as_deref(), Some("ImageCannotBePulled"));
    assert!(status.attempts[0].message.as_deref().unwrap().contains("ErrImagePull"));

    let (step, _) = play(&started(), open(active(PodStart::Started)), at(300));
    assert!(matches!(step, Step::Wait(Waiting { reason: Reason::Running, .. })), "a started pod has the whole run");
}

#[test]
fn a_leftover_job_is_deleted_before_anything_new_starts() {
    let (_, closed) = play(&started(), open(active(PodStart::Waiting(Obstacle::NoneKnown))), at(300));
    let job = job("j");
    let (step, status) = play(
        &closed,
        Seen::Idle { leftover: Some(job.clone()), member: None, missing: None, prerequisites: None },
        at(400),
    );
    assert_eq!(step, Step::DeleteJob(job));
    assert_eq!(status, closed);
}

#[test]
fn waiting_running_and_terminal_states_are_fixpoints() {
    let running = started();
    let (_, again) = play(&running, open(active(PodStart::Started)), at(50));
    assert_eq!(again, running, "a pass over a running backup writes nothing");
}

#[test]
fn backoff_grows_is_bounded_and_spread() {
    let wait = |attempts: usize| {
        let mut status = started();
        status.attempts[0].completion_time = Some(at(0));
        let attempt = status.attempts[0].clone();
        status.attempts = vec![attempt; attempts];
        backoff_left(&backup(), &status, at(0))
    };
    assert!(wait(1) >= BACKOFF_FIRST && wait(2) > wait(1));
    for attempts in 1..=11 {
        assert!(wait(attempts) <= BACKOFF_MAX * 5 / 4);
    }
    assert_ne!(jitter(UID, 0, BACKOFF_MAX), jitter("9f", 0, BACKOFF_MAX));
}

fn of_type(backup_type: BackupType) -> ValidBackup {
    ValidBackup { backup_type, ..backup() }
}

fn parent() -> Parent {
    Parent {
        name: "sunday".into(),
        uid: "uid-of-sunday".into(),
        point: "20261122T020000Z-sunday-1a2b3c4d".into(),
        manifest_digest: format!("sha256:{}", "b".repeat(64)),
        last_transaction: 40,
    }
}

#[test]
fn the_lock_of_the_cluster_is_taken_once_and_waited_for() {
    let decided = |lock| decided(&backup(), &GraphBackupStatus::default(), candidate(lock, None), at(0)).step;
    for free in [LockState::NotObserved, LockState::Free] {
        assert!(matches!(decided(free), Step::OpenAttempt { take_lock: true, .. }));
    }
    assert!(matches!(decided(LockState::Ours), Step::OpenAttempt { take_lock: false, .. }));
    let Step::Wait(waiting) = decided(LockState::Held("GraphBackup graph/other".into())) else { panic!() };
    assert_eq!(waiting.reason, Reason::WaitingForLock);
    assert!(waiting.message.contains("graph/other"), "{}", waiting.message);
    let left = HeldLock { name: "lock".into(), uid: "lock-uid".into(), identity: String::new(), holder: None };
    assert_eq!(decided(LockState::Abandoned(left.clone())), Step::BreakLock(left));
}

#[test]
fn the_parent_is_recorded_before_its_job_is_created() {
    let world = candidate(LockState::Free, Some(parent()));
    let decision = decided(&of_type(BackupType::Auto), &GraphBackupStatus::default(), world, at(0));
    let Step::OpenAttempt { attempt, .. } = decision.step else { panic!() };
    assert_eq!(attempt.parent, Some(parent()));
}

#[test]
fn without_a_parent_auto_copies_everything_and_incremental_fails_after_a_second_look() {
    let of = |backup_type, status: &GraphBackupStatus, second| {
        decided(&of_type(backup_type), status, candidate(LockState::Free, None), at(second)).step
    };
    let new = GraphBackupStatus::default();
    assert!(matches!(of(BackupType::Auto, &new, 0), Step::OpenAttempt { .. }));
    let Step::Wait(waiting) = of(BackupType::Incremental, &new, 0) else { panic!() };
    assert_eq!(waiting.reason, Reason::NoParent);
    let seen = GraphBackupStatus { start_time: Some(at(0)), ..new };
    let Step::Fail(ending) = of(BackupType::Incremental, &seen, 20) else { panic!() };
    assert_eq!(ending.reason, Reason::NoParent);
}

#[test]
fn an_incremental_backup_waits_for_the_point_that_another_one_is_making() {
    let located = Located { store_id: STORE, mastership: mastership(15) };
    let upcoming = Some("GraphBackup graph/sunday".to_owned());
    let candidate =
        Candidate { located, stopped: None, lock: LockState::NotObserved, parent: None, upcoming, crowded: None };
    let met = Some(Prerequisites::Met(Box::new(candidate)));
    let world = Seen::Idle { leftover: None, member: None, missing: None, prerequisites: met };
    let seen = GraphBackupStatus { start_time: Some(at(0)), ..GraphBackupStatus::default() };
    let Step::Wait(waiting) = decided(&of_type(BackupType::Incremental), &seen, world, at(600)).step else { panic!() };
    assert_eq!(waiting.reason, Reason::WaitingForLock);
    assert!(waiting.message.starts_with("GraphBackup graph/sunday is using this cluster"), "{}", waiting.message);
}

#[test]
fn a_backup_without_a_place_waits_for_its_turn_and_looks_again_at_its_deadline_only() {
    let world = |crowded| {
        let Seen::Idle { prerequisites: Some(Prerequisites::Met(candidate)), .. } = candidate(LockState::Free, None)
        else {
            unreachable!()
        };
        let candidate = Box::new(Candidate { crowded, ..*candidate });
        let prerequisites = Some(Prerequisites::Met(candidate));
        Seen::Idle { leftover: None, member: None, missing: None, prerequisites }
    };
    let seen = GraphBackupStatus { start_time: Some(at(0)), ..GraphBackupStatus::default() };
    let of = |crowded| decided(&of_type(BackupType::Full), &seen, world(crowded), at(600)).step;
    assert!(matches!(of(None), Step::OpenAttempt { .. }));
    let Step::Wait(waiting) = of(Some(20)) else { panic!() };
    assert_eq!(waiting.reason, Reason::WaitingForCapacity);
    assert!(waiting.message.contains("20 backups at once"), "{}", waiting.message);
    // Nothing of it is polled: a place brings a pass.
    assert_eq!(waiting.look_again.as_secs(), 3600 - 600 + 1);
}

#[test]
fn a_fall_back_is_said_with_its_cause() {
    let failure = Failure { reason: Reason::LogsPruned, message: "the logs are gone".into() };
    let world = open(ended(published(|point| point.fell_back = Some(failure))));
    let (_, status) = play(&started(), world, at(60));
    assert_eq!((truth(&status, SUCCEEDED), reason(&status)), (Some(Truth::True), "FellBackToFull"));
    let said = &status.conditions.iter().find(|c| c.type_ == SUCCEEDED).unwrap().message;
    assert!(said.contains("LogsPruned: the logs are gone"), "{said}");
}
