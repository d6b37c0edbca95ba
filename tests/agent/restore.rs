//! `agent stage`: the new volume of a member gets the store of a point, or is made ready for an empty member.
//!
//! After every run, the target is what it was.

use crate::agent::{Outcome, Running, eventually, program};
use crate::devices::{Mounted, is_root};
use crate::scene::{GOOD_TOOL, LOG, STORE_ID, Scene};
use graph_backup_operator::agent::store::digest;
use graph_backup_operator::api::{MendedHeader, Reason, Seed, SeedState};
use graph_backup_operator::contract::task::{StagePoint, StageRun};
use graph_backup_operator::contract::verdict::{Staged, Verdict};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A tool whose store is not copied at once.
const BIG_TOOL: &str = r#"
mkdir -p "$target"
head -c 64000000 /dev/zero > "$target/neostore.propertystore.db"
cp "$header" "$target/neostore"
cp "$log" "$target/nioneo_logical.log.v2"
echo Done
"#;

/// A point on the target, a member's own volume, an empty new one, and what is asked.
pub struct Restore {
    pub scene: Scene,
    pub stage: StageRun,
}

impl Restore {
    pub fn new() -> Self {
        // An index without a store of its own: its logs are not judged.
        Self::of(&GOOD_TOOL.replace("lucene-store.db", "segments"))
    }

    pub fn of(tool: &str) -> Self {
        let scene = Scene::with_tool(tool);
        let point = scene.backup("pod-1").published();
        for volume in ["source", "staged"] {
            fs::create_dir(scene.path(volume)).unwrap();
        }
        let point = StagePoint {
            place: scene.run.place.clone(),
            owner_uid: Some(point.owner_uid),
            manifest_digest: Some(point.manifest_digest),
        };
        let stage = StageRun {
            store_path: "data/graph.db".into(),
            point: Some(point),
            folder_mode: 0o2750,
            file_mode: 0o640,
            deadline_seconds: 300,
        };
        Self { scene, stage }
    }

    pub fn staged(&self, path: &str) -> PathBuf {
        self.scene.path("staged").join(path)
    }

    pub fn source(&self, path: &str) -> PathBuf {
        self.scene.path("source").join(path)
    }

    fn in_point(&self, path: &str) -> PathBuf {
        self.scene.point_folder().join("store").join(path)
    }

    /// Runs `agent stage` on a target that nothing else changes.
    #[track_caller]
    fn stage(&self) -> Outcome {
        let before = contents(&self.scene.path("target"));
        let outcome = self.scene.start_restore("stage", &self.stage).finish();
        assert!(contents(&self.scene.path("target")) == before, "the target changed");
        outcome
    }

    #[track_caller]
    pub fn is_staged(&self) -> Staged {
        let outcome = self.stage();
        let Verdict::Staged(staged) = outcome.verdict else { panic!("{outcome:?}") };
        assert_eq!(outcome.status.code(), Some(0));
        *staged
    }

    /// Fails, and leaves nothing that the new volume did not have; the message holds these words.
    #[track_caller]
    fn is_refused(&self, reason: Reason, words: &[&str]) {
        let before = contents(&self.scene.path("staged"));
        let failure = self.stage().failed(reason);
        for word in words {
            assert!(failure.message.contains(word), "{word}: {}", failure.message);
        }
        let names =
            |found: &Contents| found.iter().map(|(path, (.., content))| (path.clone(), content.clone())).collect();
        let (before, after): (Vec<_>, Vec<_>) = (names(&before), names(&contents(&self.scene.path("staged"))));
        assert_eq!(after, before);
    }

    /// Starts a task with these system calls delayed.
    pub fn start_slowly(&self, what: &str, run: &impl serde::Serialize, calls: &str, delay: &str) -> Running {
        let log = self.scene.path("strace").display().to_string();
        let (trace, inject) = (format!("--trace={calls}"), format!("--inject={calls}:delay_enter={delay}"));
        let mut words = ["strace", "-f", "-qq", "-o", &log, &trace, &inject].map(str::to_owned).to_vec();
        words.push(program());
        self.scene.start_restore_through(&words, what, run)
    }
}

pub type Contents = BTreeMap<PathBuf, (u32, i64, i64, String)>;

