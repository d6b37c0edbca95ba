//! The exchange of volumes under the claims of the members: from the journal and what is seen, the next change. Pure.
//!
//! A volume is put under a claim in four changes, each after a look at the cluster:
//!
//! 1. the claim that has the volume is deleted, and is gone;
//! 2. the new claim is created with the volume's name: it waits, and its name is taken, so that no controller makes
//!    another claim of this name;
//! 3. the volume's `claimRef` is pointed at the new claim with its UID: no other claim can get the volume, not even one
//!    of the same name. A `claimRef` is never empty: a free volume could be taken by any claim that waits;
//! 4. the claim is annotated, so that the volume controller looks at it and binds both.
//!
//! The order within a member: first the volume that leaves the member's claim, then the one that comes.

use super::build;
use super::step::{Action, Named, Obstacle};
use super::validate::ValidRestore;
use super::world::{ClaimSeen, VolumeSeen, World};
use crate::api::names::{
    ORIGINAL_CLAIM_ANNOTATION, RESTORE_ANNOTATION, RESTORE_UID_ANNOTATION, VOLUME_ROLE_ANNOTATION,
};
use crate::api::{Direction, MemberRecord, Reason, VolumeRecord, VolumeRole};
use crate::controller::effects::VolumePatch;
use serde_json::{Value, json};

/// The policy under which a volume outlives its claim.
pub const RETAIN: &str = "Retain";
/// Words of a claim's name that tell its place while it is not the member's.
pub const ASIDE: [&str; 3] = ["staged", "original", "replaced"];
/// Most volumes of others that are put aside for one member.
pub const STRAYS_MAX: usize = 4;

/// What brings a member nearer to the wanted layout.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Nothing: the layout is as wanted.
    Done,
    /// Wait for this.
    Wait(Obstacle),
    /// Make this change.
    Make(Action),
    /// A claim of somebody else has the member's name: record its volume first.
    Stray(VolumeRecord),
    /// A volume of the journal is gone, or is another one: nothing that is known to be safe can be done.
    Lost(Obstacle),
}

/// Which claim each volume of a member gets, in the order of the exchange: what is in the way of the member's claim
/// first.
pub fn layout<'a>(
    restore: &ValidRestore,
    member: &'a MemberRecord,
    direction: Direction,
    world: &World,
) -> Vec<(VolumeRole, &'a VolumeRecord, String)> {
    let (ordinal, own) = (member.ordinal, member.claim.name.clone());
    let strays = member.strays.iter().enumerate();
    let strays = strays.map(|(number, stray)| (VolumeRole::Stray, stray, stray_claim(restore, ordinal, number)));
    let original = |claim| (VolumeRole::Original, &member.original, claim);
    let staged = |claim| member.staged.as_ref().map(|staged| (VolumeRole::Staged, staged, claim));
    let mut volumes: Vec<_> = strays.collect();
    match direction {
        Direction::Forward => {
            volumes.push(original(restore.aside("original", ordinal)));
            volumes.extend(staged(own));
        }
        Direction::Back => {
            let has_own = world.claims.get(&own).and_then(|claim| claim.volume.clone());
            let is_in_the_way =
                has_own.is_some() && has_own == member.staged.as_ref().map(|staged| staged.name.clone());
            volumes.push(original(own));
            volumes.extend(staged(restore.aside("replaced", ordinal)));
            if is_in_the_way {
                let last = volumes.len() - 1;
                volumes.swap(last, last - 1);
            }
        }
    }
    volumes
}

/// Whether a claim has a name that this restore gives to volumes which are not a member's.
pub fn is_aside(restore: &ValidRestore, name: &str) -> bool {
    let rest = name.strip_prefix(&restore.owner.name).and_then(|rest| rest.strip_prefix('-'));
    let word = rest.and_then(|rest| rest.split('-').next());
    word.is_some_and(|word| ASIDE.contains(&word) || word == VolumeRole::Stray.word())
}

/// Name of the claim of a volume of somebody else that is put aside.
pub fn stray_claim(restore: &ValidRestore, ordinal: i32, number: usize) -> String {
    format!("{}-{number}", restore.aside(VolumeRole::Stray.word(), ordinal))
}

