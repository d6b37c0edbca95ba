//! Decoders of the znodes that Neo4j 1.2 to 1.8 writes. Read only: what a name or an address is good for is decided
//! elsewhere.
//!
//! All numbers are big-endian, all texts UTF-16BE with their length in code units, as Java's `ByteBuffer` writes them.
//! Layouts: `StoreId`, `ZooClient` and `AbstractZooKeeperManager` of the database's sources; checked against znodes of
//! real members.

use super::{DEFAULT_BACKUP_PORT, source};
use crate::api::{Endpoint, StoreId};

/// A znode that no known version of the database writes like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {length} bytes of znode {path} are not {expected}: {problem}")]
pub struct ZnodeError {
    /// Path of the znode.
    pub path: String,
    /// How many bytes it holds.
    pub length: usize,
    /// What it should hold.
    pub expected: &'static str,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a znode's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The layout has other lengths.
    #[error("that has {0} bytes")]
    Length(&'static str),
    /// The trailing number of a 24-byte store id is not a store version.
    #[error("{0:#018x} is not a store version")]
    StoreVersion(i64),
    /// No TCP port.
    #[error("the backup port would be {0}")]
    Port(i32),
    /// The signed byte that counts the code units is negative: the text was longer than 127.
    #[error("the length of its text would be {0}")]
    TextLength(i8),
    /// The znode ends before its text does.
    #[error("it ends within its text of {units} code units")]
    Truncated {
        /// Code units announced.
        units: usize,
    },
    /// The text has unpaired surrogates.
    #[error("its text is not UTF-16")]
    Utf16,
    /// A transaction id below −2, or a half of "idle".
    #[error("no member publishes transaction {transaction} with master {master}")]
    Transaction {
        /// Transaction id.
        transaction: i64,
        /// Member that was master when it was committed.
        master: i32,
    },
}

/// What `/<cluster name>` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Identity of the cluster's store; names the root below which its members register.
    pub store_id: StoreId,
    /// Store format, from 1.5 on (24 bytes); 1.3 and 1.4 (16 bytes) did not write it.
    pub store_version: Option<i64>,
}

/// What a member says in `R/<id>_<seq>`: the last transaction that it committed, which decides elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// (−2, −2), from 1.8.M05: the member publishes its transaction only while it is asked to.
    Idle,
    /// Transaction −1: the member cannot become master.
    NotEligible,
    /// (0, −1): the member waits for older ones to be upgraded.
    Compatibility,
    /// The last committed transaction; 1 is a store that nothing was ever written to.
    Committed {
        /// Transaction id.
        transaction: i64,
        /// Member that was master when it was committed, where known (1.4 and later, not −1).
        master: Option<i32>,
    },
}

/// What `R/ha-servers/<id>` holds: how to reach a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member's `ha.server` as configured, `host:port`; the port is that of master and slaves, not for backups.
    pub address: String,
    /// The backup port as published; 0 (1.3 to 1.6: backup disabled) and nothing (1.2) both mean the default.
    pub backup_port: Option<u16>,
}

impl Member {
    /// Host and backup port, or nothing when the address has no host that a backup could name: an IPv6 literal, an
    /// underscore (Java's URI then has no host), nothing at all.
    pub fn endpoint(&self) -> Option<Endpoint> {
        // As the backup tool does it: the host ends at the first colon.
        let host = self.address.split(':').next().unwrap_or_default();
        let port = self.backup_port.filter(|port| *port != 0).unwrap_or(DEFAULT_BACKUP_PORT);
        source::is_host(host).then(|| Endpoint { host: host.to_owned(), port })
    }
}

/// A znode's bytes with what an error needs to name them.
struct Reader<'a> {
    path: &'a str,
    expected: &'static str,
    all: &'a [u8],
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(path: &'a str, expected: &'static str, bytes: &'a [u8]) -> Self {
        Self { path, expected, all: bytes, left: bytes }
    }

    fn refuse(&self, problem: Problem) -> ZnodeError {
        ZnodeError { path: self.path.to_owned(), length: self.all.len(), expected: self.expected, problem }
    }

    /// The next `N` bytes; `lengths` names the lengths that the layout has, for when they are not there.
    fn take<const N: usize>(&mut self, lengths: &'static str) -> Result<[u8; N], ZnodeError> {
        let (head, tail) = self.left.split_first_chunk().ok_or_else(|| self.refuse(Problem::Length(lengths)))?;
        self.left = tail;
        Ok(*head)
    }

    fn end(&self, lengths: &'static str) -> Result<(), ZnodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(self.refuse(Problem::Length(lengths))) }
    }
}

