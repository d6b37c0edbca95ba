//! An attempt of a backup, as the status records it.

use super::{Mastership, Parent, StoreId};
use chrono::{DateTime, Utc};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// One run of the backup, in one Job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1 for the first.
    #[schemars(with = "i32")]
    pub number: u32,
    /// Name of its Job.
    pub job: String,
    /// Identity of the store that the member serves, 33 characters. It names the cluster's folder on the target.
    #[schemars(with = "String")]
    pub store_id: StoreId,
    /// The earlier point that the attempt starts from, unless it copies the whole store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The member that is stopped for a cold copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedMember>,
    /// The mastership when the attempt was decided: `master` as read from ZooKeeper, or `probe` as told by the member
    /// itself.
    #[schemars(schema_with = "mastership_schema")]
    pub mastership: Mastership,
    /// When the attempt was decided.
    pub start_time: DateTime<Utc>,
    /// When its end was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<DateTime<Utc>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The inspection of the volume, if the attempt's own verdict was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
    /// UID of the pod that ran the tool, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

impl Attempt {
    /// The member that it stopped, until its replicas are put back.
    pub fn member_to_restore(&self) -> Option<&StoppedMember> {
        self.stopped.as_ref().filter(|stopped| stopped.restored_time.is_none())
    }

    /// The member whose replicas were put back, while it is expected to register again.
    pub fn returning_member(&self) -> Option<&StoppedMember> {
        self.stopped.as_ref().filter(|stopped| stopped.restored_time.is_some() && stopped.missing.is_none())
    }
}

/// A member that is stopped for a cold copy, and what is needed to restore the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoppedMember {
    /// Name of its pod.
    pub pod: String,
    /// Its member id (`ha.server_id`).
    pub member_id: i32,
    /// UID of its StatefulSet.
    pub stateful_set_uid: String,
    /// `metadata.generation` of the StatefulSet before it was scaled. As long as it has this value, nobody has scaled
    /// it.
    pub generation: i64,
    /// `spec.replicas` of the StatefulSet before it was scaled.
    pub replicas: i32,
    /// When the check found that a copy can be made. Set only if the check's Job had to be deleted before the member
    /// was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_time: Option<DateTime<Utc>>,
    /// When the member was gone and its store could be copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_time: Option<DateTime<Utc>>,
    /// When the replicas were restored, or were found to have been changed by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_time: Option<DateTime<Utc>>,
    /// What is wrong with the member, if it did not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub missing: Option<String>,
}

/// An inspection of the target volume. One Job after another tries, until one gives an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Name of the newest Job.
    pub job: String,
    /// When the first Job was decided.
    pub start_time: DateTime<Utc>,
    /// Number of the newest Job; 1 for the first.
    #[serde(default = "one")]
    #[schemars(with = "i32")]
    pub tries: u32,
    /// When the newest Job was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_time: Option<DateTime<Utc>>,
    /// Why the attempt's own verdict was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened to it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When the newest Job was seen to have given no answer. The next one waits for its backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered_time: Option<DateTime<Utc>>,
    /// Why the last Job that gave no answer did not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub unanswered: Option<String>,
}

/// The mastership is the operator's own record: stored whole, and described by [`Mastership`], not by the schema.
fn mastership_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

const fn one() -> u32 {
    1
}
