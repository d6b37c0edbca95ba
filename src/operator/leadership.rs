//! One replica works: a `coordination.k8s.io/v1` Lease, taken and renewed with its resource version.
//!
//! As in Kubernetes' own leader election, another's lease counts as expired only when *this* process has watched it
//! unchanged for its whole duration: no two clocks are compared. This replica stops leading by its own clock when it
//! could not renew in time, whatever the API server does. A lease is advice all the same: correctness rests on resource
//! versions, UID preconditions and deterministic names.
//!
//! The durations follow Kubernetes' own components (15 s, 10 s, 2 s). A renewal is due 3 s after the last one began and
//! leadership lasts 10 s, so the API server may be away for 7 s. A renewal that fails is tried again every second, and
//! one that hangs is given up after 3 s, which leaves time for another one. When leadership ends, 5 s are left until
//! another replica may begin: time for a request that is under way to arrive.

use crate::controller::call::{CallError, call};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Name of the Lease.
pub const LEASE_NAME: &str = "graph-backup-operator";
/// How long others wait after the last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// This replica leads this long after the start of its last renewal.
const LEADS: Duration = Duration::from_secs(10);
/// Between two renewals, or two looks at another's lease.
const PERIOD: Duration = Duration::from_secs(3);
/// Between a renewal that failed and the next try.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time that one renewal takes, before it counts as failed.
const TRY: Duration = Duration::from_secs(3);

/// Until when this replica leads, by its own clock.
#[derive(Clone, Default)]
pub struct Leading(Arc<Mutex<Option<Instant>>>);

impl Leading {
    /// Whether this replica leads right now.
    pub fn now(&self) -> bool {
        self.left().is_some()
    }

    /// How long this replica leads if it does not renew; nothing when it does not lead.
    fn left(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
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

/// What became of a try to take or to renew the lease.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// This replica holds it.
    Held,
    /// Another replica holds it.
    Foreign,
    /// The API server refused or did not answer in time: who holds it is not known.
    Unknown,
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
            // An answer that comes later is worth nothing.
            self.step(LEADS).await;
            if !self.leading.now() {
                sleep(PERIOD).await;
            }
        }
    }

    /// Renews until leadership is lost: until no renewal has succeeded in time, or another replica holds the lease.
    pub async fn hold(&mut self) {
        let mut pause = PERIOD;
        while let Some(left) = self.leading.left() {
            sleep(pause.min(left)).await;
            // A renewal that hangs must not outlive the leadership.
            let Some(left) = self.leading.left() else { break };
            pause = match self.step(TRY.min(left)).await {
                Outcome::Held => PERIOD,
                Outcome::Unknown => RETRY,
                Outcome::Foreign => break,
            };
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

    /// One try within `bound`; leadership counts from its start.
    async fn step(&mut self, bound: Duration) -> Outcome {
        let before = Instant::now();
        let problem = match timeout(bound, self.attempt()).await {
            Ok(Ok(Outcome::Held)) => {
                self.leading.set(Some(before + LEADS));
                return Outcome::Held;
            }
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", bound.as_millis()),
        };
        // A write that failed may have been done all the same: read it again next time.
        self.known = None;
        let leads_for = self.leading.left().unwrap_or_default().as_secs();
        tracing::warn!(%problem, leads_for, "the Lease could not be read or written");
        Outcome::Unknown
    }

    /// One try, however long it takes.
    async fn attempt(&mut self) -> Result<Outcome, CallError> {
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
            Move::Wait => return Ok(Outcome::Foreign),
            Move::Create => call("create the Lease", self.leases.create(&params, &fresh(&self.me, now))).await?,
            Move::Take { transition } => {
                let lease = renewed(self.known.clone().unwrap_or_default(), &self.me, transition, now);
                call("renew the Lease", self.leases.replace(LEASE_NAME, &params, &lease)).await?
            }
        };
        self.known = Some(written);
        Ok(Outcome::Held)
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
mod tests;
