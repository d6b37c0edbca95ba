//! Points stay and go.

use crate::apiserver::{Store, Verb};
use crate::driver::Run;
use crate::fault::delete;
use crate::schedule::look::{backup, change, schedule, schedule_key, set};
use crate::schedule::scenario::{Scenario, scenario};
use crate::schedule::standin::{End, SCHEDULE, backup_key, delete_by_hand, old_point, start_from};
use graph_backup_operator::api::names::{APPROVE_PLAN_ANNOTATION, PIN_ANNOTATION, PRUNE_ANNOTATION};
use graph_backup_operator::backup::finalizers::FILES_FINALIZER;
use serde_json::{Value, json};

fn keep_last(title: &'static str, count: u32) -> Scenario {
    scenario(title).spec("retention", json!({"keepLast": count}))
}

pub fn retention() -> Scenario {
    keep_last("retention", 3).removes(&["0700", "0800"])
}

pub fn failed_ones_go() -> Scenario {
    keep_last("failed ones go", 2)
        .spec("failedHistoryLimit", json!(1))
        .backups(|slot| {
            let fails = ["0800", "0900"].iter().any(|end| slot.ends_with(end));
            if fails { End::Fails("ToolFailed", 120) } else { End::Good(120) }
        })
        .removes(&["0800", "0700"])
}

pub fn no_failed_one_stays() -> Scenario {
    scenario("no failed one stays")
        .spec("failedHistoryLimit", json!(0))
        .backups(|slot| if slot.ends_with("0900") { End::Fails("ToolFailed", 120) } else { End::Good(120) })
        .removes(&["0900"])
}

fn pin(store: &mut Store, name: &str) {
    let _ =
        store.change(&backup_key(name), |backup| backup["metadata"]["annotations"][PIN_ANNOTATION] = json!("audit"));
}

/// Only one stays: the newest is in use while the next one is made.
pub fn pinned_and_in_use() -> Scenario {
    keep_last("pinned and in use", 1)
        .at(3700, |store| pin(store, "nightly-20261124-0700"))
        .tight()
        .backups(|_| End::Good(1800))
        .removes(&["0800", "0900", "1000"])
        .also(|run: &Run| assert!(backup(run, "0700").is_some()))
}

/// A hundred seconds before it would go.
pub fn an_old_point_is_pinned_later() -> Scenario {
    keep_last("an old point is pinned later", 2)
        .at(10_900, |store| pin(store, "nightly-20261124-0700"))
        .removes(&["0800", "0900"])
}

/// A backup that somebody made starts from it, until it is deleted.
pub fn in_use_by_another() -> Scenario {
    keep_last("in use by another", 2)
        .at(3900, |store| {
            let Some(schedule) = store.get(&schedule_key()) else { return };
            let spec = schedule["spec"]["template"].clone();
            start_from(store, "by-hand", "nightly-20261124-0700", &spec);
        })
        .at(21_600, |store| delete_by_hand(store, "by-hand"))
        .tight()
        .removes(&["0800", "0900", "0700"])
}

