//! Free space on the target, and whether it is enough to begin.

use crate::agent::store::manifest;
use crate::agent::store::manifest_file;
use crate::agent::volume::io_kind;
use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::fs::statvfs;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// How large a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size, bytes.
    pub capacity: u64,
    /// Free bytes on it for users that are not root.
    pub free: u64,
}

/// The space of the file system that holds `folder`; nothing where the file system does not say.
pub fn read(folder: &Path) -> io::Result<Option<Space>> {
    let space = statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    // Some network file systems have no idea, and say that they have no blocks at all.
    Ok((space.f_blocks > 0).then(|| Space { capacity: bytes(space.f_blocks), free: bytes(space.f_bavail) }))
}

/// Free bytes for users that are not root on the target; nothing where the file system does not say.
pub fn free(folder: &Path) -> Result<Option<u64>, Failure> {
    let space = read(folder).map_err(|error| {
        io_kind::target_failure(&format!("cannot read the free space at {}: {error}", folder.display()), &error)
    })?;
    Ok(space.map(|space| space.free))
}

/// Refuses to begin what the target cannot hold. `like` says what `needed` was measured on.
pub fn require(folder: &Path, needed: u64, like: &str) -> Result<(), Failure> {
    judge(free(folder)?, needed, like)
}

fn judge(free: Option<u64>, needed: u64, like: &str) -> Result<(), Failure> {
    match free {
        Some(free) if free < needed => Err(Failure::new(
            Reason::TargetFull,
            format!(
                "the target has {free} bytes free and the copy needs {needed}, as much as {like}; nothing was copied; free \
                 space on the target claim (delete old backups) or make it larger"
            ),
        )),
        _ => Ok(()),
    }
}

/// Name and size of the point in a cluster's folder that was published last, by the time of its manifest. An estimate:
/// points that cannot be read do not count.
pub fn newest_point(cluster_folder: &Path) -> Option<(String, u64)> {
    let points = fs::read_dir(cluster_folder).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        let modified: SystemTime =
            fs::symlink_metadata(entry.path().join(manifest::FILE_NAME)).ok()?.modified().ok()?;
        Some((modified, name))
    });
    let (_, name) = points.max()?;
    let (manifest, _) = manifest_file::read(&cluster_folder.join(&name)).ok()?;
    Some((name, manifest.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use std::time::Duration;

    #[test]
    fn too_little_is_refused_with_both_numbers() {
        let failure = judge(Some(99), 100, "the point p").unwrap_err();
        assert_eq!(failure.reason, Reason::TargetFull);
        assert!(failure.message.contains("99 bytes free and the copy needs 100, as much as the point p"));
        assert_eq!(judge(Some(100), 100, ""), Ok(()));
        assert_eq!(judge(None, u64::MAX, ""), Ok(()), "a file system that does not say");
    }

    #[test]
    fn a_real_file_system_says_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(folder.path()).unwrap().unwrap() > 0);
        assert!(free(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn the_newest_point_is_that_of_the_newest_manifest() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_point(folder.path()), None);
        for (name, bytes, age) in [("a", 1, 10), ("b", 2, 0), ("c", 3, 20), (".partial-x-y", 4, 0)] {
            let point = folder.path().join(name);
            fs::create_dir(&point).unwrap();
            manifest_file::write(&point, &manifest::Manifest { bytes, ..testing::manifest() }).unwrap();
            let file = fs::File::open(point.join(manifest::FILE_NAME)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        fs::create_dir(folder.path().join("d")).unwrap();
        assert_eq!(newest_point(folder.path()), Some(("b".to_owned(), 2)));
    }
}
