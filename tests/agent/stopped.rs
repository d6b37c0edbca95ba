//! Told to stop: by the kubelet, or by the deadline.

use crate::agent::{eventually, program};
use crate::scene::{GOOD_TOOL, Scene, is_running};
use graph_backup_operator::api::Reason;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

const WAITING_TOOL: &str = r#"
trap 'echo "TERM" > "$scene/got"; exit 143' TERM
trap 'echo "INT" > "$scene/got"; exit 130' INT
echo part > "$target/neostore"
touch "$scene/copying"
while :; do sleep 0.02; done
"#;

fn stopped_by(signal: Signal, name: &str) {
    let scene = Scene::with_tool(WAITING_TOOL);
    let running = scene.start("pod-1");
    eventually("the tool runs", || scene.path("copying").exists());
    running.send(signal);
    running.finish().failed(Reason::Interrupted);
    assert_eq!(fs::read_to_string(scene.path("got")).unwrap().trim(), name);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
    scene.inspect().failed(Reason::JobLost);
}

#[test]
fn sigterm_reaches_the_tool() {
    stopped_by(Signal::TERM, "TERM");
}

#[test]
fn sigint_reaches_the_tool() {
    stopped_by(Signal::INT, "INT");
}

#[test]
fn a_tool_that_does_not_listen_is_killed() {
    let scene = Scene::with_tool("trap '' TERM; touch \"$scene/copying\"; while :; do sleep 0.1; done");
    let running = scene.start("pod-1");
    eventually("the tool runs", || scene.path("copying").exists());
    let pid = fs::read_to_string(scene.path("pids")).unwrap();
    let since = Instant::now();
    running.send(Signal::TERM);
    running.finish().failed(Reason::Interrupted);
    assert!((9..25).contains(&since.elapsed().as_secs()), "took {:?}", since.elapsed());
    assert!(!is_running(&pid));
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn sigterm_while_hashing_keeps_nothing() {
    let big = format!("head -c 64000000 /dev/zero > \"$target/big\"\n{GOOD_TOOL}");
    let scene = Scene::with_tool(&big);
    let mut running = scene.start("pod-1");
    assert!(running.reaches("hash", "started"));
    running.send(Signal::TERM);
    running.finish().failed(Reason::Interrupted);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn the_deadline_ends_the_tool() {
    let mut scene = Scene::with_tool(WAITING_TOOL);
    scene.run.deadline_seconds = 1;
    let failure = scene.backup("pod-1").failed(Reason::DeadlineExceeded);
    assert!(failure.message.contains("1 seconds"), "{}", failure.message);
    assert_eq!(fs::read_to_string(scene.path("got")).unwrap().trim(), "TERM");
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn what_the_tool_leaves_running_is_ended() {
    // The writer keeps the standard output open, too.
    let tool = format!(
        "mkdir -p \"$target\"\n(while :; do echo more >> \"$target/growing\"; done) &\necho $! > \"$scene/left\"\nsleep 0.1\n{GOOD_TOOL}"
    );
    let scene = Scene::with_tool(&tool);
    let since = Instant::now();
    let published = scene.backup("pod-1").facts();
    assert!(since.elapsed() < Duration::from_secs(10));
    assert!(!is_running(&fs::read_to_string(scene.path("left")).unwrap()));
    assert_eq!(scene.inspect().published(), published);
}

#[test]
fn a_volume_that_does_not_answer_does_not_make_the_agent_deaf() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let log = scene.path("strace").display().to_string();
    // The first step makes folders on the target.
    let strace = ["strace", "-f", "-qq", "-o", &log, "--trace=mkdir,mkdirat", "--inject=mkdir,mkdirat:delay_enter=33s"];
    let mut words: Vec<_> = strace.iter().map(|word| (*word).to_owned()).collect();
    words.push(program());
    let mut running = scene.start_through(&words, "pod-1");
    assert!(running.reaches("lock", "started"));
    let since = Instant::now();
    running.send_to_child(Signal::TERM);
    let failure = running.ended_within(Duration::from_secs(50)).failed(Reason::Interrupted);
    assert!(failure.message.contains("did not stop in time"), "{}", failure.message);
    assert!(since.elapsed() > Duration::from_secs(20), "the tool would not have had its time");
}
