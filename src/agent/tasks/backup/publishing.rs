//! From a copy that was judged to a published point: the files are hashed, the manifest is written, both are read back,
//! and the folder gets its name.

use crate::agent::blocking::blocking;
use crate::agent::progress::{Step, start};
use crate::agent::store::files::{self, Purpose};
use crate::agent::store::manifest::{FORMAT_VERSION, FileRecord, Manifest};
use crate::agent::store::manifest_file;
use crate::agent::tasks::backup::{Attempt, Copied, Made, Store};
use crate::agent::tasks::inspect;
use crate::agent::volume::target;
use crate::api::{CopiedBy, Reason, Source, Verification};
use crate::contract::failure::Failure;
use crate::contract::verdict::Published;
use std::path::PathBuf;

/// Version of the binary that runs, for the manifest.
const OPERATOR_VERSION: &str = env!("CARGO_PKG_VERSION");

impl Attempt<'_> {
    pub(super) async fn hash(&self, copied: Copied) -> Result<Manifest, Failure> {
        let _step = start(Step::Hash);
        let (store, stop) = (self.store(), self.with.stop.clone());
        let files = blocking(move || Ok(files::read(&store, Purpose::Keep, &stop)?)).await?;
        Ok(self.manifest(copied, files))
    }

    fn manifest(&self, copied: Copied, files: Vec<FileRecord>) -> Manifest {
        let Copied { made, mastership_before } = copied;
        let Made { mode, store, mastership_after, parent, fell_back } = made;
        let Store { tool, catch_up, seed, header, data_from, data_to } = store;
        let parent = parent.as_ref();
        let copied_by = parent.map(|(_, copied_by)| *copied_by);
        Manifest {
            format_version: FORMAT_VERSION,
            owner: self.run.owner.clone(),
            attempt: self.run.attempt,
            point: self.run.place.point.clone(),
            mode,
            parent: parent.map(|(found, _)| found.parent.clone()),
            depth: parent.map_or(0, |(found, _)| found.manifest.depth.saturating_add(1)),
            fell_back,
            copied_by,
            boot: None,
            catch_up,
            seed,
            shared_bytes: match parent {
                Some((found, CopiedBy::Reflink)) => files::unchanged_bytes(&found.manifest.files, &files),
                _ => 0,
            },
            store_id: header.store_id,
            last_transaction: header.last_transaction,
            data_from,
            data_to,
            mastership_before,
            mastership_after,
            tool,
            source: Some(Source { uri: self.run.source.to_string(), cluster_name: self.run.cluster_name.clone() }),
            operator_version: OPERATOR_VERSION.to_owned(),
            tree: files::tree_digest(&files),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        }
    }

    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<String, Failure> {
        let _step = start(Step::Manifest);
        let digest = manifest_file::write(&self.partial, manifest)?;
        target::seal(&self.partial)?;
        Ok(digest)
    }

    /// Reads the copy back as a later reader will, if the backup asks for it.
    pub(super) async fn verify(&self, manifest: Manifest, digest: String) -> Result<Published, Failure> {
        match self.run.verification {
            Verification::None => Ok(manifest.published(digest, false)),
            Verification::Quick | Verification::Boot => {
                // It is read back: two of them at once would be many megabytes for a store of many files.
                drop(manifest);
                let published = self.examine(self.partial.clone()).await?;
                if published.manifest_digest == digest {
                    Ok(published)
                } else {
                    Err(Failure::new(
                        Reason::VerificationFailed,
                        "the manifest that was read back differs from the \
                        one that was written",
                    ))
                }
            }
        }
    }

    pub(super) async fn examine(&self, folder: PathBuf) -> Result<Published, Failure> {
        let (owner, place, stop) = (self.run.owner.clone(), self.run.place.clone(), self.with.stop.clone());
        blocking(move || inspect::examine(&folder, Some(&owner), &place, &stop)).await
    }

    pub(super) async fn publish(&self) -> Result<(), Failure> {
        let _step = start(Step::Publish);
        let (partial, point) = (self.partial.clone(), self.layout.point_folder());
        blocking(move || Ok(target::publish(&partial, &point)?)).await
    }
}
