//! `agent carry` and `agent survey`: what lies beside a member's store is found, and copied to its new volume.
//!
//! After every run, the member's own volume is what it was.

use crate::agent::{Outcome, eventually, program};
use crate::devices::{Mounted, is_root, run};
use crate::restore::{Contents, Restore, contents, mode};
use graph_backup_operator::api::Reason;
use graph_backup_operator::contract::task::{CarryRun, SurveyRun};
use graph_backup_operator::contract::verdict::{Carried, StoreFolder, Surveyed, Verdict};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A user and a group that are nobody's.
const OTHER: u32 = 23_456;

impl Restore {
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
