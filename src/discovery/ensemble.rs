//! Reading a ZooKeeper ensemble: the few questions that a lookup asks. [`super::zookeeper`] asks a real one.

use futures::future::BoxFuture;

/// A znode that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Transaction that created it (czxid).
    pub created: i64,
    /// Transaction that last wrote its bytes (mzxid).
    pub modified: i64,
    /// When it was created (ctime): milliseconds since 1970, by the leader's clock.
    pub created_at: i64,
    /// When its bytes were last written (mtime): as `created_at`.
    pub modified_at: i64,
    /// The session that an ephemeral znode belongs to; 0 for a persistent one.
    pub session: i64,
}

/// Why the ensemble did not answer a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnsembleError {
    /// No server with a quorum answered, or the session was lost: asking again may help.
    #[error("{0}")]
    Unavailable(String),
    /// The znode's access list keeps us out.
    #[error("znode {path} may not be read: {detail}")]
    Refused {
        /// Path of the znode.
        path: String,
        /// What the server said.
        detail: String,
    },
    /// The znode is larger than anything that a member writes.
    #[error("znode {path} is not read: {detail}")]
    Oversized {
        /// Path of the znode.
        path: String,
        /// How large it is.
        detail: String,
    },
}

/// The questions of a lookup; answers come in the order of the questions, each no older than the one before.
pub trait Ensemble: Send + Sync {
    /// Makes the server that answers catch up with the ensemble's leader.
    fn sync(&self) -> BoxFuture<'_, Result<(), EnsembleError>>;

    /// The znode at `path`, or nothing where there is none.
    fn znode<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Znode>, EnsembleError>>;

    /// The names of the children of `path`, or nothing where there is no such znode.
    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, EnsembleError>>;
}
