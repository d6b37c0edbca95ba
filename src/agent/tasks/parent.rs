//! The earlier point that an incremental backup starts from: finding it, and proving that the master shares its
//! history.
//!
//! Proof is that the master holds the parent's newest transaction as the parent does ([`Witness`]). Nothing else is: a
//! token from ZooKeeper that is the same again may come from an ensemble that started afresh.
//!
//! The parent is only ever read.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::copy::{Origin, copy_files};
use crate::agent::store::files::{self, Listing, Purpose, TreeError};
use crate::agent::store::manifest::{Manifest, STORE_FOLDER};
use crate::agent::store::manifest_file::{self, ManifestError};
use crate::agent::store::witness::{self, Judgement, Witness, WitnessError};
use crate::agent::tasks::mastership::{EXCEPTIONS_MAX, PAUSE};
use crate::agent::volume::io_kind::{self, Kind, kind};
use crate::agent::volume::layout::Layout;
use crate::agent::volume::target;
use crate::api::{CopiedBy, Endpoint, Reason};
use crate::contract::failure::Failure;
use crate::contract::task::{Parent, Place};
use crate::discovery::Network;
use crate::discovery::probe::{ProbeError, Transaction};
use std::io;
use std::path::{Path, PathBuf};

/// A parent that is on the volume.
#[derive(Clone, Debug)]
pub struct Found {
    /// As it was asked for.
    pub parent: Parent,
    /// Its manifest, which has the digest that was asked for.
    pub manifest: Manifest,
    /// Folder of its store.
    pub store: PathBuf,
}

/// Looks for the parent. What is there must be what its object says, or the reason is `ParentDamaged`.
///
/// Only the manifest is read; [`Found::listing`] looks at the files.
pub fn find(layout: &Layout, parent: &Parent, place: &Place) -> Result<Found, Failure> {
    let folder = layout.sibling_folder(&parent.point)?;
    let refuse = |problem: &str| damaged(&parent.point, problem);
    if !target::exists(&folder)? {
        return Err(refuse("is not on the target"));
    }
    target::stays_on_target(layout.mount(), &folder).map_err(|error| refuse(&error.to_string()))?;
    let (manifest, digest) = manifest_file::read(&folder).map_err(|error| match &error {
        ManifestError::Read { source, .. } if kind(source) == Kind::Away => error.into(),
        _ => refuse(&error.to_string()),
    })?;
    if digest != parent.manifest_digest {
        return Err(refuse(&format!(
            "has a manifest of digest {digest} where its object names {}",
            parent.manifest_digest
        )));
    }
    if (manifest.store_id, manifest.last_transaction) != (place.cluster, parent.last_transaction) {
        return Err(refuse(&format!(
            "holds store {} up to transaction {}, not {} up to {}",
            manifest.store_id, manifest.last_transaction, place.cluster, parent.last_transaction
        )));
    }
    Ok(Found { parent: parent.clone(), manifest, store: folder.join(STORE_FOLDER) })
}

impl Found {
    /// The store's files and folders, which must be those of the manifest: names and sizes, not contents.
    pub fn listing(&self) -> Result<Listing, Failure> {
        let listing = files::list(&self.store).map_err(|error| self.unreadable(error))?;
        match files::difference_unread(&self.manifest.files, &listing) {
            None => Ok(listing),
            Some(_) => Err(self.damaged("has other files than its manifest names")),
        }
    }

    /// A failure to read the parent.
    pub fn unreadable(&self, error: TreeError) -> Failure {
        match error {
            TreeError::Stopped(cause) => cause.into(),
            // A file server that does not answer says nothing of what it holds.
            TreeError::Io { ref source, .. } if kind(source) == Kind::Away => error.into(),
            error => self.damaged(&format!("cannot be read: {error}")),
        }
    }

    /// `problem` completes the sentence "the earlier point …".
    pub fn damaged(&self, problem: &str) -> Failure {
        damaged(&self.parent.point, problem)
    }

    /// Copies the store into the empty folder `to`, and says how.
    pub fn copy(&self, to: &Path, stop: &Stop) -> Result<CopiedBy, Failure> {
        let _step = start(Step::Forward);
        let origin = Origin {
            step: Step::Forward,
            store: &self.store,
            bytes: self.manifest.bytes,
            name: &format!("the earlier point {}", self.parent.point),
            unreadable: &|problem, error| self.cannot_be_read(problem, error),
        };
        copy_files(&self.listing()?, &origin, to, stop)
    }

