//! What becomes of an object that is deleted: a member that it stopped is started, with `deletionPolicy: Delete` its files
//! are removed, then the object goes. Pure.

use crate::api::{DeletionPolicy, GraphBackup, GraphBackupStatus, Method, Reason};
use crate::backup::decide::cold;
use crate::backup::validate::ValidBackup;
use crate::backup::world::{JobRef, JobState, MemberState, PodStart, ScaleTo};
use crate::contract::task::Place;
use crate::contract::task::Task;
use crate::contract::verdict::Verdict;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::time::Duration;

/// Keeps a deleted object until its files are removed.
pub const FILES_FINALIZER: &str = "graphbackup.dev/files";
/// Keeps a deleted object until the member that it stopped is started.
pub const MEMBER_FINALIZER: &str = "graphbackup.dev/member";

/// From the creation of a Job that failed to remove the files to the next one.
pub const PRUNE_AGAIN: Duration = Duration::from_mins(1);
/// Longest time between two looks at a Job that removes the files.
const LOOK_WHILE_PRUNING: Duration = Duration::from_mins(10);

fn is_ours(finalizer: &str) -> bool {
    [FILES_FINALIZER, MEMBER_FINALIZER].contains(&finalizer)
}

/// Whether the object carries a finalizer of ours.
pub fn has_finalizer(object: &GraphBackup) -> bool {
    object.metadata.finalizers.iter().flatten().any(|finalizer| is_ours(finalizer))
}

/// The finalizers of others.
pub fn other_finalizers(object: &GraphBackup) -> Vec<String> {
    object.metadata.finalizers.iter().flatten().filter(|name| !is_ours(name)).cloned().collect()
}

/// The finalizers that the object should have, where they differ from those it has.
///
/// That of the files is set before the first file can exist, and follows `deletionPolicy` when that changes; an object that
/// ended without an attempt has no files. That of the member is there as long as a cold backup is at work.
pub fn change_of_finalizers(object: &GraphBackup, over: bool) -> Option<Vec<String>> {
    let without_files =
        over && object.status.as_ref().is_none_or(|status| status.attempts.is_empty() && status.point.is_none());
    let wanted = [
        (FILES_FINALIZER, object.spec.deletion_policy == DeletionPolicy::Delete && !without_files),
        (MEMBER_FINALIZER, object.spec.method == Method::Cold && !over),
    ];
    let has = |name: &str| object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    if wanted.iter().all(|(name, wanted)| has(name) == *wanted) {
        return None;
    }
    let ours = wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (*name).to_owned());
    Some(other_finalizers(object).into_iter().chain(ours).collect())
}

/// Whether a deleted object may go without a further look.
pub fn may_go(object: &GraphBackup, status: &GraphBackupStatus) -> bool {
    object.spec.deletion_policy == DeletionPolicy::Retain && status.attempts.last().and_then(cold::away).is_none()
}

/// Where files of the object may be: its attempts may have found different stores.
pub fn places(backup: &ValidBackup, status: &GraphBackupStatus) -> Vec<Place> {
    let found = status.attempts.iter().map(|attempt| attempt.store_id);
    let stores: BTreeSet<_> = found.chain(status.point.iter().map(|point| point.store_id)).collect();
    stores.into_iter().map(|store| backup.place(store)).collect()
}

/// What one pass over a deleted object sees.
#[derive(Debug)]
pub struct Remains {
    /// Jobs of the object that work and could still write.
    pub at_work: Vec<JobRef>,
    /// The member that the newest attempt stopped, if its replicas are not put back yet.
    pub member: Option<MemberState>,
    /// Whether that member is still registered in ZooKeeper, as far as can be told.
    pub registered: bool,
    /// Whether the target claim exists.
    pub claim: bool,
    /// The Job that removes the files.
    pub prune: JobState,
    /// When that Job was created, and what it is.
    pub prune_job: Option<(JobRef, DateTime<Utc>)>,
}

