//! Tools that fail, each in its own way: the reason says which, and nothing is left on the volume.

use crate::scene::{GOOD_TOOL, OTHER_STORE_ID, Scene};
use graph_backup_operator::api::Reason;
use graph_backup_operator::contract::failure::Failure;
use std::num::NonZeroU64;

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

/// Asks the member something, gets its answer, and does not like that the member then closes the connection.
const TALKATIVE_TOOL: &str = r#"
bash -c 'exec 3<>"/dev/tcp/${0/://}"; { printf "\0\0\0\100"; head -c 64 /dev/zero; } >&3; cat <&3 >/dev/null' "$3"
"#;

#[test]
fn loses_the_member_and_does_not_say_so() {
    let mut scene = Scene::with_tool(&format!("{TALKATIVE_TOOL}\necho 'it broke' >&2; exit 1"));
    scene.backup("pod-1").failed(Reason::ToolFailed);
    scene.run.bandwidth_limit = NonZeroU64::new(1 << 20);
    let failure = scene.backup("pod-2").failed(Reason::MasterUnreachable);
    let said = format!("127.0.0.1:{} closed the connection; the tool ended with exit code 1; ", scene.member.port);
    assert!(failure.message.starts_with(&said) && failure.message.contains("it broke"), "{}", failure.message);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn is_kept_to_a_bandwidth() {
    let mut scene = Scene::with_tool(&format!("{TALKATIVE_TOOL}\n{GOOD_TOOL}"));
    scene.run.bandwidth_limit = NonZeroU64::new(10);
    let outcome = scene.backup("pod-1");
    // The member's answer has 31 bytes.
    let member = format!("127.0.0.1:{}", scene.member.port);
    let came = format!("31 bytes came from {member} in ");
    let mut messages = outcome.log.iter().filter_map(|line| line["message"].as_str());
    let seconds = messages.find_map(|message| message.strip_prefix(&came)?.strip_suffix(" s")).unwrap();
    assert!((2.8..6.0).contains(&seconds.parse::<f64>().unwrap()), "{seconds}");
    let published = outcome.published();
    assert_eq!(published.mastership_after.endpoint().to_string(), member);
    let command = scene.manifest().tool.unwrap().command;
    assert!(command[4].starts_with("127.0.0.1:") && command[4] != member, "{command:?}");
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
