//! The controllers against an API server in this process, in virtual time, with a fault at every request.
//!
//! `docs/testing.md` explains it. [`apiserver`], [`fault`], [`driver`] and [`oracle`] know no kind of ours. [`world`]
//! is what surrounds every controller. [`backup`] is about `GraphBackup`, [`schedule`] about `BackupSchedule`, and their
//! `scenarios` are the place to add one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it wants in the fewest words")]

mod apiserver;
mod backup;
mod clock;
mod driver;
mod fault;
mod join;
mod oracle;
mod report;
mod restore;
mod schedule;
mod world;
