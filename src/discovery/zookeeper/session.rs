//! One connection to one server, and the session that lives and ends with it.
//!
//! Lookups that share a session send their requests without waiting for each other; replies come in the order of the
//! requests. A session that loses its connection is over: the lookup opens another one. No pings are sent, because no
//! lookup keeps a session without asking: each asks one question after the other, and the session is closed with the
//! last of them.

use super::wire::{self, Reply, Request, WireError};
use crate::discovery::ensemble::{Ensemble, EnsembleError, Znode};
use futures::future::{BoxFuture, Either, select};
use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Semaphore, SemaphorePermit, mpsc, oneshot},
    time::{sleep, timeout},
};

/// How long a session is tried for, and how long the ensemble keeps it when this process dies in the middle.
const SESSION_TIMEOUT: Duration = Duration::from_secs(8);
/// How long one server may take to give a session, and then to each reply: three silent ones fit into
/// [`SESSION_TIMEOUT`].
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after every server has failed once. It doubles from round to round.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two rounds.
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many requests of a session wait for their replies at the same time; the others wait to be sent.
const OUTSTANDING_MAX: usize = 64;
/// Longest frame that needs no permit, in bytes: every reply to a lookup in an ensemble of a real database.
const SMALL_FRAME_BYTES: usize = 64 << 10;
/// Permits for longer frames. However many servers send them at the same time, this process holds two.
static LARGE_FRAMES: Semaphore = Semaphore::const_new(2);

/// Codes of `KeeperException.Code`.
mod code {
    pub const BAD_ARGUMENTS: i32 = -8;
    pub const NO_NODE: i32 = -101;
    pub const NO_AUTH: i32 = -102;
    pub const SESSION_EXPIRED: i32 = -112;
    pub const INVALID_ACL: i32 = -114;
    pub const AUTH_FAILED: i32 = -115;
    pub const SESSION_MOVED: i32 = -118;
    pub const SASL_REQUIRED: i32 = -124;
    pub const THROTTLED: i32 = -127;
}

/// Why a server gave no session, or why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nothing came in time.
    #[error("the server did not answer within {} s", SERVER_TIMEOUT.as_secs())]
    Late,
    /// The connection was refused, reset or not to be had.
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    /// The server ended the connection, which is how it refuses a session and tells of one that has expired.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent something that is no reply.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A session with a real ensemble. It is closed when this is dropped, in the background.
pub struct Session {
    requests: mpsc::Sender<Asked>,
    /// Why the session is over, once it is.
    end: Arc<OnceLock<String>>,
    is_given_up: AtomicBool,
}

/// A request, and who waits for its reply.
struct Asked {
    request: Request,
    reply: oneshot::Sender<(i32, Frame)>,
}

/// A request that was sent, by its number.
struct Expected {
    xid: i32,
    reply: Option<oneshot::Sender<(i32, Frame)>>,
}

/// A frame that was read, without the length before it.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes, at most [`wire::FRAME_BYTES_MAX`].
    pub bytes: Vec<u8>,
    _permit: Option<SemaphorePermit<'static>>,
}

impl Session {
    /// Opens a session with the first of `servers` that answers and belongs to a quorum (opening is a write).
    ///
    /// Read-only servers, which answer without a quorum, are not used. Bounded by 8 s.
    pub async fn open(servers: &[SocketAddr]) -> Result<Self, EnsembleError> {
        Self::open_within(servers, SESSION_TIMEOUT).await
    }

    async fn open_within(servers: &[SocketAddr], bound: Duration) -> Result<Self, EnsembleError> {
        let mut foreign = BTreeSet::new();
        if let Ok(stream) = timeout(bound, first_session(servers, &mut foreign)).await {
            return Ok(Self::over(stream));
        }
        let mut detail = format!("no session within {} s", bound.as_secs());
        if !foreign.is_empty() {
            let foreign: Vec<_> = foreign.iter().map(ToString::to_string).collect();
            detail = format!("{detail}; what listens at {} does not speak ZooKeeper's protocol", foreign.join(", "));
        }
        Err(EnsembleError::Unavailable(detail))
    }

