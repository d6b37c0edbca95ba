//! Whether a transaction that a member serves is the one in a store's logical log, told without Java.
//!
//! Format of the logical logs of Neo4j 1.5 to 1.8 (`LogEntry`, `LogIoUtils` of the database's sources; checked against
//! 1.8, see `tests/recorded/log`): a transaction is a start entry, commands, a commit entry and an end. All numbers are
//! big-endian.
//!
//! ```text
//! start    1, length of global id, length of branch id, global id, branch id, i32 local number,
//!          i32 format of the ids, i32 member that was master, i32 member that wrote it, i64 time
//! commit   5 or 6, i32 local number, i64 number of the transaction, i64 time
//! ```
//!
//! The **local number** is the log's own: whoever applies a transaction, be it the tool in its target or a slave, gives it
//! another one. The time of the commit differs between master and slave too. The rest of the start entry is copied, and
//! its global id holds 64 random bits: no other transaction of any history has it.

use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::transaction_log::{COMMITS, GRAPH_LOGS, START, archived};
use crate::discovery::probe::Transaction;
use chrono::{DateTime, Utc};
use std::io::{self, Read};

const LOCAL_NUMBER_BYTES: usize = 4;
/// Format of the ids, both members, time.
const AFTER_BYTES: usize = 4 + 4 + 4 + TIME_BYTES;
const TIME_BYTES: usize = 8;
/// Without random bits an id proves nothing.
pub const GLOBAL_ID_BYTES_MIN: usize = 16;
const BUFFER_BYTES: usize = 1 << 20;

/// A log cannot be searched to its end.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The run has to end.
    #[error("stopped")]
    Stopped(StopCause),
}

/// When a transaction was begun, as its start entry says; nothing if a member serves it in another form.
pub fn start_time(transaction: &Transaction) -> Option<DateTime<Utc>> {
    let [START, global, branch, ..] = *transaction.entries.as_slice() else { return None };
    let end = 3 + usize::from(global) + usize::from(branch) + LOCAL_NUMBER_BYTES + AFTER_BYTES;
    let time = transaction.entries.get(end - TIME_BYTES..end)?;
    DateTime::from_timestamp_millis(i64::from_be_bytes(time.try_into().ok()?))
}

/// What is the same in every log that holds a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The start entry up to the local number.
    before: Vec<u8>,
    /// The start entry after the local number.
    after: Vec<u8>,
    /// Number of the transaction, the same for all members.
    id: i64,
}

impl Identity {
    /// Of a transaction as a member serves it; nothing if it does not begin with a start entry.
    pub fn of(transaction: &Transaction) -> Option<Self> {
        let entries = transaction.entries.as_slice();
        let [START, global, branch, ..] = *entries else { return None };
        if usize::from(global) < GLOBAL_ID_BYTES_MIN {
            return None;
        }
        let (before, rest) = entries.split_at_checked(3 + usize::from(global) + usize::from(branch))?;
        let after = rest.get(LOCAL_NUMBER_BYTES..LOCAL_NUMBER_BYTES + AFTER_BYTES)?;
        Some(Self { before: before.to_vec(), after: after.to_vec(), id: transaction.id })
    }

    /// Whether a log holds the transaction, committed under the same number. Reads [`BUFFER_BYTES`] at a time.
    pub fn is_in(&self, mut log: impl Read, stop: &Stop) -> Result<bool, SearchError> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES + self.start_bytes());
        let mut local_number = None;
        loop {
            if let Some(cause) = stop.cause() {
                return Err(SearchError::Stopped(cause));
            }
            if log.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut buffer)? == 0 {
                return Ok(false);
            }
            if local_number.is_none()
                && let Some((number, end)) = self.find_start(&buffer)
            {
                local_number = Some(number);
                buffer.drain(..end);
            }
            if local_number.is_some_and(|number| self.has_commit(&buffer, number)) {
                return Ok(true);
            }
            // What is searched for may begin at the end of this piece and end in the next.
            buffer.drain(..buffer.len().saturating_sub(self.start_bytes()));
        }
    }

    fn start_bytes(&self) -> usize {
        self.before.len() + LOCAL_NUMBER_BYTES + AFTER_BYTES
    }

    /// The local number in the start entry, and where that ends.
    fn find_start(&self, log: &[u8]) -> Option<([u8; LOCAL_NUMBER_BYTES], usize)> {
        log.windows(self.start_bytes()).enumerate().find_map(|(at, entry)| {
            // The first byte before all: comparing slices of unknown length is a call.
            let rest = (entry[0] == START).then(|| entry.strip_prefix(self.before.as_slice()))??;
            let (number, after) = rest.split_first_chunk()?;
            (after == self.after).then_some((*number, at + entry.len()))
        })
    }

    fn has_commit(&self, log: &[u8], local_number: [u8; LOCAL_NUMBER_BYTES]) -> bool {
        let mut entry = [0; 1 + LOCAL_NUMBER_BYTES + 8];
        entry[1..=LOCAL_NUMBER_BYTES].copy_from_slice(&local_number);
        entry[1 + LOCAL_NUMBER_BYTES..].copy_from_slice(&self.id.to_be_bytes());
        log.windows(entry.len()).any(|window| COMMITS.contains(&window[0]) && window[1..] == entry[1..])
    }
}

