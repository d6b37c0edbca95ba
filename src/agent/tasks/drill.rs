//! `agent drill`: the restore drill of a point. It is copied to a scratch volume as for a restore, compared with its
//! manifest on the way, and opened by the engine; the time that this takes is the measured recovery time.
//!
//! The target is only read, and without its lock: a point never changes. One that is removed meanwhile is told as
//! missing. What was copied is removed at the end, whatever it is.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::copy::{Destination, Origin, copy_hashed};
use crate::agent::store::files::{self, Listing, TreeError};
use crate::agent::store::header::{self, StoreHeader, StoreHeaderError};
use crate::agent::store::manifest::{Manifest, STORE_FOLDER};
use crate::agent::store::manifest_file;
use crate::agent::tasks::inspect::{check_claims, check_header, check_owner, unproved};
use crate::agent::tool::boot;
use crate::agent::volume::io_kind::{self, Kind, kind};
use crate::agent::volume::layout::Layout;
use crate::agent::volume::space;
use crate::agent::volume::target;
use crate::api::Reason;
use crate::contract::failure::{Failure, cut};
use crate::contract::task::{DrillRun, Place};
use crate::contract::verdict::{Drilled, Verdict};
use chrono::Utc;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Folder of the copy on the scratch volume.
const COPY_FOLDER: &str = "drill";
/// With less than this free, the scratch volume counts as full: file systems keep the last blocks for themselves.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Bytes of the engine's failure in a message about the scratch volume: the advice must fit behind it.
const ENGINE_BYTES_MAX: usize = 512;
/// What to do about a scratch volume that is full. The target is not.
const MORE_SCRATCH: &str = "give the drill a larger scratch volume: raise spec.drill.scratch.size of the schedule, or \
                            set it if the drill uses the node's ephemeral storage";

/// Makes the drill with the claim mounted at `mount` and the scratch volume at `scratch`.
pub async fn drill(run: DrillRun, mount: &Path, scratch: &Path, stop: &Stop) -> Verdict {
    match make(run, mount, scratch, stop).await {
        Ok(drilled) => Verdict::Drilled(Box::new(drilled)),
        Err(failure) => Verdict::Failed(failure),
    }
}

async fn make(run: DrillRun, mount: &Path, scratch: &Path, stop: &Stop) -> Result<Drilled, Failure> {
    let command = run.boot_command.clone();
    let layout = Layout::new(mount, &run.place)?;
    let found = blocking(move || find(&run, &layout)).await?;
    let copy = scratch.join(COPY_FOLDER);
    // What a container left that was killed.
    remove(copy.clone()).await?;
    let drilled = restore_and_open(found, &copy, &command, stop).await;
    let _step = start(Step::CleanUp);
    match (drilled, remove(copy).await) {
        (Err(failure), Err(left)) => Err(failure.and(left.message)),
        (drilled, removed) => {
            if let Err(left) = removed {
                // What was shown stays true.
                progress::message(Step::CleanUp, &left.message);
            }
            drilled
        }
    }
}

/// A point that is on the target, with the manifest that was asked for.
#[derive(Clone, Debug)]
struct Found {
    place: Place,
    folder: PathBuf,
    manifest: Manifest,
    digest: String,
}

fn find(run: &DrillRun, layout: &Layout) -> Result<Found, Failure> {
    let _step = start(Step::Find);
    let folder = layout.point_folder();
    if !target::exists(&folder)? {
        return Err(missing(&run.place));
    }
    let looked = look(run, layout, &folder).map_err(|failure| unless_gone(failure, &folder, &run.place));
    let (manifest, digest) = looked?;
    Ok(Found { place: run.place.clone(), folder, manifest, digest })
}

fn look(run: &DrillRun, layout: &Layout, folder: &Path) -> Result<(Manifest, String), Failure> {
    target::stays_on_target(layout.mount(), folder)?;
    let (manifest, digest) = manifest_file::read(folder)?;
    check_owner(&manifest, Some(&run.owner_uid), &run.place)?;
    if digest != run.manifest_digest {
        let problem = format!("the manifest of {} has the digest {digest}, not {}", run.place, run.manifest_digest);
        return Err(unproved(&problem));
    }
    check_claims(&manifest, &run.place)?;
    Ok((manifest, digest))
}

fn missing(place: &Place) -> Failure {
    Failure::new(Reason::PointMissing, format!("the target holds no point {place}: it was removed, or never was there"))
}

/// What is missing in a point that is not there any more says nothing of the point.
fn unless_gone(failure: Failure, folder: &Path, place: &Place) -> Failure {
    match target::exists(folder) {
        Ok(false) => missing(place),
        _ => failure,
    }
}

