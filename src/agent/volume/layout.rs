//! Where everything is on a target:
//!
//! ```text
//! <claim>/<directory>/<store id>/.lock
//! <claim>/<directory>/<store id>/.partial-<backup uid>-<pod uid>/{store/,manifest.json}     while it is made
//! <claim>/<directory>/<store id>/<point>/{store/,manifest.json}                             once it is published
//! <claim>/<directory>/<store id>/.failed-<backup uid>-<pod uid>/store/                      if the engine could not open it
//! <claim>/<directory>/<store id>/.pruned-<backup uid>/…                                     while it is removed
//! ```

use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::task::Place;
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = ".lock";
const PARTIAL_PREFIX: &str = ".partial-";
const FAILED_PREFIX: &str = ".failed-";
const PRUNED_PREFIX: &str = ".pruned-";

/// A name in the run cannot be a folder on the target. The schema refuses these too; the volume is guarded twice.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// `spec.target.directory`.
    #[error(
        "the directory {0:?} is not a relative path of letters, digits, '.', '_' and '-' whose parts do not start with '.' or '-'"
    )]
    Directory(String),
    /// The name of the point.
    #[error(
        "the point {0:?} is not one folder name of letters, digits, '.', '_' and '-' that does not start with '.' or '-'"
    )]
    Point(String),
    /// The UID of the object or of the pod.
    #[error("{0:?} is not a UID: 1 to 64 letters, digits and '-'")]
    Uid(String),
}

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        Self::new(Reason::InvalidSpec, error.to_string())
    }
}

/// The folders of one point on a mounted target.
#[derive(Clone, Debug)]
pub struct Layout {
    mount: PathBuf,
    /// The parts of `<directory>` and the store id, below the mount.
    parts: Vec<String>,
    point: String,
}

impl Layout {
    /// Checks every name before it becomes part of a path.
    pub fn new(mount: &Path, place: &Place) -> Result<Self, LayoutError> {
        let mut parts = Vec::new();
        if !place.directory.is_empty() {
            parts.extend(place.directory.split('/').map(str::to_owned));
        }
        if place.directory.len() > 253 || !parts.iter().all(|part| is_folder_name(part)) {
            return Err(LayoutError::Directory(place.directory.clone()));
        }
        if !is_folder_name(&place.point) {
            return Err(LayoutError::Point(place.point.clone()));
        }
        parts.push(place.cluster.to_string());
        Ok(Self { mount: mount.to_owned(), parts, point: place.point.clone() })
    }

    /// Root of the mounted claim.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Every folder from below the mount down to the cluster's, outermost first.
    pub fn shared_folders(&self) -> Vec<PathBuf> {
        let mut folder = self.mount.clone();
        self.parts
            .iter()
            .map(|part| {
                folder.push(part);
                folder.clone()
            })
            .collect()
    }

    /// The folder that holds the points of the cluster.
    pub fn cluster_folder(&self) -> PathBuf {
        self.mount.join(self.parts.join("/"))
    }

    /// The file whose `flock` says who may write in the cluster's folder.
    pub fn lock_file(&self) -> PathBuf {
        self.cluster_folder().join(LOCK_FILE)
    }

    /// The published point.
    pub fn point_folder(&self) -> PathBuf {
        self.cluster_folder().join(&self.point)
    }

    /// Another published point of the same cluster.
    pub fn sibling_folder(&self, point: &str) -> Result<PathBuf, LayoutError> {
        if !is_folder_name(point) {
            return Err(LayoutError::Point(point.to_owned()));
        }
        Ok(self.cluster_folder().join(point))
    }

    /// The point of this backup while this pod makes it.
    pub fn partial_folder(&self, backup_uid: &str, pod_uid: &str) -> Result<PathBuf, LayoutError> {
        for uid in [backup_uid, pod_uid] {
            if !is_uid(uid) {
                return Err(LayoutError::Uid(uid.to_owned()));
            }
        }
        Ok(self.cluster_folder().join(format!("{PARTIAL_PREFIX}{backup_uid}-{pod_uid}")))
    }