    /// The session that was opened over this connection.
    fn over(stream: TcpStream) -> Self {
        let (requests, asked) = mpsc::channel(OUTSTANDING_MAX);
        let end = Arc::default();
        tokio::spawn(serve(stream, asked, Arc::clone(&end)));
        Self { requests, end, is_given_up: AtomicBool::new(false) }
    }

    /// Whether nothing can be asked any more, or nobody should.
    pub fn is_over(&self) -> bool {
        self.end.get().is_some() || self.is_given_up.load(Ordering::Relaxed)
    }

    /// Keeps further lookups from this session, because an answer showed that it, or its server, does not serve.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// What `decode` makes of the reply to a request about `path`, or nothing where there is no such znode.
    ///
    /// The wait for a place among the outstanding requests is the caller's to bound.
    async fn ask<T>(
        &self,
        path: &str,
        request: Request,
        decode: fn(&[u8]) -> Result<T, WireError>,
    ) -> Result<Option<T>, EnsembleError> {
        let (reply, replied) = oneshot::channel();
        let answer = match self.requests.send(Asked { request, reply }).await {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        let Some((xid, frame)) = answer else {
            let end = self.end.get().map_or("the session is over", String::as_str);
            return Err(unavailable(path, end));
        };
        let result = match wire::reply(xid, &frame.bytes) {
            Ok(Reply::Result(result)) => decode(result),
            Ok(Reply::Refused(code)) => return refused(path, code),
            Err(error) => Err(error),
        };
        match result {
            Ok(found) => Ok(Some(found)),
            Err(WireError::Oversized(detail)) => Err(EnsembleError::Oversized { path: path.to_owned(), detail }),
            Err(error) => Err(unavailable(path, error)),
        }
    }
}

impl Ensemble for Session {
    fn sync(&self) -> BoxFuture<'_, Result<(), EnsembleError>> {
        Box::pin(async { self.ask("/", Request::Sync, |_| Ok(())).await.map(Option::unwrap_or_default) })
    }

