//! `agent carry`: the new volume of a member gets what its own volume holds besides the store. The member is stopped, and
//! its own volume is only read.
//!
//! Modes, times of the last change and owners are kept as far as the pod's user may set them. A symbolic link stays the
//! link that it is. A run that was killed is run again: it replaces every file that is there.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Meter, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::copy::{BUFFER_BYTES, CopyError, copy_bytes};
use crate::agent::store::files;
use crate::agent::volume::io_kind::Volume;
use crate::agent::volume::member::{StorePath, Visit, Walk, unreadable};
use crate::agent::volume::modes;
use crate::agent::volume::space;
use crate::agent::volume::write_back::WriteBack;
use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::task::CarryRun;
use crate::contract::verdict::{Carried, Verdict};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Permissions, setuid, setgid and sticky.
const MODE_BITS: u32 = 0o7777;
/// What a file loses that changes its owner: whoever executes it would act as somebody else.
const SET_ID_BITS: u32 = 0o6000;
/// A folder's mode while it is filled.
const OWNER_BITS: u32 = 0o700;
/// A file's mode while it is filled.
const NEW_FILE_MODE: u32 = 0o600;

/// Copies from the volume at `source` to that at `staged`.
pub async fn carry(run: CarryRun, source: &Path, staged: &Path, stop: &Stop) -> Verdict {
    let (source, staged, stop) = (source.to_owned(), staged.to_owned(), stop.clone());
    match blocking(move || copy(&run, &source, &staged, &stop)).await {
        Ok(carried) => Verdict::Carried(carried),
        Err(failure) => Verdict::Failed(failure),
    }
}

fn copy(run: &CarryRun, source: &Path, staged: &Path, stop: &Stop) -> Result<Carried, Failure> {
    let _step = start(Step::Carry);
    let store_path = StorePath::new(&run.store_path)?;
    store_path.find(source)?;
    // Before the first byte is written.
    let write_back = WriteBack::watch(Volume::Staged, staged, Step::Carry)?;
    let needed = measure(source, &store_path, stop)?;
    require_room(staged, &store_path, needed, stop)?;
    let mut copier = Copier {
        source,
        staged,
        stop,
        meter: Meter::new(Step::Carry, needed),
        buffer: vec![0; BUFFER_BYTES],
        carried: Carried { files: 0, bytes: 0, other_owner_files: 0 },
    };
    Walk { mount: source, live: false, stop }.outside(&store_path, &mut copier)?;
    let carried = copier.carried;
    write_back.finish()?;
    let Carried { files, bytes, other_owner_files } = carried;
    let message =
        format!("{files} files, {bytes} bytes carried; {other_owner_files} of another user are now the pod's user's");
    progress::message(Step::Carry, &message);
    Ok(carried)
}

/// Sum of the sizes of the files outside of the store.
fn measure(mount: &Path, store: &StorePath, stop: &Stop) -> Result<u64, Failure> {
    let mut sum = Sum(0);
    Walk { mount, live: false, stop }.outside(store, &mut sum)?;
    Ok(sum.0)
}

/// Refuses to begin what the staged volume cannot hold. What a killed run carried is there already, and is replaced.
fn require_room(staged: &Path, store: &StorePath, needed: u64, stop: &Stop) -> Result<(), Failure> {
    let Some(free) = free(staged) else { return Ok(()) };
    if needed <= free {
        return Ok(());
    }
    // What cannot be told is not there; whatever fails here fails again when files are written.
    let there = measure(staged, store, stop).unwrap_or(0);
    if let Some(cause) = stop.cause() {
        return Err(cause.into());
    }
    if needed <= free.saturating_add(there) {
        return Ok(());
    }
    Err(Failure::new(
        Reason::StagingFull,
        format!(
            "the staged volume has {free} bytes free, and what lies beside the store on the member's own volume needs \
             {needed}; nothing was copied; use a larger volume"
        ),
    ))
}

fn free(staged: &Path) -> Option<u64> {
    space::read(staged).ok().flatten().map(|space| space.free)
}

/// Adds up sizes.
struct Sum(u64);

impl Visit for Sum {
    fn enter(&mut self, _: &Path, _: &Metadata) -> Result<(), Failure> {
        Ok(())
    }

    fn file(&mut self, _: &Path, metadata: &Metadata) -> Result<(), Failure> {
        self.0 += if metadata.is_file() { metadata.len() } else { 0 };
        Ok(())
    }

