//! The `GraphBackup` controller.
//!
//! A pass reads the object ([`validate`]), looks at the world ([`observe`] into [`world`]), decides ([`decide`], pure)
//! and does it ([`apply`], with Jobs from [`build`] and the status from [`status`]). Nothing is remembered between passes.

pub mod adopt;
pub mod apply;
pub mod build;
pub mod cold;
pub mod controller;
pub mod decide;
pub mod event;
pub mod foreign;
pub mod inspection;
pub mod job_state;
pub mod observe;
mod pod_start;
pub mod points;
pub mod removal;
pub mod status;
pub mod step;
pub mod validate;
pub mod world;
