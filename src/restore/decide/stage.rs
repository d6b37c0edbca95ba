//! Step Stage: new volumes are made and written while the database serves.

use super::jobs::Work;
use super::{Pass, Said};
use crate::api::{MemberRecord, Reason, RestorePoint, RestoreStatus, RestoreStep, SeedState, VolumeRole, now_seconds};
use crate::contract::task::Task;
use crate::contract::verdict::Verdict;
use crate::restore::step::{Action, Obstacle};
use crate::restore::{build, status};

impl Pass<'_> {
    pub(super) fn stage(&self, status: &mut RestoreStatus) -> Result<Said, serde_json::Error> {
        let (Some(point), Some(mut journal)) = (status.point.clone(), status.journal.take()) else {
            return Ok(Said::Fail(Obstacle::new(
                Reason::DeadlineExceeded,
                "the status names neither point nor journal",
            )));
        };
        let (mut actions, mut waits) = (Vec::new(), Vec::new());
        let mut failed = None;
        for (number, member) in journal.members.iter_mut().enumerate() {
            let point = (number == 0).then_some(&point);
            match self.stage_member(member, point)? {
                Staging::Done => {}
                Staging::Make(action) => actions.push(action),
                Staging::Wait(words) => waits.push(words),
                Staging::Fail(obstacle) => failed = Some(obstacle),
            }
        }
        let done = journal.members.iter().all(|member| member.staged.is_some());
        status.journal = Some(journal);
        if let Some(obstacle) = failed {
            return Ok(Said::Fail(obstacle));
        }
        if !done {
            let words = if waits.is_empty() { "new volumes are being made".to_owned() } else { waits.join("; ") };
            return Ok(Said::Make(actions, Obstacle::new(Reason::Staging, words)));
        }
        if let Some((actions, obstacle)) = self.without_jobs() {
            return Ok(Said::Make(actions, obstacle));
        }
        status::begin(status, RestoreStep::Stop, self.now);
        Ok(Said::Next)
    }

    fn stage_member(
        &self,
        member: &mut MemberRecord,
        point: Option<&RestorePoint>,
    ) -> Result<Staging, serde_json::Error> {
        if member.staged.is_some() {
            return Ok(Staging::Done);
        }
        let name = self.restore.aside(VolumeRole::Staged.word(), member.ordinal);
        let Some(claim) = self.world.claims.get(&name) else {
            let claim = build::claim(self.restore, member, VolumeRole::Staged, &name, None);
            return Ok(Staging::Make(Action::CreateClaim(Box::new(claim))));
        };
        if claim.restore_uid.as_ref() != Some(&self.restore.owner.uid) {
            let message =
                format!("a claim {name} exists that is not of this restore: delete it, or restore under another name");
            return Ok(Staging::Fail(Obstacle::new(Reason::NameTaken, message)));
        }
        Ok(match self.work(Task::Stage, member) {
            Work::Create => Staging::Make(Action::CreateJob(Box::new(self.made(member).stage(point)?))),
            Work::Works(words) => Staging::Wait(words),
            Work::Again(Some(job), _) => Staging::Make(Action::DeleteJob(job)),
            Work::Again(None, name) => Staging::Wait(format!("Job {name} ended without an answer")),
            Work::Failed(obstacle) => Staging::Fail(obstacle),
            Work::Answered(verdict) => match written(&verdict, point) {
                Err(obstacle) => Staging::Fail(obstacle),
                Ok(()) => match self.world.bound(claim) {
                    None => Staging::Wait(format!("claim {name} is not bound")),
                    Some(volume) => {
                        member.staged = Some(volume.record(Some(claim)));
                        member.staged_time = Some(now_seconds(self.now));
                        Staging::Done
                    }
                },
            },
        })
    }
}

enum Staging {
    Done,
    Make(Action),
    Wait(String),
    Fail(Obstacle),
}

/// Whether the agent wrote what was asked for.
fn written(verdict: &Verdict, point: Option<&RestorePoint>) -> Result<(), Obstacle> {
    let failed = |message: String| Err(Obstacle::new(Reason::VerificationFailed, message));
    match (verdict, point) {
        (Verdict::Prepared, None) => Ok(()),
        (Verdict::Staged(staged), Some(point)) => {
            let is_the_point = staged.manifest_digest == point.manifest_digest
                && staged.store_id == point.store_id
                && staged.last_transaction == point.last_transaction;
            if !is_the_point {
                return failed(format!(
                    "the new volume holds store {} at transaction {}, and the point is of store {} at transaction {}",
                    staged.store_id, staged.last_transaction, point.store_id, point.last_transaction
                ));
            }
            if staged.seed.state != SeedState::LogsComplete {
                let problem = staged.seed.problem.clone().unwrap_or_default();
                return Err(Obstacle::new(
                    Reason::PointNotSeedable,
                    format!("members cannot join a cluster that starts from this point: {problem}"),
                ));
            }
            Ok(())
        }
        _ => failed("the Job that writes a new volume answered something else".to_owned()),
    }
}
