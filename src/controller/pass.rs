//! One pass over one object of any kind: what cannot be decoded is told, what fails is repeated, and all is counted.

use super::call::CallError;
use super::effects::EffectError;
use super::metrics::Metrics;
use super::pace::{Pace, RETRY, Told};
use super::store::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::Duration;
use tokio::time::Instant;

/// How a pass ended that met no error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// When to look again without any event.
    pub look_again: Option<Duration>,
    /// What the pass told on the object.
    pub told: Told,
}

/// Runs `work` over what is known of an object, if this version can read it. The other objects go on where it cannot.
/// `name`: the kind, and `<namespace>/<name>`.
pub async fn pass<T>(
    name: (&str, &str),
    object: Result<T, &str>,
    metrics: &Metrics,
    pace: &Pace,
    work: impl AsyncFnOnce(T) -> Result<Passed, EffectError>,
) -> Result<Option<Duration>, EffectError> {
    let (kind, key) = name;
    let started = Instant::now();
    let outcome = match object {
        Ok(object) => work(object).await,
        Err(error) => {
            tracing::warn!(object = key, error, "this version cannot read the {kind}");
            metrics.undecodable(kind);
            Ok(Passed::default())
        }
    };
    metrics.pass(started.elapsed(), outcome.as_ref().err().map(EffectError::category));
    let passed = outcome?;
    pace.passed(key, passed.look_again, passed.told);
    Ok(passed.look_again)
}

/// When a failed pass over the object with this key is repeated.
pub fn retry_after(key: &str, error: &EffectError, pace: &Pace) -> Duration {
    if let EffectError::Call(CallError::Conflict { .. }) = error {
        // The object was newer than the cache: the next look shows it.
        tracing::debug!(object = key, %error, "pass repeated");
        return RETRY.0;
    }
    let wait = pace.backoff(key);
    tracing::warn!(object = key, %error, seconds = wait.as_secs(), "pass failed and is repeated");
    wait
}

/// `<namespace>/<name>`.
pub fn key(meta: &ObjectMeta) -> String {
    Key::of(meta).to_string()
}
