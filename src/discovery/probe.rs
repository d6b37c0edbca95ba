//! Asking a member over its backup port: which store it serves, and which transactions it holds.
//!
//! Protocol of Neo4j 1.5.1 to 1.9 (`Protocol`, `Server`, `BackupClient` of the database's sources; checked against 1.8): one
//! request and one answer per connection. An *incremental* request names the last transaction that the asker has; the
//! answer is the member's store id and every transaction after that. Reading stops at the first one, so a question
//! costs the member next to nothing.

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
/// Largest answer that is read: a first transaction that does not fit is refused.
const ANSWER_LIMIT: usize = 16 << 20;
/// The data source that holds nodes, relationships and properties.
const DATA_SOURCE: &str = "nioneodb";
/// Newer than any transaction: the member answers with its store id alone.
const BEYOND_EVERY_TRANSACTION: i64 = i64::MAX / 2;

/// A transaction as the member serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Number of the transaction.
    pub id: i64,
    /// Its entries, byte for byte as in the member's logical log.
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
    /// The member answered with an exception, such as "not found in any logical log".
    #[error("it answered with the exception {0}")]
    Exception(String),
}

/// The store that the member at `address` serves.
pub async fn store_id(address: SocketAddr) -> Result<StoreId, ProbeError> {
    Ok(ask(address, BEYOND_EVERY_TRANSACTION).await?.store_id)
}

/// Transaction `id` as the member at `address` holds it, or nothing if it has not come so far.
///
/// [`ProbeError::Exception`] where its logs no longer reach back to it. `id` is 2 or more: 1 is the empty store.
pub async fn transaction(address: SocketAddr, id: i64) -> Result<Option<Transaction>, ProbeError> {
    let first = ask(address, id - 1).await?.first;
    match first {
        Some(transaction) if transaction.id != id => {
            Err(ProbeError::Foreign(format!("asked for transaction {id} it served {}", transaction.id)))
        }
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

/// Reads frames until the answer has come as far as its first transaction. Holds at most one frame and the limit of an
/// answer in memory; the time is the caller's to bound.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Answer, ProbeError> {
    let mut answer = Vec::new();
    loop {
        let length = stream.read_u32().await.map_err(broken)?;
        let length = usize::try_from(length).ok().filter(|length| (2..=FRAME_LIMIT).contains(length));
        let Some(length) = length else {
            return Err(ProbeError::Foreign("its answer does not start with a frame's length".to_owned()));
        };
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await.map_err(broken)?;
        let more = unwrap(&frame, &mut answer)?;
        if let Some(answer) = parse(&answer).map_err(ProbeError::Foreign)? {
            return Ok(answer);
        }
        if !more {
            return Err(ProbeError::Foreign("its answer ends too early".to_owned()));
        }
        if answer.len() > ANSWER_LIMIT {
            return Err(ProbeError::Foreign(format!(
                "the transaction that it serves is larger than {ANSWER_LIMIT} bytes"
            )));
        }
    }
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

/// Adds a frame's content to the answer and says whether more frames follow.
fn unwrap(frame: &[u8], answer: &mut Vec<u8>) -> Result<bool, ProbeError> {
    let [flags, version, content @ ..] = frame else {
        return Err(ProbeError::Foreign("it sent an empty frame".to_owned()));
    };
    if flags >> 2 != INTERNAL_VERSION || *version != BACKUP_VERSION {
        return Err(ProbeError::Foreign(format!(
            "it speaks protocol version {}.{version}, not {INTERNAL_VERSION}.{BACKUP_VERSION}",
            flags >> 2
        )));
    }
    if flags & FAILURE != 0 {
        return Err(ProbeError::Exception(exception_text(content)));
    }
    answer.extend(content);
    Ok(flags & MORE != 0)
}

/// Reads an answer as far as its first transaction; nothing means that it goes on in the next frame.
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
        loop {
            match self.number(u8::from_be_bytes)? {
                0 => entries.extend(self.take(255)?),
                last => {
                    entries.extend(self.take(usize::from(last))?);
                    return Some(Transaction { id, entries });
                }
            }
        }
    }
}

/// The class and the message of a serialised Java exception, as far as they can be told without Java.
fn exception_text(serialised: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text: String = serialised
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '\n' })
        .collect();
    let runs: Vec<&str> = text.lines().map(str::trim).filter(|run| run.len() > 8).collect();
    let joined = runs.join(" ");
    joined.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests;
