//! Copying a store: the tool changes what it works on, the engine what it opens, and points never change.
//!
//! Each file is cloned (`FICLONE`): both share their blocks until either is written. Where the file system
//! cannot, the bytes are copied; holes stay holes. A drill never clones: it reads every byte.

use crate::agent::progress::{self, Meter, Step, start};
use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::digest::Digest;
use crate::agent::store::files::{self, Listing, Purpose};
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

/// Size of the buffer that a copy works with.
pub const BUFFER_BYTES: usize = 1 << 20;

/// Copies the store of `bytes` bytes to `to`, which is not there yet, for somebody who writes to what he opens.
pub fn scratch(store: &Path, to: &Path, bytes: u64, stop: &Stop) -> Result<(), Failure> {
    let _step = start(Step::Scratch);
    let to = Destination::on_target(to);
    to.make()?;
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
    copy_files(&files::list(store)?, &origin, to.folder, stop).map(drop)
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
    pub unreadable: &'a (dyn Fn(&str, &io::Error) -> Failure + Sync),
}

impl Origin<'_> {
    fn open(&self, path: &str) -> Result<File, Failure> {
        files::open(&self.store.join(path)).map_err(|error| self.cannot_read(path, &error))
    }

    fn cannot_read(&self, path: &str, error: &io::Error) -> Failure {
        (self.unreadable)(&format!("cannot be read: {path}: {error}"), error)
    }
}

/// Where a store is copied to.
pub struct Destination<'a> {
    /// Folder of the copy.
    pub folder: &'a Path,
    /// The failure that follows when something there cannot be done because of this error. The text says what, such as
    /// "cannot make neostore".
    pub unwritable: &'a (dyn Fn(&str, &io::Error) -> Failure + Sync),
}

impl<'a> Destination<'a> {
    fn on_target(folder: &'a Path) -> Self {
        Self {
            folder,
            unwritable: &|problem, error| {
                io_kind::target_failure(&format!("{problem} for a copy on the target: {error}"), error)
            },
        }
    }

    /// Makes the folder itself, which is not there yet.
    pub fn make(&self) -> Result<(), Failure> {
        self.make_folder(self.folder)
    }

    fn make_folder(&self, path: &Path) -> Result<(), Failure> {
        let made = DirBuilder::new().mode(0o770).create(path);
        made.map_err(|error| self.cannot("make", &path.display().to_string(), &error))
    }

    fn make_folders(&self, listing: &Listing) -> Result<(), Failure> {
        // The first is the store itself, which is there.
        listing.folders.iter().skip(1).try_for_each(|folder| self.make_folder(&self.folder.join(folder)))
    }

    fn create(&self, path: &str) -> Result<File, Failure> {
        create(&self.folder.join(path)).map_err(|error| self.cannot("make", path, &error))
    }

    fn cannot(&self, action: &str, path: &str, error: &io::Error) -> Failure {
        (self.unwritable)(&format!("cannot {action} {path}"), error)
    }
}

