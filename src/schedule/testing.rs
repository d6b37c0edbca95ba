//! A schedule with its backups for unit tests: what a pass decides is done at once, in memory.

use super::children::{Child, ChildState, GoodPoint, Whose};
use super::decide::decide;
use super::step::{Decision, Step};
use super::validate::{ValidSchedule, validate};
use super::world::{Found, World};
use crate::api::condition;
use crate::api::{BackupSchedule, BackupScheduleStatus, BackupType, GraphBackup};
use crate::controller::job::JobState;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use serde_json::{Value, json};

/// UID of the schedule.
pub const UID: &str = "5c4ed01e-0000-4000-8000-000000000000";

/// The store of its database.
pub const STORE: &str = "0000000000000001-0000000000000002";

/// A moment.
pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn read(object: &Value) -> ValidSchedule {
    let object: BackupSchedule = serde_json::from_value(object.clone()).unwrap();
    validate(&object).unwrap()
}

/// A schedule, its backups, and a clock.
pub struct Play {
    /// The object, without status.
    pub object: Value,
    /// The same as it was read.
    valid: ValidSchedule,
    /// Its status.
    pub status: BackupScheduleStatus,
    /// The backups of the namespace.
    pub children: Vec<Child>,
    /// Those that the schedule has taken, in their order: name and type.
    pub taken: Vec<(String, BackupType)>,
    /// Those that it has removed.
    pub removed: Vec<String>,
    /// Those whose mark it has taken off.
    pub unmarked: Vec<String>,
    /// What it told.
    pub told: Vec<String>,
    /// How far the clock is ahead of the API server's.
    pub ahead: TimeDelta,
    /// The time.
    pub now: DateTime<Utc>,
    /// Seconds that a backup takes.
    pub takes: i64,
    /// Backups in progress, and when they end.
    working: Vec<(String, DateTime<Utc>)>,
    /// The Job of the restore drill.
    pub drill: Option<JobState>,
    /// The reason with which backups fail.
    pub fails: Option<&'static str>,
}

/// `graph/nightly`, created at 10:00: incremental backups hourly, full ones on Sundays, no jitter.
pub fn hourly() -> Play {
    let object = json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "graph", "uid": UID, "generation": 1, "resourceVersion": "7",
                     "creationTimestamp": "2026-11-24T10:00:00Z"},
        "spec": {
            "full": {"schedule": "0 2 * * 0"}, "incremental": {"schedule": "0 * * * *"}, "jitter": "0s",
            "template": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"},
                         "tool": {"image": "neo4j:1.8"}},
        },
    });
    Play {
        valid: read(&object),
        object,
        status: BackupScheduleStatus::default(),
        children: Vec::new(),
        taken: Vec::new(),
        removed: Vec::new(),
        unmarked: Vec::new(),
        told: Vec::new(),
        ahead: TimeDelta::zero(),
        now: at("2026-11-24T10:00:00Z"),
        takes: 60,
        working: Vec::new(),
        fails: None,
        drill: None,
    }
}

