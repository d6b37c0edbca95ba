//! Virtual time: tokio's paused clock, with a wall clock that follows it.

use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio::time::Instant;

/// Unix time at which every run begins.
const BEGINNING: i64 = 1_795_500_000;

/// Time since the beginning of a run. Moves only when everybody waits.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    before: Duration,
}

impl Clock {
    /// Begins now, so much after the beginning of the run.
    pub fn start(before: Duration) -> Self {
        Self { zero: Instant::now(), before }
    }

    /// The wall clock.
    pub fn now(self) -> DateTime<Utc> {
        DateTime::from_timestamp(BEGINNING, 0).unwrap() + self.elapsed()
    }

    /// Time since the beginning of the run.
    pub fn elapsed(self) -> Duration {
        self.before + self.zero.elapsed()
    }

    /// Waits until a time since the beginning.
    pub async fn wait_until(self, time: Duration) {
        tokio::time::sleep_until(self.zero + time.saturating_sub(self.before)).await;
    }
}
