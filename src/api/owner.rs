//! The object that a Job, a lock or a point belongs to.

use super::API_VERSION;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds whose objects own something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// [`GraphBackup`](super::GraphBackup).
    #[default]
    GraphBackup,
    /// [`BackupSchedule`](super::BackupSchedule).
    BackupSchedule,
    /// [`Restore`](super::Restore).
    Restore,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 3] = [Self::GraphBackup, Self::BackupSchedule, Self::Restore];

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GraphBackup => "GraphBackup",
            Self::BackupSchedule => "BackupSchedule",
            Self::Restore => "Restore",
        }
    }

    /// As it stands in the paths of the API.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::GraphBackup => "graphbackups",
            Self::BackupSchedule => "backupschedules",
            Self::Restore => "restores",
        }
    }

    /// Group and version of the kind.
    pub const fn api_version(self) -> &'static str {
        API_VERSION
    }

    /// Reads the name of a kind; `None` for one that owns nothing, or that this version does not know.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An object of one of the kinds, by its UID: another object of the same name is another owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Its kind. Manifests of before there was more than one do not name it.
    #[serde(default)]
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; evidence counts only for this very object.
    pub uid: String,
}

/// `<kind> <namespace>/<name>`, for messages.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
