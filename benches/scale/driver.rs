//! Plays the Job controller, the kubelet and the agent for every Job, and notes when things happen.

use chrono::Utc;
use futures::StreamExt;
use graph_backup_operator::api::{GraphBackup, Seed};
use graph_backup_operator::contract::task::{BackupRun, Mode, RUN_VARIABLE};
use graph_backup_operator::contract::verdict::{Published, Verdict};
use graph_backup_operator::controller::pod::AGENT_CONTAINER;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Label of the backups whose times are noted.
pub const PLAYED: &str = "scale.graphbackup.dev/played";

/// What was seen, and when.
#[derive(Debug)]
pub enum Seen {
    /// The Job is there.
    Job(String, Instant),
    /// The pod's end is about to be written.
    PodEnded(String, Instant),
    /// The Job's end was written.
    JobComplete(String),
    /// The backup is over.
    Finished(String, Instant),
}

/// Plays until it is stopped.
pub struct Driver {
    /// What it sees.
    pub seen: UnboundedReceiver<Seen>,
    holds: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Driver {
    /// Starts to play.
    pub fn start(client: &Client) -> Self {
        let (sender, seen) = unbounded_channel();
        let (holds, held) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(jobs(client.clone(), sender.clone(), held));
        tasks.spawn(backups(client.clone(), sender));
        Self { seen, holds, tasks }
    }

    /// From now on no pod ends, or all that run do. The backup of a real database outlasts a burst.
    pub fn hold(&self, holds: bool) {
        self.holds.send_replace(holds);
    }

    /// Ends, in the middle of a Job if need be.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn jobs(client: Client, seen: UnboundedSender<Seen>, held: watch::Receiver<bool>) {
    let (mut known, mut runs) = (HashSet::new(), JoinSet::new());
    let all: Api<PartialObjectMeta<Job>> = Api::all(client.clone());
    let mut events = watcher(all, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let (Ok(Event::Apply(job) | Event::InitApply(job)), now) = (event, Instant::now()) else { continue };
        if known.insert(job.uid().unwrap()) {
            seen.send(Seen::Job(backup_of(&job), now)).ok();
            runs.spawn(run(client.clone(), job, seen.clone(), held.clone()));
            while runs.try_join_next().is_some() {}
        }
    }
}

fn backup_of(job: &PartialObjectMeta<Job>) -> String {
    job.owner_references()[0].name.clone()
}

async fn backups(client: Client, seen: UnboundedSender<Seen>) {
    let config = watcher::Config::default().labels(PLAYED);
    let mut events = watcher(Api::<GraphBackup>::all(client), config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let (Ok(Event::Apply(backup) | Event::InitApply(backup)), now) = (event, Instant::now()) else { continue };
        if backup.status.as_ref().is_some_and(|status| status.completion_time.is_some()) {
            seen.send(Seen::Finished(backup.name_any(), now)).ok();
        }
    }
}

/// What a real cluster writes of a Job that succeeds, in the same order.
async fn run(
    client: Client,
    job: PartialObjectMeta<Job>,
    seen: UnboundedSender<Seen>,
    mut held: watch::Receiver<bool>,
) {
    let (namespace, name) = (job.namespace().unwrap(), job.name_any());
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let job = jobs.get(&name).await.unwrap();
    let start = Utc::now();
    let of_job = async |status: Value| {
        jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.unwrap();
    };
    let of_pod = async |status: Value| {
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.unwrap();
    };
    pods.create(&PostParams::default(), &pod_of(&job)).await.unwrap();
    of_job(json!({"startTime": start, "active": 1, "ready": 0, "terminating": 0})).await;
    let running = json!({"running": {"startedAt": start}});
    of_pod(json!({"phase": "Running", "containerStatuses": [container(&running)]})).await;
    of_job(json!({"ready": 1})).await;
    held.wait_for(|held| !held).await.expect("the driver ended");
    let backup = job.owner_references()[0].name.clone();
    let message = serde_json::to_string(&verdict(&job)).unwrap();
    let now = Utc::now();
    let over = json!({"exitCode": 0, "reason": "Completed", "message": message, "startedAt": start, "finishedAt": now});
    let over = json!({"terminated": over});
    seen.send(Seen::PodEnded(backup.clone(), Instant::now())).ok();
    of_pod(json!({"phase": "Succeeded", "containerStatuses": [container(&over)]})).await;
    let met = condition("SuccessCriteriaMet");
    of_job(json!({"active": 0, "ready": 0, "conditions": [met],
                  "uncountedTerminatedPods": {"succeeded": [uid_of(&pods, &name).await]}}))
    .await;
    of_job(json!({"completionTime": now, "succeeded": 1, "uncountedTerminatedPods": {"succeeded": null},
                  "conditions": [met, condition("Complete")]}))
    .await;
    seen.send(Seen::JobComplete(backup)).ok();
}

async fn uid_of(pods: &Api<Pod>, name: &str) -> String {
    pods.get_metadata(name).await.unwrap().uid().unwrap()
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": Utc::now()})
}

fn container(state: &Value) -> Value {
    json!({"name": AGENT_CONTAINER, "state": state, "image": "tool", "imageID": "", "ready": false, "restartCount": 0})
}

/// The Job's pod, under the Job's name.
fn pod_of(job: &Job) -> Pod {
    let template = job.spec.as_ref().unwrap().template.clone();
    let mut labels = template.metadata.unwrap().labels.unwrap();
    labels.insert("batch.kubernetes.io/job-name".to_owned(), job.name_any());
    let (name, uid) = (job.name_any(), job.uid().unwrap());
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true});
    serde_json::from_value(json!({
        "metadata": {"name": job.name_any(), "labels": labels, "ownerReferences": [owner],
                     "finalizers": ["batch.kubernetes.io/job-tracking"]},
        "spec": template.spec.unwrap(),
    }))
    .unwrap()
}

/// What the agent of the Job reports when all went well.
fn verdict(job: &Job) -> Verdict {
    let container = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
    let run = container.env.iter().flatten().find(|variable| variable.name == RUN_VARIABLE).unwrap();
    let run: BackupRun = serde_json::from_str(&run.value.as_ref().unwrap().replace("$$", "$")).unwrap();
    Verdict::Published(Box::new(Published {
        mode: Mode::Full,
        depth: 0,
        parent: None,
        fell_back: None,
        shared_bytes: 0,
        copied_by: None,
        boot: None,
        seed: Some(Seed::COMPLETE),
        free_bytes: Some(2 << 30),
        earlier: None,
        owner_uid: run.owner.uid,
        attempt: run.attempt,
        manifest_digest: format!("sha256:{}", "5f".repeat(32)),
        store_id: run.place.cluster,
        last_transaction: 42,
        files: 29,
        bytes: 3 << 20,
        data_from: Utc::now(),
        data_to: Utc::now(),
        mastership_before: run.mastership.clone(),
        mastership_after: run.mastership,
        verified: true,
    }))
}
