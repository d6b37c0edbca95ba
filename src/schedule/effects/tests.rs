use super::*;
use crate::api::Reason;
use crate::schedule::children::ChildState;
use crate::schedule::testing::{Play, at, hourly};
use serde_json::json;

/// The effects of what a pass decides now, in words.
fn words(play: &Play) -> String {
    let decision = play.decide();
    of(play, &decision)
}

fn of(play: &Play, decision: &Decision) -> String {
    let settings = Settings {
        schedule: Some(play.valid()),
        owner: &play.valid().owner,
        resource_version: "7",
        operator_image: "operator:test",
        instance: "replica-0",
        now: play.now,
    };
    let effects = effects(decision, Some(&play.status), settings).unwrap();
    effects.iter().map(Effect::words).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_backup_is_created_before_its_slot_is_recorded() {
    let mut play = hourly();
    play.passes();
    play.now = at("2026-11-24T11:00:00Z");
    assert_eq!(words(&play), "unchanged?, create \"nightly-20261124-1100\", record");
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut play = hourly();
    play.run_until("2026-11-24T11:30:00Z");
    assert_eq!(words(&play), "");
}

#[test]
fn what_goes_is_recorded_first_and_goes_from_an_unchanged_schedule_only() {
    let mut play = hourly().spec("retention", json!({"keepLast": 9}));
    play.run_until("2026-11-24T13:30:00Z");
    play.set("retention", json!({"keepLast": 2}));
    assert_eq!(words(&play), "record, unchanged?, mark and delete nightly-20261124-1100");
    play.set("concurrencyPolicy", "Replace");
    play.passes();
    play.takes = 9000;
    play.run_until("2026-11-24T14:00:00Z");
    play.now = at("2026-11-24T15:00:00Z");
    assert_eq!(words(&play), "record, unchanged?, delete nightly-20261124-1400");
}

#[test]
fn a_mark_goes_from_a_point_of_an_unchanged_schedule_only() {
    let mut play = hourly().spec("retention", json!({"keepLast": 9}));
    play.run_until("2026-11-24T11:30:00Z");
    let ChildState::Good(point) = &mut play.children[0].state else { panic!() };
    point.is_marked = true;
    assert_eq!(words(&play), "unchanged?, change nightly-20261124-1100");
}

#[test]
fn the_job_of_a_drill_is_recorded_before_it_is_created() {
    let mut play = hourly().spec("drill", json!({"schedule": "30 11 * * *"}));
    play.run_until("2026-11-24T11:29:00Z");
    play.now = at("2026-11-24T11:30:00Z");
    assert_eq!(words(&play), "record, create nightly-5c4ed-d202611241130");
}

#[test]
fn a_status_that_was_written_for_another_object_is_replaced_as_a_whole() {
    let mut play = hourly();
    play.passes();
    let decision = play.decide();
    play.status.uid = Some("another".to_owned());
    assert_eq!(of(&play, &decision), "replace status");
}

#[test]
fn an_event_comes_before_the_record_that_it_tells_of() {
    let mut play = hourly().spec("startingDeadline", "10m");
    play.passes();
    play.away_until("2026-11-24T11:30:00Z");
    assert_eq!(words(&play), format!("event {}, record", Reason::DeadlineMissed));
}

#[test]
fn a_point_that_goes_takes_its_files_with_it() {
    let child = BackupRef {
        name: "b".to_owned(),
        uid: "u".to_owned(),
        resource_version: Some("3".to_owned()),
        schedule_uid: "s".to_owned(),
        finalizers: vec!["other".to_owned()],
    };
    let marked = mark(&child);
    assert_eq!(marked["metadata"]["annotations"]["graphbackup.dev/prune"], "s");
    assert_eq!(marked["metadata"]["finalizers"], json!(["other", FILES_FINALIZER]));
    let has_it = BackupRef { finalizers: vec![FILES_FINALIZER.to_owned()], ..child };
    assert_eq!(mark(&has_it)["metadata"]["finalizers"], json!([FILES_FINALIZER]));
}
