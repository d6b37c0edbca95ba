//! Steps `CleanUp` and `Ended`: reclaim policies come back, what is no longer needed goes, and the original volumes go
//! when their time is over.

use super::stop::no_journal;
use super::{Pass, Said};
use crate::api::condition::Truth;
use crate::api::names::{
    ORIGINAL_CLAIM_ANNOTATION, RESTORE_ANNOTATION, RESTORE_UID_ANNOTATION, VOLUME_ROLE_ANNOTATION,
};
use crate::api::{Direction, Journal, Reason, RestoreStatus, RestoreStep, VolumeRecord, moment, now_seconds};
use crate::backup::world::LockState;
use crate::restore::status;
use crate::restore::step::{Action, Named, Obstacle};
use crate::restore::swap::{RETAIN, change};
use crate::restore::world::VolumeSeen;
use chrono::TimeDelta;
use serde_json::json;
use std::time::Duration;

/// Between two looks at an undo that cannot begin yet.
const UNDO_AGAIN: Duration = Duration::from_secs(5);

impl Pass<'_> {
    pub(super) fn clean_up(&self, status: &mut RestoreStatus) -> Said {
        let Some(journal) = status.journal.clone() else { return no_journal() };
        if let Some((actions, obstacle)) = self.without_jobs() {
            return Said::Make(actions, obstacle);
        }
        match status.direction {
            Direction::Forward => self.succeed(status, &journal),
            Direction::Back => self.give_back(status, &journal),
        }
    }

    /// The volumes of the members get the policy that the original ones had.
    fn succeed(&self, status: &mut RestoreStatus, journal: &Journal) -> Said {
        let live = journal.members.iter().filter_map(|member| Some((member.staged.as_ref()?, &member.original)));
        let actions: Vec<_> =
            live.filter_map(|(staged, original)| self.unmark(staged, &original.reclaim_policy)).collect();
        if !actions.is_empty() {
            return Said::Make(actions, Obstacle::new(Reason::Proving, "reclaim policies are being put back"));
        }
        let keep = TimeDelta::from_std(self.restore.keep_original_for).unwrap_or(TimeDelta::MAX);
        let until = self.now.checked_add_signed(keep).map_or(self.now, now_seconds);
        status.keep_until = Some(until);
        let hash = status.plan.as_ref().map(|plan| plan.hash.clone()).unwrap_or_default();
        let message = format!(
            "every member serves the restored store; claims {} hold the original volumes until {}. To undo: kubectl \
             -n {} annotate restore {} graphbackup.dev/roll-back={hash}. Take a full backup now",
            self.restore.aside("original", journal.members.first().map_or(0, |member| member.ordinal)) + ", …",
            moment(until),
            self.restore.owner.namespace,
            self.restore.owner.name,
        );
        Said::End(Truth::True, Reason::Restored, message)
    }

    /// The original volumes get their policy back. Staged volumes that no member ran on go; others are kept: they may
    /// hold what clients wrote.
    fn give_back(&self, status: &mut RestoreStatus, journal: &Journal) -> Said {
        let mut actions = Vec::new();
        for member in &journal.members {
            actions.extend(self.unmark(&member.original, &member.original.reclaim_policy));
            if !journal.started {
                actions.extend(self.discard(member.ordinal, member.staged.as_ref()));
            }
            actions.extend(self.abandon(member.ordinal));
        }
        if !actions.is_empty() {
            return Said::Make(actions, Obstacle::new(Reason::RollingBack, "what was staged is being removed"));
        }
        let why = status.cause.as_ref().map_or("", |cause| cause.message.as_str());
        let kept = if journal.started {
            let first = journal.members.first().map_or(0, |member| member.ordinal);
            format!(
                " Claims {}, … hold the volumes that served meanwhile, with what was written to them; delete them when \
                 nobody needs that",
                self.restore.aside("replaced", first)
            )
        } else {
            String::new()
        };
        let unready: Vec<_> = journal
            .members
            .iter()
            .filter(|member| !self.world.pods.iter().any(|pod| pod.name == member.pod && pod.is_ready))
            .map(|member| member.pod.as_str())
            .collect();
        let served = match unready.as_slice() {
            [] => "the original volumes serve again".to_owned(),
            unready => format!("the original volumes are back, and members {} are not ready", unready.join(", ")),
        };
        let message = format!("{served}: {why}.{kept}");
        Said::End(Truth::False, Reason::RolledBack, message)
    }

    /// The change that gives a volume its policy and takes the marks of the restore off it.
    fn unmark(&self, record: &VolumeRecord, policy: &str) -> Option<Action> {
        let volume = self.world.volumes.get(&record.name).filter(|volume| volume.uid == record.uid)?;
        let is_marked =
            volume.object.metadata.annotations.as_ref().is_some_and(|known| known.contains_key(RESTORE_UID_ANNOTATION));
        // One that the restore has not touched is left as somebody has set it.
        if !is_marked {
            return None;
        }
        Some(Action::ChangeVolume(change(volume, unmarked(policy))))
    }

    /// Removes a staged claim and its volume.
    fn discard(&self, ordinal: i32, record: Option<&VolumeRecord>) -> Option<Action> {
        let named = |word: &str| self.world.claims.get(&self.restore.aside(word, ordinal));
        let ours = |claim: &&crate::restore::world::ClaimSeen| {
            claim.restore_uid.as_ref() == Some(&self.restore.owner.uid) && !claim.is_terminating
        };
        let claim = named("staged").or_else(|| named("replaced")).filter(ours)?;
        // Under Retain the volume would stay behind.
        let volume = claim.volume.as_ref().and_then(|name| self.world.volumes.get(name));
        if let (Some(record), Some(volume)) = (record, volume)
            && volume.reclaim_policy != record.reclaim_policy
        {
            return Some(Action::ChangeVolume(change(volume, unmarked(&record.reclaim_policy))));
        }
        Some(Action::DeleteClaim(Named { name: claim.name.clone(), uid: claim.uid.clone() }))
    }

    /// Deletes the claim that was to get a member's original volume and never did.
    fn abandon(&self, ordinal: i32) -> Option<Action> {
        let claim = self.world.claims.get(&self.restore.aside("original", ordinal))?;
        let is_ours = claim.restore_uid.as_ref() == Some(&self.restore.owner.uid);
        let goes = is_ours && !claim.is_terminating && self.world.bound(claim).is_none();
        goes.then(|| Action::DeleteClaim(Named { name: claim.name.clone(), uid: claim.uid.clone() }))
    }

    pub(super) fn ended(&self, status: &mut RestoreStatus) -> Said {
        if self.restore.is_deleted {
            return self.let_object_go();
        }
        if status.has_succeeded() && self.is_wanted_back(status) {
            return self.undo(status);
        }
        // The end was recorded, and the lock was not given back.
        if matches!(self.world.lock, Some(LockState::Ours)) {
            return quietly(Action::ReleaseLocks);
        }
        if !status.has_succeeded() {
            return self.let_object_go();
        }
        self.expire(status)
    }

    /// Whether a person asks for the original volumes, by the hash of the plan, while they are kept.
    fn is_wanted_back(&self, status: &RestoreStatus) -> bool {
        let hash = status.plan.as_ref().map(|plan| &plan.hash);
        self.restore.roll_back.is_some() && self.restore.roll_back.as_ref() == hash && status.keep_until.is_some()
    }

    /// Turns a restore back that has succeeded, if the cluster still is as it has left it.
    fn undo(&self, status: &mut RestoreStatus) -> Said {
        let (Some(point), Some(journal)) = (status.point.clone(), status.journal.clone()) else { return no_journal() };
        let is_same_set = self.world.set.as_ref().is_some_and(|set| set.uid == journal.stateful_set_uid);
        if !is_same_set || self.is_as_recorded(&journal, Direction::Forward).is_err() {
            // Another restore, or somebody, has changed the volumes since: nothing is taken from them.
            return Said::Rest(Some(UNDO_AGAIN));
        }
        match &self.world.lock {
            Some(LockState::Ours) => {
                status::because(status, &Obstacle::new(Reason::CalledOff, "a person asked for the original volumes"));
                status.direction = Direction::Back;
                status.keep_until = None;
                status.completion_time = None;
                status::begin(status, RestoreStep::Stop, self.now);
                Said::Next
            }
            Some(LockState::Held(_)) => Said::Rest(Some(UNDO_AGAIN)),
            Some(LockState::Abandoned(lock)) => quietly(Action::BreakLock(lock.clone())),
            Some(LockState::Free | LockState::NotObserved) | None => quietly(Action::TakeLock(point.store_id)),
        }
    }

    /// Lets the original volumes go the way of their policy when their time is over, once.
    fn expire(&self, status: &mut RestoreStatus) -> Said {
        let (Some(until), Some(journal)) = (status.keep_until, status.journal.clone()) else {
            return self.let_object_go();
        };
        if let Ok(left) = (until - self.now).to_std()
            && !left.is_zero()
        {
            return Said::Rest(Some(left.min(Duration::from_hours(1))));
        }
        let actions: Vec<_> =
            journal.members.iter().filter_map(|member| self.let_go(member.ordinal, &member.original)).collect();
        if actions.is_empty() {
            status.keep_until = None;
            return Said::Rest(Some(Duration::ZERO));
        }
        Said::Quietly(actions)
    }

    fn let_go(&self, ordinal: i32, original: &VolumeRecord) -> Option<Action> {
        let claim = self.world.claims.get(&self.restore.aside("original", ordinal));
        let volume = self.world.volumes.get(&original.name).filter(|volume| volume.uid == original.uid);
        let is_its = |volume: &&VolumeSeen| {
            claim.is_some_and(|claim| volume.claim.as_ref().is_some_and(|of| of.uid.as_ref() == Some(&claim.uid)))
        };
        let claim_of_it = claim.filter(|claim| claim.restore_uid.as_ref() == Some(&self.restore.owner.uid))?;
        let volume = volume.filter(is_its)?;
        if volume.reclaim_policy == RETAIN && original.reclaim_policy != RETAIN {
            return Some(Action::ChangeVolume(change(volume, unmarked(&original.reclaim_policy))));
        }
        let named = Named { name: claim_of_it.name.clone(), uid: claim_of_it.uid.clone() };
        (!claim_of_it.is_terminating).then_some(Action::DeleteClaim(named))
    }

    /// Takes the finalizer off: nothing is left to be done.
    fn let_object_go(&self) -> Said {
        if self.restore.has_finalizer() { quietly(self.finalizers(false)) } else { Said::Rest(None) }
    }
}

fn quietly(action: Action) -> Said {
    Said::Quietly(vec![action])
}

fn unmarked(policy: &str) -> serde_json::Value {
    json!({
        "metadata": {"annotations": {
            RESTORE_ANNOTATION: null,
            RESTORE_UID_ANNOTATION: null,
            VOLUME_ROLE_ANNOTATION: null,
            ORIGINAL_CLAIM_ANNOTATION: null,
        }},
        "spec": {"persistentVolumeReclaimPolicy": policy},
    })
}
