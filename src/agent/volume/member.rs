//! A member's volume: the folder of its store, and what else is on it.
//!
//! ```text
//! <volume>/<store path>/…            the store; the path may have several parts, as data/graph.db
//! <volume>/.graphbackup-staging/…    the store of a restore while it is copied
//! <volume>/lost+found/…              what the file system keeps for itself
//! <volume>/…                         what is outside: configuration, logs, plug-ins
//! ```

use crate::agent::stop::Stop;
use crate::agent::volume::io_kind::{Kind, kind};
use crate::agent::volume::layout::is_folder_name;
use crate::api::Reason;
use crate::contract::failure::Failure;
use std::fs::{self, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Folder at a volume's root in which a restore copies the store, before it gets its place.
pub const STAGING_FOLDER: &str = ".graphbackup-staging";
/// Folder at the root of an ext4 that belongs to the file system, not to its user.
pub const LOST_AND_FOUND: &str = "lost+found";
/// Folders within folders. Each takes a file descriptor and a buffer while what is in it is looked at.
const DEPTH_MAX: usize = 128;

/// The folder of the store, relative to the volume's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePath {
    parts: Vec<String>,
}

impl StorePath {
    /// Checks every part before it becomes one of a path. The schema does so, too; the volume is guarded twice.
    pub fn new(text: &str) -> Result<Self, Failure> {
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        if text.len() <= 253 && parts.iter().all(|part| is_folder_name(part)) {
            return Ok(Self { parts });
        }
        Err(Failure::new(
            Reason::InvalidSpec,
            format!(
                "the store path {text:?} is not a relative path of letters, digits, '.', '_' and '-' whose parts do not \
                 start with '.' or '-'"
            ),
        ))
    }

    /// The store's folder on a volume.
    pub fn on(&self, mount: &Path) -> PathBuf {
        mount.join(self.relative())
    }

    /// Its parts, outermost first.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The folders that the store's folder is in, on a volume, outermost first.
    pub fn parents(&self, mount: &Path) -> Vec<PathBuf> {
        (1..self.parts.len()).map(|length| mount.join(self.parts[..length].join("/"))).collect()
    }

    fn relative(&self) -> PathBuf {
        PathBuf::from(self.parts.join("/"))
    }

    /// The store's folder on a member's own volume; nothing if it is not there. A database that follows a link writes
    /// elsewhere than to this path.
    pub fn find(&self, mount: &Path) -> Result<Option<Metadata>, Failure> {
        let mut found = None;
        for path in self.parents(mount).into_iter().chain([self.on(mount)]) {
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(unreadable(&path, &error)),
            };
            if !metadata.is_dir() {
                let what = if metadata.is_symlink() { "a symbolic link" } else { "not a folder" };
                return Err(Failure::new(
                    Reason::StorePathUnfit,
                    format!(
                        "{} on the member's own volume is {what}, so the store would be restored to where the database \
                         does not read it; name the real folder",
                        path.display()
                    ),
                ));
            }
            found = Some(metadata);
        }
        Ok(found)
    }
}

/// Whether an error says that something is not there any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The failure when something on a member's own volume cannot be read because of this error.
pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let problem = format!("the member's own volume: cannot read {}: {error}", path.display());
    match kind(error) {
        Kind::Medium | Kind::Away => {
            Failure::new(Reason::SourceIoError, format!("{problem}; if it persists, check the member's volume"))
        }
        Kind::Denied => Failure::new(
            Reason::SourceUnreadable,
            format!(
                "{problem}; give it to the database's user, or let that user read it: the Job's pod runs as that user"
            ),
        ),
        // The file was there when its folder was read, or was longer.
        Kind::Other if is_gone(error) || error.kind() == io::ErrorKind::UnexpectedEof => Failure::new(
            Reason::SourceChanged,
            format!("{problem}: something other than the member writes to its volume"),
        ),
        Kind::Full | Kind::ReadOnly | Kind::Other => Failure::new(Reason::SourceUnreadable, problem),
    }
}

