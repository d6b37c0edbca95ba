//! Where the database is: source URIs, the znodes that its members publish, the master, and the fence token.
//!
//! Nothing here ever writes to ZooKeeper.

mod source;

pub use source::{DEFAULT_BACKUP_PORT, DEFAULT_ZOOKEEPER_PORT, SourceUri, SourceUriError};
