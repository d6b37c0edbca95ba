//! Why a request is not done.

use super::store::Key;

/// Why a request is not done: becomes a `Status`.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// The object is not there.
    pub fn not_found(key: &Key) -> Self {
        Self { code: 404, reason: "NotFound", message: format!("{} {:?} not found", key.kind, key.name) }
    }

    /// A precondition or a resource version does not hold.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { code: 409, reason: "Conflict", message: message.into() }
    }

    /// The object breaks a rule of its kind.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: 422, reason: "Invalid", message: message.into() }
    }
}
