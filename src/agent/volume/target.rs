//! The mounted target: its folders, a partial copy, and the rename that publishes it.

use crate::agent::store::manifest;
use crate::agent::volume::io_kind;
use crate::agent::volume::layout::Layout;
use crate::agent::volume::modes::{self, ModeError};
use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::fs::{CWD, OFlags, RenameFlags, fsync, renameat_with};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Mode of the folders that all runs share: the volume's group writes, new folders inherit that group.
const SHARED_FOLDER_MODE: u32 = 0o2770;
/// Mode of a point's own folder: the volume's group reads.
const POINT_FOLDER_MODE: u32 = 0o2750;
/// How often a look or a flush after the rename is tried, and the time between two tries. All of it fits into the time
/// that Kubernetes gives a pod to stop.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// Something on the target cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A folder cannot be made.
    #[error("cannot make the folder {path}: {source}")]
    MakeFolder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder or file cannot be flushed to the device.
    #[error("cannot flush {path} to the device: {source}")]
    Flush {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder cannot be looked at.
    #[error("cannot read {path}: {source}")]
    Look {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder on the target is a link that leads out of it.
    #[error("the folder {path} leads out of the target volume, to {leads_to}; remove the link")]
    LeadsOut {
        /// The folder.
        path: PathBuf,
        /// Where it leads.
        leads_to: PathBuf,
    },
    /// A mode cannot be set.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// The point has its name, and the folder that it stands in cannot be flushed to the device.
    #[error(
        "the point has its name {path}, but that may not have reached the device: {source}; the next attempt finds the point \
         there and flushes it, or makes it again"
    )]
    Unflushed {
        /// The point's folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The partial cannot be renamed.
    #[error("cannot publish the point as {path}: {source}")]
    Publish {
        /// The point's folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something has the point's name already.
    #[error("{path} exists already and is not a point of this backup; move it away")]
    PointExists {
        /// The point's folder.
        path: PathBuf,
    },
    /// A partial copy cannot be removed.
    #[error("cannot remove the partial copy {path}: {source}")]
    Remove {
        /// The partial's folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let message = error.to_string();
        match error {
            TargetError::MakeFolder { source, .. }
            | TargetError::Flush { source, .. }
            | TargetError::Look { source, .. }
            | TargetError::Publish { source, .. }
            | TargetError::Remove { source, .. } => io_kind::target_failure(&message, &source),
            TargetError::Mode(error) => error.into(),
            // Whatever the error: the point stands, and another attempt can find it.
            TargetError::Unflushed { .. } => Self::new(Reason::TargetIoError, message),
            TargetError::LeadsOut { .. } => Self::new(Reason::TargetNotWritable, message),
            TargetError::PointExists { .. } => Self::new(Reason::PointExists, message),
        }
    }
}

/// Makes the shared folders down to the cluster's. One that a link takes out of the target is refused.
pub fn prepare(layout: &Layout) -> Result<(), TargetError> {
    for folder in layout.shared_folders() {
        // Before anything is made below it.
        if exists(&folder)? {
            stays_on_target(layout.mount(), &folder)?;
        }
        match DirBuilder::new().mode(SHARED_FOLDER_MODE).create(&folder) {
            // The mode again: the process's umask may have taken from it, and mkdir ignores the setgid bit.
            Ok(()) => modes::set_mode(&folder, SHARED_FOLDER_MODE)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => continue,
            Err(source) => return Err(TargetError::MakeFolder { path: folder, source }),
        }
        flush(folder.parent().unwrap_or(layout.mount()))?;
    }
    Ok(())
}

/// Refuses folders that a link takes elsewhere.
pub fn stays_on_target(mount: &Path, folder: &Path) -> Result<(), TargetError> {
    let real =
        |path: &Path| fs::canonicalize(path).map_err(|source| TargetError::Look { path: path.to_owned(), source });
    let leads_to = real(folder)?;
    if leads_to.starts_with(real(mount)?) {
        Ok(())
    } else {
        Err(TargetError::LeadsOut { path: folder.to_owned(), leads_to })
    }
}

/// Gives a complete partial the mode that a point has, and flushes it to the device.
pub fn seal(partial: &Path) -> Result<(), TargetError> {
    modes::set_mode(partial, POINT_FOLDER_MODE)?;
    flush(partial)
}

/// Flushes a folder to the device.
pub fn flush(path: &Path) -> Result<(), TargetError> {
    flush_folder(path).map_err(|source| TargetError::Flush { path: path.to_owned(), source })
}

/// Flushes a folder to the device, where the file system has anything to flush for folders.
pub fn flush_folder(path: &Path) -> io::Result<()> {
    let folder = File::options().read(true).custom_flags(OFlags::DIRECTORY.bits().cast_signed()).open(path)?;
    match fsync(&folder) {
        // Some network and FUSE file systems have none; what they do to folders is done when they answer.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes an empty partial. Needs the lock: what is there under its name is left from a run of the same pod, and
/// removed.
pub fn make_partial(partial: &Path) -> Result<(), TargetError> {
    remove_partial(partial)?;
    for folder in [partial.to_owned(), partial.join(manifest::STORE_FOLDER)] {
        DirBuilder::new()
            .mode(0o770)
            .create(&folder)
            .map_err(|source| TargetError::MakeFolder { path: folder.clone(), source })?;
    }
    Ok(())
}

/// Removes a partial and everything in it. One that is not there is no error.
pub fn remove_partial(partial: &Path) -> Result<(), TargetError> {
    match fs::remove_dir_all(partial) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(TargetError::Remove { path: partial.to_owned(), source }),
    }
}

/// The partials of a backup in the cluster's folder, each with the UID of its pod, sorted.
pub fn partials_of(layout: &Layout, backup_uid: &str) -> Result<Vec<(PathBuf, String)>, TargetError> {
    folders_of(layout, |name| Layout::pod_of_partial(name, backup_uid))
}

/// The copies of a backup that the engine could not open, likewise.
pub fn failed_of(layout: &Layout, backup_uid: &str) -> Result<Vec<(PathBuf, String)>, TargetError> {
    folders_of(layout, |name| Layout::pod_of_failed(name, backup_uid))
}

fn folders_of(layout: &Layout, pod: impl Fn(&str) -> Option<&str>) -> Result<Vec<(PathBuf, String)>, TargetError> {
    let folder = layout.cluster_folder();
    let look = |source| TargetError::Look { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(look(error)),
    };
    let mut partials = Vec::new();
    for entry in entries {
        let entry = entry.map_err(look)?;
        if let Some(pod) = entry.file_name().to_str().and_then(&pod) {
            partials.push((entry.path(), pod.to_owned()));
        }
    }
    partials.sort();
    Ok(partials)
}

/// Whether anything, be it a broken link, has this name.
pub fn exists(path: &Path) -> Result<bool, TargetError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(TargetError::Look { path: path.to_owned(), source }),
    }
}

