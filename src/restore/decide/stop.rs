//! Steps Stop and Carry: every volume outlives its claim, no member runs, and the new volumes have all that lies
//! outside the store.

use super::jobs::Work;
use super::moves::make;
use super::{Pass, Said};
use crate::api::{Direction, Journal, Reason, RestoreStatus, RestoreStep, VolumeRole, now_seconds};
use crate::contract::task::Task;
use crate::contract::verdict::Verdict;
use crate::controller::effects::ScaleTo;
use crate::controller::pace::since;
use crate::restore::status;
use crate::restore::step::{Action, Named, Obstacle};
use crate::restore::swap::{self, Move};
use std::time::Duration;

/// A pod that has not begun to stop after this long is deleted: a StatefulSet waits for members that are not ready.
const STUCK: Duration = Duration::from_secs(20);
/// On the way back a registration is waited for this long: the session of a member that has stopped is over by then.
const SESSION: Duration = Duration::from_secs(40);

impl Pass<'_> {
    pub(super) fn stop(&self, status: &mut RestoreStatus) -> Said {
        let Some(journal) = status.journal.clone() else { return no_journal() };
        if let Some(said) = self.retain_all(&journal, status.direction) {
            return said;
        }
        if let Some(obstacle) = self.may_stop(&journal, status) {
            return obstacle;
        }
        if let Some(said) = self.scaled_to(&journal, 0, status) {
            return said;
        }
        if let Some(said) = self.without_members(&journal, status) {
            return said;
        }
        let next = match status.direction {
            Direction::Forward => RestoreStep::Carry,
            Direction::Back => RestoreStep::Swap,
        };
        status::begin(status, next, self.now);
        Said::Next
    }

    /// What is in the way of stopping the members for the first time.
    fn may_stop(&self, journal: &Journal, status: &RestoreStatus) -> Option<Said> {
        if status.direction == Direction::Back || status.downtime.is_some() {
            return None;
        }
        let set = self.world.set.as_ref().filter(|set| set.uid == journal.stateful_set_uid)?;
        if set.replicas != journal.replicas {
            let message = format!(
                "StatefulSet {} has {} replicas and had {} at the check: a member that the plan does not know could \
                 undo the restore",
                set.name, set.replicas, journal.replicas
            );
            return Some(Said::Fail(Obstacle::new(Reason::WorkloadNotReady, message)));
        }
        match &self.world.cluster {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Said::Wait(Obstacle::new(error.reason(), error.to_string()))),
            None => Some(Said::Wait(Obstacle::new(Reason::StoppingMembers, "ZooKeeper is being asked"))),
        }
    }

    /// Sets every volume to Retain, before any claim can go. Nothing where all are. On the way back only the original
    /// volumes have to be there.
    fn retain_all(&self, journal: &Journal, direction: Direction) -> Option<Said> {
        let mut actions = Vec::new();
        for member in &journal.members {
            for (role, record) in member.volumes() {
                match swap::known(record, self.world) {
                    Err(_) if direction == Direction::Back && role != VolumeRole::Original => {}
                    Err(lost) => return Some(Said::Fail(lost)),
                    Ok(volume) => {
                        let change = swap::retain(self.restore, member, role, volume);
                        actions.extend(change.map(Action::ChangeVolume));
                    }
                }
            }
        }
        let obstacle =
            Obstacle::new(Reason::StoppingMembers, "every volume is set to Retain before a member is stopped");
        (!actions.is_empty()).then_some(Said::Make(actions, obstacle))
    }

    /// Sets the replicas of the StatefulSet, whoever has changed them. Nothing where they are as wanted.
    pub(super) fn scaled_to(&self, journal: &Journal, replicas: i32, status: &mut RestoreStatus) -> Option<Said> {
        let name = &self.restore.workload.stateful_set;
        let set = match &self.world.set {
            Some(set) if set.uid == journal.stateful_set_uid => set,
            Some(_) => {
                let message = format!(
                    "StatefulSet {name} is another one than when the restore began: delete it, or delete the Restore \
                     and put the volumes back by hand; status.journal names them"
                );
                return Some(Said::Fail(Obstacle::new(Reason::WorkloadMissing, message)));
            }
            None => {
                let message = format!("StatefulSet {name} is gone; status.journal names the volumes, which are kept");
                return Some(Said::Fail(Obstacle::new(Reason::WorkloadMissing, message)));
            }
        };
        if set.replicas == replicas {
            return None;
        }
        if replicas == 0 {
            status::goes_down(status, self.now);
        }
        let to = ScaleTo { stateful_set: name.clone(), replicas, resource_version: set.resource_version.clone() };
        let message = format!("StatefulSet {name} is scaled from {} to {replicas}", set.replicas);
        let reason = if replicas == 0 { Reason::StoppingMembers } else { Reason::StartingMembers };
        Some(Said::Make(vec![Action::Scale(to)], Obstacle::new(reason, message)))
    }

    /// Waits until no pod of a member is there, and none is registered. Nothing where that is so.
    fn without_members(&self, journal: &Journal, status: &mut RestoreStatus) -> Option<Said> {
        if let Some(said) = self.without_pods(status) {
            return Some(said);
        }
        let waited = since(status.step_time.unwrap_or(self.now), self.now);
        let registered = match &self.world.cluster {
            Some(Ok(view)) => view.members.iter().map(|member| member.id.to_string()).collect::<Vec<_>>(),
            // The original volumes come back whatever ZooKeeper says.
            _ if status.direction == Direction::Back => return None,
            Some(Err(error)) => return Some(Said::Wait(Obstacle::new(error.reason(), error.to_string()))),
            None => return Some(Said::Wait(Obstacle::new(Reason::StoppingMembers, "ZooKeeper is being asked"))),
        };
        let is_over = status.direction == Direction::Back && waited > SESSION;
        if !registered.is_empty() && !is_over {
            let message = format!("members {} are stopped and still registered in ZooKeeper", registered.join(", "));
            return Some(Said::Wait(Obstacle::new(Reason::StoppingMembers, message)));
        }
        if let (Direction::Forward, Some(Ok(view))) = (status.direction, &self.world.cluster) {
            // Nobody can write the mark any more until the first member starts.
            status.journal = Some(Journal { rebound: Some(view.rebound.unwrap_or(0)), ..journal.clone() });
        }
        None
    }

    /// Waits until no pod of a member is there.
    pub(super) fn without_pods(&self, status: &RestoreStatus) -> Option<Said> {
        if self.world.pods.is_empty() {
            return None;
        }
        let down = status.downtime.as_ref().map_or(self.now, |downtime| downtime.from);
        let is_stuck = since(down.max(status.step_time.unwrap_or(down)), self.now) > STUCK;
        let stuck = self.world.pods.iter().filter(|pod| is_stuck && !pod.is_terminating && !pod.is_ready);
        let actions = stuck.map(|pod| Action::DeletePod(Named { name: pod.name.clone(), uid: pod.uid.clone() }));
        let names: Vec<_> = self.world.pods.iter().map(|pod| pod.name.as_str()).collect();
        let obstacle = Obstacle::new(Reason::StoppingMembers, format!("pods {} are stopping", names.join(", ")));
        Some(Said::Make(actions.collect(), obstacle))
    }

    pub(super) fn carry(&self, status: &mut RestoreStatus) -> Result<Said, serde_json::Error> {
        let Some(mut journal) = status.journal.clone() else { return Ok(no_journal()) };
        if let Some(said) = self.scaled_to(&journal, 0, status) {
            return Ok(said);
        }
        if let Some(said) = self.without_pods(status) {
            return Ok(said);
        }
        let (mut actions, mut waits) = (Vec::new(), Vec::new());
        for member in journal.members.iter_mut().filter(|member| member.carried_time.is_none()) {
            let work = self.work(Task::Carry, member);
            // The claim may have gone with the member, also while the Job's pod waits for it.
            let home = match work {
                Work::Create | Work::Works(_) => swap::home(self.restore, member, self.world),
                Work::Again(..) | Work::Failed(_) | Work::Answered(_) => Move::Done,
            };
            match work {
                Work::Create if home == Move::Done => {
                    actions.push(Action::CreateJob(Box::new(self.made(member).carry()?)));
                }
                Work::Create => {}
                Work::Works(words) => waits.push(Obstacle::new(Reason::Swapping, words)),
                Work::Again(job, name) => {
                    actions.extend(job.map(Action::DeleteJob));
                    let message = format!("Job {name} ended without an answer and is made again");
                    waits.push(Obstacle::new(Reason::Swapping, message));
                }
                Work::Failed(obstacle) => return Ok(Said::Fail(obstacle)),
                Work::Answered(verdict) if matches!(*verdict, Verdict::Carried(_)) => {
                    member.carried_time = Some(now_seconds(self.now));
                }
                Work::Answered(_) => {
                    let message = "the Job that copies what lies outside the store answered something else";
                    return Ok(Said::Fail(Obstacle::new(Reason::AgentFailed, message)));
                }
            }
            if let Err(obstacle) = make(member, home, &mut actions, &mut waits) {
                return Ok(Said::Fail(obstacle));
            }
        }
        let done = journal.members.iter().all(|member| member.carried_time.is_some());
        status.journal = Some(journal);
        if !done {
            let copies = || Obstacle::new(Reason::Swapping, "files outside the store are copied");
            return Ok(Said::Make(actions, waits.into_iter().next().unwrap_or_else(copies)));
        }
        if let Some((actions, obstacle)) = self.without_jobs() {
            return Ok(Said::Make(actions, Obstacle { reason: Reason::Swapping, ..obstacle }));
        }
        status::begin(status, RestoreStep::Swap, self.now);
        Ok(Said::Next)
    }
}

pub(super) fn no_journal() -> Said {
    Said::Fail(Obstacle::new(Reason::ForeignStatus, "status.journal is missing: somebody has removed it"))
}
