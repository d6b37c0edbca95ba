//! The Jobs of a backup, built from a [`ValidBackup`]. Pure.

use super::step::{DEADLINE_MARGIN, deadline_left};
use super::validate::ValidBackup;
use crate::api::Owner;
use crate::api::names::{
    self, ATTEMPT_LABEL, BACKUP_LABEL, BACKUP_UID_LABEL, MANAGED_BY, MANAGED_BY_LABEL, TASK_LABEL,
};
use crate::api::{Attempt, BackupType, GraphBackup, GraphBackupStatus, StoreId};
use crate::backup::decide::cold::{self, CHECK_DEADLINE};
use crate::backup::decide::inspection::reading_limit;
use crate::backup::decide::removal::places;
use crate::contract::task::{
    AGENT_MOUNT, BackupRun, InspectRun, POD_UID_VARIABLE, Plan, PruneRun, RUN_VARIABLE, SOURCE_MOUNT, TARGET_MOUNT,
    Task,
};
use crate::contract::verdict::MESSAGE_PATH;
use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodAffinityTerm, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use std::collections::BTreeMap;

/// Name of the container whose termination message is the verdict.
pub const AGENT_CONTAINER: &str = "tool";
/// User, group and fsGroup of Job pods that name none.
const DEFAULT_ID: i64 = 65532;
/// How long an ended Job stays for people who want its log.
const TTL_SECONDS: i32 = 3600;
/// The agent needs this long to stop the tool and report after it was told to end.
const TERMINATION_GRACE_SECONDS: i64 = 30;
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
    let stopped = backup.cold.as_ref().zip(attempt.stopped.as_ref());
    let source = stopped.map(|(cold, stopped)| cold::claim_of(cold, &stopped.pod));
    let mut mounts =
        vec![mount("target", TARGET_MOUNT, false), mount("agent", AGENT_MOUNT, true), mount("tmp", "/tmp", false)];
    mounts.extend(source.iter().map(|_| mount("source", SOURCE_MOUNT, true)));
    let mut env = backup.env.clone();
    env.extend(agent_env(&serde_json::to_string(&run)?));
    let tool = Container {
        image: Some(backup.image.clone()),
        env: Some(env),
        resources: backup.pod_template.resources.clone(),
        volume_mounts: Some(mounts),
        working_dir: Some("/tmp".to_owned()),
        ..agent_container(task, format!("{AGENT_MOUNT}/graph-backup-operator"))
    };
    let install = Container {
        name: "agent".to_owned(),
        image: Some(operator_image.to_owned()),
        args: Some(vec!["agent".to_owned(), "install".to_owned()]),
        resources: Some(small()),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![mount("agent", AGENT_MOUNT, false)]),
        ..Container::default()
    };
    let mut volumes = vec![claim(backup), scratch("agent", Some("64Mi")), scratch("tmp", None)];
    volumes.extend(source.map(|claim| read_only(&claim)));
    let mut pod = pod_spec(backup, vec![install], tool, volumes);
    let (name, seconds) = match (task, &attempt.stopped) {
        (Task::Check, Some(stopped)) => {
            beside(&mut pod, &stopped.pod);
            let name = names::check_job(&backup.owner.name, &backup.owner.uid, attempt.number);
            (name, backup.pod_start_deadline + CHECK_DEADLINE)
        }
        _ => (attempt.job.clone(), left + DEADLINE_MARGIN),
    };
    let seconds = i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX);
    Ok(job(backup, Some(attempt), &name, task, seconds, pod))
}

/// Puts a pod on the node of another one: as long as that runs, its volume may be mounted there only.
fn beside(pod: &mut PodSpec, other: &str) {
    let label = ("statefulset.kubernetes.io/pod-name".to_owned(), other.to_owned());
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some([label].into()), match_expressions: None }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let affinity = pod.affinity.get_or_insert_default().pod_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
}

fn plan(backup: &ValidBackup, attempt: &Attempt) -> Plan {
    match (&attempt.parent, &backup.cold, &attempt.stopped) {
        (_, Some(cold), Some(stopped)) => {
            Plan::Cold { store_path: cold.workload.store_path.clone(), alone: stopped.replicas == 1 }
        }
        (Some(parent), ..) => {
            Plan::Incremental { parent: parent.clone(), or_full: backup.backup_type == BackupType::Auto }
        }
        (None, ..) => Plan::Full,
    }
}

/// The Job that asks the volume what became of an attempt.
pub fn inspect_job(
    backup: &ValidBackup,
    attempt: &Attempt,
    name: &str,
    operator_image: &str,
) -> Result<Job, serde_json::Error> {
    let run =
        InspectRun { owner: backup.owner.clone(), place: backup.place(attempt.store_id), adopt: false, clean: true };
    let pod = inspection(backup, &run, operator_image)?;
    Ok(job(backup, Some(attempt), name, Task::Inspect, inspect_seconds(backup), pod))
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
    Ok(job(backup, None, name, Task::Inspect, inspect_seconds(backup), pod))
}

/// Limit of a Job that reads a store back, the start of its pod included.
fn inspect_seconds(backup: &ValidBackup) -> i64 {
    let limit = backup.pod_start_deadline + reading_limit(backup);
    i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)
}

