//! The mounted volumes: where points are, who may write, how files are written, and what is wrong when they cannot be.

pub(super) mod io_kind;
pub mod layout;
pub mod lock;
pub(super) mod member;
pub(super) mod modes;
mod mounts;
pub(super) mod space;
pub mod target;
pub(super) mod write_back;
