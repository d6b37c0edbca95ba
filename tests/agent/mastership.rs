//! What is seen of the master after the tool: a copy of hours is not thrown away for what passes, and none is published
//! that the master does not share.

use crate::agent::{Running, eventually};
use crate::scene::{GOOD_TOOL, LOG, POINT, SERVED, STORE_ID, Scene};
use graph_backup_operator::api::Reason;
use std::fs;

/// The tool leaves a log with its transactions, then waits for `go`.
fn scene() -> Scene {
    let held = "touch \"$scene/copied\"\nwhile [ ! -e \"$scene/go\" ]; do sleep 0.02; done";
    let scene = Scene::with_tool(&format!(
        "{GOOD_TOOL}\ncp \"$scene/log\" \"$target/nioneo_logical.log.v2\"\necho Done\n{held}"
    ));
    fs::write(scene.path("log"), LOG).unwrap();
    scene
}

/// Starts a run, and lets the tool end when `change` was made.
fn changed_after_the_copy(scene: &Scene, change: impl FnOnce()) -> Running {
    let running = scene.start("pod-1");
    eventually("the tool has copied", || scene.path("copied").exists());
    change();
    fs::write(scene.path("go"), "").unwrap();
    running
}

#[test]
fn a_full_copy_that_the_master_does_not_share_is_no_point() {
    let scene = scene();
    let mut other = SERVED.to_vec();
    other[10] ^= 1;
    let failure =
        changed_after_the_copy(&scene, || scene.member.holds(6, &other)).finish().failed(Reason::HistoryMayDiffer);
    assert!(failure.message.contains("holds as transaction 6 is not in the logs"), "{}", failure.message);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn a_full_copy_that_goes_further_than_the_master_is_no_point() {
    let scene = scene();
    let failure = changed_after_the_copy(&scene, || scene.member.forgets()).finish().failed(Reason::HistoryMayDiffer);
    assert!(failure.message.contains("has not come to its last transaction 6"), "{}", failure.message);
}

#[test]
fn what_the_master_cannot_show_any_more_is_told_and_no_failure() {
    let scene = scene();
    let outcome = changed_after_the_copy(&scene, || scene.member.loses_its_logs()).finish();
    let mut messages = outcome.log.iter().filter_map(|line| line["message"].as_str());
    assert!(messages.any(|message| message.starts_with("the master no longer holds transaction 6")));
    outcome.published();
}

#[test]
fn a_master_that_does_not_answer_for_a_while_costs_no_copy() {
    let scene = scene();
    let mut running = changed_after_the_copy(&scene, || scene.member.hangs_up(true));
    assert!(running.reaches("mastership-after", "started"));
    let before = scene.member.questions();
    eventually("the member was asked again", || scene.member.questions() >= before + 3);
    scene.member.hangs_up(false);
    running.finish().published();
    assert_eq!(scene.in_cluster_folder(), [POINT]);
}

#[test]
fn a_master_that_changed_meanwhile_is_not_waited_for() {
    let scene = scene();
    let mut running = changed_after_the_copy(&scene, || scene.member.hangs_up(true));
    assert!(running.reaches("mastership-after", "started"));
    scene.member.now_serves(crate::scene::OTHER_STORE_ID);
    scene.member.hangs_up(false);
    running.finish().failed(Reason::MasterChanged);
}

#[test]
fn at_the_deadline_the_failure_says_what_kept_the_copy_from_being_proved() {
    let mut scene = scene();
    scene.run.deadline_seconds = 10;
    let failure =
        changed_after_the_copy(&scene, || scene.member.hangs_up(true)).finish().failed(Reason::MemberUnreachable);
    let said = "the copy was complete but could not be proved within the attempt's 10 seconds";
    assert!(failure.message.starts_with(said), "{}", failure.message);
    assert!(failure.message.contains("closed the connection"), "{}", failure.message);
}

#[test]
fn exceptions_without_end_are_told_and_no_failure() {
    let scene = scene();
    let exception = "java.lang.IllegalStateException: Database is switching its role";
    let outcome = changed_after_the_copy(&scene, || scene.member.answers_with(exception)).finish();
    let messages: Vec<_> = outcome.log.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(messages.iter().any(|message| message.contains("switching its role")), "{messages:?}");
    assert_eq!(outcome.published().store_id, STORE_ID);
    assert!(scene.member.questions() < 20);
}
