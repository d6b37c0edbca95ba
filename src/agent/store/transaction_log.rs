//! A transaction log of a store, read without Java: what its header says, and which transactions it holds.
//!
//! Format of the logs of Neo4j 1.5 to 1.8 (`XaLogicalLog`, `LogIoUtils` of the database's sources), the same for the
//! graph (`nioneo_logical.log.v<N>`) and for the legacy indexes (`index/lucene.log.v<N>`). All numbers are big-endian.
//!
//! ```text
//! header   u8 format (2), 7 bytes version, i64 last transaction before this log; -1 if the writer did not know it
//! start    1, see `history`
//! commit   5 (one phase) or 6 (two phases), i32 local number, i64 number of the transaction, i64 time
//! end      4, i32 local number
//! ```
//!
//! Only the database knows how long a command is. But it writes the end of a transaction right after its commit, under
//! one lock, and numbers transactions without a gap. So a commit is what looks like one, is followed by an end with the
//! same local number, and carries the next number. What carries another number is an error and not a guess.

use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::digest::Digest;
use crate::agent::store::files;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Start of the names of the logs of the graph, relative to the store.
pub const GRAPH_LOGS: &str = "nioneo_logical.log.";
/// Start of the names of the logs of the legacy indexes, relative to the store.
pub const INDEX_LOGS: &str = "index/lucene.log.";
/// Bytes of the header, which every log has.
pub const HEADER_BYTES: usize = 16;
/// Where the header holds the last transaction before the log.
pub const LAST_BEFORE_AT: u64 = 8;

const FORMAT: u8 = 2;
/// The bytes of the version; the first byte of the header is the format.
const VERSION_MASK: i64 = 0x00ff_ffff_ffff_ffff;
/// Between transactions a log holds nothing else; what was allocated and never written is zeros.
const EMPTY: u8 = 0;
/// Type of the entry with which a transaction begins.
pub const START: u8 = 1;
const END: u8 = 4;
/// Type of the commit entry of a transaction that changed the graph and the indexes.
pub const TWO_PHASES: u8 = 6;
/// Types of a commit entry.
pub const COMMITS: [u8; 2] = [5, TWO_PHASES];
const COMMIT_BYTES: usize = 1 + 4 + 8 + 8;
const END_BYTES: usize = 1 + 4;
/// Bytes of a commit entry and of the end that follows it.
pub const COMMIT_AND_END_BYTES: usize = COMMIT_BYTES + END_BYTES;
/// The number of the first transaction: 1 is the empty store.
const FIRST_TRANSACTION: i64 = 2;
/// Milliseconds since 1970 until the year 2248.
const TIME_MAX: i64 = 1 << 43;
/// Read at a time, bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// What a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLog {
    /// Its version, equal to the number in its name.
    pub version: i64,
    /// The last transaction before it, by its header; -1 if the writer did not know it.
    pub last_before: i64,
    /// The transactions that it holds; nothing if none was committed.
    pub commits: Option<Commits>,
}

/// Transactions without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commits {
    /// Number of the first one.
    pub first: i64,
    /// Number of the last one.
    pub last: i64,
}

/// A log cannot be read to its end, or is none.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The run has to end.
    #[error("stopped")]
    Stopped(StopCause),
    /// Shorter than its header.
    #[error("it has only {0} of the {HEADER_BYTES} bytes of a header")]
    Truncated(usize),
    /// Not the format of Neo4j 1.5 to 1.8.
    #[error("it has format {0} instead of {FORMAT}")]
    Format(u8),
    /// Its first entry is not the start of a transaction.
    #[error("its first entry is of type {0} instead of {START}")]
    Entry(u8),
    /// A transaction does not follow the one before.
    #[error("transaction {found} follows {before}")]
    Gap {
        /// Number of the earlier one.
        before: i64,
        /// Number of the one that follows.
        found: i64,
    },
    /// The number in its name is not the version in its header.
    #[error("its name says version {name}, its header {header}")]
    Version {
        /// By its name.
        name: i64,
        /// By its header.
        header: i64,
    },
}

