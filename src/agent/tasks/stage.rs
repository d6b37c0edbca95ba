//! `agent stage`: the new volume of a member gets the store of a point, or is made ready for a member that joins empty.
//!
//! The store is copied as in a drill, into a folder of its own at the volume's root. Wrong log headers are mended there,
//! never in the point. The copy gets its place by a rename, once all of it is on the device: what stands at the store path
//! is whole. A run that was killed is run again, and first removes the copy that was not finished. The agent removes
//! nothing else; a volume with anything else on it is refused.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::files::{self, Purpose, TreeError};
use crate::agent::store::header::StoreHeader;
use crate::agent::store::manifest::FileRecord;
use crate::agent::store::seed;
use crate::agent::store::transaction_log::{self, LogError};
use crate::agent::tasks::restored::{self, Found, Room, Wanted, disagrees};
use crate::agent::volume::io_kind::Volume;
use crate::agent::volume::layout::Layout;
use crate::agent::volume::member::{LOST_AND_FOUND, STAGING_FOLDER, StorePath};
use crate::agent::volume::modes;
use crate::agent::volume::space;
use crate::agent::volume::target;
use crate::agent::volume::write_back::WriteBack;
use crate::api::{MendedHeader, Reason, Seed};
use crate::contract::failure::Failure;
use crate::contract::task::{StagePoint, StageRun};
use crate::contract::verdict::{Staged, Verdict};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Fills the volume at `staged`, with the claim of the points mounted at `mount`.
pub async fn stage(run: StageRun, mount: &Path, staged: &Path, stop: &Stop) -> Verdict {
    let (mount, staged, stop) = (mount.to_owned(), staged.to_owned(), stop.clone());
    blocking(move || make(&run, &mount, &staged, &stop)).await.unwrap_or_else(Verdict::Failed)
}

fn make(run: &StageRun, mount: &Path, staged: &Path, stop: &Stop) -> Result<Verdict, Failure> {
    let store_path = StorePath::new(&run.store_path)?;
    let found = run.point.as_ref().map(|point| find(point, mount)).transpose()?;
    let stage = Stage {
        run,
        root: staged,
        store: store_path.on(staged),
        store_path,
        // Before the first byte is written.
        write_back: WriteBack::watch(Volume::Staged, staged, Step::Clear)?,
        stop,
    };
    let is_there = stage.clear()?;
    match found {
        None => stage.prepare(is_there).map(|()| Verdict::Prepared),
        Some(found) if is_there => stage.recognise(&found).map(Verdict::Staged),
        Some(found) => stage.restore(&found).map(Verdict::Staged),
    }
}

fn find(point: &StagePoint, mount: &Path) -> Result<Found, Failure> {
    let wanted = Wanted {
        place: &point.place,
        owner_uid: point.owner_uid.as_deref(),
        manifest_digest: point.manifest_digest.as_deref(),
    };
    restored::find(wanted, &Layout::new(mount, &point.place)?)
}

/// A staged volume, and what is done on it.
struct Stage<'a> {
    run: &'a StageRun,
    root: &'a Path,
    store_path: StorePath,
    /// Where the store belongs.
    store: PathBuf,
    write_back: WriteBack,
    stop: &'a Stop,
}

