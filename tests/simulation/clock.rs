//! Virtual time: tokio's paused clock, with a wall clock that follows it.

use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio::time::Instant;

/// Unix time at which every run begins.
const BEGINNING: i64 = 1_795_500_000;

/// Time since the begin of a run. Moves only when everybody waits.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The wall clock.
    pub fn now(self) -> DateTime<Utc> {
        DateTime::from_timestamp(BEGINNING, 0).unwrap() + self.elapsed()
    }

    /// Time since the beginning.
    pub fn elapsed(self) -> Duration {
        self.zero.elapsed()
    }

    /// The moment so many seconds after the beginning.
    pub fn at(self, seconds: u64) -> Instant {
        self.zero + Duration::from_secs(seconds)
    }
}
