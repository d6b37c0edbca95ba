//! From a container's termination message to the object: whatever it says, the API server takes what becomes of it.

use graph_backup_operator::agent::report;
use graph_backup_operator::api::condition::MESSAGE_BYTES_MAX as STATUS_BYTES_MAX;
use graph_backup_operator::api::{GraphBackup, GraphBackupStatus, Reason};
use graph_backup_operator::backup::decide::decide;
use graph_backup_operator::backup::request::Request;
use graph_backup_operator::backup::step::Step;
use graph_backup_operator::backup::validate::{ValidBackup, validate};
use graph_backup_operator::backup::world::{Open, World};
use graph_backup_operator::backup::{event, status};
use graph_backup_operator::contract::verdict::{MESSAGE_BYTES_MAX, Verdict};
use graph_backup_operator::controller::job::{self, JobState};
use graph_backup_operator::controller::pod::AGENT_CONTAINER;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The object: one attempt is open, of the store and the mastership that the seeds name.
static BACKUP: LazyLock<ValidBackup> = LazyLock::new(|| {
    let object: GraphBackup = serde_json::from_value(json!({
        "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
        "metadata": {"name": "nightly", "namespace": "graph", "uid": "backup-uid", "generation": 1, "resourceVersion": "7",
                     "creationTimestamp": "2026-11-24T06:00:00Z"},
        "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"},
                 "retry": {"limit": 1}, "deadlines": {"run": "1h", "podStart": "5m"}}
    }))
    .unwrap();
    validate(&object).unwrap()
});
static STATUS: LazyLock<GraphBackupStatus> = LazyLock::new(|| {
    serde_json::from_value(json!({
        "startTime": "2026-11-24T06:00:00Z", "phase": "Running", "conditions": [],
        "attempts": [{"number": 1, "job": "nightly-1", "storeId": super::seeds::STORE_ID, "startTime": "2026-11-24T06:00:00Z",
                      "mastership": super::seeds::mastership()}]
    }))
    .unwrap()
});

/// An agent's verdict fits into the termination message and is read as it was; a point whose facts do not fit is told
/// as a failure.
pub fn is_told(verdict: &Verdict, fits: bool) {
    let message = report::encode(verdict);
    assert!(message.len() <= MESSAGE_BYTES_MAX);
    let message = String::from_utf8(message).unwrap();
    match Verdict::read(&message) {
        None => assert!(!fits, "{message}"),
        Some(read) if read == *verdict => {}
        Some(Verdict::Failed(failure)) => {
            let is_point = matches!(verdict, Verdict::Published(_) | Verdict::Drilled(_));
            assert!(is_point && failure.reason == Reason::VerificationFailed);
        }
        Some(read) => panic!("{read:?}"),
    }
}

/// Any bytes as a container's termination message, seen as the operator sees them, in a pod of an ended Job.
pub fn verdict(bytes: &[u8]) {
    let message = String::from_utf8_lossy(bytes);
    if let Some(verdict) = Verdict::read(&message) {
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        is_told(&verdict, true);
    }
    let (status, note) = told(&message);
    is_takeable(&status, &note);
}

/// What the object and an Event say when an agent of the open attempt ended with this message.
pub fn told(message: &str) -> (GraphBackupStatus, String) {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "nightly-1", "uid": "job-uid"},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]}
    }))
    .unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"uid": "pod-uid", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-1", "uid": "job-uid", "controller": true}]},
        "status": {"containerStatuses": [{
            "name": AGENT_CONTAINER, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": message}}
        }]}
    }))
    .unwrap();
    let seen = job::summarize(&job, &[pod]);
    let JobState::Ended { verdict: ref read, .. } = seen else { panic!("{seen:?}") };
    assert_eq!(*read, Verdict::read(message));
    let now = "2026-11-24T06:10:00Z".parse().unwrap();
    let attempt = STATUS.open_attempt().unwrap();
    let world = World::Open(Open { attempt, backup: seen, inspect: JobState::Absent, member: None, missing: None });
    let request = Request::Backup(Box::new(BACKUP.clone()));
    let step = decide(&request, &STATUS, world, now).step;
    let told = event::event(&BACKUP.owner, "7", &STATUS, &step, "operator-0", now);
    let note = told.and_then(|event| event.note).unwrap_or_default();
    let after = status::after(&BACKUP, &STATUS, &step, true, now);
    if let Step::Succeed(point) = &step {
        assert_eq!(
            (point.owner_uid.as_str(), point.store_id.to_string().as_str()),
            ("backup-uid", super::seeds::STORE_ID)
        );
    }
    assert_eq!(matches!(step, Step::Succeed(_)), after.has_succeeded());
    (after, note)
}

/// What the schema of the kind and the API server's own rules ask of a status and of an Event's note.
fn is_takeable(status: &GraphBackupStatus, note: &str) {
    let texts = status.conditions.iter().map(|condition| condition.message.as_str());
    let texts = texts.chain(status.attempts.iter().filter_map(|attempt| attempt.message.as_deref())).chain([note]);
    for text in texts {
        assert!(text.len() <= STATUS_BYTES_MAX && !text.contains(char::is_control), "{text:?}");
    }
    let Some(point) = &status.point else { return };
    let point = serde_json::to_value(point).unwrap();
    for field in ["depth", "attempt"] {
        assert!(point[field].as_i64().is_some_and(|number| i32::try_from(number).is_ok()), "{field}: {point}");
    }
    for field in ["lastTransaction", "files", "bytes", "sharedBytes"] {
        assert!(point[field].is_i64(), "{field}: {point}");
    }
    for field in ["dataFrom", "dataTo"] {
        assert!(is_date_time(&point[field]), "{field}: {point}");
    }
}

/// `format: date-time` as the API server checks it: RFC 3339 without leap seconds.
fn is_date_time(value: &Value) -> bool {
    let text = value.as_str().unwrap();
    let digits =
        |range: std::ops::Range<usize>| text.get(range).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    digits(0..4)
        && digits(5..7)
        && digits(8..10)
        && text.as_bytes()[10] == b'T'
        && text[17..19] < *"60"
        && text.ends_with('Z')
}
