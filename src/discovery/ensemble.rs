//! Reading a ZooKeeper ensemble: the few questions that a look-up asks, and a session that asks them.

use futures::future::BoxFuture;
use std::{net::SocketAddr, time::Duration};
use zookeeper_client::{Client, Error};

/// How long a session is tried for, and how long the ensemble keeps it when this process dies in the middle.
///
/// The crate gives up connecting after this time; it has no other limit.
const SESSION_TIMEOUT: Duration = Duration::from_secs(8);
/// How long one server may stay silent before the next is tried: three frozen ones fit into [`SESSION_TIMEOUT`].
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

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
}

/// The questions of a look-up; answers come in the order of the questions, each no older than the one before.
pub trait Ensemble: Send + Sync {
    /// Makes the server that answers catch up with the ensemble's leader.
    fn sync(&self) -> BoxFuture<'_, Result<(), EnsembleError>>;

    /// The znode at `path`, or nothing where there is none.
    fn znode<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Znode>, EnsembleError>>;

    /// The names of the children of `path`, or nothing where there is no such znode.
    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, EnsembleError>>;
}

/// A session with a real ensemble. It is closed when this is dropped, in the background.
pub struct Session(Client);

impl Session {
    /// Opens a session with the first of `servers` that answers and belongs to a quorum (opening is a write).
    ///
    /// Read-only servers, which answer without a quorum, are not used. Bounded by [`SESSION_TIMEOUT`].
    pub async fn open(servers: &[SocketAddr]) -> Result<Self, EnsembleError> {
        // Addresses, never names: the crate would give names to libc.
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let client = Client::connector()
            .with_session_timeout(SESSION_TIMEOUT)
            .with_connection_timeout(SERVER_TIMEOUT)
            .with_readonly(false)
            .connect(&servers.join(","))
            .await;
        client.map(Self).map_err(|error| match error {
            Error::Timeout => EnsembleError::Unavailable(format!("no session within {} s", SESSION_TIMEOUT.as_secs())),
            other => EnsembleError::Unavailable(format!("no session: {other}")),
        })
    }
}

impl Ensemble for Session {
    fn sync(&self) -> BoxFuture<'_, Result<(), EnsembleError>> {
        Box::pin(async { self.0.sync("/").await.map_err(|error| classify("/", &error)) })
    }

    fn znode<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Znode>, EnsembleError>> {
        Box::pin(async move {
            let found = absent(path, self.0.get_data(path).await)?;
            Ok(found.map(|(data, stat)| Znode {
                data,
                created: stat.czxid,
                modified: stat.mzxid,
                created_at: stat.ctime,
                modified_at: stat.mtime,
                session: stat.ephemeral_owner,
            }))
        })
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, EnsembleError>> {
        Box::pin(async move { absent(path, self.0.list_children(path).await) })
    }
}

fn absent<T>(path: &str, answer: Result<T, Error>) -> Result<Option<T>, EnsembleError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        // A path that ZooKeeper does not allow (cluster name '.') names no znode either.
        Err(Error::NoNode | Error::BadArguments(_)) => Ok(None),
        Err(error) => Err(classify(path, &error)),
    }
}

fn classify(path: &str, error: &Error) -> EnsembleError {
    match error {
        Error::NoAuth | Error::AuthFailed | Error::InvalidAcl => {
            EnsembleError::Refused { path: path.to_owned(), detail: error.to_string() }
        }
        // Of what is left nothing is about the znode: the connection or the session was lost, the server is overloaded
        // or does not speak ZooKeeper's protocol.
        _ => EnsembleError::Unavailable(format!("reading {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_they_are_about() {
        assert_eq!(absent::<()>("/a", Err(Error::NoNode)), Ok(None));
        assert_eq!(absent::<()>("/.", Err(Error::BadArguments(&"invalid path"))), Ok(None));
        assert!(matches!(classify("/a", &Error::NoAuth), EnsembleError::Refused { path, .. } if path == "/a"));
        for error in
            [Error::ConnectionLoss, Error::SessionExpired, Error::Timeout, Error::Throttled, Error::ClientClosed]
        {
            assert!(matches!(classify("/a", &error), EnsembleError::Unavailable(_)), "{error}");
        }
    }
}
