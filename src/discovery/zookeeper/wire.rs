//! The bytes of ZooKeeper's client protocol, without a connection: how requests are written and what replies say.
//!
//! The protocol of servers 3.3 to 3.9 (`zookeeper.jute`, `ClientCnxn` and `FinalRequestProcessor` of ZooKeeper's
//! sources; the tests read bytes that servers 3.3.2 and 3.9.3 sent). Everything travels in frames: the length as four
//! bytes, then as many bytes. Numbers are big-endian. A text or a buffer follows its length, where −1 means null.
//! Bytes that follow a whole record are ignored, as ZooKeeper's own clients do.

use crate::discovery::ensemble::Znode;
use std::time::Duration;

/// Longest frame that is read, in bytes: what ZooKeeper itself lets a client send (`jute.maxbuffer`).
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a znode that are taken. The largest znode of a member has some 400.
pub const DATA_BYTES_MAX: usize = 64 << 10;
/// Most children of a znode that are taken.
pub const CHILDREN_MAX: usize = 10_000;

/// Length of a new session's password, which is all zeros.
const PASSWORD_BYTES: usize = 16;

/// Why bytes of a server are not a reply that a lookup can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The four bytes before a frame are no length that ZooKeeper would send.
    #[error("it announced a frame of {0} bytes, and ZooKeeper sends 1 to {FRAME_BYTES_MAX}")]
    FrameLength(i32),
    /// The frame ends before its record does.
    #[error("its reply ends within {0}")]
    Truncated(&'static str),
    /// A length or a count is below −1.
    #[error("the length of {what} would be {length}")]
    Length {
        /// What has this length.
        what: &'static str,
        /// The number that came.
        length: i32,
    },
    /// Replies come in the order of their requests; this one belongs to another request.
    #[error("it answered request {found} in place of request {expected}")]
    Xid {
        /// Number of the oldest request without a reply.
        expected: i32,
        /// Number that the reply has.
        found: i32,
    },
    /// The server speaks another version of the protocol.
    #[error("it speaks version {0} of the protocol, and ZooKeeper speaks version 0")]
    Version(i32),
    /// The server answered the connect request without a session.
    #[error("it granted no session")]
    NoSession,
    /// The server has no quorum and serves what it last knew.
    #[error("it is read-only, because it has no quorum")]
    ReadOnly,
    /// A reply that is as ZooKeeper sends it, and larger than anything that a member writes.
    #[error("{0}")]
    Oversized(String),
}

/// What is asked within a session. None of them writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The server shall catch up with the leader.
    Sync,
    /// The bytes of the znode at this path, and what ZooKeeper knows of it. No watch is set.
    Data(String),
    /// The names of the children of the znode at this path. No watch is set.
    Children(String),
    /// The session shall end.
    Close,
}

impl Request {
    /// The whole frame of this request, which has number `xid` in its session.
    pub fn frame(&self, xid: i32) -> Vec<u8> {
        const UNWATCHED: u8 = 0;
        let mut record = xid.to_be_bytes().to_vec();
        // The type of each request, as `ZooDefs.OpCode` numbers them.
        let (code, path): (i32, Option<&str>) = match self {
            Self::Data(path) => (4, Some(path)),
            Self::Children(path) => (8, Some(path)),
            Self::Sync => (9, Some("/")),
            Self::Close => (-11, None),
        };
        record.extend(code.to_be_bytes());
        if let Some(path) = path {
            buffer(&mut record, path.as_bytes());
        }
        if matches!(self, Self::Data(_) | Self::Children(_)) {
            record.push(UNWATCHED);
        }
        framed(&record)
    }
}

/// The whole frame of the request for a new session that outlives silence of `timeout`. It is the first of a
/// connection.
///
/// Its last byte says that a read-only server is not wanted: 3.4 and later then refuse, 3.3 ignores the byte.
pub fn connect(timeout: Duration) -> Vec<u8> {
    const READ_ONLY_UNWANTED: u8 = 0;
    let (version, last_zxid_seen, session) = (0_i32, 0_i64, 0_i64);
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut record = version.to_be_bytes().to_vec();
    record.extend(last_zxid_seen.to_be_bytes());
    record.extend(timeout.to_be_bytes());
    record.extend(session.to_be_bytes());
    buffer(&mut record, &[0; PASSWORD_BYTES]);
    record.push(READ_ONLY_UNWANTED);
    framed(&record)
}

fn buffer(record: &mut Vec<u8>, bytes: &[u8]) {
    record.extend(length(bytes));
    record.extend(bytes);
}