/// Gives the partial the point's name, which nothing may have yet, and flushes the folder that both stand in.
///
/// Blocks for some seconds at most where the file system fails. Needs the lock: on a file system that cannot rename
/// without replacing (NFS, older FUSE), nothing else than the lock keeps a second writer out between the look and the
/// rename.
pub fn publish(partial: &Path, point: &Path) -> Result<(), TargetError> {
    let identity = identity(partial).map_err(|source| TargetError::Publish { path: point.to_owned(), source })?;
    publish_as(identity, partial, point)
}

fn publish_as(identity: (u64, u64), partial: &Path, point: &Path) -> Result<(), TargetError> {
    if let Err(error) = rename(partial, point) {
        // The answer may be what was lost, and not the request.
        match again(|| self::identity(point)) {
            Ok(found) if found == identity => {}
            Err(source) if io_kind::may_pass(&source) => {
                return Err(TargetError::Publish { path: point.to_owned(), source });
            }
            _ => return Err(error),
        }
    }
    flush_name(point)
}

/// Flushes the folder in which a point stands, so that its name is on the device. Blocks like [`publish`].
pub fn flush_name(point: &Path) -> Result<(), TargetError> {
    again(|| flush_folder(point.parent().unwrap_or(point)))
        .map_err(|source| TargetError::Unflushed { path: point.to_owned(), source })
}

