//! What every controller is made of. Nothing here knows a kind.

pub mod call;
pub mod effects;
pub mod event;
pub mod health;
pub mod job;
pub mod limit;
pub mod lock;
pub mod metrics;
pub mod namespace;
pub mod pace;
pub mod pass;
pub mod pod;
pub mod progress;
pub mod queue;
pub mod server_time;
pub mod store;
pub mod watch;
