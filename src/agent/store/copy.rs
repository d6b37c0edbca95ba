//! Copying a store: the tool changes what it works on, the engine what it opens, and points never change.
//!
//! Each file is cloned (`FICLONE`): both share their blocks until either is written. Where the file system
//! cannot, the bytes are copied; holes stay holes.

use crate::agent::progress::{self, Meter, Step, start};
use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::files::{self, Listing};
use crate::agent::volume::io_kind;
use crate::agent::volume::space;
use crate::api::{CopiedBy, Reason};
use crate::contract::failure::Failure;
use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

const BUFFER_BYTES: usize = 1 << 20;

/// Copies the store of `bytes` bytes to `to`, which is not there yet, for somebody who writes to what he opens.
pub fn scratch(store: &Path, to: &Path, bytes: u64, stop: &Stop) -> Result<(), Failure> {
    let _step = start(Step::Scratch);
    DirBuilder::new().mode(0o770).create(to).map_err(|error| cannot("make", &to.display().to_string(), &error))?;
    let origin = Origin {
        step: Step::Scratch,
        store,
        bytes,
        name: "the copy",
        unreadable: &|problem, error| {
            let problem = format!("the copy {problem}");
            if io_kind::may_pass(error) {
                return io_kind::target_failure(&problem, error);
            }
            Failure::new(Reason::VerificationFailed, problem)
        },
    };
    copy_files(&files::list(store)?, &origin, to, stop).map(drop)
}

/// A store that is copied.
pub struct Origin<'a> {
    /// The step that reports how far the copy is.
    pub step: Step,
    /// Its folder.
    pub store: &'a Path,
    /// Sum of its files' sizes, bytes.
    pub bytes: u64,
    /// What messages call it.
    pub name: &'a str,
    /// The failure that follows when it cannot be read because of this error. The text completes a sentence.
    pub unreadable: &'a dyn Fn(&str, &io::Error) -> Failure,
}