fn framed(record: &[u8]) -> Vec<u8> {
    [&length(record), record].concat()
}

/// Paths come from the spec and from names of children, and both are far shorter than a number can say.
fn length(bytes: &[u8]) -> [u8; 4] {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes()
}

/// How many bytes the frame has that these four bytes announce: 1 to [`FRAME_BYTES_MAX`].
pub fn frame_length(head: [u8; 4]) -> Result<usize, WireError> {
    let announced = i32::from_be_bytes(head);
    let length = usize::try_from(announced).ok().filter(|length| (1..=FRAME_BYTES_MAX).contains(length));
    length.ok_or(WireError::FrameLength(announced))
}

/// Checks the first frame of a connection, the reply to [`connect`], and returns the number of the session in it.
///
/// A server refuses a session by one that times out at once. 3.3 ends the record with the password; later servers add a
/// byte that says whether they are read-only.
pub fn session(frame: &[u8]) -> Result<i64, WireError> {
    let mut reply = Reader { what: "its answer to the connect request", left: frame };
    let version = reply.number()?;
    if version != 0 {
        return Err(WireError::Version(version));
    }
    let timeout = reply.number()?;
    let session = reply.long()?;
    reply.buffer()?;
    if timeout <= 0 || session == 0 {
        return Err(WireError::NoSession);
    }
    match reply.left.first() {
        None | Some(0) => Ok(session),
        Some(_) => Err(WireError::ReadOnly),
    }
}

/// What a server says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The request was served; the bytes are its result.
    Result(&'a [u8]),
    /// The request was refused, for a reason of `KeeperException.Code`.
    Refused(i32),
}

/// Reads the frame that answers request `xid`.
pub fn reply(xid: i32, frame: &[u8]) -> Result<Reply<'_>, WireError> {
    let mut reply = Reader { what: "its header", left: frame };
    let found = reply.number()?;
    reply.long()?;
    let code = reply.number()?;
    if found != xid {
        return Err(WireError::Xid { expected: xid, found });
    }
    Ok(if code == 0 { Reply::Result(reply.left) } else { Reply::Refused(code) })
}

/// Reads the result of [`Request::Data`].
pub fn znode(result: &[u8]) -> Result<Znode, WireError> {
    let mut reply = Reader { what: "the data of a znode", left: result };
    let data = reply.buffer()?;
    if data.len() > DATA_BYTES_MAX {
        return Err(WireError::Oversized(format!("it holds {} bytes, more than {DATA_BYTES_MAX}", data.len())));
    }
    let data = data.to_vec();
    reply.what = "what ZooKeeper knows of a znode";
    let (created, modified, created_at, modified_at) = (reply.long()?, reply.long()?, reply.long()?, reply.long()?);
    let (_version, _children_version, _acl_version) = (reply.number()?, reply.number()?, reply.number()?);
    let session = reply.long()?;
    let (_data_length, _children, _children_modified) = (reply.number()?, reply.number()?, reply.long()?);
    Ok(Znode { data, created, modified, created_at, modified_at, session })
}

/// Reads the result of [`Request::Children`].
///
/// Java writes characters beyond U+FFFF in a form that is not UTF-8. Each byte of such a name becomes U+FFFD: no member
/// writes such a name, and it must not hide those that stand beside it.
pub fn children(result: &[u8]) -> Result<Vec<String>, WireError> {
    let mut reply = Reader { what: "a list of children", left: result };
    let count = reply.count()?;
    if count > CHILDREN_MAX {
        return Err(WireError::Oversized(format!("it has {count} children, more than {CHILDREN_MAX}")));
    }
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(String::from_utf8_lossy(reply.buffer()?).into_owned());
    }
    Ok(names)
}

/// What is left of a record.
struct Reader<'a> {
    what: &'static str,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], WireError> {
        let (bytes, left) = self.left.split_first_chunk().ok_or(WireError::Truncated(self.what))?;
        self.left = left;
        Ok(*bytes)
    }

    fn number(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.bytes()?))
    }

    fn long(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.bytes()?))
    }

    /// A length or a count; null counts as 0.
    fn count(&mut self) -> Result<usize, WireError> {
        let length = self.number()?;
        if length == -1 {
            return Ok(0);
        }
        usize::try_from(length).map_err(|_| WireError::Length { what: self.what, length })
    }

    fn buffer(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.count()?;
        let (bytes, left) = self.left.split_at_checked(length).ok_or(WireError::Truncated(self.what))?;
        self.left = left;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
