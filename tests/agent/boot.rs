//! `verification: Boot`: a command opens a copy of the store before the point is published.

use crate::scene::{BACKUP_UID, GOOD_TOOL, POINT, Scene};
use graph_backup_operator::api::{Boot, Reason, Verification};
use std::fs;

/// A scene whose boot command is a shell script: `$store` is the copy that it opens.
fn scene(script: &str) -> Scene {
    let mut scene = Scene::with_tool(GOOD_TOOL);
    scene.run.verification = Verification::Boot;
    let command = ["sh", "-c", &format!("store=$1\n{script}"), "boot", "{store}"];
    scene.run.boot_command = Some(command.map(str::to_owned).to_vec());
    scene
}

#[test]
fn the_engine_has_a_copy_and_what_it_writes_is_not_in_the_point() {
    let scene = scene(
        r#"cmp "$store/neostore" "$store/../store/neostore" || exit 9
        echo changed > "$store/neostore"; touch "$store/lock"
        echo '{ "NumberOfNodeIdsInUse": 7, "NumberOfRelationshipIdsInUse": 3 }'"#,
    );
    let published = scene.backup("pod-1").published();
    assert!(published.verified);
    let Boot { nodes, relationships, .. } = published.boot.unwrap();
    assert_eq!((nodes, relationships), (Some(7), Some(3)));
    assert_eq!(scene.manifest().boot.unwrap().result, published.boot.unwrap());
    assert_eq!(scene.in_cluster_folder(), [POINT]);
    let mut names: Vec<_> =
        fs::read_dir(scene.point_folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["manifest.json", "store"]);
    assert!(scene.inspect().published().verified);
}

#[test]
fn a_copy_that_the_engine_cannot_open_is_no_point_and_is_kept() {
    let scene = scene("echo 'Neo4j is unhappy' >&2; exit 3");
    let failure = scene.backup("pod-1").failed(Reason::BootFailed);
    for word in ["exit code 3", "Neo4j is unhappy", ".failed-"] {
        assert!(failure.message.contains(word), "{}", failure.message);
    }
    let kept = format!(".failed-{BACKUP_UID}-pod-1");
    assert_eq!(scene.in_cluster_folder(), [kept.as_str()]);
    assert!(scene.cluster_folder().join(&kept).join("store/neostore").exists());
    assert!(!scene.cluster_folder().join(&kept).join("boot").exists());
    scene.inspect().failed(Reason::JobLost);
}

#[test]
fn a_command_that_is_not_there_is_told_by_its_name() {
    let mut scene = Scene::with_tool(GOOD_TOOL);
    scene.run.boot_command = Some(["no-such-engine", "{store}"].map(str::to_owned).to_vec());
    let failure = scene.backup("pod-1").failed(Reason::ToolNotFound);
    for word in ["no-such-engine", "spec.tool.bootCommand"] {
        assert!(failure.message.contains(word), "{}", failure.message);
    }
    assert_eq!(scene.in_cluster_folder(), [""; 0], "what says nothing of the store keeps nothing");
}
