//! A store and its manifest: their formats, their digests, and how a store is copied.

pub(super) mod copy;
pub mod digest;
pub mod files;
pub mod header;
pub mod history;
pub(super) mod index_names;
pub mod manifest;
pub mod manifest_file;
pub(super) mod seed;
pub mod transaction_log;
mod two_phase;
pub(super) mod witness;
