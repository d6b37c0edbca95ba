//! Our own client of ZooKeeper, as small as a lookup needs it: it opens a session, reads, and closes the session.
//!
//! It trusts no server. No frame is longer than [`wire::FRAME_BYTES_MAX`], whatever a server announces, no wait is
//! longer than two seconds for one server, and no request that could write exists. Opening a session is the only thing
//! that the ensemble records.

mod session;
pub mod wire;

pub use session::{Session, read_frame};
