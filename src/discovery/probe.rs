//! Asking a member over its backup port: which store it serves, and which transactions it holds.
//!
//! Protocol of Neo4j 1.5.1 to 1.9 (`Protocol`, `Server`, `BackupClient` of the database's sources; checked against
//! 1.8): one request and one answer per connection. An *incremental* request names the last transaction that the asker
//! has; the answer is the member's store id and every transaction after that. Reading stops after the beginning of the
//! first one, which tells it from every other, so a question costs next to nothing, however large the transaction is.

use crate::api::StoreId;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest time that one question takes, connecting included.
pub const QUESTION_BOUND: Duration = Duration::from_secs(5);

/// Internal protocol version of Neo4j 1.5.1 to 1.9.
const INTERNAL_VERSION: u8 = 2;
/// Version of the backup protocol in all of them.
const BACKUP_VERSION: u8 = 1;
/// Flag in the first byte of a frame: further frames belong to the same answer.
const MORE: u8 = 1;
/// Flag in the first byte of a frame: the answer is a serialised Java exception.
const FAILURE: u8 = 2;
/// Largest frame that the database sends.
const FRAME_LIMIT: usize = 4 << 20;
/// How many bytes of a transaction are read: its start entry, which has at most 537, and a bit more.
pub const ENTRIES_BYTES_MAX: usize = 1024;
/// Largest answer that is read: 255 names of 256 characters and the beginning of a transaction are less.
const ANSWER_LIMIT: usize = 256 << 10;
/// How many bytes of an exception are looked through for what it is about.
const EXCEPTION_BYTES_MAX: usize = 64 << 10;
/// How many bytes are read at a time.
const PIECE_BYTES: usize = 4096;
/// What an exception says when the member's logs do not reach back to a transaction (1.8; all three were seen).
const LOGS_GONE: [&str; 3] =
    ["not found in any logical log", "NoSuchLogVersionException", "is missing and can't be extracted"];
/// The data source that holds nodes, relationships and properties.
const DATA_SOURCE: &str = "nioneodb";
/// Newer than any transaction: the member answers with its store id alone.
const BEYOND_EVERY_TRANSACTION: i64 = i64::MAX / 2;

/// A transaction as the member serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Number of the transaction.
    pub id: i64,
    /// Its entries, byte for byte as in the member's logical log, but no more than the first [`ENTRIES_BYTES_MAX`].
    pub entries: Vec<u8>,
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Identity of the store that the member serves.
    pub store_id: StoreId,
    /// The first transaction after the one that was named; nothing if the member has none.
    pub first: Option<Transaction>,
}

/// Why a member did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// No connection, or it broke, or time ran out.
    #[error("{0}")]
    Unreachable(String),
    /// Something else than a backup server of a known version answered.
    #[error("{0}")]
    Foreign(String),
    /// It served a later transaction than the one that it was asked for.
    #[error("asked for transaction {asked} it served {served}")]
    Skipped {
        /// The number that was asked for.
        asked: i64,
        /// The number that came.
        served: i64,
    },
    /// The member's logs do not reach back to the transaction; the text is its exception.
    #[error("its logs do not reach back so far: {0}")]
    LogsGone(String),
    /// The member answered with another exception, which says nothing about the transaction.
    #[error("it answered with the exception {0}")]
    Exception(String),
}

/// The store that the member at `address` serves. Bounded by [`QUESTION_BOUND`].
pub async fn store_id(address: SocketAddr) -> Result<StoreId, ProbeError> {
    Ok(ask(address, BEYOND_EVERY_TRANSACTION).await?.store_id)
}

/// Transaction `id` as the member at `address` holds it, or nothing if it has not come so far.
///
/// [`ProbeError::LogsGone`] where its logs no longer reach back to it. `id` is 2 or more: 1 is the empty store.
/// Bounded by [`QUESTION_BOUND`].
pub async fn transaction(address: SocketAddr, id: i64) -> Result<Option<Transaction>, ProbeError> {
    let first = ask(address, id - 1).await?.first;
    match first {
        Some(transaction) if transaction.id != id => Err(ProbeError::Skipped { asked: id, served: transaction.id }),
        answer => Ok(answer),
    }
}

