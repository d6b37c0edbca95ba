//! People work on the same objects.

use crate::apiserver::{Kind, Store};
use crate::driver::Run;
use crate::fault::{delete, recreate};
use crate::schedule::look::{backup, change, schedule, schedule_key, set};
use crate::schedule::scenario::{Scenario, scenario};
use crate::schedule::standin::{End, STILL, backup_key, delete_by_hand, truth};
use crate::world::NAMESPACE;
use graph_backup_operator::api::names::{BACKUP_NOW_ANNOTATION, SCHEDULE_UID_LABEL, TAKE_OVER_ANNOTATION};
use serde_json::{Value, json};

pub fn a_child_is_deleted_in_mid_run() -> Scenario {
    scenario("a child is deleted in mid-run")
        .backups(|slot| if slot.ends_with("0900") { End::Never } else { End::Good(120) })
        .at(10_860, |store| delete_by_hand(store, "nightly-20261124-0900"))
        .tight()
        .uncounted()
}

pub fn a_good_child_is_deleted() -> Scenario {
    scenario("a good child is deleted")
        .spec("retention", json!({"keepLast": 2}))
        .at(11_100, |store| delete_by_hand(store, "nightly-20261124-0900"))
        .tight()
        .uncounted()
        .removes(&["0700", "0800"])
}

fn annotate(store: &mut Store, name: &str, value: &str) {
    change(store, |schedule| schedule["metadata"]["annotations"][name] = json!(value));
}

pub fn suspended_and_resumed() -> Scenario {
    scenario("suspended and resumed")
        .at(5000, |store| set(store, "suspend", json!(true)))
        .at(12_000, |store| set(store, "suspend", json!(false)))
        .tight()
        .takes(&["0700", "1000", "1100"])
        .skips(&[("Suspended", 3)])
}

pub fn suspended_in_mid_run() -> Scenario {
    scenario("suspended in mid-run")
        .spec("concurrencyPolicy", json!("Queue"))
        .backups(|slot| if slot.ends_with("0900") { End::Good(4000) } else { End::Good(120) })
        .at(14_500, |store| set(store, "suspend", json!(true)))
        .at(16_000, |store| set(store, "suspend", json!(false)))
        .tight()
        .takes(&["0700", "0800F", "0900", "1100"])
        .skips(&[("Suspended", 1)])
}

/// Retention, jitter and zone move no backup; the new expression starts none by itself.
pub fn edited() -> Scenario {
    scenario("edited")
        .at(5000, |store| set(store, "retention", json!({"keepLast": 9})))
        .at(5100, |store| set(store, "jitter", json!("5m")))
        .at(8000, |store| set(store, "jitter", json!("0s")))
        .at(8100, |store| set(store, "timeZone", json!("Etc/GMT-1")))
        .at(8200, |store| set(store, "incremental", json!({"schedule": "30 11-12 * * *"})))
        .uncounted()
        .tight()
        .takes(&["0700", "0800F", "1030", "1130"])
}

/// A minute after a time that the new expression has, too.
pub fn edited_in_mid_run() -> Scenario {
    scenario("edited in mid-run")
        .backups(|_| End::Good(600))
        .at(10_900, |store| set(store, "incremental", json!({"schedule": "1,30 9-10 * * *"})))
        .uncounted()
        .tight()
        .takes(&["0700", "0800F", "0900", "0930", "1001", "1030"])
}

pub fn a_backup_at_once() -> Scenario {
    scenario("a backup at once").at(5000, |store| annotate(store, BACKUP_NOW_ANNOTATION, "before-upgrade")).takes(&[
        "0700",
        "ne2f4bd243e38",
        "0800F",
        "0900",
        "1000",
        "1100",
    ])
}

pub fn a_backup_at_once_while_suspended() -> Scenario {
    scenario("a backup at once while suspended")
        .spec("suspend", json!(true))
        .at(5000, |store| annotate(store, BACKUP_NOW_ANNOTATION, "before-upgrade"))
        .uncounted()
        .takes(&["ne2f4bd243e38"])
}

/// It is no wish.
pub fn a_token_from_the_beginning() -> Scenario {
    scenario("a token from the beginning").annotated(BACKUP_NOW_ANNOTATION, "long-ago")
}

pub fn recreated_between_slots() -> Scenario {
    scenario("recreated between slots").at(9000, |store| recreate(store, &schedule_key()))
}

pub fn recreated_in_mid_run() -> Scenario {
    scenario("recreated in mid-run").at(7230, |store| recreate(store, &schedule_key())).tight()
}

pub fn recreated_and_taken_over() -> Scenario {
    scenario("recreated and taken over")
        .spec("retention", json!({"keepLast": 2}))
        .at(9000, |store| {
            let Some(old) = store.get(&schedule_key()) else { return };
            let old = old["metadata"]["uid"].as_str().unwrap().to_owned();
            recreate(store, &schedule_key());
            annotate(store, TAKE_OVER_ANNOTATION, &old);
        })
        .removes(&["0700", "0800", "0900"])
}

