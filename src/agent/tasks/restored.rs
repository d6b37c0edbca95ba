//! What a drill and a restore have in common: a point is found on the target, its store is copied to another volume, and
//! every byte of the copy is proved to be what the point's manifest says.
//!
//! The target is only read, and without its lock: a point never changes. One that is removed meanwhile is told as
//! missing.

use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::copy::{Destination, Origin, copy_hashed};
use crate::agent::store::files::{self, Listing, TreeError};
use crate::agent::store::header::{self, StoreHeader, StoreHeaderError};
use crate::agent::store::manifest::{Manifest, STORE_FOLDER};
use crate::agent::store::manifest_file;
use crate::agent::tasks::inspect::{check_claims, check_header, check_owner, unproved};
use crate::agent::volume::io_kind::{self, Kind, kind};
use crate::agent::volume::layout::Layout;
use crate::agent::volume::space;
use crate::agent::volume::target;
use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::task::Place;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The point that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// UID of the object that made it, if that matters.
    pub owner_uid: Option<&'a str>,
    /// The digest of its manifest, `sha256:<hex>`, if that is known.
    pub manifest_digest: Option<&'a str>,
}

/// A point that is on the target, with the manifest that was asked for.
#[derive(Clone, Debug)]
pub struct Found {
    place: Place,
    /// Its folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The digest of the manifest's bytes, `sha256:<hex>`.
    pub digest: String,
}

/// Where a point is restored to.
pub struct Room<'a> {
    /// The failure that follows when something there cannot be done because of this error. The text says what, such as
    /// "cannot make neostore".
    pub unwritable: &'a (dyn Fn(&str, &io::Error) -> Failure + Sync),
    /// The failure that follows when so many bytes are free there, and the point has so many. Nothing was copied.
    pub too_small: &'a dyn Fn(u64, u64) -> Failure,
}

/// Looks for the point with the claim mounted as the layout says.
pub fn find(wanted: Wanted<'_>, layout: &Layout) -> Result<Found, Failure> {
    let _step = start(Step::Find);
    let folder = layout.point_folder();
    if !target::exists(&folder)? {
        return Err(missing(wanted.place));
    }
    let looked = look(wanted, layout, &folder).map_err(|failure| unless_gone(failure, &folder, wanted.place));
    let (manifest, digest) = looked?;
    Ok(Found { place: wanted.place.clone(), folder, manifest, digest })
}

