//! What holds of every restore drill, and what of its Job brings its schedule a pass.

use super::look::schedules;
use super::subject::KIND;
use crate::apiserver::{Call, Change, ChangeType, Key, Object, Record, Verb};
use crate::driver::Run;
use crate::fault::Mishap;
use graph_backup_operator::api::names::{SCHEDULE_LABEL, TASK_LABEL};
use graph_backup_operator::controller::progress::{AFTER_A_JOB, Progress};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A Job that is gone so many seconds after it was created is created again.
const GRACE: Duration = Duration::from_secs(30);

/// What of a drill's Job and its pod brings its schedule a pass, as the watches of the operator have it.
pub fn triggered_by(before: Option<&Object>, change: &Change) -> Option<(Key, Duration)> {
    let object = &change.object;
    let meta = &object["metadata"];
    let name = meta["labels"][SCHEDULE_LABEL].as_str()?.to_owned();
    let (progress, after_its_end): (fn(&Value) -> Progress, _) = match object["kind"].as_str()? {
        "Job" => (|job| Progress::of_job(&Job::deserialize(job).unwrap()), AFTER_A_JOB),
        "Pod" => (|pod| Progress::of_pod(&Pod::deserialize(pod).unwrap()), Duration::ZERO),
        _ => return None,
    };
    let after = match change.what {
        ChangeType::Deleted => Duration::ZERO,
        ChangeType::Added | ChangeType::Modified => {
            progress(object).due(before.map(|before| progress(before)).unwrap_or_default(), after_its_end)?
        }
    };
    Some((Key { kind: KIND, namespace: meta["namespace"].as_str()?.to_owned(), name }, after))
}

fn applied(run: &Run, verb: Verb) -> impl Iterator<Item = &Record> {
    run.records.iter().filter(move |record| record.applied() && record.call.verb == verb)
}

/// The drills whose Jobs were created, and at which times.
fn jobs(run: &Run) -> BTreeMap<&str, Vec<Duration>> {
    let mut jobs: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for record in applied(run, Verb::Create).filter(|record| record.call.kind.name == "Job") {
        jobs.entry(&record.call.name).or_default().push(record.at);
    }
    jobs
}

/// One Job for each drill, one result of each, and nothing that could touch the database or write to the target.
pub fn sound(run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    for (job, created) in jobs(run) {
        // One that somebody deletes soon after its creation looks like one that was never created.
        if created.len() > 2 || created.last() > created.first().map(|first| *first + GRACE).as_ref() {
            wrong.push(format!("Job {job} is created again: {created:?}"));
        }
    }
    for record in &run.records {
        if matches!(record.call.kind.name, "Lease" | "StatefulSet" | "PersistentVolumeClaim") {
            wrong.push(format!("a schedule has nothing to do with {}", record.call));
        }
        let creates = record.call.verb == Verb::Create && record.call.kind.name == "Job";
        wrong.extend(creates.then(|| harmless(&record.call.body)).into_iter().flatten());
    }
    wrong.extend(contradictions(run));
    wrong
}

/// The Job of a drill knows no address of the database, and mounts the target read-only.
fn harmless(job: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let spec = &job["spec"]["template"]["spec"];
    if job["metadata"]["labels"][TASK_LABEL] != "drill" {
        wrong.push("a schedule creates a Job that is no drill".to_owned());
    }
    if spec.to_string().contains("zk-0") {
        wrong.push("the Job of a drill knows where the database is".to_owned());
    }
    let of = |list: &'static str| spec[list].as_array().into_iter().flatten();
    let claims = of("volumes").filter(|volume| volume["persistentVolumeClaim"].is_object());
    let claims: Vec<&Value> = claims.collect();
    if claims.is_empty() || claims.iter().any(|volume| volume["persistentVolumeClaim"]["readOnly"] != true) {
        wrong.push("the claim of the target is not read-only in a drill".to_owned());
    }
    for container in of("initContainers").chain(of("containers")) {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let of_target = mounts.filter(|mount| claims.iter().any(|volume| volume["name"] == mount["name"]));
        if of_target.into_iter().any(|mount| mount["readOnly"] != true) {
            wrong.push("a container of a drill mounts the target writable".to_owned());
        }
    }
    wrong
}

/// What was recorded of a drill on its backup stays: it is written again only with the same words.
fn contradictions(run: &Run) -> Vec<String> {
    let mut said: BTreeMap<(&str, usize), &Value> = BTreeMap::new();
    let mut wrong = Vec::new();
    for record in run.records.iter().filter(|record| record.applied()) {
        let result = &record.call.body["status"]["drill"];
        if record.call.kind.name != "GraphBackup" || result.is_null() {
            continue;
        }
        // A further drill of the same point has a Job of its own.
        let drills = run.records[..record.index]
            .iter()
            .filter(|other| other.call.kind.name == "Job" && other.call.verb == Verb::Create)
            .map(|other| &other.call.name)
            .collect::<BTreeSet<_>>()
            .len();
        let before = said.insert((&record.call.name, drills), result);
        if let Some(before) = before.filter(|before| before["reason"] != result["reason"]) {
            wrong.push(format!(
                "the drill of {} ended with {}, then with {}",
                record.call.name, before["reason"], result["reason"]
            ));
        }
    }
    wrong
}

/// Whether this mishap of a request may change how a drill ends, or whether that is told of its backup: its Job, or that
/// record, is refused. A conflict means that another Job has the name of the one that is deleted.
pub fn may_lose(call: &Call, mishap: Mishap) -> bool {
    let of_job = matches!(call.verb, Verb::Create | Verb::Delete) && call.kind.name == "Job";
    matches!(mishap, Mishap::Refused(403 | 409 | 422)) && (of_job || call.status && call.kind.name == "GraphBackup")
}

/// At the end no drill runs, the last one has a result, and it is told of the backup as it is of the schedule.
pub fn ended(run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    for schedule in schedules(run) {
        let drill = &schedule["status"]["drill"];
        if !drill["running"].is_null() {
            wrong.push(format!("the drill {} does not end", drill["running"]["job"]));
        }
        let last = &drill["last"];
        let uid = schedule["metadata"]["uid"].as_str().unwrap();
        let prefix = format!("{}-{}-d", schedule["metadata"]["name"].as_str().unwrap(), &uid[..5]);
        // One that was created anew has no point of its own when its drill is due.
        if last.is_null() && jobs(run).keys().any(|job| job.starts_with(&prefix)) {
            wrong.push("no drill has a result".to_owned());
        }
        let is_tried =
            |object: &&Arc<Object>| object["kind"] == "GraphBackup" && object["metadata"]["name"] == last["name"];
        let backup = run.end.iter().find(is_tried).filter(|_| !is_record_refused(run));
        if let Some(backup) = backup.filter(|backup| backup["status"]["drill"] != *last) {
            wrong.push(format!("the backup says {}, and the schedule {last}", backup["status"]["drill"]));
        }
    }
    wrong
}

/// Whether the API server refused what was to be told of a backup.
fn is_record_refused(run: &Run) -> bool {
    let refused = |record: &Record| matches!(record.mishap, Some(Mishap::Refused(403 | 409 | 422)));
    run.records.iter().any(|record| record.call.kind.name == "GraphBackup" && record.call.status && refused(record))
}