    /// Holds the copy in `to` against the parent's manifest: what is damaged in the parent would be so in the new
    /// point, and the new manifest would vouch for it.
    pub fn compare(&self, to: &Path, stop: &Stop) -> Result<(), Failure> {
        let _step = start(Step::Compare);
        let files = files::read(to, Purpose::Compare, stop).map_err(|error| match &error {
            // A clone shares the parent's blocks, and what was copied was flushed by nobody yet: it is the parent that
            // is lost.
            TreeError::Io { source, .. } if kind(source) == Kind::Medium => {
                self.damaged(&format!("cannot be read: {error}"))
            }
            _ => error.into(),
        })?;
        match files::difference(&self.manifest.files, &files) {
            None => Ok(()),
            Some(difference) => Err(self.damaged(&format!("was changed: {difference}"))),
        }
    }

    /// A device that fails twice has lost what it held. One that does not answer has not.
    fn cannot_be_read(&self, problem: &str, error: &io::Error) -> Failure {
        match kind(error) {
            Kind::Away => io_kind::target_failure(&format!("the earlier point {} {problem}", self.parent.point), error),
            _ => self.damaged(problem),
        }
    }

    /// Proves that `master` shares the parent's history.
    ///
    /// One question, bounded by [`LOOK_UP_BOUND`](crate::discovery::LOOK_UP_BOUND), and up to [`EXCEPTIONS_MAX`] of
    /// them where the answer is an exception, beside the time to read the parent's newest logs.
    pub async fn prove(&self, master: &Endpoint, network: &Network, stop: &Stop) -> Result<(), Failure> {
        let (found, reading) = (self.clone(), stop.clone());
        let Some(witness) = blocking(move || found.witness(&reading)).await? else {
            return Err(self.differs("it holds no transaction by which that could be told"));
        };
        let id = witness.id();
        let answer = stop.unless_stopped(ask(master, id, network)).await?;
        let (found, reading) = (self.clone(), stop.clone());
        let judgement =
            blocking(move || witness.judge(answer, &reading).map_err(|error| found.cannot_search(error))).await?;
        self.must_be_shared(judgement, id, master)?;
        let message = format!("the master holds transaction {id} as the earlier point does: one history");
        progress::message(Step::Parent, &message);
        Ok(())
    }

    fn witness(&self, stop: &Stop) -> Result<Option<Witness>, Failure> {
        let files = self.manifest.files.iter().map(|file| file.path.as_str());
        let witness = Witness::of(&self.store, files, self.manifest.last_transaction, stop);
        witness.map_err(|error| self.cannot_search(error))
    }

    fn must_be_shared(&self, judgement: Judgement, id: i64, master: &Endpoint) -> Result<(), Failure> {
        Err(match judgement {
            Judgement::Shared => return Ok(()),
            Judgement::Differs(problem) | Judgement::Untold(problem) => self.differs(&problem),
            Judgement::LogsGone(said) => Failure::new(
                Reason::LogsPruned,
                format!(
                    "the logs of {master} do not reach back to transaction {id}, the last one in the earlier point {}: \
                     asked for it, it answered with the exception {said}; take a full backup, and configure the \
                     members to keep their logs longer (keep_logical_logs)",
                    self.parent.point,
                ),
            ),
            Judgement::NoAnswer(error) => witness::no_answer(master, &error),
        })
    }

    fn cannot_search(&self, error: WitnessError) -> Failure {
        match error {
            WitnessError::Stopped(cause) => cause.into(),
            WitnessError::Read { log, source } if kind(&source) == Kind::Away => {
                let message = format!("the earlier point {} cannot be read: {log}: {source}", self.parent.point);
                io_kind::target_failure(&message, &source)
            }
            WitnessError::Read { log, source } => self.damaged(&format!("cannot be read: {log}: {source}")),
        }
    }

    fn differs(&self, problem: &str) -> Failure {
        Failure::new(
            Reason::HistoryMayDiffer,
            format!(
                "the earlier point {} may be of a different history from the master: {problem}; take a full backup",
                self.parent.point
            ),
        )
    }
}

/// Asks for a transaction, and again where the answer is an exception: a member that changes its role gives some.
async fn ask(master: &Endpoint, id: i64, network: &Network) -> Result<Option<Transaction>, ProbeError> {
    let mut answer = network.transaction(master, id).await;
    for _ in 1..EXCEPTIONS_MAX {
        if !matches!(answer, Err(ProbeError::Exception(_))) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        answer = network.transaction(master, id).await;
    }
    answer
}