/// The member's store id and first transaction after `last`. Bounded by [`QUESTION_BOUND`].
async fn ask(address: SocketAddr, last: i64) -> Result<Answer, ProbeError> {
    match timeout(QUESTION_BOUND, exchange(address, last)).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::Unreachable(format!("no answer within {} s", QUESTION_BOUND.as_secs()))),
    }
}

async fn exchange(address: SocketAddr, last: i64) -> Result<Answer, ProbeError> {
    let mut stream = TcpStream::connect(address).await.map_err(broken)?;
    stream.write_all(&request(last)).await.map_err(broken)?;
    read_answer(&mut stream).await
}

/// Reads frames until the answer has come as far as the beginning of its first transaction.
///
/// No frame is held whole: at most 256 KiB are in memory. The time is the caller's to bound.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Answer, ProbeError> {
    let mut answer = Vec::new();
    loop {
        let (flags, mut left) = read_head(stream).await?;
        if flags & FAILURE != 0 {
            return Err(read_exception(stream, left).await?);
        }
        while left > 0 {
            left -= read_piece(stream, left, &mut answer).await?;
            if let Some(answer) = parse(&answer).map_err(ProbeError::Foreign)? {
                return Ok(answer);
            }
            if answer.len() > ANSWER_LIMIT {
                return Err(ProbeError::Foreign(format!("its answer has no transaction within {ANSWER_LIMIT} bytes")));
            }
        }
        if flags & MORE == 0 {
            return Err(ProbeError::Foreign("its answer ends too early".to_owned()));
        }
    }
}

/// The flags of the next frame, and how many bytes of content follow.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u8, usize), ProbeError> {
    let length = stream.read_u32().await.map_err(broken)?;
    let length = usize::try_from(length).ok().filter(|length| (2..=FRAME_LIMIT).contains(length));
    let Some(length) = length else {
        return Err(ProbeError::Foreign("its answer does not start with a frame's length".to_owned()));
    };
    let flags = stream.read_u8().await.map_err(broken)?;
    let version = stream.read_u8().await.map_err(broken)?;
    if flags >> 2 != INTERNAL_VERSION || version != BACKUP_VERSION {
        return Err(ProbeError::Foreign(format!(
            "it speaks protocol version {}.{version}, not {INTERNAL_VERSION}.{BACKUP_VERSION}",
            flags >> 2
        )));
    }
    Ok((flags, length - 2))
}

/// Appends some of the `left` bytes of a frame, and says how many.
async fn read_piece(stream: &mut (impl AsyncRead + Unpin), left: usize, to: &mut Vec<u8>) -> Result<usize, ProbeError> {
    let mut piece = [0; PIECE_BYTES];
    let read = stream.read(&mut piece[..left.min(PIECE_BYTES)]).await.map_err(broken)?;
    if read == 0 {
        return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    to.extend(&piece[..read]);
    Ok(read)
}

/// The exception in the rest of a frame.
async fn read_exception(stream: &mut (impl AsyncRead + Unpin), mut left: usize) -> Result<ProbeError, ProbeError> {
    let mut serialised = Vec::new();
    left = left.min(EXCEPTION_BYTES_MAX);
    while left > 0 {
        left -= read_piece(stream, left, &mut serialised).await?;
    }
    let text = exception_text(&serialised);
    let about_logs = |words: &str| serialised.windows(words.len()).any(|window| window == words.as_bytes());
    let logs_gone = LOGS_GONE.iter().any(|words| about_logs(words));
    Ok(if logs_gone { ProbeError::LogsGone(text) } else { ProbeError::Exception(text) })
}

/// An incremental request of a client that has everything up to transaction `last`.
fn request(last: i64) -> Vec<u8> {
    let mut payload = vec![INTERNAL_VERSION << 2, BACKUP_VERSION];
    payload.push(1); // incremental
    payload.extend((-1_i64).to_be_bytes()); // session, machine and event: none, as the backup tool sends them
    payload.extend((-1_i32).to_be_bytes());
    payload.extend((-1_i32).to_be_bytes());
    payload.push(1); // number of data sources
    payload.extend(u32::try_from(DATA_SOURCE.len()).unwrap_or_default().to_be_bytes());
    payload.extend(DATA_SOURCE.encode_utf16().flat_map(u16::to_be_bytes));
    payload.extend(last.to_be_bytes());
    payload.extend((-1_i32).to_be_bytes()); // master and checksum of that transaction: unknown
    payload.extend((-1_i64).to_be_bytes());
    let mut frame = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes().to_vec();
    frame.append(&mut payload);
    frame
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn broken(error: std::io::Error) -> ProbeError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            ProbeError::Unreachable("it closed the connection without a whole answer".to_owned())
        }
        _ => ProbeError::Unreachable(error.to_string()),
    }
}