/// The next change for a member. On the way back only its original volume has to be there.
pub fn next(restore: &ValidRestore, member: &MemberRecord, direction: Direction, world: &World) -> Move {
    let mut volumes = layout(restore, member, direction, world);
    volumes.retain(|(role, volume, _)| {
        direction == Direction::Forward || *role == VolumeRole::Original || known(volume, world).is_ok()
    });
    first_move(restore, member, volumes, world)
}

/// The next change for a member whose own volume is to be read under its own claim: a StatefulSet may delete the claim
/// with the member.
pub fn home(restore: &ValidRestore, member: &MemberRecord, world: &World) -> Move {
    let mut volumes = layout(restore, member, Direction::Back, world);
    volumes.retain(|(role, ..)| *role != VolumeRole::Staged);
    first_move(restore, member, volumes, world)
}

/// What has to be done first of all that brings these volumes under their claims.
fn first_move(
    restore: &ValidRestore,
    member: &MemberRecord,
    volumes: Vec<(VolumeRole, &VolumeRecord, String)>,
    world: &World,
) -> Move {
    let moves = volumes.into_iter().map(|(role, volume, claim)| place(restore, member, (role, volume), &claim, world));
    moves.into_iter().find(|next| *next != Move::Done).unwrap_or(Move::Done)
}

/// Puts one volume under a claim.
fn place(
    restore: &ValidRestore,
    member: &MemberRecord,
    (role, record): (VolumeRole, &VolumeRecord),
    wanted: &str,
    world: &World,
) -> Move {
    let volume = match known(record, world) {
        Ok(volume) => volume,
        Err(lost) => return Move::Lost(lost),
    };
    if let Some(change) = retain(restore, member, role, volume) {
        return Move::Make(Action::ChangeVolume(change));
    }
    let claim = world.claims.get(wanted);
    if let Some(claim) = claim.filter(|claim| world.bound(claim).is_some_and(|bound| bound.uid == volume.uid)) {
        return stays(claim, world);
    }
    if let Some(step) = free(restore, volume, wanted, world) {
        return step;
    }
    match claim {
        None => {
            Move::Make(Action::CreateClaim(Box::new(build::claim(restore, member, role, wanted, Some(&volume.name)))))
        }
        Some(claim) if claim.is_terminating => Move::Wait(Obstacle::new(Reason::ClaimHeld, world.holder(&claim.name))),
        Some(claim) if claim.volume.as_deref() == Some(&volume.name) => bind(restore, volume, claim),
        Some(claim) if claim.name == member.claim.name => stray(restore, member, claim, world),
        Some(claim) => Move::Wait(Obstacle::new(
            Reason::NameTaken,
            format!("claim {} is not of this restore: delete it, or rename it", claim.name),
        )),
    }
}

/// Whether the claim that has its volume stays, too. One that goes with a pod, as those of a StatefulSet that was
/// scaled down may, is deleted before anybody starts with it, and made anew.
fn stays(claim: &ClaimSeen, world: &World) -> Move {
    if claim.is_terminating {
        return Move::Wait(Obstacle::new(Reason::ClaimHeld, world.holder(&claim.name)));
    }
    let owners = claim.object.metadata.owner_references.iter().flatten();
    if owners.into_iter().any(|owner| owner.kind == "Pod") {
        return Move::Make(Action::DeleteClaim(Named { name: claim.name.clone(), uid: claim.uid.clone() }));
    }
    Move::Done
}

/// The volume of a record, if it is still that one and stays.
pub fn known<'a>(record: &VolumeRecord, world: &'a World) -> Result<&'a VolumeSeen, Obstacle> {
    let name = &record.name;
    let lost = |what: &str| Err(Obstacle::new(Reason::VolumeLost, format!("PersistentVolume {name} {what}")));
    match world.volumes.get(name) {
        None => lost("is gone"),
        Some(volume) if volume.uid != record.uid => lost("is another one than before"),
        Some(volume) if volume.is_terminating => lost("is being deleted: nothing is exchanged any more"),
        Some(volume) => Ok(volume),
    }
}

/// Sets a volume to Retain and says on it whose data it holds. `None` where both are so.
pub fn retain(
    restore: &ValidRestore,
    member: &MemberRecord,
    role: VolumeRole,
    volume: &VolumeSeen,
) -> Option<VolumePatch> {
    let annotations = marks(restore, member, role);
    let present = volume.object.metadata.annotations.as_ref();
    let is_marked = annotations
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| present.and_then(|present| present.get(key)).map(String::as_str) == value.as_str());
    if volume.reclaim_policy == RETAIN && is_marked {
        return None;
    }
    let patch = json!({
        "metadata": {"annotations": annotations},
        "spec": {"persistentVolumeReclaimPolicy": RETAIN},
    });
    Some(change(volume, patch))
}

