//! What becomes of an object that is deleted: a member that it stopped is started, with `deletionPolicy: Delete` its
//! files are removed, then the object goes. Pure.

use super::cold;
use super::wait;
use crate::api::{DeletionPolicy, Reason};
use crate::backup::step::{Note, Pass, Removal, Step};
use crate::backup::world::{DeletionView, Remains};
use crate::contract::task::Task;
use crate::contract::verdict::Verdict;
use crate::controller::job::{JobRef, JobState, PodStart};
use crate::controller::pace::since;
use crate::members::replicas::put_back;
use std::time::Duration;

/// From the creation of a Job that failed to remove the files to the next one.
pub const PRUNE_AGAIN: Duration = Duration::from_mins(1);
/// Longest time between two looks at a Job that removes the files.
const LOOK_WHILE_PRUNING: Duration = Duration::from_mins(10);

/// The next step of the removal of a deleted object.
pub(super) fn next(pass: &Pass<'_>, view: DeletionView) -> Step {
    let remains = match view {
        DeletionView::NamespaceTerminating => return release(None),
        DeletionView::Remains(_) if pass.backup.places(pass.status).is_empty() => return release(None),
        DeletionView::Remains(remains) => *remains,
    };
    if let Some(job) = remains.working.first() {
        // It may have published after the files were removed: they are removed again. The Job that removed them goes
        // first, so that its verdict does not outlive the one that it says nothing about.
        return Step::Remove(Removal::StopJob(removes(&remains).unwrap_or(job).clone()));
    }
    if let Some(to) = remains.member.as_ref().and_then(|(stopped, seen)| put_back(stopped, seen)) {
        if remains.registered && since(remains.deleted, pass.now) < cold::RELEASE_WAIT {
            return Step::Remove(Removal::Wait(wait::LOOK.0));
        }
        return Step::Remove(Removal::StartMember(to));
    }
    match pass.backup.deletion_policy {
        DeletionPolicy::Retain => release(None),
        DeletionPolicy::Delete => remove_files(pass, remains),
    }
}

/// The Job that removes the files, if it is ours and nobody has deleted it yet.
fn removes(remains: &Remains) -> Option<&JobRef> {
    let is_foreign = matches!(remains.prune, JobState::Foreign);
    remains.prune_job.as_ref().filter(|_| !is_foreign && !remains.prune_terminating).map(|(job, _)| job)
}

const fn release(note: Option<Note>) -> Step {
    Step::Remove(Removal::Release(note))
}

