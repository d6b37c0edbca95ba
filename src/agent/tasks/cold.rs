//! A cold copy: the store of a member that is stopped, from the member's volume, which is mounted read-only.
//!
//! The operator has seen that the member's pod is gone, and its registration with it. What is proved here: it is the
//! store of the cluster, it was shut down cleanly, nothing changed it between the first look and the last, and the
//! master shares its history.

use crate::agent::blocking::blocking;
use crate::agent::progress::{Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::copy::{Origin, copy_files};
use crate::agent::store::files::{self, Listing, TreeError};
use crate::agent::store::header::{self, StoreHeader};
use crate::agent::store::history;
use crate::agent::store::witness::{self, Judgement, Witness};
use crate::agent::tasks::mastership::{self, Halt};
use crate::agent::volume::io_kind;
use crate::agent::volume::layout::Layout;
use crate::agent::volume::lock;
use crate::agent::volume::space;
use crate::agent::volume::target;
use crate::api::{Endpoint, Reason, StoreId};
use crate::contract::failure::Failure;
use crate::contract::task::{BackupRun, Plan};
use crate::discovery::probe::ProbeError;
use crate::discovery::{Discovery, Network};
use chrono::{DateTime, Utc};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How often the files of a store that is written to are listed.
const LISTINGS: usize = 5;
/// How long a master is looked for after the copy: another member may be taking over, which takes the session time-out
/// of the stopped one and an election.
const MASTER_BOUND: Duration = Duration::from_secs(180);
/// Time between two looks for a master.
const PAUSE: Duration = Duration::from_secs(2);

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
            "the member's store was not shut down cleanly: give its pod enough time to stop \
             (terminationGracePeriodSeconds), and make sure that its process receives the signal",
        ));
    }
    copy_store(&before.listing, source, to, stop)?;
    let after = look(source)?;
    match difference(&before, &after) {
        None => Ok(before.header),
        Some(path) => Err(Failure::new(
            Reason::SourceChanged,
            format!("{path} changed while the store was copied: something other than the member writes to its volume"),
        )),
    }
}

/// Whether a copy could be made, while the member still serves: the target takes it, and the store is there and can be
/// read.
pub async fn check(run: &BackupRun, mount: &Path, source: &Path, stop: &Stop) -> Result<(), Failure> {
    let _step = start(Step::Check);
    let Plan::Cold { store_path, .. } = &run.plan else {
        return Err(Failure::new(Reason::AgentFailed, "only a cold copy is checked beforehand"));
    };
    let layout = Layout::new(mount, &run.place)?;
    target::prepare(&layout)?;
    let _lock = stop.unless_stopped(lock::take(&layout.lock_file())).await??;
    let (source, cluster, mount) = (source.join(store_path), run.place.cluster, mount.to_owned());
    stop.unless_stopped(blocking(move || check_source(&source, cluster, &mount))).await?
}

