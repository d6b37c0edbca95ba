//! The backups that matter to a schedule: its own, and the others of its name or on its target. Pure.

use super::validate::ValidSchedule;
use crate::api::condition::{self, SUCCEEDED};
use crate::api::names::PIN_ANNOTATION;
use crate::api::{GraphBackup, GraphBackupStatus};
use crate::backup::finalizers::is_marked;
use crate::backup::known::{Known, Origin};
use chrono::{DateTime, Utc};
use kube::ResourceExt;

/// A backup, as a schedule sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whose it is.
    pub whose: Whose,
    /// Name of the schedule that took it.
    pub schedule: Option<String>,
    /// Its slot; `None` for one that a person asked for, or made.
    pub slot: Option<DateTime<Utc>>,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// How far it has come.
    pub state: ChildState,
}

/// Whose a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This very schedule's, or one that it has taken over.
    Ours,
    /// Of an earlier schedule of this name.
    Earlier,
    /// Of another schedule.
    OtherSchedule,
    /// Made by a person.
    Manual,
}

/// How far a backup has come.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildState {
    /// Not over.
    Working {
        /// Whether it was asked to copy the whole store.
        is_full: bool,
        /// UID of the backup that its open attempt starts from.
        parent: Option<String>,
    },
    /// It has a recovery point.
    Good(GoodPoint),
    /// It ended without one.
    Failed {
        /// The reason.
        reason: String,
        /// When.
        time: DateTime<Utc>,
        /// Whether a person has pinned it.
        is_pinned: bool,
    },
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct GoodPoint {
    /// Everything that was committed before this time is in it.
    pub data_from: DateTime<Utc>,
    /// Number of incremental backups since the last full one.
    pub depth: u32,
    /// What it takes on the volume, bytes.
    pub bytes: i64,
    /// Free space on the target afterwards, bytes.
    pub free_bytes: Option<i64>,
    /// Whether a person has pinned it.
    pub is_pinned: bool,
    /// Whether it was adopted.
    pub is_adopted: bool,
    /// Whether a restore drill has found that it cannot be restored.
    pub is_broken: bool,
    /// Whether its schedule has marked it for removal.
    pub is_marked: bool,
}

impl Child {
    /// Whether it is this schedule's and not over.
    pub fn is_ours_at_work(&self) -> bool {
        self.whose == Whose::Ours && matches!(self.state, ChildState::Working { .. })
    }

    /// Its point, if it can be restored as far as is known, and is not being deleted.
    pub fn good(&self) -> Option<&GoodPoint> {
        self.point().filter(|point| !point.is_broken)
    }

    /// Its point, if it is not being deleted.
    pub fn point(&self) -> Option<&GoodPoint> {
        match &self.state {
            ChildState::Good(point) if !self.is_deleted => Some(point),
            ChildState::Good(_) | ChildState::Working { .. } | ChildState::Failed { .. } => None,
        }
    }
}

/// Every backup of the namespace that matters to a schedule.
pub fn children<'a>(schedule: &ValidSchedule, known: impl IntoIterator<Item = &'a Known>) -> Vec<Child> {
    known.into_iter().filter_map(|known| child(schedule, known)).collect()
}

