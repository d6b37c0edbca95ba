//! The agent under `strace`: its system calls, and what becomes of a run when some of them fail.

use crate::agent::{Outcome, Running, program};
use crate::incremental::Chain;
use crate::scene::{BACKUP_UID, GOOD_TOOL, POINT, Scene};
use graph_backup_operator::api::{CopiedBy, Reason};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// An attempt whose system calls are recorded, and changed as `strace`'s option `--inject` says.
struct Traced<'a> {
    scene: &'a Scene,
    pod: &'a str,
    calls: &'a str,
    inject: Option<&'a str>,
    paths: Vec<PathBuf>,
}

impl<'a> Traced<'a> {
    /// Records these calls of the agent and the tool.
    fn new(scene: &'a Scene, calls: &'a str) -> Self {
        Self { scene, pod: "pod-1", calls, inject: None, paths: Vec::new() }
    }

    /// Lets them end so, such as `error=EIO:when=1`. What is counted are the calls of one thread.
    fn inject(self, how: &'a str) -> Self {
        Self { inject: Some(how), ..self }
    }

    /// Only calls that have to do with one of these.
    fn on(self, paths: &[&Path]) -> Self {
        Self { paths: paths.iter().map(|path| (*path).to_owned()).collect(), ..self }
    }

    fn pod(self, pod: &'a str) -> Self {
        Self { pod, ..self }
    }

    fn start(&self) -> Running {
        let mut words = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "512", "-y", "-o"].map(str::to_owned).to_vec();
        words.push(self.log().display().to_string());
        words.push(format!("--trace={}", self.calls));
        words.extend(self.inject.map(|how| format!("--inject={}:{how}", self.calls)));
        words.extend(self.paths.iter().flat_map(|path| ["-P".to_owned(), path.display().to_string()]));
        words.push(program());
        self.scene.start_through(&words, self.pod)
    }

    fn backup(&self) -> Outcome {
        self.start().finish()
    }

    fn log(&self) -> PathBuf {
        self.scene.path("strace")
    }

    /// The calls that were recorded, without the process id.
    fn recorded(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap();
        let calls = text.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim().to_owned()));
        calls.filter(|call| call.contains('(') && !call.starts_with("---")).collect()
    }
}

fn partial(scene: &Scene) -> PathBuf {
    scene.cluster_folder().join(format!(".partial-{BACKUP_UID}-pod-1"))
}

#[track_caller]
fn at(calls: &[String], what: &str, holds: impl Fn(&str) -> bool) -> usize {
    calls.iter().position(|call| holds(call)).unwrap_or_else(|| panic!("no {what} in {calls:#?}"))
}

#[test]
fn everything_is_flushed_before_it_has_a_name_and_the_name_after() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let traced = Traced::new(&scene, "fsync,syncfs,renameat2,openat");
    traced.backup().published();
    let calls = traced.recorded();
    let partial = partial(&scene);
    let cluster = scene.cluster_folder();
    let flushed = |path: &Path| {
        let path = format!("<{}>", path.display());
        at(&calls, &format!("fsync of {path}"), |call| call.starts_with("fsync(") && call.contains(&path))
    };
    let named = at(&calls, "rename", |call| call.starts_with("renameat2(") && call.contains(POINT));
    for file in ["index/lucene-store.db", "neostore", "neostore.nodestore.db", "index", ""] {
        assert!(flushed(&partial.join("store").join(file).components().collect::<PathBuf>()) < named, "{file}");
    }
    let manifest = flushed(&partial.join("manifest.json"));
    assert!(manifest < flushed(&partial) && flushed(&partial) < named);
    assert!(flushed(&cluster) > named, "the name was not flushed");
    // New folders have their names flushed, too.
    for parent in ["target", "target/team", "target/team/graph"] {
        assert!(flushed(&scene.path(parent)) < named, "{parent}");
    }
    let syncs: Vec<_> = (0..calls.len()).filter(|at| calls[*at].starts_with("syncfs(")).collect();
    let [first, second, third] = syncs[..] else { panic!("{syncs:?} of {calls:#?}") };
    let neostore = format!("{}/store/neostore\"", partial.display());
    let opened: Vec<_> = (0..calls.len()).filter(|at| calls[*at].contains(&neostore)).collect();
    assert!(first < opened[0], "the file system was opened after the tool had begun");
    assert!(second < flushed(&partial.join("store/neostore")), "an error of writing back was not asked for first");
    assert!(manifest < third && third < named, "an error of writing back was not asked for last");
}