/// Whether the store is there, can be read, and has room on the target.
fn check_source(source: &Path, cluster: StoreId, mount: &Path) -> Result<(), Failure> {
    let header = header::read(source).map_err(unreadable)?;
    require_store(header.store_id, cluster)?;
    let listing = list_live(source)?;
    for (path, _) in &listing.files {
        // The member may have removed it since it was listed.
        match files::open(&source.join(path)) {
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
    let mut listing = files::list(source);
    for _ in 1..LISTINGS {
        match &listing {
            Err(TreeError::Io { source: error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                listing = files::list(source);
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
    let listing = files::list(source).map_err(unreadable)?;
    let header = header::read(source).map_err(unreadable)?;
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

/// Copies the store of a stopped member into the empty folder `to`.
fn copy_store(listing: &Listing, store: &Path, to: &Path, stop: &Stop) -> Result<(), Failure> {
    let _step = start(Step::Cold);
    let bytes = listing.files.iter().map(|(_, bytes)| bytes).sum();
    let origin = Origin {
        step: Step::Cold,
        store,
        bytes,
        name: "the member's store",
        unreadable: &|problem, error| {
            if !io_kind::may_pass(error) {
                return unreadable(problem);
            }
            let message = format!("the member's store {problem}; if it persists, check the member's volume");
            Failure::new(Reason::SourceIoError, message)
        },
    };
    copy_files(listing, &origin, to, stop).map(drop)
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

/// A copy of a stopped member's store.
pub struct Copy {
    /// Its folder.
    pub store: PathBuf,
    /// The last transaction that it holds.
    pub last_transaction: i64,
    /// When the copying began, with the member stopped.
    pub began: DateTime<Utc>,
}

/// Everything that was committed before this moment is in the copy, which is of the master's history.
///
/// A slave may have been stopped before it had the newest transactions. The first one that it lacks, as the master
/// holds it, was begun before it was committed. A former master may hold transactions that nobody else has: its last
/// one must be the master's, too.
///
/// Takes [`MASTER_BOUND`] at most, and no longer than the run may take: the member is stopped until this ends.
pub async fn data_from(run: &BackupRun, network: &Network, copy: &Copy, stop: &Stop) -> Result<DateTime<Utc>, Failure> {
    let _step = start(Step::DataFrom);
    let witness = mastership::witness_of(copy.store.clone(), copy.last_transaction, stop).await?;
    let until = Instant::now() + MASTER_BOUND;
    let mut problem = Failure::new(Reason::NoMaster, "no answer");
    loop {
        let look = tokio::time::timeout_at(until, ask_master(run, network, copy, witness.as_ref(), stop));
        match stop.unless_stopped(look).await? {
            Ok(Ok(time)) => return Ok(time),
            Ok(Err(Halt::Final(failure))) => return Err(failure),
            Ok(Err(Halt::Passing(failure))) => problem = failure,
            Err(_) => return Err(no_master(&problem)),
        }
        stop.unless_stopped(tokio::time::sleep(PAUSE)).await?;
    }
}

fn no_master(problem: &Failure) -> Failure {
    Failure::new(
        problem.reason,
        format!(
            "the member was stopped and its store copied, but no master confirmed within {} s that the copy belongs \
             to its history: {}",
            MASTER_BOUND.as_secs(),
            problem.message
        ),
    )
}

/// One look for the master and its two answers: does it hold the copy's newest transaction, and which comes next?
async fn ask_master(
    run: &BackupRun,
    network: &Network,
    copy: &Copy,
    witness: Option<&Witness>,
    stop: &Stop,
) -> Result<DateTime<Utc>, Halt> {
    let located = network.locate(&run.source, run.cluster_name.as_deref()).await;
    let located = located.map_err(|error| Halt::of(&error))?;
    if located.store_id != run.place.cluster {
        return Err(Halt::Final(Failure::new(
            Reason::StoreMismatch,
            format!("the source served store {} and now serves {}", run.place.cluster, located.store_id),
        )));
    }
    let master = located.mastership.endpoint();
    if let Some(witness) = witness {
        let answer = network.transaction(master, witness.id()).await;
        match mastership::judge(witness, answer, stop).await? {
            Judgement::Shared => {}
            Judgement::Differs(problem) | Judgement::Untold(problem) => return Err(of_another_history(&problem)),
            Judgement::LogsGone(said) => return Err(out_of_reach(master, copy.last_transaction, &said)),
            Judgement::NoAnswer(error) => return Err(Halt::Passing(witness::no_answer(master, &error))),
        }
    }
    let next = copy.last_transaction.saturating_add(1);
    let missing = match network.transaction(master, next).await {
        Ok(None) => return Ok(copy.began),
        Ok(Some(missing)) => missing,
        Err(ProbeError::LogsGone(said)) => return Err(out_of_reach(master, next, &said)),
        Err(error @ (ProbeError::Unreachable(_) | ProbeError::Exception(_))) => {
            return Err(Halt::Passing(witness::no_answer(master, &error)));
        }
        Err(error) => return Err(of_another_history(&format!("{master} cannot show transaction {next}: {error}"))),
    };
    let begun = history::start_time(&missing).ok_or_else(|| {
        of_another_history(&format!("{master} serves transaction {next} in a form that is not known"))
    })?;
    Ok(begun.min(copy.began))
}

fn of_another_history(problem: &str) -> Halt {
    Halt::Final(mastership::differs(problem))
}

/// The master's logs begin after the end of the copy: nothing tells whether they are of one history.
fn out_of_reach(master: &Endpoint, id: i64, said: &str) -> Halt {
    of_another_history(&format!(
        "the logs of {master} do not reach back to transaction {id}, up to which the stopped member had come: {said}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stop::StopCause;
    use crate::agent::testing::STORE_ID;

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
