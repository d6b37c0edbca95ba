//! What runs inside Jobs: the tool and its verdict, the store header, the manifest, and their proof.
//!
//! The agent never talks to the Kubernetes API. It is told what to do by a [`run::BackupRun`] or
//! [`run::InspectRun`] and answers with one [`verdict::Verdict`].

pub mod digest;
pub mod manifest;
pub mod progress;
pub mod report;
pub mod run;
pub mod stop;
pub mod store_header;
pub mod verdict;
