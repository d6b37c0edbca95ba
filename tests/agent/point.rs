//! A backup that works: what is on the volume and what is said about it.

use crate::agent::AGENT;
use crate::scene::{BACKUP_UID, GOOD_TOOL, LOG, OTHER_STORE_ID, POINT, STORE_ID, Scene};
use graph_backup_operator::agent::store::digest::hexadecimal;
use graph_backup_operator::api::{Reason, Verification};
use graph_backup_operator::contract::verdict::Published;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn hex(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

#[test]
fn a_published_point_carries_its_evidence() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let published = scene.backup("pod-1").published();
    assert!(published.free_bytes.is_some_and(|bytes| bytes > 0));
    let published = Published { free_bytes: None, ..published };
    assert_eq!(scene.in_cluster_folder(), [POINT]);
    let manifest = scene.manifest();
    let bytes = fs::read(scene.point_folder().join("manifest.json")).unwrap();
    assert_eq!(published.manifest_digest, format!("sha256:{}", hex(&bytes)));
    assert_eq!((published.owner_uid.as_str(), published.attempt), (BACKUP_UID, 1));
    assert_eq!((published.store_id, published.last_transaction), (STORE_ID, 6));
    assert_eq!((published.files, published.bytes, published.verified), (4, 69 + 6 + LOG.len() as u64, true));
    assert_eq!(
        (&published.mastership_before, &published.mastership_after),
        (&scene.run.mastership, &scene.run.mastership)
    );
    assert!(published.data_from < published.data_to);
    let paths: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["index/lucene-store.db", "neostore", "neostore.nodestore.db", "nioneo_logical.log.v2"]);
    for file in &manifest.files {
        let content = fs::read(scene.point_folder().join("store").join(&file.path)).unwrap();
        assert_eq!((file.bytes, &file.sha256), (content.len() as u64, &hex(&content)), "{}", file.path);
    }
    let stdout = "Performing full backup from 'single://x'\n[3 Files copied]\nDone\n";
    assert_eq!(manifest.tool.as_ref().unwrap().stdout_sha256, hex(stdout.as_bytes()));
    assert_eq!(
        manifest.tool.as_ref().unwrap().command[3..],
        ["full".to_owned(), format!("127.0.0.1:{}", scene.member.port)]
    );
    assert_eq!(scene.inspect().published(), published);
}

#[test]
fn a_person_can_compute_the_tree_digest_with_a_shell() {
    let scene = Scene::with_tool(GOOD_TOOL);
    scene.backup("pod-1").published();
    // The very lines of the documentation.
    let documentation = include_str!("../../docs/volume.md");
    let block = documentation.split("```").find(|block| block.starts_with("sh\ncd store\n")).unwrap();
    let script = block.strip_prefix("sh").unwrap();
    let output = Command::new("sh").args(["-c", script]).current_dir(scene.point_folder()).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    assert_eq!(scene.manifest().tree, format!("sha256:{}", digest.trim_end_matches(['-', ' ', '\n'])));
}

#[test]
fn the_volumes_group_may_read_and_nobody_else() {
    let scene = Scene::with_tool(&format!("umask 077\n{GOOD_TOOL}"));
    scene.backup("pod-1").published();
    let mode = |path: &str| fs::metadata(scene.path("target").join(path)).unwrap().permissions().mode() & 0o7777;
    let cluster = format!("team/graph/{STORE_ID}");
    assert_eq!((mode("team"), mode("team/graph"), mode(&cluster)), (0o2770, 0o2770, 0o2770));
    assert_eq!(mode(&format!("{cluster}/.lock")), 0o660);
    let point = format!("{cluster}/{POINT}");
    assert_eq!(
        (mode(&format!("{point}/store")) & 0o777, mode(&format!("{point}/store/index")) & 0o777),
        (0o750, 0o750)
    );
    assert_eq!(mode(&format!("{point}/store/neostore")), 0o640);
    assert_eq!((mode(&point) & 0o777, mode(&format!("{point}/manifest.json"))), (0o750, 0o640));
}

