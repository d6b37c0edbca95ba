//! The backup that a schedule takes, and the Job of its restore drill. Pure.

use super::validate::{ValidDrill, ValidSchedule};
use crate::api::names::{MANAGED_BY, MANAGED_BY_LABEL, SCHEDULE_LABEL, SCHEDULE_UID_LABEL, SLOT_ANNOTATION};
use crate::api::{BackupType, GraphBackup, Scratch};
use crate::backup::validate::DEFAULT_BOOT_COMMAND;
use crate::contract::task::{AGENT_MOUNT, BINARY_NAME, DrillRun, SCRATCH_MOUNT, TARGET_MOUNT, Task};
use crate::controller::pod::{
    JobIdentity, agent_container, claim_volume, install_container, job, mount, pod_spec, scratch_claim, scratch_volume,
};
use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, Volume};
use kube::core::ObjectMeta;
use std::collections::BTreeMap;

/// A backup of this name. It carries whose it is, and nothing of the schedule's own metadata: a GitOps tool would take
/// a copy of its labels for something that it has to remove. It has no owner, because a recovery point outlives the
/// schedule.
pub fn child(
    schedule: &ValidSchedule,
    name: &str,
    backup_type: BackupType,
    slot: Option<DateTime<Utc>>,
) -> GraphBackup {
    let text = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let labels = text(&[
        (MANAGED_BY_LABEL, MANAGED_BY),
        (SCHEDULE_LABEL, &schedule.owner.name),
        (SCHEDULE_UID_LABEL, &schedule.owner.uid),
    ]);
    let annotations = slot.map(|slot| text(&[(SLOT_ANNOTATION, &slot.to_rfc3339_opts(SecondsFormat::Secs, true))]));
    GraphBackup {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(schedule.owner.namespace.clone()),
            labels: Some(labels),
            annotations,
            ..ObjectMeta::default()
        },
        spec: schedule.template.backup(backup_type),
        status: None,
    }
}

/// What a drill tries.
pub struct Tried<'a> {
    /// Name of the Job.
    pub job: &'a str,
    /// What its agent is asked.
    pub run: &'a DrillRun,
}

/// The Job of a drill: it mounts the target read-only, and makes its copy on a volume that goes with its pod.
pub fn drill_job(
    schedule: &ValidSchedule,
    drill: &ValidDrill,
    tried: &Tried<'_>,
    operator_image: &str,
) -> Result<Job, serde_json::Error> {
    let tool = &schedule.template.tool;
    let template = tool.pod_template.clone().unwrap_or_default();
    let run = serde_json::to_string(tried.run)?;
    let agent = agent_container(Task::Drill, &format!("{AGENT_MOUNT}/{BINARY_NAME}"), &run);
    let container = Container {
        image: Some(tool.image.clone()),
        env: Some(tool.env.iter().cloned().chain(agent.env.unwrap_or_default()).collect()),
        resources: template.resources.clone(),
        volume_mounts: Some(vec![
            mount("target", TARGET_MOUNT, true),
            mount("scratch", SCRATCH_MOUNT, false),
            mount("agent", AGENT_MOUNT, true),
            mount("tmp", "/tmp", false),
        ]),
        working_dir: Some("/tmp".to_owned()),
        ..agent
    };
    let install = install_container(operator_image, mount("agent", AGENT_MOUNT, false));
    let volumes = vec![
        claim_volume("target", &schedule.template.target.claim_name, true),
        scratch_of(drill.scratch.as_ref()),
        scratch_volume("agent", Some("64Mi")),
        scratch_volume("tmp", None),
    ];
    let pod = pod_spec(&template, vec![install], container, volumes);
    let labels = [(SCHEDULE_LABEL, &schedule.owner.name), (SCHEDULE_UID_LABEL, &schedule.owner.uid)];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let identity = JobIdentity { owner: &schedule.owner, name: tried.job, task: Task::Drill, labels };
    let seconds = i64::try_from(tried.run.deadline_seconds).unwrap_or(i64::MAX);
    Ok(job(identity, &template, seconds.saturating_add(DRILL_MARGIN_SECONDS), pod))
}

/// The agent ends by itself before its Job is ended, seconds.
const DRILL_MARGIN_SECONDS: i64 = 60;

fn scratch_of(scratch: Option<&Scratch>) -> Volume {
    match scratch {
        None => scratch_volume("scratch", None),
        Some(scratch) => scratch_claim("scratch", &scratch.size, scratch.storage_class_name.as_deref()),
    }
}

/// The command that opens the copy of a drill.
pub fn boot_command(schedule: &ValidSchedule) -> Vec<String> {
    let own = schedule.template.tool.boot_command.clone();
    own.unwrap_or_else(|| DEFAULT_BOOT_COMMAND.map(str::to_owned).to_vec())
}