/// Reads a log to its end, a fixed number of bytes at a time.
pub fn read(mut log: impl Read, stop: &Stop) -> Result<TransactionLog, LogError> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + COMMIT_BYTES + END_BYTES);
    log.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut buffer)?;
    let (version, last_before) = header(&buffer)?;
    let mut commits = None;
    let mut is_first_piece = true;
    buffer.clear();
    loop {
        if let Some(cause) = stop.cause() {
            return Err(LogError::Stopped(cause));
        }
        if log.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut buffer)? == 0 {
            break;
        }
        if std::mem::take(&mut is_first_piece) && !matches!(buffer[0], START | EMPTY) {
            return Err(LogError::Entry(buffer[0]));
        }
        let seen = scan(&buffer, &mut commits)?;
        buffer.drain(..seen);
    }
    // The end of the last transaction may be missing after a crash; its commit counts.
    if let Some(id) = buffer.len().checked_sub(COMMIT_BYTES).and_then(|at| commit(&buffer[at..])) {
        add(&mut commits, id)?;
    }
    Ok(TransactionLog { version, last_before, commits })
}

fn header(bytes: &[u8]) -> Result<(i64, i64), LogError> {
    let Some((version, rest)) = bytes.split_first_chunk() else { return Err(LogError::Truncated(bytes.len())) };
    let Some(last_before) = rest.first_chunk() else { return Err(LogError::Truncated(bytes.len())) };
    if version[0] != FORMAT {
        return Err(LogError::Format(version[0]));
    }
    Ok((i64::from_be_bytes(*version) & VERSION_MASK, i64::from_be_bytes(*last_before)))
}

/// Finds the commits in a piece of a log. Returns how many of its bytes need not be looked at again: what is left may
/// be the start of a commit, but holds no whole one.
fn scan(piece: &[u8], commits: &mut Option<Commits>) -> Result<usize, LogError> {
    let mut at = 0;
    while let Some(entries) = piece.get(at..).and_then(<[u8]>::first_chunk) {
        let ended = committed(entries);
        if let Some((_, id)) = ended {
            add(commits, id)?;
        }
        at += if ended.is_some() { COMMIT_AND_END_BYTES } else { 1 };
    }
    Ok(at)
}

/// Type and number of a commit, if these are the bytes of a commit entry and of the end that belongs to it.
pub fn committed(entries: &[u8; COMMIT_AND_END_BYTES]) -> Option<(u8, i64)> {
    let (entry, end) = entries.split_at(COMMIT_BYTES);
    if end[0] != END || end[1..] != entry[1..END_BYTES] {
        return None;
    }
    Some((entry[0], commit(entry)?))
}

/// The number of the transaction, if these are the bytes of a commit entry.
fn commit(entry: &[u8]) -> Option<i64> {
    let (kind, rest) = entry.split_first()?;
    let (local_number, rest) = rest.split_first_chunk()?;
    let (id, time) = rest.split_first_chunk()?;
    let id = i64::from_be_bytes(*id);
    let time = i64::from_be_bytes(*time.first_chunk()?);
    let is_plain = COMMITS.contains(kind)
        && i32::from_be_bytes(*local_number) > 0
        && id >= FIRST_TRANSACTION
        && (0..TIME_MAX).contains(&time);
    is_plain.then_some(id)
}

fn add(commits: &mut Option<Commits>, id: i64) -> Result<(), LogError> {
    *commits = match *commits {
        None => Some(Commits { first: id, last: id }),
        Some(Commits { first, last }) if last.checked_add(1) == Some(id) => Some(Commits { first, last: id }),
        Some(Commits { last, .. }) => return Err(LogError::Gap { before: last, found: id }),
    };
    Ok(())
}

/// The archived logs among the files of a store whose names begin with `prefix`, the newest first, with their versions.
pub fn archived<'a>(files: impl IntoIterator<Item = &'a str>, prefix: &str) -> Vec<(i64, &'a str)> {
    let version = |file: &'a str| {
        let digits = file.strip_prefix(prefix)?.strip_prefix('v')?;
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        Some((is_plain.then(|| digits.parse().ok())??, file))
    };
    let mut logs: Vec<(i64, &str)> = files.into_iter().filter_map(version).collect();
    logs.sort_unstable_by(|a, b| b.cmp(a));
    logs
}

