//! The lock on the volume: one writer for each cluster's folder, whichever cluster of Kubernetes the writer runs in.
//!
//! It is an advisory `flock` on `.lock`. The kernel (or the file server) drops it when its holder is gone, so it is
//! never broken by age. The file itself stays.

use crate::agent::volume::io_kind;
use crate::agent::volume::mounts;
use crate::api::Reason;
use crate::contract::failure::Failure;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a run waits for the lock. Its holder may just be ending; the operator tries again later.
pub const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock file cannot be made or opened.
    #[error("cannot open the lock file {path}: {source}")]
    Open {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else held it all the time.
    #[error("another run holds the lock {path}; waited {} seconds", WAIT.as_secs())]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// `flock` failed.
    #[error("cannot lock {path}: {source}")]
    Take {
        /// The lock file.
        path: PathBuf,
        /// What `flock` answered.
        source: io::Error,
    },
    /// The file system is mounted so that `flock` keeps out nobody on other nodes.
    #[error(
        "the lock {path} would not be seen on other nodes: the target's file system ({kind}) is mounted with {option}"
    )]
    Local {
        /// The lock file.
        path: PathBuf,
        /// The file system's type, as the kernel names it.
        kind: String,
        /// The mount option that makes locks local.
        option: String,
    },
    /// The file system has no `flock`.
    #[error("the file system of the target has no file locks: flock on {path} failed: {source}")]
    Unsupported {
        /// The lock file.
        path: PathBuf,
        /// What `flock` answered.
        source: io::Error,
    },
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let message = error.to_string();
        match error {
            LockError::Open { source, .. } | LockError::Take { source, .. } => {
                io_kind::target_failure(&message, &source)
            }
            LockError::Held { .. } => {
                Self::new(Reason::TargetLocked, format!("{message}; the backup is run again when that one has ended"))
            }
            LockError::Local { option, .. } => Self::new(
                Reason::LockUnsupported,
                format!("{message}; two runs could write at once: mount the volume without {option}"),
            ),
            LockError::Unsupported { .. } => Self::new(
                Reason::LockUnsupported,
                format!(
                    "{message}; without a lock two runs could write at once: use a claim whose file system has them"
                ),
            ),
        }
    }
}

/// The held lock. Dropping it, or the end of the process however it comes, gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock, waiting at most [`WAIT`].
pub async fn take(path: &Path) -> Result<Lock, LockError> {
    let until = Instant::now() + WAIT;
    loop {
        if let Some(lock) = try_take(path)? {
            return Ok(lock);
        }
        if Instant::now() >= until {
            return Err(LockError::Held { path: path.to_owned() });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn try_take(path: &Path) -> Result<Option<Lock>, LockError> {
    let open = |source| LockError::Open { path: path.to_owned(), source };
    // Opened for writing because NFS turns flock into a lock on bytes, which needs it.
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o660).open(path).map_err(open)?;
    refuse_local(path, &file)?;
    lock(path, file)
}

/// Locks the file that was opened under this path.
fn lock(path: &Path, file: File) -> Result<Option<Lock>, LockError> {
    let open = |source| LockError::Open { path: path.to_owned(), source };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(is_still(path, &file).map_err(open)?.then_some(Lock { _file: file })),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(errno @ (Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOLCK | Errno::BADF)) => {
            Err(LockError::Unsupported { path: path.to_owned(), source: errno.into() })
        }
        Err(errno) => Err(LockError::Take { path: path.to_owned(), source: errno.into() }),
    }
}

/// Refuses a file system whose locks other nodes do not see.
fn refuse_local(path: &Path, file: &File) -> Result<(), LockError> {
    let device = file.metadata().map_err(|source| LockError::Open { path: path.to_owned(), source })?.dev();
    // Without /proc the lock is what the file system makes of it.
    let mounts = std::fs::read_to_string(mounts::FILE).unwrap_or_default();
    match mounts::local_locks(&mounts, device) {
        None => Ok(()),
        Some((kind, option)) => Err(LockError::Local { path: path.to_owned(), kind, option }),
    }
}

/// Whether the locked file is the one that others would open: somebody may have removed it in between.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let locked = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let held = take(&path).await.unwrap();
        assert!(try_take(&path).unwrap().is_none());
        drop(held);
        assert!(try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_removed_lock_file_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let opened = || File::create(&path).unwrap();
        assert!(lock(&path, opened()).unwrap().is_some());
        let removed = opened();
        std::fs::remove_file(&path).unwrap();
        assert!(lock(&path, removed.try_clone().unwrap()).unwrap().is_none());
        std::fs::write(&path, "").unwrap();
        assert!(lock(&path, removed).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure: Failure = take(&folder.path().join("missing/.lock")).await.unwrap_err().into();
        assert_eq!(failure.reason, Reason::TargetNotWritable);
    }
}
