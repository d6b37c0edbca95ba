//! Steps `StartFirst` and `StartAll`: the member with the restored store is master before any other starts, and every
//! member serves before the restore has succeeded.

use super::stop::no_journal;
use super::{Pass, Said};
use crate::api::{Direction, Journal, Mastership, Reason, RestorePoint, RestoreStatus, RestoreStep};
use crate::controller::pace::since;
use crate::restore::status;
use crate::restore::step::Obstacle;
use crate::restore::world::Holds;

impl Pass<'_> {
    pub(super) fn start_first(&self, status: &mut RestoreStatus) -> Said {
        let (Some(journal), Some(point)) = (status.journal.clone(), status.point.clone()) else { return no_journal() };
        if let Err(obstacle) = self.is_as_recorded(&journal, Direction::Forward) {
            return Said::Fail(obstacle);
        }
        // From here on a client may write to the restored volumes.
        status.journal = Some(Journal { started: true, ..journal.clone() });
        if let Some(said) = self.scaled_to(&journal, 1, status) {
            return said;
        }
        if let Some(obstacle) = self.first_is_master(&journal, &point) {
            return Said::Wait(obstacle);
        }
        status::is_up(status, self.now);
        status::begin(status, RestoreStep::StartAll, self.now);
        Said::Next
    }

    /// What is missing until the first member is master with the point's store.
    fn first_is_master(&self, journal: &Journal, point: &RestorePoint) -> Option<Obstacle> {
        let pod = journal.members.first().map(|member| member.pod.as_str()).unwrap_or_default();
        let waits = |message: String| Some(Obstacle::new(Reason::StartingMembers, message));
        let located = match &self.world.master {
            Some(Ok(located)) => located,
            Some(Err(error)) => return waits(format!("member {pod} is not master yet: {error}")),
            None => return waits(format!("member {pod} starts alone with the restored store")),
        };
        let Mastership::Master(token) = &located.mastership else {
            return waits("the source names no master".to_owned());
        };
        if token.endpoint.host.split('.').next() != Some(pod) {
            let message = format!("{} is master, not member {pod}, which has the restored store", token.endpoint.host);
            return Some(Obstacle::new(Reason::SeedNotMaster, message));
        }
        if token.rebound_modified <= journal.rebound.unwrap_or(0) {
            return waits(format!(
                "ZooKeeper still names the master of before the restore: member {pod} has not declared itself"
            ));
        }
        if located.store_id != point.store_id {
            let message =
                format!("the cluster has store {}, and the point is of store {}", located.store_id, point.store_id);
            return Some(Obstacle::new(Reason::StoreMismatch, message));
        }
        match self.world.holds.iter().find(|(member, _)| *member == token.endpoint).map(|(_, holds)| holds) {
            Some(Holds::Yes) => None,
            Some(Holds::No) => Some(Obstacle::new(
                Reason::SeedNotMaster,
                format!("member {pod} is master and does not hold transaction {} of the point", point.last_transaction),
            )),
            Some(Holds::Unknown(why)) => waits(format!("member {pod} is master and does not answer a backup: {why}")),
            None => waits(format!("member {pod} is master; it is asked for transaction {}", point.last_transaction)),
        }
    }

    pub(super) fn start_all(&self, status: &mut RestoreStatus) -> Said {
        let Some(journal) = status.journal.clone() else { return no_journal() };
        if let Err(obstacle) = self.is_as_recorded(&journal, status.direction) {
            if status.direction == Direction::Forward {
                return Said::Fail(obstacle);
            }
            // Somebody has changed a claim since: the original volumes are put back again.
            status::begin(status, RestoreStep::Swap, self.now);
            return Said::Next;
        }
        if let Some(said) = self.scaled_to(&journal, journal.replicas, status) {
            return said;
        }
        if let Some(obstacle) = self.all_serve(&journal, status) {
            // On the way back the volumes are what was promised; a member that did not serve before does not hold it up.
            let waited = since(status.step_time.unwrap_or(self.now), self.now);
            if status.direction == Direction::Forward || waited < self.restore.deadlines.prove {
                return Said::Wait(obstacle);
            }
        }
        status::is_up(status, self.now);
        status::begin(status, RestoreStep::CleanUp, self.now);
        Said::Next
    }

    /// What is missing until every member serves.
    fn all_serve(&self, journal: &Journal, status: &RestoreStatus) -> Option<Obstacle> {
        let waits = |message: String| Some(Obstacle::new(Reason::Proving, message));
        for member in &journal.members {
            let pod = &member.pod;
            match self.world.pods.iter().find(|seen| seen.name == *pod) {
                Some(seen) if seen.is_ready && !seen.is_terminating && seen.claims.contains(&member.claim.name) => {}
                Some(_) => return waits(format!("pod {pod} is not ready")),
                None => return waits(format!("pod {pod} is not there yet")),
            }
        }
        let view = match &self.world.cluster {
            Some(Ok(view)) => view,
            Some(Err(error)) => return Some(Obstacle::new(error.reason(), error.to_string())),
            None => return waits("ZooKeeper is being asked".to_owned()),
        };
        if let Some(point) = status.point.as_ref().filter(|point| point.store_id != view.store_id) {
            let message =
                format!("the cluster has store {}, and the point is of store {}", view.store_id, point.store_id);
            return Some(Obstacle::new(Reason::StoreMismatch, message));
        }
        for member in &journal.members {
            let pod = member.pod.as_str();
            let endpoints = view.members.iter().filter_map(|registered| registered.endpoint.as_ref());
            let Some(endpoint) = endpoints.into_iter().find(|endpoint| endpoint.host.split('.').next() == Some(pod))
            else {
                return waits(format!("member {pod} is not registered in ZooKeeper"));
            };
            if status.direction == Direction::Back {
                continue;
            }
            match self.world.holds.iter().find(|(asked, _)| asked == endpoint).map(|(_, holds)| holds) {
                Some(Holds::Yes) => {}
                Some(Holds::No) => {
                    return waits(format!("member {pod} does not hold the point's last transaction yet"));
                }
                Some(Holds::Unknown(why)) => return waits(format!("member {pod} does not answer a backup: {why}")),
                None => return waits(format!("member {pod} is being asked for the point's last transaction")),
            }
        }
        None
    }
}
