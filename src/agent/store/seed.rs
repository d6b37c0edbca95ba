//! Whether a cluster can start from a store: judged by its transaction logs, mended where bytes can mend it.
//!
//! A slave that joins asks the master for the last transaction that both hold. The master looks for it in its logs, the
//! newest first, and trusts their headers. A store has two kinds of log, for the graph and for the legacy indexes. The
//! tool of Neo4j 1.8 leaves either with one of two faults when transactions are committed during a full copy:
//!
//! * **The header names the last transaction of its own log**, where the one before its first belongs. Slaves join,
//!   then fail every pull and every write. The header is mended by writing *first − 1* into it.
//! * **The last transaction of the store is in no log**; the newest log holds a later one, which is not in the store.
//!   If it is one of the graph, slaves never join; a further transaction mends that. If it is one of the indexes, they
//!   join, but the indexes lack what the last transactions changed; only these transactions mend that.
//!
//! A third fault hides from both logs: the last transaction changed the graph and the indexes, and the tool fetched
//! only the half of the graph (see [`two_phase`]). The index then lacks its entries; the next transactions bring them.
//!
//! The last transaction of the indexes stands in `index/lucene-store.db`: five big-endian 64-bit numbers, creation
//! time, random id, version of the current log, last committed transaction (1 if there was none), format
//! (`IndexProviderStore` of the database's sources).

use crate::agent::progress::{Step, message, start};
use crate::agent::stop::Stop;
use crate::agent::store::files;
use crate::agent::store::header;
use crate::agent::store::history::SearchError;
use crate::agent::store::transaction_log::{self, Commits, GRAPH_LOGS, INDEX_LOGS, LogError, TransactionLog};
use crate::agent::store::two_phase;
use crate::agent::volume::io_kind::Volume;
use crate::api::{MendedHeader, Seed, SeedState};
use crate::contract::failure::{Failure, cut};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where the last transaction of the legacy indexes stands, relative to the store.
const INDEX_STORE: &str = "index/lucene-store.db";
/// A header of the indexes has 40 bytes; anything longer than this is another file.
const INDEX_STORE_BYTES_MAX: u64 = 1024;
/// Offset of the last transaction in it.
const INDEX_LAST_AT: usize = 24;
/// The last transaction of a store that was never written.
const NO_TRANSACTION: i64 = 1;
/// Longest text about what is wrong, bytes: it is reported beside the facts of the point.
const PROBLEM_BYTES_MAX: usize = 360;

/// What is wrong with the logs of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// The header of the newest log names a transaction of the log itself.
    Header(MendedHeader),
    /// No log holds the last transaction.
    NotLogged(String),
    /// It cannot be told.
    Unreadable(String),
}

/// Judges the logs of a store on the target, and changes nothing.
pub fn judge(store: &Path, stop: &Stop) -> Result<Seed, Failure> {
    judge_on(Volume::Target, store, stop)
}

/// The same for a store on any volume.
pub fn judge_on(volume: Volume, store: &Path, stop: &Stop) -> Result<Seed, Failure> {
    Ok(seed(&faults(volume, store, stop)?))
}

/// The headers that [`mend`] would set in a store on the target.
pub fn wrong_headers(store: &Path, stop: &Stop) -> Result<Vec<MendedHeader>, Failure> {
    let of_fault = |fault| match fault {
        Fault::Header(header) => Some(header),
        Fault::NotLogged(_) | Fault::Unreadable(_) => None,
    };
    Ok(faults(Volume::Target, store, stop)?.into_iter().filter_map(of_fault).collect())
}

/// Judges the logs of a store that is the agent's own, and mends the headers that are wrong. What is written here is not
/// flushed to the device.
pub fn mend(volume: Volume, store: &Path, stop: &Stop) -> Result<Seed, Failure> {
    let _step = start(Step::Seed);
    let faults = faults(volume, store, stop)?;
    let mut mended = Vec::new();
    for fault in &faults {
        let Fault::Header(header) = fault else { continue };
        let written = open_for_writing(&store.join(&header.file))
            .and_then(|log| transaction_log::set_last_before(&log, header.to));
        written
            .map_err(|error| volume.failure(&format!("cannot mend the header of {}: {error}", header.file), &error))?;
        mended.push(header.clone());
    }
    // Most copies need nothing: their logs are not read a second time.
    let judged = if mended.is_empty() { seed(&faults) } else { judge_on(volume, store, stop)? };
    let seed = Seed { mended, ..judged };
    if seed != Seed::COMPLETE {
        message(Step::Seed, &seed.told());
    }
    Ok(seed)
}

