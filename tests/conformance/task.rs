//! Jobs as the controller builds them, around containers that do as they are told.

use super::api::backup;
use super::stage::{Objects, Stage, text, version};
use graph_backup_operator::api::names::BACKUP_UID_LABEL;
use graph_backup_operator::api::{Attempt, GraphBackup, Reason};
use graph_backup_operator::backup::build::inspect_job;
use graph_backup_operator::backup::validate::validate;
use graph_backup_operator::contract::failure::Failure;
use graph_backup_operator::contract::verdict::{MESSAGE_PATH, Verdict};
use graph_backup_operator::controller::job::JobState;
use graph_backup_operator::controller::job::summarize;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// What a container that succeeds leaves in its termination message.
pub const REPORT: &str = "all is well";
/// Any store.
pub const STORE: &str = "0000000000000001-0000000000000002";
/// The image of the database in the test cluster: it has a shell.
pub const IMAGE: &str = "localhost/neo4j-ha:1.8";

/// What the container of a Job does. A Job of a task has its number as the number of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Works for a moment, leaves [`REPORT`], and exits with 0.
    Succeeds,
    /// Works for a moment, leaves the verdict of a failure, and exits with 1.
    Fails,
    /// Works until it is told to stop.
    Works,
    /// Its image cannot be pulled.
    HasNoImage,
    /// No node takes its pod.
    HasNoNode,
}

impl Task {
    /// By number, from 1.
    pub const ALL: [Self; 5] = [Self::Succeeds, Self::Fails, Self::Works, Self::HasNoImage, Self::HasNoNode];

    fn number(self) -> usize {
        1 + Self::ALL.iter().position(|task| *task == self).unwrap()
    }

    /// For a shell. What runs for a moment only may never be seen to run.
    fn script(self) -> String {
        match self {
            Self::Succeeds => format!("sleep 4; printf '%s' '{REPORT}' >{MESSAGE_PATH}"),
            Self::Fails => {
                let verdict = serde_json::to_string(&verdict_of_a_failure()).unwrap();
                format!("sleep 4; printf '%s' '{verdict}' >{MESSAGE_PATH}; exit 1")
            }
            Self::Works | Self::HasNoImage | Self::HasNoNode => "trap 'exit 1' TERM; sleep 600 & wait".to_owned(),
        }
    }
}

/// What a container that fails leaves in its termination message.
pub fn verdict_of_a_failure() -> Verdict {
    Verdict::Failed(Failure { reason: Reason::ToolFailed, message: "it was told to fail".to_owned() })
}

/// A Job of a `GraphBackup` that is there.
pub struct Subject<'a> {
    /// All Jobs.
    pub jobs: Objects<'a>,
    /// All pods.
    pub pods: Objects<'a>,
    /// Name of the Job.
    pub name: String,
    /// The Job, as it is to be created.
    pub job: Value,
    /// What selects the Job and its pods.
    pub selector: String,
    /// Version from which everything about its pods can be watched.
    before: String,
}

impl<'a> Subject<'a> {
    /// Creates the `GraphBackup`, but not the Job yet.
    pub async fn new(stage: &'a Stage, task: Task) -> Self {
        let owner = stage.objects::<GraphBackup>().create(&backup("one")).await.is("201");
        let selector = format!("{BACKUP_UID_LABEL}={}", text(&owner, "/metadata/uid"));
        let job = job_of(owner, task);
        let name = text(&job, "/metadata/name").to_owned();
        let (jobs, pods) = (stage.objects::<Job>(), stage.objects::<Pod>());
        let before = version(&pods.list(&selector).await.is("200")).to_owned();
        Self { jobs, pods, name, job, selector, before }
    }

    /// Creates the Job; gives it as it was at first.
    pub async fn start(&self) -> Value {
        self.jobs.create(&self.job).await.is("201")
    }

    /// Every fact about the pods, up to `last`.
    pub async fn pods_until(&self, last: &str) -> Vec<String> {
        self.pods.film(&self.selector, &self.before, container, last).await
    }

    /// Every fact about the Job since it was created, up to `last`.
    pub async fn job_until(&self, created: &Value, last: &str) -> Vec<String> {
        self.jobs.film(&self.selector, version(created), conditions, last).await
    }

    /// What the controller makes of the Job and its pods.
    pub async fn state(&self) -> JobState {
        let job = serde_json::from_value(self.jobs.get(&self.name).await.is("200")).unwrap();
        let pods = self.pods.list(&self.selector).await.is("200");
        summarize(&job, &serde_json::from_value::<Vec<Pod>>(pods["items"].clone()).unwrap())
    }
}

/// The conditions of a Job that are true, in order, as in `FailureTarget BackoffLimitExceeded`.
fn conditions(job: &Value) -> String {
    let all = job["status"]["conditions"].as_array();
    let set = all.into_iter().flatten().filter(|condition| condition["status"] == "True");
    let facts: Vec<String> = set.map(|c| format!("{} {}", text(c, "/type"), text(c, "/reason"))).collect();
    facts.join(", ")
}

/// What the container of a pod does: waits, works, or has ended with an exit code and a word.
fn container(pod: &Value) -> String {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let ended = &state["terminated"];
    match ended["exitCode"].as_i64() {
        Some(code) => format!("ended {code} {}", ended["message"].as_str().unwrap_or_default()),
        None if state["running"].is_object() => "works".to_owned(),
        None => "waits".to_owned(),
    }
}

/// The Job that asks the volume, with another container and without the volume.
fn job_of(owner: Value, task: Task) -> Value {
    let owner: GraphBackup = serde_json::from_value(owner).unwrap();
    let attempt: Attempt = serde_json::from_value(json!({
        "number": task.number(), "job": "one", "startTime": "2026-11-24T06:00:00Z",
        "storeId": STORE, "mastership": {"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": STORE}},
    }))
    .unwrap();
    let image = if task == Task::HasNoImage { "localhost/no-such-image:1" } else { IMAGE };
    let name = format!("one-{}", task.number());
    let mut job =
        serde_json::to_value(inspect_job(&validate(&owner).unwrap(), &attempt, &name, image).unwrap()).unwrap();
    let pod = &mut job["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "target", "emptyDir": {}}]);
    pod["containers"][0]["command"] = json!(["sh", "-c", task.script()]);
    if task == Task::HasNoNode {
        pod["nodeSelector"] = json!({"graphbackup.dev/no-such-node": "true"});
    }
    job
}
