//! The CustomResourceDefinitions, as generated from the types.

use super::GraphBackup;
use kube::CustomResourceExt;

/// All CRDs as a stream of YAML documents, the content of `crds/`.
pub fn crds_yaml() -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(&GraphBackup::crd())
}
