//! `agent survey`: what is on a member's own volume, before a restore makes a new one. The volume is only read, and the
//! member may serve meanwhile: a file that vanishes is left out.
//!
//! Whatever would end the restore later, when the members are stopped, is refused here: a store path that a link takes
//! elsewhere, a device, a file that the pod's user may not read.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::header;
use crate::agent::volume::member::{StorePath, Visit, Walk, unreadable};
use crate::agent::volume::space;
use crate::contract::failure::Failure;
use crate::contract::task::SurveyRun;
use crate::contract::verdict::{StoreFolder, Surveyed, Verdict};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The bits of a mode: permissions, setuid, setgid and sticky.
const MODE_BITS: u32 = 0o7777;
/// The right to search a folder, or to execute a file.
const SEARCH_BITS: u32 = 0o111;

/// Answers what is on the volume that is mounted at `source`.
pub async fn survey(run: SurveyRun, source: &Path, stop: &Stop) -> Verdict {
    let (source, stopped) = (source.to_owned(), stop.clone());
    match blocking(move || look(&run, &source, &stopped)).await {
        Ok(surveyed) => Verdict::Surveyed(Box::new(surveyed)),
        Err(failure) => Verdict::Failed(failure),
    }
}

fn look(run: &SurveyRun, source: &Path, stop: &Stop) -> Result<Surveyed, Failure> {
    let _step = start(Step::Survey);
    let store_path = StorePath::new(&run.store_path)?;
    let root = fs::symlink_metadata(source).map_err(|error| unreadable(source, &error))?;
    let space = space::read(source).map_err(|error| unreadable(source, &error))?;
    let walk = Walk { mount: source, live: true, stop };
    let store = match store_path.find(source)? {
        Some(folder) => Some(look_at_store(&folder, walk, &store_path)?),
        None => None,
    };
    let mut outside = Outside { mount: source.to_owned(), files: 0, bytes: 0 };
    walk.outside(&store_path, &mut outside)?;
    let Outside { files, bytes, .. } = outside;
    progress::message(Step::Survey, &format!("{files} files, {bytes} bytes outside of the store"));
    Ok(Surveyed {
        store,
        outside_files: files,
        outside_bytes: bytes,
        capacity_bytes: space.map_or(0, |space| space.capacity),
        free_bytes: space.map_or(0, |space| space.free),
        root_uid: root.uid(),
        root_gid: root.gid(),
        root_mode: root.mode() & MODE_BITS,
    })
}

fn look_at_store(folder: &Metadata, walk: Walk<'_>, path: &StorePath) -> Result<StoreFolder, Failure> {
    let mut store = Store { bytes: 0, any: None, header: None };
    walk.store(path, &mut store)?;
    let folder_mode = folder.mode() & MODE_BITS;
    Ok(StoreFolder {
        uid: folder.uid(),
        gid: folder.gid(),
        folder_mode,
        file_mode: store.header.or(store.any).unwrap_or(folder_mode & !SEARCH_BITS),
        bytes: store.bytes,
    })
}

/// What is counted of a store.
struct Store {
    bytes: u64,
    /// Mode of some file.
    any: Option<u32>,
    /// Mode of `neostore`.
    header: Option<u32>,
}

impl Visit for Store {
    fn enter(&mut self, _: &Path, _: &Metadata) -> Result<(), Failure> {
        Ok(())
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        if metadata.is_file() {
            self.bytes += metadata.len();
            self.any = Some(metadata.mode() & MODE_BITS);
            if path.file_name() == Some(OsStr::new(header::FILE_NAME)) {
                self.header = self.any;
            }
        }
        Ok(())
    }

    fn leave(&mut self, _: &Path, _: &Metadata) -> Result<(), Failure> {
        Ok(())
    }
}

/// What is counted outside of the store.
struct Outside {
    mount: PathBuf,
    files: u64,
    bytes: u64,
}

impl Visit for Outside {
    fn enter(&mut self, _: &Path, _: &Metadata) -> Result<(), Failure> {
        Ok(())
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
        if metadata.is_file() {
            match access(self.mount.join(path), Access::READ_OK) {
                Ok(()) => self.bytes += metadata.len(),
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(unreadable(path, &errno.into())),
            }
        }
        self.files += 1;
        Ok(())
    }

    fn leave(&mut self, _: &Path, _: &Metadata) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use crate::api::Reason;
    use rustix::process::Signal;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn surveyed(source: &Path, path: &str) -> Result<Surveyed, Failure> {
        look(&SurveyRun { store_path: path.into(), deadline_seconds: 60 }, source, &Stop::never())
    }

    fn write(path: &Path, content: &str, mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_store_and_what_is_beside_it() {
        let source = tempfile::tempdir().unwrap();
        let store = source.path().join("data/graph.db");
        fs::create_dir_all(store.join("index")).unwrap();
        fs::set_permissions(&store, Permissions::from_mode(0o2750)).unwrap();
        fs::set_permissions(source.path(), Permissions::from_mode(0o1777)).unwrap();
        write(&store.join("neostore"), "12345", 0o604);
        write(&store.join("index/lucene"), "123", 0o600);
        write(&store.join("zz"), "", 0o600);
        symlink("/etc/passwd", store.join("link")).unwrap();
        write(&source.path().join("data/rrd"), "1234567", 0o600);
        symlink("/etc", source.path().join("conf")).unwrap();
        fs::create_dir(source.path().join("lost+found")).unwrap();
        write(&source.path().join("lost+found/#12"), "lost", 0o600);
        let found = surveyed(source.path(), "data/graph.db").unwrap();
        let owner = fs::metadata(source.path()).unwrap();
        let folder =
            StoreFolder { uid: owner.uid(), gid: owner.gid(), folder_mode: 0o2750, file_mode: 0o604, bytes: 8 };
        assert_eq!(found.store, Some(folder));
        assert_eq!((found.outside_files, found.outside_bytes), (2, 7));
        assert!(0 < found.free_bytes && found.free_bytes <= found.capacity_bytes, "{found:?}");
        assert_eq!((found.root_uid, found.root_gid, found.root_mode), (owner.uid(), owner.gid(), 0o1777));
        let gone = surveyed(source.path(), "graph.db").unwrap();
        assert_eq!((gone.store, gone.outside_files, gone.outside_bytes), (None, 6, 15));
        fs::remove_dir_all(&store).unwrap();
        fs::create_dir(&store).unwrap();
        let empty = surveyed(source.path(), "data/graph.db").unwrap().store.unwrap();
        assert_eq!((empty.bytes, empty.file_mode), (0, empty.folder_mode & 0o666));
    }

    #[test]
    fn what_would_end_the_restore_later_is_refused() {
        let source = tempfile::tempdir().unwrap();
        symlink("/var/lib", source.path().join("data")).unwrap();
        let reason = |path: &str| surveyed(source.path(), path).unwrap_err().reason;
        assert_eq!(reason("data"), Reason::StorePathUnfit);
        assert_eq!(reason("data/graph.db"), Reason::StorePathUnfit);
        assert_eq!(reason("../graph.db"), Reason::InvalidSpec);
        let run = SurveyRun { store_path: "graph.db".into(), deadline_seconds: 60 };
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert_eq!(look(&run, source.path(), &stop).unwrap_err().reason, Reason::Interrupted);
        assert_eq!(look(&run, Path::new("/dev"), &Stop::never()).unwrap_err().reason, Reason::CannotBeCarried);
    }
}
