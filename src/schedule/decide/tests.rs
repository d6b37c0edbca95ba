use crate::api::condition::{DRILL_PASSED, FRESH, READY, RETENTION_APPLIED, STALLED, Truth};
use crate::api::{BackupType, Reason};
use crate::contract::failure::Failure;
use crate::contract::verdict::Verdict;
use crate::controller::job::JobState;
use crate::schedule::children::{Child, ChildState, Whose};
use crate::schedule::step::Step;
use crate::schedule::testing::{Play, at, good, hourly};
use crate::schedule::world::{Found, World};
use chrono::TimeDelta;
use serde_json::json;

#[test]
fn every_slot_gets_one_backup_and_a_full_one_where_both_are_due() {
    let mut play = hourly();
    play.run_until("2026-11-24T13:30:00Z");
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1200", "20261124-1300"]);
    assert!(play.taken.iter().all(|(_, backup_type)| *backup_type == BackupType::Auto));
    play.run_until("2026-11-29T02:30:00Z");
    assert_eq!(play.taken.last(), Some(&("nightly-20261129-0200".to_owned(), BackupType::Full)));
    assert_eq!(play.taken.len(), 3 + 10 + 24 * 4 + 3);
    // The slot that both share is one slot.
    assert_eq!(play.status.skipped, []);
    let next: Vec<_> = play.status.next_slots.iter().map(|slot| slot.time).collect();
    assert_eq!(next, ["2026-11-29T03:00:00Z", "2026-11-29T04:00:00Z", "2026-11-29T05:00:00Z"].map(at));
}

#[test]
fn creating_editing_and_resuming_start_nothing() {
    let mut play = hourly();
    play.now = at("2026-11-24T10:00:00Z");
    play.passes();
    assert_eq!(play.slots(), [""; 0]);
    play.run_until("2026-11-24T10:30:00Z");
    for (field, value) in [
        ("timeZone", json!("Asia/Kolkata")),
        ("full", json!({"schedule": "*/5 * * * *"})),
        ("jitter", json!("9m")),
        ("retention", json!({"keepLast": 3})),
        ("suspend", json!(true)),
        ("suspend", json!(false)),
    ] {
        play.set(field, value);
        play.passes();
        assert_eq!(play.slots(), [""; 0], "{field}");
    }
    // The zone's hours are half an hour off.
    play.set("full", serde_json::Value::Null);
    play.set("jitter", "0s");
    play.run_until("2026-11-24T12:00:00Z");
    assert_eq!(play.slots(), ["20261124-1130"]);
}

#[test]
fn a_schedule_that_could_not_be_read_has_no_slots_for_that_time() {
    let mut play = hourly();
    play.run_until("2026-11-24T10:30:00Z");
    let object: crate::api::BackupSchedule = serde_json::from_value(play.object.clone()).unwrap();
    let object = crate::api::BackupSchedule { status: Some(play.status.clone()), ..object };
    let error = crate::schedule::validate::InvalidSchedule::Duration("jitter");
    (play.status, _) = crate::schedule::status::invalid(&object, &error, play.now);
    play.away_until("2026-11-24T12:30:00Z");
    play.passes();
    assert_eq!(play.slots(), [""; 0]);
    play.run_until("2026-11-24T13:00:00Z");
    assert_eq!(play.slots(), ["20261124-1300"]);
}

#[test]
fn a_slot_that_an_edit_leaves_without_a_backup_is_counted() {
    let mut play = hourly().spec("concurrencyPolicy", "Queue");
    play.takes = 5400;
    play.run_until("2026-11-24T12:10:00Z");
    assert_eq!(play.status.waiting.map(|slot| slot.time), Some(at("2026-11-24T12:00:00Z")));
    play.set("incremental", json!({"schedule": "45 * * * *"}));
    play.passes();
    assert_eq!((play.skipped("ScheduleChanged"), play.status.waiting), (1, None));
    play.run_until("2026-11-24T12:50:00Z");
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1245"]);
}

