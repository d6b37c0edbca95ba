//! The `Restore` controller under the simulation: its invariants and its scenarios.

mod invariants;
mod look;
mod scenario;
mod scenarios;
mod subject;
