//! Objects and worlds for unit tests.

use super::decide::decide;
use super::request::Request;
use super::step::Decision;
use super::validate::{ValidBackup, validate};
use super::world::{Open, Prerequisites, Stopping, World};
use crate::api::{GraphBackup, GraphBackupStatus, StoreId};
use crate::contract::verdict::{Drilled, Verdict};
use crate::controller::job::{JobRef, JobState, PodStart};
use crate::members::replicas::MemberState;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// UID of the object that [`backup`] gives.
pub const UID: &str = "1a2b3c4d-0000-4000-8000-000000000000";
/// The store of its cluster.
pub const STORE: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };

/// An object as the API server gives it, to be changed before it is read.
pub struct Backup(Value);

/// `graph/nightly`: a Full backup of an `ha://` source, with one retry and an hour.
pub fn backup() -> Backup {
    Backup(json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
        "metadata": {"name": "nightly", "namespace": "graph", "uid": UID, "generation": 1, "resourceVersion": "7",
                     "creationTimestamp": "2026-11-24T06:00:00Z"},
        "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"},
                 "retry": {"limit": 1}, "deadlines": {"run": "1h", "podStart": "5m"}},
    }))
}

impl Backup {
    /// With another name, and a UID made of it.
    pub fn named(mut self, name: &str) -> Self {
        self.0["metadata"]["name"] = json!(name);
        self.0["metadata"]["uid"] = json!(format!("uid-{name}"));
        self
    }

    /// With one field of the spec set.
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["spec"][field] = value.into();
        self
    }

    /// A cold one, of StatefulSet `neo4j`.
    pub fn cold(self) -> Self {
        let workload = json!({"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"});
        self.spec("method", "Cold").spec("cold", json!({"workload": workload}))
    }

    /// With these finalizers.
    pub fn finalizers(mut self, finalizers: &[&str]) -> Self {
        self.0["metadata"]["finalizers"] = json!(finalizers);
        self
    }

    /// With this status.
    pub fn status(mut self, status: impl Into<Value>) -> Self {
        self.0["status"] = status.into();
        self
    }

    /// With one attempt that is open.
    pub fn attempted(self) -> Self {
        let mastership = json!({"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": STORE}});
        self.status(json!({"attempts": [{"number": 1, "job": "nightly-1a2b3-1", "startTime": "2026-11-24T06:00:00Z",
                                         "storeId": STORE, "mastership": mastership}]}))
    }

    /// As the API server gives it.
    pub fn object(self) -> GraphBackup {
        serde_json::from_value(self.0).unwrap()
    }

    /// As a pass works on it.
    pub fn valid(self) -> ValidBackup {
        validate(&self.object()).unwrap()
    }
}

/// A moment, seconds after the object was created.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
}

/// A Job of the object.
pub fn job(name: &str) -> JobRef {
    JobRef { name: name.into(), uid: "job-uid".into() }
}

/// The verdict of a drill, which no Job of a backup makes.
pub fn drilled() -> Verdict {
    Verdict::Drilled(Box::new(Drilled {
        manifest_digest: format!("sha256:{}", "a".repeat(64)),
        store_id: STORE,
        last_transaction: 42,
        files: 11,
        bytes: 1 << 20,
        copy_seconds: 4,
        open_seconds: 9,
        total_seconds: 13,
        nodes: Some(7),
        relationships: Some(3),
        finished: at(14),
    }))
}

/// A Job whose agent has ended.
pub fn ended(verdict: impl Into<Option<Verdict>>) -> JobState {
    JobState::Ended {
        deadline_exceeded: false,
        pod_uid: Some("pod-1".into()),
        verdict: verdict.into(),
        out_of_memory: None,
        lingering: None,
    }
}

/// The same, whose pod something else keeps.
pub fn lingering(verdict: impl Into<Option<Verdict>>) -> JobState {
    let JobState::Ended { deadline_exceeded, pod_uid, verdict, out_of_memory, .. } = ended(verdict) else { panic!() };
    JobState::Ended { deadline_exceeded, pod_uid, verdict, out_of_memory, lingering: Some(job("j")) }
}

/// A Job that works since second 0.
pub fn active(start: PodStart) -> JobState {
    JobState::Active { job: job("j"), created: at(0), start }
}

/// What a pass sees; the status has the attempt.
pub enum Seen {
    Idle {
        leftover: Option<JobRef>,
        member: Option<MemberState>,
        missing: Option<String>,
        prerequisites: Option<Prerequisites>,
    },
    Stopping {
        check: JobState,
        check_pod: bool,
        member: MemberState,
    },
    Open {
        backup: JobState,
        inspect: JobState,
        member: Option<MemberState>,
        missing: Option<String>,
    },
}

impl Seen {
    /// The world of an object with this status.
    pub fn world(self, status: &GraphBackupStatus) -> World<'_> {
        let last = status.attempts.last();
        match self {
            Self::Idle { leftover, member, missing, prerequisites } => World::Idle {
                leftover,
                member: member.map(|member| {
                    let attempt = last.unwrap();
                    (attempt, attempt.member_to_restore().unwrap(), member)
                }),
                missing,
                prerequisites,
            },
            Self::Stopping { check, check_pod, member } => {
                let attempt = last.unwrap();
                let stopped = attempt.member_to_restore().unwrap();
                World::Stopping(Stopping { attempt, stopped, member, check, check_pod })
            }
            Self::Open { backup, inspect, member, missing } => {
                let attempt = status.open_attempt().unwrap();
                let member = member.map(|member| (attempt.member_to_restore().unwrap(), member));
                World::Open(Open { attempt, backup, inspect, member, missing })
            }
        }
    }
}

/// What a pass of a backup decides.
pub fn decided(backup: &ValidBackup, status: &GraphBackupStatus, seen: Seen, now: DateTime<Utc>) -> Decision {
    decide(&Request::Backup(Box::new(backup.clone())), status, seen.world(status), now)
}