impl Play {
    /// With one field of the spec set.
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.set(field, value);
        self
    }

    /// Changes one field of the spec, as a person does.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.object["spec"][field] = value.into();
        self.object["metadata"]["generation"] = json!(self.object["metadata"]["generation"].as_i64().unwrap() + 1);
        self.valid = read(&self.object);
    }

    /// Sets an annotation.
    pub fn annotate(&mut self, name: &str, value: &str) {
        self.object["metadata"]["annotations"][name] = json!(value);
        self.valid = read(&self.object);
    }

    /// The object as it was read.
    pub const fn valid(&self) -> &ValidSchedule {
        &self.valid
    }

    /// What a pass decides now, without doing it.
    pub fn decide(&self) -> Decision {
        let (mut read, mut server_time) = (Vec::<(String, Found)>::new(), None);
        loop {
            let world = World {
                children: &self.children,
                read: &read,
                left: None,
                server_time,
                refused: None,
                drill: self.drill.as_ref(),
                finalizers: &[],
                is_deleted: false,
            };
            let decision = decide(&self.valid, &self.status, &world, self.now);
            if decision.step == Step::AskTime {
                server_time = Some(self.now - self.ahead);
                continue;
            }
            let Step::Look(name) = &decision.step else { return decision };
            let found = self.children.iter().find(|child| child.name == *name);
            let found = found.map_or(Found::Nothing, |child| Found::Backup(Box::new(stored(child))));
            read.push((name.clone(), found));
        }
    }

    /// A pass, and all those that follow at once.
    pub fn passes(&mut self) {
        self.end_backups();
        for _ in 0..200 {
            let decision = self.decide();
            let quiet = decision.status == self.status && decision.step == Step::Record;
            self.told.extend(decision.notes.iter().map(|note| format!("{}: {}", note.reason, note.text)));
            self.status = decision.status;
            match decision.step {
                Step::Take(child) => self.take(&child),
                Step::Replace(child) | Step::Forget(child) | Step::Prune(child) => {
                    self.children.retain(|known| known.uid != child.uid);
                    self.working.retain(|(name, _)| *name != child.name);
                    self.removed.push(child.name);
                }
                Step::Unmark(child) => {
                    let known = self.children.iter_mut().find(|known| known.uid == child.uid).unwrap();
                    let ChildState::Good(point) = &mut known.state else { panic!("{} has no point", child.name) };
                    point.is_marked = false;
                    self.unmarked.push(child.name);
                }
                Step::Record
                | Step::Look(_)
                | Step::AskTime
                | Step::Count
                | Step::SetFinalizers(_)
                | Step::Drill { .. }
                | Step::EndDrill { .. } => {}
            }
            if quiet {
                return;
            }
        }
        panic!("no end of passes at {}", self.now);
    }

    fn take(&mut self, backup: &GraphBackup) {
        let name = backup.name_any();
        assert!(self.children.iter().all(|child| child.name != name), "{name} is taken twice");
        self.taken.push((name.clone(), backup.spec.backup_type));
        self.working.push((name.clone(), self.now + TimeDelta::seconds(self.takes)));
        let slot = backup.annotations().get(crate::api::names::SLOT_ANNOTATION).map(|slot| at(slot));
        self.children.push(Child {
            uid: format!("uid-{name}"),
            name,
            whose: Whose::Ours,
            schedule: Some("nightly".to_owned()),
            slot,
            is_deleted: false,
            state: ChildState::Working { is_full: backup.spec.backup_type == BackupType::Full, parent: None },
        });
    }

    fn end_backups(&mut self) {
        let (ended, working) = std::mem::take(&mut self.working).into_iter().partition(|(_, end)| *end <= self.now);
        self.working = working;
        for (name, end) in Vec::from_iter::<Vec<(String, DateTime<Utc>)>>(ended) {
            let child = self.children.iter_mut().find(|child| child.name == name).unwrap();
            let is_full = matches!(child.state, ChildState::Working { is_full: true, .. });
            child.state = match self.fails {
                Some(reason) => ChildState::Failed { reason: reason.to_owned(), time: end, is_pinned: false },
                None => ChildState::Good(good(end - TimeDelta::seconds(self.takes), u32::from(!is_full))),
            };
        }
    }

    /// Lets time pass until `end` with the operator at work: each pass comes when the one before asked for it, or when a
    /// backup ends.
    pub fn run_until(&mut self, end: &str) {
        let end = at(end);
        self.passes();
        while self.now < end {
            let again = self.decide().look_again.unwrap();
            let backup = self.working.iter().map(|(_, end)| *end).min().unwrap_or(end);
            let wake = (self.now + TimeDelta::from_std(again).unwrap()).min(backup.max(self.now));
            assert!(wake > self.now, "a pass asks for another one at once at {}", self.now);
            self.now = wake.min(end);
            self.passes();
        }
    }

    /// Lets time pass without the operator.
    pub fn away_until(&mut self, end: &str) {
        self.now = at(end);
    }

    /// Names of the backups that were taken, without the name of the schedule.
    pub fn slots(&self) -> Vec<&str> {
        self.taken.iter().map(|(name, _)| name.strip_prefix("nightly-").unwrap()).collect()
    }

    /// How many slots were skipped for a reason.
    pub fn skipped(&self, reason: &str) -> i64 {
        self.status.skipped.iter().find(|skipped| skipped.reason == reason).map_or(0, |skipped| skipped.count)
    }

    /// Status and reason of a condition.
    pub fn condition(&self, kind: &str) -> (Option<condition::Truth>, String) {
        let reason = self.status.conditions.iter().find(|condition| condition.type_ == kind);
        (condition::get(&self.status.conditions, kind), reason.map(|c| c.reason.clone()).unwrap_or_default())
    }
}

/// A good point.
pub fn good(data_from: DateTime<Utc>, depth: u32) -> GoodPoint {
    GoodPoint {
        data_from,
        depth,
        bytes: 1000,
        free_bytes: Some(1_000_000),
        is_pinned: false,
        is_adopted: false,
        is_broken: false,
        is_marked: false,
    }
}

/// A backup as the API server has it.
pub fn stored(child: &Child) -> GraphBackup {
    let outcome = match child.state {
        ChildState::Working { .. } => "Unknown",
        ChildState::Good(_) => "True",
        ChildState::Failed { .. } => "False",
    };
    let uid = if child.whose == Whose::Ours { UID } else { "other" };
    let labels = match child.whose {
        Whose::Manual => json!({}),
        _ => json!({"graphbackup.dev/schedule": "nightly", "graphbackup.dev/schedule-uid": uid}),
    };
    let mut annotations =
        child.slot.map_or_else(|| json!({}), |slot| json!({"graphbackup.dev/slot": slot.to_rfc3339()}));
    if child.point().is_some_and(|point| point.is_marked) {
        annotations["graphbackup.dev/prune"] = json!(uid);
    }
    let object = serde_json::from_value(json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
        "metadata": {"name": child.name, "namespace": "graph", "uid": child.uid, "resourceVersion": "3",
                     "labels": labels, "annotations": annotations},
        "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"}},
        "status": {
            "conditions": [{"type": "Succeeded", "status": outcome, "reason": "R", "message": "",
                            "lastTransitionTime": "2026-11-24T06:00:00Z"}],
            "directory": format!("{STORE}/folder-of-{}", child.name),
            "point": {"manifestDigest": format!("sha256:{}", child.name), "storeId": STORE, "type": "Full",
                      "lastTransaction": 42, "files": 1, "bytes": 1, "attempt": 1,
                      "dataFrom": "2026-11-24T06:00:00Z", "dataTo": "2026-11-24T06:01:00Z"},
        },
    }));
    let object: GraphBackup = object.unwrap();
    object
}
