//! Where the database is: source URIs, the znodes that its members publish, the master, and the mastership token.
//!
//! Callers use [`Network`] through [`Discovery`]; a test puts its own [`Discovery`] or its own [`ensemble::Ensemble`]
//! in its place. Nothing here ever writes to ZooKeeper.

pub mod ensemble;
mod error;
pub mod locate;
mod network;
pub mod probe;
mod resolve;
mod source;
pub mod znode;
pub mod zookeeper;

pub use error::DiscoveryError;
pub use locate::DEFAULT_CLUSTER_NAME;
pub use network::{ClusterView, Discovery, LOOK_UP_BOUND, Located, Network, Registered};
pub use source::{DEFAULT_BACKUP_PORT, DEFAULT_ZOOKEEPER_PORT, SourceUri, SourceUriError};
