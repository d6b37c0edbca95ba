//! `agent install`: the init container copies this binary to where the tool's container finds it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Anybody may execute it: the tool's image may run as any user.
const MODE: u32 = 0o755;

/// The binary cannot be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy {from} to {to}: {source}")]
pub struct InstallError {
    from: PathBuf,
    to: PathBuf,
    source: io::Error,
}

/// Copies this binary to `to`, which then is there whole or not at all.
pub fn install(to: &Path) -> Result<(), InstallError> {
    let from = Path::new("/proc/self/exe");
    copy(from, to).map_err(|source| InstallError { from: from.to_owned(), to: to.to_owned(), source })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&partial)?;
    io::copy(&mut fs::File::open(from)?, &mut target)?;
    // Again, because the umask took from it.
    target.set_permissions(fs::Permissions::from_mode(MODE))?;
    drop(target);
    fs::rename(&partial, to)
}
