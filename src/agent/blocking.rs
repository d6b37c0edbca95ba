//! Work that blocks a thread.

use crate::api::Reason;
use crate::contract::failure::Failure;

/// Runs it beside the runtime, which goes on to listen for signals.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(Reason::AgentFailed, error.to_string())))
}
