//! `kill -9` at every step: never a false point, never a false answer, and the next attempt works.

use crate::agent::eventually;
use crate::scene::{POINT, Scene, is_running};
use graph_backup_operator::api::Reason;
use std::fs;
use std::process::Command;

/// Leaves enough to hash for a kill to land in it.
const TOOL: &str = r#"
cp "$header" "$target/neostore"
cp "$log" "$target/nioneo_logical.log.v2"
head -c 16000000 /dev/zero > "$target/neostore.propertystore.db"
echo Done
"#;

/// What the volume must say whatever happened: a whole point, or none.
fn check_truth(scene: &Scene) {
    let point = scene.point_folder();
    if point.exists() {
        let published = scene.inspect().published();
        assert_eq!(published.files, 3);
    } else {
        scene.inspect().failed(Reason::JobLost);
    }
}

/// The operator starts the next attempt in a new pod.
fn check_next_attempt(scene: &mut Scene) {
    scene.run.attempt = 2;
    let published = scene.backup("pod-2").facts();
    assert!(published.verified);
    assert_eq!(scene.in_cluster_folder(), [POINT]);
    assert_eq!(scene.inspect().published(), published);
}

fn killed_when(step: &str, event: &str) {
    let mut scene = Scene::with_tool(TOOL);
    let mut running = scene.start("pod-1");
    assert!(running.reaches(step, event), "{step} {event}");
    running.kill();
    check_truth(&scene);
    if ["lock", "mastership-before", "tool", "judge", "mastership-after", "hash"].contains(&step) && event == "started"
    {
        assert!(!scene.point_folder().exists(), "the kill at {step} came too late to mean anything");
    }
    check_next_attempt(&mut scene);
}

macro_rules! killed_at {
    ($($name:ident: $step:literal, $event:literal;)+) => { $(
        #[test]
        fn $name() {
            killed_when($step, $event);
        }
    )+ };
}

killed_at! {
    at_lock: "lock", "started";
    at_mastership_before: "mastership-before", "started";
    at_tool: "tool", "started";
    at_judge: "judge", "started";
    at_mastership_after: "mastership-after", "started";
    at_hash: "hash", "started";
    after_hash: "hash", "ended";
    at_manifest: "manifest", "started";
    after_manifest: "manifest", "ended";
    at_verify: "verify", "started";
    after_verify: "verify", "ended";
    at_publish: "publish", "started";
    after_publish: "publish", "ended";
    at_report: "report", "started";
    after_report: "report", "ended";
}

#[test]
fn published_but_not_heard() {
    let mut scene = Scene::with_tool(TOOL);
    // Nobody reads the pipe, so the report never ends.
    assert!(Command::new("mkfifo").arg(scene.path("verdict-pod-1")).status().unwrap().success());
    let mut running = scene.start("pod-1");
    assert!(running.reaches("report", "started"));
    running.kill();
    assert_eq!(scene.in_cluster_folder(), [POINT]);
    let inspected = scene.inspect().published();
    scene.run.attempt = 2;
    let recognised = scene.backup("pod-2").facts();
    assert_eq!((&recognised, recognised.attempt), (&inspected, 1));
    assert_eq!(scene.tool_runs(), 1, "the tool ran again");
}

#[test]
fn the_tool_does_not_outlive_the_agent() {
    let scene = Scene::with_tool("touch \"$scene/copying\"; exec sleep 600");
    let running = scene.start("pod-1");
    eventually("the tool runs", || scene.path("copying").exists());
    let pid = fs::read_to_string(scene.path("pids")).unwrap();
    assert!(is_running(&pid));
    running.kill();
    eventually("the tool is gone", || !is_running(&pid));
    let partial = scene.in_cluster_folder();
    assert_eq!(partial.len(), 1);
    assert!(partial[0].starts_with(".partial-"));
}
