//! Files that say the same in two places: the CRDs and their copy in the chart, versions, reasons and fields and their
//! pages.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it wants in the fewest words")]
use graph_backup_operator::api;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Value of `key` in a file of `key: value` or `key = "value"` lines.
fn value(path: &str, key: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.split([':', '=', ' ']).next() == Some(key));
    let line = line.unwrap_or_else(|| panic!("{path} has no {key}"));
    line[key.len()..].trim_matches([':', '=', ' ', '"']).to_owned()
}

#[test]
fn the_written_crds_are_those_of_the_types() {
    let generated = api::crds_yaml().unwrap();
    for path in ["crds/graphbackup.dev.yaml", "charts/graph-backup-operator/files/crds.yaml"] {
        assert!(read(path) == generated, "{path} differs from the types: run `make crds`");
    }
}

#[test]
fn chart_and_crate_have_one_version() {
    let chart = "charts/graph-backup-operator/Chart.yaml";
    assert_eq!(value(chart, "version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(value(chart, "appVersion"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_build_uses_the_pinned_toolchain() {
    let channel = value("rust-toolchain.toml", "channel");
    assert!(channel.starts_with(env!("CARGO_PKG_RUST_VERSION")), "rust-version in Cargo.toml is not {channel}");
    let base = format!("FROM rust:{channel}-");
    assert!(
        read("Dockerfile").lines().any(|line| line.starts_with(&base)),
        "Dockerfile does not start from rust:{channel}"
    );
}

#[test]
fn every_reason_is_explained_once() {
    let page = read("docs/reasons.md");
    for reason in api::Reason::ALL {
        let rows = page.lines().filter(|line| line.starts_with(&format!("| `{reason}` |"))).count();
        assert_eq!(rows, 1, "docs/reasons.md has {rows} rows for {reason}");
    }
}

/// Names of the properties below a schema, but not those below a type of Kubernetes itself.
fn fields(schema: &serde_json::Value, names: &mut BTreeSet<String>) {
    const OF_KUBERNETES: [&str; 8] = [
        "affinity",
        "conditions",
        "env",
        "imagePullSecrets",
        "nodeSelector",
        "resources",
        "securityContext",
        "tolerations",
    ];
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        names.insert(name.clone());
        if !OF_KUBERNETES.contains(&name.as_str()) {
            fields(property, names);
            fields(&property["items"], names);
        }
    }
}

/// The properties of the spec and the status of each kind, in the order of the CRDs.
fn kinds() -> Vec<serde_json::Value> {
    let yaml = api::crds_yaml().unwrap();
    let crds =
        serde_yaml::Deserializer::from_str(&yaml).map(|document| serde_json::Value::deserialize(document).unwrap());
    crds.map(|mut crd| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].take()).collect()
}

/// Fails for a field that a page does not explain.
fn require_explained(path: &str, names: &BTreeSet<String>) {
    let page = read(path);
    // A field stands between backticks, alone or as a part of a path: `uri`, `cold.workload.storePath`.
    let code = page.split('`').skip(1).step_by(2);
    let explained: BTreeSet<&str> = code.flat_map(|code| code.split(['.', '[', ']'])).collect();
    let missing: Vec<_> = names.iter().filter(|name| !explained.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{path} does not explain {missing:?}");
}

#[test]
fn every_field_of_a_backup_is_in_its_field_guide() {
    let mut names = BTreeSet::new();
    fields(&kinds()[0]["spec"], &mut names);
    fields(&kinds()[0]["status"], &mut names);
    assert!(names.contains("storePath") && names.contains("dataFrom"), "{names:?}");
    require_explained("docs/graphbackup.md", &names);
}

#[test]
fn every_field_of_a_restore_is_in_its_field_guide() {
    let mut names = BTreeSet::new();
    fields(&kinds()[2]["spec"], &mut names);
    fields(&kinds()[2]["status"], &mut names);
    assert!(names.contains("keepOriginalFor") && names.contains("claimUid"), "{names:?}");
    require_explained("docs/restore.md", &names);
}

/// What is below a field of the template is what it is in a backup, so that the page of that kind explains it.
#[test]
fn every_field_of_a_schedule_is_in_its_field_guide() {
    let mut kind = kinds().swap_remove(1);
    let parts = kind["spec"]["properties"]["template"]["properties"].as_object_mut().unwrap();
    parts.values_mut().for_each(|part| *part = serde_json::Value::Null);
    let mut names = BTreeSet::new();
    fields(&kind["spec"], &mut names);
    fields(&kind["status"], &mut names);
    assert!(names.contains("keepDaily") && names.contains("verification") && names.contains("inARow"), "{names:?}");
    require_explained("docs/backupschedule.md", &names);
}