/// No link is followed and no pipe waited for.
fn open_for_writing(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn seed(faults: &[Fault]) -> Seed {
    let of_fault = |fault: &Fault| match fault {
        Fault::Header(MendedHeader { file, from, to }) => (
            SeedState::LogHeaderWrong,
            format!(
                "the header of {file} names transaction {from} as the last one before it, but the log holds it; {to} is right"
            ),
        ),
        Fault::NotLogged(problem) => (SeedState::LastTransactionNotLogged, problem.clone()),
        Fault::Unreadable(problem) => (SeedState::LogsUnreadable, problem.clone()),
    };
    let told: Vec<(SeedState, String)> = faults.iter().map(of_fault).collect();
    let Some(state) = told.iter().map(|(state, _)| *state).max() else { return Seed::COMPLETE };
    let problems: Vec<&str> = told.iter().map(|(_, problem)| problem.as_str()).collect();
    Seed { state, mended: Vec::new(), problem: Some(cut(&problems.join("; "), PROBLEM_BYTES_MAX).to_owned()) }
}

/// What is wrong with the logs of the graph, and with those of the indexes.
fn faults(volume: Volume, store: &Path, stop: &Stop) -> Result<Vec<Fault>, Failure> {
    let listing = files::list(store).map_err(|error| error.on(volume))?;
    let files: Vec<String> = listing.files.into_iter().map(|(path, _)| path).collect();
    let header = match header::read(store) {
        Ok(header) if header.clean_shutdown => header,
        Ok(_) => return Ok(vec![Fault::Unreadable("the store was not shut down cleanly".to_owned())]),
        Err(error) => return Ok(vec![Fault::Unreadable(error.to_string())]),
    };
    let graph = newest(store, &files, GRAPH_LOGS, stop)?;
    let mut faults: Vec<Fault> = compare(GRAPH_LOGS, header.last_transaction, &graph).into_iter().collect();
    let last = match index_last(store, &files) {
        Ok(Some(last)) => last,
        Ok(None) => return Ok(faults),
        Err(problem) => {
            faults.push(Fault::Unreadable(problem));
            return Ok(faults);
        }
    };
    let indexes = newest(store, &files, INDEX_LOGS, stop)?;
    match (compare(INDEX_LOGS, last, &indexes), graph, indexes) {
        (None, Ok(Some(graph)), Ok(indexes)) => faults.extend(half_missing(store, &files, graph, indexes, stop)?),
        (fault, ..) => faults.extend(fault),
    }
    Ok(faults)
}

/// The last transaction of the legacy indexes; nothing if the store never had any.
fn index_last(store: &Path, files: &[String]) -> Result<Option<i64>, String> {
    let names = || files.iter().map(String::as_str);
    if !names().any(|file| file == INDEX_STORE) {
        let logs = transaction_log::archived(names(), INDEX_LOGS);
        return if logs.is_empty() {
            Ok(None)
        } else {
            Err(format!("{INDEX_STORE} is missing, but its logs are there"))
        };
    }
    let mut bytes = Vec::new();
    let read = files::open(&store.join(INDEX_STORE))
        .and_then(|file| file.take(INDEX_STORE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("{INDEX_STORE}: {error}"))?;
    if bytes.len() as u64 > INDEX_STORE_BYTES_MAX {
        return Err(format!("{INDEX_STORE} has more than {INDEX_STORE_BYTES_MAX} bytes"));
    }
    let last = bytes.get(INDEX_LAST_AT..).and_then(<[u8]>::first_chunk).map(|last| i64::from_be_bytes(*last));
    match last {
        Some(last) if last >= NO_TRANSACTION => Ok(Some(last)),
        Some(last) => Err(format!("the last transaction in {INDEX_STORE} is {last}")),
        None => Err(format!("{INDEX_STORE} has only {} bytes", bytes.len())),
    }
}

/// The newest log of one kind that holds a transaction, with its name, or what is wrong with the logs.
type Newest<'a> = Result<Option<(&'a str, TransactionLog)>, Fault>;

fn newest<'a>(store: &Path, files: &'a [String], prefix: &str, stop: &Stop) -> Result<Newest<'a>, Failure> {
    match transaction_log::newest(store, files.iter().map(String::as_str), prefix, stop) {
        Ok(newest) => Ok(Ok(newest)),
        Err((_, LogError::Stopped(cause))) => Err(cause.into()),
        Err((name, error)) => Ok(Err(unreadable(&name, &error))),
    }
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::Unreadable(format!("{name} cannot be read: {error}"))
}

