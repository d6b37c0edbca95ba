//! A status that was written for another object: one that a tool restored together with its status, or that a person
//! replaced.
//!
//! It is not believed. Nothing runs because of it, and nothing is removed in its name: the files that it tells of are
//! those of the other object. Pure.

use super::finalizers::deletion_policy;
use super::step::Ending;
use crate::api::{DeletionPolicy, GraphBackup, GraphBackupStatus, Reason};

/// The status, if it names another object as its own. One from before statuses named any is believed.
pub fn foreign_status(object: &GraphBackup) -> Option<&GraphBackupStatus> {
    let status = object.status.as_ref()?;
    status.uid.as_ref().filter(|uid| object.metadata.uid.as_ref() != Some(uid)).map(|_| status)
}

/// How the object ends: with the line that takes the point of the other one.
pub fn ending(object: &GraphBackup, status: &GraphBackupStatus) -> Ending {
    let uid = status.uid.as_deref().unwrap_or_default();
    let mut message = format!("the status of this object was written for another one, with UID {uid}: nothing was run");
    if let Some(point) = status.directory.as_deref().and_then(to_adopt) {
        message = format!("{message}. To take over its point, create a GraphBackup with spec.adopt: {point}");
    }
    message.push_str(". For a new backup, create an object with a different name");
    if deletion_policy(object) == DeletionPolicy::Delete {
        message = format!("{message}. {}", files_stay(uid));
    }
    Ending::new(Reason::ForeignStatus, message)
}

/// What is said when such an object is deleted that wants its files removed.
pub fn files_stay(uid: &str) -> String {
    format!("The files of the object with UID {uid} stay on the target when this one is deleted")
}

/// `<store id>/<folder>` of a `status.directory`, which has `spec.target.directory` before it.
fn to_adopt(directory: &str) -> Option<String> {
    let mut parts = directory.rsplit('/');
    let (point, store) = (parts.next()?, parts.next()?);
    Some(format!("{store}/{point}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::testing::backup;
    use serde_json::{Value, json};

    fn object(status: &Value) -> GraphBackup {
        backup().named("ours").spec("deletionPolicy", "Delete").status(status.clone()).object()
    }

    #[test]
    fn a_status_belongs_to_the_object_whose_uid_it_names() {
        assert!(foreign_status(&object(&json!({}))).is_none());
        assert!(foreign_status(&object(&json!({"uid": "uid-ours"}))).is_none());
        assert!(foreign_status(&object(&json!({"uid": "theirs"}))).is_some());
    }

    #[test]
    fn the_way_to_the_point_of_the_other_object_is_told() {
        let object = object(&json!({"uid": "theirs", "directory": "a/b/0001-0002/20261124T060000Z-nightly-1a2b3c4d"}));
        let ending = ending(&object, object.status.as_ref().unwrap());
        assert_eq!(ending.reason, Reason::ForeignStatus);
        assert!(
            ending.message.contains("spec.adopt: 0001-0002/20261124T060000Z-nightly-1a2b3c4d"),
            "{}",
            ending.message
        );
        assert!(ending.message.contains("files of the object with UID theirs stay"), "{}", ending.message);
    }
}
