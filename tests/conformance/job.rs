//! What becomes of Jobs as the controller builds them, and of their pods.

use super::stage::{Stage, eventually, names, text};
use super::task::{REPORT, Subject, Task, verdict_of_a_failure};
use super::volumes::exactly;
use graph_backup_operator::api::GraphBackup;
use graph_backup_operator::controller::job::{JobState, Obstacle, PodStart};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::time::Duration;

pub async fn succeeds(stage: &Stage) {
    let subject = Subject::new(stage, Task::Succeeds).await;
    let job = subject.start().await;
    let over = format!("ended 0 {REPORT}");
    assert_eq!(subject.pods_until(&over).await, ["waits", "works", &over]);
    let steps =
        ["SuccessCriteriaMet CompletionsReached", "SuccessCriteriaMet CompletionsReached, Complete CompletionsReached"];
    assert_eq!(subject.job_until(&job, steps[1]).await, steps);

    let found = subject.state().await;
    let JobState::Ended { deadline_exceeded: false, pod_uid: Some(pod_uid), verdict: None, lingering: None, .. } =
        &found
    else {
        panic!("{found:?}")
    };
    let pods = subject.pods.list(&subject.selector).await.is("200");
    let [pod] = pods["items"].as_array().unwrap().as_slice() else { panic!("one pod, but {pods}") };
    assert_eq!(text(pod, "/metadata/uid"), pod_uid);
    is_of(pod, &job);
}

/// A pod tells which Job it is of, and carries its labels.
fn is_of(pod: &Value, job: &Value) {
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&json!("Job"), &json!(true)));
    assert_eq!(text(owner, "/uid"), text(job, "/metadata/uid"));
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    assert_eq!(labels["batch.kubernetes.io/job-name"], job["metadata"]["name"]);
    for (label, value) in job["metadata"]["labels"].as_object().unwrap() {
        assert_eq!(labels.get(label), Some(value), "{label}");
    }
}

pub async fn fails(stage: &Stage) {
    let subject = Subject::new(stage, Task::Fails).await;
    let job = subject.start().await;
    let steps =
        ["FailureTarget BackoffLimitExceeded", "FailureTarget BackoffLimitExceeded, Failed BackoffLimitExceeded"];
    assert_eq!(subject.job_until(&job, steps[1]).await, steps);
    // The pod stays, with its word.
    let found = subject.state().await;
    let JobState::Ended { deadline_exceeded: false, verdict: Some(verdict), .. } = &found else { panic!("{found:?}") };
    assert_eq!(*verdict, verdict_of_a_failure());
    let over = format!("ended 1 {}", serde_json::to_string(verdict).unwrap());
    assert_eq!(subject.pods_until(&over).await, ["waits", "works", &over]);
}

pub async fn runs_out_of_time(stage: &Stage) {
    let mut subject = Subject::new(stage, Task::Works).await;
    subject.job["spec"]["activeDeadlineSeconds"] = json!(12);
    let job = subject.start().await;
    let steps = ["FailureTarget DeadlineExceeded", "FailureTarget DeadlineExceeded, Failed DeadlineExceeded"];
    assert_eq!(subject.job_until(&job, steps[1]).await, steps);
    assert_eq!(subject.pods_until("gone").await[..2], ["waits", "works"]);
    let found = subject.state().await;
    assert!(matches!(found, JobState::Ended { deadline_exceeded: true, verdict: None, .. }), "{found:?}");
}

pub async fn loses_its_pod(stage: &Stage) {
    let subject = Subject::new(stage, Task::Works).await;
    let job = subject.start().await;
    subject.pods_until("works").await;
    let pods = subject.pods.list(&subject.selector).await.is("200");
    subject.pods.delete(names(&pods)[0], &DeleteParams::default()).await.is("200");
    subject.pods_until("gone").await;
    // The Job has taken note of it before it was gone.
    let found = subject.state().await;
    let noted = matches!(found, JobState::Active { start: PodStart::Started, .. } | JobState::Ended { .. });
    assert!(noted, "{found:?}");
    let steps =
        ["FailureTarget BackoffLimitExceeded", "FailureTarget BackoffLimitExceeded, Failed BackoffLimitExceeded"];
    assert_eq!(subject.job_until(&job, steps[1]).await, steps);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pods = subject.pods.list(&subject.selector).await.is("200");
    assert!(names(&pods).is_empty(), "it has another pod: {pods}");
}

pub async fn is_deleted_in_mid_run(stage: &Stage) {
    let subject = Subject::new(stage, Task::Works).await;
    let job = subject.start().await;
    subject.pods_until("works").await;
    subject.jobs.delete(&subject.name, &exactly(&job)).await.is("200");
    subject.jobs.get(&subject.name).await.is("404 NotFound");
    subject.pods_until("gone").await;
}

pub async fn has_an_image_that_cannot_be_pulled(stage: &Stage) {
    let subject = Subject::new(stage, Task::HasNoImage).await;
    subject.start().await;
    let said = eventually("the image is pulled in vain, and again later", async || match subject.state().await {
        JobState::Active { start: PodStart::Waiting(Obstacle::Image(said)), .. } => {
            Some(said).filter(|said| said.contains("ImagePullBackOff"))
        }
        JobState::Active { start: PodStart::Waiting(_), .. } => None,
        found => panic!("{found:?}"),
    })
    .await;
    assert!(said.contains("Back-off pulling image"), "{said}");
    assert_eq!(subject.pods_until("waits").await, ["waits"]);
}

pub async fn finds_no_node(stage: &Stage) {
    let subject = Subject::new(stage, Task::HasNoNode).await;
    subject.start().await;
    let said = eventually("the pod is not scheduled", async || match subject.state().await {
        JobState::Active { start: PodStart::Waiting(Obstacle::Other(said)), .. } => Some(said),
        JobState::Active { start: PodStart::Waiting(Obstacle::NoneKnown), .. } => None,
        found => panic!("{found:?}"),
    })
    .await;
    assert!(said.contains("nodes are available"), "{said}");
}

pub async fn goes_with_its_owner(stage: &Stage) {
    let subject = Subject::new(stage, Task::Works).await;
    subject.start().await;
    subject.pods_until("works").await;
    let backups = stage.objects::<GraphBackup>();
    backups.delete("one", &DeleteParams::background()).await.is("200");
    backups.get("one").await.is("404 NotFound");
    subject.jobs.gone(&subject.name).await;
    subject.pods_until("gone").await;
}

pub async fn of_an_owner_that_is_gone_already(stage: &Stage) {
    let subject = Subject::new(stage, Task::Works).await;
    let backups = stage.objects::<GraphBackup>();
    backups.delete("one", &DeleteParams::background()).await.is("200");
    backups.get("one").await.is("404 NotFound");
    // As a replica would that stood still in between.
    subject.start().await;
    subject.jobs.gone(&subject.name).await;
    eventually("its pod is gone", async || {
        names(&subject.pods.list(&subject.selector).await.is("200")).is_empty().then_some(())
    })
    .await;
}

pub async fn expires(stage: &Stage) {
    let mut subject = Subject::new(stage, Task::Succeeds).await;
    subject.job["spec"]["ttlSecondsAfterFinished"] = json!(2);
    subject.start().await;
    subject.jobs.gone(&subject.name).await;
    let pods = subject.pods.list(&subject.selector).await.is("200");
    assert!(names(&pods).is_empty(), "the pod outlives its Job: {pods}");
}
