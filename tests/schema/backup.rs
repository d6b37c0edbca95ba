//! The rules of `GraphBackup`.

use graph_backup_operator::api::{self, GraphBackup};
use graph_backup_operator::backup::validate::validate;
use kube::core::cel;
use serde_json::{Value, json};

fn minimal() -> Value {
    json!({
        "apiVersion": "graphbackup.dev/v1alpha1",
        "kind": "GraphBackup",
        "metadata": {"name": "before-upgrade", "namespace": "graph"},
        "spec": {
            "source": {"uri": "ha://zk-0.zk:2181,zk-1.zk:2181,zk-2.zk:2181", "clusterName": "neo4j.ha"},
            "target": {"claimName": "graph-backups"},
            "tool": {"image": "registry.example/neo4j:1.8"},
        }
    })
}

fn with(pointer: &str, value: Value) -> Value {
    super::with(minimal(), pointer, value)
}

fn parse(object: &Value) -> GraphBackup {
    super::parse(object)
}

fn refusals(object: &Value) -> String {
    super::refusals::<GraphBackup>(object)
}

fn stored(object: Value) -> GraphBackup {
    super::stored(object, "before-upgrade")
}

fn passes(pointer: &str, value: Value) {
    super::passes::<GraphBackup>(minimal(), pointer, value);
}

fn refused(pointer: &str, value: Value, hint: &str) {
    super::refused::<GraphBackup>(minimal(), pointer, value, hint);
}

#[test]
fn the_minimal_object_passes_and_gets_the_documented_defaults() {
    assert_eq!(refusals(&minimal()), "");
    let spec = parse(&minimal()).spec;
    assert_eq!((spec.retry.limit, spec.deadlines.run.as_str(), spec.deadlines.pod_start.as_str()), (3, "2h", "5m"));
}

#[test]
fn uri_is_what_the_manual_writes() {
    let source = |uri: &str| json!({"uri": uri});
    for uri in
        ["single://db", "single://10.0.0.7:6362", "ha://zk", "ha://zk-0.zk.graph.svc:2181,zk-1.zk.graph.svc,z:65535"]
    {
        passes("/spec/source", source(uri));
    }
    for uri in [
        "zk:2181",
        "http://zk",
        "HA://zk",
        "ha://",
        "ha://zk,",
        "ha://zk,,zk",
        "ha://zk:0",
        "ha://zk:65536",
        "ha://zk/chroot",
        "ha://a_b",
        "ha://-a",
        "single://a,b",
        "single://[::1]",
        "ha://zk zk",
        "ha://zk:2181/",
        "ha://a..b",
    ] {
        refused("/spec/source", source(uri), "write 'single://host[:port]'");
        // The schema and the code refuse the same texts.
        assert!(uri.parse::<graph_backup_operator::discovery::SourceUri>().is_err(), "{uri}");
    }
}

#[test]
fn cluster_name_goes_with_ha_only() {
    passes("/spec/source", json!({"uri": "ha://zk", "clusterName": "orders.ha"}));
    refused(
        "/spec/source",
        json!({"uri": "single://db", "clusterName": "orders.ha"}),
        "remove it, or use an ha:// URI",
    );
    for name in ["a/b", " a", "a "] {
        refused("/spec/source", json!({"uri": "ha://zk", "clusterName": name}), "one znode name");
    }
}

#[test]
fn target_is_a_claim_and_a_relative_folder() {
    passes("/spec/target", json!({"claimName": "graph-backups", "directory": "team_a/graph.v1"}));
    refused("/spec/target", json!({"claimName": "Graph_Backups"}), "name of a PersistentVolumeClaim");
    for directory in ["/abs", "../up", "a/../b", "a//b", "a/", ".hidden", "a/.b", "a b"] {
        refused("/spec/target", json!({"claimName": "c", "directory": directory}), "relative path");
    }
}

