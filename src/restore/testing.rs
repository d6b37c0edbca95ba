//! A restore with its claims and volumes for unit tests: what a pass decides is done at once, in memory, by the rules of
//! the volume controllers.

use super::build::job_name;
use super::decide::decide;
use super::step::{Action, Decision};
use super::validate::{RESTORE_FINALIZER, ValidRestore, validate};
use super::world::{ClaimRef, ClaimSeen, Holds, JobSeen, PodSeen, VolumeSeen, World};
use crate::api::names::RESTORE_UID_ANNOTATION;
use crate::api::{
    Endpoint, Mastership, MastershipToken, Restore, RestorePoint, RestoreStatus, RestoreStep, Seed, StoreId,
};
use crate::backup::world::LockState;
use crate::contract::task::Task;
use crate::contract::verdict::{Carried, Staged, StoreFolder, Surveyed, Verdict};
use crate::controller::effects::VolumePatch;
use crate::controller::job::{JobRef, JobState};
use crate::discovery::{ClusterView, Located, Registered};
use crate::members::workload::SetSeen;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// UID of the restore.
pub const UID: &str = "7e510e00-0000-4000-8000-000000000000";
/// Identity of the store of the cluster and of the point.
pub const STORE: StoreId = StoreId { creation_time: 1, random_id: 2 };

/// A claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its UID.
    pub uid: String,
    /// `spec.volumeName`.
    pub volume: Option<String>,
    /// Whether it is bound.
    pub is_bound: bool,
    /// UID of the restore in its annotations.
    pub restore_uid: Option<String>,
    /// Whether it is marked.
    pub is_marked: bool,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its reclaim policy.
    pub policy: String,
    /// Name and UID of its claim.
    pub claim: Option<(String, Option<String>)>,
    /// What is on it.
    pub data: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A cluster of three members, and a restore of it.
pub struct Play {
    /// The object, without status.
    pub object: Value,
    /// Its status.
    pub status: RestoreStatus,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// The claims by name.
    pub claims: BTreeMap<String, Claim>,
    /// The volumes by name; what is deleted is gone with its data.
    pub volumes: BTreeMap<String, Volume>,
    /// `spec.replicas` of the StatefulSet.
    pub replicas: i32,
    /// Jobs that exist, with their answers.
    pub jobs: BTreeMap<String, Verdict>,
    /// Who has the lock.
    pub locked: bool,
    /// The transaction of `master-rebound`.
    pub rebound: i64,
    /// Which data each member served when it was started last: pod and data.
    pub served: BTreeMap<String, String>,
    /// The answer of the agent that stages, where it is not the right one.
    pub staging: Option<Verdict>,
    /// The first member does not become master.
    pub never_master: bool,
    /// The time.
    pub now: DateTime<Utc>,
    /// Every change that was made, in words.
    pub log: Vec<String>,
    counter: u64,
}

impl Play {
    /// A healthy cluster and a new restore of it.
    pub fn new() -> Self {
        let object = json!({
            "apiVersion": "graphbackup.dev/v1alpha1", "kind": "Restore",
            "metadata": {"name": "undo", "namespace": "graph", "uid": UID, "generation": 1, "resourceVersion": "1"},
            "spec": {
                "from": {"backup": "nightly"},
                "into": {
                    "source": {"uri": "ha://zookeeper:2181"},
                    "workload": {"statefulSet": "neo4j", "volumeClaimTemplate": "data", "storePath": "graph.db"},
                },
            },
        });
        let mut play = Self {
            object,
            status: RestoreStatus::default(),
            finalizers: Vec::new(),
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
            replicas: 3,
            jobs: BTreeMap::new(),
            locked: false,
            rebound: 10,
            served: BTreeMap::new(),
            staging: None,
            never_master: false,
            now: "2026-11-26T18:00:00Z".parse().unwrap(),
            log: Vec::new(),
            counter: 0,
        };
        for ordinal in 0..3 {
            play.provision(&format!("data-neo4j-{ordinal}"), None, &format!("original {ordinal}"));
        }
        play
    }

    fn uid(&mut self) -> String {
        self.counter += 1;
        format!("uid-{}", self.counter)
    }

    /// Makes a claim with a new volume.
    pub fn provision(&mut self, claim: &str, restore_uid: Option<String>, data: &str) {
        let (uid, name) = (self.uid(), format!("pv-{}", self.counter));
        let volume = Volume {
            policy: "Delete".into(),
            claim: Some((claim.to_owned(), Some(uid.clone()))),
            data: data.to_owned(),
            annotations: BTreeMap::new(),
        };
        self.volumes.insert(name.clone(), volume);
        self.claims
            .insert(claim.to_owned(), Claim { uid, volume: Some(name), is_bound: true, restore_uid, is_marked: false });
    }