/// Holds the newest log with a transaction against the last transaction of its kind.
fn compare(prefix: &str, last: i64, newest: &Newest<'_>) -> Option<Fault> {
    let newest = match newest {
        Ok(newest) => *newest,
        Err(fault) => return Some(fault.clone()),
    };
    let (what, doubt) = match prefix {
        INDEX_LOGS => ("the legacy indexes", ", and entries of the last transactions may be missing from the indexes"),
        _ => ("the copy", ""),
    };
    let found = newest.and_then(|(name, log)| log.commits.map(|commits| (name, log.last_before, commits)));
    match found {
        None if last == NO_TRANSACTION => None,
        None => Some(Fault::NotLogged(format!("the last transaction {last} of {what} is in no log{doubt}"))),
        Some((name, _, Commits { last: logged, .. })) if logged != last => Some(Fault::NotLogged(format!(
            "the last transaction {last} of {what} is in no log; the newest, {name}, ends with {logged}{doubt}"
        ))),
        Some((name, from, Commits { first, .. })) if from >= first => {
            Some(Fault::Header(MendedHeader { file: name.to_owned(), from, to: first - 1 }))
        }
        Some(_) => None,
    }
}

/// The half of the last transaction that changed the graph and the indexes, where the indexes lack it.
///
/// Each run of the tool writes new logs for both kinds under one version. A newer log of the indexes alone is of a
/// later run, which has brought everything up to then.
fn half_missing(
    store: &Path,
    files: &[String],
    graph: (&str, TransactionLog),
    indexes: Option<(&str, TransactionLog)>,
    stop: &Stop,
) -> Result<Option<Fault>, Failure> {
    let (name, graph) = graph;
    if indexes.is_some_and(|(_, indexes)| indexes.version > graph.version) {
        return Ok(None);
    }
    let open = |name: &str| files::open(&store.join(name)).map_err(SearchError::Read);
    let last = match open(name).and_then(|log| two_phase::last(log, stop)) {
        Ok(Some(last)) => last,
        Ok(None) => return Ok(None),
        Err(error) => return cannot_search(name, error),
    };
    for (_, log) in transaction_log::archived(files.iter().map(String::as_str), INDEX_LOGS) {
        match open(log).and_then(|file| last.is_in(file, stop)) {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(error) => return cannot_search(log, error),
        }
    }
    Ok(Some(Fault::NotLogged(format!(
        "transaction {} of the graph changed the legacy indexes, too, but none of their logs holds it: the indexes lack its \
         entries",
        last.id
    ))))
}

