//! Cold copies: the store of a stopped member, from its volume.

use crate::agent::Outcome;
use crate::scene::{OTHER_STORE_ID, STORE_ID, Scene, neostore};
use chrono::{DateTime, Utc};
use graph_backup_operator::agent::run::{Mode, Plan};
use graph_backup_operator::agent::verdict::Verdict;
use graph_backup_operator::api::{Reason, StoreId};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Transaction 6 as a real master serves it.
const SERVED: &[u8] = include_bytes!("../recorded/log/served");

/// A scene whose member is stopped; the tool must not be run.
fn scene(alone: bool) -> Scene {
    let mut scene = Scene::with_tool("exit 1");
    scene.run.plan = Plan::Cold { store_path: "graph.db".into(), alone };
    let store = scene.path("source/graph.db");
    fs::create_dir_all(store.join("index")).unwrap();
    fs::write(store.join("neostore"), neostore(STORE_ID, 5)).unwrap();
    fs::write(store.join("neostore.nodestore.db"), "nodes").unwrap();
    fs::write(store.join("index/lucene-store.db"), "index").unwrap();
    scene
}

/// Everything below a folder: path, mode, content.
fn snapshot(folder: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        if path.is_dir() {
            found.extend(snapshot(&path));
            found.push((path.display().to_string(), mode, Vec::new()));
        } else {
            found.push((path.display().to_string(), mode, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[track_caller]
fn refused(outcome: Outcome) -> (Reason, String) {
    let Verdict::Failed(failure) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
    (failure.reason, failure.message)
}

#[test]
fn the_store_of_a_stopped_member_becomes_a_point_and_stays_as_it_was() {
    let scene = scene(true);
    let before = snapshot(&scene.path("source"));
    let start = Utc::now();
    let point = scene.backup("pod-1").published();
    assert_eq!((point.mode, point.store_id, point.last_transaction, point.verified), (Mode::Full, STORE_ID, 5, true));
    assert!(point.data_from >= start && point.data_to >= point.data_from);
    assert_eq!(snapshot(&scene.path("source")), before);
    assert_eq!(scene.tool_runs(), 0);
    let manifest = scene.manifest();
    assert_eq!(manifest.tool, None);
    assert_eq!((&manifest.fence_before, &manifest.fence_after), (&scene.run.fence, &scene.run.fence));
    let store = scene.point_folder().join("store");
    assert_eq!(fs::read(store.join("index/lucene-store.db")).unwrap(), b"index");
    // The volume can be asked for it like for any other.
    assert_eq!(scene.inspect().published().manifest_digest, point.manifest_digest);
}

#[test]
fn what_a_slave_lacks_bounds_what_the_copy_is_good_for() {
    let slave = scene(false);
    let start = Utc::now();
    assert!(slave.backup("pod-1").published().data_from >= start, "the master has no more than the copy");

    let slave = scene(false);
    slave.member.holds(6, SERVED);
    let begun = slave.backup("pod-1").published().data_from;
    assert!(begun < start, "transaction 6 is missing from the copy: {begun}");
    // The recording is from the days before this test was written, and no nonsense.
    let recorded: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    assert!(begun > recorded, "{begun}");
}

#[test]
fn a_store_that_is_no_evidence_is_refused_and_nothing_stays() {
    type Damage = fn(&Scene);
    let damage: [(Reason, Damage); 4] = [
        (Reason::UncleanShutdown, |scene| {
            let header = neostore(STORE_ID, 5);
            fs::write(scene.path("source/graph.db/neostore"), &header[..54]).unwrap();
        }),
        (Reason::StoreMismatch, |scene| write_header(scene, OTHER_STORE_ID)),
        (Reason::SourceUnreadable, |scene| fs::remove_file(scene.path("source/graph.db/neostore")).unwrap()),
        (Reason::SourceUnreadable, |scene| {
            std::os::unix::fs::symlink("/etc/passwd", scene.path("source/graph.db/link")).unwrap();
        }),
    ];
    for (number, (reason, damage)) in damage.iter().enumerate() {
        let scene = scene(true);
        damage(&scene);
        let (found, message) = refused(scene.backup("pod-1"));
        assert_eq!(found, *reason, "damage {number}: {message}");
        assert_eq!(scene.in_cluster_folder(), Vec::<String>::new(), "damage {number}");
    }
}

fn write_header(scene: &Scene, store: StoreId) {
    fs::write(scene.path("source/graph.db/neostore"), neostore(store, 5)).unwrap();
}

#[test]
fn what_is_set_up_wrong_is_found_while_the_member_serves() {
    // A member that serves has no trailer, and it is not needed yet.
    let serving = scene(false);
    fs::write(serving.path("source/graph.db/neostore"), &neostore(STORE_ID, 5)[..54]).unwrap();
    let outcome = serving.check();
    assert_eq!((outcome.status.code(), outcome.verdict), (Some(0), Verdict::Ready));
    assert_eq!(serving.in_cluster_folder(), Vec::<String>::new());

    let mut elsewhere = scene(false);
    elsewhere.run.plan = Plan::Cold { store_path: "data/graph.db".into(), alone: false };
    let (reason, message) = refused(elsewhere.check());
    assert_eq!(reason, Reason::SourceUnreadable);
    assert!(message.contains("storePath"), "{message}");

    let other = scene(false);
    write_header(&other, OTHER_STORE_ID);
    assert_eq!(refused(other.check()).0, Reason::StoreMismatch);
}