fn foreign(store: &mut Store, spec: &Value) {
    let object = json!({"metadata": {"name": "nightly-20261124-0900", "annotations": {STILL: ""}}, "spec": spec});
    store.create(Kind::named("GraphBackup"), NAMESPACE, object).unwrap();
}

pub fn a_foreign_object_has_the_name() -> Scenario {
    scenario("a foreign object has the name")
        .prepared(|store| {
            let spec = store.get(&schedule_key()).unwrap()["spec"]["template"].clone();
            foreign(store, &spec);
        })
        .takes(&["0700", "0800F", "1000", "1100"])
        .skips(&[("NameTaken", 1)])
        .also(|run: &Run| assert!(backup(run, "0900").is_some()))
}

pub fn an_unreadable_object_has_the_name() -> Scenario {
    scenario("an unreadable object has the name")
        .prepared(|store| foreign(store, &json!({"source": 7})))
        .takes(&["0700", "0800F", "1000", "1100"])
        .skips(&[("NameTaken", 1)])
}

/// A later version has written it.
pub fn the_running_backup_becomes_unreadable() -> Scenario {
    scenario("the running backup becomes unreadable")
        .at(10_860, |store| {
            let key = backup_key("nightly-20261124-0900");
            let _ = store.change(&key, |backup| {
                backup["metadata"]["annotations"][STILL] = json!("");
                backup["status"]["attempts"] = json!("of another version");
            });
        })
        .tight()
        .uncounted()
        .takes(&["0700", "0800F", "0900", "1000", "1100"])
}

pub fn a_label_is_removed() -> Scenario {
    scenario("a label is removed")
        .at(10_860, |store| {
            let _ = store.change(&backup_key("nightly-20261124-0900"), |backup| {
                backup["metadata"]["labels"].as_object_mut().unwrap().remove(SCHEDULE_UID_LABEL);
            });
        })
        .tight()
        .uncounted()
}

pub fn the_status_is_that_of_another() -> Scenario {
    scenario("the status is that of another").prepared(|store| {
        change(store, |schedule| {
            schedule["status"] = json!({
                "uid": "uid-of-another", "observedGeneration": 9, "phase": "Suspended", "active": "nightly-1",
                "incremental": {"schedule": "0 7-11 * * *", "timeZone": "UTC", "since": "2026-11-24T23:00:00Z"},
                "skipped": [{"reason": "Suspended", "count": 7, "lastSlot": "2026-11-20T23:00:00Z"}],
            });
        });
    })
}

pub fn made_invalid_and_valid_again() -> Scenario {
    scenario("made invalid and valid again")
        .at(5000, |store| set(store, "timeZone", json!("Europe/Nowhere")))
        .at(9000, |store| set(store, "timeZone", json!("UTC")))
        .uncounted()
        .tight()
        .takes(&["0700", "0900", "1000", "1100"])
        .also(|run: &Run| assert_eq!(truth(schedule(run), "Stalled"), "False"))
}

pub fn invalid_and_deleted() -> Scenario {
    scenario("invalid and deleted")
        .spec("deletionPolicy", json!("Delete"))
        .at(5000, |store| set(store, "timeZone", json!("Europe/Nowhere")))
        .at(9000, |store| delete(store, &schedule_key()))
        .goes()
        .takes(&["0700"])
        .removes(&["0700"])
}

/// A later version has written it, and somebody deletes it.
pub fn unreadable_and_deleted() -> Scenario {
    scenario("unreadable and deleted")
        .spec("deletionPolicy", json!("Delete"))
        .at(5000, |store| set(store, "incremental", json!(7)))
        .at(9000, |store| delete(store, &schedule_key()))
        // Whoever waits for it looks at it: a watch that has missed the deletion shows it then.
        .at(9600, |store| annotate(store, "example.com/why", "it does not go"))
        .goes()
        .takes(&["0700"])
        .removes(&["0700"])
}

/// Its template is invalid, too.
pub fn invalid_in_its_template_and_deleted() -> Scenario {
    scenario("invalid in its template and deleted")
        .spec("deletionPolicy", json!("Delete"))
        .at(5000, |store| {
            change(store, |schedule| schedule["spec"]["template"]["source"]["uri"] = json!("http://nowhere"));
        })
        .at(9000, |store| delete(store, &schedule_key()))
        .goes()
        .takes(&["0700"])
        .removes(&["0700"])
}

/// A later version has written it: nothing is done.
pub fn unreadable() -> Scenario {
    scenario("unreadable").spec("incremental", json!(7)).uncounted().takes(&[])
}
