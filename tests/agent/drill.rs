//! `agent drill`: a point is restored to a scratch volume and opened there.
//!
//! After every drill, the target is what it was, and nothing is left on the scratch volume.

use crate::agent::{Outcome, Running, eventually, program};
use crate::devices::{Mounted, is_root};
use crate::scene::{GOOD_TOOL, LOG, POINT, STORE_ID, Scene, is_running};
use chrono::Utc;
use graph_backup_operator::agent::store::digest;
use graph_backup_operator::agent::store::manifest::Manifest;
use graph_backup_operator::api::Reason;
use graph_backup_operator::contract::task::DrillRun;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the engine's shell prints.
const COUNTS: &str = "echo '{ \"NumberOfNodeIdsInUse\": 7, \"NumberOfRelationshipIdsInUse\": 3 }'";
/// The calls that make folders.
const MKDIR: &str = "mkdir,mkdirat";
/// A tool whose store is not copied at once.
const BIG_TOOL: &str = r#"
mkdir -p "$target"
head -c 64000000 /dev/zero > "$target/neostore.propertystore.db"
cp "$header" "$target/neostore"
cp "$log" "$target/nioneo_logical.log.v2"
echo Done
"#;

/// A point on the target, an empty scratch volume, and what is asked.
struct Drill {
    scene: Scene,
    run: DrillRun,
}

impl Drill {
    /// The engine is a shell script; `$store` is the copy that it opens, `$scene` a folder for notes.
    fn new(engine: &str) -> Self {
        Self::of(GOOD_TOOL, engine)
    }

    fn of(tool: &str, engine: &str) -> Self {
        let scene = Scene::with_tool(tool);
        let point = scene.backup("pod-1").published();
        fs::create_dir(scene.path("scratch")).unwrap();
        let engine = format!("scene={}\nstore=$1\n: > \"$scene/opened\"\n{engine}", scene.folder.path().display());
        let run = DrillRun {
            place: scene.run.place.clone(),
            owner_uid: point.owner_uid,
            manifest_digest: point.manifest_digest,
            boot_command: ["sh", "-c", &engine, "engine", "{store}"].map(str::to_owned).to_vec(),
            deadline_seconds: 300,
        };
        Self { scene, run }
    }

    fn start(&self) -> Running {
        self.scene.start_drill(&self.run)
    }

    /// Starts it with these system calls delayed.
    fn start_slowly(&self, calls: &str, delay: &str) -> Running {
        let log = self.scene.path("strace").display().to_string();
        let (trace, inject) = (format!("--trace={calls}"), format!("--inject={calls}:delay_enter={delay}"));
        let mut words = ["strace", "-f", "-qq", "-o", &log, &trace, &inject].map(str::to_owned).to_vec();
        words.push(program());
        self.scene.start_drill_through(&words, &self.run)
    }

    /// Runs it on a target that nothing else changes.
    #[track_caller]
    fn make(&self) -> Outcome {
        let before = contents(&self.scene.path("target"));
        let outcome = self.start().finish();
        assert!(contents(&self.scene.path("target")) == before, "the target changed");
        self.left_nothing();
        outcome
    }

    #[track_caller]
    fn left_nothing(&self) {
        assert_eq!(contents(&self.scene.path("scratch")).len(), 1, "something is left on the scratch volume");
    }

    fn is_opened(&self) -> bool {
        self.scene.path("opened").exists()
    }

    fn in_point(&self, path: &str) -> PathBuf {
        self.scene.point_folder().join(path)
    }

    /// Fails before the engine is asked; the message holds these words.
    #[track_caller]
    fn is_refused(&self, reason: Reason, words: &[&str]) {
        let failure = self.make().failed(reason);
        for word in words {
            assert!(failure.message.contains(word), "{word}: {}", failure.message);
        }
        assert!(!self.is_opened(), "the engine was asked: {}", failure.message);
    }

