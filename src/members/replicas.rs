//! The StatefulSet of a member that is stopped, as it is now, and the replicas that put the member back.

use crate::api::{StoppedMember, Workload};
use crate::controller::call::{CallError, call};
use crate::controller::effects::ScaleTo;
use crate::discovery::DiscoveryError;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Api, Client, ResourceExt};

/// The replicas to put back, if they are as the backup left them: what somebody else has made of them since stays.
pub fn put_back(stopped: &StoppedMember, seen: &MemberState) -> Option<ScaleTo> {
    match seen {
        MemberState::Present { stateful_set, replicas, resource_version, .. } if *replicas == stopped.replicas - 1 => {
            Some(ScaleTo {
                stateful_set: stateful_set.clone(),
                replicas: stopped.replicas,
                resource_version: resource_version.clone(),
            })
        }
        MemberState::Present { .. } | MemberState::WorkloadGone => None,
    }
}

/// A member that an attempt stops, by its StatefulSet.
#[derive(Debug)]
pub enum MemberState {
    /// The StatefulSet does not exist any more, or is another one of its name.
    WorkloadGone,
    /// The StatefulSet is there.
    Present {
        /// Name of the StatefulSet.
        stateful_set: String,
        /// `spec.replicas`.
        replicas: i32,
        /// `metadata.generation`.
        generation: i64,
        /// `metadata.resourceVersion`.
        resource_version: String,
        /// Whether there are as many pods as `replicas` says, by a controller that has seen the newest generation.
        settled: bool,
        /// Whether the member is registered in ZooKeeper; not looked at before its pod is gone.
        registered: Option<Result<bool, DiscoveryError>>,
    },
}

/// Reads the StatefulSet of the members; `None` where there is none of this name.
pub async fn get_workload(
    client: &Client,
    namespace: &str,
    workload: &Workload,
) -> Result<Option<StatefulSet>, CallError> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    call("read the StatefulSet of the members", sets.get_opt(&workload.stateful_set)).await
}

/// Reads the StatefulSet of a stopped member.
pub async fn member_state(
    client: &Client,
    namespace: &str,
    workload: &Workload,
    stopped: &StoppedMember,
) -> Result<MemberState, CallError> {
    let set = get_workload(client, namespace, workload).await?;
    let set = set.filter(|set| set.metadata.uid.as_deref() == Some(&stopped.stateful_set_uid));
    let Some(set) = set else { return Ok(MemberState::WorkloadGone) };
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let settled = set
        .status
        .as_ref()
        .is_some_and(|status| status.observed_generation >= set.metadata.generation && status.replicas == replicas);
    Ok(MemberState::Present {
        stateful_set: workload.stateful_set.clone(),
        replicas,
        generation: set.metadata.generation.unwrap_or_default(),
        resource_version: set.resource_version().unwrap_or_default(),
        settled,
        registered: None,
    })
}
