//! Calls to the API server: each bounded in time, each failure classified once.

use kube::api::ListParams;
use kube::{Api, Error};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// Longest time that one call may take; the client itself has no read timeout.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a call to the API server did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The object is not there.
    #[error("failed to {action}: not found")]
    NotFound {
        /// What was attempted.
        action: &'static str,
    },
    /// An object of the same name is there already.
    #[error("failed to {action}: it exists already")]
    Exists {
        /// What was attempted.
        action: &'static str,
    },
    /// The object was changed since it was read, or a precondition does not hold.
    #[error("failed to {action}: it has changed since it was read")]
    Conflict {
        /// What was attempted.
        action: &'static str,
    },
    /// The API server understood and refuses: RBAC, quota, admission, schema.
    #[error("failed to {action}: the API server refuses: {message}")]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// The API server's own words: verb, resource, rule.
        message: String,
    },
    /// Nothing came back, or something that promises to pass: timeout, 429, 5xx, broken connection.
    #[error("failed to {action}: {message}")]
    Transient {
        /// What was attempted.
        action: &'static str,
        /// What happened.
        message: String,
    },
}

impl CallError {
    /// Static word for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Exists { .. } => "exists",
            Self::Conflict { .. } => "conflict",
            Self::Refused { .. } => "refused",
            Self::Transient { .. } => "transient",
        }
    }
}

/// Runs one call. `action` completes "failed to …".
pub async fn call<T>(action: &'static str, request: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(action, error)),
        Err(_) => {
            let message = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            Err(CallError::Transient { action, message })
        }
    }
}

/// Objects that one request for a list asks for.
const PAGE: u32 = 100;
/// Requests for one list: a longer one is an error, for what is missing from it would be taken for absent.
const PAGES_MAX: usize = 5;

/// Reads a whole list, page by page. `action` completes "failed to …".
pub async fn list<K>(action: &'static str, api: &Api<K>, labels: &str) -> Result<Vec<K>, CallError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut items = Vec::new();
    let mut params = ListParams::default().labels(labels).limit(PAGE);
    for _ in 0..PAGES_MAX {
        let page = call(action, api.list(&params)).await?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
    Err(CallError::Transient { action, message: format!("there are more than {} with labels {labels}", items.len()) })
}

fn classify(action: &'static str, error: Error) -> CallError {
    let Error::Api(status) = error else {
        return CallError::Transient { action, message: error.to_string() };
    };
    match status.code {
        404 => CallError::NotFound { action },
        409 if status.is_already_exists() => CallError::Exists { action },
        409 => CallError::Conflict { action },
        400 | 401 | 403 | 405 | 413 | 415 | 422 => CallError::Refused { action, message: status.message },
        _ => CallError::Transient { action, message: format!("{} {}", status.code, status.message) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answer(code: u16, reason: &str) -> &'static str {
        let status = Status { code, reason: reason.to_owned(), ..Status::default() };
        classify("do it", Error::Api(status.boxed())).category()
    }

    #[test]
    fn every_answer_has_its_class() {
        assert_eq!(answer(404, "NotFound"), "not_found");
        assert_eq!(answer(409, "AlreadyExists"), "exists");
        assert_eq!(answer(409, "Conflict"), "conflict");
        assert_eq!(answer(403, "Forbidden"), "refused");
        assert_eq!(answer(422, "Invalid"), "refused");
        for code in [429, 500, 503, 504] {
            assert_eq!(answer(code, ""), "transient");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_answer_ends() {
        let silent = std::future::pending::<Result<(), Error>>();
        assert!(matches!(call("wait", silent).await, Err(CallError::Transient { .. })));
    }
}
