//! A Kubernetes operator that backs up HA graph-database clusters and proves every backup.
//!
//! Layers, each using only those above it:
//!
//! - [`api`]: the kinds, conditions, reasons, names and labels. No I/O.
//! - [`discovery`]: source URIs, the znodes of the database, finding the master and its fence token.
//! - [`agent`]: what runs inside Jobs: the tool and its verdict, the store header, the manifest.
//! - [`client`], [`cluster_lock`] and [`metrics`]: calls to the API server, the lock of a database cluster, and counters; shared
//!   by the controllers.
//! - [`backup`]: the `GraphBackup` controller: observe, decide, build, apply, status.
//! - [`operator`]: the process: leadership, health, metrics, shutdown.

pub mod agent;
pub mod api;
pub mod backup;
pub mod client;
pub mod cluster_lock;
pub mod discovery;
pub mod metrics;
pub mod operator;
