//! `agent backup`: one attempt of one backup, from the lock to the published point.
//!
//! Killed at any moment it leaves a whole point or a partial under a name that nobody takes for a point: the rename is the
//! only step that makes a point, and all before it is flushed to the device when it happens.

use super::inspect;
use super::layout::Layout;
use super::lock;
use super::manifest::{FORMAT_VERSION, FileRecord, Manifest, STORE_FOLDER, ToolRecord};
use super::manifest_file;
use super::progress::{self, Step, start};
use super::run::{BackupRun, Mode};
use super::stop::Stop;
use super::store_header::{self, StoreHeader};
use super::target;
use super::tool::{self, Placeholders, ToolRun};
use super::tool_output::{self, Ending, ToolOutput};
use super::tree::{self, Purpose};
use super::verdict::{Failure, Published, Verdict};
use crate::api::{Fence, Movement, Reason, Verification};
use crate::discovery::Discovery;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the binary that runs, for the manifest.
const OPERATOR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What an attempt works with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Finds the database and reads the fence.
    pub discovery: &'a dyn Discovery,
    /// Where the target claim is mounted.
    pub mount: &'a Path,
    /// UID of the pod; names the partial.
    pub pod_uid: &'a str,
    /// Says when the attempt has to end.
    pub stop: &'a Stop,
}

/// Makes the attempt.
pub async fn backup(run: &BackupRun, with: &Surroundings<'_>) -> Verdict {
    match Attempt::of(run, with) {
        Ok(attempt) => match attempt.make().await {
            Ok(published) => Verdict::Published(Box::new(published)),
            Err(failure) => Verdict::Failed(failure),
        },
        Err(failure) => Verdict::Failed(failure),
    }
}

struct Attempt<'a> {
    run: &'a BackupRun,
    with: &'a Surroundings<'a>,
    layout: Layout,
    partial: PathBuf,
    command: Vec<String>,
}

/// What the steps up to the judgement have found out.
struct Copied {
    tool: ToolRun,
    header: StoreHeader,
    fence_before: Fence,
    fence_after: Fence,
}

impl<'a> Attempt<'a> {
    fn of(run: &'a BackupRun, with: &'a Surroundings<'a>) -> Result<Self, Failure> {
        let layout = Layout::new(with.mount, &run.place)?;
        let partial = layout.partial_folder(&run.owner.uid, with.pod_uid)?;
        let command = tool::fill(
            &run.command,
            &Placeholders {
                mode: Mode::Full,
                member: run.fence.endpoint(),
                target: &partial.join(STORE_FOLDER),
                source: &run.source,
                cluster_name: run.cluster_name.as_deref(),
            },
        )?;
        Ok(Self { run, with, layout, partial, command })
    }

    async fn make(&self) -> Result<Published, Failure> {
        let _lock = self.lock().await?;
        if target::exists(&self.layout.point_folder())? {
            return self.recognise().await;
        }
        self.remove_dead_partials().await?;
        let fence_before = self.read_fence(Step::FenceBefore, "since the operator looked, before the tool ran").await?;
        target::make_partial(&self.partial)?;
        match self.copy_and_publish(fence_before).await {
            Ok(published) => Ok(published),
            Err(failure) => Err(self.clean_up(failure).await),
        }
    }

    async fn copy_and_publish(&self, fence_before: Fence) -> Result<Published, Failure> {
        let copied = self.copy(fence_before).await?;
        let manifest = self.hash(copied).await?;
        let digest = self.write_manifest(&manifest)?;
        let published = self.verify(&manifest, digest).await?;
        self.publish()?;
        Ok(published)
    }

    async fn lock(&self) -> Result<lock::Lock, Failure> {
        let _step = start(Step::Lock);
        target::prepare(&self.layout)?;
        Ok(self.with.stop.unless_stopped(lock::take(&self.layout.lock_file())).await??)
    }

    /// Something has the point's name: a point of this very backup whose report was lost, or nothing of ours.
    async fn recognise(&self) -> Result<Published, Failure> {
        let _step = start(Step::Recognise);
        let point = self.layout.point_folder();
        let published = self.examine(point.clone()).await.map_err(|failure| match failure.reason {
            Reason::ManifestMissing => target::TargetError::PointExists { path: point }.into(),
            _ => failure,
        })?;
        // Whoever renamed it may have died before it was flushed.
        target::flush(&self.layout.cluster_folder())?;
        progress::message(Step::Recognise, "an earlier attempt published this point; nothing is run again");
        Ok(published)
    }

    /// Partials of pods that the operator knows to be gone; the lock is held, so they cannot be in the making.
    async fn remove_dead_partials(&self) -> Result<(), Failure> {
        for (partial, pod) in target::partials_of(&self.layout, &self.run.owner.uid)? {
            if self.run.dead_pods.contains(&pod) {
                blocking(move || Ok(target::remove_partial(&partial)?)).await?;
            }
        }
        Ok(())
    }