fn rename(partial: &Path, point: &Path) -> Result<(), TargetError> {
    let refuse = |source| TargetError::Publish { path: point.to_owned(), source };
    match renameat_with(CWD, partial, CWD, point, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(TargetError::PointExists { path: point.to_owned() }),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if exists(point)? {
                return Err(TargetError::PointExists { path: point.to_owned() });
            }
            fs::rename(partial, point).map_err(refuse)
        }
        Err(errno) => Err(refuse(errno.into())),
    }
}

/// What tells a folder from all others as long as it is there, whatever its name: device and inode.
fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(folder).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Tries a few times what may fail for a moment.
fn again<T>(action: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match action() {
            Err(error) if io_kind::may_pass(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    action()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StoreId;
    use crate::contract::task::Place;
    use std::os::unix::fs::PermissionsExt;

    fn layout(mount: &Path) -> Layout {
        let cluster = StoreId { creation_time: 1, random_id: 2 };
        Layout::new(mount, &Place { directory: "team/graph".into(), cluster, point: "p".into() }).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn shared_folders_are_the_groups_and_made_once() {
        let mount = tempfile::tempdir().unwrap();
        let layout = layout(mount.path());
        prepare(&layout).unwrap();
        prepare(&layout).unwrap();
        for folder in layout.shared_folders() {
            assert_eq!(mode(&folder), 0o2770, "{}", folder.display());
        }
    }

    #[test]
    fn a_link_out_of_the_target_is_refused() {
        let mount = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), mount.path().join("team")).unwrap();
        assert!(matches!(prepare(&layout(mount.path())), Err(TargetError::LeadsOut { .. })));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("team"), "").unwrap();
        let failure: Failure = prepare(&layout(mount.path())).unwrap_err().into();
        assert_eq!(failure.reason, Reason::TargetNotWritable);
        assert!(failure.message.contains("/team"), "{}", failure.message);
    }

    #[test]
    fn publishing_never_replaces() {
        let mount = tempfile::tempdir().unwrap();
        let layout = layout(mount.path());
        prepare(&layout).unwrap();
        let partial = layout.partial_folder("b", "p").unwrap();
        make_partial(&partial).unwrap();
        let point = layout.point_folder();
        fs::create_dir(&point).unwrap();
        assert!(matches!(publish(&partial, &point), Err(TargetError::PointExists { .. })));
        assert!(partial.exists());
        fs::remove_dir(&point).unwrap();
        publish(&partial, &point).unwrap();
        assert!(point.join(manifest::STORE_FOLDER).is_dir() && !partial.exists());
    }

    #[test]
    fn a_rename_whose_answer_was_lost_is_known_by_the_folder_itself() {
        let mount = tempfile::tempdir().unwrap();
        let layout = layout(mount.path());
        prepare(&layout).unwrap();
        let (partial, point) = (layout.partial_folder("b", "p").unwrap(), layout.point_folder());
        make_partial(&partial).unwrap();
        let ours = identity(&partial).unwrap();
        fs::rename(&partial, &point).unwrap();
        // The request, sent once more, finds nothing that could be renamed.
        publish_as(ours, &partial, &point).unwrap();
        fs::rename(&point, mount.path().join("moved")).unwrap();
        fs::create_dir(&point).unwrap();
        assert!(publish_as(ours, &partial, &point).is_err(), "a foreign folder was taken for ours");
    }

    #[test]
    fn a_partial_begins_empty_and_can_be_removed_twice() {
        let mount = tempfile::tempdir().unwrap();
        let layout = layout(mount.path());
        prepare(&layout).unwrap();
        let partial = layout.partial_folder("b", "p").unwrap();
        make_partial(&partial).unwrap();
        fs::write(partial.join("store/neostore"), "old").unwrap();
        make_partial(&partial).unwrap();
        assert!(!partial.join("store/neostore").exists());
        assert_eq!(partials_of(&layout, "b").unwrap(), [(partial.clone(), "p".to_owned())]);
        remove_partial(&partial).unwrap();
        remove_partial(&partial).unwrap();
        assert_eq!(partials_of(&layout, "b").unwrap(), []);
    }
}
