//! Which member may be stopped: the one of the highest ordinal, if the StatefulSet can lose it without harm. Pure.
//!
//! A StatefulSet can only shed its highest ordinal.

use crate::api::{Endpoint, IfMaster, Reason, StoppedMember, Workload};
use crate::discovery::Registered;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

/// Why no member can be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ineligible {
    /// Typed reason.
    pub reason: Reason,
    /// What is in the way and what to do.
    pub message: String,
}

impl Ineligible {
    /// From its parts.
    pub const fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }
}

/// The member that would be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of its pod.
    pub pod: String,
    /// Name of the claim of its volume.
    pub claim: String,
    /// UID of the StatefulSet.
    pub stateful_set_uid: String,
    /// `metadata.generation` of the StatefulSet.
    pub generation: i64,
    /// `spec.replicas` of the StatefulSet, 1 or more.
    pub replicas: i32,
}

/// Name of the claim that a StatefulSet makes for a pod.
pub fn claim_of(workload: &Workload, pod: &str) -> String {
    format!("{}-{pod}", workload.volume_claim_template)
}

/// The member with the highest ordinal, if the StatefulSet is whole and lets it go without harm.
pub fn candidate(workload: &Workload, set: Option<&StatefulSet>, target_claim: &str) -> Result<Candidate, Ineligible> {
    let name = &workload.stateful_set;
    let Some((set, spec)) = set.and_then(|set| Some((set, set.spec.as_ref()?))) else {
        return Err(Ineligible::new(
            Reason::WorkloadMissing,
            format!("StatefulSet {name} does not exist: create it, or correct spec.cold.workload in a new GraphBackup"),
        ));
    };
    let template = &workload.volume_claim_template;
    let templates = spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.as_deref());
    if !templates.clone().any(|name| name == template) {
        let known: Vec<_> = templates.collect();
        return Err(Ineligible::new(
            Reason::WorkloadUnfit,
            format!("StatefulSet {name} has no volumeClaimTemplate {template}, it has {known:?}"),
        ));
    }
    let retention = spec.persistent_volume_claim_retention_policy.as_ref();
    if retention.and_then(|policy| policy.when_scaled.as_deref()) == Some("Delete") {
        return Err(Ineligible::new(
            Reason::ScaleDownDeletesClaim,
            format!(
                "StatefulSet {name} deletes the claim of a member that is scaled down: set \
                 spec.persistentVolumeClaimRetentionPolicy.whenScaled to Retain"
            ),
        ));
    }
    let replicas = spec.replicas.unwrap_or(1);
    require_whole(name, set, replicas)?;
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let pod = format!("{name}-{}", first.saturating_add(replicas).saturating_sub(1));
    let claim = claim_of(workload, &pod);
    if claim == target_claim {
        return Err(Ineligible::new(
            Reason::WorkloadUnfit,
            format!("spec.target.claimName is {claim}, the member's own volume: a backup needs a different volume"),
        ));
    }
    Ok(Candidate {
        pod,
        claim,
        stateful_set_uid: set.metadata.uid.clone().unwrap_or_default(),
        generation: set.metadata.generation.unwrap_or_default(),
        replicas,
    })
}

/// A cluster that lacks a member already, or is about to, does not lose another one to a backup.
fn require_whole(name: &str, set: &StatefulSet, replicas: i32) -> Result<(), Ineligible> {
    let status = set.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or_default();
    let seen = status.observed_generation >= set.metadata.generation;
    if !(replicas >= 1 && seen && status.replicas == replicas && ready == replicas) {
        return Err(Ineligible::new(
            Reason::WorkloadNotReady,
            format!(
                "StatefulSet {name} wants {replicas} members and has {ready} ready: no member is stopped until all \
                 are ready"
            ),
        ));
    }
    if is_rolled_out(set, &status) {
        return Ok(());
    }
    Err(Ineligible::new(
        Reason::WorkloadNotReady,
        format!(
            "StatefulSet {name} has members of two revisions ({} of {replicas} are of the new one): no member is \
             stopped until the update is complete",
            status.updated_replicas.unwrap_or_default()
        ),
    ))
}

/// Whether every member is of the newest revision. With `OnDelete` the controller does not raise `currentRevision`:
/// there the number of updated members tells.
fn is_rolled_out(set: &StatefulSet, status: &StatefulSetStatus) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
    let on_delete = strategy == Some("OnDelete");
    status.current_revision == status.update_revision || (on_delete && status.updated_replicas == Some(status.replicas))
}

/// Id and endpoint under which the candidate is registered, if it may be stopped. `master` is the master's id.
pub fn registration(
    if_master: IfMaster,
    candidate: &Candidate,
    members: &[Registered],
    master: Option<i32>,
) -> Result<(i32, Endpoint), Ineligible> {
    let pod = &candidate.pod;
    let is_its = |endpoint: &Endpoint| endpoint.host.split('.').next() == Some(pod);
    let found = members.iter().find_map(|member| Some((member.id, member.endpoint.as_ref().filter(|e| is_its(e))?)));
    let Some((id, endpoint)) = found else {
        let known: Vec<_> = members.iter().filter_map(|member| Some(member.endpoint.as_ref()?.host.as_str())).collect();
        return Err(Ineligible::new(
            Reason::MemberNotRegistered,
            format!(
                "no member is registered in ZooKeeper under the name of pod {pod}, there are {known:?}: start it \
                 (or restart it if it runs), or set each member's ha.server to the name of its pod"
            ),
        ));
    };
    if candidate.replicas > 1 && master == Some(id) && if_master == IfMaster::Refuse {
        return Err(Ineligible::new(
            Reason::MemberIsMaster,
            format!(
                "pod {pod}, which has the highest ordinal, is the master (member {id}): let another member take over, or \
                 set spec.cold.ifMaster to FailOver in a new GraphBackup"
            ),
        ));
    }
    Ok((id, endpoint.clone()))
}

/// The record of a member that is to be stopped.
pub fn to_be_stopped(candidate: &Candidate, member_id: i32) -> StoppedMember {
    StoppedMember {
        pod: candidate.pod.clone(),
        member_id,
        stateful_set_uid: candidate.stateful_set_uid.clone(),
        generation: candidate.generation,
        replicas: candidate.replicas,
        checked_time: None,
        gone_time: None,
        restored_time: None,
        missing: None,
    }
}

#[cfg(test)]
mod tests;