/// What to do next with a deleted object, as data.
#[derive(Debug, PartialEq)]
pub enum Removal {
    /// Let the object go. The text says why, when files may be left.
    LetGo(Option<String>),
    /// Stop a Job that could still write.
    Stop(JobRef),
    /// Put the replicas of the stopped member back.
    StartMember(ScaleTo),
    /// Create the Job that removes the files.
    Prune,
    /// Say that the files could not be removed, then wait or try again.
    Failed {
        /// Typed reason.
        reason: Reason,
        /// What happened and what to do.
        message: String,
        /// The Job that failed, once it is to make room for the next one.
        job: Option<JobRef>,
    },
    /// Look again after this time, if nothing happens before.
    Wait(Duration),
}

/// Decides the next step of a removal.
pub fn decide_removal(
    backup: &ValidBackup,
    policy: DeletionPolicy,
    status: &GraphBackupStatus,
    remains: Remains,
    deleted: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Removal {
    if places(backup, status).is_empty() {
        return Removal::LetGo(None);
    }
    if let Some(job) = remains.at_work.into_iter().next() {
        return Removal::Stop(job);
    }
    let stopped = status.attempts.last().and_then(cold::away);
    if let Some(to) = stopped.zip(remains.member.as_ref()).and_then(|(stopped, seen)| cold::put_back(stopped, seen)) {
        let waited = (now - deleted).to_std().unwrap_or_default();
        if remains.registered && waited < cold::RELEASE_WAIT {
            return Removal::Wait(cold::LOOK.0);
        }
        return Removal::StartMember(to);
    }
    if policy == DeletionPolicy::Retain {
        return Removal::LetGo(None);
    }
    if !remains.claim {
        return Removal::LetGo(Some(format!(
            "PersistentVolumeClaim {} does not exist any more: files on its volume, if that was kept, stay",
            backup.target.claim_name
        )));
    }
    let age = remains.prune_job.as_ref().map(|(_, created)| (now - *created).to_std().unwrap_or_default());
    let failed = |reason, message: String| Removal::Failed {
        reason,
        message: format!(
            "{message}; it is tried again. To let the object go and keep what is left of its files, set \
             spec.deletionPolicy to Retain"
        ),
        job: remains
            .prune_job
            .as_ref()
            .map(|(job, _)| job.clone())
            .filter(|_| age.is_some_and(|age| age >= PRUNE_AGAIN)),
    };
    match remains.prune {
        JobState::Absent => Removal::Prune,
        JobState::Active { start: PodStart::Started | PodStart::Unseen, .. } => Removal::Wait(LOOK_WHILE_PRUNING),
        JobState::Active { .. } => match age.and_then(|age| backup.pod_start_deadline.checked_sub(age)) {
            Some(left) if !left.is_zero() => Removal::Wait(left),
            _ => failed(
                Reason::PodCannotStart,
                format!("the pod of the {} Job did not start within deadlines.podStart", Task::Prune.word()),
            ),
        },
        JobState::Ended { verdict: Some(Verdict::Pruned), .. } => Removal::LetGo(None),
        JobState::Ended { verdict: Some(Verdict::Failed(failure)), .. } => failed(failure.reason, failure.message),
        JobState::Ended { .. } => {
            failed(Reason::JobLost, "the Job that removes the files ended without a verdict".to_owned())
        }
        JobState::Foreign => failed(
            Reason::JobRefused,
            "a foreign Job has the name of the one that would remove the files: delete it".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::validate::validate;
    use crate::contract::failure::Failure;
    use serde_json::{Value, json};

    fn object(policy: &str, finalizers: &[&str], status: &Value) -> GraphBackup {
        serde_json::from_value(json!({
            "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
            "metadata": {"name": "nightly", "namespace": "graph", "uid": "1a2b3c4d-0000", "generation": 1,
                         "resourceVersion": "7", "creationTimestamp": "2026-11-24T06:00:00Z", "finalizers": finalizers},
            "spec": {"source": {"uri": "single://db"}, "target": {"claimName": "backups"}, "tool": {"image": "i"},
                     "deletionPolicy": policy},
            "status": status,
        }))
        .unwrap()
    }

    fn attempted() -> Value {
        json!({"attempts": [{"number": 1, "job": "j", "startTime": "2026-11-24T06:00:00Z",
            "storeId": "0000000000000001-0000000000000002",
            "mastership": {"probe": {"endpoint": {"host": "db", "port": 6362}, "storeId": "0000000000000001-0000000000000002"}}}]})
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_500_000 + seconds, 0).unwrap()
    }

    fn job() -> JobRef {
        JobRef { name: "nightly-1a2b3-p".into(), uid: "job-uid".into() }
    }

    fn ended(verdict: Option<Verdict>) -> JobState {
        JobState::Ended { deadline_exceeded: false, pod_uid: None, verdict, out_of_memory: None, lingering: None }
    }

    fn remains(prune: JobState) -> Remains {
        let prune_job = (!matches!(prune, JobState::Absent)).then(|| (job(), at(0)));
        Remains { at_work: Vec::new(), member: None, registered: false, claim: true, prune, prune_job }
    }

    fn decided(remains: Remains, second: i64) -> Removal {
        let object = object("Delete", &[FILES_FINALIZER], &attempted());
        let (backup, status) = (validate(&object).unwrap(), object.status.as_ref().unwrap());
        decide_removal(&backup, DeletionPolicy::Delete, status, remains, at(0), at(second))
    }

    #[test]
    fn the_finalizer_follows_the_policy_and_leaves_others_alone() {
        let change = |policy, finalizers: &[&str], status, over| {
            change_of_finalizers(&object(policy, finalizers, &status), over)
        };
        let both = Some(vec!["other".to_owned(), FILES_FINALIZER.to_owned()]);
        assert_eq!(change("Delete", &["other"], json!({}), false), both);
        assert_eq!(change("Delete", &["other"], attempted(), true), both);
        assert_eq!(change("Delete", &[FILES_FINALIZER], attempted(), true), None);
        assert_eq!(change("Retain", &["other", FILES_FINALIZER], attempted(), true), Some(vec!["other".to_owned()]));
        assert_eq!(change("Retain", &[], attempted(), true), None);
        // Over, and nothing was ever written.
        assert_eq!(change("Delete", &[], json!({}), true), None);
        assert_eq!(change("Delete", &[FILES_FINALIZER], json!({}), true), Some(vec![]));
    }

    #[test]
    fn what_could_still_write_is_stopped_before_anything_is_removed() {
        let remains = Remains { at_work: vec![job()], ..remains(JobState::Absent) };
        assert_eq!(decided(remains, 0), Removal::Stop(job()));
    }

    #[test]
    fn the_object_goes_when_its_files_are_gone() {
        assert_eq!(decided(remains(JobState::Absent), 0), Removal::Prune);
        assert_eq!(decided(remains(ended(Some(Verdict::Pruned))), 9), Removal::LetGo(None));
        let never = object("Delete", &[FILES_FINALIZER], &json!({}));
        let backup = validate(&never).unwrap();
        let removal = decide_removal(
            &backup,
            DeletionPolicy::Delete,
            never.status.as_ref().unwrap(),
            remains(JobState::Absent),
            at(0),
            at(0),
        );
        assert_eq!(removal, Removal::LetGo(None));
    }

    #[test]
    fn a_volume_that_is_gone_for_good_does_not_hold_the_object() {
        let gone = Remains { claim: false, ..remains(JobState::Absent) };
        let Removal::LetGo(Some(why)) = decided(gone, 0) else { panic!() };
        assert!(why.contains("backups"), "{why}");
    }

    #[test]
    fn a_failure_is_said_and_tried_again_after_a_minute() {
        let failure = Failure { reason: Reason::TargetLocked, message: "held".into() };
        let of = |second| decided(remains(ended(Some(Verdict::Failed(failure.clone())))), second);
        let Removal::Failed { reason, message, job: None } = of(59) else { panic!() };
        assert_eq!(reason, Reason::TargetLocked);
        assert!(message.contains("Retain"), "{message}");
        assert!(matches!(of(60), Removal::Failed { job: Some(_), .. }));
        assert!(matches!(decided(remains(ended(None)), 5), Removal::Failed { reason: Reason::JobLost, .. }));
    }
}
