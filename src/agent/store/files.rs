//! The files of a store: finding them, hashing them, and comparing two lists of them.
//!
//! The **tree digest** is the SHA-256 of one line for each file, sorted by the bytes of its path:
//! `<sha256>  <bytes>  <path>\n` (hexadecimal, decimal, relative to the store with `/` between parts; two blanks between).
//! Folders count only through the files in them.

use crate::agent::progress::{Meter, Step};
use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::digest::Digest;
use crate::agent::store::manifest::FileRecord;
use crate::agent::volume::io_kind::{self, Volume};
use crate::agent::volume::modes::{self, ModeError};
use crate::agent::volume::target;
use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::fs::{Advice, OFlags, fadvise};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files in one store. A real store has some dozens, and one for each segment of its indexes.
const FILES_MAX: usize = 200_000;
/// Folders within folders. A real store has three.
const DEPTH_MAX: usize = 32;
/// Threads that read and hash at once: while one waits for the device the other hashes.
const THREADS: usize = 2;
const BUFFER_BYTES: usize = 1 << 20;
/// Mode of a kept file: its owner may write, the volume's group may read.
const FILE_MODE: u32 = 0o640;
/// Mode of a kept folder. The setgid bit, which the group comes with, stays.
const FOLDER_MODE: u32 = 0o750;

/// A store cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A link, a pipe, a device: something whose content is not in the store.
    #[error("{0} is neither a regular file nor a folder")]
    Kind(PathBuf),
    /// A name that holds a control character.
    #[error("the name of {0:?} holds a control character")]
    Name(PathBuf),
    /// A name that is not UTF-8: whoever wrote it had another locale.
    #[error("the name of {0:?} is not UTF-8: the process that made it has another locale")]
    Encoding(PathBuf),
    /// More files than any store has.
    #[error("the store has more than {FILES_MAX} files")]
    TooManyFiles,
    /// Deeper than any store is.
    #[error("{0} is more than {DEPTH_MAX} folders deep")]
    TooDeep(PathBuf),
    /// A file grew or shrank while it was read.
    #[error("{path} had {before} bytes and {read} when it was read: something still writes to it")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when it was found.
        before: u64,
        /// Bytes that were read.
        read: u64,
    },
    /// An input/output error.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it did not work.
        source: io::Error,
    },
    /// A mode cannot be set.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// The run has to end.
    #[error("stopped")]
    Stopped(StopCause),
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        error.on(Volume::Target)
    }
}

impl TreeError {
    /// The failure that it is for a store on this volume.
    pub fn on(self, volume: Volume) -> Failure {
        let message = self.to_string();
        match self {
            Self::Stopped(cause) => cause.into(),
            Self::Io { source, .. } => volume.failure(&message, &source),
            Self::Mode(error) => error.on(volume),
            Self::Encoding(_) => names_replaced(&message),
            Self::Kind(_) | Self::Name(_) | Self::TooManyFiles | Self::TooDeep(_) | Self::Changed { .. } => {
                Failure::new(
                    Reason::ToolLeftNoStore,
                    format!(
                        "what the tool left cannot be kept as a store: {message}; a store holds only its own files"
                    ),
                )
            }
        }
    }
}

/// The failure for a copy in which a name is not what it should be; `what` begins the sentence that says so.
pub fn names_replaced(what: &str) -> Failure {
    Failure::new(
        Reason::NamesReplaced,
        format!(
            "{what}: its characters were replaced, and after a restore the engine would not find the index; set LC_ALL in \
             spec.tool.env to a UTF-8 locale that the image has; if the member's own folder is named so, its process has \
             no UTF-8 locale either: give it one and build the index again"
        ),
    )
}

/// What else is done with the files while they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To keep them: their modes are set, and files and folders are flushed to the device.
    Keep,
    /// To check them: the kernel is asked to forget what it has in memory, so that the device is read.
    Check,
    /// To compare a parent's store, copied forward, with the parent's manifest. As for [`Self::Check`].
    Compare,
}

impl Purpose {
    fn step(self) -> Step {
        match self {
            Self::Keep => Step::Hash,
            Self::Check => Step::Verify,
            Self::Compare => Step::Compare,
        }
    }
}

/// What is in a store, before any file was read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Relative path and size, sorted by path.
    pub files: Vec<(String, u64)>,
    /// Relative paths, a folder after the one it is in; the first, empty one is the store itself.
    pub folders: Vec<String>,
}

