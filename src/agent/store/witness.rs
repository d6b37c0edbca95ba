//! Telling by one transaction whether a store shares the master's history.
//!
//! The same store id is not enough: after a restore, or a failover that lost transactions, the master soon reaches the
//! same numbers again, for different transactions, and the database does not check. Nor are two equal readings of
//! ZooKeeper that lie between other runs: an ensemble that starts afresh repeats its numbers.
//!
//! The **witness** of a store is the newest transaction that it holds. The master serves a transaction under the same
//! number, and either it is the one in the store's logs or it is not.

use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::files;
use crate::agent::store::history::{self, Identity, SearchError};
use crate::agent::store::transaction_log::{self, GRAPH_LOGS, LogError};
use crate::api::{Endpoint, Reason};
use crate::contract::failure::Failure;
use crate::discovery::probe::{ProbeError, Transaction};
use std::io;
use std::path::{Path, PathBuf};

/// The number of the first transaction: 1 is the empty store.
const FIRST_TRANSACTION: i64 = 2;

/// The newest transaction that a store holds.
#[derive(Clone, Debug)]
pub struct Witness {
    store: PathBuf,
    /// The logs that may hold it, relative to the store, the likeliest first.
    logs: Vec<String>,
    id: i64,
    /// Whether a log holds a transaction of this number.
    logged: bool,
}

/// What a master's answer says about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The master holds the witness as the store does: one history.
    Shared,
    /// The master holds another transaction under the number of the witness, or none; the text says which.
    Differs(String),
    /// The master's logs do not reach back to the witness; the text is its exception.
    LogsGone(String),
    /// The master or the store cannot show the witness; the text says why.
    Untold(String),
    /// The master did not answer the question: asking again may help.
    NoAnswer(ProbeError),
}

/// The store's logs cannot be searched.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A log cannot be read.
    #[error("{log}: {source}")]
    Read {
        /// Path of the log, relative to the store.
        log: String,
        /// Why not.
        source: io::Error,
    },
    /// The run has to end.
    #[error("stopped")]
    Stopped(StopCause),
}

impl Witness {
    /// The witness of the store in the folder `store`, whose header names `last_transaction`; `files` are its files.
    ///
    /// A full copy of 1.8 may lack the transaction that its header names and hold a later one in its log instead: then
    /// that one is the witness. Nothing if the store was never written to.
    pub fn of<'a>(
        store: &Path,
        files: impl IntoIterator<Item = &'a str>,
        last_transaction: i64,
        stop: &Stop,
    ) -> Result<Option<Self>, WitnessError> {
        let logs = history::logs(files);
        let in_log = match transaction_log::newest(store, logs.iter().copied(), GRAPH_LOGS, stop) {
            Ok(newest) => newest.and_then(|(_, log)| log.commits).map(|commits| commits.last),
            Err((_, LogError::Stopped(cause))) => return Err(WitnessError::Stopped(cause)),
            Err((log, LogError::Read(source))) => return Err(WitnessError::Read { log, source }),
            // Of a log that does not parse it is not known what it holds: it is searched for the header's transaction.
            Err(_) => None,
        };
        let id = in_log.map_or(last_transaction, |last| last.max(last_transaction));
        let logs = logs.into_iter().map(str::to_owned).collect();
        let witness = Self { store: store.to_owned(), logs, id, logged: in_log == Some(id) };
        Ok((id >= FIRST_TRANSACTION).then_some(witness))
    }

    /// The number under which the master is asked for it.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// What it means that the master answered the question for transaction [`Self::id`] like this. Reads the store's
    /// logs.
    pub fn judge(
        &self,
        answer: Result<Option<Transaction>, ProbeError>,
        stop: &Stop,
    ) -> Result<Judgement, WitnessError> {
        let id = self.id;
        let served = match answer {
            Ok(Some(served)) => served,
            Ok(None) => {
                return Ok(Judgement::Differs(format!("the master has not come to its last transaction {id}")));
            }
            Err(ProbeError::Skipped { served, .. }) => {
                return Ok(Judgement::Differs(format!(
                    "the master has no transaction {id}, it served {served} instead"
                )));
            }
            Err(ProbeError::LogsGone(said)) => return Ok(Judgement::LogsGone(said)),
            Err(ProbeError::Foreign(detail)) => {
                return Ok(Judgement::Untold(format!("the master cannot show transaction {id}: {detail}")));
            }
            Err(error @ (ProbeError::Unreachable(_) | ProbeError::Exception(_))) => {
                return Ok(Judgement::NoAnswer(error));
            }
        };
        let Some(identity) = Identity::of(&served) else {
            return Ok(Judgement::Untold(format!("the master serves transaction {id} in a form that is not known")));
        };
        if self.holds(&identity, stop)? {
            return Ok(Judgement::Shared);
        }
        let missing = format!("what the master holds as transaction {id} is not in the logs of the store");
        Ok(if self.logged { Judgement::Differs(missing) } else { Judgement::Untold(missing) })
    }

    fn holds(&self, identity: &Identity, stop: &Stop) -> Result<bool, WitnessError> {
        for log in &self.logs {
            let unreadable = |source| WitnessError::Read { log: log.clone(), source };
            match identity.is_in(files::open(&self.store.join(log)).map_err(unreadable)?, stop) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(SearchError::Stopped(cause)) => return Err(WitnessError::Stopped(cause)),
                Err(SearchError::Read(source)) => return Err(unreadable(source)),
            }
        }
        Ok(false)
    }
}

