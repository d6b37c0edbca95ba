//! Modes of what is kept on a volume: on the target, the volume's group reads, others may do nothing.
//!
//! Some file systems keep no modes: what is mounted by CIFS, NFS with squashed users, or FUSE may refuse to change
//! them. If the group may read there already, that is as good as it gets.

use crate::agent::progress::{self, Step};
use crate::agent::volume::io_kind::Volume;
use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::io::Errno;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The bits that a mode is set for.
const PERMISSION_BITS: u32 = 0o777;
/// Setuid, setgid and sticky.
const SPECIAL_BITS: u32 = 0o7000;
/// What the volume's group may do.
const GROUP_BITS: u32 = 0o070;

/// A mode cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum ModeError {
    /// The file system refuses to, and the mode that it gives keeps the volume's group out.
    #[error(
        "the volume does not keep file modes: {path} has mode {mode:03o} and cannot have {wanted:03o}: {source}; mount it with \
         modes that let the group read and write (file_mode and dir_mode, or umask), or use another file system"
    )]
    NotKept {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits that it should have.
        wanted: u32,
        /// What the file system said.
        source: io::Error,
    },
    /// Any other error.
    #[error("cannot set the mode of {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<ModeError> for Failure {
    fn from(error: ModeError) -> Self {
        error.on(Volume::Target)
    }
}

impl ModeError {
    /// The failure that it is for a file or folder on this volume.
    pub fn on(self, volume: Volume) -> Failure {
        let message = self.to_string();
        match self {
            Self::NotKept { .. } => match volume {
                Volume::Target => Failure::new(Reason::TargetNotWritable, message),
                Volume::Staged => Failure::new(Reason::StagingNotWritable, format!("the staged volume: {message}")),
            },
            Self::Io { source, .. } => volume.failure(&message, &source),
        }
    }
}

/// Sets the permission bits unless they are right already; setuid, setgid and sticky bits stay.
pub fn set_permissions(path: &Path, wanted: u32) -> Result<(), ModeError> {
    let mode = mode(path)?;
    set(path, mode, mode & SPECIAL_BITS | wanted)
}

/// Sets the permission bits and the setuid, setgid and sticky bits.
pub fn set_mode(path: &Path, wanted: u32) -> Result<(), ModeError> {
    set(path, mode(path)?, wanted)
}

fn mode(path: &Path) -> Result<u32, ModeError> {
    let metadata = fs::symlink_metadata(path).map_err(|source| ModeError::Io { path: path.to_owned(), source })?;
    Ok(metadata.permissions().mode() & (SPECIAL_BITS | PERMISSION_BITS))
}

fn set(path: &Path, mode: u32, wanted: u32) -> Result<(), ModeError> {
    if mode == wanted {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(wanted)) {
        Ok(()) => Ok(()),
        Err(source) if is_refusal(&source) => {
            let (mode, wanted) = (mode & PERMISSION_BITS, wanted & PERMISSION_BITS);
            if !is_enough(mode, wanted) {
                return Err(ModeError::NotKept { path: path.to_owned(), mode, wanted, source });
            }
            tell_once(path, mode);
            Ok(())
        }
        Err(source) => Err(ModeError::Io { path: path.to_owned(), source }),
    }
}

/// The owner of a file may change its mode, so a refusal comes from the file system. It is not a lack of rights.
pub fn is_refusal(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL))
}

/// Whether the volume's group may do all that it should.
fn is_enough(mode: u32, wanted: u32) -> bool {
    wanted & GROUP_BITS & !mode == 0
}

fn tell_once(path: &Path, mode: u32) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let path = path.display();
        let message =
            format!("the volume does not keep file modes; {path} keeps {mode:03o}, as the file system is mounted");
        progress::message(Step::Lock, &message);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_the_group_out_is_not_enough() {
        assert!(is_enough(0o777, 0o640) && is_enough(0o640, 0o640) && is_enough(0o755, 0o750));
        assert!(!is_enough(0o600, 0o640) && !is_enough(0o707, 0o640) && !is_enough(0o755, 0o770));
    }
}
