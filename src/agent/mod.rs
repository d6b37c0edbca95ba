//! What runs inside Jobs: the tool and its verdict, the store header, the manifest, and their proof.
//!
//! The agent never talks to the Kubernetes API. A [`Task`](crate::contract::task::Task) tells it what to do, and it
//! answers with one [`Verdict`](crate::contract::verdict::Verdict).
//!
//! [`tasks`] use [`tool`], [`store`] and [`volume`]; these use what stands beside them here.

mod blocking;
pub mod command;
#[cfg_attr(test, allow(dead_code, reason = "unit tests print at once"))]
mod log_queue;
pub mod progress;
pub mod report;
pub mod stop;
pub mod store;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod tool;
pub mod volume;