#[test]
fn command_must_pin_the_member_and_the_target() {
    let command = |words: &[&str]| json!({"image": "i", "command": words});
    passes("/spec/tool", command(&["neo4j-backup", "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"]));
    refused("/spec/tool", command(&["neo4j-backup", "-from", "single://{host}:{port}"]), "must contain {target}");
    refused(
        "/spec/tool",
        command(&["neo4j-backup", "-from", "ha://zk", "-to", "{target}"]),
        "must contain {host} and {port}",
    );
    refused("/spec/tool", json!({"image": "a b"}), "without spaces");
}

#[test]
fn boot_command_opens_the_copy_and_goes_with_its_verification() {
    let tool = json!({"image": "i", "bootCommand": ["check", "{store}"]});
    let mut both = with("/spec/verification", json!("Boot"));
    both["spec"]["tool"] = tool.clone();
    assert_eq!(refusals(&both), "");
    refused("/spec/tool", tool, "verification: Boot");
    both["spec"]["tool"]["bootCommand"] = json!(["check"]);
    assert!(refusals(&both).contains("must contain {store}"), "{}", refusals(&both));
}

#[test]
fn durations_are_hours_minutes_seconds() {
    for good in ["2h", "1h30m", "90s", "5m"] {
        passes("/spec/deadlines", json!({"run": good, "podStart": good}));
        assert!(api::parse_duration(good).is_some());
    }
    for bad in ["0s", "10", "1d", "1.5h", "-5m", "5m1h", "0h0m"] {
        refused("/spec/deadlines", json!({"run": bad}), "deadlines.run is a duration");
        refused("/spec/deadlines", json!({"podStart": bad}), "deadlines.podStart is a duration");
        assert!(api::parse_duration(bad).is_none(), "{bad}");
    }
}

#[test]
fn bandwidth_limit_is_bytes_per_second() {
    let limit = |text: &str| json!({"image": "i", "bandwidthLimit": text});
    for good in ["20Mi", "256Ki", "262144", "263k", "50M", "1G", "9999999999Gi"] {
        passes("/spec/tool", limit(good));
        assert!(api::parse_bandwidth(good).is_some(), "{good}");
    }
    for bad in [
        "0",
        "255Ki",
        "262143",
        "262k",
        "0Mi",
        "020Mi",
        "1.5Mi",
        "-1Mi",
        "20MB",
        "20mi",
        "20 Mi",
        "Mi",
        "20Mi/s",
        "1e9",
        "1Ti",
        "10000000000",
    ] {
        refused("/spec/tool", limit(bad), "256Ki or more, such as '20Mi'");
        assert!(api::parse_bandwidth(bad).is_none(), "{bad}");
    }
}

#[test]
fn cold_says_which_member_and_takes_nothing_that_it_ignores() {
    type Change = fn(&mut Value);
    let cold = json!({"workload": {"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"}});
    let with_cold = |change: Change| {
        let mut object = minimal();
        object["spec"]["source"] = json!({"uri": "ha://zk"});
        object["spec"]["method"] = json!("Cold");
        object["spec"]["cold"] = cold.clone();
        change(&mut object["spec"]);
        object
    };
    for good in [with_cold(|_| {}), with_cold(|spec| spec["cold"]["ifMaster"] = json!("FailOver"))] {
        assert_eq!(refusals(&good), "");
        assert!(validate(&stored(good)).is_ok());
    }
    let mistakes: [(Change, &str); 8] = [
        (|spec| drop(spec.as_object_mut().unwrap().remove("cold")), "method: Cold requires spec.cold"),
        (|spec| spec["method"] = json!("Online"), "for any other method, remove spec.cold"),
        (|spec| spec["type"] = json!("Auto"), "set type: Full"),
        (|spec| spec["source"] = json!({"uri": "single://db"}), "requires an ha:// URI"),
        (|spec| spec["tool"]["bandwidthLimit"] = json!("20Mi"), "does not run the tool"),
        (|spec| spec["tool"]["command"] = json!(["x", "{host}", "{port}", "{target}"]), "does not run the tool"),
        (|spec| spec["cold"]["workload"]["storePath"] = json!("../graph.db"), "storePath is a relative path"),
        (|spec| spec["cold"]["workload"]["statefulSet"] = json!("Neo4j"), "name of a StatefulSet"),
    ];
    for (change, said) in mistakes {
        let bad = with_cold(change);
        assert!(refusals(&bad).contains(said), "{said:?} is not in {:?}", refusals(&bad));
        // A StatefulSet of such a name does not exist; all else is checked in code, too.
        assert!(validate(&stored(bad)).is_err() || said.contains("name of a StatefulSet"), "{said}: the code takes it");
    }
}

