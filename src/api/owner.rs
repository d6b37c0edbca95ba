//! The object that a Job, a lock or a point belongs to.

use serde::{Deserialize, Serialize};

/// Which object a run belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Namespace of the `GraphBackup`.
    pub namespace: String,
    /// Name of the `GraphBackup`.
    pub name: String,
    /// UID of the `GraphBackup`; the evidence counts only for this very object.
    pub uid: String,
}
