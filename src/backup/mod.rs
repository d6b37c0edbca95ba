//! The `GraphBackup` controller.
//!
//! A pass reads the object ([`validate`]), looks at the world ([`observe`] into [`world`]), decides ([`decide`], pure)
//! and does it ([`apply`], with Jobs from [`build`] and the status from [`status`]). Nothing is remembered between passes.

pub mod apply;
pub mod build;
pub mod controller;
pub mod decide;
pub mod event;
pub mod foreign;
pub mod observe;
pub mod points;
pub mod status;
pub mod step;
pub mod validate;
pub mod world;
