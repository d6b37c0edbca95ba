use super::*;
use serde_json::{Value, json};

fn job(status: &Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "nightly-1a2b3-1", "uid": "job-uid", "creationTimestamp": "2026-11-24T06:00:00Z"},
        "status": status,
    }))
    .unwrap()
}

/// A pod of the Job with this UID; `others` are further container statuses.
fn pod(owner: &str, agent: &Value, others: &Value) -> Pod {
    let container = |name: &str, state: &Value| json!({"name": name, "state": state, "image": "i", "imageID": "i", "ready": false, "restartCount": 0});
    let mut statuses = vec![container(AGENT_CONTAINER, agent)];
    statuses.extend(others.as_array().into_iter().flatten().map(|state| container("proxy", state)));
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "pod-uid", "creationTimestamp": "2026-11-24T06:00:01Z", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-1a2b3-1", "uid": owner, "controller": true}]},
        "spec": {"containers": [{"name": AGENT_CONTAINER, "resources": {"limits": {"memory": "512Mi"}}}]},
        "status": {"containerStatuses": statuses},
    }))
    .unwrap()
}

fn pruned() -> Value {
    json!({"terminated": {"exitCode": 0, "message": "\"pruned\""}})
}

#[test]
fn only_a_pod_of_the_very_job_is_evidence() {
    let over = job(&json!({"conditions": [{"type": "Failed", "status": "True"}]}));
    let of = |owner| summarize(&over, &[pod(owner, &pruned(), &json!([]))]);
    assert!(matches!(of("job-uid"), JobState::Ended { verdict: Some(Verdict::Pruned), .. }));
    assert!(matches!(of("another"), JobState::Ended { verdict: None, pod_uid: None, .. }));
    let mut nobodys = pod("job-uid", &pruned(), &json!([]));
    nobodys.metadata.owner_references = None;
    assert!(matches!(summarize(&over, &[nobodys]), JobState::Ended { verdict: None, .. }));
    let mut no_controller = pod("job-uid", &pruned(), &json!([]));
    no_controller.metadata.owner_references.as_mut().unwrap()[0].controller = None;
    assert!(matches!(summarize(&over, &[no_controller]), JobState::Ended { verdict: None, .. }));
}

#[test]
fn evidence_of_an_earlier_pod_outlives_a_later_pod_without_any() {
    let drilled = json!({"drilled": {
        "manifestDigest": "sha256:0", "storeId": "0000000000000001-0000000000000002", "lastTransaction": 6, "files": 4,
        "bytes": 70, "copySeconds": 61, "openSeconds": 9, "totalSeconds": 71, "finished": "2026-11-24T06:01:10Z",
    }});
    let told = json!({"terminated": {"exitCode": 0, "message": drilled.to_string()}});
    let mut later = pod("job-uid", &json!({"terminated": {"exitCode": 137}}), &json!([]));
    later.metadata.creation_timestamp = serde_json::from_value(json!("2026-11-24T06:02:00Z")).unwrap();
    let over = job(&json!({"conditions": [{"type": "Failed", "status": "True"}]}));
    let state = summarize(&over, &[pod("job-uid", &told, &json!([])), later]);
    assert!(matches!(state, JobState::Ended { verdict: Some(Verdict::Drilled(_)), .. }), "{state:?}");
}

#[test]
fn the_agents_container_ends_the_work_whatever_else_runs() {
    let runs = json!({"running": {}});
    let state = |others: &Value| summarize(&job(&json!({})), &[pod("job-uid", &pruned(), others)]);
    let JobState::Ended { verdict: Some(Verdict::Pruned), lingering: Some(job_left), .. } = state(&json!([runs]))
    else {
        panic!("{:?}", state(&json!([runs])))
    };
    assert_eq!(job_left.uid, "job-uid");
    // Its Job ends by itself.
    for others in [json!([]), json!([pruned()])] {
        assert!(matches!(state(&others), JobState::Ended { lingering: None, .. }));
    }
    let works = summarize(&job(&json!({})), &[pod("job-uid", &runs, &json!([pruned()]))]);
    assert!(matches!(works, JobState::Active { start: PodStart::Started, .. }));
}

#[test]
fn a_pod_that_the_job_counts_and_nobody_finds_may_work() {
    let start = |status: &Value| match summarize(&job(status), &[]) {
        JobState::Active { start, .. } => start,
        state => panic!("{state:?}"),
    };
    assert_eq!(start(&json!({})), PodStart::Waiting(Obstacle::NoneKnown));
    assert_eq!(start(&json!({"active": 1})), PodStart::Unseen);
    assert_eq!(start(&json!({"active": 0, "terminating": 1})), PodStart::Unseen);
    assert_eq!(start(&json!({"failed": 1})), PodStart::Started);
}

#[test]
fn a_kill_for_memory_has_its_limit() {
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let state = |pod: Pod| match summarize(&job(&json!({})), &[pod]) {
        JobState::Ended { out_of_memory, .. } => out_of_memory,
        state => panic!("{state:?}"),
    };
    assert_eq!(state(pod("job-uid", &killed, &json!([]))).as_deref(), Some("512Mi"));
    let mut unlimited = pod("job-uid", &killed, &json!([]));
    unlimited.spec.as_mut().unwrap().containers[0].resources = None;
    assert_eq!(state(unlimited).as_deref(), Some(""));
    let other = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
    assert_eq!(state(pod("job-uid", &other, &json!([]))), None);
}
