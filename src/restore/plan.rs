//! What a restore will do, found out before anything is changed. Pure.

use super::step::Obstacle;
use super::validate::ValidRestore;
use super::world::{ClaimSeen, VolumeSeen, World};
use crate::api::{ClaimRecord, MemberRecord, Reason, RestorePlan, RestorePoint};
use crate::backup::status::human_size;
use crate::members::workload::SetSeen;
use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Most members of a cluster.
const MEMBERS_MAX: i32 = 16;
/// Annotations of the volume controllers: they say something of one claim and its volume only.
const VOLUME_ANNOTATIONS: [&str; 3] = ["pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/"];
/// Annotation of `kubectl apply`, which would make the new claim look as if it had been applied.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The members and their volumes, if the StatefulSet and the volumes can be exchanged without harm.
pub fn members(restore: &ValidRestore, world: &World) -> Result<Vec<MemberRecord>, Obstacle> {
    let set = whole(restore, world.set.as_ref())?;
    let members: Result<Vec<_>, _> =
        set.ordinals(set.replicas).map(|ordinal| member(restore, world, set, ordinal)).collect();
    names_are_free(restore, world)?;
    let members = members?;
    let is_members = |name: &String| members.iter().any(|member| member.claim.name == *name);
    let prefix = format!("{}-{}-", restore.workload.volume_claim_template, set.name);
    match world.claims.keys().find(|name| name.starts_with(&prefix) && !is_members(name)) {
        None => Ok(members),
        Some(claim) => Err(Obstacle::new(
            Reason::VolumeUnfit,
            format!(
                "claim {claim} belongs to no running member: whoever scales up would start a member with its older or \
                 newer data, which could undo the restore. Delete it, or give it another name"
            ),
        )),
    }
}

/// Claims that a restore makes must not be there yet, unless this one has made them.
fn names_are_free(restore: &ValidRestore, world: &World) -> Result<(), Obstacle> {
    let prefix = format!("{}-", restore.owner.name);
    let is_foreign =
        |claim: &&ClaimSeen| claim.name.starts_with(&prefix) && claim.restore_uid.as_ref() != Some(&restore.owner.uid);
    match world.claims.values().filter(|claim| super::swap::is_aside(restore, &claim.name)).find(is_foreign) {
        None => Ok(()),
        Some(claim) => Err(Obstacle::new(
            Reason::NameTaken,
            format!("claim {} is there and not of this restore: create the Restore under another name", claim.name),
        )),
    }
}

fn whole<'a>(restore: &ValidRestore, set: Option<&'a SetSeen>) -> Result<&'a SetSeen, Obstacle> {
    let name = &restore.workload.stateful_set;
    let set = set.ok_or_else(|| {
        Obstacle::new(
            Reason::WorkloadMissing,
            format!("StatefulSet {name} does not exist: create it, or correct spec.into.workload in a new Restore"),
        )
    })?;
    let unfit = |problem: String| Err(Obstacle::new(Reason::WorkloadUnfit, format!("StatefulSet {name} {problem}")));
    let Some(spec) = set.object.spec.as_ref() else { return unfit("has no spec".to_owned()) };
    let template = &restore.workload.volume_claim_template;
    if !has_template(spec, template) {
        return unfit(format!("has no volumeClaimTemplate {template}"));
    }
    if let Some(problem) = mount_problem(spec, template) {
        return unfit(problem);
    }
    if !(1..=MEMBERS_MAX).contains(&set.replicas) {
        return unfit(format!("wants {} members: a restore needs between 1 and {MEMBERS_MAX}", set.replicas));
    }
    if let Some(problem) = rollout_problem(set, spec) {
        return Err(Obstacle::new(Reason::WorkloadNotReady, format!("StatefulSet {name} {problem}")));
    }
    Ok(set)
}

fn has_template(spec: &StatefulSetSpec, template: &str) -> bool {
    spec.volume_claim_templates.iter().flatten().any(|claim| claim.metadata.name.as_deref() == Some(template))
}

/// With `subPath` the store is not where `storePath` says, counted from the volume's root.
fn mount_problem(spec: &StatefulSetSpec, template: &str) -> Option<String> {
    let containers = spec.template.spec.iter().flat_map(|pod| &pod.containers);
    let mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let within = mounts.filter(|mount| mount.name == template);
    within.into_iter().find(|mount| mount.sub_path_expr.is_some()).map(|_| {
        format!("mounts {template} with subPathExpr: the operator cannot tell where the store of each member is")
    })
}

/// A StatefulSet in the middle of an update would start its members with another template than the one that ran.
fn rollout_problem(set: &SetSeen, spec: &StatefulSetSpec) -> Option<String> {
    let status = set.object.status.clone().unwrap_or_default();
    if status.observed_generation < set.object.metadata.generation {
        return Some("has a change that its controller has not seen yet".to_owned());
    }
    let strategy = spec.update_strategy.as_ref();
    let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0);
    let on_delete = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
    let is_new = status.current_revision == status.update_revision
        || (on_delete && status.updated_replicas == Some(status.replicas));
    if !is_new || partition > set.first {
        return Some(
            "has members of two revisions, or an update partition: all members stop for a restore, and would start \
             with the new revision. Complete the update, or take it back"
                .to_owned(),
        );
    }
    None
}

