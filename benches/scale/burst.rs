//! Many schedules whose slots come in the same minute, each for a database cluster of its own in one real ensemble.

use crate::driver::Seen;
use crate::objects::{apply, backups, namespace};
use crate::operator::NAMESPACE;
use crate::support::Ensemble;
use chrono::{DateTime, DurationRound, TimeDelta, Timelike, Utc};
use futures::StreamExt;
use graph_backup_operator::api::{BackupSchedule, StoreId};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use zookeeper_client::{Acls, CreateMode};

/// Requests at the same time.
const AT_ONCE: usize = 64;
/// Longest time until every slot has its Job.
const BOUND: Duration = Duration::from_secs(600);

fn name(number: usize) -> String {
    format!("burst-{number:04}")
}

fn store(number: usize) -> StoreId {
    StoreId { creation_time: 1_795_000_000_000 + i64::try_from(number).unwrap(), random_id: 7 }
}

/// The znodes of as many clusters, each with one member that is master.
pub async fn clusters(ensemble: &Ensemble, count: usize) {
    let client = ensemble.client().await;
    let client = &client;
    futures::stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| async move {
            let store = store(number);
            let root = store.root_path();
            let pointer = [
                store.creation_time.to_be_bytes(),
                store.random_id.to_be_bytes(),
                0x0030_2e41_2e30_7606_i64.to_be_bytes(),
            ];
            let election = [&42_i64.to_be_bytes()[..], &1_i32.to_be_bytes()].concat();
            for (path, data) in [
                (format!("/{}", name(number)), pointer.concat()),
                (root.clone(), Vec::new()),
                (format!("{root}/ha-servers"), Vec::new()),
                (format!("{root}/ha-servers/1"), server("127.0.0.1:6361")),
                (format!("{root}/1_0000000001"), election),
                (format!("{root}/master-notify"), (-1_i32).to_be_bytes().to_vec()),
                (format!("{root}/master-rebound"), 1_i32.to_be_bytes().to_vec()),
            ] {
                let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
                client.create(&path, &data, &options).await.unwrap();
            }
        })
        .await;
}

fn server(address: &str) -> Vec<u8> {
    let mut bytes = 6362_i32.to_be_bytes().to_vec();
    bytes.push(u8::try_from(address.len()).unwrap());
    bytes.extend(address.encode_utf16().flat_map(u16::to_be_bytes));
    bytes.extend([0; 95]);
    bytes
}

fn schedules(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<BackupSchedule>(&()))
}

/// A minute that is far enough ahead.
pub fn slot_in(seconds: i64) -> DateTime<Utc> {
    let slot = Utc::now() + TimeDelta::seconds(seconds + 60);
    slot.duration_trunc(TimeDelta::minutes(1)).unwrap()
}

/// Schedules, each with this one slot in the near future.
pub async fn schedule(client: &Client, uri: &str, count: usize, namespaces: usize, slot: DateTime<Utc>, jitter: &str) {
    futures::stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| async move {
            let object = json!({
                "apiVersion": "graphbackup.dev/v1alpha1", "kind": "BackupSchedule",
                "metadata": {"name": name(number)},
                "spec": {
                    "full": {"schedule": format!("{} {} * * *", slot.minute(), slot.hour())},
                    "jitter": jitter,
                    "freshness": {"maxAge": "26h"},
                    "retention": {"keepLast": 7, "keepDaily": 7},
                    "template": {
                        "source": {"uri": uri, "clusterName": name(number)}, "target": {"claimName": "graph-backups"},
                        "tool": {"image": "localhost/neo4j-ha:1.8"},
                    },
                },
            });
            apply(&schedules(client, &namespace(number % namespaces)), &object).await;
        })
        .await;
}

/// How a burst went.
pub struct Burst {
    /// From the slot to each Job, sorted.
    pub to_job: Vec<Duration>,
    /// Backups of one namespace that began while another one's waited for its first, at most.
    pub ahead: usize,
}

/// Waits until every slot has its Job, or every backup its end.
pub async fn watch(
    seen: &mut UnboundedReceiver<Seen>,
    slot: DateTime<Utc>,
    count: usize,
    namespaces: usize,
    to_the_end: bool,
) -> Burst {
    let begin = Instant::now();
    let until_slot = (slot - Utc::now()).to_std().unwrap_or_default();
    let mut jobs: HashMap<String, Duration> = HashMap::new();
    let mut starts = vec![0_usize; namespaces];
    let (mut ahead, mut ended) = (0, 0);
    let mine = |name: &str| name.starts_with("burst-");
    let all = async {
        while jobs.len() < count || (to_the_end && ended < count) {
            match seen.recv().await.expect("the driver ended") {
                Seen::Job(of, at) if mine(&of) => {
                    let number: usize = of[6..10].parse().unwrap();
                    starts[number % namespaces] += 1;
                    let (most, least) = (starts.iter().max().unwrap(), starts.iter().min().unwrap());
                    ahead = ahead.max(most - least);
                    jobs.insert(of, at.saturating_duration_since(begin + until_slot));
                }
                Seen::JobComplete(of) if mine(&of) => ended += 1,
                _ => {}
            }
        }
    };
    let bound = BOUND + until_slot;
    assert!(tokio::time::timeout(bound, all).await.is_ok(), "{} of {count} slots have a Job", jobs.len());
    let mut to_job: Vec<Duration> = jobs.into_values().collect();
    to_job.sort();
    Burst { to_job, ahead }
}

