//! What the tool said in each case is judged to be what it was: recorded from 1.8.0, written down for 1.8.2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use graph_backup_operator::agent::tool::output::{Ending, ToolOutput, is_inconsistency_report, judge, percent};
use graph_backup_operator::api::Reason;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Case, expected reason (`None`: a backup), and a part of the message that tells a person what it was.
const CASES: &[(&str, Option<Reason>, &str)] = &[
    ("1.8.0/backup-disabled", Some(Reason::MasterUnreachable), "online_backup_enabled=true"),
    ("1.8.0/both-modes", Some(Reason::ToolFailed), "Specify either -full or -incremental"),
    ("1.8.0/cluster-unknown", Some(Reason::ToolFailed), "Cluster 'no-such.ha' not found"),
    ("1.8.0/full", None, ""),
    ("1.8.0/full-from-slave", None, ""),
    ("1.8.0/full-single", None, ""),
    ("1.8.0/full-unverified", None, ""),
    ("1.8.0/inconsistent", Some(Reason::ConsistencyFailed), "Store level inconsistency found in 1 nodes"),
    ("1.8.0/inconsistent-unverified", None, ""),
    ("1.8.0/incremental", None, ""),
    ("1.8.0/incremental-nothing-new", None, ""),
    ("1.8.0/logs-gone", Some(Reason::LogsPruned), "No such log version:4"),
    ("1.8.0/member-frozen", Some(Reason::MasterUnreachable), "did not answer in time"),
    ("1.8.0/member-killed", Some(Reason::MasterUnreachable), "Channel has been closed"),
    ("1.8.0/member-without-address", Some(Reason::MasterUnreachable), "KeeperErrorCode = NoNode"),
    ("1.8.0/no-from", Some(Reason::ToolFailed), "-from ha://"),
    ("1.8.0/no-member", Some(Reason::ToolFailed), "Master couldn't be found"),
    ("1.8.0/no-mode", Some(Reason::ToolFailed), "Specify either -full or -incremental"),
    ("1.8.0/no-to", Some(Reason::ToolFailed), "Specify target location with -to"),
    ("1.8.0/not-a-backup-port", Some(Reason::MasterUnreachable), "did not answer in time"),
    ("1.8.0/port-closed", Some(Reason::MasterUnreachable), "Client could not connect to /127.0.0.1:"),
    ("1.8.0/root-missing", Some(Reason::MasterUnreachable), "KeeperErrorCode = NoNode"),
    ("1.8.0/store-id-differs", Some(Reason::StoreMismatch), "doesn't match my StoreId"),
    ("1.8.0/target-full", Some(Reason::TargetFull), "No space left on device"),
    ("1.8.0/target-has-database", Some(Reason::ToolFailed), "already contains a database"),
    ("1.8.0/target-has-no-database", Some(Reason::ToolFailed), "doesn't contain a database"),
    ("1.8.0/target-not-writable", Some(Reason::ToolFailed), "java.io.FileNotFoundException"),
    ("1.8.0/tool-killed", Some(Reason::ToolKilled), "memory limit"),
    ("1.8.0/tool-terminated", Some(Reason::ToolKilled), "signal 15"),
    ("1.8.0/unknown-host", Some(Reason::MasterUnreachable), "<unresolved>"),
    ("1.8.0/unknown-scheme", Some(Reason::ToolFailed), "was specified as a backup module but it was not found"),
    ("1.8.0/zookeeper-unreachable", Some(Reason::MasterUnreachable), "ConnectionLoss"),
    ("1.8.2/full", None, ""),
    ("1.8.2/inconsistent", Some(Reason::ConsistencyFailed), "inconsistencies-2026-11-24.08.02.49.report"),
];

/// Folder of a case, `<version>/<name>`.
fn recorded(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/neo4j-backup-{case}"))
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn each_case_has_its_reason() {
    for (case, reason, words) in CASES {
        let folder = recorded(case);
        let read = |name| fs::read_to_string(folder.join(name)).unwrap();
        let code = read("rc").trim().parse().unwrap();
        let (stdout, stderr) = (read("stdout"), read("stderr"));
        let report = names(&folder).into_iter().find(|name| is_inconsistency_report(name));
        let output = ToolOutput {
            free_bytes: None,
            ending: Ending::Exited(code),
            stdout: &stdout,
            stderr: &stderr,
            left_neostore: code == 0,
            left_report: report.as_deref(),
        };
        match judge(&output) {
            Ok(()) => assert_eq!(*reason, None, "{case}"),
            Err(failure) => {
                assert_eq!(Some(failure.reason), *reason, "{case}: {}", failure.message);
                assert!(failure.message.contains(words), "{case}: {}", failure.message);
            }
        }
    }
}

#[test]
fn no_case_is_left_out() {
    let tested: BTreeSet<_> = CASES.iter().map(|(case, ..)| (*case).to_owned()).collect();
    let mut found = BTreeSet::new();
    for version in ["1.8.0", "1.8.2"] {
        let cases = names(&recorded(version)).into_iter().filter(|name| name != "README.md");
        found.extend(cases.map(|case| format!("{version}/{case}")));
    }
    assert_eq!(found, tested);
}

#[test]
fn the_progress_of_the_check_is_understood() {
    let stderr = fs::read_to_string(recorded("1.8.0/full").join("stderr")).unwrap();
    let percents: Vec<_> = stderr.lines().filter_map(percent).collect();
    assert_eq!(percents, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
}
