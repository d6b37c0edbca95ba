//! Making a point that is on the volume already the point of an object: nothing is copied. Pure.

use crate::api::names::adopt_job;
use crate::api::{Inspection, Reason, StoreId};
use crate::backup::decide::inspection::{self, Next};
use crate::backup::decide::{asking, claim_missing, is_digest};
use crate::backup::step::{Ending, Pass, Step, Waiting, deadline_left, look_again};
use crate::backup::world::Adoption;
use crate::contract::verdict::Published;
use std::time::Duration;

/// The next step of an object that adopts a point of the store.
pub(super) fn next(pass: &Pass<'_>, store: StoreId, seen: Adoption) -> Step {
    let fail = |reason, message: String| Step::Fail(Ending::new(reason, message));
    let Some(left) = deadline_left(pass.backup, pass.status, pass.now) else {
        return fail(
            Reason::DeadlineExceeded,
            "the point was not read within deadlines.run: raise it in a new GraphBackup".to_owned(),
        )
        .after_deleting(seen.job.at_work());
    };
    if let Some(other) = seen.taken_by {
        return fail(
            Reason::PointTaken,
            format!("the point is that of GraphBackup {other}: one object for each point"),
        );
    }
    if !seen.claim {
        let look_again = look_again(pass.status, pass.now).min(left + Duration::from_secs(1));
        return Step::Wait(claim_missing(pass.backup, look_again));
    }
    let owner = &pass.backup.owner;
    let name = |number| adopt_job(&owner.name, &owner.uid, number);
    let asked = pass.status.adoption.as_ref();
    match inspection::next(pass, asked, name, None, seen.job) {
        Next::Ask(reading) => Step::Adopt(store, reading),
        Next::Unanswered(reading, job) => Step::Unanswered(reading, job),
        Next::Wait(look_again) => {
            let waiting = asked.map_or_else(|| claim_missing(pass.backup, left), reading);
            Step::Wait(Waiting { look_again: look_again.min(left + Duration::from_secs(1)), ..waiting })
        }
        Next::Point(point, lingering) => judge(store, point).after_deleting(lingering),
        Next::Nothing(failure, lingering) => fail(failure.reason, failure.message).after_deleting(lingering),
        Next::GiveUp(why, lingering) => {
            fail(Reason::JobLost, format!("the point could not be read: {why}; create a new GraphBackup"))
                .after_deleting(lingering)
        }
    }
}

/// What stands on the object while its point is read.
pub fn reading(adoption: &Inspection) -> Waiting {
    Waiting {
        reason: Reason::Running,
        message: asking(adoption, "reads the point back"),
        look_again: Duration::from_mins(1),
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