#[test]
fn adopt_names_a_point_and_takes_it_as_it_is() {
    let store = "000001a202462d5f-d1407c3bb8e8fb07";
    let good = format!("{store}/20261124T060000Z-before-upgrade-1a2b3c4d");
    passes("/spec/adopt", json!(good));
    assert!(validate(&stored(with("/spec/adopt", json!(good)))).is_ok());
    for bad in
        [store.to_owned(), format!("{store}/"), format!("{store}/.partial-a"), format!("{store}/a/b"), "a/b".repeat(12)]
    {
        refused("/spec/adopt", json!(bad), "'<store id>/<folder>'");
        assert!(validate(&stored(with("/spec/adopt", json!(bad)))).is_err(), "{bad}");
    }
    for (field, value) in [("type", json!("Auto")), ("verification", json!("Boot"))] {
        let mut object = with("/spec/adopt", json!(good));
        object["spec"][field] = value;
        assert!(refusals(&object).contains("takes an existing point as it is"), "{field}: {}", refusals(&object));
        assert!(validate(&stored(object)).is_err(), "{field}");
    }
}

#[test]
fn name_leaves_room_for_the_names_of_jobs() {
    passes("/metadata/name", json!("n".repeat(52)));
    refused("/metadata/name", json!("n".repeat(53)), "at most 52 characters");
}

#[test]
fn spec_cannot_be_changed() {
    let old = parse(&minimal());
    let same = parse(&with("/metadata/labels", json!({"a": "b"})));
    assert!(cel::validate_cel_update(&same, &old).is_ok());
    let mut spec = serde_json::to_value(&old.spec).unwrap();
    assert_eq!(spec.as_object_mut().unwrap().remove("deletionPolicy"), Some(json!("Retain")));
    let other = json!({
        "source": {"uri": "ha://other"},
        "type": "Auto",
        "target": {"claimName": "other"},
        "tool": {"image": "other"},
        "verification": "None",
        "retry": {"limit": 9},
        "deadlines": {"run": "9h"},
    });
    for field in spec.as_object().unwrap().keys().filter(|field| *field != "method") {
        let changed = parse(&with(&format!("/spec/{field}"), other[field].clone()));
        let said = cel::validate_cel_update(&changed, &old).unwrap_err().to_string();
        assert!(said.contains(&format!("{field} cannot be changed")), "{field}: {said}");
        assert!(said.contains("create a new GraphBackup"), "{field}: {said}");
    }
}

#[test]
fn an_optional_field_can_be_neither_added_nor_removed() {
    let point = "000001a202462d5f-d1407c3bb8e8fb07/20261124T060000Z-nightly-1a2b3c4d";
    let (without, adopts) = (parse(&minimal()), parse(&with("/spec/adopt", json!(point))));
    for (new, old) in [(&adopts, &without), (&without, &adopts)] {
        let said = cel::validate_cel_update(new, old).unwrap_err().to_string();
        assert!(said.contains("adopt can be neither added nor removed"), "{said}");
    }
}

#[test]
fn deletion_policy_can_be_changed() {
    let changed = parse(&with("/spec/deletionPolicy", json!("Delete")));
    assert!(cel::validate_cel_update(&changed, &parse(&minimal())).is_ok());
}

/// A newer CRD gives every stored object fields that this version does not know: it reads past them, or no object would
/// have a parent, and no finalizer would ever be removed.
#[test]
fn an_object_of_a_newer_crd_is_read() {
    let mut object = with("/spec/compression", json!("gzip"));
    object["spec"]["tool"]["newer"] = json!(true);
    object["spec"]["deadlines"] = json!({"newer": "1h"});
    object["status"] = json!({"newer": {}, "attempts": [], "conditions": []});
    assert_eq!(parse(&object).spec.tool.image, "registry.example/neo4j:1.8");
}
