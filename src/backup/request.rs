//! What an object asks for, before the world is observed. Pure.

use super::finalizers::{change_of_finalizers, deletion_policy, has_finalizer, may_be_released};
use super::foreign::{ending, files_stay, foreign_status};
use super::step::{Ending, Note, ObjectStep};
use super::validate::{ValidBackup, validate};
use crate::api::{DeletionPolicy, GraphBackup, GraphBackupStatus, Reason};

/// What an object asks for.
#[derive(Debug)]
pub enum Request {
    /// A step for which nothing has to be observed.
    Object(ObjectStep),
    /// A backup.
    Backup(Box<ValidBackup>),
    /// To be removed: it is deleted, and a member is to be started or files are to be removed first.
    Removal(Box<ValidBackup>),
}

/// Reads what an object asks for.
pub fn request(object: &GraphBackup) -> Request {
    let foreign = foreign_status(object);
    if object.metadata.deletion_timestamp.is_some() {
        return if has_finalizer(object) { removal(object, foreign) } else { Request::Object(ObjectStep::Nothing) };
    }
    if let Some(foreign) = foreign {
        return Request::Object(ObjectStep::Disown(ending(object, foreign)));
    }
    let over = object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal);
    if let Some(finalizers) = change_of_finalizers(object, over) {
        return Request::Object(ObjectStep::SetFinalizers(finalizers));
    }
    if over {
        return Request::Object(ObjectStep::Nothing);
    }
    match validate(object) {
        Ok(backup) => Request::Backup(Box::new(backup)),
        Err(error) => Request::Object(ObjectStep::Refuse(Ending::new(Reason::InvalidSpec, error.to_string()))),
    }
}

fn removal(object: &GraphBackup, foreign: Option<&GraphBackupStatus>) -> Request {
    let release = |note| Request::Object(ObjectStep::Release(note));
    if let Some(foreign) = foreign {
        let uid = foreign.uid.as_deref().unwrap_or_default();
        let note = || Note { reason: Reason::ForeignStatus, message: files_stay(uid) };
        return release((deletion_policy(object) == DeletionPolicy::Delete).then(note));
    }
    match validate(object) {
        Ok(backup) if !may_be_released(object) => Request::Removal(Box::new(backup)),
        Ok(_) | Err(_) => release(None),
    }
}