fn member(restore: &ValidRestore, world: &World, set: &SetSeen, ordinal: i32) -> Result<MemberRecord, Obstacle> {
    let pod = set.pod(ordinal);
    let name = format!("{}-{pod}", restore.workload.volume_claim_template);
    let unfit = |problem: String| Obstacle::new(Reason::VolumeUnfit, problem);
    let claim = world.claims.get(&name).ok_or_else(|| unfit(format!("member {pod} has no claim {name}")))?;
    if claim.is_terminating {
        return Err(Obstacle::new(Reason::ClaimHeld, world.holder(&name)));
    }
    let volume = world.bound(claim).ok_or_else(|| {
        let why = if claim.is_lost { "its volume is gone" } else { "it is not bound to a volume" };
        unfit(format!("claim {name} of member {pod} cannot be exchanged: {why}"))
    })?;
    let claim = record(claim, volume).map_err(unfit)?;
    if volume.is_terminating {
        return Err(unfit(format!("volume {} of member {pod} is being deleted", volume.name)));
    }
    let original = volume.record(world.claims.get(&name));
    Ok(MemberRecord {
        ordinal,
        pod,
        claim,
        original,
        survey: None,
        staged: None,
        staged_time: None,
        carried_time: None,
        strays: Vec::new(),
    })
}

fn record(claim: &ClaimSeen, volume: &VolumeSeen) -> Result<ClaimRecord, String> {
    let name = &claim.name;
    let spec = claim.object.spec.clone().unwrap_or_default();
    let mode = spec.volume_mode.clone();
    if mode.as_deref() == Some("Block") {
        return Err(format!("claim {name} is a block device: only volumes with a file system can be restored"));
    }
    let access_modes = spec.access_modes.clone().unwrap_or_default();
    if access_modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        return Err(format!(
            "claim {name} is ReadWriteOncePod: the operator cannot read the volume while its member runs; restore \
             into volumes that are ReadWriteOnce"
        ));
    }
    let capacity = volume.object.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage").cloned());
    Ok(ClaimRecord {
        name: name.clone(),
        labels: claim.object.metadata.labels.clone().unwrap_or_default(),
        annotations: own_annotations(claim.object.metadata.annotations.as_ref()),
        access_modes,
        storage: requested(&spec).ok_or_else(|| format!("claim {name} requests no storage"))?,
        storage_class_name: spec.storage_class_name,
        volume_mode: mode,
        volume_attributes_class_name: spec.volume_attributes_class_name,
        capacity: capacity.map(|quantity| quantity.0).unwrap_or_default(),
    })
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<String> {
    Some(spec.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone())
}

fn own_annotations(annotations: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let foreign = |key: &str| key == APPLIED || VOLUME_ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix));
    annotations.into_iter().flatten().filter(|(key, _)| !foreign(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The plan for these members, whose volumes have been read.
pub fn plan(restore: &ValidRestore, point: &RestorePoint, members: &[MemberRecord]) -> RestorePlan {
    let carried: i64 = members.iter().filter_map(|member| member.survey.as_ref()).map(|s| s.outside_bytes).sum();
    let set = &restore.workload.stateful_set;
    let first = members.first().map(|member| member.pod.as_str()).unwrap_or_default();
    let volumes: Vec<_> = members.iter().map(|member| member.original.name.as_str()).collect();
    let steps = [
        format!(
            "Stage: copy {} of GraphBackup {} (transaction {}) to a new volume for {first}, and make an empty one for \
             each other member, while the database serves",
            human_size(amount(point.bytes)),
            point.name,
            point.last_transaction
        ),
        format!("Stop: set volumes {} to Retain, then scale StatefulSet {set} to 0", volumes.join(", ")),
        format!("Carry: copy {} that lie outside the store to the new volumes", human_size(amount(carried))),
        format!("Swap: exchange the volume of each of the {} members", members.len()),
        format!("Start: start {first} alone; when it is master at transaction {}, the others", point.last_transaction),
        format!(
            "Keep: claims {} hold the original volumes for {} s; then they go the way of their reclaim policy",
            restore.aside("original", members.first().map_or(0, |member| member.ordinal)) + ", …",
            restore.keep_original_for.as_secs()
        ),
    ];
    RestorePlan {
        hash: hash(point, members),
        steps: steps.iter().map(|step| cut(step)).collect(),
        carried_bytes: carried,
    }
}

fn amount(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or_default()
}

fn cut(step: &str) -> String {
    crate::api::condition::shorten(step, 512)
}

/// Names what is done to which objects; sizes that change by themselves have no part in it.
fn hash(point: &RestorePoint, members: &[MemberRecord]) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{} {} {}\n", point.uid, point.manifest_digest, point.claim_name));
    for member in members {
        let MemberRecord { pod, claim, original, .. } = member;
        digest.update(format!("{pod} {} {} {}\n", claim.name, original.claim_uid, original.uid));
    }
    digest.finalize().iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
