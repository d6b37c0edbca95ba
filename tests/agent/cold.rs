//! Cold copies: the store of a stopped member, from its volume.

use crate::agent::Outcome;
use crate::scene::{LOG, OTHER_STORE_ID, SERVED, STORE_ID, Scene, TRANSACTION_5, neostore};
use chrono::{DateTime, Utc};
use graph_backup_operator::api::{Reason, StoreId};
use graph_backup_operator::contract::task::{Mode, Plan};
use graph_backup_operator::contract::verdict::Verdict;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A scene whose member is stopped with transaction 5 as its last; the tool must not be run.
fn scene(alone: bool) -> Scene {
    let mut scene = Scene::with_tool("exit 1");
    scene.run.plan = Plan::Cold { store_path: "graph.db".into(), alone };
    let store = scene.path("source/graph.db");
    fs::create_dir_all(store.join("index")).unwrap();
    fs::write(store.join("neostore"), neostore(STORE_ID, 5)).unwrap();
    fs::write(store.join("neostore.nodestore.db"), "nodes").unwrap();
    fs::write(store.join("index/lucene-store.db"), "index").unwrap();
    fs::write(store.join("nioneo_logical.log.v2"), &LOG[..TRANSACTION_5.end]).unwrap();
    scene.member.forgets();
    scene.member.holds(5, &LOG[TRANSACTION_5]);
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
    assert_eq!(
        (&manifest.mastership_before, &manifest.mastership_after),
        (&scene.run.mastership, &scene.run.mastership)
    );
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
fn what_the_slave_lacks_may_be_a_large_transaction() {
    let slave = scene(false);
    slave.member.holds(6, &[SERVED, &vec![0; 25_000_000]].concat());
    let start = Utc::now();
    assert!(slave.backup("pod-1").published().data_from < start);
}

#[test]
fn a_copy_that_the_master_does_not_share_is_no_point() {
    type Change = fn(&Scene);
    let changes: [(&str, Change); 4] = [
        ("has not come to its last transaction 5", |scene| scene.member.forgets()),
        ("what the master holds as transaction 5 is not in the logs", |scene| {
            let mut other = LOG[TRANSACTION_5].to_vec();
            other[10] ^= 1;
            scene.member.holds(5, &other);
        }),
        ("do not reach back to transaction 5", |scene| scene.member.loses_its_logs()),
        ("is not in the logs", |scene| {
            fs::write(scene.path("source/graph.db/nioneo_logical.log.v2"), &LOG[..TRANSACTION_5.start]).unwrap();
        }),
    ];
    for (words, change) in changes {
        let scene = scene(false);
        change(&scene);
        let start = Utc::now();
        let (reason, message) = refused(scene.backup("pod-1"));
        assert_eq!(reason, Reason::HistoryMayDiffer, "{message}");
        assert!(message.contains(words), "{words:?} is not in: {message}");
        assert!((Utc::now() - start).num_seconds() < 20, "it asked for what was said for good: {words}");
        assert_eq!(scene.in_cluster_folder(), Vec::<String>::new());
    }
}

#[test]
fn the_only_member_and_a_store_that_was_never_written_to_have_nobody_to_differ_from() {
    let only = scene(true);
    only.member.forgets();
    only.backup("pod-1").published();
    let unwritten = scene(false);
    unwritten.member.forgets();
    fs::write(unwritten.path("source/graph.db/neostore"), neostore(STORE_ID, 1)).unwrap();
    fs::write(unwritten.path("source/graph.db/nioneo_logical.log.v2"), &LOG[..TRANSACTION_5.start]).unwrap();
    assert_eq!(unwritten.backup("pod-1").published().last_transaction, 1);
}

#[test]
fn a_master_that_does_not_answer_yet_is_asked_again() {
    let slave = scene(false);
    slave.member.answers_with("java.lang.IllegalStateException: Database is switching its role");
    let mut running = slave.start("pod-1");
    assert!(running.reaches("data-from", "started"));
    crate::agent::eventually("the master was asked twice", || slave.member.questions() >= 4);
    slave.member.recovers();
    running.finish().published();
}

#[test]
fn a_store_that_is_written_to_while_it_is_copied_is_no_point() {
    let scene = scene(true);
    let file = scene.path("source/graph.db/neostore.nodestore.db");
    fs::write(scene.path("source/graph.db/neostore.propertystore.db"), vec![7; 16 << 20]).unwrap();
    let running = scene.start("pod-1");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    // Sizes stay as they are; only the times tell.
    let writer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    let outcome = running.finish();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let (reason, message) = refused(outcome);
    assert_eq!(reason, Reason::SourceChanged, "{message}");
    assert!(message.contains("neostore.nodestore.db changed while"), "{message}");
    assert_eq!(scene.in_cluster_folder(), Vec::<String>::new());
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

#[test]
fn a_pipe_in_place_of_the_header_holds_up_nobody() {
    let scene = scene(true);
    let header = scene.path("source/graph.db/neostore");
    fs::remove_file(&header).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&header).status().unwrap().success());
    for running in [scene.start("pod-1"), scene.start_check()] {
        running.ended_within(std::time::Duration::from_secs(10)).failed(Reason::SourceUnreadable);
    }
}