    fn leave(&mut self, _: &Path, _: &Metadata) -> Result<(), Failure> {
        Ok(())
    }
}

/// Copies what it is shown.
struct Copier<'a> {
    source: &'a Path,
    staged: &'a Path,
    stop: &'a Stop,
    meter: Meter,
    buffer: Vec<u8>,
    carried: Carried,
}

impl Visit for Copier<'_> {
    fn enter(&mut self, path: &Path, _: &Metadata) -> Result<(), Failure> {
        let to = self.staged.join(path);
        match DirBuilder::new().mode(OWNER_BITS).create(&to) {
            Ok(()) => Ok(()),
            // Made for the store, or by a run that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = fs::symlink_metadata(&to).map_err(|error| unwritable("look at", path, &error))?;
                if !there.is_dir() {
                    return Err(in_the_way(path));
                }
                modes::set_mode(&to, there.mode() & MODE_BITS | OWNER_BITS).map_err(|error| error.on(Volume::Staged))
            }
            Err(error) => Err(unwritable("make the folder", path, &error)),
        }
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        let to = self.staged.join(path);
        remove(path, &to)?;
        let bytes = if metadata.is_symlink() {
            let leads_to = fs::read_link(self.source.join(path)).map_err(|error| unreadable(path, &error))?;
            symlink(leads_to, &to).map_err(|error| self.cannot_write("make", path, &error))?;
            0
        } else {
            self.copy_content(path, &to)?
        };
        if !keep(path, &to, metadata)? {
            self.carried.other_owner_files += 1;
        }
        self.carried.files += 1;
        self.carried.bytes += bytes;
        Ok(())
    }

    fn leave(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        keep(path, &self.staged.join(path), metadata).map(drop)
    }
}

impl Copier<'_> {
    fn copy_content(&mut self, path: &Path, to: &Path) -> Result<u64, Failure> {
        let open = || -> io::Result<(File, u64)> {
            let file = files::open(&self.source.join(path))?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (source, bytes) = open().map_err(|error| unreadable(path, &error))?;
        let created = OpenOptions::new().write(true).create_new(true).mode(NEW_FILE_MODE).open(to);
        let copy = created.map_err(|error| self.cannot_write("make", path, &error))?;
        copy_bytes(&source, &copy, bytes, &mut self.buffer, self.stop, None).map_err(|error| match error {
            CopyError::Read(error) => unreadable(path, &error),
            CopyError::Write(error) => self.cannot_write("copy", path, &error),
            CopyError::Stopped(cause) => cause.into(),
        })?;
        self.meter.add(bytes);
        Ok(bytes)
    }

    /// The failure when a file cannot be written; of a full volume with the free space.
    fn cannot_write(&self, action: &str, path: &Path, error: &io::Error) -> Failure {
        let failure = unwritable(action, path, error);
        match (failure.reason, free(self.staged)) {
            (Reason::StagingFull, Some(free)) => failure.and(format!(
                "{free} bytes are free, and of what lies beside the store {} bytes had been copied before",
                self.carried.bytes
            )),
            _ => failure,
        }
    }
}

fn unwritable(action: &str, path: &Path, error: &io::Error) -> Failure {
    Volume::Staged.failure(&format!("cannot {action} {}: {error}", path.display()), error)
}

fn in_the_way(path: &Path) -> Failure {
    Failure::new(
        Reason::StagingNotEmpty,
        format!("the staged volume holds something else under the name {}; nothing of it was changed", path.display()),
    )
}

/// Removes the file of a run that was killed.
fn remove(path: &Path, to: &PathBuf) -> Result<(), Failure> {
    match fs::symlink_metadata(to) {
        Ok(there) if there.is_dir() => Err(in_the_way(path)),
        Ok(_) => fs::remove_file(to).map_err(|error| unwritable("replace", path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unwritable("look at", path, &error)),
    }
}

/// Gives the copy the owner, the mode and the time of the last change that the original has. False if it has another
/// owner.
fn keep(path: &Path, to: &PathBuf, original: &Metadata) -> Result<bool, Failure> {
    let io = |action| move |error| unwritable(action, path, &error);
    let copy = fs::symlink_metadata(to).map_err(io("look at"))?;
    let (uid, gid) = (original.uid(), original.gid());
    let mut owned = copy.uid() == uid;
    let mut grouped = copy.gid() == gid;
    if !owned {
        owned = unless_refused(lchown(to, Some(uid), Some(gid))).map_err(io("set the owner of"))?;
        grouped |= owned;
    }
    if !grouped {
        grouped = unless_refused(lchown(to, None, Some(gid))).map_err(io("set the group of"))?;
    }
    if !original.is_symlink() {
        let mode = original.mode() & MODE_BITS;
        // Of a folder, setgid says only which group new files get.
        let kept = if original.is_dir() || (owned && grouped) { mode } else { mode & !SET_ID_BITS };
        modes::set_mode(to, kept).map_err(|error| error.on(Volume::Staged))?;
    }
    let time = Timespec { tv_sec: original.mtime(), tv_nsec: original.mtime_nsec() };
    let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: time };
    let set = utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
    unless_refused(set).map_err(io("set the time of"))?;
    Ok(owned)
}