/// A backup, if it matters to a schedule. What this version cannot read matters to none.
pub fn child(schedule: &ValidSchedule, known: &Known) -> Option<Child> {
    let origin = known.origin();
    let whose = whose(schedule, origin.as_ref());
    match known {
        Known::Open(object) => {
            let status = object.status.as_ref();
            let parent = status.and_then(|status| status.open_attempt()?.parent.as_ref());
            Some(Child {
                name: object.name_any(),
                uid: object.uid().unwrap_or_default(),
                whose,
                schedule: origin.as_ref().map(|origin| origin.schedule.to_string()),
                slot: origin.and_then(|origin| origin.slot),
                is_deleted: object.metadata.deletion_timestamp.is_some(),
                state: ChildState::Working {
                    is_full: object.spec.backup_type == crate::api::BackupType::Full,
                    parent: parent.map(|parent| parent.uid.clone()),
                },
            })
        }
        Known::Over(over) => {
            let state = match (&over.point, &over.failure) {
                (Some(point), _) if point.target != schedule.template.target && whose != Whose::Ours => return None,
                (Some(point), _) => ChildState::Good(GoodPoint {
                    data_from: point.data_from,
                    depth: point.depth,
                    bytes: point.bytes,
                    free_bytes: point.free_bytes,
                    is_pinned: point.is_pinned,
                    is_adopted: point.is_adopted,
                    is_broken: point.is_broken,
                    is_marked: point.is_marked,
                }),
                (None, Some(failure)) => ChildState::Failed {
                    reason: failure.reason.to_string(),
                    time: failure.time,
                    is_pinned: failure.is_pinned,
                },
                (None, None) => return None,
            };
            let uid = over.point.as_ref().map(|point| &point.uid).or(origin.as_ref().map(|origin| &origin.uid));
            Some(Child {
                name: over.name.to_string(),
                uid: uid.map(ToString::to_string).unwrap_or_default(),
                is_deleted: over.point.as_ref().is_some_and(|point| point.is_deleted)
                    || origin.as_ref().is_some_and(|origin| origin.is_deleted),
                whose,
                schedule: origin.as_ref().map(|origin| origin.schedule.to_string()),
                slot: origin.and_then(|origin| origin.slot),
                state,
            })
        }
        Known::Unreadable { .. } => None,
    }
}

fn whose(schedule: &ValidSchedule, origin: Option<&Origin>) -> Whose {
    let Some(origin) = origin else { return Whose::Manual };
    let ours =
        *origin.schedule_uid == *schedule.owner.uid || schedule.earlier.iter().any(|uid| **uid == *origin.schedule_uid);
    match (ours, *origin.schedule == *schedule.owner.name) {
        (true, _) => Whose::Ours,
        (false, true) => Whose::Earlier,
        (false, false) => Whose::OtherSchedule,
    }
}

/// What has the name of a backup that a schedule is about to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The backup of that very slot or request, of this schedule or an earlier one of its name.
    Done,
    /// Something else.
    Foreign,
}

/// Tells what has the name of a backup for this slot.
pub fn holder(schedule: &ValidSchedule, slot: Option<DateTime<Utc>>, object: &GraphBackup) -> Holder {
    let origin = Origin::of(object);
    let same = origin.as_ref().is_some_and(|origin| origin.slot == slot);
    match whose(schedule, origin.as_ref()) {
        Whose::Ours | Whose::Earlier if same => Holder::Done,
        Whose::Ours | Whose::Earlier | Whose::OtherSchedule | Whose::Manual => Holder::Foreign,
    }
}

/// Whether an object as it was just read is that backup, is not over, and nobody has pinned it.
pub fn is_stoppable(object: &GraphBackup, uid: &str) -> bool {
    object.metadata.uid.as_deref() == Some(uid)
        && !object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal)
        && !object.annotations().contains_key(PIN_ANNOTATION)
}

/// Whether an object as it was just read has a mark that a schedule of this name has set, and is not being deleted.
pub fn is_unmarkable(schedule: &ValidSchedule, uid: &str, object: &GraphBackup) -> bool {
    object.metadata.uid.as_deref() == Some(uid)
        && object.metadata.deletion_timestamp.is_none()
        && is_marked(object)
        && matches!(whose(schedule, Origin::of(object).as_ref()), Whose::Ours | Whose::Earlier)
}

/// Whether an object as it was just read is still a point that a schedule may remove: its own, good, neither pinned nor
/// being deleted.
pub fn is_removable(schedule: &ValidSchedule, uid: &str, object: &GraphBackup) -> bool {
    let succeeded = object
        .status
        .as_ref()
        .is_some_and(|status| condition::get(&status.conditions, SUCCEEDED) == Some(condition::Truth::True));
    object.metadata.uid.as_deref() == Some(uid)
        && succeeded
        && object.metadata.deletion_timestamp.is_none()
        && !object.annotations().contains_key(PIN_ANNOTATION)
        && object.spec.adopt.is_none()
        && whose(schedule, Origin::of(object).as_ref()) == Whose::Ours
}