fn schedule_uid(store: &Store) -> String {
    store.get(&schedule_key()).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn backup_spec(store: &Store) -> Value {
    store.get(&schedule_key()).unwrap()["spec"]["template"].clone()
}

fn old_points(store: &mut Store) {
    let (uid, spec) = (schedule_uid(store), backup_spec(store));
    for day in 10..15 {
        let name = format!("nightly-202611{day}-0700");
        old_point(store, &name, Some((SCHEDULE, &uid)), &spec, &format!("2026-11-{day}T07:00:05Z"));
    }
}

pub fn a_mass_deletion_waits() -> Scenario {
    scenario("a mass deletion waits")
        .spec("retention", json!({"keepLast": 2, "approveAbove": 0}))
        .loose()
        .prepared(old_points)
        .also(|run: &Run| assert!(schedule(run)["status"]["retention"]["plan"].is_string()))
}

fn approve(store: &mut Store) {
    change(store, |schedule| {
        let plan = schedule["status"]["retention"]["plan"].clone();
        if plan.is_string() {
            schedule["metadata"]["annotations"][APPROVE_PLAN_ANNOTATION] = plan;
        }
    });
}

pub fn a_mass_deletion_is_approved() -> Scenario {
    scenario("a mass deletion is approved")
        .spec("retention", json!({"keepLast": 2, "approveAbove": 2}))
        .prepared(old_points)
        .at(1800, approve)
        .tight()
        .removes(&[
            "20261110-0700",
            "20261111-0700",
            "20261112-0700",
            "20261113-0700",
            "20261114-0700",
            "0700",
            "0800",
            "0900",
        ])
}

/// The plan that was approved had five points; the one after the change has other ones.
pub fn an_approval_does_not_outlive_its_rules() -> Scenario {
    scenario("an approval does not outlive its rules")
        .spec("retention", json!({"keepLast": 4, "approveAbove": 0}))
        .prepared(old_points)
        .at(1800, approve)
        .at(1801, |store| set(store, "retention", json!({"keepLast": 1, "approveAbove": 0})))
        .loose()
        .removes(&["20261110-0700"])
}

pub fn points_get_too_old() -> Scenario {
    scenario("points get too old")
        .spec("retention", json!({"maxAge": "150m"}))
        .hours(10)
        .removes(&["0700", "0800", "0900", "1000"])
}

/// Points by hand, of another schedule, and of an earlier one of the same name.
pub fn of_others() -> Scenario {
    keep_last("of others", 1)
        .prepared(|store| {
            let spec = backup_spec(store);
            old_point(store, "by-hand", None, &spec, "2026-11-10T07:00:05Z");
            old_point(store, "other-1", Some(("other", "uid-of-other")), &spec, "2026-11-11T07:00:05Z");
            old_point(
                store,
                "nightly-20261112-0700",
                Some((SCHEDULE, "uid-of-earlier")),
                &spec,
                "2026-11-12T07:00:05Z",
            );
        })
        .removes(&["0700", "0800", "0900", "1000"])
        .also(|run: &Run| {
            assert!(["by-hand", "other-1", "20261112-0700"].iter().all(|name| backup(run, name).is_some()));
        })
}

/// What a crash between the mark and the deletion of a point leaves.
fn mark(store: &mut Store, name: &str, schedule: &str) {
    let _ = store.change(&backup_key(name), |backup| {
        backup["metadata"]["annotations"][PRUNE_ANNOTATION] = json!(schedule);
        backup["metadata"]["finalizers"] = json!([FILES_FINALIZER]);
    });
}

fn is_marked(run: &Run, name: &str) -> bool {
    !backup(run, name).unwrap()["metadata"]["annotations"][PRUNE_ANNOTATION].is_null()
}

/// One of its own, and one of an earlier schedule of the same name.
pub fn a_mark_on_a_point_that_stays() -> Scenario {
    keep_last("a mark on a point that stays", 9)
        .prepared(|store| {
            let spec = backup_spec(store);
            let name = "nightly-20261112-0700";
            old_point(store, name, Some((SCHEDULE, "uid-of-earlier")), &spec, "2026-11-12T07:00:05Z");
            mark(store, name, "uid-of-earlier");
        })
        .at(5000, |store| {
            if store.get(&schedule_key()).is_none() {
                return;
            }
            let uid = schedule_uid(store);
            mark(store, "nightly-20261124-0700", &uid);
        })
        .tight()
        .also(|run: &Run| assert!(["20261112-0700", "20261124-0700"].iter().all(|name| !is_marked(run, name))))
}

/// The deletion is refused after the mark, and a rule keeps the point a few looks later.
pub fn a_removal_is_refused_for_a_while() -> Scenario {
    keep_last("a removal is refused for a while", 1)
        .refusing(|call| call.verb == Verb::Delete && call.kind.name == "GraphBackup")
        .at(7900, |store| set(store, "retention", json!({"keepLast": 9})))
        .tight()
        .also(|run: &Run| {
            let refused = |event: &&&Value| event["reason"] == "RemovalRefused";
            let events = run.end.iter().map(|object| &***object).collect::<Vec<_>>();
            let told = events.iter().find(refused).unwrap();
            assert!(told["note"].as_str().unwrap().contains("exceeded quota"), "{told}");
            assert!(!is_marked(run, "0700"));
            let conditions = schedule(run)["status"]["conditions"].as_array().unwrap();
            let applied = conditions.iter().find(|condition| condition["type"] == "RetentionApplied").unwrap();
            assert_eq!(applied["reason"], "RetentionApplied");
        })
}

fn delete_schedule(store: &mut Store) {
    delete(store, &schedule_key());
}

pub fn they_go_with_the_schedule() -> Scenario {
    scenario("they go with the schedule")
        .spec("deletionPolicy", json!("Delete"))
        .at(3700, |store| pin(store, "nightly-20261124-0700"))
        .tight()
        .at(20_000, delete_schedule)
        .goes()
        .removes(&["0800", "0900", "1000", "1100"])
        .also(|run: &Run| assert!(backup(run, "0700").is_some() && backup(run, "0800").is_none()))
}

/// A second after the slot, while the watch has not shown the backup yet.
pub fn they_go_with_the_schedule_in_mid_run() -> Scenario {
    scenario("they go with the schedule in mid-run")
        .spec("deletionPolicy", json!("Delete"))
        .at(7200, delete_schedule)
        .at(7201, delete_schedule)
        .backups(|slot| if slot.ends_with("0800") { End::Never } else { End::Good(120) })
        .goes()
        .takes(&["0700"])
        .removes(&["0700"])
}

pub fn they_stay_without_the_schedule() -> Scenario {
    keep_last("they stay without the schedule", 1)
        .at(12_000, delete_schedule)
        .goes()
        .takes(&["0700", "0800F", "0900"])
        .removes(&["0700", "0800"])
        .also(|run: &Run| assert!(backup(run, "0900").is_some()))
}
