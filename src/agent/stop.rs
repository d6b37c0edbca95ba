//! When a run has to end early: a signal from the kubelet, or the run's own deadline.

use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::process::Signal;
use std::future::{Future, pending};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why a run has to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The agent was sent this signal: the pod is deleted, evicted, or its node drained.
    Signal(Signal),
    /// The seconds that the run may take are over.
    Deadline(Duration),
}

impl StopCause {
    /// The signal that a running child is sent first: what the agent was sent itself, else `SIGTERM`.
    pub fn signal_to_pass_on(self) -> Signal {
        match self {
            Self::Signal(signal) => signal,
            Self::Deadline(_) => Signal::TERM,
        }
    }
}

impl From<StopCause> for Failure {
    fn from(cause: StopCause) -> Self {
        match cause {
            StopCause::Signal(signal) => Self::new(
                Reason::Interrupted,
                format!(
                    "the run was told to stop (signal {}) before it was done: its pod was deleted or evicted, or its node \
                     drained",
                    signal.as_raw()
                ),
            ),
            StopCause::Deadline(limit) => Self::new(
                Reason::DeadlineExceeded,
                format!(
                    "the attempt did not end within its {} seconds and was stopped; raise spec.deadlines.run if the \
                     store needs longer to copy",
                    limit.as_secs()
                ),
            ),
        }
    }
}

/// Tells every part of a run, asynchronous or not, that it has to end.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<StopCause>>);

impl Stop {
    /// Takes over `SIGTERM` and `SIGINT` and starts the clock. Has to be called inside a tokio runtime.
    pub fn listen(deadline: Duration) -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let cause = tokio::select! {
                _ = terminate.recv() => StopCause::Signal(Signal::TERM),
                _ = interrupt.recv() => StopCause::Signal(Signal::INT),
                () = tokio::time::sleep(deadline) => StopCause::Deadline(deadline),
            };
            // Nobody listens any more only when the run is over.
            let _ = sender.send(Some(cause));
        });
        Ok(Self(receiver))
    }

    /// The cause, once there is one. For loops that block a thread.
    pub fn cause(&self) -> Option<StopCause> {
        *self.0.borrow()
    }

    /// Waits until the run has to end.
    pub async fn stopped(&self) -> StopCause {
        let mut receiver = self.0.clone();
        let cause = receiver.wait_for(Option::is_some).await.ok().and_then(|cause| *cause);
        match cause {
            Some(cause) => cause,
            None => pending().await,
        }
    }

    /// Runs `work` unless and until the run has to end.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, StopCause> {
        tokio::select! {
            biased;
            cause = self.stopped() => Err(cause),
            result = work => Ok(result),
        }
    }

    /// One that never stops anything.
    pub fn never() -> Self {
        Self(watch::channel(None).1)
    }

    /// One that has stopped already.
    #[cfg(test)]
    pub(crate) fn at_once(cause: StopCause) -> Self {
        Self(watch::channel(Some(cause)).1)
    }
}