async fn restore_and_open(found: Found, copy: &Path, command: &[String], stop: &Stop) -> Result<Drilled, Failure> {
    let began = Instant::now();
    let (to, stopped) = (copy.to_owned(), stop.clone());
    let (found, header) = blocking(move || {
        let header = found.restore(&to, &stopped)?;
        Ok((found, header))
    })
    .await?;
    let copied = began.elapsed();
    let opened = boot::open(copy, command, stop).await;
    let total = began.elapsed();
    let finished = Utc::now();
    let boot = opened.map_err(|failure| unless_full(failure, copy))?.result;
    Ok(Drilled {
        manifest_digest: found.digest,
        store_id: header.store_id,
        last_transaction: header.last_transaction,
        files: found.manifest.files.len() as u64,
        bytes: found.manifest.bytes,
        copy_seconds: whole_seconds(copied),
        open_seconds: whole_seconds(total.saturating_sub(copied)),
        total_seconds: whole_seconds(total),
        nodes: boot.nodes,
        relationships: boot.relationships,
        finished,
    })
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl Found {
    /// Copies the store into the folder `to`, which is not there yet, and proves that every byte is the manifest's.
    fn restore(&self, to: &Path, stop: &Stop) -> Result<StoreHeader, Failure> {
        let _step = start(Step::Restore);
        self.copy(to, stop)?;
        let header = self.header(to)?;
        let (files, bytes) = (self.manifest.files.len(), self.manifest.bytes);
        let message = format!("{files} files, {bytes} bytes copied; each is what the manifest says");
        progress::message(Step::Restore, &message);
        Ok(header)
    }

    fn copy(&self, to: &Path, stop: &Stop) -> Result<(), Failure> {
        let to = Destination { folder: to, unwritable: &unwritable };
        to.make()?;
        let unless_gone = |failure| match failure {
            failure @ Failure { reason: Reason::VerificationFailed | Reason::TargetIoError, .. } => {
                unless_gone(failure, &self.folder, &self.place)
            }
            failure => failure,
        };
        let listing = self.listing().map_err(unless_gone)?;
        let bytes = self.manifest.bytes;
        if let Some(free) = space::free(to.folder).ok().flatten().filter(|free| *free < bytes) {
            let problem = format!("the drill's scratch volume has {free} bytes free and the point has {bytes}");
            return Err(full(&format!("{problem}; nothing was copied")));
        }
        let store = self.folder.join(STORE_FOLDER);
        let origin = Origin { step: Step::Restore, store: &store, bytes, name: "the point", unreadable: &unreadable };
        let judge = |path: &str, sha256: &str| self.judge(path, sha256);
        copy_hashed(listing, &origin, &to, &judge, stop).map_err(unless_gone)
    }

    /// The store's files and folders, which must be those of the manifest: names and sizes, not contents.
    fn listing(&self) -> Result<Listing, Failure> {
        let store = self.folder.join(STORE_FOLDER);
        let metadata = fs::symlink_metadata(&store)
            .map_err(|error| unreadable(&format!("cannot be read: {}: {error}", store.display()), &error))?;
        // A link would be followed.
        if !metadata.is_dir() {
            return Err(unproved(&format!("{} is not a folder", store.display())));
        }
        let listing = files::list(&store).map_err(|error| match error {
            TreeError::Stopped(cause) => cause.into(),
            TreeError::Io { ref source, .. } => unreadable(&format!("cannot be read: {error}"), source),
            error => unproved(&format!("the store holds what is not its own: {error}")),
        })?;
        match files::difference_unread(&self.manifest.files, &listing) {
            None => Ok(listing),
            Some(difference) => Err(disagrees(&difference)),
        }
    }

    /// The header of the copy, whose bytes are known to be the manifest's. A volume that fails now is the scratch volume.
    fn header(&self, copy: &Path) -> Result<StoreHeader, Failure> {
        let read = header::read(copy);
        if let Err(StoreHeaderError::Read(error)) = &read
            && io_kind::may_pass(error)
        {
            return Err(unwritable("cannot read neostore", error));
        }
        check_header(&self.manifest, read)
    }

    /// Holds the digest of a file that was copied against the manifest.
    fn judge(&self, path: &str, sha256: &str) -> Result<(), Failure> {
        let files = &self.manifest.files;
        // Sorted: they are those of the listing.
        let expected = files.binary_search_by(|file| file.path.as_str().cmp(path)).map(|at| &files[at].sha256);
        if expected.is_ok_and(|expected| expected == sha256) {
            return Ok(());
        }
        Err(disagrees(&files::has_other_content(path)))
    }
}

fn disagrees(difference: &str) -> Failure {
    unproved(&format!("the store does not agree with its manifest: {difference}"))
}

/// The failure when the point cannot be read because of this error.
fn unreadable(problem: &str, error: &io::Error) -> Failure {
    match kind(error) {
        Kind::Medium | Kind::Away => io_kind::target_failure(&format!("the point {problem}"), error),
        Kind::Denied => Failure::new(
            Reason::TargetNotWritable,
            format!(
                "the point {problem}; let the pod's user or group read there \
                 (spec.tool.podTemplate.securityContext: runAsUser, fsGroup)"
            ),
        ),
        Kind::Full | Kind::ReadOnly | Kind::Other => unproved(&format!("the point {problem}")),
    }
}

/// The failure when the scratch volume cannot be written because of this error.
fn unwritable(problem: &str, error: &io::Error) -> Failure {
    let problem = format!("{problem} on the drill's scratch volume: {error}");
    match kind(error) {
        Kind::Full => full(&problem),
        Kind::Denied | Kind::ReadOnly | Kind::Medium | Kind::Away | Kind::Other => Failure::new(
            Reason::AgentFailed,
            format!("{problem}; check that volume, and that the pod's user or group may write there"),
        ),
    }
}

fn full(problem: &str) -> Failure {
    Failure::new(Reason::ScratchFull, format!("{problem}; {MORE_SCRATCH}"))
}

/// An engine that had no room to write says nothing of the store.
fn unless_full(failure: Failure, copy: &Path) -> Failure {
    let free = space::free(copy).ok().flatten();
    match (failure.reason, free) {
        (Reason::BootFailed, Some(free)) if free < FREE_BYTES_MIN => {
            let kept = cut(&failure.message, ENGINE_BYTES_MAX);
            full(&format!("the drill's scratch volume has only {free} bytes left after the engine failed: {kept}"))
        }
        _ => failure,
    }
}

async fn remove(copy: PathBuf) -> Result<(), Failure> {
    blocking(move || match fs::remove_dir_all(&copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(unwritable(&format!("cannot remove {}", copy.display()), &error))
        }
        _ => Ok(()),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use rustix::io::Errno;

    fn place() -> Place {
        Place { directory: "d".into(), cluster: testing::STORE_ID, point: testing::manifest().point }
    }

    /// A published point as small as it gets, and what asks for its drill.
    fn point() -> (tempfile::TempDir, DrillRun) {
        let mount = tempfile::tempdir().unwrap();
        let layout = Layout::new(mount.path(), &place()).unwrap();
        target::prepare(&layout).unwrap();
        let partial = layout.partial_folder("backup-uid", "pod-uid").unwrap();
        target::make_partial(&partial).unwrap();
        let header = include_bytes!("../testing/neostore");
        fs::write(partial.join("store/neostore"), header).unwrap();
        let mut manifest = testing::manifest();
        manifest.files = files::read(&partial.join(STORE_FOLDER), files::Purpose::Keep, &Stop::never()).unwrap();
        manifest.bytes = header.len() as u64;
        manifest.tree = files::tree_digest(&manifest.files);
        let manifest_digest = manifest_file::write(&partial, &manifest).unwrap();
        target::publish(&partial, &layout.point_folder()).unwrap();
        let run = DrillRun {
            place: place(),
            owner_uid: "backup-uid".into(),
            manifest_digest,
            boot_command: vec!["true".into()],
            deadline_seconds: 60,
        };
        (mount, run)
    }

    fn found(mount: &Path, run: &DrillRun) -> Result<Found, Failure> {
        find(run, &Layout::new(mount, &run.place)?)
    }

    #[test]
    fn a_point_that_is_removed_while_it_is_copied_is_missing_not_damaged() {
        let (mount, run) = point();
        let scratch = tempfile::tempdir().unwrap();
        let found_point = found(mount.path(), &run).unwrap();
        assert_eq!(found_point.restore(&scratch.path().join("a"), &Stop::never()).unwrap().last_transaction, 6);
        fs::rename(&found_point.folder, found_point.folder.with_file_name(".pruned-backup-uid")).unwrap();
        let failure = found_point.restore(&scratch.path().join("b"), &Stop::never()).unwrap_err();
        assert_eq!(failure.reason, Reason::PointMissing, "{}", failure.message);
        assert_eq!(found(mount.path(), &run).unwrap_err().reason, Reason::PointMissing);
    }

    #[test]
    fn each_error_is_told_of_its_volume() {
        let read = |errno: Errno| unreadable("cannot be read: x", &errno.into()).reason;
        assert_eq!([read(Errno::IO), read(Errno::STALE)], [Reason::TargetIoError; 2]);
        assert_eq!([read(Errno::NOENT), read(Errno::LOOP)], [Reason::VerificationFailed; 2]);
        let denied = unreadable("cannot be read: x", &Errno::ACCESS.into());
        assert!(denied.message.contains("group read there"), "{}", denied.message);
        let write = |errno: Errno| unwritable("cannot make x", &errno.into());
        assert_eq!([write(Errno::NOSPC).reason, write(Errno::DQUOT).reason], [Reason::ScratchFull; 2]);
        assert_eq!([write(Errno::IO).reason, write(Errno::ACCESS).reason], [Reason::AgentFailed; 2]);
        assert!(write(Errno::ROFS).message.contains("scratch volume"), "{}", write(Errno::ROFS).message);
    }
}