/// Copies the files of a store into the empty folder `to`, and says how.
///
/// A plain copy begins only if the target has room for all of it.
pub fn copy_files(listing: &Listing, origin: &Origin<'_>, to: &Path, stop: &Stop) -> Result<CopiedBy, Failure> {
    let to = Destination::on_target(to);
    to.make_folders(listing)?;
    let mut by = CopiedBy::Reflink;
    let meter = Meter::new(origin.step, origin.bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    for (path, bytes) in &listing.files {
        if let Some(cause) = stop.cause() {
            return Err(cause.into());
        }
        let (source, copy) = (origin.open(path)?, to.create(path)?);
        if by == CopiedBy::Reflink && !clone(&copy, &source).map_err(|error| to.cannot("clone", path, &error))? {
            space::require(to.folder, origin.bytes, origin.name)?;
            by = CopiedBy::Copy;
        }
        if by == CopiedBy::Copy {
            let copied = copy_bytes(&source, &copy, *bytes, &mut buffer, stop, None);
            copied.map_err(|error| explain(error, origin, &to, path))?;
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

/// Copies the files of a store into an empty folder on another volume. Each byte is read once, from the device, and
/// hashed on its way; `judge` gets the path and the digest of each file, and its failure ends the copying.
pub fn copy_hashed(
    listing: Listing,
    origin: &Origin<'_>,
    to: &Destination<'_>,
    judge: &(dyn Fn(&str, &str) -> Result<(), Failure> + Sync),
    stop: &Stop,
) -> Result<(), Failure> {
    to.make_folders(&listing)?;
    let meter = Meter::new(origin.step, origin.bytes);
    let copy_file = |path: String, bytes: u64, buffer: &mut [u8]| {
        if let Some(cause) = stop.cause() {
            return Err(cause.into());
        }
        let (source, copy) = (origin.open(&path)?, to.create(&path)?);
        files::advise(&source, Purpose::Check);
        let mut digest = Digest::new();
        let mut see = |piece: &[u8]| {
            digest.update(piece);
            meter.add(piece.len() as u64);
        };
        let copied = copy_bytes(&source, &copy, bytes, buffer, stop, Some(&mut see));
        copied.map_err(|error| explain(error, origin, to, &path))?;
        judge(&path, &digest.finish())
    };
    files::on_threads(listing.files, copy_file).map(drop)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o660).open(path)
}

/// Lets `copy` share the blocks of `source`; false where the file system cannot.
fn clone(copy: &File, source: &File) -> io::Result<bool> {
    match ioctl_ficlone(copy, source) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The content of a file cannot be copied.
#[derive(Debug)]
pub enum CopyError {
    /// It cannot be read.
    Read(io::Error),
    /// The copy cannot be written.
    Write(io::Error),
    /// The run has to end.
    Stopped(StopCause),
}

fn explain(error: CopyError, origin: &Origin<'_>, to: &Destination<'_>, path: &str) -> Failure {
    match error {
        CopyError::Read(error) => origin.cannot_read(path, &error),
        CopyError::Write(error) => to.cannot("copy", path, &error),
        CopyError::Stopped(cause) => cause.into(),
    }
}

/// Gets what is copied, piece by piece.
pub type See<'a> = dyn FnMut(&[u8]) + 'a;

/// Copies `bytes` bytes, data only: what is a hole in `source` is one in `copy`. `see` gets all of them in their order,
/// those of holes as zeros.
pub fn copy_bytes(
    source: &File,
    copy: &File,
    bytes: u64,
    buffer: &mut [u8],
    stop: &Stop,
    mut see: Option<&mut See<'_>>,
) -> Result<(), CopyError> {
    let mut at = 0;
    while at < bytes {
        // Nothing but a hole is left where there are no more data.
        let (start, end) = next_data(source, at, bytes).map_err(CopyError::Read)?.unwrap_or((bytes, bytes));
        if let Some(see) = &mut see {
            see_hole(start - at, buffer, stop, *see)?;
        }
        at = start;
        while at < end {
            let piece = next_piece(end - at, buffer, stop)?;
            read_twice(source, piece, at).map_err(CopyError::Read)?;
            if let Some(see) = &mut see {
                see(piece);
            }
            copy.write_all_at(piece, at).map_err(CopyError::Write)?;
            at += piece.len() as u64;
        }
    }
    // For a hole at the end.
    copy.set_len(bytes).map_err(CopyError::Write)
}

/// So much of the buffer as is left to do, unless the run has to end.
fn next_piece<'a>(left: u64, buffer: &'a mut [u8], stop: &Stop) -> Result<&'a mut [u8], CopyError> {
    if let Some(cause) = stop.cause() {
        return Err(CopyError::Stopped(cause));
    }
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    Ok(&mut buffer[..wanted])
}

fn see_hole(mut left: u64, buffer: &mut [u8], stop: &Stop, see: &mut See<'_>) -> Result<(), CopyError> {
    while left > 0 {
        let piece = next_piece(left, buffer, stop)?;
        piece.fill(0);
        see(piece);
        left -= piece.len() as u64;
    }
    Ok(())
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
        let (file, buffer, mut seen) = (File::open(source).unwrap(), &mut vec![0; BUFFER_BYTES], Vec::new());
        let mut see = |piece: &[u8]| seen.extend_from_slice(piece);
        copy_bytes(&file, &copy, bytes, buffer, &Stop::never(), Some(&mut see)).unwrap();
        assert!(seen == fs::read(source).unwrap(), "holes and data are seen as they are read");
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
        let copied = |bytes| copy_bytes(&source, &copy, bytes, &mut [0; 8], &stop, None);
        assert!(matches!(copied(1), Err(CopyError::Stopped(_))));
        let hole = see_hole(1 << 50, &mut [0; 8], &stop, &mut |_| {});
        assert!(matches!(hole, Err(CopyError::Stopped(_))));
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
