//! The CustomResourceDefinitions, as generated from the types.

use super::{BackupSchedule, GraphBackup, Restore};
use kube::CustomResourceExt;

/// All CRDs as a stream of YAML documents, the content of `crds/`.
pub fn crds_yaml() -> Result<String, serde_yaml::Error> {
    let kinds = [GraphBackup::crd(), BackupSchedule::crd(), Restore::crd()];
    let documents: Result<Vec<_>, _> = kinds.iter().map(serde_yaml::to_string).collect();
    Ok(documents?.join("---\n"))
}
