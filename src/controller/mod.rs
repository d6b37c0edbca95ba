//! What every controller is made of. Nothing here knows a kind.

pub mod call;
pub mod job;
pub mod lock;
pub mod metrics;
