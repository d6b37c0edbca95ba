//! The `GraphBackup` controller.
//!
//! A pass reads what the object asks for ([`request`]), observes the world ([`observe`] into [`world`]), decides
//! ([`decide`]), makes the effects ([`effects`], with Jobs from [`build`] and the status from [`status`]) and has them
//! executed. Only observing and executing have a client. Nothing but the pace is remembered between passes.

pub mod build;
pub mod controller;
pub mod decide;
pub mod effects;
pub mod event;
pub mod finalizers;
pub mod foreign;
pub mod known;
pub mod lock_holder;
mod log;
pub mod observe;
pub mod points;
pub mod request;
pub mod status;
pub mod step;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod watches;
pub mod world;
