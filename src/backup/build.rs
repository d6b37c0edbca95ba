//! The Jobs of a backup, built from a [`ValidBackup`]. Pure.

use super::decide::cold::CHECK_DEADLINE;
use super::decide::inspection::reading_limit;
use super::step::{DEADLINE_MARGIN, deadline_left};
use super::validate::{ValidBackup, Work};
use crate::api::names::{self, ATTEMPT_LABEL, BACKUP_LABEL, BACKUP_UID_LABEL};
use crate::api::{Attempt, BackupType, GraphBackupStatus, Owner, StoreId};
use crate::contract::task::{
    AGENT_MOUNT, BINARY_NAME, BackupRun, InspectRun, Plan, PruneRun, SOURCE_MOUNT, TARGET_MOUNT, Task,
};
use crate::controller::pod::{
    JobIdentity, agent_container, agent_resources, claim_volume, install_container, job, mount, on_node_of, pod_spec,
    scratch_volume,
};
use crate::members::choose::claim_of;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Limit of the Job that removes files.
const PRUNE_SECONDS: i64 = 3600;

/// The Job of an attempt, or the one that checks beforehand. `operator_image` holds the agent.
pub fn backup_job(
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    attempt: &Attempt,
    task: Task,
    operator_image: &str,
    now: DateTime<Utc>,
) -> Result<Job, serde_json::Error> {
    let left = deadline_left(backup, status, now).unwrap_or_default();
    let run = BackupRun {
        owner: backup.owner.clone(),
        attempt: attempt.number,
        source: backup.source.clone(),
        cluster_name: backup.cluster_name.clone(),
        mastership: attempt.mastership.clone(),
        plan: plan(backup, attempt),
        command: backup.command.clone(),
        place: backup.place(attempt.store_id),
        boot_command: backup.boot_command.clone(),
        bandwidth_limit: backup.bandwidth_limit,
        verification: backup.verification,
        deadline_seconds: left.as_secs().max(1),
        image: backup.image.clone(),
    };
    let stopped = backup.cold().zip(attempt.stopped.as_ref());
    let source = stopped.map(|(cold, stopped)| claim_of(&cold.workload, &stopped.pod));
    let mut mounts =
        vec![mount("target", TARGET_MOUNT, false), mount("agent", AGENT_MOUNT, true), mount("tmp", "/tmp", false)];
    mounts.extend(source.iter().map(|_| mount("source", SOURCE_MOUNT, true)));
    let agent = agent_container(task, &format!("{AGENT_MOUNT}/{BINARY_NAME}"), &serde_json::to_string(&run)?);
    let tool = Container {
        image: Some(backup.image.clone()),
        env: Some(backup.env.iter().cloned().chain(agent.env.unwrap_or_default()).collect()),
        resources: backup.pod_template.resources.clone(),
        volume_mounts: Some(mounts),
        working_dir: Some("/tmp".to_owned()),
        ..agent
    };
    let install = install_container(operator_image, mount("agent", AGENT_MOUNT, false));
    let mut volumes = vec![
        claim_volume("target", &backup.target.claim_name, false),
        scratch_volume("agent", Some("64Mi")),
        scratch_volume("tmp", None),
    ];
    volumes.extend(source.map(|claim| claim_volume("source", &claim, true)));
    let mut pod = pod_spec(&backup.pod_template, vec![install], tool, volumes);
    let (name, seconds) = match (task, &attempt.stopped) {
        (Task::Check, Some(stopped)) => {
            on_node_of(&mut pod, &stopped.pod);
            let name = names::check_job(&backup.owner.name, &backup.owner.uid, attempt.number);
            (name, backup.pod_start_deadline + CHECK_DEADLINE)
        }
        _ => (attempt.job.clone(), left + DEADLINE_MARGIN),
    };
    let seconds = i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX);
    Ok(job(identity(backup, Some(attempt), &name, task), &backup.pod_template, seconds, pod))
}

