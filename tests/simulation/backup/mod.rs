//! The `GraphBackup` controller under the simulation: its invariants and its scenarios.

mod conformance;
mod invariants;
mod jobs;
mod limited;
pub mod scenario;
mod scenarios;
pub mod subject;
pub mod whole;