/// Annotations that name the data of a volume, should everything else be lost.
fn marks(restore: &ValidRestore, member: &MemberRecord, role: VolumeRole) -> Value {
    let owner = &restore.owner;
    json!({
        RESTORE_ANNOTATION: format!("{}/{}", owner.namespace, owner.name),
        RESTORE_UID_ANNOTATION: owner.uid,
        VOLUME_ROLE_ANNOTATION: role.word(),
        ORIGINAL_CLAIM_ANNOTATION: member.claim.name,
    })
}

/// A change of a volume as it was read.
pub fn change(volume: &VolumeSeen, patch: Value) -> VolumePatch {
    VolumePatch {
        name: volume.name.clone(),
        uid: volume.uid.clone(),
        resource_version: volume.resource_version.clone(),
        patch,
    }
}

/// Takes a volume from the claim that has it, if that is not the wanted one.
fn free(restore: &ValidRestore, volume: &VolumeSeen, wanted: &str, world: &World) -> Option<Move> {
    let bound = volume.claim.as_ref()?;
    if bound.namespace != restore.owner.namespace {
        let message = format!("PersistentVolume {} belongs to a claim in namespace {}", volume.name, bound.namespace);
        return Some(Move::Lost(Obstacle::new(Reason::VolumeLost, message)));
    }
    let claim = world.claims.get(&bound.name).filter(|claim| Some(&claim.uid) == bound.uid.as_ref());
    let Some(claim) = claim else {
        // Its claim is gone, and the volume controller has not seen that yet; or it is a claim of somebody else.
        return volume.is_bound.then(|| {
            let message = format!("PersistentVolume {} is still bound to claim {}", volume.name, bound.name);
            Move::Wait(Obstacle::new(Reason::ClaimHeld, message))
        });
    };
    if claim.name == wanted {
        return None;
    }
    Some(if claim.is_terminating {
        Move::Wait(Obstacle::new(Reason::ClaimHeld, world.holder(&claim.name)))
    } else {
        Move::Make(Action::DeleteClaim(Named { name: claim.name.clone(), uid: claim.uid.clone() }))
    })
}

/// Points a volume at the claim that waits for it.
fn bind(restore: &ValidRestore, volume: &VolumeSeen, claim: &ClaimSeen) -> Move {
    let points = volume.claim.as_ref().is_some_and(|of| of.name == claim.name && of.uid.as_ref() == Some(&claim.uid));
    if points && !claim.is_marked {
        return Move::Make(Action::MarkClaim(Named { name: claim.name.clone(), uid: claim.uid.clone() }));
    }
    if points {
        let message = format!("claim {} and volume {} are being bound", claim.name, volume.name);
        return Move::Wait(Obstacle::new(Reason::Swapping, message));
    }
    let reference = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": restore.owner.namespace,
        "name": claim.name,
        "uid": claim.uid,
        "resourceVersion": null,
    });
    Move::Make(Action::ChangeVolume(change(volume, json!({"spec": {"claimRef": reference}}))))
}

/// A claim that has the name for another volume. An unbound one holds nothing and goes: somebody else's, or our own
/// from before the restore turned back. The volume of a bound one is kept.
fn stray(restore: &ValidRestore, member: &MemberRecord, claim: &ClaimSeen, world: &World) -> Move {
    let is_ours = claim.restore_uid.as_ref() == Some(&restore.owner.uid);
    match world.bound(claim) {
        Some(volume) if member.volumes().any(|(_, record)| record.uid == volume.uid) => Move::Wait(Obstacle::new(
            Reason::Swapping,
            format!("volume {} is still under claim {}", volume.name, claim.name),
        )),
        Some(volume) => Move::Stray(volume.record(Some(claim))),
        None if claim.volume.is_none() || is_ours => {
            Move::Make(Action::DeleteClaim(Named { name: claim.name.clone(), uid: claim.uid.clone() }))
        }
        None => Move::Wait(Obstacle::new(
            Reason::ClaimHeld,
            format!("claim {} was made by somebody else and is being bound", claim.name),
        )),
    }
}
