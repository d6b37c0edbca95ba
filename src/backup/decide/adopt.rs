//! Making a point that is on the volume already the point of an object: nothing is copied. Pure.

use super::inspection::{self, Next};
use super::open::is_digest;
use super::wait::{claim_missing, reading};
use crate::api::names::adopt_job;
use crate::api::{Reason, StoreId};
use crate::backup::step::{Decision, Ending, Pass, Step, Waiting, deadline_left, look_again};
use crate::backup::world::Adoption;
use crate::contract::verdict::Published;
use crate::controller::pace::since;
use std::time::Duration;

/// Points of one claim that are read back at the same time; further objects wait for their turn.
pub const ADOPTIONS_MAX: usize = 4;

/// The next step of an object that adopts a point of the store.
pub(super) fn next(pass: &Pass<'_>, store: StoreId, seen: Adoption) -> Decision {
    let fail = |reason, message: String| Step::Fail(Ending::new(reason, message));
    let asked = pass.status.adoption.as_ref();
    let Some(left) = time_left(pass, &seen) else {
        return fail(
            Reason::DeadlineExceeded,
            "the point was not read within deadlines.run: raise it in a new GraphBackup".to_owned(),
        )
        .after_deleting(seen.job.working());
    };
    if let Some(other) = seen.taken_by {
        let message = format!("the point already belongs to GraphBackup {other}; each point has exactly one object");
        return fail(Reason::PointTaken, message).into();
    }
    let again = look_again(pass.status, pass.now);
    if !seen.claim {
        return Step::Wait(claim_missing(pass.backup, again.min(left + Duration::from_secs(1)))).into();
    }
    if asked.is_none() && seen.ahead >= ADOPTIONS_MAX {
        return Step::Wait(Waiting {
            reason: Reason::WaitingForTurn,
            message: format!("{ADOPTIONS_MAX} other points on the same claim are read back first"),
            look_again: again,
        })
        .into();
    }
    let owner = &pass.backup.owner;
    let name = |number| adopt_job(&owner.name, &owner.uid, number);
    match inspection::next(pass, asked, name, None, seen.job) {
        Next::Ask(reading) => Step::Adopt(store, reading).into(),
        Next::Unanswered(reading, job) => Step::Unanswered(reading, job).into(),
        Next::Wait(look_again) => {
            let waiting = asked.map_or_else(|| claim_missing(pass.backup, left), reading);
            Step::Wait(Waiting { look_again: look_again.min(left + Duration::from_secs(1)), ..waiting }).into()
        }
        Next::Point(point, lingering) => judge(store, point).after_deleting(lingering),
        Next::Nothing(failure, lingering) => fail(failure.reason, failure.message).after_deleting(lingering),
        Next::GiveUp(why, lingering) => {
            fail(Reason::JobLost, format!("the point could not be read: {why}; create a new GraphBackup"))
                .after_deleting(lingering)
        }
    }
}

/// Time until the point has to be read. It runs while the claim is missing and while the point is read, not while other
/// points are read first.
fn time_left(pass: &Pass<'_>, seen: &Adoption) -> Option<Duration> {
    match &pass.status.adoption {
        Some(reading) => {
            let left = pass.backup.run_deadline.checked_sub(since(reading.start_time, pass.now));
            left.filter(|left| !left.is_zero())
        }
        None if seen.claim => Some(pass.backup.run_deadline),
        None => deadline_left(pass.backup, pass.status, pass.now),
    }
}

fn judge(store: StoreId, point: Box<Published>) -> Step {
    let fail = |reason, message: String| Step::Fail(Ending::new(reason, message));
    if !is_digest(&point.manifest_digest) {
        return fail(
            Reason::ManifestMissing,
            "the agent reported a point without the digest of its manifest".to_owned(),
        );
    }
    if point.store_id != store {
        return fail(Reason::StoreMismatch, format!("the point is of store {}, not {store}", point.store_id));
    }
    Step::Succeed(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GraphBackupStatus;
    use crate::backup::testing::{STORE, at, backup};
    use crate::backup::validate::ValidBackup;
    use crate::controller::job::JobState;

    fn adopts() -> ValidBackup {
        backup().spec("type", "Full").spec("adopt", format!("{STORE}/20261124T060000Z-a-1a2b3c4d")).valid()
    }

    fn decided(ahead: usize, claim: bool, second: i64) -> Step {
        let status = GraphBackupStatus { start_time: Some(at(0)), ..GraphBackupStatus::default() };
        let backup = adopts();
        let pass = Pass { backup: &backup, status: &status, now: at(second) };
        next(&pass, STORE, Adoption { claim, taken_by: None, ahead, job: JobState::Absent }).step
    }

    #[test]
    fn points_are_read_back_a_few_at_a_time_and_those_that_wait_lose_no_time() {
        assert!(matches!(decided(ADOPTIONS_MAX - 1, true, 1), Step::Adopt(..)));
        for second in [1, 100_000] {
            let Step::Wait(waiting) = decided(ADOPTIONS_MAX, true, second) else { panic!() };
            assert_eq!(waiting.reason, Reason::WaitingForTurn);
        }
        assert!(matches!(decided(0, true, 100_000), Step::Adopt(..)), "its turn came late");
        assert!(matches!(decided(0, false, 100_000), Step::Fail(Ending { reason: Reason::DeadlineExceeded, .. })));
    }
}