impl Stage<'_> {
    /// Refuses what neither the file system nor a run like this one made, then removes a copy that was not finished. Says
    /// whether there is a folder at the store path.
    fn clear(&self) -> Result<bool, Failure> {
        let _step = start(Step::Clear);
        let is_there = self.look()?;
        self.remove_copy()?;
        Ok(is_there)
    }

    fn look(&self) -> Result<bool, Failure> {
        let mut folder = self.root.to_owned();
        for name in self.store_path.parts() {
            let ours = if folder == self.root { &[LOST_AND_FOUND, STAGING_FOLDER][..] } else { &[] };
            let cannot_list = |error| cannot("list", &folder, &error);
            let mut is_there = false;
            for entry in fs::read_dir(&folder).map_err(cannot_list)? {
                let found = entry.map_err(cannot_list)?.file_name();
                if found == OsStr::new(name) {
                    is_there = true;
                } else if !ours.iter().any(|ours| found == OsStr::new(ours)) {
                    return Err(not_empty(&format!("it holds {}", folder.join(found).display())));
                }
            }
            if !is_there {
                return Ok(false);
            }
            folder.push(name);
            let metadata = fs::symlink_metadata(&folder).map_err(|error| cannot("look at", &folder, &error))?;
            if !metadata.is_dir() {
                return Err(not_empty(&format!("{} is no folder", folder.display())));
            }
        }
        Ok(true)
    }

    fn copy(&self) -> PathBuf {
        self.root.join(STAGING_FOLDER)
    }

    fn remove_copy(&self) -> Result<(), Failure> {
        let copy = self.copy();
        match fs::remove_dir_all(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", &copy, &error)),
            _ => Ok(()),
        }
    }

    /// Leaves nothing but the folders that the store's folder will be in.
    fn prepare(&self, is_there: bool) -> Result<(), Failure> {
        let cannot_list = |error| cannot("list", &self.store, &error);
        if is_there && fs::read_dir(&self.store).map_err(cannot_list)?.next().is_some() {
            return Err(not_empty(&format!("{} is not empty", self.store.display())));
        }
        let _step = start(Step::Stage);
        self.make_parents()?;
        self.write_back.finish()
    }

    fn restore(&self, found: &Found) -> Result<Box<Staged>, Failure> {
        match self.copy_and_place(found) {
            Ok(staged) => Ok(staged),
            Err(failure) => {
                let _step = start(Step::CleanUp);
                match self.remove_copy() {
                    Ok(()) => Err(failure),
                    Err(left) => Err(failure.and(left.message)),
                }
            }
        }
    }

    fn copy_and_place(&self, found: &Found) -> Result<Box<Staged>, Failure> {
        let copy = self.copy();
        let header = self.with_room(found, |room| found.restore(&copy, room, self.stop))?;
        let seed = seed::mend(Volume::Staged, &copy, self.stop)?;
        self.seal(&copy)?;
        let _step = start(Step::Stage);
        self.make_parents()?;
        // It replaces nothing but an empty folder, and the volume was seen to have none.
        fs::rename(&copy, &self.store).map_err(|error| cannot("rename the copy to", &self.store, &error))?;
        self.flush_name()?;
        Ok(self.staged(found, header, seed))
    }

    /// Makes what the staged volume says of an error, or of too little room, a failure of this copy.
    fn with_room<T>(&self, found: &Found, work: impl FnOnce(&Room<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let needed = found.manifest.bytes;
        let unwritable = |problem: &str, error: &io::Error| {
            let failure = Volume::Staged.failure(&format!("{problem}: {error}"), error);
            match (failure.reason, self.free()) {
                (Reason::StagingFull, Some(free)) => {
                    failure.and(format!("{free} bytes are free now, and the point needs {needed}"))
                }
                _ => failure,
            }
        };
        let too_small = |free: u64, needed: u64| {
            let name = Volume::Staged.name();
            let problem = format!("{name} has {free} bytes free and the point needs {needed}; nothing was copied");
            Failure::new(Reason::StagingFull, format!("{problem}; use a larger volume"))
        };
        work(&Room { unwritable: &unwritable, too_small: &too_small })
    }

    /// What an earlier run restored and did not tell is as good as restored now, if every byte is that of the point.
    fn recognise(&self, found: &Found) -> Result<Box<Staged>, Failure> {
        let mended = seed::wrong_headers(&found.store(), self.stop).map_err(|failure| found.unless_gone(failure))?;
        let expected = self.expected(found, &mended).map_err(|failure| found.unless_gone(failure))?;
        let step = start(Step::Verify);
        let there = files::read(&self.store, Purpose::Check, self.stop).map_err(|error| match error {
            TreeError::Stopped(_) | TreeError::Io { .. } | TreeError::Mode(_) => error.on(Volume::Staged),
            other => not_empty(&format!("the store on it is not the point's: {other}")),
        })?;
        if let Some(difference) = files::difference(&expected, &there) {
            return Err(not_empty(&format!("the store on it is not the point's: {difference}")));
        }
        drop(step);
        let header = self.with_room(found, |room| found.header(&self.store, room))?;
        let judged = seed::judge_on(Volume::Staged, &self.store, self.stop)?;
        self.seal(&self.store)?;
        self.flush_name()?;
        progress::message(
            Step::Verify,
            "an earlier run restored the point already; each file is what the manifest says",
        );
        Ok(self.staged(found, header, Seed { mended, ..judged }))
    }

    /// The files of the point as they are once these headers are mended.
    fn expected(&self, found: &Found, mended: &[MendedHeader]) -> Result<Vec<FileRecord>, Failure> {
        let mut expected = found.manifest.files.clone();
        for MendedHeader { file, to, .. } in mended {
            let cannot_read =
                |error: io::Error| restored::unreadable(&format!("cannot be read: {file}: {error}"), &error);
            let log = files::open(&found.store().join(file)).map_err(cannot_read)?;
            let digests = transaction_log::digests(log, *to, self.stop).map_err(|error| match error {
                LogError::Stopped(cause) => cause.into(),
                LogError::Read(error) => cannot_read(error),
                error => disagrees(&format!("{file}: {error}")),
            })?;
            let record = expected.iter_mut().find(|record| record.path == *file);
            match record {
                Some(record) if record.sha256 == digests.as_it_is => record.sha256 = digests.mended,
                _ => return Err(disagrees(&files::has_other_content(file))),
            }
        }
        Ok(expected)
    }

    /// Sets the modes of a copy that is whole, and waits until all of it is on the device.
    fn seal(&self, store: &Path) -> Result<(), Failure> {
        {
            let _step = start(Step::Stage);
            let listing = files::list(store).map_err(|error| error.on(Volume::Staged))?;
            let set = |path: PathBuf, mode| {
                if let Some(cause) = self.stop.cause() {
                    return Err(cause.into());
                }
                modes::set_mode(&path, mode).map_err(|error| error.on(Volume::Staged))
            };
            listing.files.iter().try_for_each(|(path, _)| set(store.join(path), self.run.file_mode))?;
            // Innermost first: the mode of a folder may close it.
            let folders = listing.folders.iter().rev();
            folders.map(|folder| store.join(folder)).try_for_each(|folder| set(folder, self.run.folder_mode))?;
        }
        let _step = start(Step::WriteBack);
        self.write_back.finish()
    }

    fn make_parents(&self) -> Result<(), Failure> {
        for folder in self.store_path.parents(self.root) {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(cannot("make the folder", &folder, &error));
                }
                _ => {}
            }
            modes::set_mode(&folder, self.run.folder_mode).map_err(|error| error.on(Volume::Staged))?;
        }
        Ok(())
    }

    /// Flushes the names of the store's folder and of those that it is in.
    fn flush_name(&self) -> Result<(), Failure> {
        let folders = self.store_path.parents(self.root);
        folders
            .iter()
            .rev()
            .map(PathBuf::as_path)
            .chain([self.root])
            .try_for_each(|folder| target::flush_folder(folder).map_err(|error| cannot("flush", folder, &error)))
    }

    fn free(&self) -> Option<u64> {
        space::read(self.root).ok().flatten().map(|space| space.free)
    }

    fn staged(&self, found: &Found, header: StoreHeader, seed: Seed) -> Box<Staged> {
        Box::new(Staged {
            manifest_digest: found.digest.clone(),
            store_id: header.store_id,
            last_transaction: header.last_transaction,
            files: found.manifest.files.len() as u64,
            bytes: found.manifest.bytes,
            seed,
            free_bytes: self.free(),
        })
    }
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> Failure {
    Volume::Staged.failure(&format!("cannot {action} {}: {error}", path.display()), error)
}

