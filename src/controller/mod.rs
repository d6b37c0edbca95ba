//! What every controller is made of. Nothing here knows a kind.

pub mod call;
pub mod effects;
pub mod event;
pub mod job;
pub mod lock;
pub mod metrics;
pub mod pace;
pub mod pass;
pub mod pod;
