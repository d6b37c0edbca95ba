//! From a restore, its status and the world to what is done next. Pure.
//!
//! | file | steps |
//! |---|---|
//! | [`check`] | Check |
//! | [`stage`] | Stage |
//! | [`stop`] | Stop, Carry |
//! | [`exchange`] | Swap |
//! | [`start`] | `StartFirst`, `StartAll` |
//! | [`finish`] | `CleanUp`, `Ended` |
//!
//! Everything of a step is done only after the status names the step. A step that fails, is late, or that somebody
//! calls off makes the restore turn back.

mod check;
mod exchange;
mod finish;
mod jobs;
mod moves;
mod stage;
mod start;
mod stop;

use super::status;
use super::step::{Action, Decision, Note, Obstacle, Refusal};
use super::validate::{RESTORE_FINALIZER, ValidRestore};
use super::world::World;
use crate::api::condition::Truth;
use crate::api::{Direction, Reason, RestorePhase, RestoreStatus, RestoreStep};
use crate::controller::pace::since;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// Between two looks while no member serves.
const SOON: Duration = Duration::from_secs(1);
/// From a refusal after the end to the next look.
const AFTER_THE_END: Duration = Duration::from_mins(1);
/// Between two looks while the database serves.
const LATER: Duration = Duration::from_secs(5);

/// What one pass decides about.
struct Pass<'a> {
    restore: &'a ValidRestore,
    world: &'a World,
    operator_image: &'a str,
    now: DateTime<Utc>,
}

/// What a step says.
enum Said {
    /// It waits for this.
    Wait(Obstacle),
    /// It makes these changes, and waits for this.
    Make(Vec<Action>, Obstacle),
    /// It has begun the next step; the status says which.
    Next,
    /// It cannot be done.
    Fail(Obstacle),
    /// The restore has ended.
    End(Truth, Reason, String),
    /// Nothing is left to be done; when to look again.
    Rest(Option<Duration>),
    /// It makes these changes, and what it tells stays as it is.
    Quietly(Vec<Action>),
}

/// Decides what is done next.
pub fn decide(
    restore: &ValidRestore,
    before: &RestoreStatus,
    world: &World,
    operator_image: &str,
    now: DateTime<Utc>,
) -> Result<Decision, serde_json::Error> {
    let pass = Pass { restore, world, operator_image, now };
    let mut status = status::begun(restore, before, now);
    if let Some(obstacle) = pass.turns(&status) {
        return Ok(pass.back(before, status, &obstacle));
    }
    let said = pass.step(&mut status)?;
    Ok(pass.decision(before, status, said))
}

/// What is told when an action was refused. `status` is the one that was recorded before the action.
pub fn refused(
    restore: &ValidRestore,
    status: &RestoreStatus,
    (refusal, message): (&Refusal, &str),
    now: DateTime<Utc>,
) -> Decision {
    if status.is_over() {
        // What was told at the end stays true.
        let status = status.clone();
        return Decision { status, actions: Vec::new(), notes: Vec::new(), look_again: Some(AFTER_THE_END) };
    }
    let mut status = status::begun(restore, status, now);
    let obstacle = match refusal {
        Refusal::LockHeld => {
            Obstacle::new(Reason::WaitingForLock, format!("{message} works on this cluster: the restore waits for it"))
        }
        Refusal::Refused(reason) => Obstacle::new(*reason, message),
    };
    status::tell(&mut status, &obstacle, now);
    Decision { status, actions: Vec::new(), notes: Vec::new(), look_again: Some(LATER) }
}

