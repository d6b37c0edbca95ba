//! A Kubernetes operator that backs up HA graph-database clusters and proves every backup.
//!
//! Layers, each using only those above it:
//!
//! - [`api`]: the kinds, conditions, reasons, names and labels. No I/O.
//! - [`discovery`]: source URIs, the znodes of the database, finding the master.
//! - [`contract`]: what a Job is asked and what it answers.
//! - [`agent`]: what runs inside Jobs.
//! - [`controller`]: what every controller is made of: calls to the API server, the lock of a database cluster, Jobs,
//!   metrics.
//! - [`members`]: stopping and starting the members of a StatefulSet.
//! - [`backup`]: the `GraphBackup` controller.
//! - [`schedule`]: the `BackupSchedule` controller.
//! - [`restore`]: the `Restore` controller.
//! - [`operator`]: the process: leadership, health, shutdown.

pub mod agent;
pub mod api;
pub mod backup;
pub mod contract;
pub mod controller;
pub mod discovery;
pub mod members;
pub mod operator;
pub mod restore;
pub mod schedule;