    /// Reads the fence, which must be where the operator saw it.
    async fn read_fence(&self, step: Step, when: &str) -> Result<Fence, Failure> {
        let _step = start(step);
        let look = self.with.discovery.locate(&self.run.source, self.run.cluster_name.as_deref());
        let located = self.with.stop.unless_stopped(look).await?;
        let located = located.map_err(|error| Failure::new(error.reason(), error.to_string()))?;
        if let Movement::Moved(what) = self.run.fence.movement(&located.fence) {
            return Err(Failure::new(Reason::MasterChanged, format!("the master changed {when}: {what}")));
        }
        if located.store_id != self.run.place.cluster {
            return Err(Failure::new(
                Reason::StoreMismatch,
                format!("the source served store {} and now serves {}", self.run.place.cluster, located.store_id),
            ));
        }
        Ok(located.fence)
    }

    /// Runs the tool between the two readings of the fence, and judges what it said and left.
    async fn copy(&self, fence_before: Fence) -> Result<Copied, Failure> {
        let tool = tool::run(&self.command, self.with.stop).await?;
        let header = self.judge(&tool)?;
        let fence_after = self.read_fence(Step::FenceAfter, "while the tool ran").await?;
        Ok(Copied { tool, header, fence_before, fence_after })
    }

    fn judge(&self, tool: &ToolRun) -> Result<StoreHeader, Failure> {
        let _step = start(Step::Judge);
        let store = self.partial.join(STORE_FOLDER);
        let report = inconsistency_report(&store);
        tool_output::judge(&ToolOutput {
            ending: tool.ending,
            stdout: &tool.stdout.end,
            stderr: &tool.stderr.end,
            left_neostore: store.join(store_header::FILE_NAME).is_file(),
            left_report: report.as_deref(),
        })?;
        let header = store_header::read(&store).map_err(|error| {
            Failure::new(Reason::ToolLeftNoStore, format!("the tool reported success but left no store: {error}"))
        })?;
        if header.store_id != self.run.place.cluster {
            return Err(Failure::new(
                Reason::StoreMismatch,
                format!("the tool copied store {} instead of {}", header.store_id, self.run.place.cluster),
            ));
        }
        Ok(header)
    }

    async fn hash(&self, copied: Copied) -> Result<Manifest, Failure> {
        let _step = start(Step::Hash);
        let (store, stop) = (self.partial.join(STORE_FOLDER), self.with.stop.clone());
        let files = blocking(move || Ok(tree::read(&store, Purpose::Keep, &stop)?)).await?;
        Ok(self.manifest(copied, files))
    }

    fn manifest(&self, copied: Copied, files: Vec<FileRecord>) -> Manifest {
        let Copied { tool, header, fence_before, fence_after } = copied;
        Manifest {
            format_version: FORMAT_VERSION,
            owner: self.run.owner.clone(),
            attempt: self.run.attempt,
            point: self.run.place.point.clone(),
            mode: Mode::Full,
            parent: None,
            depth: 0,
            fell_back: None,
            shared_bytes: 0,
            store_id: header.store_id,
            last_transaction: header.last_transaction,
            data_from: tool.from,
            data_to: tool.to,
            fence_before,
            fence_after,
            tool: ToolRecord {
                image: self.run.image.clone(),
                command: self.command.clone(),
                exit_code: match tool.ending {
                    Ending::Exited(code) => code,
                    Ending::Killed(signal) => -signal,
                },
                stdout_sha256: tool.stdout.sha256,
                stderr_sha256: tool.stderr.sha256,
            },
            operator_version: OPERATOR_VERSION.to_owned(),
            tree: tree::tree_digest(&files),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        }
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<String, Failure> {
        let _step = start(Step::Manifest);
        let digest = manifest_file::write(&self.partial, manifest)?;
        target::seal(&self.partial)?;
        Ok(digest)
    }

    /// Reads the copy back as a later reader will, if the backup asks for it.
    async fn verify(&self, manifest: &Manifest, digest: String) -> Result<Published, Failure> {
        match self.run.verification {
            Verification::None => Ok(Published::of(manifest, digest, false)),
            Verification::Quick => {
                let published = self.examine(self.partial.clone()).await?;
                if published.manifest_digest == digest {
                    Ok(published)
                } else {
                    Err(Failure::new(Reason::VerificationFailed, "the manifest reads back other than it was written"))
                }
            }
        }
    }

    async fn examine(&self, folder: PathBuf) -> Result<Published, Failure> {
        let (owner, place, stop) = (self.run.owner.clone(), self.run.place.clone(), self.with.stop.clone());
        blocking(move || inspect::examine(&folder, &owner, &place, &stop)).await
    }

    fn publish(&self) -> Result<(), Failure> {
        let _step = start(Step::Publish);
        if let Some(cause) = self.with.stop.cause() {
            return Err(cause.into());
        }
        Ok(target::publish(&self.partial, &self.layout.point_folder())?)
    }

    async fn clean_up(&self, failure: Failure) -> Failure {
        let _step = start(Step::CleanUp);
        let partial = self.partial.clone();
        match blocking(move || Ok(target::remove_partial(&partial)?)).await {
            Ok(()) => failure,
            Err(left) => failure.and(left.message),
        }
    }
}

/// Name of a report of inconsistencies in the store.
fn inconsistency_report(store: &Path) -> Option<String> {
    let names = fs::read_dir(store).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find(|name| tool_output::is_inconsistency_report(name))
}

/// Runs what blocks a thread beside the runtime, which goes on to listen for signals.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(Reason::AgentFailed, error.to_string())))
}