#[test]
fn an_edited_expression_counts_no_slots_of_the_time_before() {
    let mut play = hourly();
    play.run_until("2026-11-30T12:00:30Z");
    play.set("full", json!({"schedule": "*/5 * * * *"}));
    play.run_until("2026-11-30T12:04:00Z");
    assert_eq!(play.status.skipped, []);
}

#[test]
fn a_clock_that_was_ahead_costs_no_slot_once_it_is_right() {
    let mut play = hourly();
    play.run_until("2026-11-24T11:30:00Z");
    play.away_until("2026-11-24T18:00:00Z");
    play.run_until("2026-11-24T18:02:00Z");
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1800"]);
    play.away_until("2026-11-24T12:05:00Z");
    play.passes();
    play.run_until("2026-11-24T19:00:00Z");
    let slots = ["1300", "1400", "1500", "1600", "1700", "1900"].map(|hour| format!("20261124-{hour}"));
    assert_eq!(play.slots()[2..], slots);
}

#[test]
fn the_slots_of_a_suspended_schedule_are_counted_and_not_caught_up() {
    let mut play = hourly();
    play.run_until("2026-11-24T10:30:00Z");
    play.set("suspend", true);
    play.run_until("2026-11-24T13:30:00Z");
    assert_eq!(play.status.next_slots, []);
    assert_eq!(play.condition(READY), (Some(Truth::True), "Suspended".to_owned()));
    play.set("suspend", false);
    play.run_until("2026-11-24T14:00:00Z");
    assert_eq!(play.slots(), ["20261124-1400"]);
    assert_eq!(play.skipped("Suspended"), 3);
}

#[test]
fn after_an_outage_one_backup_is_caught_up_or_none() {
    let mut play = hourly();
    play.run_until("2026-11-24T10:30:00Z");
    play.away_until("2026-11-24T15:30:00Z");
    play.run_until("2026-11-24T16:00:00Z");
    assert_eq!(play.slots(), ["20261124-1500", "20261124-1600"]);
    assert_eq!(play.skipped("Superseded"), 4);

    let mut late = hourly().spec("startingDeadline", "10m");
    late.run_until("2026-11-24T10:30:00Z");
    late.away_until("2026-11-24T15:30:00Z");
    late.run_until("2026-11-24T16:00:00Z");
    assert_eq!(late.slots(), ["20261124-1600"]);
    assert_eq!(late.skipped("DeadlineMissed"), 5);
    assert!(late.told[0].contains("5 slots up to 2026-11-24T15:00:00Z are skipped"), "{:?}", late.told);
}

#[test]
fn a_full_backup_that_was_missed_is_caught_up_before_an_incremental_one() {
    let mut play = hourly();
    play.run_until("2026-11-28T23:30:00Z");
    let before = play.taken.len();
    play.away_until("2026-11-29T08:30:00Z");
    play.run_until("2026-11-29T09:00:00Z");
    assert_eq!(play.slots()[before..], ["20261129-0200", "20261129-0900"]);
    assert_eq!(play.taken[before].1, BackupType::Full);
}

#[test]
fn forbid_skips_what_comes_too_early_but_a_full_backup_waits_for_an_incremental_one() {
    let mut play = hourly();
    play.takes = 5400;
    play.run_until("2026-11-24T14:00:00Z");
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1300"]);
    assert_eq!(play.skipped("PreviousStillRunning"), 2);

    let mut full = hourly();
    full.takes = 5400;
    full.run_until("2026-11-29T02:10:00Z");
    let before = full.taken.len();
    assert_eq!(full.status.waiting.map(|slot| slot.time), Some(at("2026-11-29T02:00:00Z")));
    full.run_until("2026-11-29T03:00:00Z");
    assert_eq!(full.slots()[before..], ["20261129-0200"]);
}

