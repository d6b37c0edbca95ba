//! The log of a run whose reader has stopped reading.

use crate::agent::eventually;
use crate::scene::{GOOD_TOOL, POINT, Scene};
use graph_backup_operator::api::Reason;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Writes more than a pipe and the agent's queue hold.
const TALK: &str = "head -c 6000000 /dev/zero | tr '\\0' x | fold -w 100";

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_a_run() {
    let scene = Scene::with_tool(&format!("{TALK}\n{GOOD_TOOL}"));
    let running = scene.start("pod-1");
    eventually("the point is there", || scene.point_folder().exists());
    eventually("the agent has ended", || running.has_verdict());
    running.ended_within(Duration::from_secs(5)).published();
    assert_eq!(scene.in_cluster_folder(), [POINT]);
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_deadline() {
    let mut scene = Scene::with_tool(&format!("{TALK}\nwhile :; do echo and more; sleep 0.01; done"));
    scene.run.deadline_seconds = 3;
    let since = Instant::now();
    let running = scene.start("pod-1");
    running.ended_within(Duration::from_secs(20)).failed(Reason::DeadlineExceeded);
    assert!(since.elapsed() >= Duration::from_secs(3));
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_a_signal() {
    let scene = Scene::with_tool(&format!("{TALK}\ntouch \"$scene/talked\"\nwhile :; do echo x; sleep 0.01; done"));
    let running = scene.start("pod-1");
    eventually("the tool has talked", || scene.path("talked").exists());
    running.send(Signal::TERM);
    running.ended_within(Duration::from_secs(10)).failed(Reason::Interrupted);
}

#[test]
fn lines_that_were_dropped_are_told_to_who_reads_on() {
    let tool =
        format!("{TALK}\ntouch \"$scene/talked\"\nwhile [ ! -e \"$scene/go\" ]; do sleep 0.02; done\n{GOOD_TOOL}");
    let scene = Scene::with_tool(&tool);
    let mut running = scene.start("pod-1");
    eventually("the tool has talked", || scene.path("talked").exists());
    // Reads what is in the pipe and in the queue, and lets the tool go on.
    assert!(running.reaches("tool", "started"));
    let reader = std::thread::spawn(move || running.finish());
    std::thread::sleep(Duration::from_secs(1));
    std::fs::write(scene.path("go"), "").unwrap();
    let outcome = reader.join().unwrap();
    let told =
        |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("lines of the log"));
    assert!(outcome.log.iter().any(told), "{} lines and no word of the others", outcome.log.len());
    assert!(outcome.log.len() < 60_000);
    outcome.published();
}
