//! The `BackupSchedule` controller under the simulation: its invariants and its scenarios.

mod invariants;
mod scenario;
mod scenarios;
mod standin;
mod subject;
mod whole;
mod year;
