//! What every Job of ours must be like, whatever it is for: what one test of each kind would miss.

use super::invariants::is_ours;
use crate::apiserver::Store;
use crate::world::agent::task;
use graph_backup_operator::api::names::{BACKUP_UID_LABEL, TASK_LABEL};
use graph_backup_operator::api::parse_duration;
use graph_backup_operator::contract::task::BackupRun;
use serde_json::Value;

/// The end of the name of the Job of an attempt, without the name and the UID of its object.
pub fn backup(attempt: u32) -> String {
    attempt.to_string()
}

/// The same of the Job that checks whether a cold copy can be made.
pub fn check(attempt: u32) -> String {
    format!("{attempt}c")
}

/// The same of a Job that inspects the volume; `number` is that of the try.
pub fn inspect(attempt: u32, number: u32) -> String {
    format!("{attempt}i{}", of_try(number))
}

/// The same of a Job that reads a point back to adopt it.
pub fn adopt(number: u32) -> String {
    format!("a{}", of_try(number))
}

/// The same of the Job that removes the files.
pub fn prune() -> String {
    "p".to_owned()
}

fn of_try(number: u32) -> String {
    if number > 1 { number.to_string() } else { String::new() }
}

/// Judges the Jobs of an object.
pub fn sound(store: &Store, backup: &Value, wrong: &mut impl FnMut(&str)) {
    let uid = &backup["metadata"]["uid"];
    for job in store.list("Job").filter(|job| is_ours(job) && job["metadata"]["labels"][BACKUP_UID_LABEL] == *uid) {
        volumes(job, backup, wrong);
        if matches!(job["metadata"]["labels"][TASK_LABEL].as_str(), Some("backup" | "check")) {
            run(job, backup, wrong);
        }
    }
}

/// Only the target may be written: a member's volume is mounted read-only twice, in the pod and in each container.
fn volumes(job: &Value, backup: &Value, wrong: &mut impl FnMut(&str)) {
    let pod = &job["spec"]["template"]["spec"];
    let target = &backup["spec"]["target"]["claimName"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for volume in list(&pod["volumes"]) {
        let claim = &volume["persistentVolumeClaim"];
        if claim.is_null() || claim["claimName"] == *target {
            continue;
        }
        if claim["readOnly"] != true {
            wrong("the volume of a member is not mounted read-only in a pod");
        }
        let containers = [list(&pod["initContainers"]), list(&pod["containers"])].concat();
        let mounts = containers.iter().flat_map(|container| list(&container["volumeMounts"]));
        if mounts.into_iter().any(|mount| mount["name"] == volume["name"] && mount["readOnly"] != true) {
            wrong("the volume of a member is not mounted read-only in a container");
        }
    }
}

/// The agent ends itself before its Job is ended.
fn run(job: &Value, backup: &Value, wrong: &mut impl FnMut(&str)) {
    let run: BackupRun = task(job);
    let limit = backup["spec"]["deadlines"]["run"].as_str().and_then(parse_duration).unwrap().as_secs();
    let whole = job["spec"]["activeDeadlineSeconds"].as_u64().unwrap();
    if job["metadata"]["labels"][TASK_LABEL] == "backup"
        && (run.deadline_seconds > limit || run.deadline_seconds >= whole)
    {
        wrong("the agent's deadline is not within that of the backup, and of its Job");
    }
}