/// Reads and hashes every file of a store. The result is sorted by path.
pub fn read(store: &Path, purpose: Purpose, stop: &Stop) -> Result<Vec<FileRecord>, TreeError> {
    let Listing { files, folders } = list(store)?;
    let records = hash_all(store, files, purpose, stop)?;
    if purpose == Purpose::Keep {
        // Innermost first: a folder that is flushed names only what is on the device already.
        folders.iter().rev().try_for_each(|folder| keep_folder(&store.join(folder)))?;
    }
    Ok(records)
}

/// The tree digest as the module describes it: `sha256:<hex>`.
pub fn tree_digest(files: &[FileRecord]) -> String {
    let mut digest = Digest::new();
    for file in files {
        digest.update(format!("{}  {}  {}\n", file.sha256, file.bytes, file.path).as_bytes());
    }
    format!("sha256:{}", digest.finish())
}

/// The first difference between what a manifest says and what is there, in words; both sorted by path.
pub fn difference(expected: &[FileRecord], found: &[FileRecord]) -> Option<String> {
    fn whole(file: &FileRecord) -> (&str, u64, &str) {
        (&file.path, file.bytes, &file.sha256)
    }
    first_difference(expected.iter().map(whole), found.iter().map(whole))
}

/// The same before any file was read: names and sizes only.
pub fn difference_unread(expected: &[FileRecord], found: &Listing) -> Option<String> {
    let expected = expected.iter().map(|file| (file.path.as_str(), file.bytes, ""));
    first_difference(expected, found.files.iter().map(|(path, bytes)| (path.as_str(), *bytes, "")))
}

/// Of each file: path, size, and digest.
fn first_difference<'a>(
    expected: impl Iterator<Item = (&'a str, u64, &'a str)>,
    mut found: impl Iterator<Item = (&'a str, u64, &'a str)>,
) -> Option<String> {
    for expected in expected {
        let (expected_path, expected_bytes, _) = expected;
        match found.next() {
            Some(file) if file == expected => {}
            Some((path, bytes, _)) if path == expected_path && bytes == expected_bytes => {
                return Some(has_other_content(path));
            }
            Some((path, bytes, _)) if path == expected_path => {
                return Some(format!("{path} has {bytes} bytes instead of {expected_bytes}"));
            }
            Some((path, ..)) if path < expected_path => return Some(format!("{path} should not be there")),
            _ => return Some(format!("{expected_path} is missing")),
        }
    }
    found.next().map(|(path, ..)| format!("{path} should not be there"))
}

/// What is said of a file whose digest is not the manifest's.
pub fn has_other_content(path: &str) -> String {
    format!("{path} has other content")
}

/// Sum of the sizes of those files in `now` that are in `before` with the same content; both sorted by path.
pub fn unchanged_bytes(before: &[FileRecord], now: &[FileRecord]) -> u64 {
    let is_unchanged = |file: &&FileRecord| {
        let found = before.binary_search_by(|old| old.path.cmp(&file.path));
        found.is_ok_and(|at| before[at] == **file)
    };
    now.iter().filter(is_unchanged).map(|file| file.bytes).sum()
}

/// Finds the files and folders of a store.
pub fn list(store: &Path) -> Result<Listing, TreeError> {
    let mut listing = Listing { files: Vec::new(), folders: vec![String::new()] };
    let mut next = 0;
    while next < listing.folders.len() {
        let folder = listing.folders[next].clone();
        if folder.split('/').count() > DEPTH_MAX {
            return Err(TreeError::TooDeep(store.join(folder)));
        }
        list_folder(store, &folder, &mut listing)?;
        next += 1;
    }
    listing.files.sort();
    Ok(listing)
}

fn list_folder(store: &Path, folder: &str, listing: &mut Listing) -> Result<(), TreeError> {
    let path = store.join(folder);
    let io = |source| TreeError::Io { action: "list", path: path.clone(), source };
    for entry in fs::read_dir(&path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| TreeError::Encoding(entry.path()))?;
        if name.contains(char::is_control) {
            return Err(TreeError::Name(entry.path()));
        }
        let relative = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        // Of the entry itself: a link is not followed.
        let metadata = entry.metadata().map_err(io)?;
        if metadata.is_dir() {
            listing.folders.push(relative);
        } else if metadata.is_file() {
            listing.files.push((relative, metadata.len()));
        } else {
            return Err(TreeError::Kind(entry.path()));
        }
        if listing.files.len() + listing.folders.len() > FILES_MAX {
            return Err(TreeError::TooManyFiles);
        }
    }
    Ok(())
}

fn hash_all(
    store: &Path,
    files: Vec<(String, u64)>,
    purpose: Purpose,
    stop: &Stop,
) -> Result<Vec<FileRecord>, TreeError> {
    let meter = Meter::new(purpose.step(), files.iter().map(|(_, bytes)| bytes).sum());
    let mut records = on_threads(files, |path, bytes, buffer| {
        let sha256 = hash_file(&store.join(&path), bytes, purpose, buffer, &meter, stop)?;
        Ok::<_, TreeError>(FileRecord { path, bytes, sha256 })
    })?;
    records.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(records)
}