fn cannot_search(name: &str, error: SearchError) -> Result<Option<Fault>, Failure> {
    match error {
        SearchError::Stopped(cause) => Err(cause.into()),
        SearchError::Read(error) => Ok(Some(unreadable(name, &error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use crate::api::Reason;
    use rustix::process::Signal;
    use std::fs;

    /// A copy of a recorded store; `tests/recorded/seed/README.md` says what is in them.
    fn recorded(name: &str) -> tempfile::TempDir {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/seed").join(name);
        let to = tempfile::tempdir().unwrap();
        for (path, _) in files::list(&from).unwrap().files {
            fs::create_dir_all(to.path().join(&path).parent().unwrap()).unwrap();
            fs::copy(from.join(&path), to.path().join(&path)).unwrap();
        }
        to
    }

    fn judged(store: &Path) -> Seed {
        judge(store, &Stop::never()).unwrap()
    }

    fn state(store: &Path) -> SeedState {
        judged(store).state
    }

    /// Content of every file.
    fn contents(store: &Path) -> Vec<(String, Vec<u8>)> {
        let files = files::list(store).unwrap().files;
        files.into_iter().map(|(path, _)| (path.clone(), fs::read(store.join(path)).unwrap())).collect()
    }

    #[test]
    fn real_stores() {
        for (name, expected) in [
            ("idle", SeedState::LogsComplete),
            ("header-names-last", SeedState::LogHeaderWrong),
            ("header-names-last-of-two", SeedState::LogHeaderWrong),
            ("last-missing", SeedState::LastTransactionNotLogged),
            ("last-missing-caught-up", SeedState::LogsComplete),
            ("index-last-missing", SeedState::LastTransactionNotLogged),
        ] {
            let store = recorded(name);
            let before = contents(store.path());
            assert_eq!(state(store.path()), expected, "{name}");
            assert_eq!(contents(store.path()), before, "{name} was changed");
        }
    }

    #[test]
    fn a_wrong_header_is_set_to_the_transaction_before_the_first_and_nothing_else_changes() {
        for (name, file, from, to) in [
            ("header-names-last", "nioneo_logical.log.v3", 5, 4),
            ("header-names-last-of-two", "nioneo_logical.log.v15", 334, 332),
        ] {
            let store = recorded(name);
            let mut expected = contents(store.path());
            let log = expected.iter_mut().find(|(path, _)| path == file).unwrap();
            log.1[8..16].copy_from_slice(&i64::to_be_bytes(to));
            let seed = mend(Volume::Target, store.path(), &Stop::never()).unwrap();
            let header = MendedHeader { file: file.into(), from, to };
            assert_eq!(seed, Seed { mended: vec![header], ..Seed::COMPLETE });
            assert_eq!(contents(store.path()), expected);
            assert_eq!(
                mend(Volume::Target, store.path(), &Stop::never()).unwrap(),
                Seed::COMPLETE,
                "it was mended twice"
            );
        }
    }

    #[test]
    fn the_header_of_an_index_is_mended_too() {
        let store = recorded("idle");
        let log = store.path().join("index/lucene.log.v0");
        let mut bytes = fs::read(&log).unwrap();
        bytes[8..16].copy_from_slice(&3_i64.to_be_bytes());
        fs::write(&log, bytes).unwrap();
        assert_eq!(state(store.path()), SeedState::LogHeaderWrong);
        let seed = mend(Volume::Target, store.path(), &Stop::never()).unwrap();
        assert_eq!(seed.mended, [MendedHeader { file: "index/lucene.log.v0".into(), from: 3, to: 2 }]);
        assert_eq!(state(store.path()), SeedState::LogsComplete);
    }

    #[test]
    fn a_transaction_that_is_missing_is_not_made_up() {
        for (name, said) in [("last-missing", "742 of the copy"), ("index-last-missing", "16 of the legacy indexes")] {
            let store = recorded(name);
            let seed = mend(Volume::Target, store.path(), &Stop::never()).unwrap();
            assert_eq!(seed.state, SeedState::LastTransactionNotLogged);
            assert!(seed.problem.as_deref().unwrap().contains(said), "{seed:?}");
        }
        let store = recorded("idle");
        fs::remove_file(store.path().join("nioneo_logical.log.v0")).unwrap();
        assert_eq!(state(store.path()), SeedState::LastTransactionNotLogged, "logs are not kept");
    }

    #[test]
    fn a_transaction_of_which_the_indexes_lack_their_half_is_missing() {
        // Ends with transactions 333 and 334, both of which changed the index: as 211 and 212.
        let store = recorded("header-names-last-of-two");
        mend(Volume::Target, store.path(), &Stop::never()).unwrap();
        assert_eq!(judged(store.path()), Seed::COMPLETE);
        let log = store.path().join("index/lucene.log.v15");
        let whole = fs::read(&log).unwrap();
        fs::write(&log, &whole[..159]).unwrap();
        let set_last = |last: i64| {
            let mut bytes = fs::read(store.path().join(INDEX_STORE)).unwrap();
            bytes[INDEX_LAST_AT..INDEX_LAST_AT + 8].copy_from_slice(&last.to_be_bytes());
            fs::write(store.path().join(INDEX_STORE), bytes).unwrap();
        };
        set_last(211);
        let seed = judged(store.path());
        assert_eq!(seed.state, SeedState::LastTransactionNotLogged);
        assert!(seed.problem.as_deref().unwrap().contains("transaction 334 of the graph"), "{seed:?}");
        // The half is in an older log.
        let mut older = whole.clone();
        older[1..8].copy_from_slice(&14_i64.to_be_bytes()[1..]);
        fs::write(store.path().join("index/lucene.log.v14"), older).unwrap();
        assert_eq!(judged(store.path()), Seed::COMPLETE);
        fs::remove_file(store.path().join("index/lucene.log.v14")).unwrap();
        // A later run brought something for the indexes alone.
        let mut newer = whole[..159].to_vec();
        newer[1..8].copy_from_slice(&16_i64.to_be_bytes()[1..]);
        fs::write(store.path().join("index/lucene.log.v16"), newer).unwrap();
        assert_eq!(judged(store.path()), Seed::COMPLETE);
        fs::remove_file(store.path().join("index/lucene.log.v16")).unwrap();
        // The first transaction that ever changed an index.
        fs::remove_file(&log).unwrap();
        set_last(NO_TRANSACTION);
        assert_eq!(state(store.path()), SeedState::LastTransactionNotLogged);
    }

    #[test]
    fn a_store_that_was_never_written_needs_no_log() {
        let store = recorded("idle");
        let mut neostore = fs::read(store.path().join("neostore")).unwrap();
        neostore[28..36].copy_from_slice(&1_i64.to_be_bytes());
        fs::write(store.path().join("neostore"), neostore).unwrap();
        for log in ["nioneo_logical.log.v0", "nioneo_logical.log.v1"] {
            fs::remove_file(store.path().join(log)).unwrap();
        }
        fs::remove_dir_all(store.path().join("index")).unwrap();
        assert_eq!(judged(store.path()), Seed::COMPLETE);
    }

    #[test]
    fn what_cannot_be_told_is_unknown() {
        type Change = fn(&Path);
        let changes: &[Change] = &[
            |store| fs::write(store.join("neostore"), b"short").unwrap(),
            |store| {
                let neostore = fs::read(store.join("neostore")).unwrap();
                fs::write(store.join("neostore"), &neostore[..54]).unwrap();
            },
            |store| fs::write(store.join("nioneo_logical.log.v1"), b"short").unwrap(),
            |store| {
                fs::copy(store.join("nioneo_logical.log.v0"), store.join("nioneo_logical.log.v9")).unwrap();
            },
            |store| fs::write(store.join(INDEX_STORE), [0; 24]).unwrap(),
            |store| fs::write(store.join(INDEX_STORE), [0; 40]).unwrap(),
            |store| fs::write(store.join(INDEX_STORE), [0; 2000]).unwrap(),
            |store| fs::remove_file(store.join(INDEX_STORE)).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let store = recorded("idle");
            change(store.path());
            let seed = judged(store.path());
            assert_eq!(seed.state, SeedState::LogsUnreadable, "change {number}");
            assert_eq!(seed.condition().1, Reason::LogsUnreadable);
        }
    }

    #[test]
    fn of_two_faults_the_worse_counts_and_both_are_told() {
        let faults = [
            Fault::Header(MendedHeader { file: "nioneo_logical.log.v3".into(), from: 5, to: 4 }),
            Fault::NotLogged("the last transaction 3 of the legacy indexes is in no log".into()),
        ];
        let seed = seed(&faults);
        assert_eq!(seed.state, SeedState::LastTransactionNotLogged);
        let problem = seed.problem.unwrap();
        assert!(problem.contains("log.v3") && problem.contains("transaction 3 of"), "{problem}");
    }

    #[test]
    fn a_stopped_run_stops_judging() {
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert_eq!(judge(recorded("idle").path(), &stop).unwrap_err().reason, Reason::Interrupted);
    }
}
