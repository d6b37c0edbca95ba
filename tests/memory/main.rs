//! The memory of 10,000 finished backups, as the kernel counts it. The only test of its process: nothing else
//! allocates.
//!
//! `finished.json` is what an API server gave of a backup that had ended, managed fields included.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use graph_backup_operator::backup::known::Known;
use graph_backup_operator::controller::store::{Item, Kept, Scope, Store};
use std::fs;

const OBJECTS: u64 = 10_000;
/// Most bytes for each, all overhead included; a whole one takes thirty times as much.
const BYTES_MAX: u64 = 1024;

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Lists all objects once, each with a name, a UID and a folder of its own.
fn list(store: &Store<Known>, template: &str) {
    let round = store.begin_list();
    for number in 0..OBJECTS {
        let json = template.replace("nightly-template", &format!("nightly-{number:08}"));
        let item: Item<Known> = serde_json::from_str(&json).unwrap();
        assert!(item.kept.point().is_some() && item.kept.is_settled(), "{}", item.key);
        store.put(round, item);
    }
    assert_eq!(store.end_list(&Scope::Cluster, round).unsettled, []);
}

#[test]
fn ten_thousand_finished_backups_fit_into_ten_mebibytes_and_a_relist_adds_nothing() {
    let template = include_str!("finished.json");
    let store = Store::default();
    // What the first object costs is not counted: code, and the allocator's own.
    let item: Item<Known> = serde_json::from_str(template).unwrap();
    store.put(store.begin_list(), item);
    let before = resident();
    list(&store, template);
    let first = resident() - before;
    assert_eq!(store.count(), usize::try_from(OBJECTS).unwrap());
    assert!(first / OBJECTS <= BYTES_MAX, "{} bytes for each object", first / OBJECTS);
    list(&store, template);
    let relisted = resident() - before;
    assert!(relisted <= first + first / 4, "{} KiB after a relist, {} KiB before", relisted >> 10, first >> 10);
}
