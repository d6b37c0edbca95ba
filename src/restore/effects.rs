//! The ordered list of effects that each decision becomes. Pure.
//!
//! Events, the lock, **record** (or *unchanged?*), then the changes, then the release of the lock.
//!
//! - **The record before every change**: a crash in between finds what was about to be done, and the next pass compares
//!   it with the cluster. *Unchanged?* keeps a stale object from acting for a step that is over.
//! - **The lock before the record**: a restore that has begun has the lock.

use super::step::{Action, Decision, Note, Refusal};
use crate::api::{Owner, Reason, RestoreStatus};
use crate::controller::effects::{Effect, record};
use crate::controller::event;
use chrono::{DateTime, Utc};

/// What effects are made of besides the decision.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// The restore as the owner of what belongs to it.
    pub owner: &'a Owner,
    /// Its resource version.
    pub resource_version: &'a str,
    /// Name of this replica, for Events.
    pub instance: &'a str,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Makes the effects of a decision. `before` is the status on the object.
pub fn effects(
    decision: &Decision,
    before: Option<&RestoreStatus>,
    settings: Settings<'_>,
) -> Result<Vec<Effect<Refusal>>, serde_json::Error> {
    let mut effects: Vec<_> = decision.notes.iter().map(|note| told(note, settings)).collect();
    let (locks, changes): (Vec<_>, Vec<_>) =
        decision.actions.iter().partition(|action| matches!(action, Action::TakeLock(_)));
    effects.extend(locks.into_iter().map(effect));
    let is_foreign = before.is_some_and(|before| before.uid.is_some() && before.uid != decision.status.uid);
    match record(&decision.status, before, is_foreign)? {
        Some(record) => effects.push(record),
        None if !changes.is_empty() => effects.push(Effect::RequireUnchanged),
        None => {}
    }
    effects.extend(changes.into_iter().map(effect));
    Ok(effects)
}

fn effect(action: &Action) -> Effect<Refusal> {
    match action.clone() {
        Action::TakeLock(store) => Effect::TakeLock { store, held: Refusal::LockHeld },
        Action::BreakLock(lock) => Effect::DeleteLock(lock),
        Action::ReleaseLocks => Effect::ReleaseLocks,
        Action::SetFinalizers(finalizers) => Effect::SetFinalizers(finalizers),
        Action::CreateJob(job) => Effect::CreateJob { job, refusal: Some(Refusal::Refused(Reason::JobRefused)) },
        Action::DeleteJob(job) => Effect::DeleteJob(job),
        Action::CreateClaim(claim) => Effect::CreateClaim { claim, refusal: Refusal::Refused(Reason::ClaimRefused) },
        Action::DeleteClaim(claim) => {
            Effect::DeleteClaim { name: claim.name, uid: claim.uid, refusal: Refusal::Refused(Reason::ClaimRefused) }
        }
        Action::MarkClaim(claim) => {
            Effect::MarkClaim { name: claim.name, uid: claim.uid, refusal: Refusal::Refused(Reason::ClaimRefused) }
        }
        Action::ChangeVolume(volume) => {
            Effect::ChangeVolume { volume, refusal: Refusal::Refused(Reason::VolumeRefused) }
        }
        Action::Scale(to) => Effect::Scale { to, refusal: Some(Refusal::Refused(Reason::ScaleRefused)) },
        Action::DeletePod(pod) => {
            Effect::DeletePod { name: pod.name, uid: pod.uid, refusal: Refusal::Refused(Reason::StoppingMembers) }
        }
    }
}

fn told(note: &Note, settings: Settings<'_>) -> Effect<Refusal> {
    let Settings { owner, resource_version, instance, now } = settings;
    let told = event::Note {
        severity: note.severity,
        reason: note.reason,
        text: &note.text,
        action: "Restore",
        turn: &note.turn,
    };
    Effect::CreateEvent(Box::new(event::event(owner, resource_version, told, instance, now)))
}

#[cfg(test)]
mod tests;
