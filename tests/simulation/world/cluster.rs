//! The cluster around the controller: Job controller, scheduler, kubelet, garbage collector and the people in it, by a
//! script.

use super::agent::{Running, Source, Volume, drill, failed, inspect, prune};
use super::controllers;
use super::database::Database;
use super::kubelet::{self, Moment, Want};
use super::members;
use super::pods;
use super::restorer;
pub use super::script::{Act, Behaviour, Script};
use crate::apiserver::{ChangeType, DeleteOptions, Key, Kind, Store};
use crate::clock::Clock;
use graph_backup_operator::api::Reason;
use graph_backup_operator::api::names::{ATTEMPT_LABEL, TASK_LABEL};
use graph_backup_operator::contract::verdict::Verdict;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Seconds until the garbage collector has noticed that an owner is gone: a new object of the same name may be there
/// first.
const GARBAGE_SECONDS: u64 = 5;

/// Seconds until a node that does not answer is back.
const NODE_AWAY_SECONDS: u64 = 10_800;

#[derive(Clone, Copy, Debug)]
enum What {
    MakePod,
    Start,
    End,
    AlmostFinish { complete: bool, reason: &'static str },
    Finish { complete: bool, reason: &'static str },
    Deadline,
    Expire,
}

#[derive(Clone, Debug)]
enum Deed {
    Job {
        key: Key,
        uid: String,
        what: What,
    },
    People(Act),
    MidRun,
    Garbage,
    NodeBack(Key),
    /// The controllers look at every volume, claim and StatefulSet, and the kubelets at their pods.
    Controllers,
    Pod(Want),
}

/// The cluster.
pub struct Cluster {
    clock: Clock,
    script: Script,
    database: Database,
    volume: Arc<Mutex<Volume>>,
    agenda: BTreeMap<(Duration, usize), Deed>,
    planned: usize,
    running: BTreeMap<String, Running>,
    /// UID of the first Job that removes files, or of the first restore drill.
    first: Option<String>,
    seen: u64,
    down_until: Duration,
}

impl Cluster {
    /// A cluster that goes by a script.
    pub fn new(clock: Clock, script: Script, database: Database, volume: Arc<Mutex<Volume>>) -> Self {
        let (people, down_until) = (script.people.clone(), Duration::from_secs(script.down_at_first));
        let (agenda, running, first) = (BTreeMap::new(), BTreeMap::new(), None);
        let mut cluster =
            Self { clock, script, database, volume, agenda, planned: 0, running, first, seen: 0, down_until };
        for (second, act) in people {
            cluster.plan(Duration::from_secs(second), Deed::People(act));
        }
        cluster
    }

    /// The same cluster in another time, around another database and volume.
    pub fn fork(&self, clock: Clock, database: Database, volume: Arc<Mutex<Volume>>) -> Self {
        let (script, agenda, running) = (self.script.clone(), self.agenda.clone(), self.running.clone());
        let (planned, seen, down_until) = (self.planned, self.seen, self.down_until);
        let first = self.first.clone();
        Self { clock, script, database, volume, agenda, planned, running, first, seen, down_until }
    }

    /// Describes everything that decides how it goes on.
    pub fn describe(&self, out: &mut String) {
        write!(out, "; cluster {} {:?} {:?}", self.seen, self.down_until, self.first).unwrap();
        for ((at, _), deed) in &self.agenda {
            write!(out, " {at:?} {deed:?}").unwrap();
        }
        write!(out, " {:?}", self.running).unwrap();
    }

    /// Until when the operator is down.
    pub const fn down_until(&self) -> Duration {
        self.down_until
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Duration> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due.
    pub fn act(&mut self, store: &mut Store) {
        loop {
            self.notice_changes(store);
            let due = self.agenda.first_entry().filter(|entry| entry.key().0 <= self.clock.elapsed());
            let Some(deed) = due.map(std::collections::btree_map::OccupiedEntry::remove) else {
                if store.has_orphans() && !self.agenda.values().any(|deed| matches!(deed, Deed::Garbage)) {
                    self.plan(self.clock.elapsed() + Duration::from_secs(GARBAGE_SECONDS), Deed::Garbage);
                }
                return;
            };
            match deed {
                Deed::People(act) => act(store),
                Deed::Garbage => store.collect_garbage(),
                Deed::NodeBack(pod) => self.bring_back(store, &pod),
                Deed::Controllers => {
                    for want in controllers::sync(store, &self.database, self.script.members()) {
                        self.plan_pod(store, want);
                    }
                }
                Deed::Pod(want) => kubelet::go_on(store, &want, &self.database, self.script.members()),
                Deed::MidRun => {
                    self.down_until = self.clock.elapsed() + Duration::from_secs(self.script.down_in_mid_run);
                    for act in &self.script.people_in_mid_run {
                        act(store);
                    }
                }
                Deed::Job { key, uid, what } => {
                    // Only the very Job that the deed was planned for.
                    let job = store.get(&key).filter(|job| job["metadata"]["uid"] == uid.as_str()).map(Arc::clone);
                    if let Some(job) = job {
                        self.do_job(store, &job, what);
                    }
                }
            }
        }
    }

    fn plan(&mut self, at: Duration, deed: Deed) {
        self.agenda.insert((at, self.planned), deed);
        self.planned += 1;
    }

    fn plan_job(&mut self, job: &Value, seconds: u64, what: What) {
        let uid = job["metadata"]["uid"].as_str().unwrap().to_owned();
        self.plan(self.clock.elapsed() + Duration::from_secs(seconds), Deed::Job { key: Key::of(job), uid, what });
    }

    /// What a kubelet wants to do at some time: once.
    fn plan_pod(&mut self, store: &Store, want: Want) {
        if let Moment::StartOfJob = want.moment {
            let owner = Key { kind: "Job", namespace: want.pod.namespace, name: want.owner };
            if let Some(job) = store.get(&owner).cloned() {
                self.plan_job(&job, want.seconds, What::Start);
            }
        } else if !self.agenda.values().any(|deed| matches!(deed, Deed::Pod(other) if *other == want)) {
            self.plan(self.clock.elapsed() + Duration::from_secs(want.seconds), Deed::Pod(want));
        }
    }

    fn notice_changes(&mut self, store: &mut Store) {
        let changes = store.changes_since(self.seen).unwrap().to_vec();
        self.seen = store.version();
        for change in changes {
            let planned = self.agenda.values().any(|deed| matches!(deed, Deed::Controllers));
            if !planned && controllers::watch(store, &change.object) {
                self.plan(self.clock.elapsed() + Duration::from_secs(controllers::SECONDS), Deed::Controllers);
            }
            if pods::is_going(&change.object) && store.get(&Key::of(&change.object)).is_some() {
                self.let_go(store, &change.object);
            }
            let job = &change.object;
            let ours = job["kind"] == "Job" && job["metadata"]["labels"][TASK_LABEL].is_string();
            if ours && change.what == ChangeType::Added {
                if matches!(job["metadata"]["labels"][TASK_LABEL].as_str(), Some("prune" | "drill")) {
                    self.first.get_or_insert_with(|| job["metadata"]["uid"].as_str().unwrap().to_owned());
                }
                self.plan_job(job, 1, What::MakePod);
                let deadline = job["spec"]["activeDeadlineSeconds"].as_u64().unwrap();
                self.plan_job(job, self.script.job_deadline.unwrap_or(deadline), What::Deadline);
            }
        }
    }

    /// The kubelet has stopped a pod that somebody deleted. The Job controller takes note of it before it lets it go.
    fn let_go(&mut self, store: &mut Store, pod: &Value) {
        let owner = &pod["metadata"]["ownerReferences"][0];
        let name = owner["name"].as_str().unwrap().to_owned();
        let key = Key { kind: "Job", namespace: namespace(pod).to_owned(), name };
        let job = store.get(&key).filter(|job| job["metadata"]["uid"] == owner["uid"] && !is_over(job)).map(Arc::clone);
        if let Some(job) = job {
            let noted = json!({"uncountedTerminatedPods": {"failed": [pod["metadata"]["uid"]]}});
            store.change(&key, |job| job["status"] = noted).unwrap();
            self.plan_job(&job, 1, What::AlmostFinish { complete: false, reason: "BackoffLimitExceeded" });
        }
        store.change(&Key::of(pod), pods::release).unwrap();
    }

    /// A node is back: it stops the pod that was deleted meanwhile, and the Job controller lets it go.
    fn bring_back(&mut self, store: &mut Store, pod: &Key) {
        let Some(pod) = store.get(pod).cloned() else { return };
        let name = pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap().to_owned();
        let job = Key { kind: "Job", namespace: namespace(&pod).to_owned(), name };
        if let Some(job) = store.get(&job).cloned() {
            let (complete, reason) = (false, "BackoffLimitExceeded");
            let what =
                if is_over(&job) { What::Finish { complete, reason } } else { What::AlmostFinish { complete, reason } };
            self.plan_job(&job, 1, what);
        }
        store.change(&Key::of(&pod), pods::release).unwrap();
    }

    fn behaviour(&self, job: &Value) -> Behaviour {
        let label = |name: &str| job["metadata"]["labels"][name].as_str().unwrap_or_default();
        if matches!(label(TASK_LABEL), "prune" | "drill") {
            let of_first = if label(TASK_LABEL) == "prune" { self.script.prune } else { self.script.drill };
            let first = self.first.as_deref() == job["metadata"]["uid"].as_str();
            return if first { of_first } else { Behaviour::Honest };
        }
        match label(TASK_LABEL) {
            "stage" => return self.script.stage,
            "survey" | "carry" => return Behaviour::Honest,
            _ => {}
        }
        // The Job that reads an adopted point belongs to no attempt.
        let attempt: usize = label(ATTEMPT_LABEL).parse().unwrap_or(1);
        let again = job["metadata"]["name"].as_str().unwrap().rsplit(['i', 'a']).next().is_some_and(|number| {
            label(TASK_LABEL) == "inspect" && number.parse::<u32>().is_ok() && !number.is_empty()
        });
        if again {
            return self.script.inspections_again;
        }
        let script = match label(TASK_LABEL) {
            "inspect" => &self.script.inspections,
            "check" => &self.script.checks,
            _ => &self.script.backups,
        };
        script.get(attempt - 1).copied().unwrap_or(Behaviour::Honest)
    }

    fn do_job(&mut self, store: &mut Store, job: &Value, what: What) {
        let over = is_over(job);
        match what {
            What::MakePod if !over => {
                let spec = &job["spec"];
                let one = spec["podReplacementPolicy"] == "Failed" && spec["backoffLimit"] == 0;
                assert!(one, "Jobs whose pods are replaced, maybe while the old one still works, are not modelled");
                store.create(Kind::named("Pod"), namespace(job), pods::pod_of(job)).unwrap();
                set_status(store, &pod_key(job), json!({"phase": "Pending"}));
                self.plan_job(job, 2, What::Start);
            }
            What::Start if !over && kubelet::may_start(store, &pod_key(job)) => self.start(store, job),
            What::End if !over && store.get(&pod_key(job)).is_some() => self.end(store, job),
            What::AlmostFinish { complete, reason } if !over => {
                add_condition(store, job, pods::job_ends(complete, reason));
                self.plan_job(job, 1, What::Finish { complete, reason });
            }
            What::Finish { complete, reason } => {
                add_condition(store, job, pods::job_ended(complete, reason));
                let ttl = job["spec"]["ttlSecondsAfterFinished"].as_u64().unwrap();
                self.plan_job(job, self.script.ttl.unwrap_or(ttl), What::Expire);
            }
            What::Deadline if !over && store.get(&pod_key(job)).is_some_and(|pod| pods::is_on_dead_node(pod)) => {
                // It has failed when its pod is gone.
                add_condition(store, job, pods::job_ends(false, "DeadlineExceeded"));
            }
            What::Deadline if !over => {
                // The agent's word goes with its pod.
                self.do_job(store, job, What::AlmostFinish { complete: false, reason: "DeadlineExceeded" });
                let _ = store.delete(&pod_key(job), &DeleteOptions::default());
            }
            What::Expire => {
                // Its pod goes first.
                let _ = store.delete(&pod_key(job), &DeleteOptions::default());
                store.delete(&Key::of(job), &DeleteOptions::default()).unwrap();
            }
            // It was ended meanwhile.
            What::MakePod | What::Start | What::End | What::AlmostFinish { .. } | What::Deadline => {}
        }
    }

    fn start(&mut self, store: &mut Store, job: &Value) {
        let behaviour = self.behaviour(job);
        if let Behaviour::Stuck(why) = behaviour {
            set_status(store, &pod_key(job), pods::stuck(why));
            return;
        }
        if matches!(behaviour, Behaviour::MasterMovesBefore) {
            self.database.move_master();
        }
        let running = pods::running();
        set_status(store, &pod_key(job), if self.script.sidecar { pods::with_sidecar(running) } else { running });
        if job["metadata"]["labels"][TASK_LABEL] == "backup" {
            if self.running.is_empty() {
                self.plan(self.clock.elapsed() + Duration::from_secs(5), Deed::MidRun);
            }
            let uid = job["metadata"]["uid"].as_str().unwrap().to_owned();
            self.running.insert(uid, Running::start(job, &self.database, members::source(store)));
        }
        if !matches!(behaviour, Behaviour::Hangs) {
            let seconds = match job["metadata"]["labels"][TASK_LABEL].as_str() {
                Some("inspect") => 15,
                Some("check" | "survey" | "carry") => 2,
                _ => self.script.tool_seconds,
            };
            self.plan_job(job, seconds, What::End);
        }
    }

    fn end(&mut self, store: &mut Store, job: &Value) {
        let behaviour = self.behaviour(job);
        if matches!(behaviour, Behaviour::MasterMovesDuring | Behaviour::MixesHistories) {
            self.database.move_master();
        }
        let (exit_code, message) = match behaviour {
            Behaviour::Honest
            | Behaviour::MasterMovesBefore
            | Behaviour::MasterMovesDuring
            | Behaviour::MixesHistories => say(&self.work(store, job, !matches!(behaviour, Behaviour::MixesHistories))),
            Behaviour::Fails(reason) => say(&failed(reason, "it was told to fail")),
            Behaviour::Rambles => say(&failed(Reason::ToolFailed, &"schön ".repeat(200))),
            Behaviour::Forges(forge) => {
                let mut verdict = self.work(store, job, true);
                if let Verdict::Published(point) = &mut verdict {
                    forge(point);
                }
                say(&verdict)
            }
            Behaviour::Says(text) => (0, text.to_owned()),
            Behaviour::SaysNothing => (0, String::new()),
            Behaviour::Dies { published } => {
                self.work_if(store, job, published);
                (137, String::new())
            }
            Behaviour::PodVanishes { published } => {
                self.work_if(store, job, published);
                store.delete(&pod_key(job), &DeleteOptions::default()).unwrap();
                return;
            }
            Behaviour::NodeDies { published } => {
                self.work_if(store, job, published);
                let key = pod_key(job);
                store.change(&key, pods::lose_node).unwrap();
                store.delete(&key, &DeleteOptions::default()).unwrap();
                self.plan(self.clock.elapsed() + Duration::from_secs(NODE_AWAY_SECONDS), Deed::NodeBack(key));
                return;
            }
            Behaviour::JobVanishes { published } => {
                self.work_if(store, job, published);
                store.delete(&Key::of(job), &DeleteOptions::default()).unwrap();
                return;
            }
            Behaviour::Stuck(_) | Behaviour::Hangs => unreachable!("it does not end"),
        };
        if self.script.sidecar {
            set_status(store, &pod_key(job), pods::with_sidecar(pods::ended(exit_code, &message)));
            return;
        }
        let ended = |pod: &mut Value| {
            pod["status"] = pods::ended(exit_code, &message);
            pods::release(pod);
        };
        store.change(&pod_key(job), ended).unwrap();
        let complete = exit_code == 0;
        let reason = if complete { "CompletionsReached" } else { "BackoffLimitExceeded" };
        self.do_job(store, job, What::AlmostFinish { complete, reason });
    }

    /// The agent does what its Job asks for.
    fn work(&self, store: &Store, job: &Value, check: bool) -> Verdict {
        let source: Source = members::source(store);
        let volume = &mut self.volume.lock().unwrap();
        if job["metadata"]["labels"][TASK_LABEL] == "inspect" {
            return inspect(job, volume);
        }
        if job["metadata"]["labels"][TASK_LABEL] == "prune" {
            return prune(job, volume);
        }
        if job["metadata"]["labels"][TASK_LABEL] == "check" {
            return Verdict::Ready;
        }
        if job["metadata"]["labels"][TASK_LABEL] == "drill" {
            return drill(job, self.clock.now());
        }
        if let Some(verdict) = restorer::work(store, &self.database, job, self.script.staged_store) {
            return verdict;
        }
        let running = &self.running[job["metadata"]["uid"].as_str().unwrap()];
        running.publish(&self.database, source, volume, self.clock.now(), check)
    }

    fn work_if(&self, store: &Store, job: &Value, published: bool) {
        if published {
            self.work(store, job, true);
        }
    }
}

/// Exit code and termination message of the agent.
fn say(verdict: &Verdict) -> (i32, String) {
    let code = i32::from(matches!(verdict, Verdict::Failed(_)));
    (code, serde_json::to_string(verdict).unwrap())
}

/// Whether a Job ends or has ended.
fn is_over(job: &Value) -> bool {
    job["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty())
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap()
}

fn pod_key(job: &Value) -> Key {
    Key { kind: "Pod", namespace: namespace(job).to_owned(), name: pods::name_of(job) }
}

fn set_status(store: &mut Store, key: &Key, status: Value) {
    store.change(key, |object| object["status"] = status).unwrap();
}

fn add_condition(store: &mut Store, job: &Value, condition: Value) {
    let added = store.change(&Key::of(job), |job| {
        let conditions = &mut job["status"]["conditions"];
        match conditions.as_array_mut() {
            Some(list) => list.push(condition),
            None => *conditions = json!([condition]),
        }
    });
    added.unwrap();
}