    /// The object as it is read.
    pub fn valid(&self) -> ValidRestore {
        let mut object = self.object.clone();
        object["metadata"]["finalizers"] = json!(self.finalizers);
        let object: Restore = serde_json::from_value(object).unwrap();
        validate(&object).unwrap()
    }

    /// Data of the volume of each member.
    pub fn data(&self) -> Vec<String> {
        (0..3).map(|ordinal| self.data_of(&format!("data-neo4j-{ordinal}"))).collect()
    }

    /// Data of the volume of a claim.
    pub fn data_of(&self, claim: &str) -> String {
        let volume = self.claims.get(claim).and_then(|claim| claim.volume.clone());
        volume.and_then(|volume| Some(self.volumes.get(&volume)?.data.clone())).unwrap_or_default()
    }

    fn world(&self) -> World {
        let set = json!({
            "metadata": {"name": "neo4j", "uid": "set", "generation": 1, "resourceVersion": "1"},
            "spec": {"replicas": self.replicas, "serviceName": "neo4j", "selector": {},
                     "template": {"spec": {"containers": [], "securityContext": {"fsGroup": 7474}}},
                     "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]},
            "status": {"replicas": self.replicas, "readyReplicas": self.replicas, "observedGeneration": 1,
                       "currentRevision": "a", "updateRevision": "a"},
        });
        let pods = (0..self.replicas).map(|ordinal| PodSeen {
            name: format!("neo4j-{ordinal}"),
            uid: format!("pod-{ordinal}"),
            is_ready: true,
            is_terminating: false,
            claims: vec![format!("data-neo4j-{ordinal}")],
        });
        let members =
            (0..self.replicas).map(|ordinal| Registered { id: ordinal + 1, endpoint: Some(endpoint(ordinal)) });
        let members: Vec<_> = members.collect();
        World {
            point: Some(Ok(point())),
            set: Some(SetSeen::of(serde_json::from_value(set).unwrap())),
            pods: pods.collect(),
            claims: self.claims.iter().map(|(name, claim)| (name.clone(), claim_seen(name, claim))).collect(),
            volumes: self
                .volumes
                .iter()
                .map(|(name, volume)| (name.clone(), volume_seen(name, volume, &self.claims)))
                .collect(),
            holders: Vec::new(),
            jobs: self.jobs.iter().map(|(name, verdict)| (name.clone(), job_seen(name, verdict))).collect(),
            job_pods: self.jobs.len(),
            holds: (0..3).map(|ordinal| (endpoint(ordinal), Holds::Yes)).collect(),
            cluster: Some(Ok(ClusterView { store_id: STORE, members, rebound: Some(self.rebound) })),
            master: Some(Ok(Located { store_id: STORE, mastership: Mastership::Master(self.token()) })),
            lock: Some(if self.locked { LockState::Ours } else { LockState::Free }),
            is_terminating: false,
        }
    }

    fn token(&self) -> MastershipToken {
        let master = if self.never_master { 2 } else { 0 };
        MastershipToken {
            member_id: master + 1,
            endpoint: endpoint(master),
            server_created: 1,
            election_created: 1,
            rebound: master + 1,
            rebound_modified: self.rebound,
            cluster_modified: 1,
            incarnation: None,
        }
    }

    /// One pass; the decision is recorded, and as many of its changes are made as `crash` allows.
    pub fn pass(&mut self, crash: Option<usize>) -> Decision {
        let decision = decide(&self.valid(), &self.status, &self.world(), "operator:1", self.now).unwrap();
        self.status = decision.status.clone();
        for action in decision.actions.iter().take(crash.unwrap_or(usize::MAX)) {
            self.make(action.clone());
        }
        self.bind();
        self.now += TimeDelta::seconds(1);
        decision
    }

    /// Passes until the restore rests in this step.
    pub fn until(&mut self, step: RestoreStep) {
        for _ in 0..200 {
            if self.status.step == step {
                return;
            }
            self.pass(None);
        }
        panic!("never came to {step:?}: {:?} {:?}\n{}", self.status.step, self.status.conditions, self.log.join("\n"));
    }

    fn make(&mut self, action: Action) {
        match action {
            Action::TakeLock(_) => self.locked = true,
            Action::BreakLock(_) => {}
            Action::ReleaseLocks => self.locked = false,
            Action::SetFinalizers(finalizers) => self.finalizers = finalizers,
            Action::CreateJob(job) => {
                let name = job.metadata.name.unwrap();
                self.log.push(format!("create Job {name}"));
                let verdict = self.answer(&name);
                self.jobs.insert(name, verdict);
            }
            Action::DeleteJob(job) => drop(self.jobs.remove(&job.name)),
            Action::CreateClaim(claim) => {
                let name = claim.metadata.name.unwrap();
                let volume = claim.spec.and_then(|spec| spec.volume_name);
                let restore_uid = claim.metadata.annotations.and_then(|all| all.get(RESTORE_UID_ANNOTATION).cloned());
                self.log.push(format!("create claim {name} for {volume:?}"));
                assert!(!self.claims.contains_key(&name), "{name} is taken");
                match volume {
                    None => self.provision(&name, restore_uid, "empty"),
                    Some(volume) => {
                        let uid = self.uid();
                        let claim = Claim { uid, volume: Some(volume), is_bound: false, restore_uid, is_marked: false };
                        self.claims.insert(name, claim);
                    }
                }
            }
            Action::DeleteClaim(named) => {
                self.log.push(format!("delete claim {}", named.name));
                let claim = self.claims.remove(&named.name).unwrap();
                assert_eq!(claim.uid, named.uid);
                let volume = claim.volume.unwrap_or_default();
                let of = Some((named.name, Some(claim.uid)));
                if self.volumes.get(&volume).is_some_and(|volume| volume.policy == "Delete" && volume.claim == of) {
                    self.volumes.remove(&volume);
                }
            }
            Action::MarkClaim(named) => self.claims.get_mut(&named.name).unwrap().is_marked = true,
            Action::ChangeVolume(change) => self.change(&change),
            Action::Scale(to) => {
                self.log.push(format!("scale to {}", to.replicas));
                self.scale(to.replicas);
            }
            Action::DeletePod(pod) => self.log.push(format!("delete pod {}", pod.name)),
        }
    }

    /// Sets the replicas: what starts serves what its volume has, and an empty one copies the first member's.
    pub fn scale(&mut self, replicas: i32) {
        for ordinal in self.replicas..replicas {
            let claim = format!("data-neo4j-{ordinal}");
            if !self.claims.contains_key(&claim) {
                self.provision(&claim, None, "empty");
            }
            let seed = self.data_of("data-neo4j-0");
            let name = self.claims[&claim].volume.clone().unwrap();
            let volume = self.volumes.get_mut(&name).unwrap();
            if volume.data == "empty" && ordinal > 0 {
                volume.data = seed;
            }
            self.served.insert(format!("neo4j-{ordinal}"), volume.data.clone());
        }
        if self.replicas == 0 && replicas > 0 {
            self.rebound += 5;
        }
        self.replicas = replicas;
    }

    fn change(&mut self, change: &VolumePatch) {
        self.log.push(format!("change volume {} {}", change.name, change.patch));
        let volume = self.volumes.get_mut(&change.name).unwrap();
        if let Some(policy) = change.patch["spec"]["persistentVolumeReclaimPolicy"].as_str() {
            policy.clone_into(&mut volume.policy);
        }
        for (key, value) in change.patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => volume.annotations.insert(key.clone(), value.to_owned()),
                None => volume.annotations.remove(key),
            };
        }
        if let Some(claim) = change.patch["spec"]["claimRef"].as_object() {
            let text = |key: &str| claim[key].as_str().map(str::to_owned);
            volume.claim = Some((text("name").unwrap(), text("uid")));
        }
    }

    /// The volume controller.
    fn bind(&mut self) {
        for (name, claim) in &mut self.claims {
            let of = claim.volume.as_ref().and_then(|volume| self.volumes.get(volume)?.claim.clone());
            let is_its = of.is_some_and(|(of, uid)| of == *name && uid.as_ref().is_none_or(|uid| *uid == claim.uid));
            claim.is_bound = is_its && (claim.is_bound || claim.is_marked || claim.restore_uid.is_none());
        }
    }

    fn answer(&mut self, job: &str) -> Verdict {
        let valid = self.valid();
        let is = |task, ordinal| job == job_name(&valid, task, ordinal);
        if is(Task::Stage, 0) {
            let claim = &self.claims["undo-staged-0"];
            self.volumes.get_mut(claim.volume.as_ref().unwrap()).unwrap().data = "point".into();
            return self.staging.clone().unwrap_or_else(staged);
        }
        match () {
            () if (0..3).any(|ordinal| is(Task::Survey, ordinal)) => surveyed(),
            () if (0..3).any(|ordinal| is(Task::Carry, ordinal)) => {
                Verdict::Carried(Carried { files: 0, bytes: 0, other_owner_files: 0 })
            }
            () => Verdict::Prepared,
        }
    }

    /// Sets an annotation of the object.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.object["metadata"]["annotations"][key] = value.into();
    }

    /// Marks the object as deleted.
    pub fn delete(&mut self) {
        self.object["metadata"]["deletionTimestamp"] = "2026-11-26T18:30:00Z".into();
    }

    /// Whether the restore keeps the object from going.
    pub fn is_kept(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == RESTORE_FINALIZER)
    }
}