/// Of everything below a folder and of itself: mode, time of the last change, and content.
pub fn contents(folder: &Path) -> Contents {
    let mut found = BTreeMap::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_file() => digest::labelled(&fs::read(&path).unwrap()),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            _ => String::new(),
        };
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let relative = path.strip_prefix(folder).unwrap().to_owned();
        found.insert(relative, (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), content));
    }
    found
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_point_is_staged() {
    let restore = Restore::new();
    fs::create_dir(restore.staged("lost+found")).unwrap();
    let outcome = restore.stage();
    let ended: Vec<_> = outcome.log.iter().filter(|line| line["event"] == "ended").collect();
    let steps: Vec<_> = ended.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["find", "clear", "restore", "seed", "stage", "write-back", "stage", "report"]);
    assert!(outcome.log.iter().any(|line| line["step"] == "restore" && line["percent"] == 100));
    let Verdict::Staged(staged) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
    assert_eq!((staged.store_id, staged.last_transaction), (STORE_ID, 6));
    assert_eq!((staged.files, staged.bytes), (4, 69 + 6 + LOG.len() as u64));
    assert_eq!(Some(&staged.manifest_digest), restore.stage.point.as_ref().unwrap().manifest_digest.as_ref());
    assert!(staged.free_bytes.is_some_and(|free| free > 0));
    assert_eq!(staged.seed.state, SeedState::LogsComplete);
    let files = |folder: &Path| -> BTreeMap<PathBuf, String> {
        contents(folder).into_iter().map(|(path, (.., content))| (path, content)).collect()
    };
    assert_eq!(files(&restore.staged("data/graph.db")), files(&restore.scene.point_folder().join("store")));
    for (path, expected) in [
        ("data", 0o2750),
        ("data/graph.db", 0o2750),
        ("data/graph.db/index", 0o2750),
        ("data/graph.db/neostore", 0o640),
    ] {
        assert_eq!(mode(&restore.staged(path)), expected, "{path}");
    }
    let root: Vec<_> = fs::read_dir(restore.staged("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(root.len(), 2, "{root:?}");
    // The verdict was lost.
    let before = contents(&restore.staged(""));
    let again = restore.is_staged();
    assert_eq!(Staged { free_bytes: staged.free_bytes, ..again }, *staged);
    assert!(contents(&restore.staged("")) == before, "a finished copy was written anew");
}

#[test]
fn any_point_at_its_place_is_staged_where_nothing_more_is_known_of_it() {
    let mut restore = Restore::new();
    let point = restore.stage.point.as_mut().unwrap();
    (point.owner_uid, point.manifest_digest) = (None, None);
    restore.stage.store_path = "graph.db".into();
    restore.is_staged();
    assert!(restore.staged("graph.db/neostore").exists());
}

#[test]
fn a_wrong_header_is_mended_on_the_new_volume_and_not_in_the_point() {
    let mut restore = Restore::new();
    let log = restore.in_point("nioneo_logical.log.v2");
    let mut wrong = LOG.to_vec();
    // The last transaction of the log itself.
    wrong[8..16].copy_from_slice(&6_i64.to_be_bytes());
    fs::write(&log, &wrong).unwrap();
    rewrite(&mut restore, "nioneo_logical.log.v2", &wrong);
    let header = MendedHeader { file: "nioneo_logical.log.v2".into(), from: 6, to: 4 };
    let mended = Seed { mended: vec![header], ..Seed::COMPLETE };
    let staged = restore.is_staged();
    assert_eq!(staged.seed, mended);
    let read = |path: &Path| fs::read(path).unwrap();
    let staged_log = restore.staged("data/graph.db/nioneo_logical.log.v2");
    let mut right = LOG.to_vec();
    right[8..16].copy_from_slice(&4_i64.to_be_bytes());
    assert!(read(&log) == wrong && read(&staged_log) == right);
    // Recognised by the bytes that it must have now, with the same answer.
    assert_eq!(restore.is_staged().seed, mended);
    fs::write(&staged_log, &wrong).unwrap();
    restore.is_refused(Reason::StagingNotEmpty, &["nioneo_logical.log.v2 has other content"]);
}

/// Lets the manifest name a file's new content, and asks for this manifest.
fn rewrite(restore: &mut Restore, path: &str, content: &[u8]) {
    let mut manifest = restore.scene.manifest();
    let file = manifest.files.iter_mut().find(|file| file.path == path).unwrap();
    file.sha256 = digest::labelled(content).replace("sha256:", "");
    manifest.tree = graph_backup_operator::agent::store::files::tree_digest(&manifest.files);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fs::write(restore.scene.point_folder().join("manifest.json"), &bytes).unwrap();
    restore.stage.point.as_mut().unwrap().manifest_digest = Some(digest::labelled(&bytes));
}

#[test]
fn a_store_that_no_bytes_mend_is_staged_and_told() {
    let mut restore = Restore::new();
    let log = &LOG[..16];
    fs::write(restore.in_point("nioneo_logical.log.v2"), log).unwrap();
    let mut manifest = restore.scene.manifest();
    let file = manifest.files.iter_mut().find(|file| file.path == "nioneo_logical.log.v2").unwrap();
    (manifest.bytes, file.bytes) = (manifest.bytes - file.bytes + 16, 16);
    fs::write(restore.scene.point_folder().join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    rewrite(&mut restore, "nioneo_logical.log.v2", log);
    let seed = restore.is_staged().seed;
    assert_eq!(seed.state, SeedState::LastTransactionNotLogged);
    assert!(seed.mended.is_empty() && seed.problem.is_some(), "{seed:?}");
}

#[test]
fn a_point_that_is_damaged_or_another_one_leaves_nothing() {
    let mut restore = Restore::new();
    let file = restore.in_point("nioneo_logical.log.v2");
    let mut bytes = fs::read(&file).unwrap();
    bytes[200] ^= 1;
    fs::write(&file, &bytes).unwrap();
    restore.is_refused(Reason::VerificationFailed, &["nioneo_logical.log.v2 has other content"]);
    fs::write(restore.in_point("foreign"), "").unwrap();
    restore.is_refused(Reason::VerificationFailed, &["foreign should not be there"]);
    let point = restore.stage.point.as_mut().unwrap();
    let digest = point.manifest_digest.replace("sha256:0".into());
    restore.is_refused(Reason::VerificationFailed, &["sha256:0"]);
    let point = restore.stage.point.as_mut().unwrap();
    (point.manifest_digest, point.owner_uid) = (digest, Some("another".into()));
    restore.is_refused(Reason::PointExists, &["another GraphBackup"]);
    fs::remove_dir_all(restore.scene.point_folder()).unwrap();
    restore.is_refused(Reason::PointMissing, &[crate::scene::POINT]);
}

#[test]
fn staging_that_is_killed_is_begun_anew() {
    let restore = Restore::of(BIG_TOOL);
    // Each MiB.
    let running = restore.start_slowly("stage", &restore.stage, "pread64", "20ms");
    let copy = restore.staged(".graphbackup-staging/neostore.propertystore.db");
    eventually("the copying has begun", || copy.exists());
    running.send_to_child(rustix::process::Signal::KILL);
    running.kill();
    assert!(copy.exists() && !restore.staged("data").exists());
    restore.is_staged();
    assert!(!restore.staged(".graphbackup-staging").exists());
    assert_eq!(fs::metadata(restore.staged("data/graph.db/neostore.propertystore.db")).unwrap().len(), 64_000_000);
}

#[test]
fn staging_that_is_told_to_stop_leaves_nothing() {
    let restore = Restore::of(BIG_TOOL);
    let running = restore.start_slowly("stage", &restore.stage, "pread64", "20ms");
    let copy = restore.staged(".graphbackup-staging/neostore.propertystore.db");
    eventually("the copying has begun", || copy.exists());
    running.send_to_child(rustix::process::Signal::TERM);
    running.finish().failed(Reason::Interrupted);
    assert_eq!(fs::read_dir(restore.staged("")).unwrap().count(), 0);
    let late = StageRun { deadline_seconds: 1, ..restore.stage.clone() };
    let failure = restore.start_slowly("stage", &late, "pread64", "50ms").finish().failed(Reason::DeadlineExceeded);
    assert!(failure.message.contains("1 seconds"), "{}", failure.message);
    assert_eq!(fs::read_dir(restore.staged("")).unwrap().count(), 0);
}

#[test]
fn a_volume_that_holds_something_else_is_refused() {
    let restore = Restore::new();
    fs::create_dir_all(restore.staged("data/other/deep")).unwrap();
    fs::write(restore.staged("data/other/deep/file"), "precious").unwrap();
    restore.is_refused(Reason::StagingNotEmpty, &["data/other"]);
    fs::remove_dir_all(restore.staged("data/other")).unwrap();
    restore.is_staged();
    fs::write(restore.staged("data/graph.db/neostore.nodestore.db"), "nodez\n").unwrap();
    restore.is_refused(Reason::StagingNotEmpty, &["neostore.nodestore.db has other content"]);
    fs::remove_dir_all(restore.staged("data/graph.db")).unwrap();
    fs::create_dir(restore.staged("data/graph.db")).unwrap();
    restore.is_refused(Reason::StagingNotEmpty, &["is missing"]);
}

#[test]
fn a_new_volume_that_is_full_or_cannot_be_written() {
    if !is_root("small file systems in memory") {
        return;
    }
    let restore =
        Restore::of(&GOOD_TOOL.replace("echo Done", "head -c 3000000 /dev/zero > \"$target/big\"; echo Done"));
    let bytes = restore.scene.manifest().bytes.to_string();
    let small = Mounted::tmpfs(&restore.scene.path("staged"), 2);
    let words = ["the staged volume", "larger volume", &bytes];
    restore.is_refused(Reason::StagingFull, &[&words[..], &["nothing was copied", "2097152 bytes free"]].concat());
    drop(small);
    // Room for the bytes, but not for the files.
    let few = Mounted::tmpfs_with(&restore.scene.path("staged"), "size=64m,nr_inodes=4");
    restore.is_refused(Reason::StagingFull, &[&words[..], &["cannot make", "No space left", "are free now"]].concat());
    drop(few);
    let closed = Mounted::read_only(&restore.scene.path("staged"));
    restore.is_refused(Reason::StagingNotWritable, &["the staged volume", "read-only"]);
    drop(closed);
    fs::remove_dir(restore.staged("")).unwrap();
    let failure = restore.stage().failed(Reason::StagingNotWritable);
    assert!(failure.message.contains("the staged volume"), "{}", failure.message);
}

#[test]
fn what_is_staged_is_on_the_device_before_it_has_its_place() {
    if !is_root("an ext4 on a loop device") {
        return;
    }
    let restore = Restore::new();
    let _device = Mounted::ext4(&restore.scene.path("staged"), &restore.scene.path("disk"), 32);
    assert!(restore.staged("lost+found").exists());
    let log = restore.scene.path("strace").display().to_string();
    let trace = "--trace=syncfs,rename,renameat,renameat2,fsync";
    let mut words = ["strace", "-f", "-qq", "-o", &log, trace].map(str::to_owned).to_vec();
    words.push(program());
    let outcome = restore.scene.start_restore_through(&words, "stage", &restore.stage).finish();
    assert!(matches!(outcome.verdict, Verdict::Staged(_)), "{outcome:?}");
    let calls = fs::read_to_string(&log).unwrap();
    let calls: Vec<_> = calls
        .lines()
        .filter_map(|line| line.split([' ', '(']).find(|word| word.starts_with(char::is_alphabetic)))
        .collect();
    let at = |call: &str| calls.iter().position(|found| found.starts_with(call)).unwrap_or_else(|| panic!("{calls:?}"));
    let (place, last) = (at("rename"), calls.iter().rposition(|found| *found == "syncfs").unwrap());
    assert!(at("syncfs") < last && last < place && place < at("fsync"), "{calls:?}");
}

#[test]
fn an_empty_member_gets_a_prepared_volume() {
    let mut restore = Restore::new();
    restore.stage.point = None;
    for _ in 0..2 {
        let outcome = restore.stage();
        assert_eq!((outcome.verdict, outcome.status.code()), (Verdict::Prepared, Some(0)));
        assert_eq!(mode(&restore.staged("data")), 0o2750);
        assert_eq!(contents(&restore.staged("")).len(), 2);
    }
    fs::create_dir(restore.staged("data/graph.db")).unwrap();
    fs::write(restore.staged("data/graph.db/neostore"), "a store").unwrap();
    restore.is_refused(Reason::StagingNotEmpty, &["data/graph.db is not empty"]);
}
