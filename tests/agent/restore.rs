//! The tasks of a restore: `agent survey`, `agent stage`, `agent carry`.
//!
//! After every one, the target and the member's own volume are what they were.

use crate::agent::{Outcome, Running, eventually, program};
use crate::devices::{Mounted, is_root, run};
use crate::scene::{GOOD_TOOL, LOG, STORE_ID, Scene};
use graph_backup_operator::agent::store::digest;
use graph_backup_operator::api::{MendedHeader, Reason, Seed, SeedState};
use graph_backup_operator::contract::task::{CarryRun, StagePoint, StageRun, SurveyRun};
use graph_backup_operator::contract::verdict::{Carried, Staged, StoreFolder, Surveyed, Verdict};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A tool whose store is not copied at once.
const BIG_TOOL: &str = r#"
mkdir -p "$target"
head -c 64000000 /dev/zero > "$target/neostore.propertystore.db"
cp "$header" "$target/neostore"
cp "$log" "$target/nioneo_logical.log.v2"
echo Done
"#;
/// A user and a group that are nobody's.
const OTHER: u32 = 23_456;

/// A point on the target, a member's own volume, an empty new one, and what is asked.
struct Restore {
    scene: Scene,
    stage: StageRun,
}

impl Restore {
    fn new() -> Self {
        Self::of(GOOD_TOOL)
    }

