//! The `GraphBackup` controller under the simulation: its invariants and its scenarios.

mod conformance;
mod invariants;
mod jobs;
mod scenario;
mod scenarios;
mod subject;
mod whole;