#[test]
fn data_that_the_file_system_lost_make_no_point() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let lost = Traced::new(&scene, "syncfs").inject("error=EIO").backup();
    let failure = lost.failed(Reason::TargetIoError);
    assert!(failure.message.contains("could not write them"), "{}", failure.message);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
    let full = Traced::new(&scene, "syncfs").inject("error=ENOSPC").backup();
    full.failed(Reason::TargetFull);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn a_run_that_is_told_to_stop_does_not_publish() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let mut running = Traced::new(&scene, "syncfs").inject("delay_exit=2000000").start();
    assert!(running.reaches("verify", "ended") && running.reaches("write-back", "started"));
    running.send_to_child(Signal::TERM);
    running.finish().failed(Reason::Interrupted);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
}

#[test]
fn a_flush_after_the_rename_is_tried_again() {
    let scene = Scene::with_tool(GOOD_TOOL);
    fs::create_dir_all(scene.cluster_folder()).unwrap();
    let cluster = scene.cluster_folder();
    Traced::new(&scene, "fsync").on(&[&cluster]).inject("error=EIO:when=1..2").backup().published();
}

#[test]
fn a_point_that_could_not_be_flushed_is_found_by_the_next_attempt() {
    let scene = Scene::with_tool(GOOD_TOOL);
    fs::create_dir_all(scene.cluster_folder()).unwrap();
    let cluster = scene.cluster_folder();
    for errno in ["EIO", "EROFS"] {
        let inject = format!("error={errno}");
        let failure =
            Traced::new(&scene, "fsync").on(&[&cluster]).inject(&inject).backup().failed(Reason::TargetIoError);
        assert!(failure.message.contains("has its name"), "{}", failure.message);
        assert_eq!(scene.in_cluster_folder(), [POINT]);
    }
    let found = scene.backup("pod-2").facts();
    assert_eq!((found.attempt, scene.tool_runs()), (1, 1));
    assert_eq!(scene.inspect().published(), found);
}

#[test]
fn a_file_system_that_cannot_flush_folders() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let (cluster, partial) = (scene.cluster_folder(), partial(&scene));
    let (store, index) = (partial.join("store"), partial.join("store/index"));
    let folders = [&cluster, &partial, &store, &index].map(PathBuf::as_path);
    for errno in ["EINVAL", "EOPNOTSUPP"] {
        let inject = format!("error={errno}");
        let traced = Traced::new(&scene, "fsync").on(&folders).inject(&inject);
        traced.backup().published();
        assert_eq!(traced.recorded().len(), 4, "{:#?}", traced.recorded());
        fs::remove_dir_all(scene.point_folder()).unwrap();
    }
    // But a file has to be flushed.
    let file = partial.join("store/neostore");
    Traced::new(&scene, "fsync").on(&[&file]).inject("error=EINVAL").backup().failed(Reason::TargetNotWritable);
}

#[test]
fn a_file_system_that_cannot_rename_without_replacing() {
    let scene = Scene::with_tool(GOOD_TOOL);
    Traced::new(&scene, "renameat2").inject("error=EINVAL").backup().published();

    // rename(2) would replace an empty folder.
    let scene = Scene::with_tool(&format!("{GOOD_TOOL}\nmkdir \"$target/../../{POINT}\""));
    Traced::new(&scene, "renameat2").inject("error=EINVAL").backup().failed(Reason::PointExists);
    assert_eq!(fs::read_dir(scene.point_folder()).unwrap().count(), 0, "the foreign folder was replaced");
}