#[test]
fn the_log_tells_each_step_its_seconds_and_the_tools_progress() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let outcome = scene.backup("pod-1");
    assert_eq!(outcome.tool_lines("stdout"), ["Performing full backup from 'single://x'", "[3 Files copied]", "Done"]);
    assert_eq!(outcome.tool_lines("stderr"), ["Full consistency check"]);
    assert!(outcome.log.iter().any(|line| line["step"] == "tool" && line["percent"] == 40));
    let ended: Vec<_> = outcome.log.iter().filter(|line| line["event"] == "ended").collect();
    let steps: Vec<_> = ended.iter().map(|line| line["step"].as_str().unwrap()).collect();
    let expected = [
        "lock",
        "mastership-before",
        "tool",
        "judge",
        "seed",
        "mastership-after",
        "hash",
        "manifest",
        "verify",
        "publish",
        "report",
    ];
    assert_eq!(steps.iter().filter(|step| **step == "write-back").count(), 2);
    let steps: Vec<_> = steps.into_iter().filter(|step| *step != "write-back").collect();
    assert_eq!(steps, expected);
    assert!(ended.iter().all(|line| line["seconds"].is_f64()));
    assert!(outcome.log.iter().all(|line| line["time"].is_string()));
}

#[test]
fn without_verification_nothing_is_claimed_to_be_verified() {
    let mut scene = Scene::with_tool(GOOD_TOOL);
    scene.run.verification = Verification::None;
    let outcome = scene.backup("pod-1");
    assert!(!outcome.log.iter().any(|line| line["step"] == "verify"));
    assert!(!outcome.published().verified);
    assert!(scene.inspect().published().verified);
}

#[test]
fn a_mastership_that_changed_before_the_tool_starts_nothing() {
    let scene = Scene::with_tool(GOOD_TOOL);
    scene.member.now_serves(OTHER_STORE_ID);
    let failure = scene.backup("pod-1").failed(Reason::MasterChanged);
    assert!(failure.message.contains(&OTHER_STORE_ID.to_string()), "{}", failure.message);
    assert_eq!((scene.tool_runs(), scene.in_cluster_folder().len()), (0, 0));
}

#[test]
fn a_mastership_that_changed_while_the_tool_ran_makes_no_point() {
    let tool = format!("{GOOD_TOOL}\ntouch \"$scene/copied\"\nwhile [ ! -e \"$scene/go\" ]; do sleep 0.02; done");
    let scene = Scene::with_tool(&tool);
    let running = scene.start("pod-1");
    crate::agent::eventually("the tool has copied", || scene.path("copied").exists());
    scene.member.now_serves(OTHER_STORE_ID);
    fs::write(scene.path("go"), "").unwrap();
    running.finish().failed(Reason::MasterChanged);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
    scene.inspect().failed(Reason::JobLost);
}

#[test]
fn a_member_that_cannot_be_asked_is_named() {
    let mut scene = Scene::with_tool(GOOD_TOOL);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.run.source = format!("single://{unused}").parse().unwrap();
    let failure = scene.backup("pod-1").failed(Reason::MemberUnreachable);
    assert!(failure.message.contains(&unused.to_string()), "{}", failure.message);
    assert_eq!(scene.tool_runs(), 0);
}

#[test]
fn the_installed_binary_is_whole_and_executable() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("agent");
    for _ in 0..2 {
        assert!(Command::new(AGENT).args(["agent", "install", "--to"]).arg(&to).status().unwrap().success());
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(Command::new(&to).arg("--version").status().unwrap().success());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = Command::new(AGENT).args(["agent", "install", "--to", "/nonexistent/agent"]).output().unwrap();
    assert!(!nowhere.status.success());
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("/nonexistent/agent"));
}
