//! The earlier point that an incremental backup starts from: finding it, and proving that the master shares its history.
//!
//! The same store id is not enough: after a restore, or a fail-over that lost transactions, the master's numbers soon pass
//! the parent's on another history, and the database checks nothing. Proof is either of
//!
//! * the fence token of the parent's end is the current one: the same member was master all the time;
//! * the transaction that the master serves under the parent's last number is the one in the parent's log.
//!
//! The parent is only ever read.

use super::blocking::blocking;
use super::history::{self, Identity, SearchError};
use super::layout::Layout;
use super::manifest::{Manifest, STORE_FOLDER};
use super::manifest_file;
use super::progress::{self, Step};
use super::run::{Parent, Place};
use super::stop::Stop;
use super::target;
use super::tree::{self, Listing, TreeError};
use super::verdict::Failure;
use crate::api::{Fence, Movement, Reason};
use crate::discovery::Network;
use crate::discovery::probe::{ProbeError, Transaction};
use std::path::PathBuf;

/// The number of the first transaction: 1 is the empty store.
const FIRST_TRANSACTION: i64 = 2;

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
    let (manifest, digest) = manifest_file::read(&folder).map_err(|error| refuse(&error.to_string()))?;
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
        let listing = tree::list(&self.store).map_err(|error| self.unreadable(error))?;
        let expected = self.manifest.files.iter().map(|file| (file.path.as_str(), file.bytes));
        let found = listing.files.iter().map(|(path, bytes)| (path.as_str(), *bytes));
        if expected.eq(found) { Ok(listing) } else { Err(self.damaged("has other files than its manifest names")) }
    }

    /// A failure to read the parent.
    pub fn unreadable(&self, error: TreeError) -> Failure {
        match error {
            TreeError::Stopped(cause) => cause.into(),
            error => self.damaged(&format!("cannot be read: {error}")),
        }
    }

    /// `problem` completes the sentence "the earlier point …".
    pub fn damaged(&self, problem: &str) -> Failure {
        damaged(&self.parent.point, problem)
    }

    /// Proves that the master that `fence` names shares the parent's history.
    pub async fn prove(&self, fence: &Fence, network: &Network, stop: &Stop) -> Result<(), Failure> {
        if is_unmoved(&self.manifest.fence_after, fence) {
            progress::message(Step::Parent, "one member was master since the earlier point: one history");
            return Ok(());
        }
        let id = self.manifest.last_transaction;
        if id < FIRST_TRANSACTION {
            return Err(self.differs("it holds no transaction by which that could be told"));
        }
        let answer = stop.unless_stopped(network.transaction(fence.endpoint(), id)).await?;
        let served = self.served(answer, fence)?;
        let Some(identity) = Identity::of(&served) else {
            return Err(self.differs(&format!("the master serves transaction {id} in a form that is not known")));
        };
        let (found, stop) = (self.clone(), stop.clone());
        blocking(move || found.holds(&identity, &stop)).await?;
        let message = format!("the master holds transaction {id} as the earlier point does: one history");
        progress::message(Step::Parent, &message);
        Ok(())
    }

    /// The parent's last transaction in the master's answer.
    fn served(&self, answer: Result<Option<Transaction>, ProbeError>, fence: &Fence) -> Result<Transaction, Failure> {
        let (id, member) = (self.manifest.last_transaction, fence.endpoint());
        match answer {
            Ok(Some(transaction)) => Ok(transaction),
            Ok(None) => Err(self.differs(&format!("the master has not come to its last transaction {id}"))),
            Err(ProbeError::Exception(text)) => Err(Failure::new(
                Reason::LogsPruned,
                format!(
                    "the logs of {member} do not reach back to transaction {id}, the last one in the earlier point {}: \
                     asked for it {}; take a full backup, and let the members keep their logs longer \
                     (keep_logical_logs)",
                    self.parent.point,
                    ProbeError::Exception(text)
                ),
            )),
            Err(ProbeError::Foreign(detail)) => {
                Err(self.differs(&format!("{member} cannot show transaction {id}: {detail}")))
            }
            Err(ProbeError::Unreachable(detail)) => Err(Failure::new(
                Reason::MasterUnreachable,
                format!(
                    "the backup port of {member} does not answer: {detail}; check that the member runs with \
                     online_backup_enabled=true and that NetworkPolicies let the backup's pod reach its backup port"
                ),
            )),
        }
    }

    /// Searches the parent's logs, which the manifest names.
    fn holds(&self, identity: &Identity, stop: &Stop) -> Result<(), Failure> {
        for log in history::logs(self.manifest.files.iter().map(|file| file.path.as_str())) {
            let path = self.store.join(log);
            let unreadable = |source| self.damaged(&format!("cannot be read: {log}: {source}"));
            match identity.is_in(tree::open(&path).map_err(unreadable)?, stop) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(SearchError::Stopped(cause)) => return Err(cause.into()),
                Err(SearchError::Read(source)) => return Err(unreadable(source)),
            }
        }
        let id = self.manifest.last_transaction;
        Err(self.differs(&format!("what the master holds as transaction {id} is not in the logs of the point")))
    }

    fn differs(&self, problem: &str) -> Failure {
        Failure::new(
            Reason::HistoryMayDiffer,
            format!(
                "the earlier point {} may be of another history than the master: {problem}; take a full backup",
                self.parent.point
            ),
        )
    }
}