/// The newest archived log that holds a transaction: its name relative to the store, and what it says. Nothing if no
/// log does.
///
/// `files` are the store's, relative to it. The error names the log that cannot be read.
pub fn newest<'a>(
    store: &Path,
    files: impl IntoIterator<Item = &'a str>,
    prefix: &str,
    stop: &Stop,
) -> Result<Option<(&'a str, TransactionLog)>, (String, LogError)> {
    for (version, name) in archived(files, prefix) {
        let of_log = |error| (name.to_owned(), error);
        let log = files::open(&store.join(name)).map_err(|error| of_log(error.into()))?;
        let read = read(log, stop).map_err(of_log)?;
        if read.version != version {
            return Err(of_log(LogError::Version { name: version, header: read.version }));
        }
        if read.commits.is_some() {
            return Ok(Some((name, read)));
        }
    }
    Ok(None)
}

/// Writes the last transaction before a log into its header.
pub fn set_last_before(log: &File, last_before: i64) -> io::Result<()> {
    log.write_all_at(&last_before.to_be_bytes(), LAST_BEFORE_AT)
}

/// SHA-256 of a whole log, 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDigests {
    /// Of its bytes.
    pub as_it_is: String,
    /// Of what [`set_last_before`] makes of it.
    pub mended: String,
}