/// Copies the files of a store into the empty folder `to`, and says how.
///
/// A plain copy begins only if the target has room for all of it.
pub fn copy_files(listing: &Listing, origin: &Origin<'_>, to: &Path, stop: &Stop) -> Result<CopiedBy, Failure> {
    make_folders(listing, to)?;
    let mut by = CopiedBy::Reflink;
    let meter = Meter::new(origin.step, origin.bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    for (path, bytes) in &listing.files {
        if let Some(cause) = stop.cause() {
            return Err(cause.into());
        }
        let source = files::open(&origin.store.join(path))
            .map_err(|error| (origin.unreadable)(&format!("cannot be read: {path}: {error}"), &error))?;
        let copy = create(&to.join(path))?;
        if by == CopiedBy::Reflink && !clone(&copy, &source).map_err(|error| cannot("clone", path, &error))? {
            space::require(to, origin.bytes, origin.name)?;
            by = CopiedBy::Copy;
        }
        if by == CopiedBy::Copy {
            copy_bytes(&source, &copy, *bytes, &mut buffer, stop).map_err(|error| explain(error, origin, path))?;
        }
        meter.add(*bytes);
    }
    let how = match by {
        CopiedBy::Reflink => "cloned: they share blocks",
        CopiedBy::Copy => "copied: the file system cannot clone files",
    };
    let (files, bytes) = (listing.files.len(), origin.bytes);
    progress::message(origin.step, &format!("{files} files, {bytes} bytes of {} {how}", origin.name));
    Ok(by)
}

fn make_folders(listing: &Listing, to: &Path) -> Result<(), Failure> {
    // The first is the store itself, which is there.
    for folder in listing.folders.iter().skip(1) {
        DirBuilder::new().mode(0o770).create(to.join(folder)).map_err(|error| cannot("make", folder, &error))?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o660).open(path);
    file.map_err(|error| cannot("make", &path.display().to_string(), &error))
}

/// Lets `copy` share the blocks of `source`; false where the file system cannot.
fn clone(copy: &File, source: &File) -> io::Result<bool> {
    match ioctl_ficlone(copy, source) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[derive(Debug)]
enum CopyError {
    Read(io::Error),
    Write(io::Error),
    Stopped(StopCause),
}

fn explain(error: CopyError, origin: &Origin<'_>, path: &str) -> Failure {
    match error {
        CopyError::Read(error) => (origin.unreadable)(&format!("cannot be read: {path}: {error}"), &error),
        CopyError::Write(error) => cannot("copy", path, &error),
        CopyError::Stopped(cause) => cause.into(),
    }
}

fn cannot(action: &str, path: &str, error: &io::Error) -> Failure {
    io_kind::target_failure(&format!("cannot {action} {path} for a copy on the target: {error}"), error)
}

/// Copies `bytes` bytes, data only: what is a hole in `source` is one in `copy`.
fn copy_bytes(source: &File, copy: &File, bytes: u64, buffer: &mut [u8], stop: &Stop) -> Result<(), CopyError> {
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at, bytes).map_err(CopyError::Read)? {
        at = start;
        while at < end {
            if let Some(cause) = stop.cause() {
                return Err(CopyError::Stopped(cause));
            }
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let piece = &mut buffer[..wanted];
            read_twice(source, piece, at).map_err(CopyError::Read)?;
            copy.write_all_at(piece, at).map_err(CopyError::Write)?;
            at += wanted as u64;
        }
    }
    // For a hole at the end.
    copy.set_len(bytes).map_err(CopyError::Write)
}

/// What a device cannot read once it may read the second time.
fn read_twice(source: &File, piece: &mut [u8], at: u64) -> io::Result<()> {
    match source.read_exact_at(piece, at) {
        Err(error) if io_kind::may_pass(&error) => source.read_exact_at(piece, at),
        done => done,
    }
}

/// Where data begin and end, from `at` on; nothing if only a hole is left. Where the file system knows no holes, all is
/// data.
fn next_data(file: &File, at: u64, bytes: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= bytes {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Some((at, bytes))),
        Err(errno) => return Err(errno.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok((start < bytes).then_some((start, end.min(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn copied(source: &Path) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let bytes = fs::metadata(source).unwrap().len();
        let copy = create(&path).unwrap();
        copy_bytes(&File::open(source).unwrap(), &copy, bytes, &mut vec![0; BUFFER_BYTES], &Stop::never()).unwrap();
        assert!(fs::metadata(&path).unwrap().blocks() <= fs::metadata(source).unwrap().blocks() + 8);
        fs::read(&path).unwrap()
    }

    #[test]
    fn bytes_are_copied_and_holes_stay_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source");
        let file = File::create(&path).unwrap();
        let mib = 1 << 20;
        // A hole, data across two pieces, a hole, data, a hole at the end.
        file.write_all_at(&vec![1; mib + 5], 2 * mib as u64).unwrap();
        file.write_all_at(b"end", 8 * mib as u64).unwrap();
        file.set_len(12 * mib as u64 + 1).unwrap();
        assert_eq!(copied(&path), fs::read(&path).unwrap());
        for content in ["", "a"] {
            fs::write(&path, content).unwrap();
            assert_eq!(copied(&path), content.as_bytes());
        }
    }

    #[test]
    fn a_stopped_run_stops_copying() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("source"), "x").unwrap();
        let source = File::open(folder.path().join("source")).unwrap();
        let copy = create(&folder.path().join("copy")).unwrap();
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert!(matches!(copy_bytes(&source, &copy, 1, &mut [0; 8], &stop), Err(CopyError::Stopped(_))));
    }

    #[test]
    fn a_clone_is_a_copy_or_is_not_offered() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "x").unwrap();
        let source = File::open(folder.path().join("a")).unwrap();
        let copy = create(&folder.path().join("b")).unwrap();
        let cloned = clone(&copy, &source).unwrap();
        assert_eq!(fs::read(folder.path().join("b")).unwrap(), if cloned { "x".as_bytes() } else { b"" });
        // Another file system never can.
        let proc = File::open("/proc/self/status").unwrap();
        assert!(!clone(&copy, &proc).unwrap());
    }
}
