//! `agent backup`: one attempt of one backup, from the lock to the published point.
//!
//! Killed at any moment it leaves a whole point or a partial under a name that nobody takes for a point: the rename is
//! the only step that makes a point, and all before it is flushed to the device when it happens.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::store::header::{self, StoreHeader};
use crate::agent::store::index_names;
use crate::agent::store::manifest::{STORE_FOLDER, ToolRecord};
use crate::agent::tasks::cold;
use crate::agent::tasks::earlier;
use crate::agent::tasks::mastership::{self, Reader};
use crate::agent::tasks::parent::{self, Found};
use crate::agent::tool::boot;
use crate::agent::tool::output::{self, Ending, ToolOutput};
use crate::agent::tool::process::{self, Placeholders, ToolRun};
use crate::agent::tool::relay::Relay;
use crate::agent::volume::io_kind::{self, Volume};
use crate::agent::volume::layout::Layout;
use crate::agent::volume::lock;
use crate::agent::volume::space;
use crate::agent::volume::target;
use crate::agent::volume::write_back::WriteBack;
use crate::api::{CopiedBy, Endpoint, Mastership, Reason, Seed};
use crate::contract::failure::{Failure, cut};
use crate::contract::task::{BackupRun, Mode, Parent, Plan};
use crate::contract::verdict::{Published, Verdict};
use crate::discovery::Network;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod publishing;
mod seeding;

/// Bytes of the message that says why the whole store was copied: it is reported beside the facts of the point.
const FELL_BACK_BYTES_MAX: usize = 512;

/// What an attempt works with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Finds the database and reads the mastership.
    pub discovery: &'a Network,
    /// Where the target claim is mounted.
    pub mount: &'a Path,
    /// Where the volume of a stopped member is mounted, for a cold copy.
    pub source: &'a Path,
    /// UID of the pod; names the partial.
    pub pod_uid: &'a str,
    /// Says when the attempt has to end.
    pub stop: &'a Stop,
}

