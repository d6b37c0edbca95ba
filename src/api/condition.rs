//! Conditions: one constructor, one way to set them.

use super::{Reason, to_kubernetes};
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Type of the kstatus condition "done".
pub const READY: &str = "Ready";
/// Type of the kstatus condition "in progress".
pub const RECONCILING: &str = "Reconciling";
/// Type of the kstatus condition "needs a person".
pub const STALLED: &str = "Stalled";
/// Type of the condition "there is a recovery point".
pub const SUCCEEDED: &str = "Succeeded";
/// Type of the condition "one and the same member was master during the run".
pub const MASTER_STABLE: &str = "MasterStable";
/// Type of the condition "the copy was read back and matches its manifest".
pub const VERIFIED: &str = "Verified";
/// Type of the condition "the newest recovery point of the schedule is fresh enough".
pub const FRESH: &str = "Fresh";
/// Type of the condition "the operator can read the schedule".
pub const SCHEDULE_VALID: &str = "ScheduleValid";
/// Type of the condition "the engine opened a copy of a recovery point in the last restore drill".
pub const DRILL_PASSED: &str = "DrillPassed";
/// Type of the condition "only the points are left that a rule keeps".
pub const RETENTION_APPLIED: &str = "RetentionApplied";
/// Type of the condition "a cluster can start from the copy".
pub const SEEDABLE: &str = "Seedable";

/// Longest message of a condition, in bytes. The API server accepts up to 32 KiB, but nobody reads that much.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Holds.
    True,
    /// Does not hold.
    False,
    /// Not known yet.
    Unknown,
}

impl Truth {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Sets one condition. The transition time changes only when the status does.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    truth: Truth,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: DateTime<Utc>,
) {
    let mut next = Condition {
        type_: kind.to_owned(),
        status: truth.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: shorten(message, MESSAGE_BYTES_MAX),
        observed_generation: generation,
        last_transition_time: to_kubernetes(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(old) => {
            if old.status == next.status {
                next.last_transition_time = old.last_transition_time.clone();
            }
            *old = next;
        }
        None => conditions.push(next),
    }
}

/// Status of a condition; `None` if it is absent.
pub fn get(conditions: &[Condition], kind: &str) -> Option<Truth> {
    conditions.iter().find(|c| c.type_ == kind).map(|c| match c.status.as_str() {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    })
}

/// Reason of a condition; `None` if it is absent.
pub fn reason<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a str> {
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.reason.as_str())
}

/// A text for an object: one line, cut on a character boundary to at most `limit` bytes, with a mark at the cut. Line
/// breaks and other control characters become spaces, because the words of a foreign program must not control anybody's
/// terminal.
pub fn shorten(text: &str, limit: usize) -> String {
    const MARK: &str = "…";
    let line = |text: &str| text.replace(char::is_control, " ");
    if text.len() <= limit {
        return line(text);
    }
    line(&text[..text.floor_char_boundary(limit.saturating_sub(MARK.len()))]) + MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn transition_time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        set(&mut conditions, READY, Truth::Unknown, Reason::Pending, "", Some(1), at(1));
        set(&mut conditions, READY, Truth::Unknown, Reason::Running, "", Some(1), at(2));
        assert_eq!(conditions[0].last_transition_time, to_kubernetes(at(1)));
        assert_eq!(conditions[0].reason, "Running");
        set(&mut conditions, READY, Truth::True, Reason::Succeeded, "", Some(1), at(3));
        assert_eq!(conditions[0].last_transition_time, to_kubernetes(at(3)));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn cuts_on_a_character_boundary() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("ééé", 5), "é…");
        assert_eq!(shorten("a\nb\u{1b}[2J\u{85}c", 20), "a b [2J c");
        assert!(shorten(&"ö".repeat(1000), 1024).len() <= 1024);
    }
}
