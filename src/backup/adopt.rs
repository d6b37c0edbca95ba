//! Making a point that is on the volume already the point of an object: nothing is copied. Pure.

use super::decide::{Ending, Pass, Step, Waiting, claim_missing, deadline_left, decide_active, is_digest, look_again};
use super::validate::ValidBackup;
use super::world::{Adoption, JobState};
use crate::agent::verdict::{Published, Verdict};
use crate::api::names::adopt_job;
use crate::api::{Reason, StoreId};
use std::time::Duration;

/// The next step of an object that adopts a point of the store.
pub(super) fn next(pass: &Pass<'_>, store: StoreId, seen: Adoption) -> Step {
    let fail = |reason, message: String| Step::Fail(Ending::new(reason, message));
    let Some(left) = deadline_left(pass.backup, pass.status, pass.now) else {
        return fail(
            Reason::DeadlineExceeded,
            "the point was not read within deadlines.run: raise it in a new GraphBackup".to_owned(),
        );
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
    match seen.job {
        JobState::Absent => Step::Adopt(store),
        JobState::Active { job, created, start } => match decide_active(pass, &job, created, start) {
            Step::Wait(Waiting { look_again, .. }) => Step::Wait(Waiting { look_again, ..reading(pass.backup) }),
            Step::CloseAttempt(ending) => Step::Fail(ending),
            step => step,
        },
        JobState::Ended { verdict: Some(Verdict::Published(point)), .. } => judge(store, point),
        JobState::Ended { verdict: Some(Verdict::Failed(failure)), .. } => fail(failure.reason, failure.message),
        JobState::Ended { .. } => fail(
            Reason::JobLost,
            "the Job that reads the point ended without a verdict: create a new GraphBackup".to_owned(),
        ),
        JobState::Foreign => fail(
            Reason::JobRefused,
            "a foreign Job has the name of the one that reads the point: delete it and create a new GraphBackup"
                .to_owned(),
        ),
    }
}

/// What stands on the object while its point is read.
pub fn reading(backup: &ValidBackup) -> Waiting {
    let owner = &backup.owner;
    Waiting {
        reason: Reason::Running,
        message: format!("Job {} reads the point back", adopt_job(&owner.name, &owner.uid)),
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