fn look(wanted: Wanted<'_>, layout: &Layout, folder: &Path) -> Result<(Manifest, String), Failure> {
    target::stays_on_target(layout.mount(), folder)?;
    let (manifest, digest) = manifest_file::read(folder)?;
    check_owner(&manifest, wanted.owner_uid, wanted.place)?;
    if let Some(expected) = wanted.manifest_digest.filter(|expected| *expected != digest) {
        let problem = format!("the manifest of {} has the digest {digest}, not {expected}", wanted.place);
        return Err(unproved(&problem));
    }
    check_claims(&manifest, wanted.place)?;
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

impl Found {
    /// The point's store.
    pub fn store(&self) -> PathBuf {
        self.folder.join(STORE_FOLDER)
    }

    /// Copies the store into the folder `to`, which is not there yet, and proves that every byte is the manifest's.
    pub fn restore(&self, to: &Path, room: &Room<'_>, stop: &Stop) -> Result<StoreHeader, Failure> {
        let _step = start(Step::Restore);
        self.copy(to, room, stop)?;
        let header = self.header(to, room)?;
        let (files, bytes) = (self.manifest.files.len(), self.manifest.bytes);
        let message = format!("{files} files, {bytes} bytes copied; each is what the manifest says");
        progress::message(Step::Restore, &message);
        Ok(header)
    }

    /// A failure that was met while the point was read. It says nothing of a point that is not there any more.
    pub fn unless_gone(&self, failure: Failure) -> Failure {
        match failure {
            failure @ Failure { reason: Reason::VerificationFailed | Reason::TargetIoError, .. } => {
                unless_gone(failure, &self.folder, &self.place)
            }
            failure => failure,
        }
    }

    fn copy(&self, to: &Path, room: &Room<'_>, stop: &Stop) -> Result<(), Failure> {
        let to = Destination { folder: to, unwritable: room.unwritable };
        to.make()?;
        let unless_gone = |failure| self.unless_gone(failure);
        let listing = self.listing().map_err(unless_gone)?;
        let bytes = self.manifest.bytes;
        if let Some(free) = space::free(to.folder).ok().flatten().filter(|free| *free < bytes) {
            return Err((room.too_small)(free, bytes));
        }
        let store = self.store();
        let origin = Origin { step: Step::Restore, store: &store, bytes, name: "the point", unreadable: &unreadable };
        let judge = |path: &str, sha256: &str| self.judge(path, sha256);
        copy_hashed(listing, &origin, &to, &judge, stop).map_err(unless_gone)
    }

    /// The store's files and folders, which must be those of the manifest: names and sizes, not contents.
    fn listing(&self) -> Result<Listing, Failure> {
        let store = self.store();
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

    /// The header of the copy, whose bytes are known to be the manifest's. A volume that fails now is the copy's.
    pub fn header(&self, copy: &Path, room: &Room<'_>) -> Result<StoreHeader, Failure> {
        let read = header::read(copy);
        if let Err(StoreHeaderError::Read(error)) = &read
            && io_kind::may_pass(error)
        {
            return Err((room.unwritable)("cannot read neostore", error));
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

/// The failure for a point whose store is not what its manifest says.
pub fn disagrees(difference: &str) -> Failure {
    unproved(&format!("the store does not agree with its manifest: {difference}"))
}

/// The failure when the point cannot be read because of this error. The text completes a sentence.
pub fn unreadable(problem: &str, error: &io::Error) -> Failure {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::published;
    use rustix::io::Errno;

    #[test]
    fn a_point_that_is_removed_while_it_is_copied_is_missing_not_damaged() {
        let (mount, place, digest) = published();
        let scratch = tempfile::tempdir().unwrap();
        let failure = |problem: &str, error: &io::Error| panic!("{problem}: {error}");
        let room = Room { unwritable: &failure, too_small: &|free, needed| panic!("{free} of {needed}") };
        let layout = Layout::new(mount.path(), &place).unwrap();
        let wanted = Wanted { place: &place, owner_uid: Some("backup-uid"), manifest_digest: Some(&digest) };
        let found = find(wanted, &layout).unwrap();
        let restored = found.restore(&scratch.path().join("a"), &room, &Stop::never());
        assert_eq!(restored.unwrap().last_transaction, 6);
        fs::rename(&found.folder, found.folder.with_file_name(".pruned-backup-uid")).unwrap();
        let failure = found.restore(&scratch.path().join("b"), &room, &Stop::never()).unwrap_err();
        assert_eq!(failure.reason, Reason::PointMissing, "{}", failure.message);
        assert_eq!(find(wanted, &layout).unwrap_err().reason, Reason::PointMissing);
    }

    #[test]
    fn a_point_is_held_against_what_is_known_of_it() {
        let (mount, place, digest) = published();
        let layout = Layout::new(mount.path(), &place).unwrap();
        let asked = |owner_uid, manifest_digest| {
            find(Wanted { place: &place, owner_uid, manifest_digest }, &layout).map_err(|failure| failure.reason)
        };
        assert_eq!(asked(None, None).unwrap().digest, digest);
        assert_eq!(asked(Some("other-uid"), None).unwrap_err(), Reason::PointExists);
        assert_eq!(asked(None, Some("sha256:0")).unwrap_err(), Reason::VerificationFailed);
    }

    #[test]
    fn an_error_of_the_point_is_told_of_the_target() {
        let read = |errno: Errno| unreadable("cannot be read: x", &errno.into()).reason;
        assert_eq!([read(Errno::IO), read(Errno::STALE)], [Reason::TargetIoError; 2]);
        assert_eq!([read(Errno::NOENT), read(Errno::LOOP)], [Reason::VerificationFailed; 2]);
        let denied = unreadable("cannot be read: x", &Errno::ACCESS.into());
        assert!(denied.message.contains("group read there"), "{}", denied.message);
    }
}