/// What a walk meets.
pub trait Visit {
    /// A folder, before what is in it. Its path is relative to the volume.
    fn enter(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure>;
    /// A regular file or a symbolic link.
    fn file(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure>;
    /// The same folder, after what is in it.
    fn leave(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Failure>;
}

/// A walk through a volume, which holds no more in memory than one folder of each level.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The volume's root.
    pub mount: &'a Path,
    /// Whether what vanishes meanwhile is left out, as a database that serves removes files. Else it is a failure.
    pub live: bool,
    /// Tells when it has to end.
    pub stop: &'a Stop,
}

impl Walk<'_> {
    /// Visits everything outside of the store. Sockets and pipes are left out: they hold nothing, and whoever uses them
    /// makes them anew.
    pub fn outside(&self, store: &StorePath, visit: &mut dyn Visit) -> Result<(), Failure> {
        let skipped = [store.relative(), LOST_AND_FOUND.into(), STAGING_FOLDER.into()];
        self.visit_all(Path::new(""), &skipped, true, visit)
    }

    /// Visits everything in the store. What is neither a file, a link nor a folder is left out.
    pub fn store(&self, store: &StorePath, visit: &mut dyn Visit) -> Result<(), Failure> {
        self.visit_all(&store.relative(), &[], false, visit)
    }

    fn visit_all(
        &self,
        from: &Path,
        skipped: &[PathBuf],
        is_whole: bool,
        visit: &mut dyn Visit,
    ) -> Result<(), Failure> {
        let mut levels: Vec<(PathBuf, Option<Metadata>, ReadDir)> = Vec::new();
        levels.extend(self.open(from)?.map(|entries| (from.to_owned(), None, entries)));
        while let Some((folder, metadata, entries)) = levels.last_mut() {
            if let Some(cause) = self.stop.cause() {
                return Err(cause.into());
            }
            let Some(entry) = entries.next() else {
                if let Some(metadata) = metadata {
                    visit.leave(folder, metadata)?;
                }
                levels.pop();
                continue;
            };
            let Some(entry) = self.unless_gone(folder, entry)? else { continue };
            let path = folder.join(entry.file_name());
            if skipped.contains(&path) {
                continue;
            }
            // Of the entry itself: a link is not followed.
            let Some(metadata) = self.unless_gone(&path, entry.metadata())? else { continue };
            let kind = metadata.file_type();
            if kind.is_dir() {
                if levels.len() == DEPTH_MAX {
                    return Err(cannot_be_carried(&path, &format!("it is more than {DEPTH_MAX} folders deep")));
                }
                if let Some(entries) = self.open(&path)? {
                    visit.enter(&path, &metadata)?;
                    levels.push((path, Some(metadata), entries));
                }
            } else if kind.is_file() || kind.is_symlink() {
                visit.file(&path, &metadata)?;
            } else if is_whole && !kind.is_socket() && !kind.is_fifo() {
                return Err(cannot_be_carried(&path, "it is a device"));
            }
        }
        Ok(())
    }

    fn open(&self, folder: &Path) -> Result<Option<ReadDir>, Failure> {
        self.unless_gone(folder, fs::read_dir(self.mount.join(folder)))
    }

    fn unless_gone<T>(&self, path: &Path, looked: io::Result<T>) -> Result<Option<T>, Failure> {
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(error) if self.live && is_gone(&error) => Ok(None),
            Err(error) => Err(unreadable(path, &error)),
        }
    }
}

