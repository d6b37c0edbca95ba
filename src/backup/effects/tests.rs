use super::*;
use crate::api::Inspection;
use crate::backup::decide::wait::running;
use crate::backup::step::{Note, Waiting};
use crate::backup::testing::{STORE, at, backup, job};
use crate::backup::validate::validate;
use crate::contract::verdict::Published;
use crate::controller::effects::ScaleTo;
use crate::controller::lock::HeldLock;
use serde_json::json;
use std::time::Duration;

const SETTINGS: fn() -> Settings<'static> =
    || Settings { operator_image: "operator:1", instance: "replica-0", due: true, now: at(9) };

/// A cold backup whose attempt is open, recorded as the operator writes it.
fn opened() -> GraphBackup {
    let mut object = backup().cold().attempted().object();
    let valid = validate(&object).unwrap();
    let mut status = object.status.take().unwrap();
    status.attempts[0].stopped = serde_json::from_value(json!({
        "pod": "neo4j-2", "memberId": 3, "statefulSetUid": "u", "generation": 1, "replicas": 3
    }))
    .unwrap();
    let attempt = Box::new(status.attempts[0].clone());
    status = status::after(&valid, &status, &Step::RecreateJob(attempt), true, at(1));
    object.status = Some(status);
    object
}

fn inspection() -> Box<Inspection> {
    let inspection = json!({"job": "nightly-1a2b3-1i", "startTime": "2026-11-24T06:00:00Z", "tries": 1});
    Box::new(serde_json::from_value(inspection).unwrap())
}

fn point() -> Box<Published> {
    let mastership = json!({"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": STORE}});
    Box::new(
        serde_json::from_value(json!({
            "ownerUid": "u", "attempt": 1, "manifestDigest": "sha256:0", "mode": "Full", "depth": 0, "storeId": STORE,
            "lastTransaction": 6, "files": 1, "bytes": 69, "sharedBytes": 0, "dataFrom": "2026-11-24T06:00:00Z",
            "dataTo": "2026-11-24T06:00:10Z", "mastershipBefore": mastership, "mastershipAfter": mastership,
            "verified": true,
        }))
        .unwrap(),
    )
}

/// Every step, for an object with an open attempt. A new variant does not compile before it is added here.
#[allow(clippy::too_many_lines, reason = "one of each")]
fn steps(object: &GraphBackup) -> Vec<Step> {
    let attempt = || Box::new(object.status.as_ref().unwrap().attempts[0].clone());
    let next = || Box::new(Attempt { number: 2, job: "nightly-1a2b3-2".into(), ..*attempt() });
    let gone = || {
        let mut attempt = attempt();
        attempt.stopped.as_mut().unwrap().gone_time = Some(at(5));
        attempt
    };
    let to = || ScaleTo { stateful_set: "neo4j".into(), replicas: 2, resource_version: "9".into() };
    let ending = || Ending::new(Reason::ToolFailed, "no");
    let note = || Note { reason: Reason::TargetLocked, message: "held".into() };
    let lock = HeldLock { name: "l".into(), uid: "u".into(), identity: "x".into(), holder: None };
    let all = vec![
        Step::Object(ObjectStep::Nothing),
        Step::Object(ObjectStep::SetFinalizers(vec![])),
        Step::Object(ObjectStep::Refuse(ending())),
        Step::Object(ObjectStep::Disown(ending())),
        Step::Object(ObjectStep::Release(Some(note()))),
        Step::Wait(Waiting { reason: Reason::NoMaster, message: "no".into(), look_again: Duration::from_secs(5) }),
        Step::OpenAttempt { attempt: next(), take_lock: true },
        Step::OpenAttempt { attempt: next(), take_lock: false },
        Step::CopyMember(gone()),
        Step::RecreateJob(attempt()),
        Step::RecreateCheck,
        Step::Checked,
        Step::StopMember(to()),
        Step::StartMember(to()),
        Step::LeaveReplicas,
        Step::MemberMissing("missing".into()),
        Step::BreakLock(lock),
        Step::Adopt(STORE, inspection()),
        Step::Inspect(inspection()),
        Step::Unanswered(inspection(), Some(job("j"))),
        Step::CloseAttempt(ending()),
        Step::DeleteJob(job("j")),
        Step::Succeed(point()),
        Step::Fail(ending()),
        Step::Remove(Removal::Release(Some(note()))),
        Step::Remove(Removal::StopJob(job("j"))),
        Step::Remove(Removal::StartMember(to())),
        Step::Remove(Removal::Prune),
        Step::Remove(Removal::Failed { note: note(), job: Some(job("j")) }),
        Step::Remove(Removal::Wait(Duration::ZERO)),
    ];
    for step in &all {
        match step {
            Step::Object(_)
            | Step::Wait(_)
            | Step::OpenAttempt { .. }
            | Step::CopyMember(_)
            | Step::RecreateJob(_)
            | Step::RecreateCheck
            | Step::Checked
            | Step::StopMember(_)
            | Step::StartMember(_)
            | Step::LeaveReplicas
            | Step::MemberMissing(_)
            | Step::BreakLock(_)
            | Step::Adopt(..)
            | Step::Inspect(_)
            | Step::Unanswered(..)
            | Step::CloseAttempt(_)
            | Step::DeleteJob(_)
            | Step::Succeed(_)
            | Step::Fail(_)
            | Step::Remove(
                Removal::Release(_)
                | Removal::StopJob(_)
                | Removal::StartMember(_)
                | Removal::Prune
                | Removal::Failed { .. }
                | Removal::Wait(_),
            ) => {}
        }
    }
    all
}