/// Decodes `/<cluster name>`: i64 creation time, i64 random id and, from 1.5 on, i64 store version.
pub fn pointer(path: &str, bytes: &[u8]) -> Result<Pointer, ZnodeError> {
    const LENGTHS: &str = "16 or 24";
    let mut reader = Reader::new(path, "the store id of a cluster", bytes);
    let creation_time = i64::from_be_bytes(reader.take(LENGTHS)?);
    let random_id = i64::from_be_bytes(reader.take(LENGTHS)?);
    let store_id = StoreId { creation_time, random_id };
    if reader.left.is_empty() {
        return Ok(Pointer { store_id, store_version: None });
    }
    let version = i64::from_be_bytes(reader.take(LENGTHS)?);
    reader.end(LENGTHS)?;
    if !is_store_version(version) {
        return Err(reader.refuse(Problem::StoreVersion(version)));
    }
    Ok(Pointer { store_id, store_version: Some(version) })
}

/// A store version is a short ASCII text: its length in the lowest byte, its first character in the next, zeros above.
fn is_store_version(version: i64) -> bool {
    let [length, text @ ..] = version.to_le_bytes();
    let length = usize::from(length);
    (1..=text.len()).contains(&length)
        && text.iter().enumerate().all(|(at, byte)| if at < length { byte.is_ascii_graphic() } else { *byte == 0 })
}

/// Decodes `R/<id>_<seq>`: i64 last committed transaction and, from 1.4 on, i32 member that was master then.
pub fn published(path: &str, bytes: &[u8]) -> Result<Published, ZnodeError> {
    const LENGTHS: &str = "8 or 12";
    let mut reader = Reader::new(path, "a member's last transaction", bytes);
    let transaction = i64::from_be_bytes(reader.take(LENGTHS)?);
    let master = if reader.left.is_empty() { -1 } else { i32::from_be_bytes(reader.take(LENGTHS)?) };
    reader.end(LENGTHS)?;
    match (transaction, master) {
        (-2, -2) => Ok(Published::Idle),
        (-1, _) => Ok(Published::NotEligible),
        (0, -1) if bytes.len() == 12 => Ok(Published::Compatibility),
        (0.., -1..) => Ok(Published::Committed { transaction, master: (master >= 0).then_some(master) }),
        _ => Err(reader.refuse(Problem::Transaction { transaction, master })),
    }
}

/// Decodes `R/ha-servers/<id>`: from 1.3 on i32 backup port, then in all versions i8 length and text, then zeros that
/// mean nothing (a mistake of the database that became format; hand-made znodes may lack them).
///
/// 1.2 starts with the length, which is not 0; later ones with the upper half of a port, which is.
pub fn member(path: &str, bytes: &[u8]) -> Result<Member, ZnodeError> {
    const LENGTHS: &str = "5 and more";
    let mut reader = Reader::new(path, "a member's address", bytes);
    let backup_port = match bytes.first() {
        // Anything else that starts like this is not of 1.2.
        Some(units @ 1..=127) if [1, 20].contains(&(bytes.len().saturating_sub(2 * usize::from(*units)))) => None,
        _ => {
            let port = i32::from_be_bytes(reader.take(LENGTHS)?);
            Some(u16::try_from(port).map_err(|_| reader.refuse(Problem::Port(port)))?)
        }
    };
    let length = i8::from_be_bytes(reader.take(LENGTHS)?);
    let units = usize::try_from(length).map_err(|_| reader.refuse(Problem::TextLength(length)))?;
    let text = reader.left.get(..2 * units).ok_or_else(|| reader.refuse(Problem::Truncated { units }))?;
    let units: Vec<u16> = text.as_chunks().0.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
    let address = String::from_utf16(&units).map_err(|_| reader.refuse(Problem::Utf16))?;
    Ok(Member { address, backup_port })
}

/// Decodes `master-rebound`, `master-notify` and `flush-requested`: i32, −1 for nobody (`flush-requested`: −6).
pub fn member_id(path: &str, bytes: &[u8]) -> Result<i32, ZnodeError> {
    const LENGTHS: &str = "4";
    let mut reader = Reader::new(path, "a member's id", bytes);
    let id = i32::from_be_bytes(reader.take(LENGTHS)?);
    reader.end(LENGTHS)?;
    Ok(id)
}

/// Reads the name of an election node, `<id>_<seq>`; other children of the root give nothing.
pub fn election_name(name: &str) -> Option<(i32, i32)> {
    let (id, sequence) = name.split_once('_')?;
    Some((id.parse().ok()?, sequence.parse().ok()?))
}

/// Reads the name of a root, `<creation time>_<random id>`; other znodes give nothing.
pub fn root_name(name: &str) -> Option<StoreId> {
    let (creation_time, random_id) = name.split_once('_')?;
    let id = StoreId { creation_time: creation_time.parse().ok()?, random_id: random_id.parse().ok()? };
    // Only as the database writes it: no '+', no leading zeros.
    (id.root_path().strip_prefix('/') == Some(name)).then_some(id)
}

#[cfg(test)]
mod tests;