/// Only a token from ZooKeeper tells a member that stayed master from one that left and returned.
fn is_unmoved(then: &Fence, now: &Fence) -> bool {
    matches!((then, now), (Fence::Master(_), Fence::Master(_))) && then.movement(now) == Movement::None
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
    use crate::api::{Endpoint, FenceToken};
    use std::fs;
    use std::path::Path;

    const LOG: &[u8] = include_bytes!("../../tests/recorded/log/incremental");
    const SERVED: &[u8] = include_bytes!("../../tests/recorded/log/served");

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
        manifest.files = tree::read(&folder.join(STORE_FOLDER), tree::Purpose::Keep, &Stop::never()).unwrap();
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
    fn every_answer_of_the_master_has_its_meaning() {
        let mount = tempfile::tempdir().unwrap();
        let found = find(&layout(mount.path()), &published(mount.path()), &place()).unwrap();
        let fence = testing::fence();
        let of = |answer| reason(found.served(answer, &fence));
        assert_eq!(of(Ok(None)), Some(Reason::HistoryMayDiffer));
        assert_eq!(of(Err(ProbeError::Exception("x".into()))), Some(Reason::LogsPruned));
        assert_eq!(of(Err(ProbeError::Foreign("x".into()))), Some(Reason::HistoryMayDiffer));
        assert_eq!(of(Err(ProbeError::Unreachable("x".into()))), Some(Reason::MasterUnreachable));
        let transaction = Transaction { id: 6, entries: SERVED.to_vec() };
        let identity = Identity::of(&found.served(Ok(Some(transaction)), &fence).unwrap()).unwrap();
        assert_eq!(found.holds(&identity, &Stop::never()), Ok(()));
        let mut other = SERVED.to_vec();
        other[15] ^= 1;
        let other = Identity::of(&Transaction { id: 6, entries: other }).unwrap();
        assert_eq!(reason(found.holds(&other, &Stop::never())), Some(Reason::HistoryMayDiffer));
    }

    #[test]
    fn only_a_token_from_zookeeper_proves_that_the_master_stayed() {
        let token = FenceToken {
            member_id: 1,
            endpoint: Endpoint { host: "neo4j-0".into(), port: 6362 },
            server_created: 8,
            election_created: 9,
            rebound: 1,
            rebound_modified: 15,
            cluster_modified: 3,
        };
        let returned = FenceToken { rebound_modified: 16, ..token.clone() };
        assert!(is_unmoved(&Fence::Master(token.clone()), &Fence::Master(token.clone())));
        assert!(!is_unmoved(&Fence::Master(token), &Fence::Master(returned)));
        assert!(!is_unmoved(&testing::fence(), &testing::fence()));
    }

    #[tokio::test]
    async fn an_empty_store_has_nothing_to_tell_its_history_by() {
        let mount = tempfile::tempdir().unwrap();
        let mut found = find(&layout(mount.path()), &published(mount.path()), &place()).unwrap();
        found.manifest.last_transaction = 1;
        let proved = found.prove(&testing::fence(), &Network::default(), &Stop::never()).await;
        assert_eq!(reason(proved), Some(Reason::HistoryMayDiffer));
    }
}