/// The effects of a step, of every object that it can be decided for.
fn lists(step: &Step) -> Vec<Vec<Effect<Refusal>>> {
    let lists = |object: &GraphBackup, request: &Request| {
        [None, Some(job("k"))].map(|delete_first| {
            let decision = Decision { delete_first, step: clone(step) };
            plan(object, request, &decision, SETTINGS()).unwrap().effects
        })
    };
    let open = opened();
    let request = match step {
        Step::Object(step) => Request::Object(step.clone()),
        _ => Request::Backup(Box::new(validate(&open).unwrap())),
    };
    lists(&open, &request).into()
}

/// A step by its kind and content; steps are not cloned outside tests.
fn clone(step: &Step) -> Step {
    let object = opened();
    steps(&object).into_iter().find(|other| other == step).unwrap()
}

fn describe(effects: &[Effect<Refusal>]) -> String {
    effects.iter().map(Effect::words).collect::<Vec<_>>().join(", ")
}

/// What is done and cannot be taken back: a Job that runs, a member that stops or starts.
fn is_irreversible(effect: &Effect<Refusal>) -> bool {
    matches!(effect, Effect::CreateJob { .. } | Effect::Scale { .. })
}

#[test]
fn what_cannot_be_taken_back_is_recorded_before_it_is_done() {
    let mut irreversible = 0;
    for step in steps(&opened()) {
        for list in lists(&step) {
            for (number, _) in list.iter().enumerate().filter(|(_, effect)| is_irreversible(effect)) {
                let before = &list[..number];
                // Recorded right here, or by an earlier pass on the object as it still is.
                let recorded = before.iter().any(|e| matches!(e, Effect::RecordStatus(_) | Effect::RequireUnchanged));
                assert!(recorded, "{step:?}: {}", describe(&list));
                irreversible += 1;
            }
        }
    }
    assert!(irreversible >= 20, "only {irreversible} were looked at");
}

#[test]
fn the_end_is_recorded_last_and_told_before() {
    for step in steps(&opened()).into_iter().filter(Step::ends) {
        for list in lists(&step) {
            let words = describe(&list);
            assert!(matches!(list.last(), Some(Effect::RecordStatus(_))), "{words}");
            assert!(words.contains("event") && words.contains("release locks, record"), "{words}");
        }
    }
}

