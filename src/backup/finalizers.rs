//! The finalizers of a backup: which ones an object needs, and when a deleted object may be released. Pure.

use crate::api::names::{PRUNE_ANNOTATION, SCHEDULE_UID_LABEL};
use crate::api::{Attempt, DeletionPolicy, GraphBackup, Method};

/// Keeps a deleted object until its files are removed.
pub const FILES_FINALIZER: &str = "graphbackup.dev/files";
/// Keeps a deleted object until the member that it stopped is started.
pub const MEMBER_FINALIZER: &str = "graphbackup.dev/member";

fn is_ours(finalizer: &str) -> bool {
    [FILES_FINALIZER, MEMBER_FINALIZER].contains(&finalizer)
}

/// Whether the object has the mark of the schedule that took the backup: its files go with it.
pub fn is_marked(object: &GraphBackup) -> bool {
    let schedule = object.metadata.labels.as_ref().and_then(|labels| labels.get(SCHEDULE_UID_LABEL));
    let mark = object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PRUNE_ANNOTATION));
    mark.is_some() && mark == schedule
}

/// What happens to the files when the object is deleted. The mark of the schedule that took the backup outranks the
/// spec.
pub fn deletion_policy(object: &GraphBackup) -> DeletionPolicy {
    if is_marked(object) { DeletionPolicy::Delete } else { object.spec.deletion_policy }
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
/// That of the files is set before the first file can exist, and follows `deletionPolicy` when that changes; an object
/// that ended without an attempt has no files. That of the member is there as long as a cold backup is at work.
pub fn change_of_finalizers(object: &GraphBackup, over: bool) -> Option<Vec<String>> {
    let without_files =
        over && object.status.as_ref().is_none_or(|status| status.attempts.is_empty() && status.point.is_none());
    let wanted = [
        (FILES_FINALIZER, deletion_policy(object) == DeletionPolicy::Delete && !without_files),
        (MEMBER_FINALIZER, object.spec.method == Method::Cold && !over),
    ];
    let has = |name: &str| object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    if wanted.iter().all(|(name, wanted)| has(name) == *wanted) {
        return None;
    }
    let ours = wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (*name).to_owned());
    Some(other_finalizers(object).into_iter().chain(ours).collect())
}

/// Whether a deleted object may be released without a look at the world.
pub fn may_be_released(object: &GraphBackup) -> bool {
    let last = object.status.as_ref().and_then(|status| status.attempts.last());
    deletion_policy(object) == DeletionPolicy::Retain && last.and_then(Attempt::member_to_restore).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::testing::backup;
    use serde_json::json;

    #[test]
    fn the_finalizer_follows_the_policy_and_leaves_others_alone() {
        let change = |policy: &str, finalizers: &[&str], attempted, over| {
            let object = backup().spec("deletionPolicy", policy).finalizers(finalizers);
            let object = if attempted { object.attempted() } else { object.status(json!({})) };
            change_of_finalizers(&object.object(), over)
        };
        let both = Some(vec!["other".to_owned(), FILES_FINALIZER.to_owned()]);
        assert_eq!(change("Delete", &["other"], false, false), both);
        assert_eq!(change("Delete", &["other"], true, true), both);
        assert_eq!(change("Delete", &[FILES_FINALIZER], true, true), None);
        assert_eq!(change("Retain", &["other", FILES_FINALIZER], true, true), Some(vec!["other".to_owned()]));
        assert_eq!(change("Retain", &[], true, true), None);
        // Over, and nothing was ever written.
        assert_eq!(change("Delete", &[], false, true), None);
        assert_eq!(change("Delete", &[FILES_FINALIZER], false, true), Some(vec![]));
    }

    #[test]
    fn the_mark_of_its_own_schedule_outranks_the_policy() {
        let policy = |mark: &str| {
            let mut object = backup().spec("deletionPolicy", "Retain").object();
            object.metadata.labels = Some([(SCHEDULE_UID_LABEL.to_owned(), "schedule".to_owned())].into());
            object.metadata.annotations = Some([(PRUNE_ANNOTATION.to_owned(), mark.to_owned())].into());
            deletion_policy(&object)
        };
        assert_eq!(policy("schedule"), DeletionPolicy::Delete);
        assert_eq!(policy("another"), DeletionPolicy::Retain);
    }
}
