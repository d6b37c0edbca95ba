//! The database's own programs: how they are run, what they print, and how much they may read.

pub mod boot;
pub(super) mod exec;
pub mod output;
pub mod process;
mod rate;
pub(super) mod relay;
pub mod stream;
