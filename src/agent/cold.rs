//! A cold copy: the store of a member that is stopped, from the member's volume, which is mounted read-only.
//!
//! The operator has seen that the member's pod is gone, and its registration with it. What is proved here: it is the store
//! of the cluster, it was shut down cleanly, and nothing changed it between the first look and the last.

use super::forward;
use super::history;
use super::layout::Layout;
use super::lock;
use super::progress::{Step, start};
use super::run::{BackupRun, Plan};
use super::space;
use super::stop::Stop;
use super::store_header::{self, StoreHeader};
use super::target;
use super::tree::{self, Listing, TreeError};
use super::verdict::Failure;
use crate::api::{Reason, StoreId};
use crate::discovery::{Discovery, Network};
use chrono::{DateTime, Utc};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How often the files of a store that is written to are listed.
const LISTINGS: usize = 5;
/// How often a master is looked for after the copy, and the time between two looks: another member may be taking over.
const LOOKS: (usize, Duration) = (30, Duration::from_secs(2));

/// The store at one moment.
struct Look {
    header: StoreHeader,
    listing: Listing,
    /// Of each file: time of its last change, seconds and nanoseconds.
    changed: Vec<(i64, i64)>,
}

/// Copies the store in `source` into the empty folder `to`. It must be the store of `cluster`.
pub fn copy(source: &Path, to: &Path, cluster: StoreId, stop: &Stop) -> Result<StoreHeader, Failure> {
    let before = look(source)?;
    require_store(before.header.store_id, cluster)?;
    if !before.header.clean_shutdown {
        return Err(Failure::new(
            Reason::UncleanShutdown,
            "the member's store was not shut down cleanly: let its pod have the time to stop \
             (terminationGracePeriodSeconds), and let its process get the signal",
        ));
    }
    forward::cold(&before.listing, source, to, stop)?;
    let after = look(source)?;
    match difference(&before, &after) {
        None => Ok(before.header),
        Some(path) => Err(Failure::new(
            Reason::SourceChanged,
            format!("{path} changed while the store was copied: something else than the member writes to its volume"),
        )),
    }
}

/// Whether a copy could be made, while the member still serves: the target takes it, and the store is there and can be read.
pub async fn check(run: &BackupRun, mount: &Path, source: &Path, stop: &Stop) -> Result<(), Failure> {
    let _step = start(Step::Check);
    let Plan::Cold { store_path, .. } = &run.plan else {
        return Err(Failure::new(Reason::AgentFailed, "only a cold copy is checked beforehand"));
    };
    let layout = Layout::new(mount, &run.place)?;
    target::prepare(&layout)?;
    let _lock = stop.unless_stopped(lock::take(&layout.lock_file())).await??;
    let source = source.join(store_path);
    let header = store_header::read(&source).map_err(unreadable)?;
    require_store(header.store_id, run.place.cluster)?;
    let listing = list_live(&source)?;
    for (path, _) in &listing.files {
        // The member may have removed it since it was listed.
        match tree::open(&source.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unreadable(format!("{path}: {error}")));
            }
            _ => {}
        }
    }
    let bytes = listing.files.iter().map(|(_, bytes)| bytes).sum();
    space::require(mount, bytes, "the member's store")
}

