//! The log: structured, filtered by `RUST_LOG`.

use super::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts the log of the process. Without `RUST_LOG`: everything from `info` up.
pub fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}
