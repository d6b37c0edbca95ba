//! Transactions that change the graph and the legacy indexes: whether a copy holds both halves of the last one.
//!
//! The engine commits such a transaction in two phases (commit entry 6, see
//! [`transaction_log`](super::transaction_log)), one half in a log of the graph and one in a log of the indexes. Both
//! halves begin with the same global id, which holds random bits (see [`history`](super::history)). The tool fetches
//! the two kinds of log one after the other: a full copy that is made under writes can end with a transaction whose
//! half of the indexes it did not fetch.

use crate::agent::stop::Stop;
use crate::agent::store::history::{GLOBAL_ID_BYTES_MIN, SearchError};
use crate::agent::store::transaction_log::{COMMIT_AND_END_BYTES, HEADER_BYTES, START, TWO_PHASES, committed};
use std::io::Read;

/// Read at a time, bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A transaction that was committed in two phases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwoPhase {
    /// Number of the transaction in the log that it was found in.
    pub id: i64,
    global_id: Vec<u8>,
}

/// The last transaction in a log that was committed in two phases. Nothing if there is none, or if the log does not
/// show its global id.
///
/// The tool writes one transaction after the other. In the log of a member they are mixed, where many clients write:
/// there the start of a transaction may be missed. The memory is bounded.
pub fn last(mut log: impl Read, stop: &Stop) -> Result<Option<TwoPhase>, SearchError> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    log.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut buffer)?;
    buffer.clear();
    let mut scan = Scan { begun: Begun::Nothing, last: None };
    while read_on(&mut log, &mut buffer, stop)? {
        let seen = scan.read(&buffer);
        buffer.drain(..seen);
    }
    Ok(scan.last)
}

impl TwoPhase {
    /// Whether a log holds a transaction with this global id.
    pub fn is_in(&self, mut log: impl Read, stop: &Stop) -> Result<bool, SearchError> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        while read_on(&mut log, &mut buffer, stop)? {
            if buffer.windows(self.global_id.len()).any(|window| window == self.global_id) {
                return Ok(true);
            }
            // It may begin at the end of this piece and end in the next.
            buffer.drain(..buffer.len().saturating_sub(self.global_id.len()));
        }
        Ok(false)
    }
}

/// Adds the next piece of a log; false at its end.
fn read_on(log: &mut impl Read, buffer: &mut Vec<u8>, stop: &Stop) -> Result<bool, SearchError> {
    if let Some(cause) = stop.cause() {
        return Err(SearchError::Stopped(cause));
    }
    Ok(log.take(BUFFER_BYTES as u64).read_to_end(buffer)? > 0)
}

/// What is known of the transaction at which the reader is.
enum Begun {
    /// The one before has ended.
    Nothing,
    /// It has this global id.
    Known(Vec<u8>),
    /// Its start was not where the one before ended.
    Unknown,
}

struct Scan {
    begun: Begun,
    last: Option<TwoPhase>,
}

impl Scan {
    /// Reads a piece of a log; returns how many of its bytes need not be looked at again.
    fn read(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        loop {
            if matches!(self.begun, Begun::Nothing) {
                match begin(&piece[at..]) {
                    Some(begun) => self.begun = begun,
                    None => return at,
                }
            }
            let Some(entries) = piece[at..].first_chunk() else { return at };
            let Some((kind, id)) = committed(entries) else {
                at += 1;
                continue;
            };
            at += COMMIT_AND_END_BYTES;
            let begun = std::mem::replace(&mut self.begun, Begun::Nothing);
            if kind == TWO_PHASES {
                self.last = match begun {
                    Begun::Known(global_id) => Some(TwoPhase { id, global_id }),
                    Begun::Nothing | Begun::Unknown => None,
                };
            }
        }
    }
}

/// The transaction that begins with these bytes; nothing if they are too few to tell.
fn begin(bytes: &[u8]) -> Option<Begun> {
    let [kind, length, _, rest @ ..] = bytes else { return None };
    let length = usize::from(*length);
    if *kind != START || length < GLOBAL_ID_BYTES_MIN {
        return Some(Begun::Unknown);
    }
    rest.get(..length).map(|global_id| Begun::Known(global_id.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn recorded(log: &str) -> Vec<u8> {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/seed").join(log)).unwrap()
    }

    fn last_in(log: &[u8]) -> Option<TwoPhase> {
        last(log, &Stop::never()).unwrap()
    }

    fn is_in(transaction: &TwoPhase, log: &[u8]) -> bool {
        transaction.is_in(log, &Stop::never()).unwrap()
    }

    #[test]
    fn both_halves_of_a_transaction_are_known_by_its_global_id() {
        for (store, graph, index, id) in [
            ("idle", "v0", "v0", 3),
            ("header-names-last-of-two", "v15", "v15", 334),
            ("last-missing-caught-up", "v26", "v26", 759),
        ] {
            let graph = recorded(&format!("{store}/nioneo_logical.log.{graph}"));
            let found = last_in(&graph).unwrap();
            assert_eq!((found.id, found.global_id.len()), (id, 25), "{store}");
            let index = recorded(&format!("{store}/index/lucene.log.{index}"));
            assert!(is_in(&found, &index), "{store}");
            assert!(!is_in(&found, &recorded("last-missing/index/lucene.log.v24")), "{store}");
        }
    }

    #[test]
    fn a_transaction_of_the_graph_alone_has_one_phase() {
        assert_eq!(last_in(&recorded("header-names-last/nioneo_logical.log.v3")), None);
        assert_eq!(last_in(&recorded("idle/nioneo_logical.log.v1")), None);
    }

    #[test]
    fn pieces_make_no_difference() {
        /// Gives a few bytes at a time.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let bytes = buffer.len().min(7);
                self.0.read(&mut buffer[..bytes])
            }
        }
        let graph = recorded("last-missing-caught-up/nioneo_logical.log.v26");
        for length in 0..graph.len() {
            let whole = last(&graph[..length], &Stop::never()).unwrap();
            assert_eq!(last(Slow(&graph[..length]), &Stop::never()).unwrap(), whole, "{length} bytes");
        }
        let mut scan = Scan { begun: Begun::Nothing, last: None };
        let mut buffer = Vec::new();
        for byte in &graph[HEADER_BYTES..] {
            buffer.push(*byte);
            let seen = scan.read(&buffer);
            buffer.drain(..seen);
        }
        assert_eq!(scan.last, last_in(&graph));
    }

    #[test]
    fn a_start_that_is_not_where_it_should_be_proves_nothing() {
        let mut graph = recorded("idle/nioneo_logical.log.v0");
        graph[HEADER_BYTES] = 3;
        assert_eq!(last_in(&graph), None);
    }
}
