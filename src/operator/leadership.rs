//! One replica works: a `coordination.k8s.io/v1` Lease, taken and renewed with its resource version.
//!
//! As in Kubernetes' own leader election, another's lease counts as expired only when *this* process has watched it
//! unchanged for its whole duration: no two clocks are compared. This replica stops leading by its own clock when it
//! could not renew in time, whatever the API server does. A lease is advice all the same: correctness rests on resource
//! versions, UID preconditions and deterministic names.

use crate::controller::call::{CallError, call};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Name of the Lease.
pub const LEASE_NAME: &str = "graph-backup-operator";
/// How long others wait after the last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// Between two renewals, or two looks at another's lease.
const PERIOD: Duration = Duration::from_secs(5);
/// This replica leads this long after the start of its last renewal: well before others may begin.
const LEADS: Duration = Duration::from_secs(10);

/// Until when this replica leads, by its own clock.
#[derive(Clone, Default)]
pub struct Leading(Arc<Mutex<Option<Instant>>>);

impl Leading {
    /// Whether this replica leads right now.
    pub fn now(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = until;
    }
}

/// What to do about the lease.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Create,
    /// Write it with the resource version that was read.
    Take {
        /// Whether it had another holder.
        transition: bool,
    },
    Wait,
}

/// Another's lease as this process has seen it.
struct Sighting {
    version: Option<String>,
    since: Instant,
}

/// Pure: what the lease allows.
fn evaluate(lease: Option<&Lease>, me: &str, unchanged: Duration) -> Move {
    let Some(lease) = lease else { return Move::Create };
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let duration = Duration::from_secs(u64::try_from(duration).unwrap_or_default());
    match holder {
        holder if holder == me => Move::Take { transition: false },
        "" => Move::Take { transition: true },
        _ if unchanged > duration => Move::Take { transition: true },
        _ => Move::Wait,
    }
}

/// The lease of this process.
pub struct Leadership {
    leases: Api<Lease>,
    me: String,
    leading: Leading,
    known: Option<Lease>,
    sighting: Sighting,
}

impl Leadership {
    /// Takes part in the election in `namespace` under the name `me`.
    pub fn new(client: Client, namespace: &str, me: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            me,
            leading: Leading::default(),
            known: None,
            sighting: Sighting { version: None, since: Instant::now() },
        }
    }

    /// The handle that is asked before every write.
    pub fn leading(&self) -> Leading {
        self.leading.clone()
    }

    /// Waits until this replica leads.
    pub async fn acquire(&mut self) {
        while !self.leading.now() {
            self.step().await;
            if !self.leading.now() {
                tokio::time::sleep(PERIOD).await;
            }
        }
    }

    /// Renews until leadership is lost.
    pub async fn hold(&mut self) {
        while let Some(until) = self.leading.until() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(PERIOD.min(left)).await;
            // A renewal that hangs must not outlive the leadership.
            let _ = tokio::time::timeout(left.saturating_sub(PERIOD.min(left)), self.step()).await;
        }
        self.leading.set(None);
    }

    /// Lets the next replica start at once.
    pub async fn release(&mut self) {
        self.leading.set(None);
        let Some(mut lease) = self.known.take() else { return };
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.me)) {
            spec.holder_identity = None;
            let params = PostParams::default();
            if let Err(error) = call("release the Lease", self.leases.replace(LEASE_NAME, &params, &lease)).await {
                tracing::warn!(%error, "the next leader has to wait for the Lease to expire");
            }
        }
    }

    async fn step(&mut self) {
        let before = Instant::now();
        match self.attempt().await {
            Ok(true) => self.leading.set(Some(before + LEADS)),
            Ok(false) => {}
            Err(error) => {
                // What was known is stale: read it again next time.
                self.known = None;
                tracing::warn!(%error, "the Lease could not be read or written");
            }
        }
    }

    /// One try; `true` when this replica holds the lease now.
    async fn attempt(&mut self) -> Result<bool, CallError> {
        if !self.holds_known() {
            self.known = call("read the Lease", self.leases.get_opt(LEASE_NAME)).await?;
        }
        let version = self.known.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if version != self.sighting.version {
            self.sighting = Sighting { version, since: Instant::now() };
        }
        let params = PostParams::default();
        let now = Utc::now();
        let written = match evaluate(self.known.as_ref(), &self.me, self.sighting.since.elapsed()) {
            Move::Wait => return Ok(false),
            Move::Create => call("create the Lease", self.leases.create(&params, &fresh(&self.me, now))).await?,
            Move::Take { transition } => {
                let lease = renewed(self.known.clone().unwrap_or_default(), &self.me, transition, now);
                call("renew the Lease", self.leases.replace(LEASE_NAME, &params, &lease)).await?
            }
        };
        self.known = Some(written);
        Ok(true)
    }

    fn holds_known(&self) -> bool {
        self.known.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref()) == Some(self.me.as_str())
    }
}

fn micro(now: DateTime<Utc>) -> Option<MicroTime> {
    jiff::Timestamp::from_microsecond(now.timestamp_micros()).ok().map(MicroTime)
}

fn fresh(me: &str, now: DateTime<Utc>) -> Lease {
    let metadata = ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() };
    renewed(Lease { metadata, spec: None }, me, true, now)
}

fn renewed(mut lease: Lease, me: &str, transition: bool, now: DateTime<Utc>) -> Lease {
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if transition {
        spec.acquire_time = micro(now);
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    }
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    spec.renew_time = micro(now);
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Lease {
        renewed(Lease::default(), holder, true, DateTime::from_timestamp(0, 0).unwrap())
    }

    #[test]
    fn a_lease_is_taken_only_when_free_mine_or_unchanged_for_its_duration() {
        let short = Duration::from_secs(15);
        assert_eq!(evaluate(None, "a", short), Move::Create);
        assert_eq!(evaluate(Some(&held_by("a")), "a", short), Move::Take { transition: false });
        assert_eq!(evaluate(Some(&held_by("")), "a", Duration::ZERO), Move::Take { transition: true });
        // Its renew time is long past, yet only our own watch counts.
        assert_eq!(evaluate(Some(&held_by("b")), "a", short), Move::Wait);
        assert_eq!(
            evaluate(Some(&held_by("b")), "a", short + Duration::from_millis(1)),
            Move::Take { transition: true }
        );
    }

    #[test]
    fn leading_ends_by_our_own_clock() {
        let leading = Leading::default();
        assert!(!leading.now());
        leading.set(Some(Instant::now() + Duration::from_mins(1)));
        assert!(leading.now());
        leading.set(Some(Instant::now()));
        assert!(!leading.now());
    }

    #[test]
    fn transitions_are_counted_and_renewals_are_not() {
        let lease = renewed(held_by("b"), "a", true, Utc::now());
        assert_eq!(lease.spec.as_ref().and_then(|spec| spec.lease_transitions), Some(2));
        let lease = renewed(lease, "a", false, Utc::now());
        assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), Some(2));
    }
}