#[test]
fn a_target_that_refuses_modes() {
    let refuse = |umask: &str| {
        let scene = Scene::with_tool(&format!("umask {umask}\n{GOOD_TOOL}"));
        let outcome = Traced::new(&scene, "chmod,fchmodat,fchmod").inject("error=EPERM").backup();
        (outcome, scene)
    };
    let (outcome, scene) = refuse("077");
    let failure = outcome.failed(Reason::TargetNotWritable);
    assert!(failure.message.contains("does not keep file modes"), "{}", failure.message);
    assert!(!failure.message.contains("fsGroup"), "{}", failure.message);
    assert_eq!(scene.in_cluster_folder(), [""; 0]);
    // What the group may read as it is, is good.
    let (outcome, _scene) = refuse("022");
    let told = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("file modes"));
    assert_eq!(outcome.log.iter().filter(|line| told(line)).count(), 1);
    outcome.published();
}

#[test]
fn a_lock_that_fails_is_told_from_one_that_is_not_there() {
    let scene = Scene::with_tool(GOOD_TOOL);
    let with = |errno: &str| Traced::new(&scene, "flock").inject(&format!("error={errno}")).backup();
    with("EIO").failed(Reason::TargetIoError);
    with("ENOSYS").failed(Reason::LockUnsupported);
    with("ENOLCK").failed(Reason::LockUnsupported);
}

#[test]
fn an_error_of_the_volume_is_worth_another_attempt() {
    for (calls, errno, reason) in [
        ("fsync", "EIO", Reason::TargetIoError),
        ("fsync", "ENOSPC", Reason::TargetFull),
        ("mkdir,mkdirat", "ESTALE", Reason::TargetIoError),
        ("mkdir,mkdirat", "ETIMEDOUT", Reason::TargetIoError),
        ("mkdir,mkdirat", "EROFS", Reason::TargetNotWritable),
        ("renameat2", "EIO", Reason::TargetIoError),
        ("renameat2", "EACCES", Reason::TargetNotWritable),
    ] {
        let scene = Scene::with_tool(GOOD_TOOL);
        Traced::new(&scene, calls).inject(&format!("error={errno}")).backup().failed(reason);
    }
}

/// A parent with a file that a full copy does not have; it is where reading fails.
fn chain() -> (Chain, PathBuf, PathBuf) {
    let extra = "[ -e \"$scene/once\" ] || echo old > \"$target/messages.log.1\"; : > \"$scene/once\"";
    let tool = crate::incremental::TOOL.replace("echo nodes >", &format!("{extra}\n    echo nodes >"));
    let chain = Chain::with_tool(&tool);
    let original = chain.parent_store("messages.log.1");
    let copy = chain.scene.cluster_folder().join(".partial-uid-second-pod-2/store/messages.log.1");
    (chain, original, copy)
}

#[test]
fn a_parent_that_cannot_be_read_is_damaged_only_if_that_persists() {
    // Where the file system cannot clone, the parent's file is read with pread64; the copy is compared with read.
    for (calls, of_copy) in [("pread64", false), ("read", true)] {
        let (mut chain, original, copy) = chain();
        let path = if of_copy { copy } else { original };
        let backup =
            |chain: &Chain, how: &str| Traced::new(&chain.scene, calls).pod("pod-2").on(&[&path]).inject(how).backup();
        let failure = backup(&chain, "error=EIO").failed(Reason::ParentDamaged);
        assert!(failure.message.contains("cannot be read"), "{}", failure.message);
        let away = backup(&chain, "error=ESTALE").failed(Reason::TargetIoError);
        assert!(away.message.contains("messages.log.1"), "{}", away.message);
        chain.or_full();
        let full = backup(&chain, "error=EIO").published();
        assert_eq!(full.fell_back.unwrap().reason, Reason::ParentDamaged);
        fs::remove_dir_all(chain.scene.cluster_folder().join("second")).unwrap();
        let once = backup(&chain, "error=EIO:when=1").published();
        assert_eq!((once.fell_back, once.depth), (None, 1), "{calls}");
    }
}

#[test]
fn a_policy_that_forbids_clones_does_not_forbid_copies() {
    let chain = Chain::new();
    let copied = Traced::new(&chain.scene, "ioctl").pod("pod-2").inject("error=EPERM").backup().published();
    assert_eq!(copied.copied_by, Some(CopiedBy::Copy));
}
