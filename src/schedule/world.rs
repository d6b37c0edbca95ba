//! What one pass over a schedule sees, already read. Pure data.

use super::children::Child;
use crate::api::GraphBackup;
use crate::controller::job::JobState;
use chrono::{DateTime, Utc};

/// Keeps a deleted schedule until its recovery points are marked for removal.
pub const POINTS_FINALIZER: &str = "graphbackup.dev/points";

/// What a decision looks at.
pub struct World<'a> {
    /// The backups that are known of, by a watch.
    pub children: &'a [Child],
    /// What was read for this pass, by name.
    pub read: &'a [(String, Found)],
    /// How many of the schedule's backups are neither deleted nor pinned, where they were counted without the watch.
    pub left: Option<usize>,
    /// What time it is by the API server, where it was asked.
    pub server_time: Option<DateTime<Utc>>,
    /// What the API server said when it refused the backup that is due.
    pub refused: Option<&'a str>,
    /// The Job of the restore drill that runs.
    pub drill: Option<&'a JobState>,
    /// The finalizers of the schedule.
    pub finalizers: &'a [String],
    /// Whether the schedule is being deleted.
    pub is_deleted: bool,
}

/// What the API server has under a name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that this version cannot read.
    Unreadable,
    /// This backup.
    Backup(Box<GraphBackup>),
}

/// What a pass has read under a name.
pub enum Reading<'a> {
    /// It has not read it.
    Unread,
    /// Nothing has this name.
    Nothing,
    /// Something that this version cannot read.
    Unreadable,
    /// This backup.
    Backup(&'a GraphBackup),
}

impl World<'_> {
    /// What was read under a name.
    pub fn reading(&self, name: &str) -> Reading<'_> {
        match self.read.iter().find(|(read, _)| read == name) {
            None => Reading::Unread,
            Some((_, Found::Nothing)) => Reading::Nothing,
            Some((_, Found::Unreadable)) => Reading::Unreadable,
            Some((_, Found::Backup(object))) => Reading::Backup(object),
        }
    }
}

/// Whether a schedule with these finalizers waits for its points to be marked.
pub fn holds_points(finalizers: &[String]) -> bool {
    finalizers.iter().any(|finalizer| finalizer == POINTS_FINALIZER)
}

/// The finalizers of others.
pub fn other_finalizers(finalizers: &[String]) -> Vec<String> {
    finalizers.iter().filter(|finalizer| *finalizer != POINTS_FINALIZER).cloned().collect()
}
