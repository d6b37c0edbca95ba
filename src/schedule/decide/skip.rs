//! The count of skipped slots. Pure.

use crate::api::{BackupScheduleStatus, Reason, Skipped};
use chrono::{DateTime, Utc};

/// Counts skipped slots.
pub fn skip(status: &mut BackupScheduleStatus, reason: Reason, count: u64, slot: DateTime<Utc>) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if count == 0 {
        return;
    }
    match status.skipped.iter_mut().find(|skipped| skipped.reason == reason.as_str()) {
        Some(skipped) => {
            skipped.count = skipped.count.saturating_add(count);
            skipped.last_slot = skipped.last_slot.max(slot);
        }
        None => status.skipped.push(Skipped { reason: reason.as_str().to_owned(), count, last_slot: slot }),
    }
}
