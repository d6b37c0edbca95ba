//! The agent and the target volume, as far as the controller can tell them from real ones.

use super::database::{Database, STORE};
use crate::apiserver::hex_digest;
use chrono::{DateTime, TimeDelta, Utc};
use graph_backup_operator::api::{Endpoint, Mastership, Movement, ProbeMark, Reason, Seed, Verification};
use graph_backup_operator::contract::failure::Failure;
use graph_backup_operator::contract::task::{BackupRun, DrillRun, InspectRun, Mode, Plan, PruneRun, RUN_VARIABLE};
use graph_backup_operator::contract::verdict::{Drilled, Published, Verdict};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// Points on the volume, by their place.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    points: BTreeMap<String, Published>,
}

impl Volume {
    /// A volume with a point whose object was lost.
    pub fn with_orphan(place: String, now: DateTime<Utc>) -> Self {
        let mastership =
            Mastership::Probe(ProbeMark { endpoint: Endpoint { host: "neo4j-0".into(), port: 6362 }, store_id: STORE });
        let point = Published {
            mode: Mode::Full,
            depth: 0,
            parent: None,
            fell_back: None,
            shared_bytes: 0,
            copied_by: None,
            boot: None,
            seed: Some(Seed::COMPLETE),
            free_bytes: None,
            earlier: None,
            owner_uid: "uid-of-the-lost-one".to_owned(),
            attempt: 2,
            manifest_digest: format!("sha256:{}", hex_digest(&place)),
            store_id: STORE,
            last_transaction: 42,
            files: 11,
            bytes: 3 << 20,
            data_from: now,
            data_to: now,
            mastership_before: mastership.clone(),
            mastership_after: mastership,
            verified: true,
        };
        Self { points: [(place, point)].into() }
    }

    /// Whether there is any file of this object.
    pub fn holds_any_of(&self, owner_uid: &str) -> bool {
        self.points.values().any(|point| point.owner_uid == owner_uid)
    }

    /// Whether a point of this object with this digest is there, and of one history.
    pub fn holds_for(&self, place: &str, owner_uid: &str, digest: &str) -> bool {
        self.points.get(place).is_some_and(|point| {
            point.owner_uid == owner_uid
                && point.manifest_digest == digest
                && point.mastership_before == point.mastership_after
        })
    }
}

/// What the agent of a Job would report of a point that it has not made.
pub fn claim(job: &Value) -> Verdict {
    let run: BackupRun = task(job);
    let place = run.place.to_string();
    let point = Volume::with_orphan(place.clone(), DateTime::UNIX_EPOCH).points.remove(&place).unwrap();
    let (mastership_before, mastership_after) = (run.mastership.clone(), run.mastership);
    let (owner_uid, attempt) = (run.owner.uid, run.attempt);
    Verdict::Published(Box::new(Published { owner_uid, attempt, mastership_before, mastership_after, ..point }))
}

/// `agent prune`.
pub fn prune(job: &Value, volume: &mut Volume) -> Verdict {
    let run: PruneRun = task(job);
    for place in &run.places {
        let place = place.to_string();
        if volume.points.get(&place).is_some_and(|point| point.owner_uid == run.owner.uid) {
            volume.points.remove(&place);
        }
    }
    Verdict::Pruned
}

/// `agent drill`.
pub fn drill(job: &Value, now: DateTime<Utc>) -> Verdict {
    let run: DrillRun = task(job);
    Verdict::Drilled(Box::new(Drilled {
        manifest_digest: run.manifest_digest,
        store_id: run.place.cluster,
        last_transaction: 1,
        files: 1,
        bytes: 1000,
        copy_seconds: 20,
        open_seconds: 40,
        total_seconds: 60,
        nodes: None,
        relationships: None,
        finished: now,
    }))
}

/// Reads what a Job's container is asked to do, as the agent in it would.
pub fn task<T: DeserializeOwned>(job: &Value) -> T {
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let run = env.iter().find(|variable| variable["name"] == RUN_VARIABLE).unwrap();
    serde_json::from_str(&run["value"].as_str().unwrap().replace("$$", "$")).unwrap()
}

