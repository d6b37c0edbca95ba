//! Files that say the same in two places: the CRDs and their copy in the chart, versions, reasons and fields and their
//! pages.

#![allow(clippy::panic, reason = "a test says what it wants in the fewest words")]
use graph_backup_operator::api;
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

#[test]
fn every_field_is_in_the_field_guide() {
    let page = read("docs/graphbackup.md");
    let crd: serde_json::Value = serde_yaml::from_str(&api::crds_yaml().unwrap()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut names = BTreeSet::new();
    fields(&schema["spec"], &mut names);
    fields(&schema["status"], &mut names);
    assert!(names.contains("storePath") && names.contains("dataFrom"), "{names:?}");
    // A field stands between backticks, alone or as a part of a path: `uri`, `cold.workload.storePath`.
    let code = page.split('`').skip(1).step_by(2);
    let explained: BTreeSet<&str> = code.flat_map(|code| code.split(['.', '[', ']'])).collect();
    let missing: Vec<_> = names.iter().filter(|name| !explained.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/graphbackup.md does not explain {missing:?}");
}
