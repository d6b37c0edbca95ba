//! Reads what the Job of a restore drill says.

use super::validate::ValidSchedule;
use crate::api::RunningDrill;
use crate::api::names::{SCHEDULE_UID_LABEL, TASK_LABEL};
use crate::contract::task::Task;
use crate::controller::call::{CallError, call, list};
use crate::controller::job::{JobState, summarize};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};

/// State of the Job of a drill.
pub async fn drill_state(
    client: &Client,
    schedule: &ValidSchedule,
    running: &RunningDrill,
) -> Result<JobState, CallError> {
    let namespace = &schedule.owner.namespace;
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let Some(job) = call("read the Job of a drill", jobs.get_opt(&running.job)).await? else {
        return Ok(JobState::Absent);
    };
    if !job.owner_references().iter().any(|owner| owner.uid == schedule.owner.uid) {
        return Ok(JobState::Foreign);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{SCHEDULE_UID_LABEL}={},{TASK_LABEL}={}", schedule.owner.uid, Task::Drill.word());
    Ok(summarize(&job, &list("list the pods of a drill", &pods, &selector).await?))
}