fn inspection(backup: &ValidBackup, run: &InspectRun, operator_image: &str) -> Result<PodSpec, serde_json::Error> {
    let inspect = Container {
        image: Some(operator_image.to_owned()),
        env: Some(agent_env(&serde_json::to_string(run)?)),
        resources: Some(small()),
        volume_mounts: Some(vec![mount("target", TARGET_MOUNT, !run.clean)]),
        ..agent_container(Task::Inspect, "/graph-backup-operator".to_owned())
    };
    Ok(pod_spec(backup, Vec::new(), inspect, vec![claim(backup)]))
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
    let run = PruneRun { owner, places: places(backup, status) };
    let prune = Container {
        image: Some(operator_image.to_owned()),
        env: Some(agent_env(&serde_json::to_string(&run)?)),
        resources: Some(small()),
        volume_mounts: Some(vec![mount("target", TARGET_MOUNT, false)]),
        ..agent_container(Task::Prune, "/graph-backup-operator".to_owned())
    };
    let pod = pod_spec(backup, Vec::new(), prune, vec![claim(backup)]);
    let name = names::prune_job(&backup.owner.name, &backup.owner.uid);
    Ok(job(backup, None, &name, Task::Prune, PRUNE_SECONDS, pod))
}

fn agent_container(task: Task, binary: String) -> Container {
    Container {
        name: AGENT_CONTAINER.to_owned(),
        command: Some(vec![binary, "agent".to_owned(), task.word().to_owned()]),
        security_context: Some(restricted()),
        termination_message_path: Some(MESSAGE_PATH.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

fn agent_env(run: &str) -> Vec<EnvVar> {
    let pod_uid = EnvVarSource {
        field_ref: Some(ObjectFieldSelector { field_path: "metadata.uid".to_owned(), api_version: None }),
        ..EnvVarSource::default()
    };
    vec![
        EnvVar { name: RUN_VARIABLE.to_owned(), value: Some(escape(run)), value_from: None },
        EnvVar { name: POD_UID_VARIABLE.to_owned(), value: None, value_from: Some(pod_uid) },
    ]
}

/// Kubernetes expands `$(NAME)` in values; `$$` stands for one dollar.
fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

fn job(backup: &ValidBackup, attempt: Option<&Attempt>, name: &str, task: Task, seconds: i64, pod: PodSpec) -> Job {
    let labels = labels(backup, attempt, task);
    let mut pod_labels = backup.pod_template.labels.clone();
    pod_labels.extend(labels.clone());
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(backup.owner.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![owner_reference(backup)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(seconds),
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".to_owned()),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(backup.pod_template.annotations.clone()).filter(|a| !a.is_empty()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn labels(backup: &ValidBackup, attempt: Option<&Attempt>, task: Task) -> BTreeMap<String, String> {
    let attempt = attempt.map(|attempt| (ATTEMPT_LABEL, attempt.number.to_string()));
    let always = [
        (MANAGED_BY_LABEL, MANAGED_BY.to_owned()),
        (BACKUP_LABEL, backup.owner.name.clone()),
        (BACKUP_UID_LABEL, backup.owner.uid.clone()),
        (TASK_LABEL, task.word().to_owned()),
    ];
    always.into_iter().chain(attempt).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn owner_reference(backup: &ValidBackup) -> OwnerReference {
    OwnerReference {
        api_version: GraphBackup::api_version(&()).into_owned(),
        kind: GraphBackup::kind(&()).into_owned(),
        name: backup.owner.name.clone(),
        uid: backup.owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn pod_spec(backup: &ValidBackup, init: Vec<Container>, main: Container, volumes: Vec<Volume>) -> PodSpec {
    let wanted = &backup.pod_template;
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        service_account_name: wanted.service_account_name.clone(),
        image_pull_secrets: Some(wanted.image_pull_secrets.clone()).filter(|secrets| !secrets.is_empty()),
        priority_class_name: wanted.priority_class_name.clone(),
        node_selector: Some(wanted.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(wanted.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        affinity: wanted.affinity.clone(),
        security_context: Some(pod_security(wanted.security_context.clone().unwrap_or_default())),
        init_containers: Some(init).filter(|containers| !containers.is_empty()),
        containers: vec![main],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Each field that the user sets stands; the others follow PodSecurity `restricted`.
fn pod_security(wanted: PodSecurityContext) -> PodSecurityContext {
    let user = wanted.run_as_user.unwrap_or(DEFAULT_ID);
    let group = wanted.run_as_group.unwrap_or(user);
    PodSecurityContext {
        run_as_non_root: wanted.run_as_non_root.or(Some(true)),
        run_as_user: Some(user),
        run_as_group: Some(group),
        fs_group: wanted.fs_group.or(Some(group)),
        fs_group_change_policy: wanted.fs_group_change_policy.or(Some("OnRootMismatch".to_owned())),
        seccomp_profile: wanted
            .seccomp_profile
            .or(Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None })),
        ..wanted
    }
}

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn small() -> ResourceRequirements {
    let amounts = |cpu: &str, memory: &str| {
        Some([("cpu", cpu), ("memory", memory)].map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into())
    };
    ResourceRequirements { requests: amounts("10m", "16Mi"), limits: amounts("1", "128Mi"), claims: None }
}

fn claim(backup: &ValidBackup) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: backup.target.claim_name.clone(), read_only: None };
    Volume { name: "target".to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
}

/// The volume of a stopped member. Mounted like this, it keeps its files' groups and modes as they are.
fn read_only(claim: &str) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: Some(true) };
    Volume { name: "source".to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
}

fn scratch(name: &str, limit: Option<&str>) -> Volume {
    let source = EmptyDirVolumeSource { medium: None, size_limit: limit.map(|size| Quantity(size.to_owned())) };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only).filter(|only| *only),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests;
