use super::*;
use crate::api::condition::{RECONCILING, Truth};
use crate::schedule::children::{ChildState, Whose};
use crate::schedule::decide::decide;
use crate::schedule::testing::{Play, at, hourly};
use chrono::TimeDelta;
use serde_json::json;

fn mark(play: &mut Play, number: usize) {
    let ChildState::Good(point) = &mut play.children[number].state else { panic!() };
    point.is_marked = true;
}

#[test]
fn a_mark_is_taken_off_every_point_that_does_not_go_now() {
    let kept = |retention: serde_json::Value| {
        let mut play = hourly();
        play.run_until("2026-11-24T14:30:00Z");
        mark(&mut play, 0);
        play.set("retention", retention);
        play.passes();
        play
    };
    for retention in [json!(null), json!({"keepLast": 9}), json!({"keepLast": 1, "approveAbove": 0})] {
        let play = kept(retention);
        assert_eq!((play.unmarked.as_slice(), play.removed.len()), (&["nightly-20261124-1100".to_owned()][..], 0));
    }
    // One that goes now needs it.
    let play = kept(json!({"keepLast": 3}));
    assert_eq!((play.unmarked.len(), play.removed.as_slice()), (0, &["nightly-20261124-1100".to_owned()][..]));
    // One of an earlier schedule of the name is nobody else's; one of another schedule is.
    for (whose, count) in [(Whose::Earlier, 1), (Whose::OtherSchedule, 0)] {
        let mut play = hourly();
        play.run_until("2026-11-24T12:30:00Z");
        play.children[0].whose = whose;
        mark(&mut play, 0);
        play.passes();
        assert_eq!(play.unmarked.len(), count, "{whose:?}");
    }
}

#[test]
fn a_deleted_schedule_leaves_no_mark_on_what_stays() {
    let mut play = hourly();
    play.run_until("2026-11-24T12:30:00Z");
    mark(&mut play, 0);
    let finalizers = [crate::schedule::world::POINTS_FINALIZER.to_owned()];
    let decided = |play: &Play, policy| {
        let mut schedule = play.valid().clone();
        schedule.deletion_policy = policy;
        let world = World {
            children: &play.children,
            read: &[],
            left: None,
            server_time: None,
            refused: None,
            drill: None,
            finalizers: &finalizers,
            is_deleted: true,
        };
        decide(&schedule, &play.status, &world, play.now).step
    };
    let looks = Step::Look("nightly-20261124-1100".to_owned());
    assert_eq!(decided(&play, DeletionPolicy::Retain), looks);
    let ChildState::Good(point) = &mut play.children[0].state else { panic!() };
    (point.is_pinned, play.children[1].whose) = (true, Whose::Manual);
    assert_eq!(decided(&play, DeletionPolicy::Delete), looks);
    let ChildState::Good(point) = &mut play.children[0].state else { panic!() };
    point.is_marked = false;
    assert_eq!(decided(&play, DeletionPolicy::Retain), Step::SetFinalizers(Vec::new()));
}

/// A pass whose removal is refused.
fn refuse(play: &mut Play, words: &str) -> Decision {
    let decision = play.decide();
    let refused = removal_refused(play.valid(), &play.status, &decision, words, play.now);
    play.status = refused.status.clone();
    refused
}

#[test]
fn a_refused_removal_is_told_once_and_holds_up_no_slot_and_no_drill() {
    let mut play = hourly().spec("drill", json!({"schedule": "35 14 * * *"}));
    play.run_until("2026-11-24T14:30:00Z");
    play.set("retention", json!({"keepLast": 2}));
    let first = refuse(&mut play, "policy: not on my watch");
    assert_eq!((first.notes.len(), first.notes[0].reason), (1, Reason::RemovalRefused));
    assert_eq!(first.look_again, Some(LATER));
    assert_eq!(play.condition(RETENTION_APPLIED), (Some(Truth::False), "RemovalRefused".to_owned()));
    let told = play.status.clone();
    // The next passes try again, and write nothing.
    assert!(matches!(play.decide().step, Step::Prune(_)));
    let second = refuse(&mut play, "policy: not on my watch");
    assert_eq!((second.notes.len(), &second.status), (0, &told));
    play.now = at("2026-11-24T14:35:00Z");
    assert!(matches!(play.decide().step, Step::Drill { .. }));
    play.now = at("2026-11-24T15:00:00Z");
    assert!(matches!(play.decide().step, Step::Take(_)));
    // Other rules, and it is not needed any more.
    play.set("retention", json!({"keepLast": 9}));
    play.passes();
    assert_eq!(play.condition(RETENTION_APPLIED), (Some(Truth::True), "RetentionApplied".to_owned()));
}

#[test]
fn a_refused_removal_does_not_hide_that_a_person_is_asked() {
    let mut play = hourly().spec("failedHistoryLimit", 0);
    play.run_until("2026-11-24T14:30:00Z");
    play.fails = Some("ToolFailed");
    play.run_until("2026-11-24T15:00:30Z");
    play.now = at("2026-11-24T15:01:00Z");
    play.set("retention", json!({"keepLast": 1, "approveAbove": 0}));
    let name = "nightly-20261124-1500";
    let child = play.children.iter_mut().find(|child| child.name == name).unwrap();
    child.state = ChildState::Failed { reason: "ToolFailed".to_owned(), time: play.now, is_pinned: false };
    assert!(matches!(play.decide().step, Step::Forget(_)));
    refuse(&mut play, "no");
    assert_eq!(play.condition(RETENTION_APPLIED).1, "ApprovalRequired");
}

#[test]
fn a_backup_that_may_not_be_replaced_is_told_with_the_slot_that_waits() {
    let mut play = hourly().spec("concurrencyPolicy", "Replace");
    play.takes = 9000;
    play.run_until("2026-11-24T11:30:00Z");
    play.now = at("2026-11-24T12:00:00Z");
    assert!(matches!(play.decide().step, Step::Replace(_)));
    let refused = refuse(&mut play, "admission: no");
    assert_eq!(refused.notes.len(), 1);
    assert_eq!(play.condition(READY), (Some(Truth::False), "RemovalRefused".to_owned()));
    assert_eq!(play.condition(RECONCILING).0, Some(Truth::True));
    assert_eq!((play.status.replaced, play.status.waiting.is_some()), (0, true));
    let told = play.status.clone();
    let decision = play.decide();
    assert!(matches!(decision.step, Step::Replace(_)));
    assert_eq!((&decision.status, decision.look_again), (&told, Some(LATER)));
    play.passes();
    assert_eq!(play.condition(READY).0, Some(Truth::True));
}

#[test]
fn no_point_is_too_old_by_a_clock_that_is_ahead_of_the_api_servers() {
    let mut play = hourly().spec("retention", json!({"maxAge": "24h"}));
    play.run_until("2026-11-24T14:30:00Z");
    play.away_until("2026-11-29T14:30:00Z");
    play.ahead = TimeDelta::days(5);
    play.passes();
    assert_eq!(play.removed, [""; 0]);
    let conditions = &play.status.conditions;
    let applied = conditions.iter().find(|condition| condition.type_ == RETENTION_APPLIED).unwrap();
    assert!(applied.message.contains("clock is ahead"), "{}", applied.message);
    assert_eq!(play.status.retention.as_ref().unwrap().removing, 0);
    // It was the API server's time that stood still.
    play.ahead = TimeDelta::zero();
    play.passes();
    // The newest stays.
    assert_eq!(play.removed.len(), 3);
}
