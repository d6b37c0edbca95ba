//! Where things are: the database's programs in the cache, data and logs of this run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Folder with the database's programs, made by `e2e/neo4j/build` if need be.
pub fn home() -> &'static Path {
    static HOME: LazyLock<PathBuf> = LazyLock::new(|| built(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/neo4j/build")));
    &HOME
}

/// Folder with the ZooKeeper server of today, made by `e2e/zookeeper/build` if need be.
pub fn home_of_zookeeper() -> &'static Path {
    static HOME: LazyLock<PathBuf> =
        LazyLock::new(|| built(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/zookeeper/build")));
    &HOME
}

/// The folder that a script makes if need be, and prints.
fn built(script: &str) -> PathBuf {
    let output = Command::new(script).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A new folder of this run. Kept for reading the logs after a failure, until a later run removes it.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder whose name starts with `name`.
    pub fn new(name: &str) -> Self {
        static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
            let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real");
            std::fs::create_dir_all(&all).unwrap();
            for old in std::fs::read_dir(&all).unwrap().flatten() {
                // Named by the process that made it: in use as long as that lives.
                if !Path::new("/proc").join(old.file_name()).exists() {
                    let _ = std::fs::remove_dir_all(old.path());
                }
            }
            let run = all.join(std::process::id().to_string());
            let _ = std::fs::remove_dir_all(&run);
            std::fs::create_dir(&run).unwrap();
            run
        });
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = RUN.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of `name` in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}