    /// Changes the manifest, and asks for the changed one.
    fn rewrite(&mut self, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.scene.manifest();
        change(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        fs::write(self.in_point("manifest.json"), &bytes).unwrap();
        self.run.manifest_digest = digest::labelled(&bytes);
    }
}

/// Of everything below a folder and of itself: mode, time of the last change, and content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, String)> {
    let mut found = BTreeMap::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() { digest::labelled(&fs::read(&path).unwrap()) } else { String::new() };
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), content));
    }
    found
}

#[test]
fn a_drill_measures_how_long_it_takes_to_have_the_database_back() {
    let drill = Drill::new(&format!(
        r#"cmp "$store/nioneo_logical.log.v2" "$scene/log" && cmp "$store/neostore" "$scene/neostore" || exit 9
        (cd "$store" && find . -printf '%P %m\n' | sort > "$scene/modes")
        echo changed > "$store/neostore"; touch "$store/index/lock"
        sleep 1.1
        {COUNTS}"#
    ));
    let began = Utc::now();
    let outcome = drill.make();
    let ended: Vec<_> = outcome.log.iter().filter(|line| line["event"] == "ended").collect();
    let steps: Vec<_> = ended.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["find", "restore", "boot", "clean-up", "report"]);
    assert!(outcome.log.iter().any(|line| line["step"] == "restore" && line["percent"] == 100));
    let drilled = outcome.drilled();
    assert_eq!((drilled.store_id, drilled.last_transaction), (STORE_ID, 6));
    assert_eq!((drilled.files, drilled.bytes), (4, 69 + 6 + LOG.len() as u64));
    assert_eq!(drilled.manifest_digest, drill.run.manifest_digest);
    assert_eq!((drilled.nodes, drilled.relationships), (Some(7), Some(3)));
    assert!((1..60).contains(&drilled.open_seconds), "{drilled:?}");
    assert!((drilled.copy_seconds + drilled.open_seconds..60).contains(&drilled.total_seconds), "{drilled:?}");
    assert!(began < drilled.finished && drilled.finished < Utc::now());
    let modes = fs::read_to_string(drill.scene.path("modes")).unwrap();
    let files = "index/lucene-store.db 660\nneostore 660\nneostore.nodestore.db 660\nnioneo_logical.log.v2 660\n";
    assert_eq!(modes, format!(" 770\nindex 770\n{files}"));
    assert!(drill.scene.inspect().published().verified);
}

#[test]
fn the_recovery_time_of_a_drill_is_that_of_copying_and_opening() {
    let drill = Drill::new("sleep 1.1");
    // The copy's own folder, and one in the store.
    let drilled = drill.start_slowly(MKDIR, "1100ms").finish().drilled();
    assert!((2..20).contains(&drilled.copy_seconds) && (1..20).contains(&drilled.open_seconds), "{drilled:?}");
    assert!((drilled.copy_seconds + drilled.open_seconds..30).contains(&drilled.total_seconds), "{drilled:?}");
    drill.left_nothing();
}

