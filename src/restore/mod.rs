//! The `Restore` controller.
//!
//! A pass reads the object ([`validate`]), observes the world ([`observe`] into [`world`]), decides ([`decide`], with
//! [`plan`] and [`swap`]), makes the effects ([`effects`], with Jobs and claims from [`build`]) and has them executed.
//! Only observing and executing have a client. Nothing but the pace is remembered between passes: what was done stands
//! in the journal, and every step compares the journal with the cluster as it is now.

pub mod build;
pub mod controller;
pub mod decide;
pub mod effects;
pub mod observe;
pub mod plan;
pub mod status;
pub mod step;
pub mod swap;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod watches;
pub mod world;