fn damaged(point: &str, problem: &str) -> Failure {
    Failure::new(
        Reason::ParentDamaged,
        format!("the earlier point {point} {problem}; look for what changed it, and take a full backup"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use std::fs;
    use std::path::Path;

    const LOG: &[u8] = include_bytes!("../../../tests/recorded/log/incremental");

    fn place() -> Place {
        Place { directory: String::new(), cluster: testing::STORE_ID, point: "new".into() }
    }

    fn layout(mount: &Path) -> Layout {
        Layout::new(mount, &place()).unwrap()
    }

    /// A published point `old` that holds transaction 6 in its log.
    fn published(mount: &Path) -> Parent {
        let folder = layout(mount).sibling_folder("old").unwrap();
        fs::create_dir_all(folder.join(STORE_FOLDER)).unwrap();
        fs::write(folder.join("store/nioneo_logical.log.v2"), LOG).unwrap();
        let mut manifest = testing::manifest();
        manifest.files = files::read(&folder.join(STORE_FOLDER), Purpose::Keep, &Stop::never()).unwrap();
        let manifest_digest = manifest_file::write(&folder, &manifest).unwrap();
        Parent { name: "old".into(), uid: "u".into(), point: "old".into(), manifest_digest, last_transaction: 6 }
    }

    fn reason<T>(result: Result<T, Failure>) -> Option<Reason> {
        result.err().map(|failure| failure.reason)
    }

    #[test]
    fn a_parent_is_what_its_object_says_or_damaged() {
        let mount = tempfile::tempdir().unwrap();
        let parent = published(mount.path());
        let find = |parent: &Parent, place: &Place| find(&layout(mount.path()), parent, place);
        let found = find(&parent, &place()).unwrap();
        assert_eq!(found.listing().unwrap().files.len(), 1);
        for wrong in [
            Parent { point: "missing".into(), ..parent.clone() },
            Parent { manifest_digest: "sha256:0".into(), ..parent.clone() },
            Parent { last_transaction: 7, ..parent.clone() },
        ] {
            assert_eq!(reason(find(&wrong, &place())), Some(Reason::ParentDamaged), "{wrong:?}");
        }
        let out = Parent { point: "../old".into(), ..parent.clone() };
        assert_eq!(reason(find(&out, &place())), Some(Reason::InvalidSpec));
        fs::write(found.store.join("nioneo_logical.log.v2"), "shorter").unwrap();
        assert_eq!(reason(found.listing()), Some(Reason::ParentDamaged));
        fs::remove_dir_all(&found.store).unwrap();
        assert_eq!(reason(found.listing()), Some(Reason::ParentDamaged));
    }

    #[test]
    fn a_link_under_the_parents_name_is_no_parent() {
        let (mount, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let parent = published(elsewhere.path());
        let cluster = layout(mount.path()).cluster_folder();
        fs::create_dir_all(&cluster).unwrap();
        let there = layout(elsewhere.path()).sibling_folder("old").unwrap();
        std::os::unix::fs::symlink(there, cluster.join("old")).unwrap();
        assert_eq!(reason(find(&layout(mount.path()), &parent, &place())), Some(Reason::ParentDamaged));
    }

    #[test]
    fn every_judgement_has_its_reason() {
        let mount = tempfile::tempdir().unwrap();
        let found = find(&layout(mount.path()), &published(mount.path()), &place()).unwrap();
        let master = Endpoint { host: "neo4j-0".into(), port: 6362 };
        let of = |judgement| reason(found.must_be_shared(judgement, 6, &master));
        assert_eq!(of(Judgement::Shared), None);
        assert_eq!(of(Judgement::Differs("x".into())), Some(Reason::HistoryMayDiffer));
        assert_eq!(of(Judgement::Untold("x".into())), Some(Reason::HistoryMayDiffer));
        assert_eq!(of(Judgement::LogsGone("x".into())), Some(Reason::LogsPruned));
        let exception = ProbeError::Exception("x".into());
        assert_eq!(of(Judgement::NoAnswer(exception)), Some(Reason::MemberFailed));
        let unreachable = ProbeError::Unreachable("x".into());
        assert_eq!(of(Judgement::NoAnswer(unreachable)), Some(Reason::MasterUnreachable));
    }

    #[tokio::test]
    async fn an_empty_store_has_nothing_to_tell_its_history_by() {
        let mount = tempfile::tempdir().unwrap();
        let mut found = find(&layout(mount.path()), &published(mount.path()), &place()).unwrap();
        found.manifest.last_transaction = 1;
        found.manifest.files.clear();
        let master = Endpoint { host: "neo4j-0".into(), port: 6362 };
        let proved = found.prove(&master, &Network::default(), &Stop::never()).await;
        assert_eq!(reason(proved), Some(Reason::HistoryMayDiffer));
    }

    #[test]
    fn a_parent_whose_logs_are_gone_is_damaged() {
        let mount = tempfile::tempdir().unwrap();
        let found = find(&layout(mount.path()), &published(mount.path()), &place()).unwrap();
        fs::remove_file(found.store.join("nioneo_logical.log.v2")).unwrap();
        assert_eq!(reason(found.witness(&Stop::never())), Some(Reason::ParentDamaged));
    }
}