#[test]
fn queue_lets_the_newest_slot_wait() {
    let mut play = hourly().spec("concurrencyPolicy", "Queue");
    play.takes = 9000;
    play.run_until("2026-11-24T13:29:00Z");
    assert_eq!(play.slots(), ["20261124-1100"]);
    assert_eq!(play.status.waiting.map(|slot| slot.time), Some(at("2026-11-24T13:00:00Z")));
    play.run_until("2026-11-24T13:30:00Z");
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1300"]);
    assert_eq!(play.skipped("Superseded"), 1);
}

#[test]
fn replace_that_lets_no_backup_end_says_so() {
    let mut play = hourly().spec("concurrencyPolicy", "Replace").spec("freshness", json!({"maxAge": "2h"}));
    play.takes = 5400;
    play.run_until("2026-11-24T14:30:00Z");
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1200", "20261124-1300", "20261124-1400"]);
    assert_eq!(play.removed.len(), 3);
    assert_eq!(play.condition(STALLED), (Some(Truth::True), "ReplacedTooSoon".to_owned()));
    assert_eq!(play.condition(FRESH), (Some(Truth::False), "ReplacedTooSoon".to_owned()));
    play.takes = 60;
    play.run_until("2026-11-24T15:30:00Z");
    assert_eq!(play.condition(STALLED).0, Some(Truth::False));
    // An incremental backup does not replace a full one.
    let mut full = hourly().spec("concurrencyPolicy", "Replace");
    full.run_until("2026-11-29T01:30:00Z");
    full.takes = 5400;
    full.run_until("2026-11-29T03:20:00Z");
    assert_eq!(full.slots().last(), Some(&"20261129-0200"));
    assert_eq!(full.removed.len(), 0);
}

#[test]
fn a_backup_on_request_is_taken_once_for_each_value() {
    let mut play = hourly();
    play.annotate("graphbackup.dev/backup-now", "there when it was created");
    play.run_until("2026-11-24T10:10:00Z");
    assert_eq!(play.slots(), [""; 0]);
    play.annotate("graphbackup.dev/backup-now", "before the upgrade");
    play.set("suspend", true);
    play.run_until("2026-11-24T10:20:00Z");
    assert_eq!(play.taken.len(), 1);
    assert_eq!(play.status.backup_now.as_ref().unwrap().name.as_ref(), Some(&play.taken[0].0));
    play.run_until("2026-11-24T12:20:00Z");
    assert_eq!(play.taken.len(), 1);
}

#[test]
fn a_foreign_object_of_that_name_is_reported_and_stops_no_later_slot() {
    let mut play = hourly();
    play.passes();
    let name = "nightly-20261124-1100".to_owned();
    let foreign = Child {
        name: name.clone(),
        uid: "foreign".to_owned(),
        whose: Whose::Manual,
        schedule: None,
        slot: None,
        is_deleted: false,
        state: ChildState::Good(good(at("2026-11-24T09:00:00Z"), 0)),
    };
    play.now = at("2026-11-24T11:00:00Z");
    let taken = play.decide();
    assert!(matches!(taken.step, Step::Take(_)));
    // The API server says that the name is taken, and the object is read.
    let schedule = play.valid();
    let read = [(name, Found::Backup(Box::new(crate::schedule::testing::stored(&foreign))))];
    let world = World {
        children: &[foreign],
        read: &read,
        left: None,
        server_time: None,
        refused: None,
        drill: None,
        finalizers: &[],
        is_deleted: false,
    };
    let decision = super::decide(schedule, &play.status, &world, play.now);
    assert_eq!(decision.step, Step::Record);
    assert_eq!(decision.notes[0].reason, Reason::NameTaken);
    play.status = decision.status;
    play.run_until("2026-11-24T12:00:00Z");
    assert_eq!(play.slots(), ["20261124-1200"]);
    assert_eq!(play.skipped("NameTaken"), 1);
}

