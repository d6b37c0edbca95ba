//! Tools that fail, each in its own way: the reason says which, and nothing is left on the volume.

use crate::scene::{GOOD_TOOL, OTHER_STORE_ID, Scene};
use graph_backup_operator::agent::verdict::Failure;
use graph_backup_operator::api::Reason;

#[track_caller]
fn fails(tool: &str, reason: Reason) -> Failure {
    let scene = Scene::with_tool(tool);
    let failure = scene.backup("pod-1").failed(reason);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
    scene.inspect().failed(Reason::JobLost);
    failure
}

#[test]
fn exits_1() {
    let failure = fails(&format!("{GOOD_TOOL}\necho 'it broke' >&2; exit 1"), Reason::ToolFailed);
    assert!(failure.message.contains("it broke"), "{}", failure.message);
}

#[test]
fn exits_0_and_leaves_nothing() {
    fails("echo Done", Reason::ToolLeftNoStore);
    fails("exit 0", Reason::ToolLeftNoStore);
}

#[test]
fn does_not_say_done() {
    let failure = fails(&format!("{GOOD_TOOL}\necho and more"), Reason::ToolFailed);
    assert!(failure.message.contains("and more"), "{}", failure.message);
}

#[test]
fn finds_inconsistencies_but_says_done() {
    let tool = format!("mkdir -p \"$target\"; : > \"$target/inconsistencies-2026-11-24.06.00.report\"\n{GOOD_TOOL}");
    fails(&tool, Reason::ConsistencyFailed);
}

#[test]
fn fills_the_volume() {
    fails("echo 'java.io.IOException: No space left on device' >&2; exit 1", Reason::TargetFull);
}

#[test]
fn cannot_reach_the_member() {
    fails("echo \"Couldn't connect to 'single://h:1'\"; exit 1", Reason::MasterUnreachable);
}

#[test]
fn copies_another_store() {
    let tool = GOOD_TOOL.replace("$header", "$scene/other-neostore");
    let failure = fails(&tool, Reason::StoreMismatch);
    assert!(failure.message.contains(&OTHER_STORE_ID.to_string()), "{}", failure.message);
}

#[test]
fn leaves_a_broken_header() {
    let tool = format!("{GOOD_TOOL}\nhead -c 20 \"$header\" > \"$target/neostore\"");
    let failure = fails(&tool, Reason::ToolLeftNoStore);
    assert!(failure.message.contains("20 bytes"), "{}", failure.message);
}

#[test]
fn leaves_a_link() {
    let failure = fails(&format!("{GOOD_TOOL}\nln -s /etc/passwd \"$target/link\""), Reason::ToolLeftNoStore);
    assert!(failure.message.contains("/link is neither"), "{}", failure.message);
}

#[test]
fn leaves_a_pipe() {
    fails(&format!("{GOOD_TOOL}\nmkfifo \"$target/pipe\""), Reason::ToolLeftNoStore);
}

#[test]
fn is_killed() {
    let failure = fails("kill -9 $$", Reason::ToolKilled);
    assert!(failure.message.contains("memory limit"), "{}", failure.message);
}

#[test]
fn is_not_there() {
    for command in ["/nonexistent/neo4j-backup", "neo4j-backup-is-not-here"] {
        let mut scene = Scene::with_tool("");
        scene.run.command[0] = command.into();
        let failure = scene.backup("pod-1").failed(Reason::ToolNotFound);
        assert!(failure.message.contains(command), "{}", failure.message);
    }
}

#[test]
fn cannot_be_executed() {
    let mut scene = Scene::with_tool("");
    scene.run.command[0] = scene.path("tool").to_str().unwrap().into();
    scene.backup("pod-1").failed(Reason::ToolNotFound);
}

#[test]
fn talks_without_end() {
    let scene =
        Scene::with_tool("head -c 3000000 /dev/zero | tr '\\0' '\"'; echo; head -c 3000000 /dev/zero >&2; exit 1");
    let outcome = scene.backup("pod-1");
    assert!(outcome.tool_lines("stdout")[0].len() < 5000);
    let failure = outcome.failed(Reason::ToolFailed);
    assert!(failure.message.len() <= 1024);
}