/// Waits until so many of them have ended.
pub async fn ends(seen: &mut UnboundedReceiver<Seen>, mut count: usize) {
    while count > 0 {
        let next = tokio::time::timeout(BOUND, seen.recv()).await.expect("the backups do not end");
        let is_end = matches!(next.expect("the driver ended"), Seen::JobComplete(of) if of.starts_with("burst-"));
        count -= usize::from(is_end);
    }
}

/// The writes that a slot costs, from a client that does nothing else: how long they take for all slots together, until
/// the driver has seen the last Job.
pub async fn bare(
    client: &Client,
    uri: &str,
    (count, namespaces): (usize, usize),
    job: &Job,
    seen: &mut UnboundedReceiver<Seen>,
) -> Duration {
    let begin = Instant::now();
    futures::stream::iter(0..count)
        .for_each_concurrent(256, |number| async move {
            let space = namespace(number % namespaces);
            let own = format!("bare-{number:04}");
            let backups = backups(client, &space);
            let object = crate::objects::backup(&own, uri, &json!({}));
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            backups.create(&PostParams::default(), &object).await.unwrap();
            let status = |kind: &str| json!({"apiVersion": "graphbackup.dev/v1alpha1", "kind": kind, "status": {"phase": "Active"}});
            let params = PatchParams::apply("bare").force();
            let schedule = status("BackupSchedule");
            schedules(client, &space).patch_status(&name(number), &params, &Patch::Apply(schedule)).await.unwrap();
            let lease: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
            let held: Lease = serde_json::from_value(json!({"metadata": {"name": own}, "spec": {}})).unwrap();
            lease.create(&PostParams::default(), &held).await.unwrap();
            let mut running = status("GraphBackup");
            running["status"] = json!({"phase": "Running"});
            backups.patch_status(&own, &params, &Patch::Apply(running)).await.unwrap();
            let mut job = job.clone();
            job.metadata.owner_references = Some(vec![serde_json::from_value(json!({
                "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup", "name": own, "uid": own,
            })).unwrap()]);
            job.metadata.name = Some(own);
            job.metadata.namespace = Some(space.clone());
            let jobs: Api<Job> = Api::namespaced(client.clone(), &space);
            jobs.create(&PostParams::default(), &job).await.unwrap();
        })
        .await;
    let (mut left, mut last) = (count, begin);
    while left > 0 {
        let next = tokio::time::timeout(BOUND, seen.recv()).await.expect("the driver sees no Job");
        if let Seen::Job(of, at) = next.expect("the driver ended")
            && of.starts_with("bare-")
        {
            (left, last) = (left - 1, last.max(at));
        }
    }
    let took = last - begin;
    // The operator would take them for backups that wait.
    futures::stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| async move {
            let backups = backups(client, &namespace(number % namespaces));
            backups.delete(&format!("bare-{number:04}"), &DeleteParams::default()).await.unwrap();
        })
        .await;
    took
}

/// A Job as the operator makes them, without what belongs to one object.
pub async fn example(client: &Client, namespace: &str) -> Job {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let mut job = jobs.list(&kube::api::ListParams::default().limit(1)).await.unwrap().items.remove(0);
    job.metadata = kube::core::ObjectMeta::default();
    job.status = None;
    let spec = job.spec.as_mut().unwrap();
    (spec.selector, spec.suspend) = (None, Some(true));
    if let Some(labels) = spec.template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.retain(|key, _| !key.contains("batch.kubernetes.io") && key != "controller-uid" && key != "job-name");
    }
    job
}

/// Requests that the API server refused because there were too many.
pub async fn refused(client: &Client) -> f64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let lines =
        text.lines().filter(|line| line.starts_with("apiserver_request_total{") && line.contains("code=\"429\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What a status holds of the slots that were skipped: none may be.
pub async fn skipped(client: &Client, namespaces: usize) -> usize {
    let mut skipped = 0;
    for number in 0..namespaces {
        let list = schedules(client, &namespace(number)).list(&kube::api::ListParams::default()).await.unwrap();
        let has =
            |object: &DynamicObject| object.data["status"]["skipped"].as_array().is_some_and(|list| !list.is_empty());
        skipped += list.items.iter().filter(|object| has(object)).count();
    }
    skipped
}

/// Bytes of the status of one schedule.
pub async fn status_bytes(client: &Client) -> usize {
    let object = schedules(client, &namespace(0)).get(&name(0)).await.unwrap();
    let status: &Value = &object.data["status"];
    status.to_string().len()
}