#[test]
fn fresh_goes_false_by_itself_and_names_the_cause() {
    let mut play = hourly().spec("freshness", json!({"maxAge": "90m"}));
    play.run_until("2026-11-24T10:30:00Z");
    assert_eq!(play.condition(FRESH), (Some(Truth::Unknown), "NoBackupYet".to_owned()));
    play.run_until("2026-11-24T11:30:00Z");
    assert_eq!(play.condition(FRESH), (Some(Truth::True), "OnTime".to_owned()));
    play.fails = Some("TargetFull");
    play.run_until("2026-11-24T12:29:59Z");
    assert_eq!(play.condition(FRESH).0, Some(Truth::True));
    play.run_until("2026-11-24T12:30:02Z");
    assert_eq!(play.condition(FRESH), (Some(Truth::False), "LastRunFailed".to_owned()));
    assert_eq!(play.told.len(), 1, "{:?}", play.told);
    play.fails = None;
    play.run_until("2026-11-24T13:30:00Z");
    assert_eq!(play.condition(FRESH).0, Some(Truth::True));
    assert_eq!(play.status.failures, None);
}

#[test]
fn slots_rest_while_the_target_keeps_failing_and_one_is_tried_now_and_then() {
    let mut play = hourly().spec("incremental", json!({"schedule": "*/5 * * * *"}));
    play.fails = Some("TargetFull");
    play.run_until("2026-11-24T13:00:00Z");
    let tried = play.taken.len();
    assert!((5..=7).contains(&tried), "{:?}", play.slots());
    assert_eq!(play.condition(STALLED), (Some(Truth::True), "TargetKeepsFailing".to_owned()));
    assert!(play.skipped("TargetKeepsFailing") > 25);
    // Failed backups are kept within their limit.
    assert_eq!(play.children.len(), 3);
    play.fails = None;
    play.run_until("2026-11-24T20:00:00Z");
    assert_eq!(play.condition(STALLED).0, Some(Truth::False));
    assert!(play.taken.len() > tried + 20);
}