/// The failure of a member that gave no answer, or only an exception.
pub fn no_answer(member: &Endpoint, error: &ProbeError) -> Failure {
    match error {
        ProbeError::Exception(said) => Failure::new(
            Reason::MemberFailed,
            format!(
                "{member} answers a question about its transactions with the exception {said}; check its messages.log"
            ),
        ),
        detail => Failure::new(
            Reason::MasterUnreachable,
            format!(
                "the backup port of {member} does not answer: {detail}; check that the member runs with \
                 online_backup_enabled=true and that NetworkPolicies let the backup's pod reach its backup port"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LOG: &[u8] = include_bytes!("../../../tests/recorded/log/incremental");
    const SERVED: &[u8] = include_bytes!("../../../tests/recorded/log/served");
    const NAME: &str = "nioneo_logical.log.v2";
    /// The end of transaction 5 in [`LOG`].
    const ONLY_5: usize = 568;

    /// The witness of a store whose header names this transaction, with this log.
    fn witness(last_transaction: i64, log: &[u8]) -> (tempfile::TempDir, Option<Witness>) {
        let store = tempfile::tempdir().unwrap();
        fs::write(store.path().join(NAME), log).unwrap();
        let witness = Witness::of(store.path(), ["neostore", NAME], last_transaction, &Stop::never()).unwrap();
        (store, witness)
    }

    fn judged(last_transaction: i64, log: &[u8], answer: Result<Option<Transaction>, ProbeError>) -> Judgement {
        let (_store, witness) = witness(last_transaction, log);
        witness.unwrap().judge(answer, &Stop::never()).unwrap()
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the probe answers")]
    fn served(change: impl FnOnce(&mut Vec<u8>)) -> Result<Option<Transaction>, ProbeError> {
        let mut entries = SERVED.to_vec();
        change(&mut entries);
        Ok(Some(Transaction { id: 6, entries }))
    }

    #[test]
    fn a_store_is_told_by_its_newest_transaction() {
        let id = |last, log: &[u8]| witness(last, log).1.map(|witness| witness.id);
        assert_eq!(id(6, LOG), Some(6));
        assert_eq!(id(7, LOG), Some(7), "its logs were not kept");
        assert_eq!(id(5, LOG), Some(6), "its log holds a transaction that its header does not name");
        assert_eq!(id(1, &LOG[..16]), None, "it was never written to");
        assert_eq!(id(5, b"no log"), Some(5));
    }

    #[test]
    fn only_the_same_transaction_under_the_same_number_is_shared() {
        assert_eq!(judged(6, LOG, served(|_| ())), Judgement::Shared);
        assert_eq!(judged(5, LOG, served(|_| ())), Judgement::Shared);
        let other = |entries: &mut Vec<u8>| entries[15] ^= 1;
        assert!(matches!(judged(6, LOG, served(other)), Judgement::Differs(_)));
        assert!(matches!(judged(6, LOG, Ok(None)), Judgement::Differs(_)));
        let skipped = Err(ProbeError::Skipped { asked: 6, served: 8 });
        assert!(matches!(judged(6, LOG, skipped), Judgement::Differs(_)));
    }

    #[test]
    fn what_cannot_be_shown_is_told_apart_from_what_differs() {
        let gone = Err(ProbeError::LogsGone("x".into()));
        assert_eq!(judged(6, LOG, gone), Judgement::LogsGone("x".into()));
        for log in [&LOG[..ONLY_5], b"no log"] {
            assert!(matches!(judged(6, log, served(|_| ())), Judgement::Untold(_)), "the store cannot show it");
        }
        assert!(matches!(judged(6, LOG, Err(ProbeError::Foreign("x".into()))), Judgement::Untold(_)));
        assert!(matches!(judged(6, LOG, served(|entries| entries[0] = 9)), Judgement::Untold(_)));
        for error in [ProbeError::Unreachable("x".into()), ProbeError::Exception("x".into())] {
            assert_eq!(judged(6, LOG, Err(error.clone())), Judgement::NoAnswer(error));
        }
    }

    #[test]
    fn an_exception_of_the_member_is_its_own_reason() {
        let member = Endpoint { host: "neo4j-0".into(), port: 6362 };
        let reason = |error| no_answer(&member, &error).reason;
        assert_eq!(reason(ProbeError::Exception("x".into())), Reason::MemberFailed);
        assert_eq!(reason(ProbeError::Unreachable("x".into())), Reason::MasterUnreachable);
    }

    #[test]
    fn a_log_that_cannot_be_read_is_named() {
        let (store, witness) = witness(6, LOG);
        let witness = witness.unwrap();
        fs::remove_file(store.path().join(NAME)).unwrap();
        let error = witness.judge(served(|_| ()), &Stop::never()).unwrap_err().to_string();
        assert!(error.starts_with(NAME), "{error}");
    }
}