/// The files of a store that is written to: one that goes while they are listed is no reason to give up.
fn list_live(source: &Path) -> Result<Listing, Failure> {
    let mut listing = tree::list(source);
    for _ in 1..LISTINGS {
        match &listing {
            Err(TreeError::Io { source: error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                listing = tree::list(source);
            }
            _ => break,
        }
    }
    listing.map_err(unreadable)
}

fn require_store(found: StoreId, cluster: StoreId) -> Result<(), Failure> {
    if found == cluster {
        return Ok(());
    }
    Err(Failure::new(
        Reason::StoreMismatch,
        format!(
            "the member's volume holds store {found}, the cluster has store {cluster}: check spec.cold.workload and \
             spec.source"
        ),
    ))
}

fn look(source: &Path) -> Result<Look, Failure> {
    let listing = tree::list(source).map_err(unreadable)?;
    let header = store_header::read(source).map_err(unreadable)?;
    let changed = listing.files.iter().map(|(path, _)| {
        let metadata =
            fs::symlink_metadata(source.join(path)).map_err(|error| unreadable(format!("{path}: {error}")))?;
        Ok((metadata.mtime(), metadata.mtime_nsec()))
    });
    let changed = changed.collect::<Result<_, Failure>>()?;
    Ok(Look { header, listing, changed })
}

/// The first file that is not as it was.
fn difference(before: &Look, after: &Look) -> Option<String> {
    let of = |look: &Look| -> Vec<_> { look.listing.files.iter().cloned().zip(look.changed.iter().copied()).collect() };
    let (before, after) = (of(before), of(after));
    let longest = before.len().max(after.len());
    let at = (0..longest).find(|at| before.get(*at) != after.get(*at))?;
    before.get(at).or(after.get(at)).map(|((path, _), _)| path.clone())
}

/// What it means that the member's store cannot be read.
pub fn unreadable(problem: impl std::fmt::Display) -> Failure {
    Failure::new(
        Reason::SourceUnreadable,
        format!(
            "the member's store cannot be read: {problem}; check spec.cold.workload.storePath, and run the pod as the \
             database's user (spec.tool.podTemplate.securityContext)"
        ),
    )
}

/// Everything that was committed before this moment is in a copy that ends with transaction `last`.
///
/// A slave may have been stopped before it had the newest transactions. The first one that it lacks, as the master holds
/// it, was begun before it was committed. `began` is when the copying began, with the member stopped.
pub async fn data_from(
    run: &BackupRun,
    network: &Network,
    last: i64,
    began: DateTime<Utc>,
    stop: &Stop,
) -> Result<DateTime<Utc>, Failure> {
    let _step = start(Step::DataFrom);
    let mut problem = String::new();
    for _ in 0..LOOKS.0 {
        match first_missing(run, network, last).await {
            Ok(time) => return Ok(time.map_or(began, |time| time.min(began))),
            Err(said) => problem = said,
        }
        stop.unless_stopped(tokio::time::sleep(LOOKS.1)).await?;
    }
    Err(Failure::new(
        Reason::NoMaster,
        format!("the member was stopped and its store copied, but no master tells what it lacks: {problem}"),
    ))
}

/// When the first transaction was begun that the copy lacks, if there is one.
async fn first_missing(run: &BackupRun, network: &Network, last: i64) -> Result<Option<DateTime<Utc>>, String> {
    let located = network.locate(&run.source, run.cluster_name.as_deref()).await.map_err(|error| error.to_string())?;
    let master = located.fence.endpoint();
    let answer = network.transaction(master, last.saturating_add(1)).await;
    match answer.map_err(|error| format!("{master}: {error}"))? {
        None => Ok(None),
        Some(transaction) => history::start_time(&transaction)
            .map(Some)
            .ok_or_else(|| format!("{master} serves transaction {} in a form that is not known", transaction.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use crate::agent::testing::STORE_ID;
    use std::path::PathBuf;

    const RECORDED: StoreId = StoreId { creation_time: 1_795_507_138_122, random_id: 6_446_039_257_274_779_644 };

    fn header(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/neostore").join(name)
    }

    /// A store with a header recorded from the real database.
    fn store(recorded: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(header(recorded), folder.path().join("neostore")).unwrap();
        fs::create_dir(folder.path().join("index")).unwrap();
        fs::write(folder.path().join("index/lucene.log.v0"), "index").unwrap();
        folder
    }

    #[test]
    fn a_store_that_was_shut_down_is_copied_whole() {
        let (source, to) = (store("clean-shutdown"), tempfile::tempdir().unwrap());
        copy(source.path(), to.path(), RECORDED, &Stop::never()).unwrap();
        assert_eq!(fs::read(to.path().join("neostore")).unwrap(), fs::read(header("clean-shutdown")).unwrap());
        assert_eq!(fs::read(to.path().join("index/lucene.log.v0")).unwrap(), b"index");
    }

    #[test]
    fn what_is_no_stopped_store_of_the_cluster_is_refused_by_name() {
        let reason = |source: &Path, cluster, stop: &Stop| {
            let to = tempfile::tempdir().unwrap();
            copy(source, to.path(), cluster, stop).unwrap_err().reason
        };
        let goes_on = Stop::never();
        assert_eq!(reason(store("killed").path(), RECORDED, &goes_on), Reason::UncleanShutdown);
        assert_eq!(reason(store("clean-shutdown").path(), STORE_ID, &goes_on), Reason::StoreMismatch);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(reason(empty.path(), RECORDED, &goes_on), Reason::SourceUnreadable);
        assert_eq!(reason(&empty.path().join("graph.db"), RECORDED, &goes_on), Reason::SourceUnreadable);
        let stopped = Stop::at_once(StopCause::Signal(rustix::process::Signal::TERM));
        assert_eq!(reason(store("clean-shutdown").path(), RECORDED, &stopped), Reason::Interrupted);
    }

    #[test]
    fn every_change_of_the_source_is_seen() {
        let changes: [fn(&Path); 4] = [
            |store| fs::write(store.join("neostore.nodestore.db"), "new").unwrap(),
            |store| fs::remove_file(store.join("index/lucene.log.v0")).unwrap(),
            |store| fs::write(store.join("index/lucene.log.v0"), "other").unwrap(),
            |store| {
                let log = fs::File::options().write(true).open(store.join("index/lucene.log.v0")).unwrap();
                log.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let source = store("clean-shutdown");
            let before = look(source.path()).unwrap();
            assert_eq!(difference(&before, &look(source.path()).unwrap()), None);
            change(source.path());
            assert!(difference(&before, &look(source.path()).unwrap()).is_some(), "change {number}");
        }
    }
}