fn endpoint(ordinal: i32) -> Endpoint {
    Endpoint { host: format!("neo4j-{ordinal}.neo4j"), port: 6362 }
}

fn claim_seen(name: &str, claim: &Claim) -> ClaimSeen {
    let object = json!({
        "metadata": {"name": name, "uid": claim.uid, "labels": {"app": "neo4j"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "volumeName": claim.volume,
                 "resources": {"requests": {"storage": "4Gi"}}},
    });
    ClaimSeen {
        name: name.to_owned(),
        uid: claim.uid.clone(),
        volume: claim.volume.clone(),
        is_bound: claim.is_bound,
        is_lost: false,
        is_terminating: false,
        restore_uid: claim.restore_uid.clone(),
        is_marked: claim.is_marked,
        object: Box::new(serde_json::from_value(object).unwrap()),
    }
}

fn volume_seen(name: &str, volume: &Volume, claims: &BTreeMap<String, Claim>) -> VolumeSeen {
    let of = volume.claim.as_ref().and_then(|(of, uid)| Some((claims.get(of)?, uid.as_ref()?)));
    let object = json!({
        "metadata": {"name": name, "uid": format!("of-{name}"), "annotations": volume.annotations},
        "spec": {"capacity": {"storage": "4Gi"}},
    });
    VolumeSeen {
        name: name.to_owned(),
        uid: format!("of-{name}"),
        resource_version: "1".into(),
        reclaim_policy: volume.policy.clone(),
        claim: volume.claim.clone().map(|(name, uid)| ClaimRef { namespace: "graph".into(), name, uid }),
        is_bound: of.is_some_and(|(claim, uid)| claim.uid == *uid),
        is_terminating: false,
        object: Box::new(serde_json::from_value(object).unwrap()),
    }
}

fn job_seen(name: &str, verdict: &Verdict) -> JobSeen {
    let state = JobState::Ended {
        deadline_exceeded: false,
        pod_uid: None,
        verdict: Some(verdict.clone()),
        out_of_memory: None,
        lingering: None,
    };
    JobSeen { job: JobRef { name: name.to_owned(), uid: "job".into() }, is_terminating: false, state }
}

/// The point that is restored.
pub fn point() -> RestorePoint {
    RestorePoint {
        name: "nightly".into(),
        uid: "backup".into(),
        owner_uid: "backup".into(),
        claim_name: "graph-backups".into(),
        directory: String::new(),
        folder: "20261126T020000Z-nightly-backup".into(),
        group: 65532,
        manifest_digest: "sha256:1".into(),
        store_id: STORE,
        last_transaction: 7,
        files: 10,
        bytes: 1000,
        seed: Some(Seed::COMPLETE),
        data_from: "2026-11-26T02:00:00Z".parse().unwrap(),
    }
}

fn staged() -> Verdict {
    Verdict::Staged(Box::new(Staged {
        manifest_digest: "sha256:1".into(),
        store_id: STORE,
        last_transaction: 7,
        files: 10,
        bytes: 1000,
        seed: Seed::COMPLETE,
        free_bytes: None,
    }))
}

fn surveyed() -> Verdict {
    Verdict::Surveyed(Box::new(Surveyed {
        store: Some(StoreFolder { uid: 7474, gid: 7474, folder_mode: 0o775, file_mode: 0o664, bytes: 1000 }),
        outside_files: 1,
        outside_bytes: 10,
        capacity_bytes: 1 << 32,
        free_bytes: 1 << 31,
        root_uid: 0,
        root_gid: 7474,
        root_mode: 0o775,
    }))
}
