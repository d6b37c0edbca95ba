//! What else is on the volume: other runs, older partials, foreign folders, paths that lead elsewhere.

use crate::agent::eventually;
use crate::scene::{BACKUP_UID, GOOD_TOOL, POINT, Scene};
use graph_backup_operator::api::Reason;
use std::fs;

#[test]
fn two_runs_at_once() {
    let tool = format!("touch \"$scene/copying\"\nwhile [ ! -e \"$scene/go\" ]; do sleep 0.02; done\n{GOOD_TOOL}");
    let scene = Scene::with_tool(&tool);
    let first = scene.start("pod-1");
    eventually("the first tool runs", || scene.path("copying").exists());
    let failure = scene.backup("pod-2").failed(Reason::TargetLocked);
    assert!(failure.message.contains("/.lock"), "{}", failure.message);
    assert_eq!(scene.tool_runs(), 1);
    fs::write(scene.path("go"), "").unwrap();
    first.finish().published();
    assert_eq!(scene.in_cluster_folder(), [POINT]);
}

#[test]
fn a_foreign_folder_under_the_points_name_is_left_alone() {
    let scene = Scene::with_tool(GOOD_TOOL);
    scene.backup("pod-1").published();
    let mut foreign = Scene::with_tool(GOOD_TOOL);
    foreign.run.owner.uid = "9a2b3c4d-0000-4000-8000-000000000000".into();
    foreign.backup("pod-1").published();
    foreign.run.owner.uid = BACKUP_UID.into();
    let manifest = foreign.manifest();
    foreign.backup("pod-2").failed(Reason::PointExists);
    foreign.inspect().failed(Reason::PointExists);
    assert_eq!((foreign.manifest(), foreign.tool_runs()), (manifest, 1));
}

#[test]
fn a_folder_without_a_manifest_is_left_alone() {
    let scene = Scene::with_tool(GOOD_TOOL);
    fs::create_dir_all(scene.point_folder().join("store")).unwrap();
    scene.backup("pod-1").failed(Reason::PointExists);
    scene.inspect().failed(Reason::ManifestMissing);
    assert_eq!(scene.in_cluster_folder(), [POINT]);
}

#[test]
fn a_damaged_point_is_not_reported_as_one() {
    let scene = Scene::with_tool(GOOD_TOOL);
    scene.backup("pod-1").published();
    fs::write(scene.point_folder().join("store/neostore.nodestore.db"), "nodez\n").unwrap();
    for outcome in [scene.inspect(), scene.backup("pod-2")] {
        let failure = outcome.failed(Reason::VerificationFailed);
        assert!(failure.message.contains("neostore.nodestore.db has other content"), "{}", failure.message);
    }
}

/// Partials of pods that nobody recorded, of this very pod, and of another backup.
fn leave_partials(scene: &Scene) -> String {
    let own = ["vanished", "killed", "pod-1"].map(|pod| format!(".partial-{BACKUP_UID}-{pod}"));
    let other = ".partial-9a2b3c4d-0000-4000-8000-000000000000-dead".to_owned();
    for name in own.iter().chain([&other]) {
        fs::create_dir_all(scene.cluster_folder().join(name).join("store/index")).unwrap();
    }
    other
}

#[test]
fn every_partial_of_the_backup_itself_is_removed() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let other = leave_partials(&scene);
    scene.backup("pod-1").published();
    assert_eq!(scene.in_cluster_folder(), [other.clone(), POINT.to_owned()]);

    // Also by a run that finds the point of an earlier one, and by one that fails.
    leave_partials(&scene);
    scene.backup("pod-2").published();
    assert_eq!(scene.in_cluster_folder(), [other, POINT.to_owned()]);
    let failing = Scene::with_tool("exit 1");
    let other = leave_partials(&failing);
    failing.backup("pod-2").failed(Reason::ToolFailed);
    assert_eq!(failing.in_cluster_folder(), [other]);
}

#[test]
fn names_that_lead_out_of_the_target_are_refused() {
    for directory in ["../elsewhere", "/etc", "a/../../elsewhere", "team//graph", ".hidden"] {
        let mut scene = Scene::with_tool(GOOD_TOOL);
        scene.run.place.directory = directory.into();
        scene.backup("pod-1").failed(Reason::InvalidSpec);
        scene.inspect().failed(Reason::InvalidSpec);
        assert_eq!(fs::read_dir(scene.path("target")).unwrap().count(), 0);
        assert_eq!(scene.tool_runs(), 0);
    }
    let mut scene = Scene::with_tool(GOOD_TOOL);
    scene.run.place.point = "../point".into();
    scene.backup("pod-1").failed(Reason::InvalidSpec);
}

#[test]
fn links_that_lead_out_of_the_target_are_refused() {
    let scene = Scene::with_tool(GOOD_TOOL);
    fs::create_dir(scene.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scene.path("elsewhere"), scene.path("target/team")).unwrap();
    scene.backup("pod-1").failed(Reason::TargetNotWritable);
    assert_eq!(fs::read_dir(scene.path("elsewhere")).unwrap().count(), 0);
    assert_eq!(scene.tool_runs(), 0);
}

#[test]
fn nobody_follows_a_link_off_the_target() {
    let scene = Scene::with_tool(GOOD_TOOL);
    scene.backup("pod-1").published();
    // The whole cluster's folder, then the point alone.
    for linked in [scene.cluster_folder(), scene.point_folder()] {
        let elsewhere = scene.path("elsewhere");
        fs::rename(&linked, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &linked).unwrap();
        scene.inspect().failed(Reason::TargetNotWritable);
        scene.prune().failed(Reason::TargetNotWritable);
        let point = if linked == scene.point_folder() { elsewhere.clone() } else { elsewhere.join(POINT) };
        assert!(point.join("store/neostore").exists(), "what is elsewhere was removed");
        fs::remove_file(&linked).unwrap();
        fs::rename(&elsewhere, &linked).unwrap();
    }
    scene.prune().pruned();
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let scene = Scene::with_tool(GOOD_TOOL);
    fs::remove_dir(scene.path("target")).unwrap();
    let failure = scene.backup("pod-1").failed(Reason::TargetNotWritable);
    assert!(failure.message.contains("/target/team"), "{}", failure.message);
}

#[test]
fn a_run_that_cannot_be_read_is_reported() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let output = std::process::Command::new(crate::agent::AGENT)
        .args(["agent", "backup", "--target", "/nonexistent", "--verdict"])
        .arg(scene.path("verdict"))
        .env("GRAPHBACKUP_RUN", "{\"attempt\":1}")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let verdict = fs::read_to_string(scene.path("verdict")).unwrap();
    assert!(verdict.contains("AgentFailed") && verdict.contains("GRAPHBACKUP_RUN"), "{verdict}");
}