fn cannot_be_carried(path: &Path, why: &str) -> Failure {
    Failure::new(
        Reason::CannotBeCarried,
        format!(
            "{} on the member's own volume cannot be carried to a new one: {why}; remove it from the volume",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use rustix::io::Errno;
    use rustix::process::Signal;
    use std::os::unix::fs::symlink;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visit for Seen {
        fn enter(&mut self, path: &Path, _: &Metadata) -> Result<(), Failure> {
            self.0.push(format!("> {}", path.display()));
            Ok(())
        }

        fn file(&mut self, path: &Path, _: &Metadata) -> Result<(), Failure> {
            self.0.push(path.display().to_string());
            Ok(())
        }

        fn leave(&mut self, path: &Path, _: &Metadata) -> Result<(), Failure> {
            self.0.push(format!("< {}", path.display()));
            Ok(())
        }
    }

    fn outside(mount: &Path, store: &str, stop: &Stop) -> Result<Vec<String>, Failure> {
        let mut seen = Seen::default();
        Walk { mount, live: false, stop }.outside(&StorePath::new(store)?, &mut seen)?;
        Ok(seen.0)
    }

    #[test]
    fn outside_is_what_is_not_below_the_store_path() {
        let mount = tempfile::tempdir().unwrap();
        let folders = ["lost+found", "data/graph.db/index", "data/lost+found", ".graphbackup-staging"];
        for folder in folders {
            fs::create_dir_all(mount.path().join(folder)).unwrap();
            fs::write(mount.path().join(folder).join("file"), "").unwrap();
        }
        symlink("/etc", mount.path().join("data/link")).unwrap();
        let mut seen = outside(mount.path(), "data/graph.db", &Stop::never()).unwrap();
        assert_eq!((seen[0].as_str(), seen.last().unwrap().as_str()), ("> data", "< data"));
        seen.sort();
        let within = ["< data/lost+found", "> data", "> data/lost+found", "data/link", "data/lost+found/file"];
        assert_eq!(seen, [&["< data"], &within[..]].concat());
        let seen = outside(mount.path(), "data", &Stop::never()).unwrap();
        assert_eq!(seen, Vec::<String>::new());
    }

    #[test]
    fn sockets_and_pipes_are_left_out_and_devices_are_named() {
        let mount = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(mount.path().join("socket")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, mount.path().join("pipe"), 0o600.into()).unwrap();
        assert_eq!(outside(mount.path(), "graph.db", &Stop::never()).unwrap(), Vec::<String>::new());
        // As a folder of the system, which only root may make.
        let failure = outside(Path::new("/dev"), "graph.db", &Stop::never()).unwrap_err();
        assert_eq!(failure.reason, Reason::CannotBeCarried, "{}", failure.message);
        assert!(failure.message.contains("device"), "{}", failure.message);
    }

    #[test]
    fn a_volume_that_is_too_deep_or_a_run_that_has_to_end_ends_the_walk() {
        let mount = tempfile::tempdir().unwrap();
        let mut folder = mount.path().to_owned();
        (1..DEPTH_MAX).for_each(|_| folder.push("a"));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(outside(mount.path(), "graph.db", &Stop::never()).unwrap().len(), 2 * (DEPTH_MAX - 1));
        fs::create_dir(folder.join("a")).unwrap();
        let failure = outside(mount.path(), "graph.db", &Stop::never()).unwrap_err();
        assert_eq!(failure.reason, Reason::CannotBeCarried);
        let stop = Stop::at_once(StopCause::Signal(Signal::TERM));
        assert_eq!(outside(mount.path(), "graph.db", &stop).unwrap_err().reason, Reason::Interrupted);
    }

    #[test]
    fn what_vanishes_counts_only_where_nobody_should_write() {
        let mount = tempfile::tempdir().unwrap();
        let store = StorePath::new("gone").unwrap();
        let walk = |live| Walk { mount: mount.path(), live, stop: &Stop::never() }.store(&store, &mut Seen::default());
        walk(true).unwrap();
        assert_eq!(walk(false).unwrap_err().reason, Reason::SourceChanged);
    }

    #[test]
    fn a_store_path_stays_on_its_volume() {
        for bad in ["", "/", "/graph.db", "graph.db/", "a//b", "../a", "a/..", ".a", "a/.b", "a b", "-a", "lost+found"]
        {
            assert_eq!(StorePath::new(bad).unwrap_err().reason, Reason::InvalidSpec, "{bad:?}");
        }
        let path = StorePath::new("a/b/graph.db").unwrap();
        assert_eq!(path.on(Path::new("/source")), Path::new("/source/a/b/graph.db"));
        assert_eq!(path.parents(Path::new("/source")), ["/source/a", "/source/a/b"].map(PathBuf::from));
        assert_eq!(StorePath::new("graph.db").unwrap().parents(Path::new("/source")), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_store_path_is_of_folders_or_is_not_there() {
        let mount = tempfile::tempdir().unwrap();
        let find = |path: &str| StorePath::new(path).unwrap().find(mount.path());
        assert!(find("data/graph.db").unwrap().is_none());
        fs::create_dir_all(mount.path().join("data/graph.db")).unwrap();
        assert!(find("data/graph.db").unwrap().unwrap().is_dir());
        symlink("data", mount.path().join("link")).unwrap();
        symlink("nowhere", mount.path().join("broken")).unwrap();
        fs::write(mount.path().join("file"), "").unwrap();
        for (path, said) in [
            ("link/graph.db", "link"),
            ("link", "link"),
            ("broken", "link"),
            ("file", "not a folder"),
            ("file/x", "not a"),
        ] {
            let failure = find(path).unwrap_err();
            assert_eq!(failure.reason, Reason::StorePathUnfit);
            assert!(failure.message.contains(said), "{path}: {}", failure.message);
        }
    }

    #[test]
    fn an_error_of_the_members_own_volume_is_told_of_it() {
        let of = |errno: Errno| unreadable(Path::new("plugins/a.jar"), &errno.into());
        assert_eq!([of(Errno::IO).reason, of(Errno::TIMEDOUT).reason], [Reason::SourceIoError; 2]);
        assert_eq!([of(Errno::ACCESS).reason, of(Errno::LOOP).reason], [Reason::SourceUnreadable; 2]);
        assert_eq!(of(Errno::NOENT).reason, Reason::SourceChanged);
        for errno in [Errno::IO, Errno::ACCESS, Errno::NOENT, Errno::LOOP] {
            let message = of(errno).message;
            assert!(message.contains("member's own volume") && message.contains("plugins/a.jar"), "{message}");
        }
    }
}
