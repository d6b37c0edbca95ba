//! The rules of `Restore`.

use graph_backup_operator::api::{Approval, OnFailure, Restore};
use graph_backup_operator::restore::validate::validate;
use kube::core::cel;
use serde_json::{Value, json};

fn minimal() -> Value {
    json!({
        "apiVersion": "graphbackup.dev/v1alpha1",
        "kind": "Restore",
        "metadata": {"name": "undo", "namespace": "graph"},
        "spec": {
            "from": {"backup": "nightly"},
            "into": {
                "source": {"uri": "ha://zk-0.zk:2181,zk-1.zk:2181,zk-2.zk:2181"},
                "workload": {"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"},
            },
        },
    })
}

/// Schema and code refuse the value.
fn refused(pointer: &str, value: Value, hint: &str) {
    super::refused::<Restore>(minimal(), pointer, value.clone(), hint);
    let stored: Restore = super::stored(super::with(minimal(), pointer, value.clone()), "undo");
    assert!(validate(&stored).is_err(), "{pointer} = {value}: the code takes it");
}

fn passes(pointer: &str, value: Value) {
    super::passes::<Restore>(minimal(), pointer, value.clone());
    let stored: Restore = super::stored(super::with(minimal(), pointer, value), "undo");
    assert!(validate(&stored).is_ok());
}

#[test]
fn the_minimal_object_passes_and_gets_the_documented_defaults() {
    assert_eq!(super::refusals::<Restore>(&minimal()), "");
    let spec = super::stored::<Restore>(minimal(), "undo").spec;
    assert_eq!(
        (spec.approval, spec.on_failure, spec.keep_original_for.as_str()),
        (Approval::Automatic, OnFailure::RollBack, "168h")
    );
    let limits = spec.deadlines;
    let limits = [limits.wait_for_backup, limits.stage, limits.stop, limits.start, limits.prove];
    assert_eq!(limits, ["2h", "6h", "10m", "30m", "30m"]);
}

#[test]
fn a_point_comes_from_one_place() {
    passes("/spec/from", json!({"schedule": "orders", "asOf": "2026-11-26T09:00:00Z"}));
    refused("/spec/from", json!({}), "from names one thing");
    refused("/spec/from", json!({"backup": "a", "schedule": "b"}), "from names one thing");
    super::refused::<Restore>(
        minimal(),
        "/spec/from",
        json!({"backup": "a", "asOf": "2026-11-26T09:00:00Z"}),
        "asOf chooses among the points of a schedule",
    );
}

#[test]
fn members_are_found_in_zookeeper() {
    refused("/spec/into/source/uri", json!("single://neo4j-0:6362"), "into.source is an ha:// URI");
}

#[test]
fn durations_are_durations() {
    passes("/spec/keepOriginalFor", json!("36h"));
    refused("/spec/keepOriginalFor", json!("1d"), "keepOriginalFor is a duration");
    refused("/spec/deadlines", json!({"stop": "0s"}), "deadlines.stop is a duration");
}

#[test]
fn a_restore_cannot_be_changed() {
    let parse = |object: &Value| super::parse::<Restore>(object);
    let changed = super::with(minimal(), "/spec/onFailure", json!("Hold"));
    let said = cel::validate_cel_update(&parse(&changed), &parse(&minimal())).unwrap_err();
    assert!(format!("{said}").contains("a Restore cannot be changed"));
}
