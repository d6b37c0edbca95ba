//! When to look at an object again: bounds, backoff, and what is due. Only pace is remembered between passes; losing it
//! costs a look, never a decision.

use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// From a write to the next look: the write itself brings the next pass, this is for a lost event.
pub const AFTER_A_WRITE: Duration = Duration::from_secs(30);
/// Waits after a failed pass: first, and longest.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(2));
/// Bounds of the wait between two looks for something that is not there yet.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

/// Time from a moment to now; none where that is ahead.
pub fn since(moment: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - moment).to_std().unwrap_or(Duration::ZERO)
}

/// A quarter of the time waited so far, within bounds: prompt at first, patient later, without any memory.
pub fn look_again(waited: Duration) -> Duration {
    (waited / 4).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1)
}

/// Up to a quarter of the wait, the same for the same object and attempt: objects that failed together do not come back
/// together.
pub fn jitter(uid: &str, attempt: u32, base: Duration) -> Duration {
    let spread = uid.bytes().fold(attempt, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte))) % 256;
    base * spread / 1024
}

/// The pace of the objects of one kind, by `<namespace>/<name>`.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<String, Entry>>);

/// More objects than this, and those that no pass has come to for [`FORGET_AFTER`] are forgotten: they are deleted.
const ENTRIES_KEPT: usize = 1024;
/// Longer than any wait.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// A wait for one reason is told in other words so often before it has to wait for its next look. A text that changes
/// with every look would otherwise be written for ever, because each write brings the next pass.
const RETOLD_FREELY: u32 = 3;

/// What a pass told on the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing that was not there before.
    #[default]
    Nothing,
    /// Something new.
    News,
    /// That it waits for the same reason, in other words.
    OtherWords,
}

/// What is remembered of one object.
#[derive(Clone, Copy)]
struct Entry {
    /// When it was written here last.
    touched: Instant,
    /// When its series of failed passes began; a success ends it.
    failing_since: Option<Instant>,
    /// How often in a row a wait for one reason was told in other words.
    retold: u32,
    /// Before this moment it is not told in other words again, however often events bring a pass.
    due: Option<Instant>,
}

impl Pace {
    /// Changes what is remembered of an object.
    fn update<T>(&self, key: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        let (mut entries, now) = (self.entries(), Instant::now());
        if entries.len() >= ENTRIES_KEPT && !entries.contains_key(key) {
            entries.retain(|_, entry| now - entry.touched < FORGET_AFTER);
        }
        let entry = entries.entry(key.to_owned());
        let entry = entry.or_insert(Entry { touched: now, failing_since: None, retold: 0, due: None });
        entry.touched = now;
        change(entry)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Backoff by the time that an object has been failing: independent of how often events trigger it.
    pub fn backoff(&self, key: &str) -> Duration {
        self.update(key, |entry| entry.failing_since.get_or_insert_with(Instant::now).elapsed()).clamp(RETRY.0, RETRY.1)
    }

    /// Whether the text of a wait may be written anew.
    pub fn is_due(&self, key: &str) -> bool {
        self.entries().get(key).and_then(|entry| entry.due).is_none_or(|due| Instant::now() >= due)
    }

    /// A pass ended well, and the object is looked at again after `again` without any event.
    pub fn passed(&self, key: &str, again: Option<Duration>, told: Told) {
        let Some(again) = again else {
            self.entries().remove(key);
            return;
        };
        self.update(key, |entry| {
            entry.failing_since = None;
            match told {
                Told::Nothing => {}
                Told::News => (entry.retold, entry.due) = (0, None),
                Told::OtherWords => {
                    entry.retold = entry.retold.saturating_add(1);
                    entry.due = (entry.retold >= RETOLD_FREELY).then(|| Instant::now() + again);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn backoff_grows_with_the_time_of_failing_and_ends_with_a_success() {
        let pace = Pace::default();
        assert_eq!(pace.backoff("a"), RETRY.0);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(pace.backoff("a"), Duration::from_secs(40));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(pace.backoff("a"), RETRY.1);
        pace.passed("a", None, Told::Nothing);
        assert_eq!(pace.backoff("a"), RETRY.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_that_changes_with_every_look_is_written_once_a_look() {
        let pace = Pace::default();
        let again = Some(Duration::from_secs(5));
        pace.passed("a", again, Told::News);
        for _ in 0..RETOLD_FREELY {
            assert!(pace.is_due("a"));
            pace.passed("a", again, Told::OtherWords);
        }
        assert!(!pace.is_due("a") && pace.is_due("b"));
        tokio::time::advance(Duration::from_secs(3)).await;
        // A pass in between tells nothing, and does not put the next one off.
        pace.passed("a", again, Told::Nothing);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(pace.is_due("a"));
        pace.passed("a", again, Told::OtherWords);
        assert!(!pace.is_due("a"));
        // Another reason is told at once.
        pace.passed("a", again, Told::News);
        assert!(pace.is_due("a"));
    }

    #[test]
    fn looks_are_prompt_at_first_and_patient_later() {
        assert_eq!(look_again(Duration::ZERO), LOOK_AGAIN.0);
        assert_eq!(look_again(Duration::from_secs(100)), Duration::from_secs(25));
        assert_eq!(look_again(Duration::from_hours(1)), LOOK_AGAIN.1);
    }
}