fn retained(play: &Play) -> Vec<String> {
    let mut names: Vec<_> = play.children.iter().filter(|c| c.good().is_some()).map(|c| c.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn points_that_no_rule_keeps_go_one_by_one_and_the_plan_stands_on_the_object_first() {
    let mut play = hourly().spec("retention", json!({"keepLast": 2}));
    play.run_until("2026-11-24T15:30:00Z");
    assert_eq!(retained(&play), ["nightly-20261124-1400", "nightly-20261124-1500"]);
    assert_eq!(play.condition(RETENTION_APPLIED), (Some(Truth::True), "RetentionApplied".to_owned()));
    assert_eq!(play.status.retention.as_ref().unwrap().keeps[0].rules, ["keepLast"]);
}

#[test]
fn a_mass_deletion_waits_for_a_person() {
    let mut play = hourly();
    play.run_until("2026-11-25T10:30:00Z");
    assert_eq!(retained(&play).len(), 24);
    play.set("retention", json!({"keepLast": 2}));
    play.run_until("2026-11-25T10:40:00Z");
    assert_eq!(retained(&play).len(), 24);
    assert_eq!(play.condition(RETENTION_APPLIED), (Some(Truth::False), "ApprovalRequired".to_owned()));
    let retention = play.status.retention.clone().unwrap();
    assert_eq!((retention.kept, retention.removing, retention.removes.len()), (2, 22, 22));
    // It is told once.
    assert_eq!(play.told.iter().filter(|told| told.starts_with("ApprovalRequired")).count(), 1, "{:?}", play.told);
    // Another plan's approval does not count.
    play.annotate("graphbackup.dev/approve-plan", "0000000000000000");
    play.passes();
    assert_eq!(retained(&play).len(), 24);
    play.annotate("graphbackup.dev/approve-plan", &retention.plan.unwrap());
    play.passes();
    assert_eq!(retained(&play).len(), 2);
    assert_eq!(play.status.retention.as_ref().unwrap().approved, None);
    // Another policy needs another approval.
    play.run_until("2026-11-26T10:30:00Z");
    play.set("retention", json!({"keepLast": 1, "approveAbove": 0}));
    play.passes();
    assert_eq!(retained(&play).len(), 2);
}

#[test]
fn what_is_not_this_schedules_own_is_named_and_stays() {
    let mut play = hourly().spec("retention", json!({"keepLast": 1}));
    let point = |name: &str, whose| Child {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        whose,
        schedule: Some("other".to_owned()),
        slot: None,
        is_deleted: false,
        state: ChildState::Good(good(at("2026-11-20T10:00:00Z"), 0)),
    };
    let mut pinned = point("pinned", Whose::Ours);
    let ChildState::Good(own) = &mut pinned.state else { unreachable!() };
    own.is_pinned = true;
    play.children = vec![
        pinned,
        point("manual", Whose::Manual),
        point("earlier", Whose::Earlier),
        point("other", Whose::OtherSchedule),
        point("used", Whose::Ours),
        Child {
            state: ChildState::Working { is_full: false, parent: Some("uid-used".to_owned()) },
            ..point("user", Whose::Manual)
        },
    ];
    play.run_until("2026-11-24T13:30:00Z");
    let kept = retained(&play);
    assert_eq!(kept, ["earlier", "manual", "nightly-20261124-1300", "other", "pinned", "used"]);
    let rules: Vec<_> = play.status.retention.as_ref().unwrap().keeps.iter().map(|k| k.rules.join(",")).collect();
    for rule in ["pinned", "made by hand", "in use by user", "of another schedule"] {
        assert!(rules.iter().any(|told| told.contains(rule)), "{rule}: {rules:?}");
    }
}

/// A schedule with a point at 11:00 and a drill that is due at 11:30.
fn drilled() -> Play {
    let mut play = hourly().spec("drill", json!({"schedule": "30 11 * * *"}));
    play.run_until("2026-11-24T11:29:00Z");
    play.now = at("2026-11-24T11:30:00Z");
    play
}

fn job_ended(verdict: Option<Verdict>) -> JobState {
    JobState::Ended { deadline_exceeded: false, pod_uid: None, verdict, out_of_memory: None, lingering: None }
}

fn restored(digest: &str) -> JobState {
    let told = json!({"drilled": {
        "manifestDigest": digest, "storeId": crate::schedule::testing::STORE, "lastTransaction": 42, "files": 4,
        "bytes": 70, "copySeconds": 61, "openSeconds": 9, "totalSeconds": 71, "finished": "2026-11-24T11:31:10Z",
    }});
    job_ended(serde_json::from_value(told).unwrap())
}

#[test]
fn a_drill_tries_the_newest_point_and_its_figures_stand_on_the_schedule() {
    let mut play = drilled();
    let decision = play.decide();
    let Step::Drill { job, asked } = &decision.step else { panic!("{:?}", decision.step) };
    assert_eq!(job, "nightly-5c4ed-d202611241130");
    assert_eq!(asked.place.to_string(), format!("{}/folder-of-nightly-20261124-1100", crate::schedule::testing::STORE));
    assert_eq!(asked.owner_uid, "uid-nightly-20261124-1100");
    play.status = decision.status;
    // Its point is in use.
    play.set("retention", json!({"keepLast": 1}));
    play.drill = Some(restored("sha256:nightly-20261124-1100"));
    let decision = play.decide();
    let Step::EndDrill { result, .. } = &decision.step else { panic!("{:?}", decision.step) };
    assert_eq!((result.passed, result.seconds, result.last_transaction), (true, Some(71), Some(42)));
    play.status = decision.status;
    assert_eq!(play.condition(DRILL_PASSED), (Some(Truth::True), "StoreOpened".to_owned()));
    assert!(play.status.drill.as_ref().unwrap().running.is_none());
    // The next one is due tomorrow.
    assert_eq!(play.decide().step, Step::Record);
}

#[test]
fn a_drill_is_followed_to_its_end_although_it_was_removed_from_the_spec() {
    let mut play = drilled();
    play.status = play.decide().status;
    play.set("drill", serde_json::Value::Null);
    play.drill = Some(restored("sha256:nightly-20261124-1100"));
    let decision = play.decide();
    assert!(matches!(&decision.step, Step::EndDrill { result, .. } if result.passed), "{:?}", decision.step);
    play.status = decision.status;
    play.drill = None;
    play.passes();
    assert_eq!(play.status.drill, None);
    assert_eq!(play.condition(DRILL_PASSED), (Some(Truth::Unknown), "NotRequested".to_owned()));
}

#[test]
fn a_point_on_an_earlier_target_is_not_tried() {
    let mut play = drilled();
    let mut template = play.object["spec"]["template"].clone();
    template["target"]["claimName"] = json!("another");
    play.set("template", template);
    play.passes();
    assert_eq!(play.status.drill.as_ref().unwrap().running, None);
    assert_eq!(play.status.drill.as_ref().unwrap().timing.last_slot, Some(at("2026-11-24T11:30:00Z")));
}

#[test]
fn a_drill_that_cannot_show_that_it_opened_the_point_has_failed() {
    for (drill, reason) in [
        (restored("sha256:of another point"), "AgentFailed"),
        (job_ended(None), "JobLost"),
        (job_ended(Some(Verdict::Ready)), "AgentFailed"),
        (job_ended(Some(Verdict::Failed(Failure { reason: Reason::BootFailed, message: "no".into() }))), "BootFailed"),
        (JobState::Foreign, "JobRefused"),
    ] {
        let mut play = drilled();
        play.status = play.decide().status;
        play.drill = Some(drill);
        let decision = play.decide();
        let Step::EndDrill { result, .. } = &decision.step else { panic!("{reason}: {:?}", decision.step) };
        assert_eq!((result.passed, result.reason.as_str()), (false, reason));
        assert_eq!(decision.notes[0].reason, Reason::DrillFailed);
        play.status = decision.status;
        assert_eq!(play.condition(DRILL_PASSED), (Some(Truth::False), "DrillFailed".to_owned()));
    }
}

#[test]
fn a_drill_whose_job_is_missing_is_created_again_and_then_lost() {
    let mut play = drilled();
    play.status = play.decide().status;
    play.drill = Some(JobState::Absent);
    assert!(matches!(play.decide().step, Step::Drill { .. }));
    play.now = at("2026-11-24T11:31:00Z");
    let Step::EndDrill { result, .. } = play.decide().step else { panic!() };
    assert_eq!(result.reason, "JobLost");
}

#[test]
fn the_refusal_of_a_drills_job_is_told_in_the_words_of_who_refused() {
    let play = drilled();
    let recorded = play.decide().status;
    let refused = super::drill_refused(play.valid(), &recorded, "exceeded quota", play.now);
    let last = refused.status.drill.as_ref().unwrap().last.as_ref().unwrap();
    assert_eq!((last.reason.as_str(), last.message.as_str()), ("JobRefused", "exceeded quota"));
    assert!(refused.status.drill.unwrap().running.is_none());
}

#[test]
fn a_year_of_hourly_slots_with_outages_of_every_length_takes_each_due_slot_once() {
    let mut play = hourly().spec("timeZone", "Europe/Berlin").spec("retention", json!({"keepLast": 3, "keepDaily": 7}));
    let end = at("2027-11-24T10:00:00Z");
    let mut outage = 7_u64;
    while play.now < end {
        let until = play.now + TimeDelta::hours(19);
        play.run_until(&until.to_rfc3339());
        outage = outage.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let minutes = i64::try_from((outage >> 33) % 400).unwrap();
        let back = play.now + TimeDelta::minutes(minutes);
        play.away_until(&back.to_rfc3339());
    }
    play.passes();
    let mut slots = play.slots();
    assert!(slots.is_sorted(), "slots rise");
    slots.dedup();
    assert_eq!(slots.len(), play.taken.len(), "no slot twice");
    // What was due: every hour, but for those that one backup stood for.
    let hours = (play.now - at("2026-11-24T10:00:00Z")).num_hours();
    assert_eq!(i64::try_from(play.taken.len()).unwrap() + play.skipped("Superseded"), hours);
    assert!(play.children.len() <= 3 + 7);
    assert!(serde_json::to_string(&play.status).unwrap().len() < 6000);
}