    /// What is kept of a copy that the engine could not open, for people.
    pub fn failed_folder(&self, backup_uid: &str, pod_uid: &str) -> Result<PathBuf, LayoutError> {
        let partial = self.partial_folder(backup_uid, pod_uid)?;
        Ok(partial.with_file_name(format!("{FAILED_PREFIX}{backup_uid}-{pod_uid}")))
    }

    /// The point of this backup while it is removed.
    pub fn pruned_folder(&self, backup_uid: &str) -> Result<PathBuf, LayoutError> {
        if !is_uid(backup_uid) {
            return Err(LayoutError::Uid(backup_uid.to_owned()));
        }
        Ok(self.cluster_folder().join(format!("{PRUNED_PREFIX}{backup_uid}")))
    }

    /// The pod that makes or made a partial, if `folder_name` is the name of a partial of this backup.
    pub fn pod_of_partial<'a>(folder_name: &'a str, backup_uid: &str) -> Option<&'a str> {
        pod_of(PARTIAL_PREFIX, folder_name, backup_uid)
    }

    /// The same of a copy that the engine could not open.
    pub fn pod_of_failed<'a>(folder_name: &'a str, backup_uid: &str) -> Option<&'a str> {
        pod_of(FAILED_PREFIX, folder_name, backup_uid)
    }
}

fn pod_of<'a>(prefix: &str, folder_name: &'a str, backup_uid: &str) -> Option<&'a str> {
    folder_name.strip_prefix(prefix)?.strip_prefix(backup_uid)?.strip_prefix('-').filter(|uid| is_uid(uid))
}

/// Whether a text is one folder name that is safe on the target: letters, digits, `.`, `_` and `-`, none of the last
/// two or a dot first.
pub fn is_folder_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_uid(uid: &str) -> bool {
    (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StoreId;

    fn place(directory: &str, point: &str) -> Place {
        let cluster = StoreId { creation_time: 1, random_id: -1 };
        Place { directory: directory.into(), cluster, point: point.into() }
    }

    #[test]
    fn paths_below_the_mount() {
        let layout = Layout::new(Path::new("/target"), &place("team/graph", "p")).unwrap();
        let cluster = "/target/team/graph/0000000000000001-ffffffffffffffff";
        assert_eq!(layout.cluster_folder(), Path::new(cluster));
        assert_eq!(layout.point_folder(), Path::new(cluster).join("p"));
        assert_eq!(layout.partial_folder("b-1", "q-2").unwrap(), Path::new(cluster).join(".partial-b-1-q-2"));
        let folders = layout.shared_folders();
        assert_eq!(folders, ["/target/team", "/target/team/graph", cluster].map(PathBuf::from));
        let root = Layout::new(Path::new("/target"), &place("", "p")).unwrap();
        assert_eq!(root.cluster_folder(), Path::new("/target/0000000000000001-ffffffffffffffff"));
    }

    #[test]
    fn nothing_leads_out_of_the_mount() {
        for bad in ["..", "../x", "a/../..", "/etc", "a//b", "a/", ".hidden", "a/.b", "a b", "a\0", "ü", "-a", "."] {
            let refused = Layout::new(Path::new("/target"), &place(bad, "p")).unwrap_err();
            assert_eq!(refused, LayoutError::Directory(bad.into()));
            assert!(Layout::new(Path::new("/target"), &place("", bad)).is_err(), "{bad:?}");
        }
        let layout = Layout::new(Path::new("/target"), &place("", "p")).unwrap();
        for bad in ["", "..", "a/b", "a.b"] {
            assert!(layout.partial_folder("b", bad).is_err(), "{bad:?}");
            assert!(layout.partial_folder(bad, "p").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn partials_of_other_backups_are_not_ours() {
        assert_eq!(Layout::pod_of_partial(".partial-b-1-pod-2", "b-1"), Some("pod-2"));
        for other in [".partial-b-2-pod-2", ".partial-b-1-", ".partial-b-1", "b-1-pod-2", ".partial-b-1-../x"] {
            assert_eq!(Layout::pod_of_partial(other, "b-1"), None, "{other}");
        }
    }
}
