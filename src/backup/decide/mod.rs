//! The next step of a backup: a pure function of the request, the world and the time. No file in this folder has a
//! clock, a client, or an import of this one.

mod adopt;
pub mod cold;
pub mod inspection;
mod open;
mod pod_start;
mod removal;
mod start;
pub mod wait;

pub use open::is_observable;
pub use removal::PRUNE_AGAIN;
pub use start::attempt_due;

use super::request::Request;
use super::step::{Decision, ObjectStep, Pass, Step};
use super::world::{Open, World};
use crate::api::GraphBackupStatus;
use chrono::{DateTime, Utc};

/// Decides what a pass does.
pub fn decide(request: &Request, status: &GraphBackupStatus, world: World<'_>, now: DateTime<Utc>) -> Decision {
    match request {
        Request::Object(step) => Step::Object(step.clone()).into(),
        Request::Removal(backup) | Request::Backup(backup) => work(&Pass { backup, status, now }, world),
    }
}

fn work(pass: &Pass<'_>, world: World<'_>) -> Decision {
    match world {
        World::NotObserved => Step::Object(ObjectStep::Nothing).into(),
        World::Deleted(view) => removal::next(pass, view).into(),
        World::Adopting(store, seen) => adopt::next(pass, store, seen),
        World::Stopping(seen) => cold::stop(pass, seen).into(),
        World::Open(seen) => open_attempt(pass, seen),
        World::Idle { leftover: Some(job), .. } => Step::DeleteJob(job).into(),
        World::Idle { member: Some((attempt, stopped, seen)), .. } => {
            cold::bring_back(pass, attempt, stopped, &seen).into()
        }
        World::Idle { missing, prerequisites, .. } => {
            cold::hold(pass, start::decide_idle(pass, prerequisites).into(), missing)
        }
    }
}

fn open_attempt(pass: &Pass<'_>, seen: Open<'_>) -> Decision {
    let Open { attempt, backup: job, inspect, member, missing } = seen;
    let first = member.as_ref().and_then(|(stopped, member)| cold::next(pass, stopped, member, &job));
    let decision = first.map_or_else(|| open::decide_open(pass, attempt, job, inspect), Decision::from);
    match (cold::hold(pass, decision, missing), member) {
        (Decision { step: Step::Wait(waiting), .. }, Some((stopped, _))) => {
            Step::Wait(cold::watchful(stopped, waiting, pass.now)).into()
        }
        (decision, _) => decision,
    }
}

#[cfg(test)]
mod tests;
