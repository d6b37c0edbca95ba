//! How far a Job and a pod have come, as far as the next step of their owner depends on it. Pure.
//!
//! A real cluster changes a Job and its pod about ten times in a run. Their owner acts on few of these changes; the
//! others bring no pass, and so no request. What is kept here decides nothing: the pass reads what it acts on itself,
//! and a change that a watch missed is found by the next look.

use super::job::{finished, is_over, is_working};
use super::store::Kept;
use crate::api::Kind;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::Duration;

/// What has happened to a Job or a pod that its owner acts on. Nothing of it, for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The agent has ended.
    ended: bool,
    /// So has the whole Job or pod.
    over: bool,
    /// Somebody has deleted it.
    deleted: bool,
}

/// From the end of a Job to the pass over its owner. The pod's end, which has the verdict, comes just before it, and
/// the owner is over by then; where the pod is gone, only the Job tells.
pub const AFTER_A_JOB: Duration = Duration::from_secs(1);

/// Something of which its owner's name and its progress matter.
pub trait Part: Kept {
    /// From its end to the pass.
    const AFTER_ITS_END: Duration;

    /// Kind and name of the owner, if it is one of ours.
    fn owner(&self) -> Option<(Kind, &str)>;
    /// How far it has come.
    fn progress(&self) -> Progress;
}

impl Progress {
    /// How far a Job has come.
    pub fn of_job(job: &Job) -> Self {
        let over = finished(job).is_some();
        Self { ended: over, over, deleted: is_deleted(&job.metadata) }
    }

    /// When a change to this brings a pass; `None` if it brings none.
    pub fn due(self, before: Self, after_its_end: Duration) -> Option<Duration> {
        let ended = self.ended != before.ended && self.deleted == before.deleted;
        (self != before).then_some(if ended { after_its_end } else { Duration::ZERO })
    }

    /// How far a pod has come.
    pub fn of_pod(pod: &Pod) -> Self {
        Self { ended: !is_working(pod), over: is_over(pod), deleted: is_deleted(&pod.metadata) }
    }
}

fn is_deleted(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::pod::AGENT_CONTAINER;
    use serde_json::{Value, json};

    fn job(status: &Value) -> Progress {
        Progress::of_job(&serde_json::from_value(json!({"metadata": {"name": "j"}, "status": status})).unwrap())
    }

    fn pod(status: &Value) -> Progress {
        Progress::of_pod(&serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap())
    }

    fn agent(state: &Value) -> Value {
        json!([{"name": AGENT_CONTAINER, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0}])
    }

    #[test]
    fn what_a_cluster_writes_before_the_end_is_no_progress() {
        for status in [json!({}), json!({"active": 1, "ready": 0}), json!({"active": 1, "ready": 1, "terminating": 0})]
        {
            assert_eq!(job(&status), Progress::default());
        }
        let waits = agent(&json!({"waiting": {"reason": "ContainerCreating"}}));
        let runs = agent(&json!({"running": {"startedAt": "2026-11-24T06:00:00Z"}}));
        for status in [
            json!({}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}),
            json!({"phase": "Pending", "containerStatuses": waits}),
            json!({"phase": "Running", "containerStatuses": runs}),
        ] {
            assert_eq!(pod(&status), Progress::default());
        }
    }

    #[test]
    fn the_end_of_the_agent_that_of_the_pod_and_that_of_the_job_are_progress() {
        let ended = agent(&json!({"terminated": {"exitCode": 0}}));
        // Another container still runs.
        let agent_ended = pod(&json!({"phase": "Running", "containerStatuses": ended}));
        let over = pod(&json!({"phase": "Succeeded", "containerStatuses": ended}));
        assert!(agent_ended != Progress::default() && over != agent_ended);
        assert_ne!(pod(&json!({"phase": "Failed", "reason": "Evicted"})), Progress::default());
        for condition in ["Complete", "Failed"] {
            assert_ne!(job(&json!({"conditions": [{"type": condition, "status": "True"}]})), Progress::default());
        }
    }

    #[test]
    fn the_end_of_a_job_waits_for_that_of_its_pod_and_a_deletion_does_not() {
        let (new, ended) = (Progress::default(), Progress { ended: true, over: true, deleted: false });
        assert_eq!(new.due(new, AFTER_A_JOB), None);
        assert_eq!(ended.due(new, AFTER_A_JOB), Some(AFTER_A_JOB));
        assert_eq!(Progress { deleted: true, ..ended }.due(ended, AFTER_A_JOB), Some(Duration::ZERO));
        assert_eq!(Progress { deleted: true, ..ended }.due(new, AFTER_A_JOB), Some(Duration::ZERO));
    }

    #[test]
    fn a_deletion_is_progress() {
        let deleted = json!({"metadata": {"name": "j", "deletionTimestamp": "2026-11-24T06:00:00Z"}});
        assert_ne!(Progress::of_job(&serde_json::from_value(deleted.clone()).unwrap()), Progress::default());
        assert_ne!(Progress::of_pod(&serde_json::from_value(deleted).unwrap()), Progress::default());
    }
}