/// A run of `agent backup`, up to the point where the tool has ended.
#[derive(Clone, Debug)]
pub struct Running {
    /// What was asked for.
    pub run: BackupRun,
    /// Mastership right before the tool; `None` when the agent did not start it.
    before: Option<Mastership>,
    /// What told that the member was stopped.
    source: Source,
}

/// How often the member that is down was started again; `None` while it is up.
pub type Source = Option<i64>;

impl Running {
    /// The agent reads the mastership and starts the tool if it is as the controller saw it.
    pub fn start(job: &Value, database: &Database, source: Source) -> Self {
        let run: BackupRun = task(job);
        let mastership = if is_cold(&run) { run.mastership.clone() } else { database.mastership() };
        let before = (run.mastership.movement(&mastership) == Movement::None).then_some(mastership);
        Self { run, before, source }
    }

    /// The tool has ended well: the agent reads the mastership again and publishes. `check` is what an honest agent
    /// does.
    pub fn publish(
        &self,
        database: &Database,
        source: Source,
        volume: &mut Volume,
        now: DateTime<Utc>,
        check: bool,
    ) -> Verdict {
        let place = self.run.place.to_string();
        if let Some(point) = volume.points.get(&place) {
            return if point.owner_uid == self.run.owner.uid {
                Verdict::Published(Box::new(point.clone()))
            } else {
                failed(Reason::PointExists, "something else stands where the point would be published")
            };
        }
        if is_cold(&self.run) && (source.is_none() || source != self.source) {
            return failed(Reason::SourceChanged, "the member was started while it was copied");
        }
        let after = if is_cold(&self.run) { self.run.mastership.clone() } else { database.mastership() };
        let moved = failed(Reason::MasterChanged, "the mastership changed");
        let Some(before) = &self.before else { return moved };
        if check && before.movement(&after) != Movement::None {
            return moved;
        }
        let digest = hex_digest(&format!("{} {}", self.run.owner.uid, self.run.attempt));
        let (mode, parent) = match &self.run.plan {
            Plan::Full | Plan::Cold { .. } => (Mode::Full, None),
            Plan::Incremental { parent, .. } => (Mode::Incremental, Some(parent.clone())),
        };
        let point = Published {
            mode,
            depth: u32::from(parent.is_some()),
            parent,
            fell_back: None,
            shared_bytes: 0,
            copied_by: None,
            boot: None,
            seed: Some(Seed::COMPLETE),
            free_bytes: None,
            earlier: None,
            owner_uid: self.run.owner.uid.clone(),
            attempt: self.run.attempt,
            manifest_digest: format!("sha256:{digest}"),
            store_id: self.run.place.cluster,
            last_transaction: 42,
            files: 11,
            bytes: 3 << 20,
            data_from: now - TimeDelta::seconds(10),
            data_to: now,
            mastership_before: before.clone(),
            mastership_after: after,
            verified: self.run.verification == Verification::Quick,
        };
        volume.points.insert(place, point.clone());
        Verdict::Published(Box::new(point))
    }
}

const fn is_cold(run: &BackupRun) -> bool {
    matches!(run.plan, Plan::Cold { .. })
}

/// `agent inspect`.
pub fn inspect(job: &Value, volume: &Volume) -> Verdict {
    let run: InspectRun = task(job);
    match volume.points.get(&run.place.to_string()) {
        Some(point) if run.adopt || point.owner_uid == run.owner.uid => Verdict::Published(Box::new(point.clone())),
        None if run.adopt => failed(Reason::PointMissing, "the target holds no such point"),
        Some(_) => failed(Reason::PointExists, "the point belongs to another GraphBackup"),
        None => failed(Reason::JobLost, "the target holds no point of this backup"),
    }
}

/// A verdict without a point.
pub fn failed(reason: Reason, message: &str) -> Verdict {
    Verdict::Failed(Failure { reason, message: message.to_owned() })
}
