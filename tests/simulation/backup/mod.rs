//! The `GraphBackup` controller under the simulation: its world, its invariants, its scenarios.

mod agent;
mod cluster;
mod conformance;
mod database;
mod invariants;
mod jobs;
mod pods;
mod scenario;
mod scenarios;
mod subject;
mod whole;
mod workload;