fn remove_files(pass: &Pass<'_>, remains: Remains) -> Step {
    if !remains.claim {
        return release(Some(Note {
            reason: Reason::TargetClaimMissing,
            message: format!(
                "PersistentVolumeClaim {} no longer exists: if its volume was kept, the files on it stay",
                pass.backup.target.claim_name
            ),
        }));
    }
    if remains.prune_terminating {
        // It says nothing any more about what was written since.
        return Step::Remove(Removal::Wait(wait::LOOK.1));
    }
    let age = remains.prune_job.as_ref().map(|(_, created)| since(*created, pass.now));
    let failed = |reason, message: String| Removal::Failed {
        note: Note {
            reason,
            message: format!(
                "{message}; the operator tries again. To release the object and keep what is left of its files, set \
                 spec.deletionPolicy to Retain"
            ),
        },
        job: remains
            .prune_job
            .as_ref()
            .map(|(job, _)| job.clone())
            .filter(|_| age.is_some_and(|age| age >= PRUNE_AGAIN)),
    };
    Step::Remove(match remains.prune {
        JobState::Absent => Removal::Prune,
        JobState::Active { start: PodStart::Started | PodStart::Unseen, .. } => Removal::Wait(LOOK_WHILE_PRUNING),
        JobState::Active { .. } => match age.and_then(|age| pass.backup.pod_start_deadline.checked_sub(age)) {
            Some(left) if !left.is_zero() => Removal::Wait(left),
            _ => failed(
                Reason::PodCannotStart,
                format!("the pod of the {} Job did not start within deadlines.podStart", Task::Prune.word()),
            ),
        },
        JobState::Ended { verdict: Some(Verdict::Pruned), .. } => return release(None),
        JobState::Ended { verdict: Some(Verdict::Failed(failure)), .. } => failed(failure.reason, failure.message),
        JobState::Ended { .. } => {
            failed(Reason::JobLost, "the Job that removes the files ended without a verdict".to_owned())
        }
        JobState::Foreign => failed(
            Reason::JobRefused,
            "a foreign Job has the name of the one that would remove the files: delete it".to_owned(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GraphBackup, GraphBackupStatus};
    use crate::backup::request::Request;
    use crate::backup::testing::{at, backup, drilled, ended, job};
    use crate::backup::world::World;
    use crate::contract::failure::Failure;
    use serde_json::json;

    fn step(object: &GraphBackup, view: DeletionView, second: i64) -> Step {
        let status = object.status.clone().unwrap_or_default();
        let backup = crate::backup::validate::validate(object).unwrap();
        let request = Request::Removal(Box::new(backup));
        crate::backup::decide::decide(&request, &status, World::Deleted(view), at(second)).step
    }

    fn remains(prune: JobState) -> Remains {
        let prune_job = (!matches!(prune, JobState::Absent)).then(|| (job("nightly-1a2b3-p"), at(0)));
        Remains {
            deleted: at(0),
            working: Vec::new(),
            member: None,
            registered: false,
            claim: true,
            prune,
            prune_job,
            prune_terminating: false,
        }
    }

    fn decided(remains: Remains, second: i64) -> Step {
        let object = backup().spec("deletionPolicy", "Delete").attempted().object();
        step(&object, DeletionView::Remains(Box::new(remains)), second)
    }

    #[test]
    fn what_could_still_write_is_stopped_before_anything_is_removed() {
        let working = vec![job("nightly-1a2b3-1")];
        let remains = Remains { working, ..remains(JobState::Absent) };
        assert_eq!(decided(remains, 0), Step::Remove(Removal::StopJob(job("nightly-1a2b3-1"))));
    }

    #[test]
    fn a_job_that_a_leader_before_created_late_voids_the_removal() {
        let late = |prune| Remains { working: vec![job("nightly-1a2b3-1")], ..remains(prune) };
        let stops = |prune| decided(late(prune), 9);
        assert_eq!(stops(ended(Verdict::Pruned)), Step::Remove(Removal::StopJob(job("nightly-1a2b3-p"))));
        assert_eq!(stops(JobState::Foreign), Step::Remove(Removal::StopJob(job("nightly-1a2b3-1"))));
        // A Job that is on its way out neither shields the other one nor speaks for what that one wrote.
        let terminating = |working| Remains { working, prune_terminating: true, ..remains(ended(Verdict::Pruned)) };
        let stops = decided(terminating(vec![job("nightly-1a2b3-1")]), 9);
        assert_eq!(stops, Step::Remove(Removal::StopJob(job("nightly-1a2b3-1"))));
        assert_eq!(decided(terminating(Vec::new()), 9), Step::Remove(Removal::Wait(wait::LOOK.1)));
    }

    #[test]
    fn the_object_goes_when_its_files_are_gone() {
        assert_eq!(decided(remains(JobState::Absent), 0), Step::Remove(Removal::Prune));
        assert_eq!(decided(remains(ended(Verdict::Pruned)), 9), release(None));
        let never = backup().spec("deletionPolicy", "Delete").status(json!({})).object();
        let view = DeletionView::Remains(Box::new(remains(JobState::Absent)));
        assert_eq!(step(&never, view, 0), release(None));
        assert_eq!(never.status, Some(GraphBackupStatus::default()));
    }

    #[test]
    fn in_a_namespace_that_goes_away_nothing_is_created() {
        let object = backup().spec("deletionPolicy", "Delete").attempted().object();
        assert_eq!(step(&object, DeletionView::NamespaceTerminating, 0), release(None));
    }

    #[test]
    fn a_volume_that_is_gone_for_good_does_not_hold_the_object() {
        let gone = Remains { claim: false, ..remains(JobState::Absent) };
        let Step::Remove(Removal::Release(Some(note))) = decided(gone, 0) else { panic!() };
        assert!(note.message.contains("backups"), "{note:?}");
    }

    #[test]
    fn a_failure_is_said_and_tried_again_after_a_minute() {
        let failure = Failure { reason: Reason::TargetLocked, message: "held".into() };
        let of = |second| match decided(remains(ended(Verdict::Failed(failure.clone()))), second) {
            Step::Remove(Removal::Failed { note, job }) => (note, job),
            step => panic!("{step:?}"),
        };
        let (note, job) = of(59);
        assert_eq!((note.reason, job), (Reason::TargetLocked, None));
        assert!(note.message.contains("Retain"), "{note:?}");
        assert!(of(60).1.is_some());
        for other in [None, Some(Verdict::Ready), Some(drilled())] {
            let Step::Remove(Removal::Failed { note, .. }) = decided(remains(ended(other)), 5) else { panic!() };
            assert_eq!(note.reason, Reason::JobLost);
        }
    }
}
