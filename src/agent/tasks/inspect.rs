//! What a point on the volume proves: read whole, and held against its manifest and against what was asked for.
//!
//! Read-only. The same examination recognises a point that an earlier attempt published without being heard, proves a
//! copy before it is published, and answers the operator when a verdict was lost.

use crate::agent::blocking::blocking;
use crate::agent::progress::{Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::files::{self, Purpose};
use crate::agent::store::header::{self, StoreHeader, StoreHeaderError};
use crate::agent::store::manifest::{Manifest, STORE_FOLDER};
use crate::agent::store::manifest_file;
use crate::agent::store::seed;
use crate::agent::volume::layout::Layout;
use crate::agent::volume::lock;
use crate::agent::volume::target;
use crate::api::Owner;
use crate::api::{Movement, Reason};
use crate::contract::failure::Failure;
use crate::contract::task::{InspectRun, Place};
use crate::contract::verdict::{Published, Verdict};
use std::path::Path;

/// Answers whether a point of this object is on the volume.
pub async fn inspect(run: InspectRun, mount: &Path, stop: &Stop) -> Verdict {
    match answer(run, mount, stop).await {
        Ok(published) => Verdict::Published(Box::new(published)),
        Err(failure) => Verdict::Failed(failure),
    }
}

async fn answer(run: InspectRun, mount: &Path, stop: &Stop) -> Result<Published, Failure> {
    let layout = Layout::new(mount, &run.place)?;
    // Whoever still writes holds the lock: what is not there yet may be there in a moment.
    let lock = if run.clean && target::exists(&layout.cluster_folder())? {
        Some(stop.unless_stopped(lock::take(&layout.lock_file())).await??)
    } else {
        None
    };
    let (uid, mount, stop) = (run.owner.uid.clone(), mount.to_owned(), stop.clone());
    let found = blocking(move || look(&run, &mount, &stop)).await;
    match (found, lock) {
        (Err(failure), Some(_lock)) if failure.reason == Reason::JobLost => {
            Err(blocking(move || Ok(remove_partials(&layout, &uid, failure))).await?)
        }
        (found, _) => found,
    }
}

/// Under the lock every partial of the object is dead. What cannot be removed is told.
fn remove_partials(layout: &Layout, uid: &str, mut failure: Failure) -> Failure {
    let partials = match target::partials_of(layout, uid) {
        Ok(partials) => partials,
        Err(error) => return failure.and(format!("its partial copies could not be listed: {error}")),
    };
    for (partial, _) in partials {
        failure = match target::remove_partial(&partial) {
            Ok(()) => failure.and("the partial copy was removed"),
            Err(error) => failure.and(format!("the partial copy could not be removed: {error}")),
        };
    }
    failure
}

fn look(run: &InspectRun, mount: &Path, stop: &Stop) -> Result<Published, Failure> {
    let layout = Layout::new(mount, &run.place)?;
    let point = layout.point_folder();
    if target::exists(&point)? {
        target::stays_on_target(mount, &point)?;
        return examine(&point, (!run.adopt).then_some(&run.owner), &run.place, stop);
    }
    if run.adopt {
        return Err(Failure::new(
            Reason::PointMissing,
            format!("the target holds no point {}: correct spec.adopt or spec.target in a new GraphBackup", run.place),
        ));
    }
    let partials = target::partials_of(&layout, &run.owner.uid)?;
    let what = match partials.as_slice() {
        [] => format!("the target holds no point {} and no partial copy of this backup", run.place),
        [(partial, _), ..] => format!(
            "the target holds no point {}, only the partial copy {}: the run ended before it published; the next \
             attempt starts from the beginning",
            run.place,
            partial.strip_prefix(mount).unwrap_or(partial).display()
        ),
    };
    Err(Failure::new(Reason::JobLost, what))
}

/// Reads every byte of the point in `folder`, a partial's or a published one's, and says what it proves. Without an
/// `owner` that of any object counts.
pub fn examine(folder: &Path, owner: Option<&Owner>, place: &Place, stop: &Stop) -> Result<Published, Failure> {
    let _step = start(Step::Verify);
    let (manifest, digest) = manifest_file::read(folder)?;
    check_owner(&manifest, owner.map(|owner| owner.uid.as_str()), place)?;
    check_claims(&manifest, place)?;
    let store = folder.join(STORE_FOLDER);
    let found = files::read(&store, Purpose::Check, stop)?;
    if let Some(difference) = files::difference(&manifest.files, &found) {
        return Err(unproved(&format!("the store does not agree with its manifest: {difference}")));
    }
    check_header(&manifest, header::read(&store))?;
    let mut published = manifest.published(digest, true);
    if published.seed.is_none() {
        // Made before format 2. Its files have digests by now: what is wrong is told and not mended.
        published.seed = Some(seed::judge(&store, stop)?);
    }
    if published.fits_object() {
        Ok(published)
    } else {
        Err(unproved("the manifest's attempt, depth or times are out of range"))
    }
}

/// Holds the header of the store, or of a copy of it, against the manifest.
pub(super) fn check_header(
    manifest: &Manifest,
    read: Result<StoreHeader, StoreHeaderError>,
) -> Result<StoreHeader, Failure> {
    let header = read.map_err(|error| unproved(&error.to_string()))?;
    if (header.store_id, header.last_transaction) == (manifest.store_id, manifest.last_transaction) {
        Ok(header)
    } else {
        Err(unproved("the store's header does not agree with its manifest"))
    }
}

/// Whether the manifest names the object that was asked for, if one was.
pub(super) fn check_owner(manifest: &Manifest, uid: Option<&str>, place: &Place) -> Result<(), Failure> {
    if uid.is_none_or(|uid| manifest.owner.uid == uid) {
        return Ok(());
    }
    Err(Failure::new(
        Reason::PointExists,
        format!(
            "the point {place} belongs to another GraphBackup, {}/{} with UID {}; move it away",
            manifest.owner.namespace, manifest.owner.name, manifest.owner.uid
        ),
    ))
}

/// Holds what the manifest says against the place that was asked for, and against itself.
pub(super) fn check_claims(manifest: &Manifest, place: &Place) -> Result<(), Failure> {
    let bytes = manifest.files.iter().map(|file| u128::from(file.bytes)).sum::<u128>();
    let claims = [
        (manifest.point == place.point, "it names another point"),
        (manifest.store_id == place.cluster, "it names another store"),
        (
            manifest.mastership_before.movement(&manifest.mastership_after) == Movement::None,
            "the master changed during the copy",
        ),
        (manifest.tool.iter().chain(&manifest.catch_up).all(|tool| tool.exit_code == 0), "the tool failed"),
        (manifest.tree == files::tree_digest(&manifest.files), "its tree digest does not agree with its files"),
        (u128::from(manifest.bytes) == bytes, "its bytes do not agree with its files"),
    ];
    match claims.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, problem)) => Err(unproved(&format!("the manifest of {place} proves nothing: {problem}"))),
    }
}

