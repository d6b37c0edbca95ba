//! What a decision about a schedule says. Pure.

use crate::api::{BackupScheduleStatus, DrillResult, GraphBackup, Reason};
use crate::contract::task::DrillRun;
use crate::controller::job::JobRef;
use std::time::Duration;

/// What a pass does.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The one thing that changes something else than the schedule.
    pub step: Step,
    /// The status that the schedule has afterwards.
    pub status: BackupScheduleStatus,
    /// What is told of it.
    pub notes: Vec<Note>,
    /// When to look again without any event.
    pub look_again: Option<Duration>,
}

/// The one thing that a pass changes besides the schedule's status.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: the status is recorded, if it has changed.
    Record,
    /// Nothing yet: this backup has to be read first.
    Look(String),
    /// Nothing yet: the API server has to be asked what time it is.
    AskTime,
    /// Nothing yet: the backups that are left of a deleted schedule have to be counted first.
    Count,
    /// A backup is created; then that is recorded.
    Take(Box<GraphBackup>),
    /// It is recorded that a backup that is not over makes way for the next one; then it is deleted.
    Replace(BackupRef),
    /// A failed backup that no limit keeps is deleted.
    Forget(BackupRef),
    /// A point that no rule keeps is marked, and deleted with its files.
    Prune(BackupRef),
    /// A point that stays loses a mark that was left on it.
    Unmark(BackupRef),
    /// A restore drill is recorded; then its Job is created.
    Drill {
        /// Name of the Job.
        job: String,
        /// What its agent is asked.
        asked: Box<DrillRun>,
    },
    /// A restore drill is over: that is recorded, on the schedule and on the backup.
    EndDrill {
        /// UID of the backup whose point was tried.
        uid: String,
        /// How it ended.
        result: DrillResult,
        /// A Job that still works or lingers.
        delete: Option<JobRef>,
    },
    /// The finalizers of the schedule are written.
    SetFinalizers(Vec<String>),
}

/// A backup as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRef {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version, for one that was read for this decision.
    pub resource_version: Option<String>,
    /// UID in the label of the schedule that took it.
    pub schedule_uid: String,
    /// Its finalizers.
    pub finalizers: Vec<String>,
}

/// Something that an Event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The reason.
    pub reason: Reason,
    /// For people.
    pub text: String,
    /// Tells the Event from the others about the same schedule: what happened twice is told once.
    pub turn: String,
}

impl Note {
    /// What is told, and in which turn.
    pub const fn new(reason: Reason, text: String, turn: String) -> Self {
        Self { reason, text, turn }
    }
}

/// What it means that the API server refuses an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Something has the name of the backup.
    NameTaken,
    /// The backup is refused: a quota, a policy, a missing right.
    Refused,
    /// The removal of a backup is refused, or that of its mark.
    RemovalRefused,
    /// The Job of a drill is refused.
    DrillRefused,
}