#[test]
fn the_table_of_the_module_holds() {
    let words = |step: Step| describe(&lists(&step)[0]);
    let open = opened();
    let attempt = || Box::new(open.status.as_ref().unwrap().attempts[0].clone());
    let next = || Box::new(Attempt { number: 2, job: "nightly-1a2b3-2".into(), ..*attempt() });
    let lists: Vec<String> = steps(&open).into_iter().map(words).collect();
    for expected in [
        "unchanged?, take lock, record, create nightly-1a2b3-2c",
        "record, create nightly-1a2b3-2c",
        "record, create nightly-1a2b3-1",
        "unchanged?, create nightly-1a2b3-1",
        "unchanged?, create nightly-1a2b3-1c",
        "unchanged?, scale",
        "unchanged?, scale, record",
        "unchanged?, event MemberNotBack, record",
        "unchanged?, event ToolFailed, record",
        "record, create nightly-1a2b3-1i",
        "record, delete j",
        "unchanged?, event ToolFailed, release locks, record",
        "event ToolFailed, record",
        "event ToolFailed, replace status",
        "event TargetLocked, release locks, set finalizers",
        // Nothing was looked at: what still works of the object keeps its lock.
        "event TargetLocked, set finalizers",
        "unchanged?, create nightly-1a2b3-p",
        "event TargetLocked, delete j",
    ] {
        assert!(lists.iter().any(|list| list == expected), "{expected} is not in {lists:#?}");
    }
    assert_eq!(next().number, 2);
}

#[test]
fn a_wait_that_is_told_already_writes_nothing_before_its_look_was_due() {
    let object = opened();
    let valid = Box::new(validate(&object).unwrap());
    let request = Request::Backup(valid.clone());
    let waits = |message: &str| {
        let same = running(object.status.as_ref().unwrap());
        Decision::from(Step::Wait(Waiting { message: message.to_owned(), ..same }))
    };
    let effects = |decision: &Decision, due| {
        describe(&plan(&object, &request, decision, Settings { due, ..SETTINGS() }).unwrap().effects)
    };
    assert_eq!(effects(&waits("attempt 7f3a of the look-up"), false), "");
    assert_eq!(effects(&waits("attempt 7f3a of the look-up"), true), "record");
    // Another reason is told at once.
    let other = Step::Wait(Waiting { reason: Reason::NoMaster, message: "no".into(), look_again: Duration::ZERO });
    assert_eq!(effects(&other.into(), false), "record");
}

#[test]
fn a_refusal_says_what_it_means_to_the_attempt() {
    let object = opened();
    let valid = validate(&object).unwrap();
    let status = object.status.clone().unwrap();
    let opened =
        Step::OpenAttempt { attempt: Box::new(Attempt { number: 2, ..status.attempts[0].clone() }), take_lock: true };
    let after = |refusal| {
        let status = if matches!(refusal, Refusal::LockHeld) {
            status::after(&valid, &status, &opened, true, at(1))
        } else {
            status.clone()
        };
        after_refusal(&object, &valid, &status, (&refusal, "quota"), SETTINGS()).unwrap()
    };
    let (decision, plan) = after(Refusal::CloseAttempt(Reason::JobRefused));
    assert!(matches!(decision.step, Step::CloseAttempt(Ending { reason: Reason::JobRefused, .. })));
    assert_eq!(describe(&plan.effects), "unchanged?, event JobRefused, record");
    let (decision, plan) = after(Refusal::LockHeld);
    let Step::Wait(Waiting { reason: Reason::WaitingForLock, message, .. }) = &decision.step else { panic!() };
    assert!(message.starts_with("quota is using this cluster"), "{message}");
    assert_eq!(describe(&plan.effects), "record");
    // What was not recorded is not taken for recorded.
    assert_eq!(plan.status.attempts, object.status.as_ref().unwrap().attempts);
    let (decision, plan) = after(Refusal::Unanswered(inspection()));
    assert!(matches!(decision.step, Step::Unanswered(_, None)));
    assert_eq!(describe(&plan.effects), "record");
}
