//! The `BackupSchedule` controller under the simulation: its invariants and its scenarios.

mod definition;
mod drills;
mod invariants;
mod look;
mod scenario;
mod scenarios;
mod standin;
mod subject;
mod whole;
mod year;
