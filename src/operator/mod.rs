//! The process: arguments, leadership, health, metrics, shutdown.

mod arguments;
mod client;
mod crd;
mod http;
mod leadership;
mod log;
mod run;

pub use arguments::{LogFormat, OperatorArguments};
pub use log::start_log;
pub use run::{RunError, run};
