//! Step Swap: member by member, until every volume is under the claim that the layout gives it.

use super::moves::make;
use super::stop::no_journal;
use super::{Pass, Said};
use crate::api::{Direction, Journal, MemberRecord, Reason, RestoreStatus, RestoreStep};
use crate::restore::status;
use crate::restore::step::Obstacle;
use crate::restore::swap;

impl Pass<'_> {
    pub(super) fn exchange(&self, status: &mut RestoreStatus) -> Said {
        let Some(mut journal) = status.journal.clone() else { return no_journal() };
        // Jobs of the steps before would hold the claims.
        let jobs = self.without_jobs();
        if let Some((actions, obstacle)) = jobs.as_ref().filter(|_| status.direction == Direction::Forward) {
            return Said::Make(actions.clone(), Obstacle { reason: Reason::Swapping, ..obstacle.clone() });
        }
        let running = self.runs_on_new(&journal).map(str::to_owned);
        // What a client wrote there is kept, whichever way the restore goes.
        journal.started |= running.is_some();
        status.journal = Some(journal.clone());
        if let Some(pod) = running.filter(|_| status.direction == Direction::Forward) {
            return Said::Fail(was_started(&pod));
        }
        if let Some(said) = self.scaled_to(&journal, 0, status) {
            return said;
        }
        if let Some(said) = self.without_pods(status) {
            return said;
        }
        let (mut actions, mut waits) = (jobs.map(|(actions, _)| actions).unwrap_or_default(), Vec::new());
        for member in &mut journal.members {
            let next = swap::next(self.restore, member, status.direction, self.world);
            if let Err(obstacle) = make(member, next, &mut actions, &mut waits) {
                return Said::Fail(obstacle);
            }
        }
        if !actions.is_empty() || !waits.is_empty() {
            status.journal = Some(journal);
            let swapping = || Obstacle::new(Reason::Swapping, "the volumes are being exchanged");
            return Said::Make(actions, waits.into_iter().next().unwrap_or_else(swapping));
        }
        self.seen(&mut journal);
        status.journal = Some(journal);
        let next = match status.direction {
            Direction::Forward => RestoreStep::StartFirst,
            Direction::Back => RestoreStep::StartAll,
        };
        status::begin(status, next, self.now);
        Said::Next
    }

    /// A member that serves from a new volume.
    fn runs_on_new(&self, journal: &Journal) -> Option<&str> {
        let runs = |member: &&MemberRecord| {
            let claim = self.world.claims.get(&member.claim.name).and_then(|claim| self.world.bound(claim));
            claim.zip(member.staged.as_ref()).is_some_and(|(volume, staged)| volume.uid == staged.uid)
        };
        let changed: Vec<_> = journal.members.iter().filter(runs).map(|member| &member.pod).collect();
        self.world.pods.iter().find(|pod| pod.is_ready && changed.contains(&&pod.name)).map(|pod| pod.name.as_str())
    }

    /// Records which claim each volume has now: a member starts on a claim that the journal knows, and on no other.
    fn seen(&self, journal: &mut Journal) {
        for member in &mut journal.members {
            let volumes = [Some(&mut member.original), member.staged.as_mut()].into_iter().flatten();
            for record in volumes.chain(&mut member.strays) {
                let claim = self.world.volumes.get(&record.name).and_then(|volume| volume.claim.as_ref()?.uid.clone());
                record.claim_uid = claim.unwrap_or_default();
            }
        }
    }

    /// Whether the claim of each member is the journal's and has its volume; what differs, in words.
    pub(super) fn is_as_recorded(&self, journal: &Journal, direction: Direction) -> Result<(), Obstacle> {
        for member in &journal.members {
            let record = match direction {
                Direction::Forward => member.staged.as_ref(),
                Direction::Back => Some(&member.original),
            };
            let claim = self.world.claims.get(&member.claim.name);
            let is_so = record.zip(claim).is_some_and(|(record, claim)| {
                record.claim_uid == claim.uid && self.world.bound(claim).is_some_and(|volume| volume.uid == record.uid)
            });
            if !is_so {
                return Err(Obstacle::new(
                    Reason::VolumeLost,
                    format!("claim {} is not the one that the journal knows, or has another volume", member.claim.name),
                ));
            }
        }
        Ok(())
    }
}

/// Why a restore turns back when somebody has started a member on a new volume.
fn was_started(pod: &str) -> Obstacle {
    let message = format!(
        "{pod} was started in the middle of the exchange: members that were changed may have copied from those that were \
         not"
    );
    Obstacle::new(Reason::StoppingMembers, message)
}
