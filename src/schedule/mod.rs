//! The `BackupSchedule` controller: backups at fixed times, and the removal of points that are no longer needed.
//!
//! The files have the names of those in [`backup`](crate::backup). Beside them: [`slots`] says when a backup is due,
//! [`retention`] which points stay, and [`children`] which backups are a schedule's own.

mod build;
pub mod children;
pub mod controller;
mod decide;
mod drill;
mod effects;
mod event;
pub mod retention;
pub mod slots;
mod status;
mod step;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod watches;
mod world;