    fn of(tool: &str) -> Self {
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

    fn staged(&self, path: &str) -> PathBuf {
        self.scene.path("staged").join(path)
    }

    fn source(&self, path: &str) -> PathBuf {
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
    fn is_staged(&self) -> Staged {
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
    fn start_slowly(&self, what: &str, run: &impl serde::Serialize, calls: &str, delay: &str) -> Running {
        let log = self.scene.path("strace").display().to_string();
        let (trace, inject) = (format!("--trace={calls}"), format!("--inject={calls}:delay_enter={delay}"));
        let mut words = ["strace", "-f", "-qq", "-o", &log, &trace, &inject].map(str::to_owned).to_vec();
        words.push(program());
        self.scene.start_restore_through(&words, what, run)
    }

    fn carry_run(&self) -> CarryRun {
        CarryRun { store_path: self.stage.store_path.clone(), deadline_seconds: 300 }
    }

    /// Runs `agent carry` on a member's own volume that nothing else changes.
    #[track_caller]
    fn carry(&self) -> Outcome {
        let before = contents(&self.scene.path("source"));
        let outcome = self.scene.start_restore("carry", &self.carry_run()).finish();
        assert!(contents(&self.scene.path("source")) == before, "the member's own volume changed");
        outcome
    }

    #[track_caller]
    fn is_carried(&self) -> Carried {
        let outcome = self.carry();
        let Verdict::Carried(carried) = outcome.verdict else { panic!("{outcome:?}") };
        carried
    }

    #[track_caller]
    fn survey(&self, store_path: &str) -> Outcome {
        let run = SurveyRun { store_path: store_path.into(), deadline_seconds: 300 };
        self.scene.start_restore("survey", &run).finish()
    }

    #[track_caller]
    fn is_surveyed(&self, store_path: &str) -> Surveyed {
        let outcome = self.survey(store_path);
        let Verdict::Surveyed(surveyed) = outcome.verdict else { panic!("{outcome:?}") };
        *surveyed
    }

    /// A member's own volume as a server leaves it, with a nested store path.
    fn fill_source(&self) {
        for folder in ["data/graph.db/index", "data/log/deep", "conf", "lost+found", ".graphbackup-staging"] {
            fs::create_dir_all(self.source(folder)).unwrap();
        }
        for (path, content, mode) in [
            ("data/graph.db/neostore", "the old store", 0o640),
            ("data/rrd", "sibling", 0o600),
            ("data/log/deep/server.log", "log", 0o644),
            ("conf/start.sh", "#!/bin/sh", 0o4755),
            ("lost+found/#12", "lost", 0o600),
            (".graphbackup-staging/neostore", "a copy", 0o600),
        ] {
            fs::write(self.source(path), content).unwrap();
            fs::set_permissions(self.source(path), Permissions::from_mode(mode)).unwrap();
        }
        symlink("../data/log/deep", self.source("conf/logs")).unwrap();
        symlink("nowhere", self.source("broken")).unwrap();
        fs::File::create(self.source("conf/sparse")).unwrap().set_len(40 << 20).unwrap();
        fs::set_permissions(self.source("conf"), Permissions::from_mode(0o2711)).unwrap();
        for (number, path) in (1..).zip(["data/rrd", "data/log/deep/server.log", "data/log/deep", "data", "conf"]) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789 * number);
            fs::File::open(self.source(path)).unwrap().set_modified(time).unwrap();
        }
    }
}

type Contents = BTreeMap<PathBuf, (u32, i64, i64, String)>;

/// Of everything below a folder and of itself: mode, time of the last change, and content.
fn contents(folder: &Path) -> Contents {
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

fn mode(path: &Path) -> u32 {
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
    let calls: Vec<_> = calls.lines().filter_map(|line| line.split([' ', '(']).find(|word| word.len() > 4)).collect();
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

#[test]
fn what_lies_beside_the_store_is_carried_as_it_is() {
    let restore = Restore::new();
    restore.fill_source();
    restore.is_staged();
    let store = contents(&restore.staged("data/graph.db"));
    fs::create_dir(restore.staged("lost+found")).unwrap();
    let expected: Contents = contents(&restore.source(""))
        .into_iter()
        .filter(|(path, _)| {
            let left_out = ["data/graph.db", "lost+found", ".graphbackup-staging"];
            !left_out.iter().any(|left_out| path.starts_with(left_out)) && !path.as_os_str().is_empty()
        })
        .collect();
    let links = expected.values().filter(|(mode, ..)| mode & 0o170_000 == 0o120_000).count();
    assert_eq!((expected.len(), links), (10, 2));
    for _ in 0..2 {
        let carried = restore.is_carried();
        assert_eq!((carried.files, carried.bytes, carried.other_owner_files), (6, 7 + 3 + 9 + (40 << 20), 0));
        let mut found = contents(&restore.staged(""));
        found.retain(|path, _| {
            let of_stage = path.starts_with("data/graph.db") || path.starts_with("lost+found");
            !of_stage && !path.as_os_str().is_empty()
        });
        assert_eq!(found, expected);
        assert!(contents(&restore.staged("data/graph.db")) == store, "the store changed");
        assert!(fs::metadata(restore.staged("conf/sparse")).unwrap().blocks() < 100, "a hole was filled");
    }
}

#[test]
fn carrying_that_is_killed_is_done_anew() {
    let restore = Restore::new();
    restore.fill_source();
    fs::write(restore.source("big"), vec![7; 32 << 20]).unwrap();
    let running = restore.start_slowly("carry", &restore.carry_run(), "pread64", "50ms");
    eventually("the copying has begun", || restore.staged("big").exists());
    running.send_to_child(rustix::process::Signal::KILL);
    running.kill();
    assert_ne!(fs::read(restore.staged("big")).unwrap(), vec![7; 32 << 20]);
    let carried = restore.is_carried();
    assert_eq!(carried.files, 7);
    assert!(fs::read(restore.staged("big")).unwrap() == vec![7; 32 << 20]);
}

#[test]
fn what_belongs_to_others_is_carried_if_it_can_be_read() {
    if !is_root("files of other users") {
        return;
    }
    let restore = Restore::new();
    restore.fill_source();
    lchown(restore.source("conf/start.sh"), Some(OTHER), Some(OTHER)).unwrap();
    lchown(restore.source("broken"), Some(OTHER), Some(OTHER)).unwrap();
    fs::set_permissions(restore.source("conf/start.sh"), Permissions::from_mode(0o4755)).unwrap();
    // Root keeps every owner.
    assert_eq!(restore.is_carried().other_owner_files, 0);
    let owner = |path: &str| fs::symlink_metadata(restore.staged(path)).map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!((owner("conf/start.sh"), owner("broken")), ((OTHER, OTHER), (OTHER, OTHER)));
    assert_eq!(mode(&restore.staged("conf/start.sh")), 0o4755);
    // Whoever is not root can give nothing away.
    let user = OTHER + 1;
    fs::remove_dir_all(restore.staged("")).unwrap();
    fs::create_dir(restore.staged("")).unwrap();
    own(restore.scene.folder.path(), user, OTHER);
    let carried = as_user(&restore, "carry", &restore.carry_run(), user);
    let Verdict::Carried(carried) = carried.verdict else { panic!("{carried:?}") };
    assert_eq!((carried.files, carried.other_owner_files), (6, 2));
    assert_eq!(owner("conf/start.sh"), (user, user), "neither its owner nor its group");
    assert_eq!(mode(&restore.staged("conf/start.sh")), 0o755, "without the bits that say who executes it");
    assert_eq!(owner("conf/sparse"), (user, user));
    // What that user cannot read.
    fs::set_permissions(restore.source("conf/start.sh"), Permissions::from_mode(0o700)).unwrap();
    let survey = SurveyRun { store_path: "data/graph.db".into(), deadline_seconds: 300 };
    for outcome in [as_user(&restore, "survey", &survey, user), as_user(&restore, "carry", &restore.carry_run(), user)]
    {
        let failure = outcome.failed(Reason::SourceUnreadable);
        assert!(failure.message.contains("conf/start.sh"), "{}", failure.message);
    }
}

/// Gives everything to a user, but for what belongs to this other one.
fn own(folder: &Path, user: u32, other: u32) {
    chown(folder, Some(user), Some(user)).unwrap();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            own(&path, user, other);
        } else if metadata.uid() != other {
            lchown(&path, Some(user), Some(user)).unwrap();
        }
    }
}

/// Runs a task as a user that is not root.
fn as_user(restore: &Restore, what: &str, run: &impl serde::Serialize, user: u32) -> Outcome {
    let user = user.to_string();
    let words = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let mut words = words.map(str::to_owned).to_vec();
    words.push(program());
    restore.scene.start_restore_through(&words, what, run).finish()
}

#[test]
fn what_cannot_be_carried_is_named() {
    let restore = Restore::new();
    restore.fill_source();
    run("mkfifo", &[restore.source("pipe").to_str().unwrap()]);
    let _socket = std::os::unix::net::UnixListener::bind(restore.source("socket")).unwrap();
    assert_eq!(restore.is_carried().files, 6);
    assert_eq!(restore.is_surveyed("data/graph.db").outside_files, 6);
    assert!(!restore.staged("pipe").exists() && !restore.staged("socket").exists());
    if is_root("a device") {
        run("mknod", &[restore.source("conf/device").to_str().unwrap(), "c", "1", "3"]);
        for outcome in [restore.survey("data/graph.db"), restore.carry()] {
            let failure = outcome.failed(Reason::CannotBeCarried);
            assert!(failure.message.contains("conf/device"), "{}", failure.message);
        }
    }
}

#[test]
fn a_new_volume_without_room_for_what_is_carried() {
    if !is_root("small file systems in memory") {
        return;
    }
    let restore = Restore::new();
    fs::write(restore.source("big"), vec![7; 3 << 20]).unwrap();
    let words = |words: &[&str]| {
        let failure = restore.carry().failed(Reason::StagingFull);
        for word in [&["the staged volume", "larger volume"], words].concat() {
            assert!(failure.message.contains(word), "{word}: {}", failure.message);
        }
    };
    let small = Mounted::tmpfs(&restore.scene.path("staged"), 2);
    words(&["2097152 bytes free", "needs 3145728", "nothing was copied"]);
    assert_eq!(fs::read_dir(restore.staged("")).unwrap().count(), 0);
    drop(small);
    let few = Mounted::tmpfs_with(&restore.scene.path("staged"), "size=64m,nr_inodes=1");
    words(&["cannot make big", "bytes are free"]);
    drop(few);
    // What a killed run has copied counts as room.
    let _tight = Mounted::tmpfs(&restore.scene.path("staged"), 4);
    assert_eq!(restore.is_carried().bytes, 3 << 20);
    assert_eq!(restore.is_carried().bytes, 3 << 20);
}

#[test]
fn a_member_that_serves_is_surveyed() {
    let restore = Restore::new();
    restore.fill_source();
    let bytes = 7 + 3 + 9 + (40 << 20);
    let found = restore.is_surveyed("data/graph.db");
    let me = fs::metadata(restore.source("")).unwrap();
    let store = StoreFolder {
        uid: me.uid(),
        gid: me.gid(),
        folder_mode: mode(&restore.source("data/graph.db")),
        file_mode: 0o640,
        bytes: 13,
    };
    assert_eq!((found.store, found.outside_files, found.outside_bytes), (Some(store), 6, bytes));
    assert!(0 < found.free_bytes && found.free_bytes < found.capacity_bytes, "{found:?}");
    assert_eq!((found.root_uid, found.root_mode), (me.uid(), me.mode() & 0o7777));
    assert_eq!(restore.is_surveyed("graph.db").store, None);
    // A file goes between the folder's list and the look at it.
    let run = SurveyRun { store_path: "data/graph.db".into(), deadline_seconds: 300 };
    fs::write(restore.source("data/log/deep/old.log"), "old").unwrap();
    let mut running = restore.start_slowly("survey", &run, "access,faccessat,faccessat2", "300ms");
    assert!(running.reaches("survey", "started"));
    for name in ["old.log", "server.log"] {
        fs::remove_file(restore.source("data/log/deep").join(name)).unwrap();
    }
    fs::remove_dir(restore.source("data/log/deep")).unwrap();
    let outcome = running.finish();
    assert!(matches!(outcome.verdict, Verdict::Surveyed(_)), "{outcome:?}");
    symlink("data", restore.source("link")).unwrap();
    for path in ["link/graph.db", "data/rrd"] {
        restore.survey(path).failed(Reason::StorePathUnfit);
    }
}