/// The failure for a point that is not what it claims to be.
pub(super) fn unproved(problem: &str) -> Failure {
    Failure::new(Reason::VerificationFailed, format!("{problem}; the copy cannot be trusted, take a new backup"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use crate::api::{Endpoint, Mastership, ProbeMark, StoreId};
    use std::fs;

    const HEADER: &[u8] = include_bytes!("../testing/neostore");

    fn place() -> Place {
        Place { directory: "d".into(), cluster: testing::STORE_ID, point: testing::manifest().point }
    }

    /// A published point whose manifest `change` has made worse; its folder is made as the agent makes it.
    fn point(change: fn(&mut Manifest)) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        let layout = Layout::new(mount.path(), &place()).unwrap();
        target::prepare(&layout).unwrap();
        let partial = layout.partial_folder("backup-uid", "pod-uid").unwrap();
        target::make_partial(&partial).unwrap();
        fs::write(partial.join("store/neostore"), HEADER).unwrap();
        let mut manifest = testing::manifest();
        manifest.files = files::read(&partial.join(STORE_FOLDER), Purpose::Keep, &Stop::never()).unwrap();
        manifest.bytes = HEADER.len() as u64;
        manifest.tree = files::tree_digest(&manifest.files);
        change(&mut manifest);
        manifest_file::write(&partial, &manifest).unwrap();
        target::publish(&partial, &layout.point_folder()).unwrap();
        mount
    }

    fn asked(mount: &Path) -> Result<Published, Failure> {
        let run = InspectRun { owner: testing::owner(), place: place(), adopt: false, clean: false };
        look(&run, mount, &Stop::never())
    }

    #[tokio::test]
    async fn what_a_run_left_goes_under_the_lock() {
        let mount = tempfile::tempdir().unwrap();
        let layout = Layout::new(mount.path(), &place()).unwrap();
        let run = || InspectRun { owner: testing::owner(), place: place(), adopt: false, clean: true };
        let failure = answer(run(), mount.path(), &Stop::never()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::JobLost);
        target::prepare(&layout).unwrap();
        for uid in ["backup-uid", "other-uid"] {
            target::make_partial(&layout.partial_folder(uid, "pod-uid").unwrap()).unwrap();
        }
        let lock = lock::take(&layout.lock_file()).await.unwrap();
        // Whoever holds it may be about to publish.
        assert_eq!(answer(run(), mount.path(), &Stop::never()).await.unwrap_err().reason, Reason::TargetLocked);
        assert_eq!(target::partials_of(&layout, "backup-uid").unwrap().len(), 1);
        drop(lock);
        let failure = answer(run(), mount.path(), &Stop::never()).await.unwrap_err();
        assert!(failure.reason == Reason::JobLost && failure.message.contains("removed"), "{}", failure.message);
        assert_eq!(target::partials_of(&layout, "backup-uid").unwrap(), []);
        assert_eq!(target::partials_of(&layout, "other-uid").unwrap().len(), 1);
    }

    fn refused(mount: &Path) -> Reason {
        asked(mount).unwrap_err().reason
    }

    fn in_point(mount: &Path, path: &str) -> std::path::PathBuf {
        Layout::new(mount, &place()).unwrap().point_folder().join(path)
    }

    #[test]
    fn a_whole_point_is_proved() {
        let mount = point(|_| {});
        let published = asked(mount.path()).unwrap();
        assert!(published.verified);
        assert_eq!((published.files, published.bytes), (1, HEADER.len() as u64));
        assert_eq!((published.store_id, published.last_transaction), (testing::STORE_ID, 6));
    }

    #[test]
    fn a_manifest_that_claims_something_else_is_refused() {
        type Change = fn(&mut Manifest);
        let changes: &[(Change, Reason)] = &[
            (|m| m.owner.uid = "other".into(), Reason::PointExists),
            (|m| m.point = "other".into(), Reason::VerificationFailed),
            (|m| m.store_id = StoreId { creation_time: 1, random_id: 1 }, Reason::VerificationFailed),
            (|m| m.last_transaction = 7, Reason::VerificationFailed),
            (|m| m.tool.as_mut().unwrap().exit_code = 1, Reason::VerificationFailed),
            (|m| m.tree = "sha256:0".into(), Reason::VerificationFailed),
            (|m| m.bytes += 1, Reason::VerificationFailed),
            (|m| m.files.clear(), Reason::VerificationFailed),
            (|m| m.depth = u32::MAX, Reason::VerificationFailed),
            (|m| m.attempt = u32::MAX, Reason::VerificationFailed),
            (
                |m| {
                    let endpoint = Endpoint { host: "other".into(), port: 1 };
                    m.mastership_after = Mastership::Probe(ProbeMark { endpoint, store_id: testing::STORE_ID });
                },
                Reason::VerificationFailed,
            ),
            (
                |m| {
                    m.files.clear();
                    m.bytes = 0;
                    m.tree = files::tree_digest(&m.files);
                },
                Reason::VerificationFailed,
            ),
        ];
        for (number, (change, reason)) in changes.iter().enumerate() {
            assert_eq!(refused(point(*change).path()), *reason, "change {number}");
        }
    }

    #[test]
    fn a_store_that_changed_is_refused() {
        let mount = point(|_| {});
        let neostore = in_point(mount.path(), "store/neostore");
        let mut bytes = HEADER.to_vec();
        bytes[40] ^= 1;
        fs::write(&neostore, bytes).unwrap();
        assert_eq!(refused(mount.path()), Reason::VerificationFailed);
        fs::remove_file(&neostore).unwrap();
        assert_eq!(refused(mount.path()), Reason::VerificationFailed);
        fs::write(&neostore, HEADER).unwrap();
        assert!(asked(mount.path()).is_ok());
        fs::write(in_point(mount.path(), "store/more"), "").unwrap();
        assert_eq!(refused(mount.path()), Reason::VerificationFailed);
    }

    #[test]
    fn without_a_manifest_it_is_no_point() {
        let mount = point(|_| {});
        fs::remove_file(in_point(mount.path(), "manifest.json")).unwrap();
        assert_eq!(refused(mount.path()), Reason::ManifestMissing);
    }

    #[test]
    fn a_point_of_another_object_counts_for_whoever_adopts_it() {
        let mount = point(|m| m.owner.uid = "other".into());
        let adopt = |point: &str| {
            let place = Place { point: point.into(), ..place() };
            let run = InspectRun { owner: testing::owner(), place, adopt: true, clean: false };
            look(&run, mount.path(), &Stop::never())
        };
        assert_eq!(adopt(&place().point).unwrap().owner_uid, "other");
        assert_eq!(adopt("elsewhere").unwrap_err().reason, Reason::PointMissing);
    }

    #[test]
    fn a_partial_is_never_a_point() {
        let mount = tempfile::tempdir().unwrap();
        assert_eq!(refused(mount.path()), Reason::JobLost);
        let layout = Layout::new(mount.path(), &place()).unwrap();
        target::prepare(&layout).unwrap();
        assert_eq!(refused(mount.path()), Reason::JobLost);
        target::make_partial(&layout.partial_folder("backup-uid", "pod-uid").unwrap()).unwrap();
        let failure = asked(mount.path()).unwrap_err();
        assert_eq!(failure.reason, Reason::JobLost);
        assert!(failure.message.contains("/.partial-backup-uid-pod-uid"), "{}", failure.message);
    }
}
