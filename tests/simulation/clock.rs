//! Virtual time: tokio's paused clock, with a wall clock that follows it.

use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;
use tokio::time::Instant;

/// Unix time at which a run begins that says nothing else: 2026-11-24, 06:00.
const BEGINNING: i64 = 1_795_500_000;

/// Somebody sets the wall clock: so many seconds after the beginning of a run, by so many seconds.
pub type Jump = (u64, i64);

/// Which time the wall clocks show.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// Unix time of the beginning.
    beginning: i64,
    /// When every clock is set, in the order of the seconds.
    jumps: &'static [Jump],
    /// When only the operator's clock is set.
    own_jumps: &'static [Jump],
}

impl Default for Calendar {
    fn default() -> Self {
        Self { beginning: BEGINNING, jumps: &[], own_jumps: &[] }
    }
}

impl Calendar {
    /// The run begins at another time.
    pub const fn beginning(self, beginning: DateTime<Utc>) -> Self {
        Self { beginning: beginning.timestamp(), ..self }
    }

    /// Every clock is set.
    pub const fn set(self, jumps: &'static [Jump]) -> Self {
        Self { jumps, ..self }
    }

    /// Only the operator's clock is set.
    pub const fn set_own(self, own_jumps: &'static [Jump]) -> Self {
        Self { own_jumps, ..self }
    }

    /// The wall clock, so long after the beginning.
    pub fn at(self, elapsed: Duration) -> DateTime<Utc> {
        DateTime::from_timestamp(self.beginning, 0).unwrap() + elapsed + set_by(self.jumps, elapsed)
    }
}

/// By how much a clock was set up to a time.
fn set_by(jumps: &[Jump], elapsed: Duration) -> TimeDelta {
    let past = jumps.iter().filter(|(second, _)| Duration::from_secs(*second) <= elapsed);
    TimeDelta::seconds(past.map(|(_, by)| by).sum())
}

/// Time since the beginning of a run. Moves only when everybody waits.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    before: Duration,
    calendar: Calendar,
}

impl Clock {
    /// Begins now, so much after the beginning of the run.
    pub fn start(before: Duration) -> Self {
        Self::start_in(Calendar::default(), before)
    }

    /// The same with another calendar.
    pub fn start_in(calendar: Calendar, before: Duration) -> Self {
        Self { zero: Instant::now(), before, calendar }
    }

    /// The wall clock.
    pub fn now(self) -> DateTime<Utc> {
        self.calendar.at(self.elapsed())
    }

    /// The wall clock of the machine that the operator runs on.
    pub fn operators(self) -> DateTime<Utc> {
        self.now() + set_by(self.calendar.own_jumps, self.elapsed())
    }

    /// Time since the beginning of the run.
    pub fn elapsed(self) -> Duration {
        self.before + self.zero.elapsed()
    }

    /// Whether anybody sets a clock: then a time may come again.
    pub const fn is_set(self) -> bool {
        !self.calendar.jumps.is_empty() || !self.calendar.own_jumps.is_empty()
    }

    /// When a clock is set next.
    pub fn next_jump(self) -> Option<Duration> {
        let all = self.calendar.jumps.iter().chain(self.calendar.own_jumps);
        all.map(|(second, _)| Duration::from_secs(*second)).filter(|second| *second > self.elapsed()).min()
    }

    /// Waits until a time since the beginning.
    pub async fn wait_until(self, time: Duration) {
        tokio::time::sleep_until(self.zero + time.saturating_sub(self.before)).await;
    }
}

/// Runs something in virtual time of its own.
pub fn in_paused_time<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(run)
}