impl Pass<'_> {
    fn step(&self, status: &mut RestoreStatus) -> Result<Said, serde_json::Error> {
        Ok(match status.step {
            RestoreStep::Check => self.check(status)?,
            RestoreStep::Stage => self.stage(status)?,
            RestoreStep::Stop => self.stop(status),
            RestoreStep::Carry => self.carry(status)?,
            RestoreStep::Swap => self.exchange(status),
            RestoreStep::StartFirst => self.start_first(status),
            RestoreStep::StartAll => self.start_all(status),
            RestoreStep::CleanUp => self.clean_up(status),
            RestoreStep::Ended => self.ended(status),
        })
    }

    fn decision(&self, before: &RestoreStatus, mut status: RestoreStatus, said: Said) -> Decision {
        let (mut actions, mut look_again) = (Vec::new(), Some(Self::pace(&status)));
        match said {
            Said::Wait(obstacle) => self.tell(&mut status, &obstacle),
            Said::Make(made, obstacle) => {
                self.tell(&mut status, &obstacle);
                actions = made;
            }
            Said::Next => {
                let begins = begins(status.step, status.direction);
                self.tell(&mut status, &begins);
                look_again = Some(Duration::ZERO);
            }
            Said::Fail(obstacle) => return self.failed(before, status, &obstacle),
            Said::End(truth, reason, message) => {
                status::end(&mut status, self.now, (truth, reason), &message);
                status.phase = Some(Self::phase(&status));
                actions.push(Action::ReleaseLocks);
                look_again = Some(LATER);
            }
            Said::Rest(again) => look_again = again,
            Said::Quietly(made) => {
                // The lock is taken for what comes next: at once.
                let locks = made.iter().any(|action| matches!(action, Action::TakeLock(_) | Action::BreakLock(_)));
                look_again = if locks { Some(Duration::ZERO) } else { look_again };
                actions = made;
            }
        }
        let notes = Self::notes(before, &status);
        Decision { status, actions, notes, look_again }
    }

    fn tell(&self, status: &mut RestoreStatus, obstacle: &Obstacle) {
        status.phase = Some(match self.is_held(status) {
            true => RestorePhase::Held,
            false if obstacle.reason == Reason::WaitingForApproval => RestorePhase::WaitingForApproval,
            false => Self::phase(status),
        });
        status::tell(status, obstacle, self.now);
    }

    fn phase(status: &RestoreStatus) -> RestorePhase {
        let failed =
            status.direction == Direction::Forward && status.step == RestoreStep::Ended && status.cause.is_some();
        if failed { RestorePhase::Failed } else { status::phase(status.step, status.direction) }
    }

    const fn pace(status: &RestoreStatus) -> Duration {
        match status.step {
            RestoreStep::Check | RestoreStep::Stage | RestoreStep::Ended => LATER,
            _ => SOON,
        }
    }

    /// Why a restore that goes forward turns back now, if somebody calls it off or a step is late.
    fn turns(&self, status: &RestoreStatus) -> Option<Obstacle> {
        if status.direction == Direction::Back || status.step == RestoreStep::Ended {
            return None;
        }
        if self.restore.is_deleted {
            return Some(Obstacle::new(Reason::CalledOff, "the Restore was deleted before it had ended"));
        }
        if self.restore.roll_back.is_some() && status.step > RestoreStep::Check {
            return Some(Obstacle::new(
                Reason::CalledOff,
                "the annotation graphbackup.dev/roll-back asks for the original volumes",
            ));
        }
        let gives_up = self.restore.rolls_back || status.step == RestoreStep::Check;
        (self.is_late(status) && gives_up).then(|| self.late(status))
    }

    fn is_late(&self, status: &RestoreStatus) -> bool {
        let began = status.step_time.unwrap_or(self.now);
        since(began, self.now) > self.limit(status.step)
    }

    /// A step that failed or is late stays where it is.
    fn is_held(&self, status: &RestoreStatus) -> bool {
        !self.restore.rolls_back
            && status.direction == Direction::Forward
            && status.step > RestoreStep::Check
            && status.step < RestoreStep::CleanUp
            && self.is_late(status)
    }

    fn limit(&self, step: RestoreStep) -> Duration {
        let limits = &self.restore.deadlines;
        match step {
            RestoreStep::Check => limits.wait_for_backup,
            RestoreStep::Stage => limits.stage,
            RestoreStep::Stop | RestoreStep::Carry | RestoreStep::Swap => limits.stop,
            RestoreStep::StartFirst => limits.start,
            RestoreStep::StartAll => limits.prove,
            RestoreStep::CleanUp | RestoreStep::Ended => Duration::MAX,
        }
    }

    /// Time ran out: the reason stays the one that held the step up.
    fn late(&self, status: &RestoreStatus) -> Obstacle {
        let told = status.conditions.iter().find(|condition| condition.type_ == crate::api::condition::SUCCEEDED);
        let reason = told.and_then(|told| crate::backup::step::parse_reason(&told.reason));
        let words = told.map(|told| told.message.as_str()).unwrap_or_default();
        let seconds = self.limit(status.step).as_secs();
        Obstacle::new(
            reason.unwrap_or(Reason::DeadlineExceeded),
            format!("step {:?} was not done within {seconds} s: {words}", status.step),
        )
    }

    fn failed(&self, before: &RestoreStatus, status: RestoreStatus, obstacle: &Obstacle) -> Decision {
        if status.direction == Direction::Back && self.restore.is_deleted && obstacle.reason == Reason::WorkloadMissing
        {
            // There is nobody to give the volumes to: they stay on Retain, with annotations that name their data.
            let said = Said::End(Truth::False, obstacle.reason, obstacle.message.clone());
            return self.decision(before, status, said);
        }
        if status.direction == Direction::Back || (status.step > RestoreStep::Check && !self.restore.rolls_back) {
            let mut status = status;
            status.phase = Some(RestorePhase::Held);
            status::tell(&mut status, obstacle, self.now);
            let notes = Self::notes(before, &status);
            return Decision { status, actions: Vec::new(), notes, look_again: Some(LATER) };
        }
        self.back(before, status, obstacle)
    }

    /// Turns back, or ends where nothing has been changed yet.
    fn back(&self, before: &RestoreStatus, mut status: RestoreStatus, obstacle: &Obstacle) -> Decision {
        status::because(&mut status, obstacle);
        if status.step == RestoreStep::Check {
            status::end(&mut status, self.now, (Truth::False, obstacle.reason), &obstacle.message);
            status.phase = Some(RestorePhase::Failed);
            let actions = vec![Action::ReleaseLocks];
            let notes = Self::notes(before, &status);
            return Decision { status, actions, notes, look_again: Some(Duration::ZERO) };
        }
        status.direction = Direction::Back;
        let nobody_stopped =
            status.step == RestoreStep::Stage || (status.step == RestoreStep::Stop && status.downtime.is_none());
        let step = if nobody_stopped { RestoreStep::CleanUp } else { RestoreStep::Stop };
        status::begin(&mut status, step, self.now);
        self.tell(&mut status, &Obstacle::new(Reason::RollingBack, obstacle.message.clone()));
        let notes = Self::notes(before, &status);
        Decision { status, actions: Vec::new(), notes, look_again: Some(Duration::ZERO) }
    }

    /// An Event for each change of the phase.
    fn notes(before: &RestoreStatus, status: &RestoreStatus) -> Vec<Note> {
        if before.phase == status.phase || status.phase.is_none() {
            return Vec::new();
        }
        let told = status.conditions.iter().find(|condition| condition.type_ == crate::api::condition::SUCCEEDED);
        let Some((told, phase)) = told.zip(status.phase) else { return Vec::new() };
        let reason = crate::backup::step::parse_reason(&told.reason).unwrap_or(Reason::Pending);
        let bad = matches!(
            phase,
            RestorePhase::Failed | RestorePhase::RollingBack | RestorePhase::RolledBack | RestorePhase::Held
        );
        let severity = if bad { "Warning" } else { "Normal" };
        let turn = format!("{phase:?}.{}", status.step_time.unwrap_or_default().timestamp()).to_lowercase();
        vec![Note { severity, reason, text: told.message.clone(), turn }]
    }

    fn finalizers(&self, with_ours: bool) -> Action {
        let others = self.restore.other_finalizers().into_iter();
        Action::SetFinalizers(others.chain(with_ours.then(|| RESTORE_FINALIZER.to_owned())).collect())
    }
}

/// What is told at the beginning of a step.
fn begins(step: RestoreStep, direction: Direction) -> Obstacle {
    let (reason, message) = match (direction, step) {
        (Direction::Back, _) => (Reason::RollingBack, "the original volumes are being put back"),
        (_, RestoreStep::Check) => (Reason::Pending, "the operator checks whether the restore can be done"),
        (_, RestoreStep::Stage) => (Reason::Staging, "new volumes are written while the database serves"),
        (_, RestoreStep::Stop) => (Reason::StoppingMembers, "all members are being stopped"),
        (_, RestoreStep::Carry) => (Reason::Swapping, "files outside the store are copied to the new volumes"),
        (_, RestoreStep::Swap) => (Reason::Swapping, "the volumes are being exchanged"),
        (_, RestoreStep::StartFirst) => (Reason::StartingMembers, "the first member starts with the restored store"),
        (_, RestoreStep::StartAll) => (Reason::Proving, "the other members start and copy the restored store"),
        (_, RestoreStep::CleanUp | RestoreStep::Ended) => (Reason::Proving, "every member serves the restored store"),
    };
    Obstacle::new(reason, message)
}

#[cfg(test)]
mod tests;
