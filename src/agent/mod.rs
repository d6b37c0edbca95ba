//! What runs inside Jobs: the tool and its verdict, the store header, the manifest, and their proof.
//!
//! The agent never talks to the Kubernetes API. It is told what to do by a [`run::BackupRun`], [`run::InspectRun`] or
//! [`run::PruneRun`] and answers with one [`verdict::Verdict`].

pub mod backup;
mod blocking;
pub mod boot;
mod cold;
pub mod command;
pub mod digest;
mod earlier;
mod exec;
mod forward;
pub mod history;
mod index_names;
pub mod inspect;
mod install;
mod io_kind;
pub mod layout;
pub mod lock;
#[cfg_attr(test, allow(dead_code, reason = "unit tests print at once"))]
mod log_queue;
pub mod manifest;
pub mod manifest_file;
mod mastership;
mod modes;
mod mounts;
mod parent;
pub mod points;
pub mod progress;
pub mod prune;
mod rate;
mod relay;
pub mod report;
pub mod run;
mod seed;
mod space;
pub mod stop;
pub mod store_header;
pub mod target;
#[cfg(test)]
mod testing;
pub mod tool;
pub mod tool_output;
pub mod tool_stream;
pub mod transaction_log;
pub mod tree;
mod two_phase;
pub mod verdict;
mod witness;
mod write_back;