fn plan(backup: &ValidBackup, attempt: &Attempt) -> Plan {
    match (&attempt.parent, &backup.work, &attempt.stopped) {
        (_, Work::Cold(cold), Some(stopped)) => {
            Plan::Cold { store_path: cold.workload.store_path.clone(), alone: stopped.replicas == 1 }
        }
        (Some(parent), ..) => {
            Plan::Incremental { parent: parent.clone(), or_full: backup.backup_type == BackupType::Auto }
        }
        (None, ..) => Plan::Full,
    }
}

/// The Job that inspects the volume: what became of an attempt?
pub fn inspect_job(
    backup: &ValidBackup,
    attempt: &Attempt,
    name: &str,
    operator_image: &str,
) -> Result<Job, serde_json::Error> {
    let run =
        InspectRun { owner: backup.owner.clone(), place: backup.place(attempt.store_id), adopt: false, clean: true };
    let pod = inspection(backup, &run, operator_image)?;
    Ok(job(identity(backup, Some(attempt), name, Task::Inspect), &backup.pod_template, inspect_seconds(backup), pod))
}

/// The Job that reads a point of the store back that is adopted.
pub fn adopt_job(
    backup: &ValidBackup,
    store: StoreId,
    name: &str,
    operator_image: &str,
) -> Result<Job, serde_json::Error> {
    let run = InspectRun { owner: backup.owner.clone(), place: backup.place(store), adopt: true, clean: false };
    let pod = inspection(backup, &run, operator_image)?;
    Ok(job(identity(backup, None, name, Task::Inspect), &backup.pod_template, inspect_seconds(backup), pod))
}

/// Limit of a Job that reads a store back, the start of its pod included.
fn inspect_seconds(backup: &ValidBackup) -> i64 {
    let limit = backup.pod_start_deadline + reading_limit(backup);
    i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)
}

fn inspection(backup: &ValidBackup, run: &InspectRun, operator_image: &str) -> Result<PodSpec, serde_json::Error> {
    Ok(own_pod(backup, Task::Inspect, &serde_json::to_string(run)?, operator_image, !run.clean))
}

/// The Job that removes the files of a deleted object.
pub fn prune_job(
    backup: &ValidBackup,
    status: &GraphBackupStatus,
    operator_image: &str,
) -> Result<Job, serde_json::Error> {
    // The files of an adopted point carry the UID of the object that made it.
    let maker = status.point.as_ref().and_then(|point| point.owner_uid.clone());
    let owner = Owner { uid: maker.unwrap_or_else(|| backup.owner.uid.clone()), ..backup.owner.clone() };
    let run = PruneRun { owner, places: backup.places(status) };
    let pod = own_pod(backup, Task::Prune, &serde_json::to_string(&run)?, operator_image, false);
    let name = names::prune_job(&backup.owner.name, &backup.owner.uid);
    Ok(job(identity(backup, None, &name, Task::Prune), &backup.pod_template, PRUNE_SECONDS, pod))
}

/// A pod that runs the operator's own image on the target.
fn own_pod(backup: &ValidBackup, task: Task, run: &str, operator_image: &str, read_only: bool) -> PodSpec {
    let container = Container {
        image: Some(operator_image.to_owned()),
        resources: Some(agent_resources()),
        volume_mounts: Some(vec![mount("target", TARGET_MOUNT, read_only)]),
        ..agent_container(task, &format!("/{BINARY_NAME}"), run)
    };
    let target = claim_volume("target", &backup.target.claim_name, false);
    pod_spec(&backup.pod_template, Vec::new(), container, vec![target])
}

fn identity<'a>(backup: &'a ValidBackup, attempt: Option<&Attempt>, name: &'a str, task: Task) -> JobIdentity<'a> {
    let attempt = attempt.map(|attempt| (ATTEMPT_LABEL, attempt.number.to_string()));
    let always = [(BACKUP_LABEL, backup.owner.name.clone()), (BACKUP_UID_LABEL, backup.owner.uid.clone())];
    let labels = always.into_iter().chain(attempt).map(|(key, value)| (key.to_owned(), value)).collect();
    JobIdentity { owner: &backup.owner, name, task, labels }
}

#[cfg(test)]
mod tests;