/// Reads an answer as far as the beginning of its first transaction; nothing means that more has to be read.
fn parse(answer: &[u8]) -> Result<Option<Answer>, String> {
    let mut reader = Reader(answer);
    let Some((store_id, sources)) = reader.head() else { return Ok(None) };
    if sources == 0 {
        return Ok(Some(Answer { store_id, first: None }));
    }
    for _ in 0..sources {
        let Some(length) = reader.number(i32::from_be_bytes) else { return Ok(None) };
        let length = usize::try_from(length).ok().filter(|units| *units <= 256);
        let length = length.ok_or("its answer has no names of data sources")?;
        if reader.take(2 * length).is_none() {
            return Ok(None);
        }
    }
    match reader.number(u8::from_be_bytes) {
        None => Ok(None),
        Some(0) => Ok(Some(Answer { store_id, first: None })),
        Some(source) if source > sources => {
            Err(format!("its answer has {sources} data sources and uses number {source}"))
        }
        Some(_) => Ok(reader.transaction().map(|first| Answer { store_id, first: Some(first) })),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn number<const N: usize, T>(&mut self, decode: fn([u8; N]) -> T) -> Option<T> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(decode(*head))
    }

    /// Store id, and the number of data sources whose transactions follow.
    fn head(&mut self) -> Option<(StoreId, u8)> {
        let creation_time = self.number(i64::from_be_bytes)?;
        let random_id = self.number(i64::from_be_bytes)?;
        let _store_version = self.number(i64::from_be_bytes)?;
        Some((StoreId { creation_time, random_id }, self.number(u8::from_be_bytes)?))
    }

    /// A number, then blocks: a length byte of 0 is a block of 255 bytes with more to follow, any other is the last.
    fn transaction(&mut self) -> Option<Transaction> {
        let id = self.number(i64::from_be_bytes)?;
        let mut entries = Vec::new();
        let mut last = 0;
        while last == 0 && entries.len() < ENTRIES_BYTES_MAX {
            last = self.number(u8::from_be_bytes)?;
            entries.extend(self.take(if last == 0 { 255 } else { last.into() })?);
        }
        entries.truncate(ENTRIES_BYTES_MAX);
        Some(Transaction { id, entries })
    }
}

/// The class and the messages of a serialised Java exception, as far as they can be told without Java.
///
/// Names of classes and fields stand between them: only the first, which is the exception's own, is for people.
fn exception_text(serialised: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text: String = serialised
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '\n' })
        .collect();
    let mut runs = text.lines().map(without_length).map(str::trim).filter(|run| run.len() > 8);
    let class = runs.next().unwrap_or_default();
    let messages = runs.filter(|run| run.contains(' '));
    let text: Vec<&str> = std::iter::once(class).chain(messages).collect();
    text.join(" ").chars().take(LONGEST).collect()
}

/// Before each text stands its length, which may look like a character of it.
fn without_length(run: &str) -> &str {
    let text = run.get(1..).unwrap_or_default();
    if run.bytes().next().is_some_and(|length| usize::from(length) == text.len()) { text } else { run }
}

#[cfg(test)]
mod tests;