/// Works through files, each with its path and size, on [`THREADS`] threads, each of which takes the next file when it has
/// done one, and has a buffer. The first failure ends it. The results come in any order. The paths are moved, not copied:
/// a store may have 200,000 of them.
pub fn on_threads<T: Send, E: Send>(
    mut files: Vec<(String, u64)>,
    work: impl Fn(String, u64, &mut [u8]) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    // The largest first, or it keeps one thread busy at the end while the other has nothing left to do.
    files.sort_unstable_by_key(|(_, bytes)| *bytes);
    let results = Mutex::new(Vec::with_capacity(files.len()));
    let files = Mutex::new(files);
    let take = || files.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || -> Result<(), E> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some((path, bytes)) = take() {
            let done = work(path, bytes, &mut buffer);
            if done.is_err() {
                // The others find nothing more to do.
                files.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            let done = done?;
            results.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn hash_file(
    path: &Path,
    bytes: u64,
    purpose: Purpose,
    buffer: &mut [u8],
    meter: &Meter,
    stop: &Stop,
) -> Result<String, TreeError> {
    let io = |action| move |source| TreeError::Io { action, path: path.to_owned(), source };
    if purpose == Purpose::Keep {
        modes::set_permissions(path, FILE_MODE)?;
    }
    let mut file = open(path).map_err(io("open"))?;
    advise(&file, purpose);
    let mut digest = Digest::new();
    let mut total = 0;
    loop {
        if let Some(cause) = stop.cause() {
            return Err(TreeError::Stopped(cause));
        }
        let read = match file.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What a device cannot read once it may read the second time.
            Err(error) if io_kind::may_pass(&error) => file.read(buffer).map_err(io("read"))?,
            Err(error) => return Err(io("read")(error)),
        };
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        total += read as u64;
        meter.add(read as u64);
    }
    if total != bytes {
        return Err(TreeError::Changed { path: path.to_owned(), before: bytes, read: total });
    }
    if purpose == Purpose::Keep {
        file.sync_all().map_err(io("flush"))?;
    }
    Ok(digest.finish())
}

/// Opens a file of a store for reading.
pub fn open(path: &Path) -> io::Result<File> {
    // No link and no pipe: whoever exchanged the file since it was listed gets an error, not our patience.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Tells the kernel how a file will be read. Advice only: file systems that do not know it are read all the same.
pub fn advise(file: &File, purpose: Purpose) {
    if purpose != Purpose::Keep {
        // Clean pages go, so that the device (or the file server) is asked. What was not flushed yet stays.
        let _ = fadvise(file, 0, None, Advice::DontNeed);
    }
    let _ = fadvise(file, 0, None, Advice::Sequential);
}

fn keep_folder(path: &Path) -> Result<(), TreeError> {
    modes::set_permissions(path, FOLDER_MODE)?;
    target::flush_folder(path).map_err(|source| TreeError::Io { action: "flush", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir_all(store.path().join("index/deep")).unwrap();
        fs::create_dir(store.path().join("branched")).unwrap();
        for (path, content) in [("neostore", "abc"), ("index/deep/a", ""), ("index.db", "x"), ("index/b", "y")] {
            fs::write(store.path().join(path), content).unwrap();
        }
        store
    }

    fn record(path: &str, bytes: u64, sha256: &str) -> FileRecord {
        FileRecord { path: path.into(), bytes, sha256: sha256.into() }
    }

    #[test]
    fn every_file_is_recorded_in_the_order_of_its_bytes() {
        let store = store();
        let records = read(store.path(), Purpose::Keep, &Stop::never()).unwrap();
        let paths: Vec<_> = records.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["index.db", "index/b", "index/deep/a", "neostore"]);
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(records[3], record("neostore", 3, abc));
        assert_eq!(read(store.path(), Purpose::Check, &Stop::never()).unwrap(), records);
        assert_eq!(difference(&records, &records), None);
    }

    #[test]
    fn a_kept_store_is_readable_by_the_group_and_by_nobody_else() {
        let store = store();
        let mode = |path: &str| fs::metadata(store.path().join(path)).unwrap().permissions().mode() & 0o7777;
        fs::set_permissions(store.path().join("neostore"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(store.path().join("index"), fs::Permissions::from_mode(0o2777)).unwrap();
        read(store.path(), Purpose::Keep, &Stop::never()).unwrap();
        assert_eq!((mode("neostore"), mode("index/b")), (0o640, 0o640));
        assert_eq!((mode("index"), mode("branched"), mode("")), (0o2750, 0o750, 0o750));
    }

    #[test]
    fn links_and_pipes_are_refused_by_name() {
        let store = store();
        let link = store.path().join("index/link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let refused = read(store.path(), Purpose::Keep, &Stop::never()).unwrap_err();
        assert!(matches!(&refused, TreeError::Kind(path) if *path == link));
        let failure: Failure = refused.into();
        assert_eq!(failure.reason, Reason::ToolLeftNoStore);
        fs::remove_file(&link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &link, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(read(store.path(), Purpose::Keep, &Stop::never()), Err(TreeError::Kind(_))));
    }

    #[test]
    fn names_that_would_spoil_the_digest_are_refused() {
        let store = store();
        fs::write(store.path().join("a\nb"), "").unwrap();
        assert!(matches!(read(store.path(), Purpose::Keep, &Stop::never()), Err(TreeError::Name(_))));
        fs::remove_file(store.path().join("a\nb")).unwrap();
        // "ü" in Latin-1.
        fs::write(store.path().join(OsStr::from_bytes(b"B\xfccher")), "").unwrap();
        let failure: Failure = read(store.path(), Purpose::Keep, &Stop::never()).unwrap_err().into();
        assert_eq!(failure.reason, Reason::NamesReplaced);
    }

    #[test]
    fn a_store_without_end_is_refused() {
        let store = store();
        fs::create_dir_all(store.path().join(vec!["d"; DEPTH_MAX + 1].join("/"))).unwrap();
        assert!(matches!(read(store.path(), Purpose::Keep, &Stop::never()), Err(TreeError::TooDeep(_))));
    }

    #[test]
    fn a_stopped_run_stops_reading() {
        let cause = StopCause::Signal(Signal::TERM);
        let stopped = read(store().path(), Purpose::Keep, &Stop::at_once(cause)).unwrap_err();
        let failure: Failure = stopped.into();
        assert_eq!(failure.reason, Reason::Interrupted);
    }

    #[test]
    fn the_tree_digest_is_the_hash_of_its_lines() {
        let files = [record("a", 1, "aa"), record("b c", 20, "bb")];
        assert_eq!(tree_digest(&files), crate::agent::store::digest::labelled(b"aa  1  a\nbb  20  b c\n"));
    }

    #[test]
    fn only_unchanged_files_count_as_shared() {
        let before = [record("a", 1, "aa"), record("b", 2, "bb"), record("d", 8, "dd")];
        let now = [record("a", 1, "aa"), record("b", 2, "xx"), record("c", 4, "cc"), record("d", 8, "dd")];
        assert_eq!(unchanged_bytes(&before, &now), 9);
        assert_eq!(unchanged_bytes(&[], &now), 0);
    }

    #[test]
    fn the_first_difference_is_named() {
        let all = [record("a", 1, "aa"), record("b", 2, "bb"), record("d", 3, "dd")];
        let with = |index: usize, file: FileRecord| {
            let mut changed = all.clone();
            changed[index] = file;
            difference(&all, &changed)
        };
        assert_eq!(difference(&all, &all[..2]).as_deref(), Some("d is missing"));
        assert_eq!(difference(&all, &all[1..]).as_deref(), Some("a is missing"));
        assert_eq!(difference(&all[..2], &all).as_deref(), Some("d should not be there"));
        assert_eq!(difference(&all[1..], &all).as_deref(), Some("a should not be there"));
        assert_eq!(with(1, record("b", 2, "xx")).as_deref(), Some("b has other content"));
        assert_eq!(with(1, record("b", 9, "bb")).as_deref(), Some("b has 9 bytes instead of 2"));
        assert_eq!(with(1, record("c", 2, "bb")).as_deref(), Some("b is missing"));
    }

    #[test]
    fn before_a_file_is_read_its_name_and_its_size_can_differ() {
        let all = [record("a", 1, "aa"), record("b", 2, "bb")];
        let found = |files: &[(&str, u64)]| {
            let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), *bytes)).collect();
            difference_unread(&all, &Listing { files, folders: Vec::new() })
        };
        assert_eq!(found(&[("a", 1), ("b", 2)]), None);
        assert_eq!(found(&[("a", 1)]).as_deref(), Some("b is missing"));
        assert_eq!(found(&[("a", 1), ("b", 3)]).as_deref(), Some("b has 3 bytes instead of 2"));
        assert_eq!(found(&[("a", 1), ("b", 2), ("c", 0)]).as_deref(), Some("c should not be there"));
    }
}