#[test]
fn a_drill_restores_holes_and_empty_folders() {
    let tool = GOOD_TOOL.replace("echo Done", "truncate -s 40M \"$target/sparse\"; mkdir \"$target/empty\"; echo Done");
    let drill = Drill::of(&tool, r#"[ -d "$store/empty" ] && [ "$(stat -c %b "$store/sparse")" -lt 100 ]"#);
    let drilled = drill.make().drilled();
    assert_eq!((drilled.files, drilled.nodes, drilled.relationships), (5, None, None));
}

#[test]
fn a_drill_finds_a_flipped_byte() {
    let drill = Drill::new("exit 0");
    let file = drill.in_point("store/nioneo_logical.log.v2");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    drill.is_refused(Reason::VerificationFailed, &["nioneo_logical.log.v2 has other content"]);
}

#[test]
fn a_drill_finds_what_is_missing_and_what_is_foreign() {
    type Damage = fn(&Drill);
    let damage: [(&str, Damage); 7] = [
        ("neostore.nodestore.db is missing", |d| fs::remove_file(d.in_point("store/neostore.nodestore.db")).unwrap()),
        ("foreign should not be there", |d| fs::write(d.in_point("store/foreign"), "").unwrap()),
        ("neostore has 5 bytes instead of 69", |d| fs::write(d.in_point("store/neostore"), "short").unwrap()),
        ("link is neither a regular file nor a folder", |d| {
            std::os::unix::fs::symlink("/etc/passwd", d.in_point("store/index/link")).unwrap();
        }),
        ("pipe is neither a regular file nor a folder", |d| {
            crate::devices::run("mkfifo", &[d.in_point("store/pipe").to_str().unwrap()]);
        }),
        ("cannot be read", |d| fs::remove_dir_all(d.in_point("store")).unwrap()),
        ("store is not a folder", |d| {
            fs::rename(d.in_point("store"), d.scene.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(d.scene.path("elsewhere"), d.in_point("store")).unwrap();
        }),
    ];
    for (said, damage) in damage {
        let drill = Drill::new("exit 0");
        damage(&drill);
        drill.is_refused(Reason::VerificationFailed, &[said]);
    }
}

#[test]
fn a_drill_is_of_the_very_manifest_that_was_asked_for() {
    let mut drill = Drill::new("exit 0");
    let real = std::mem::replace(&mut drill.run.manifest_digest, format!("sha256:{}", "0".repeat(64)));
    drill.is_refused(Reason::VerificationFailed, &[&real, "sha256:0000"]);
    drill.run.manifest_digest = real;
    // A manifest that is whole and speaks of another store.
    drill.rewrite(|manifest| manifest.last_transaction = 7);
    drill.is_refused(Reason::VerificationFailed, &["the store's header does not agree"]);
    drill.rewrite(|manifest| manifest.tree = "sha256:0".into());
    drill.is_refused(Reason::VerificationFailed, &["its tree digest"]);
    drill.rewrite(|manifest| manifest.owner.uid = "9a2b3c4d-0000-4000-8000-000000000000".into());
    drill.is_refused(Reason::PointExists, &["another GraphBackup", "9a2b3c4d-0000"]);
    fs::remove_file(drill.in_point("manifest.json")).unwrap();
    drill.is_refused(Reason::ManifestMissing, &["manifest.json"]);
    fs::remove_dir_all(drill.scene.point_folder()).unwrap();
    drill.is_refused(Reason::PointMissing, &[POINT]);
    drill.run.place.point = "../point".into();
    drill.is_refused(Reason::InvalidSpec, &["../point"]);
}

#[test]
fn a_drill_whose_engine_fails() {
    let failing = Drill::new("echo 'Neo4j is unhappy' >&2; exit 3");
    let failure = failing.make().failed(Reason::BootFailed);
    for word in ["exit code 3", "Neo4j is unhappy"] {
        assert!(failure.message.contains(word), "{}", failure.message);
    }
    let mut absent = Drill::new("exit 0");
    absent.run.boot_command = ["no-such-engine", "{store}"].map(str::to_owned).to_vec();
    absent.is_refused(Reason::ToolNotFound, &["no-such-engine"]);
}

#[test]
fn a_drill_whose_engine_hangs_ends_at_its_deadline() {
    let mut drill =
        Drill::new("echo $$ > \"$scene/engine\"; (while :; do sleep 0.1; done) & echo $! > \"$scene/child\"; wait");
    drill.run.deadline_seconds = 2;
    let failure = drill.make().failed(Reason::DeadlineExceeded);
    assert!(failure.message.contains("2 seconds"), "{}", failure.message);
    for name in ["engine", "child"] {
        assert!(!is_running(&fs::read_to_string(drill.scene.path(name)).unwrap()), "{name}");
    }
}

#[test]
fn a_drill_that_is_told_to_stop_while_it_copies() {
    let drill = Drill::of(BIG_TOOL, "exit 0");
    // Each MiB.
    let running = drill.start_slowly("pread64", "50ms");
    eventually("the copying has begun", || drill.scene.path("scratch/drill/neostore.propertystore.db").exists());
    running.send_to_child(Signal::TERM);
    let outcome = running.finish();
    let done = outcome.log.iter().filter_map(|line| line["percent"].as_u64()).max();
    assert!(done.is_none_or(|percent| percent < 90), "it copied {done:?} per cent of the file");
    outcome.failed(Reason::Interrupted);
    assert!(!drill.is_opened());
    drill.left_nothing();
}

#[test]
fn a_drill_that_is_told_to_stop_while_the_engine_runs() {
    let drill = Drill::new("echo $$ > \"$scene/engine\"; while :; do sleep 0.05; done");
    let running = drill.start();
    eventually("the engine runs", || drill.is_opened());
    let since = Instant::now();
    running.send(Signal::TERM);
    running.finish().failed(Reason::Interrupted);
    assert!(since.elapsed() < Duration::from_secs(10), "took {:?}", since.elapsed());
    assert!(!is_running(&fs::read_to_string(drill.scene.path("engine")).unwrap()));
    drill.left_nothing();
}

#[test]
fn a_drill_removes_what_an_earlier_one_left() {
    let drill = Drill::new("[ ! -e \"$store/old\" ]");
    fs::create_dir_all(drill.scene.path("scratch/drill/old")).unwrap();
    drill.make().drilled();
}

#[test]
fn a_drill_of_a_point_that_is_removed_meanwhile() {
    let drill = Drill::new("exit 0");
    // The first folder that is made is the copy's, when the manifest has been read.
    let mut running = drill.start_slowly(MKDIR, "1100ms");
    assert!(running.reaches("restore", "started"));
    drill.scene.prune().pruned();
    let failure = running.finish().failed(Reason::PointMissing);
    assert!(failure.message.contains(POINT), "{}", failure.message);
    drill.left_nothing();
}

#[test]
fn a_drill_takes_no_lock_and_writes_to_no_target() {
    if !is_root("a target that is mounted read-only") {
        return;
    }
    let drill = Drill::new(COUNTS);
    let _target = Mounted::read_only(&drill.scene.path("target"));
    assert!(fs::write(drill.scene.path("target/probe"), "").is_err(), "the target can be written");
    drill.make().drilled();
    let lock = fs::File::open(drill.scene.cluster_folder().join(".lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    drill.make().drilled();
}

#[test]
fn a_drill_whose_scratch_volume_is_full() {
    if !is_root("small file systems in memory") {
        return;
    }
    let big = GOOD_TOOL.replace("echo Done", "head -c 3000000 /dev/zero > \"$target/big\"; echo Done");
    let drill = Drill::of(&big, "exit 0");
    let bytes = drill.scene.manifest().bytes.to_string();
    let words = ["scratch volume", "larger scratch volume", "spec.drill.scratch.size"];
    let small = Mounted::tmpfs(&drill.scene.path("scratch"), 2);
    drill.is_refused(Reason::ScratchFull, &[&words[..], &["nothing was copied", &bytes]].concat());
    drop(small);
    // Room for the bytes, but not for the files.
    let few = Mounted::tmpfs_with(&drill.scene.path("scratch"), "size=64m,nr_inodes=4");
    drill.is_refused(Reason::ScratchFull, &[&words[..], &["cannot make", "No space left"]].concat());
    drop(few);
    // The engine fills it.
    let fills = Drill::new("head -c 100000000 /dev/zero > \"$store/more\" || exit 7");
    let _full = Mounted::tmpfs(&fills.scene.path("scratch"), 24);
    let failure = fills.make().failed(Reason::ScratchFull);
    for word in [&words[..], &["exit code 7", "No space left"]].concat() {
        assert!(failure.message.contains(word), "{word}: {}", failure.message);
    }
}

#[test]
fn a_drill_without_a_scratch_volume_says_so() {
    let drill = Drill::new("exit 0");
    fs::remove_dir(drill.scene.path("scratch")).unwrap();
    let failure = drill.start().finish().failed(Reason::AgentFailed);
    assert!(failure.message.contains("scratch volume"), "{}", failure.message);
    assert!(!failure.message.contains("target"), "{}", failure.message);
}