    fn znode<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Znode>, EnsembleError>> {
        Box::pin(self.ask(path, Request::Data(path.to_owned()), wire::znode))
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, EnsembleError>> {
        Box::pin(self.ask(path, Request::Children(path.to_owned()), wire::children))
    }
}

fn unavailable(path: &str, detail: impl std::fmt::Display) -> EnsembleError {
    EnsembleError::Unavailable(format!("reading {path}: {detail}"))
}

/// What a refusal means for a lookup.
fn refused<T>(path: &str, code: i32) -> Result<Option<T>, EnsembleError> {
    let detail = match code {
        // A path that ZooKeeper does not allow names no znode either.
        code::NO_NODE | code::BAD_ARGUMENTS => return Ok(None),
        code::NO_AUTH => "its access list does not let this client read it",
        code::INVALID_ACL => "its access list is invalid",
        code::AUTH_FAILED => "authentication failed",
        code::SASL_REQUIRED => "the ensemble serves only clients that authenticate",
        code::SESSION_EXPIRED => return Err(unavailable(path, "the session expired")),
        code::SESSION_MOVED => return Err(unavailable(path, "the session moved to another server")),
        code::THROTTLED => return Err(unavailable(path, "the server is overloaded")),
        other => return Err(unavailable(path, format!("the server reported error {other}"))),
    };
    Err(EnsembleError::Refused { path: path.to_owned(), detail: detail.to_owned() })
}

/// A connection over which a session was opened. Never ends without one: the caller bounds it.
///
/// The servers are tried in random order, so that the lookups of a fleet spread over them. Those that answer something
/// that is not ZooKeeper's protocol are added to `foreign`.
async fn first_session(servers: &[SocketAddr], foreign: &mut BTreeSet<SocketAddr>) -> TcpStream {
    let random = RandomState::new();
    let mut servers = servers.to_vec();
    servers.sort_by_cached_key(|server| random.hash_one(server));
    let mut pause = ROUND_PAUSE_MIN;
    loop {
        for server in &servers {
            match timeout(SERVER_TIMEOUT, connect(*server)).await {
                Ok(Ok(stream)) => return stream,
                Ok(Err(SessionError::Wire(WireError::NoSession | WireError::ReadOnly))) => {}
                Ok(Err(SessionError::Wire(_))) => drop(foreign.insert(*server)),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        sleep(pause).await;
        pause = (2 * pause).min(ROUND_PAUSE_MAX);
    }
}

/// Connects to one server and opens a session. The caller bounds it.
async fn connect(server: SocketAddr) -> Result<TcpStream, SessionError> {
    let mut stream = TcpStream::connect(server).await?;
    // Requests are small, and each is waited for.
    stream.set_nodelay(true)?;
    stream.write_all(&wire::connect(SESSION_TIMEOUT)).await?;
    wire::session(&read_frame(&mut stream).await?.bytes)?;
    Ok(stream)
}

/// Sends what is asked and hands out the replies, until the session is dropped or lost.
async fn serve(mut stream: TcpStream, asked: mpsc::Receiver<Asked>, end: Arc<OnceLock<String>>) {
    let (reader, writer) = stream.split();
    let (sent, expected) = mpsc::channel(OUTSTANDING_MAX);
    let sending = pin!(send(writer, asked, sent, &end));
    let receiving = pin!(receive(reader, expected, &end));
    if let Either::Left(((), receiving)) = select(sending, receiving).await {
        // A connection that is cut before the server has read it all may lose the request to close the session.
        let _ = timeout(SERVER_TIMEOUT, receiving).await;
    }
}

/// Sends one request after the other and closes the session when nobody can ask any more.
async fn send(
    mut stream: WriteHalf<'_>,
    mut asked: mpsc::Receiver<Asked>,
    sent: mpsc::Sender<Expected>,
    end: &OnceLock<String>,
) {
    let mut xid = 0;
    loop {
        xid = xid % i32::MAX + 1;
        let (request, reply) = match asked.recv().await {
            Some(Asked { request, reply }) => (request, Some(reply)),
            None => (Request::Close, None),
        };
        let last = reply.is_none();
        // First, so that the reply cannot come before it is expected.
        if sent.send(Expected { xid, reply }).await.is_err() {
            return;
        }
        let written = timeout(SERVER_TIMEOUT, stream.write_all(&request.frame(xid))).await;
        if let Err(error) = written.map_or(Err(SessionError::Late), |written| written.map_err(SessionError::from)) {
            let _ = end.set(error.to_string());
            return;
        }
        if last {
            return;
        }
    }
}

/// Hands each reply to who waits for it.
async fn receive(stream: ReadHalf<'_>, mut expected: mpsc::Receiver<Expected>, end: &OnceLock<String>) {
    let mut stream = BufReader::with_capacity(4096, stream);
    while let Some(Expected { xid, reply }) = expected.recv().await {
        let frame = timeout(SERVER_TIMEOUT, next_reply(&mut stream, xid)).await;
        match frame.unwrap_or(Err(SessionError::Late)) {
            // Nobody waits any more where a lookup has run out of time.
            Ok(frame) => drop(reply.map(|reply| reply.send((xid, frame)))),
            Err(error) => {
                // Before `reply` and the rest of `expected` go, whose owners then look for the reason.
                let _ = end.set(error.to_string());
                return;
            }
        }
    }
}

async fn next_reply(stream: &mut (impl AsyncRead + Unpin), xid: i32) -> Result<Frame, SessionError> {
    let frame = read_frame(stream).await?;
    wire::reply(xid, &frame.bytes)?;
    Ok(frame)
}

/// Reads one frame of at most [`wire::FRAME_BYTES_MAX`] bytes.
///
/// It takes memory for what has come, not for what was announced. The caller bounds the time.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, SessionError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(ended)?;
    let length = wire::frame_length(head)?;
    let permit = match length {
        ..=SMALL_FRAME_BYTES => None,
        // The semaphore is never closed.
        _ => LARGE_FRAMES.acquire().await.ok(),
    };
    let mut bytes = Vec::new();
    stream.take(u64::try_from(length).unwrap_or_default()).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(SessionError::Closed);
    }
    Ok(Frame { bytes, _permit: permit })
}

fn ended(error: std::io::Error) -> SessionError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => SessionError::Closed,
        _ => SessionError::Connection(error),
    }
}

#[cfg(test)]
mod tests;
