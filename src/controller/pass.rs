//! One pass over one object of any kind: what cannot be decoded is told, what fails is repeated, and all is counted.

use super::call::CallError;
use super::effects::EffectError;
use super::metrics::Metrics;
use super::pace::{Pace, RETRY, Told};
use kube::core::DeserializeGuard;
use kube::core::metadata::TypeMeta;
use kube::{Resource, ResourceExt};
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

/// Runs `work` over an object, if this version can decode it. The other objects go on where it cannot.
pub async fn pass<K>(
    object: &DeserializeGuard<K>,
    metrics: &Metrics,
    pace: &Pace,
    work: impl AsyncFnOnce(&K) -> Result<Passed, EffectError>,
) -> Result<Option<Duration>, EffectError>
where
    K: Resource<DynamicType = ()>,
{
    let key = key(object);
    let started = Instant::now();
    let outcome = match &object.0 {
        Ok(object) => work(object).await,
        Err(error) => {
            let kind = TypeMeta::resource::<K>().kind;
            tracing::warn!(object = %key, %error, "this version cannot read the {kind}");
            metrics.undecodable(&kind);
            Ok(Passed::default())
        }
    };
    metrics.pass(started.elapsed(), outcome.as_ref().err().map(EffectError::category));
    let passed = outcome?;
    pace.passed(&key, passed.look_again, passed.told);
    Ok(passed.look_again)
}

/// When a failed pass is repeated.
pub fn retry_after<K>(object: &DeserializeGuard<K>, error: &EffectError, pace: &Pace) -> Duration
where
    K: Resource<DynamicType = ()>,
{
    let key = key(object);
    if let EffectError::LockTaken | EffectError::Call(CallError::Conflict { .. }) = error {
        // The object was newer than the cache, or another one was faster: the next look shows it.
        tracing::debug!(object = %key, %error, "pass repeated");
        return RETRY.0;
    }
    let wait = pace.backoff(&key);
    tracing::warn!(object = %key, %error, seconds = wait.as_secs(), "pass failed and is repeated");
    wait
}

/// `<namespace>/<name>`.
pub fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
