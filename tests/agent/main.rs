//! The agent's binary with a scripted tool and a scripted member: what is on the volume, and what the verdict says of
//! it.
//!
//! Only the tool and the member's answer to the probe are scripted; processes, signals, locks and files are real.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    reason = "a test says what it wants in the fewest words"
)]

#[path = "../support/agent.rs"]
mod agent;
mod boot;
mod carried;
mod cold;
mod devices;
mod drill;
mod incremental;
mod killed;
mod log;
mod mastership;
mod member;
mod names;
mod point;
mod restore;
mod scene;
mod seed;
mod stopped;
mod tool;
mod traced;
mod volume;