fn not_empty(what: &str) -> Failure {
    let name = Volume::Staged.name();
    Failure::new(
        Reason::StagingNotEmpty,
        format!(
            "{name} is not a new one: {what}; nothing of that was changed; use a new volume, or remove it yourself"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use crate::agent::testing;
    use rustix::process::Signal;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn run(store_path: &str, point: Option<StagePoint>) -> StageRun {
        StageRun { store_path: store_path.into(), point, folder_mode: 0o2750, file_mode: 0o640, deadline_seconds: 60 }
    }

    /// A published point, what asks for it at a nested store path, and an empty volume.
    fn point() -> (tempfile::TempDir, StageRun, tempfile::TempDir) {
        let (mount, place, digest) = testing::published();
        let point = StagePoint { place, owner_uid: Some("backup-uid".into()), manifest_digest: Some(digest) };
        (mount, run("data/graph.db", Some(point)), tempfile::tempdir().unwrap())
    }

    fn made(run: &StageRun, mount: &Path, staged: &Path) -> Result<Verdict, Failure> {
        make(run, mount, staged, &Stop::never())
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_point_is_staged_once_and_recognised_afterwards() {
        let (mount, run, staged) = point();
        fs::create_dir(staged.path().join(LOST_AND_FOUND)).unwrap();
        fs::create_dir_all(staged.path().join(STAGING_FOLDER).join("index")).unwrap();
        let Verdict::Staged(first) = made(&run, mount.path(), staged.path()).unwrap() else { panic!("not staged") };
        assert_eq!((first.files, first.bytes, first.last_transaction), (1, 69, 6));
        let store = staged.path().join("data/graph.db");
        assert_eq!(fs::read(store.join("neostore")).unwrap(), include_bytes!("../testing/neostore"));
        assert_eq!([mode(&store), mode(&staged.path().join("data"))], [0o2750; 2]);
        assert_eq!(mode(&store.join("neostore")), 0o640);
        assert!(!staged.path().join(STAGING_FOLDER).exists());
        let Verdict::Staged(second) = made(&run, mount.path(), staged.path()).unwrap() else { panic!("not staged") };
        assert_eq!(Staged { free_bytes: first.free_bytes, ..*second }, *first);
        // Another store than the point's stays as it is.
        fs::write(store.join("more"), "more").unwrap();
        let failure = made(&run, mount.path(), staged.path()).unwrap_err();
        assert_eq!(failure.reason, Reason::StagingNotEmpty);
        assert!(failure.message.contains("more should not be there"), "{}", failure.message);
        assert_eq!(fs::read(store.join("more")).unwrap(), b"more");
    }

    #[test]
    fn whatever_else_is_on_the_volume_is_refused_and_stays() {
        type Foreign = fn(&Path);
        let foreign: [Foreign; 6] = [
            |root| fs::write(root.join("file"), "").unwrap(),
            |root| fs::create_dir_all(root.join("data/other")).unwrap(),
            |root| fs::create_dir_all(root.join("data/lost+found")).unwrap(),
            |root| fs::write(root.join("data"), "").unwrap(),
            |root| symlink("/etc", root.join("data")).unwrap(),
            |root| {
                fs::create_dir(root.join("data")).unwrap();
                symlink("/etc", root.join("data/graph.db")).unwrap();
            },
        ];
        for (number, foreign) in foreign.iter().enumerate() {
            let (mount, with_point, staged) = point();
            foreign(staged.path());
            // Also of what it would remove itself.
            fs::create_dir(staged.path().join(STAGING_FOLDER)).unwrap();
            let before = files::list(staged.path()).map(|listing| (listing.files, listing.folders)).ok();
            for run in [&with_point, &run("data/graph.db", None)] {
                let failure = made(run, mount.path(), staged.path()).unwrap_err();
                assert_eq!(failure.reason, Reason::StagingNotEmpty, "{number}: {}", failure.message);
            }
            let after = files::list(staged.path()).map(|listing| (listing.files, listing.folders)).ok();
            assert_eq!(after, before, "{number}");
            assert!(staged.path().join(STAGING_FOLDER).exists());
        }
    }

    #[test]
    fn a_member_that_joins_empty_gets_the_folders_above_its_store_and_nothing_else() {
        let (mount, staged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(staged.path().join(STAGING_FOLDER).join("index")).unwrap();
        let nested = run("data/db/graph.db", None);
        for _ in 0..2 {
            assert_eq!(made(&nested, mount.path(), staged.path()), Ok(Verdict::Prepared));
            assert_eq!(mode(&staged.path().join("data/db")), 0o2750);
            assert_eq!(files::list(staged.path()).unwrap().folders, ["", "data", "data/db"]);
        }
        fs::create_dir(staged.path().join("data/db/graph.db")).unwrap();
        assert_eq!(made(&nested, mount.path(), staged.path()), Ok(Verdict::Prepared));
        fs::write(staged.path().join("data/db/graph.db/neostore"), "").unwrap();
        assert_eq!(made(&nested, mount.path(), staged.path()).unwrap_err().reason, Reason::StagingNotEmpty);
        let flat = tempfile::tempdir().unwrap();
        assert_eq!(made(&run("graph.db", None), mount.path(), flat.path()), Ok(Verdict::Prepared));
        assert_eq!(fs::read_dir(flat.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_run_that_has_to_end_leaves_nothing() {
        let (mount, run, staged) = point();
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert_eq!(make(&run, mount.path(), staged.path(), &stop).unwrap_err().reason, Reason::Interrupted);
        assert_eq!(fs::read_dir(staged.path()).unwrap().count(), 0);
        let run = StageRun { store_path: "../graph.db".into(), ..run };
        assert_eq!(made(&run, mount.path(), staged.path()).unwrap_err().reason, Reason::InvalidSpec);
    }
}