/// False if this user or this file system may not do it.
fn unless_refused(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if modes::is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use rustix::io::Errno;
    use rustix::process::Signal;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    fn carried(source: &Path, staged: &Path) -> Result<Carried, Failure> {
        copy(&CarryRun { store_path: "data/graph.db".into(), deadline_seconds: 60 }, source, staged, &Stop::never())
    }

    fn volumes() -> (tempfile::TempDir, tempfile::TempDir) {
        let (source, staged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for volume in [&source, &staged] {
            fs::create_dir_all(volume.path().join("data/graph.db")).unwrap();
        }
        fs::write(source.path().join("data/graph.db/neostore"), "old").unwrap();
        (source, staged)
    }

    #[test]
    fn what_a_killed_run_left_is_replaced() {
        let (source, staged) = volumes();
        fs::write(source.path().join("a"), "whole").unwrap();
        symlink("new", source.path().join("link")).unwrap();
        fs::create_dir(source.path().join("closed")).unwrap();
        fs::write(source.path().join("closed/b"), "b").unwrap();
        fs::set_permissions(source.path().join("closed"), Permissions::from_mode(0o555)).unwrap();
        let file = File::options().write(true).open(source.path().join("a")).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
        file.set_modified(time).unwrap();
        fs::write(staged.path().join("a"), "par").unwrap();
        symlink("old", staged.path().join("link")).unwrap();
        for _ in 0..2 {
            let done = carried(source.path(), staged.path()).unwrap();
            assert_eq!((done.files, done.bytes, done.other_owner_files), (3, 6, 0));
            let in_staged = |path: &str| staged.path().join(path);
            assert_eq!(fs::read(in_staged("a")).unwrap(), b"whole");
            assert_eq!(fs::metadata(in_staged("a")).unwrap().modified().unwrap(), time);
            assert_eq!(fs::read_link(in_staged("link")).unwrap(), Path::new("new"));
            assert_eq!(fs::metadata(in_staged("closed")).unwrap().mode() & MODE_BITS, 0o555);
            assert!(!in_staged("data/graph.db/neostore").exists());
        }
    }

    #[test]
    fn what_is_not_a_file_is_never_replaced() {
        let (source, staged) = volumes();
        fs::write(source.path().join("a"), "file").unwrap();
        fs::create_dir_all(staged.path().join("a/b")).unwrap();
        assert_eq!(carried(source.path(), staged.path()).unwrap_err().reason, Reason::StagingNotEmpty);
        assert!(staged.path().join("a/b").is_dir());
        fs::remove_file(source.path().join("a")).unwrap();
        fs::remove_dir_all(staged.path().join("a")).unwrap();
        fs::create_dir(source.path().join("a")).unwrap();
        symlink("/etc", staged.path().join("a")).unwrap();
        assert_eq!(carried(source.path(), staged.path()).unwrap_err().reason, Reason::StagingNotEmpty);
    }

    #[test]
    fn a_run_that_has_to_end_ends() {
        let (source, staged) = volumes();
        let run = CarryRun { store_path: "graph.db".into(), deadline_seconds: 60 };
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert_eq!(copy(&run, source.path(), staged.path(), &stop).unwrap_err().reason, Reason::Interrupted);
    }

    #[test]
    fn a_refusal_is_told_from_an_error() {
        let of = |errno: Errno| unless_refused(Err(errno.into()));
        assert!(!of(Errno::PERM).unwrap() && !of(Errno::OPNOTSUPP).unwrap() && unless_refused(Ok(())).unwrap());
        assert!(of(Errno::IO).is_err() && of(Errno::ROFS).is_err());
    }
}
