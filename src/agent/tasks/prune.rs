//! `agent prune`: removes the files of a `GraphBackup` that is being deleted.
//!
//! A point loses its name first, by one rename, so that nobody can take a half-removed folder for a point. Only what
//! proves to be of this very object is touched. Everything can be repeated.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::manifest_file;
use crate::agent::volume::layout::Layout;
use crate::agent::volume::lock;
use crate::agent::volume::target;
use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::task::PruneRun;
use crate::contract::verdict::Verdict;
use std::fs;
use std::path::Path;

/// Removes the point and the partials of one object from every place where they may be.
pub async fn prune(run: &PruneRun, mount: &Path, stop: &Stop) -> Verdict {
    for place in &run.places {
        let layout = match Layout::new(mount, place) {
            Ok(layout) => layout,
            Err(error) => return Verdict::Failed(error.into()),
        };
        if let Err(failure) = prune_place(&run.owner.uid, layout, stop).await {
            return Verdict::Failed(failure);
        }
    }
    Verdict::Pruned
}

async fn prune_place(backup_uid: &str, layout: Layout, stop: &Stop) -> Result<(), Failure> {
    if !target::exists(&layout.cluster_folder())? {
        return Ok(());
    }
    target::stays_on_target(layout.mount(), &layout.cluster_folder())?;
    let _step = start(Step::Prune);
    // A backup that starts from this point, or still makes it, holds the lock.
    let _lock = stop.unless_stopped(lock::take(&layout.lock_file())).await??;
    let backup_uid = backup_uid.to_owned();
    blocking(move || remove(&backup_uid, &layout)).await
}

fn remove(backup_uid: &str, layout: &Layout) -> Result<(), Failure> {
    let (point, pruned) = (layout.point_folder(), layout.pruned_folder(backup_uid)?);
    // What an earlier run left.
    target::remove_partial(&pruned)?;
    if target::exists(&point)? {
        target::stays_on_target(layout.mount(), &point)?;
        prove_ours(&point, backup_uid)?;
        fs::rename(&point, &pruned).map_err(|source| target::TargetError::Remove { path: point.clone(), source })?;
        target::flush(&layout.cluster_folder())?;
        target::remove_partial(&pruned)?;
        progress::message(Step::Prune, &format!("removed {}", point.display()));
    }
    for (folder, _) in [target::partials_of(layout, backup_uid)?, target::failed_of(layout, backup_uid)?].concat() {
        target::remove_partial(&folder)?;
    }
    target::flush(&layout.cluster_folder())?;
    Ok(())
}

/// A folder is removed only when its manifest says that it is this object's.
fn prove_ours(point: &Path, backup_uid: &str) -> Result<(), Failure> {
    let leave = |why: &str| {
        Failure::new(
            Reason::PointExists,
            format!(
                "{} is not removed: {why}; remove it by hand, or set spec.deletionPolicy to Retain to let the object go",
                point.display()
            ),
        )
    };
    let (manifest, _) = manifest_file::read(point).map_err(|failure| leave(&failure.to_string()))?;
    if manifest.owner.uid == backup_uid {
        return Ok(());
    }
    Err(leave(&format!(
        "its manifest names another GraphBackup, {}/{} with UID {}",
        manifest.owner.namespace, manifest.owner.name, manifest.owner.uid
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::store::manifest::STORE_FOLDER;
    use crate::agent::testing;
    use crate::contract::task::Place;

    fn place() -> Place {
        Place { directory: "d".into(), cluster: testing::STORE_ID, point: testing::manifest().point }
    }

    /// A target with a point of `owner_uid` and a partial beside it.
    fn target_with_point(owner_uid: &str) -> (tempfile::TempDir, Layout) {
        let mount = tempfile::tempdir().unwrap();
        let layout = Layout::new(mount.path(), &place()).unwrap();
        target::prepare(&layout).unwrap();
        let partial = layout.partial_folder("backup-uid", "pod-1").unwrap();
        target::make_partial(&partial).unwrap();
        fs::write(partial.join(STORE_FOLDER).join("neostore"), "bytes").unwrap();
        let mut manifest = testing::manifest();
        manifest.owner.uid = owner_uid.to_owned();
        manifest_file::write(&partial, &manifest).unwrap();
        target::publish(&partial, &layout.point_folder()).unwrap();
        target::make_partial(&layout.failed_folder("backup-uid", "pod-3").unwrap()).unwrap();
        for uid in ["backup-uid", "other-uid"] {
            target::make_partial(&layout.partial_folder(uid, "pod-2").unwrap()).unwrap();
        }
        (mount, layout)
    }

    async fn run(mount: &Path) -> Verdict {
        let run = PruneRun { owner: testing::owner(), places: vec![place()] };
        prune(&run, mount, &Stop::never()).await
    }

    #[tokio::test]
    async fn the_point_and_the_partials_of_the_object_go_and_can_go_again() {
        let (mount, layout) = target_with_point("backup-uid");
        for _ in 0..2 {
            assert_eq!(run(mount.path()).await, Verdict::Pruned);
            assert!(!layout.point_folder().exists());
            assert_eq!(target::partials_of(&layout, "backup-uid").unwrap(), []);
            assert_eq!(target::failed_of(&layout, "backup-uid").unwrap(), []);
        }
        assert_eq!(target::partials_of(&layout, "other-uid").unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_a_killed_run_left_goes() {
        let (mount, layout) = target_with_point("backup-uid");
        let pruned = layout.pruned_folder("backup-uid").unwrap();
        fs::rename(layout.point_folder(), &pruned).unwrap();
        assert_eq!(run(mount.path()).await, Verdict::Pruned);
        assert!(!pruned.exists());
    }

    #[tokio::test]
    async fn nothing_foreign_is_removed() {
        let (mount, layout) = target_with_point("somebody-else");
        let Verdict::Failed(failure) = run(mount.path()).await else { panic!() };
        assert_eq!(failure.reason, Reason::PointExists);
        assert!(failure.message.contains("Retain"), "{}", failure.message);
        assert!(layout.point_folder().join(STORE_FOLDER).join("neostore").exists());
        fs::remove_file(layout.point_folder().join("manifest.json")).unwrap();
        assert!(matches!(run(mount.path()).await, Verdict::Failed(_)));
    }

    #[tokio::test]
    async fn an_empty_target_is_pruned_already() {
        let mount = tempfile::tempdir().unwrap();
        assert_eq!(run(mount.path()).await, Verdict::Pruned);
    }

    #[tokio::test]
    async fn a_backup_at_work_is_not_disturbed() {
        let (mount, layout) = target_with_point("backup-uid");
        let _lock = lock::take(&layout.lock_file()).await.unwrap();
        let Verdict::Failed(failure) = run(mount.path()).await else { panic!() };
        assert_eq!(failure.reason, Reason::TargetLocked);
        assert!(layout.point_folder().exists());
    }
}