/// The logical logs among the files of a store, those first that most likely hold its last transaction: the archived
/// ones, newest first, then the two that a database writes to in turn.
pub fn logs<'a>(files: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let files: Vec<&str> = files.into_iter().collect();
    let is_live = |file: &&str| matches!(file.strip_prefix(GRAPH_LOGS), Some("1" | "2"));
    let live = files.iter().copied().filter(is_live);
    archived(files.iter().copied(), GRAPH_LOGS).into_iter().map(|(_, file)| file).chain(live).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::process::Signal;

    const SERVED: &[u8] = include_bytes!("../../../tests/recorded/log/served");
    const INCREMENTAL: &[u8] = include_bytes!("../../../tests/recorded/log/incremental");
    const FULL_FROM_MASTER: &[u8] = include_bytes!("../../../tests/recorded/log/full-from-master");
    const FULL_FROM_SLAVE: &[u8] = include_bytes!("../../../tests/recorded/log/full-from-slave");
    const LOG_HEADER: usize = 16;

    fn identity(id: i64, entries: &[u8]) -> Identity {
        Identity::of(&Transaction { id, entries: entries.to_vec() }).unwrap()
    }

    fn is_in(identity: &Identity, log: &[u8]) -> bool {
        identity.is_in(log, &Stop::never()).unwrap()
    }

    #[test]
    fn what_the_tool_applied_is_found_under_the_tools_own_number() {
        let served = identity(6, SERVED);
        assert!(is_in(&served, INCREMENTAL));
        assert!(!INCREMENTAL.windows(SERVED.len()).any(|window| window == SERVED), "it stands there verbatim");
        assert!(!is_in(&served, FULL_FROM_MASTER));
    }

    #[test]
    fn master_and_slave_hold_the_same_transaction() {
        let (master, slave) = (&FULL_FROM_MASTER[LOG_HEADER..], &FULL_FROM_SLAVE[LOG_HEADER..]);
        assert_ne!(master, slave);
        assert_eq!(identity(12, master), identity(12, slave));
        assert!(is_in(&identity(12, master), FULL_FROM_SLAVE) && is_in(&identity(12, slave), FULL_FROM_MASTER));
    }

    #[test]
    fn another_history_or_number_is_not_found() {
        assert!(!is_in(&identity(5, SERVED), INCREMENTAL), "committed under another number");
        // Every byte of the start entry but those of the local number tells histories apart.
        for at in (3..58).filter(|at| !(34..38).contains(at)) {
            let mut other = SERVED.to_vec();
            other[at] ^= 1;
            let other = Identity::of(&Transaction { id: 6, entries: other });
            assert!(!other.is_some_and(|other| is_in(&other, INCREMENTAL)), "byte {at}");
        }
    }

    #[test]
    fn a_start_without_its_commit_proves_nothing() {
        let served = identity(6, SERVED);
        let commit = LOG_HEADER + 2 * SERVED.len() - 26;
        assert!(!is_in(&served, &INCREMENTAL[..commit + 12]));
        // The end of a transaction reaches the file of a live store with the next one only.
        assert!(is_in(&served, &INCREMENTAL[..commit + 13]));
    }

    #[test]
    fn a_transaction_across_pieces_is_found() {
        let served = identity(6, SERVED);
        for shift in [0, 1, 30, 57, 58, 59, 400, 551, 552] {
            let mut log = vec![1; BUFFER_BYTES - LOG_HEADER - SERVED.len() - shift];
            log.extend(INCREMENTAL);
            log.extend(vec![0; BUFFER_BYTES]);
            assert!(is_in(&served, &log), "{shift}");
        }
        // With entries of others in between, as in the log of a busy master.
        let mut log = INCREMENTAL[..LOG_HEADER + SERVED.len() + 100].to_vec();
        log.extend(vec![7; 3 * BUFFER_BYTES]);
        log.extend(&INCREMENTAL[LOG_HEADER + SERVED.len() + 100..]);
        assert!(is_in(&served, &log));
    }

    #[test]
    fn a_stopped_run_stops_searching() {
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert!(matches!(identity(6, SERVED).is_in(INCREMENTAL, &stop), Err(SearchError::Stopped(_))));
    }

    #[test]
    fn logs_are_searched_newest_first() {
        let files = [
            "index/lucene.log.v1",
            "neostore",
            "nioneo_logical.log.1",
            "nioneo_logical.log.active",
            "nioneo_logical.log.v10",
            "nioneo_logical.log.v9",
            "nioneo_logical.log.vx",
        ];
        let expected = ["nioneo_logical.log.v10", "nioneo_logical.log.v9", "nioneo_logical.log.1"];
        assert_eq!(logs(files), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_identity_or_none(
            entries in proptest::collection::vec(any::<u8>(), 0..700), log in proptest::collection::vec(any::<u8>(), 0..700),
        ) {
            if let Some(identity) = Identity::of(&Transaction { id: 7, entries }) {
                prop_assert!(!is_in(&identity, &log));
            }
        }
    }
}