/// Reads a log, and tells its digest before and after its header would be set.
pub fn digests(mut log: impl Read, last_before: i64, stop: &Stop) -> Result<LogDigests, LogError> {
    let mut header = [0; HEADER_BYTES];
    log.read_exact(&mut header).map_err(LogError::Read)?;
    let (mut as_it_is, mut mended) = (Digest::new(), Digest::new());
    as_it_is.update(&header);
    // The last transaction before the log ends the header.
    mended.update(&header[..HEADER_BYTES - size_of::<i64>()]);
    mended.update(&last_before.to_be_bytes());
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if let Some(cause) = stop.cause() {
            return Err(LogError::Stopped(cause));
        }
        let read = match log.read(&mut buffer) {
            Ok(0) => return Ok(LogDigests { as_it_is: as_it_is.finish(), mended: mended.finish() }),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(LogError::Read(error)),
        };
        as_it_is.update(&buffer[..read]);
        mended.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::store::digest;
    use proptest::prelude::*;
    use rustix::process::Signal;

    const INCREMENTAL: &[u8] = include_bytes!("../../../tests/recorded/log/incremental");
    const FULL_FROM_MASTER: &[u8] = include_bytes!("../../../tests/recorded/log/full-from-master");
    const FULL_FROM_SLAVE: &[u8] = include_bytes!("../../../tests/recorded/log/full-from-slave");

    fn parsed(log: &[u8]) -> TransactionLog {
        read(log, &Stop::never()).unwrap()
    }

    #[allow(clippy::unnecessary_wraps, reason = "as a log says it")]
    fn held(first: i64, last: i64) -> Option<Commits> {
        Some(Commits { first, last })
    }

    /// A start that is one byte, so that what is not looked at takes no room.
    fn transaction(kind: u8, local_number: i32, id: i64) -> Vec<u8> {
        let number = local_number.to_be_bytes();
        let time = 1_795_507_138_122_i64.to_be_bytes();
        [&[START, kind], &number[..], &id.to_be_bytes(), &time, &[END], &number].concat()
    }

    fn log(last_before: i64, transactions: &[Vec<u8>]) -> Vec<u8> {
        let version = 7 | i64::from(FORMAT) << 56;
        [&version.to_be_bytes()[..], &last_before.to_be_bytes(), &transactions.concat()].concat()
    }

    #[test]
    fn real_logs() {
        let expected = |version, last_before, commits| TransactionLog { version, last_before, commits };
        assert_eq!(parsed(INCREMENTAL), expected(2, 4, held(5, 6)));
        assert_eq!(parsed(FULL_FROM_MASTER), expected(2, -1, held(12, 12)));
        assert_eq!(parsed(FULL_FROM_SLAVE), expected(3, -1, held(12, 12)));
        assert_eq!(parsed(&INCREMENTAL[..HEADER_BYTES]), expected(2, 4, None));
    }

    #[test]
    fn a_commit_of_two_phases_is_one() {
        let both = [transaction(5, 1, 9), transaction(6, 2, 10), transaction(5, 3, 11)];
        assert_eq!(parsed(&log(8, &both)).commits, held(9, 11));
    }

    #[test]
    fn the_last_commit_counts_without_its_end() {
        let whole = &INCREMENTAL[..INCREMENTAL.len() - END_BYTES];
        assert_eq!(parsed(whole).commits, held(5, 6));
        assert_eq!(parsed(&whole[..whole.len() - 1]).commits, held(5, 5));
    }

    #[test]
    fn a_commit_across_pieces_is_found() {
        for shift in 0..=COMMIT_BYTES + END_BYTES {
            let mut bytes = log(1, &[transaction(5, 1, 2), vec![7; BUFFER_BYTES - 27 - shift]]);
            bytes.extend(transaction(5, 2, 3));
            assert_eq!(parsed(&bytes).commits, held(2, 3), "{shift}");
        }
    }

    #[test]
    fn what_is_no_log_is_refused_by_name() {
        let refused = |bytes: &[u8]| read(bytes, &Stop::never()).unwrap_err();
        assert!(matches!(refused(b""), LogError::Truncated(0)));
        assert!(matches!(refused(&INCREMENTAL[..15]), LogError::Truncated(15)));
        assert!(matches!(refused(&[1; 16]), LogError::Format(1)));
        let mut other = INCREMENTAL.to_vec();
        other[HEADER_BYTES] = 9;
        assert!(matches!(refused(&other), LogError::Entry(9)));
        let with_gap = log(1, &[transaction(5, 1, 2), transaction(5, 2, 4)]);
        assert!(matches!(refused(&with_gap), LogError::Gap { before: 2, found: 4 }));
        let repeated = log(1, &[transaction(5, 1, i64::MAX), transaction(5, 2, i64::MIN)]);
        assert_eq!(parsed(&repeated).commits, held(i64::MAX, i64::MAX), "a number below the first is none");
    }

    #[test]
    fn a_stopped_run_stops_reading() {
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert!(matches!(read(INCREMENTAL, &stop), Err(LogError::Stopped(_))));
    }

    #[test]
    fn the_newest_log_with_a_transaction_is_found() {
        let store = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(store.path().join(name), bytes).unwrap();
        let files = ["neostore", "nioneo_logical.log.1", "nioneo_logical.log.v10", "nioneo_logical.log.v2"];
        let newest = || newest(store.path(), files, GRAPH_LOGS, &Stop::never());
        write("nioneo_logical.log.v2", INCREMENTAL);
        let mut empty = log(6, &[]);
        empty[7] = 10;
        write("nioneo_logical.log.v10", &empty);
        assert_eq!(newest().unwrap().map(|(name, log)| (name, log.commits)), Some((files[3], held(5, 6))));
        write("nioneo_logical.log.v10", INCREMENTAL);
        let (name, error) = newest().unwrap_err();
        assert!(name.ends_with("v10") && matches!(error, LogError::Version { name: 10, header: 2 }), "{error}");
        std::fs::remove_file(store.path().join("nioneo_logical.log.v10")).unwrap();
        assert!(matches!(newest(), Err((_, LogError::Read(_)))));
        assert_eq!(super::newest(store.path(), [], INDEX_LOGS, &Stop::never()).unwrap(), None);
    }

    #[test]
    fn archived_logs_come_newest_first() {
        let files = ["index/lucene.log.v9", "index/lucene.log.v10", "index/lucene.log.1", "index/lucene.log.vx"];
        assert_eq!(archived(files, INDEX_LOGS), [(10, files[1]), (9, files[0])]);
        assert_eq!(archived(files, GRAPH_LOGS), []);
    }

    #[test]
    fn a_header_is_set_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), INCREMENTAL).unwrap();
        set_last_before(file.as_file(), 3).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(parsed(&bytes).last_before, 3);
        assert_eq!((&bytes[..8], &bytes[16..]), (&INCREMENTAL[..8], &INCREMENTAL[16..]));
        let told = digests(INCREMENTAL, 3, &Stop::never()).unwrap();
        assert_eq!(digest::labelled(INCREMENTAL), format!("sha256:{}", told.as_it_is));
        assert_eq!(digest::labelled(&bytes), format!("sha256:{}", told.mended));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_log_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = read(bytes.as_slice(), &Stop::never());
        }

        #[test]
        fn what_is_written_is_read(first in 2..1_i64 << 40, count in 0..40_i64, before: i64, filler in 0..60_usize) {
            let transactions: Vec<_> = (0..count)
                .map(|at| [transaction(5, 1 + i32::try_from(at).unwrap(), first + at), vec![START; filler]].concat())
                .collect();
            let read = parsed(&log(before, &transactions));
            prop_assert_eq!((read.version, read.last_before), (7, before));
            prop_assert_eq!(read.commits, (count > 0).then(|| Commits { first, last: first + count - 1 }));
        }
    }
}
