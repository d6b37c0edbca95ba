//! Why a Job did not do what it was asked to do.

use crate::api::Reason;
use serde::{Deserialize, Serialize};

/// Limit of [`Failure::message`], bytes. Escaped as JSON it still fits into a termination message.
pub const FAILURE_BYTES_MAX: usize = 1024;

/// Why there is no point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Typed reason.
    pub reason: Reason,
    /// What happened and what to do, for people; at most 1 KiB.
    pub message: String,
}

impl Failure {
    /// A failure whose message is one line of at most [`FAILURE_BYTES_MAX`] bytes: longer ones are cut, line breaks and
    /// other control characters become blanks.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        let message: String = message.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { reason, message: cut(&message, FAILURE_BYTES_MAX).to_owned() }
    }

    /// The same failure with more to say at the end. What was said before is cut when there is no room for both.
    #[must_use]
    pub fn and(self, more: impl AsRef<str>) -> Self {
        let more = more.as_ref();
        let before = cut(&self.message, FAILURE_BYTES_MAX.saturating_sub(more.len() + 2));
        Self::new(self.reason, format!("{before}; {more}"))
    }
}

/// The longest start of `text` that has at most `bytes_max` bytes and ends between two characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