/// Makes the attempt.
pub async fn backup(run: &BackupRun, with: &Surroundings<'_>) -> Verdict {
    match Attempt::of(run, with) {
        Ok(attempt) => match attempt.make().await {
            Ok(published) => {
                // A point is a point also where the free space cannot be told.
                let free_bytes = space::free(with.mount).ok().flatten();
                let earlier = earlier::newest(&attempt.layout, &run.owner);
                Verdict::Published(Box::new(Published { free_bytes, earlier, ..published }))
            }
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
}

/// A store that was copied.
struct Store {
    /// The tool's word for it, if it was the tool.
    tool: Option<ToolRecord>,
    /// Further runs of the tool, which brought what the first one had left out.
    catch_up: Vec<ToolRecord>,
    /// Whether a cluster can start from it, once its logs were judged.
    seed: Option<Seed>,
    header: StoreHeader,
    data_from: DateTime<Utc>,
    data_to: DateTime<Utc>,
}

/// A store that was copied, and what was made of what was asked for.
struct Made {
    mode: Mode,
    store: Store,
    mastership_after: Mastership,
    /// What it was made over.
    parent: Option<(Found, CopiedBy)>,
    /// Why the whole store was copied although less was asked for.
    fell_back: Option<Failure>,
}

/// What the steps from the first reading of the mastership to the second have found out.
struct Copied {
    made: Made,
    mastership_before: Mastership,
}

impl<'a> Attempt<'a> {
    fn of(run: &'a BackupRun, with: &'a Surroundings<'a>) -> Result<Self, Failure> {
        let layout = Layout::new(with.mount, &run.place)?;
        let partial = layout.partial_folder(&run.owner.uid, with.pod_uid)?;
        let attempt = Self { run, with, layout, partial };
        // A command that cannot be filled in is refused before anything is done.
        attempt.command(Mode::Full, run.mastership.endpoint())?;
        Ok(attempt)
    }

    fn command(&self, mode: Mode, member: &Endpoint) -> Result<Vec<String>, Failure> {
        let with = Placeholders {
            mode,
            member,
            target: &self.store(),
            source: &self.run.source,
            cluster_name: self.run.cluster_name.as_deref(),
        };
        Ok(process::fill(&self.run.command, &with)?)
    }

    /// Where the store is made.
    fn store(&self) -> PathBuf {
        self.partial.join(STORE_FOLDER)
    }

    async fn make(&self) -> Result<Published, Failure> {
        let _lock = self.lock().await?;
        let dead = self.remove_dead_partials().await;
        if target::exists(&self.layout.point_folder())? {
            return self.recognise().await;
        }
        dead?;
        let cluster_folder = self.layout.cluster_folder();
        let watch = blocking(move || WriteBack::watch(Volume::Target, &cluster_folder, Step::Lock));
        let write_back = self.with.stop.unless_stopped(watch).await??;
        let mastership_before = self.mastership_before().await?;
        target::make_partial(&self.partial)?;
        match Box::pin(self.copy_and_publish(mastership_before, &write_back)).await {
            Ok(published) => Ok(published),
            Err(failure) => Err(self.clean_up(failure).await),
        }
    }

    async fn copy_and_publish(
        &self,
        mastership_before: Mastership,
        write_back: &WriteBack,
    ) -> Result<Published, Failure> {
        let copied = self.copy(mastership_before).await?;
        self.write_back(write_back).await?;
        let mut manifest = self.hash(copied).await?;
        if let Some(command) = &self.run.boot_command {
            manifest.boot = Some(boot::boot(&self.partial, command, manifest.bytes, self.with.stop).await?);
        }
        let digest = self.write_manifest(&manifest)?;
        let published = self.verify(manifest, digest).await?;
        // A run that was told to stop ends here at the latest.
        self.write_back(write_back).await?;
        self.publish().await?;
        Ok(published)
    }

    /// Waits until what was written has reached the device, or until the run has to end.
    async fn write_back(&self, write_back: &WriteBack) -> Result<(), Failure> {
        let _step = start(Step::WriteBack);
        let write_back = write_back.clone();
        self.with.stop.unless_stopped(blocking(move || write_back.finish())).await?
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
        let point = self.layout.point_folder();
        blocking(move || Ok(target::flush_name(&point)?)).await?;
        progress::message(Step::Recognise, "an earlier attempt published this point; nothing is run again");
        Ok(published)
    }

    /// The partials of earlier attempts. The lock is held, so nobody works on them, whatever became of their pods.
    async fn remove_dead_partials(&self) -> Result<(), Failure> {
        for (partial, _) in target::partials_of(&self.layout, &self.run.owner.uid)? {
            blocking(move || Ok(target::remove_partial(&partial)?)).await?;
        }
        Ok(())
    }

    fn reader(&self) -> Reader<'_> {
        Reader { run: self.run, network: self.with.discovery, stop: self.with.stop }
    }

    async fn mastership_before(&self) -> Result<Mastership, Failure> {
        match self.run.plan {
            // A member that is stopped stays what it was; who is master meanwhile does not matter to its store.
            Plan::Cold { .. } => Ok(self.run.mastership.clone()),
            Plan::Full | Plan::Incremental { .. } => self.reader().before().await,
        }
    }

    /// The mastership after the tool, once the copy is known to be of the master's history.
    async fn mastership_after(&self, copy: &StoreHeader) -> Result<Mastership, Failure> {
        let witness = mastership::witness_of(self.store(), copy.last_transaction, self.with.stop).await?;
        self.reader().after(witness.as_ref()).await
    }

    /// Makes the store between the two readings of the mastership.
    async fn copy(&self, mastership_before: Mastership) -> Result<Copied, Failure> {
        let made = match &self.run.plan {
            Plan::Full => self.full(None).await?,
            Plan::Cold { store_path, alone } => self.cold(store_path, *alone).await?,
            Plan::Incremental { parent, or_full } => match self.incremental(parent, &mastership_before).await {
                Err(failure) if *or_full && asks_for_full(failure.reason) => self.fall_back(failure).await?,
                made => made?,
            },
        };
        Ok(Copied { made, mastership_before })
    }

    /// The tool copies the whole store.
    async fn full(&self, fell_back: Option<Failure>) -> Result<Made, Failure> {
        let cluster_folder = self.layout.cluster_folder();
        blocking(move || match space::newest_point(&cluster_folder) {
            Some((point, bytes)) => space::require(&cluster_folder, bytes, &format!("the newest point {point}")),
            None => Ok(()),
        })
        .await?;
        let mode = Mode::Full;
        let store = self.see_to_seed(self.run_tool(mode).await?).await?;
        let mastership_after = self.mastership_after(&store.header).await?;
        Ok(Made { mode, store, mastership_after, parent: None, fell_back })
    }

    /// The store of a stopped member, from its volume.
    async fn cold(&self, store_path: &str, alone: bool) -> Result<Made, Failure> {
        let (source, to, stop) = (self.with.source.join(store_path), self.store(), self.with.stop.clone());
        let cluster = self.run.place.cluster;
        let began = Utc::now();
        let header = blocking(move || cold::copy(&source, &to, cluster, &stop)).await?;
        let data_to = Utc::now();
        let data_from = if alone {
            began
        } else {
            let copy = cold::Copy { store: self.store(), last_transaction: header.last_transaction, began };
            cold::data_from(self.run, self.with.discovery, &copy, self.with.stop).await?
        };
        let store = Store { tool: None, catch_up: Vec::new(), seed: None, header, data_from, data_to };
        let store = self.see_to_seed(store).await?;
        let mastership_after = self.run.mastership.clone();
        Ok(Made { mode: Mode::Full, store, mastership_after, parent: None, fell_back: None })
    }

    /// The tool adds what was committed since the parent to a copy of the parent's store.
    async fn incremental(&self, parent: &Parent, mastership: &Mastership) -> Result<Made, Failure> {
        let found = self.prove(parent, mastership).await?;
        let (found, copied_by) = self.forward(found).await?;
        let mode = Mode::Incremental;
        let store = self.run_tool(mode).await?;
        if store.header.last_transaction < parent.last_transaction {
            return Err(Failure::new(
                Reason::ToolLeftNoStore,
                format!(
                    "the tool reported success but left a store that ends with transaction {}, before the {} of the earlier point {}",
                    store.header.last_transaction, parent.last_transaction, parent.point
                ),
            ));
        }
        let store = self.see_to_seed(store).await?;
        let mastership_after = self.mastership_after(&store.header).await?;
        Ok(Made { mode, store, mastership_after, parent: Some((found, copied_by)), fell_back: None })
    }

    async fn prove(&self, parent: &Parent, mastership: &Mastership) -> Result<Found, Failure> {
        let _step = start(Step::Parent);
        let found = parent::find(&self.layout, parent, &self.run.place)?;
        found.prove(mastership.endpoint(), self.with.discovery, self.with.stop).await?;
        Ok(found)
    }

    /// Copies the parent's store into the partial.
    async fn forward(&self, found: Found) -> Result<(Found, CopiedBy), Failure> {
        let (store, stop) = (self.store(), self.with.stop.clone());
        blocking(move || {
            let copied_by = found.copy(&store, &stop)?;
            // Also with `verification: None`: a later point over this one would vouch for what it was given.
            found.compare(&store, &stop)?;
            Ok((found, copied_by))
        })
        .await
    }

    /// The whole store after all, into an empty partial.
    async fn fall_back(&self, cause: Failure) -> Result<Made, Failure> {
        progress::message(Step::Parent, &format!("the whole store is copied: {}", cause.message));
        let partial = self.partial.clone();
        blocking(move || Ok(target::make_partial(&partial)?)).await?;
        self.full(Some(Failure::new(cause.reason, cut(&cause.message, FELL_BACK_BYTES_MAX)))).await
    }

    /// Runs the tool against the member, or against the relay that leads to it if there is a limit.
    async fn run_tool(&self, mode: Mode) -> Result<Store, Failure> {
        let member = self.run.mastership.endpoint();
        // A store that was copied forward may hold one of a run long ago.
        let old_reports = inconsistency_reports(&self.store())?;
        let Some(limit) = self.run.bandwidth_limit else {
            let command = self.command(mode, member)?;
            let tool = process::run(Step::Tool, &command, self.with.stop).await?;
            let header = self.judge(&tool, &old_reports)?;
            return Ok(self.made_by(command, &tool, header));
        };
        let relay = Relay::listen(member, limit, self.with.discovery).await.map_err(|error| {
            Failure::new(Reason::AgentFailed, format!("cannot listen for the tool's connection: {error}"))
        })?;
        let command = self.command(mode, relay.endpoint())?;
        let tool = relay.during(process::run(Step::Tool, &command, self.with.stop)).await?;
        let header = self.judge(&tool, &old_reports).map_err(|failure| relay.explain(failure))?;
        Ok(self.made_by(command, &tool, header))
    }

    fn made_by(&self, command: Vec<String>, tool: &ToolRun, header: StoreHeader) -> Store {
        let record = ToolRecord {
            image: self.run.image.clone(),
            command,
            exit_code: match tool.ending {
                Ending::Exited(code) => code,
                Ending::Killed(signal) => -signal,
            },
            stdout_sha256: tool.stdout.sha256.clone(),
            stderr_sha256: tool.stderr.sha256.clone(),
        };
        Store { tool: Some(record), catch_up: Vec::new(), seed: None, header, data_from: tool.from, data_to: tool.to }
    }

    fn judge(&self, tool: &ToolRun, old_reports: &BTreeSet<String>) -> Result<StoreHeader, Failure> {
        let _step = start(Step::Judge);
        let store = self.store();
        let reports = inconsistency_reports(&store)?;
        output::judge(&ToolOutput {
            ending: tool.ending,
            stdout: &tool.stdout.end,
            stderr: &tool.stderr.end,
            free_bytes: space::free(self.with.mount).ok().flatten(),
            left_neostore: store.join(header::FILE_NAME).is_file(),
            left_report: reports.difference(old_reports).next().map(String::as_str),
        })?;
        let header = header::read(&store).map_err(|error| {
            Failure::new(Reason::ToolLeftNoStore, format!("the tool reported success but left no store: {error}"))
        })?;
        if header.store_id != self.run.place.cluster {
            return Err(Failure::new(
                Reason::StoreMismatch,
                format!("the tool copied store {} instead of {}", header.store_id, self.run.place.cluster),
            ));
        }
        index_names::check(&store)?;
        Ok(header)
    }

    /// What the engine could not open stays, under a name that nobody takes for a point, for those who want to know
    /// why.
    fn keep(&self, failure: Failure) -> Failure {
        let kept = self.layout.failed_folder(&self.run.owner.uid, self.with.pod_uid).map_err(Failure::from);
        let renamed = kept.and_then(|kept| {
            target::publish(&self.partial, &kept)?;
            Ok(kept)
        });
        match renamed {
            Ok(kept) => {
                let kept = kept.strip_prefix(self.with.mount).unwrap_or(&kept).display().to_string();
                failure.and(format!("the copy is kept as {kept}"))
            }
            Err(left) => failure.and(left.message),
        }
    }

    async fn clean_up(&self, failure: Failure) -> Failure {
        let _step = start(Step::CleanUp);
        if failure.reason == Reason::BootFailed {
            return self.keep(failure);
        }
        let partial = self.partial.clone();
        match blocking(move || Ok(target::remove_partial(&partial)?)).await {
            Ok(()) => failure,
            Err(left) => failure.and(left.message),
        }
    }
}

/// Names of the reports of inconsistencies in the store.
fn inconsistency_reports(store: &Path) -> Result<BTreeSet<String>, Failure> {
    let list = || -> io::Result<BTreeSet<String>> {
        if !store.exists() {
            return Ok(BTreeSet::new());
        }
        let names = fs::read_dir(store)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| name.as_ref().map_or(true, |name| output::is_inconsistency_report(name))).collect()
    };
    list().map_err(|error| io_kind::target_failure(&format!("cannot list {}: {error}", store.display()), &error))
}

/// Whether an incremental copy failed for what a full one does not need.
fn asks_for_full(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ParentDamaged
            | Reason::HistoryMayDiffer
            | Reason::LogsPruned
            | Reason::MemberFailed
            | Reason::StoreMismatch
            | Reason::NamesReplaced
    )
}
