//! What a Job can be asked to do, one file for each task, and the parts of a backup that are tasks of their own.

pub mod backup;
pub(super) mod carry;
pub(super) mod cold;
pub(super) mod drill;
pub(super) mod earlier;
pub mod inspect;
pub(super) mod install;
pub mod list;
mod mastership;
mod parent;
pub mod prune;
mod restored;
pub(super) mod stage;
pub(super) mod survey;
