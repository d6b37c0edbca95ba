//! `graph-backup-operator agent …`: the command lines of the pods.

use super::progress::{self, Step, start};
use super::report;
use super::stop::{Stop, StopCause};
use crate::agent::tasks::backup::{Surroundings, backup};
use crate::agent::tasks::carry::carry;
use crate::agent::tasks::cold;
use crate::agent::tasks::drill::drill;
use crate::agent::tasks::earlier;
use crate::agent::tasks::inspect::inspect;
use crate::agent::tasks::install::install;
use crate::agent::tasks::prune::prune;
use crate::agent::tasks::stage::stage;
use crate::agent::tasks::survey::survey;
use crate::agent::tool::exec::exec;
use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::task::{
    AGENT_MOUNT, BINARY_NAME, BackupRun, CarryRun, DrillRun, InspectRun, POD_UID_VARIABLE, PruneRun, RUN_VARIABLE,
    SCRATCH_MOUNT, SOURCE_MOUNT, STAGED_MOUNT, StageRun, SurveyRun, TARGET_MOUNT,
};
use crate::contract::verdict::{MESSAGE_PATH, Verdict};
use crate::discovery::Network;
use clap::{Args, Subcommand};
use rustix::fs::Mode;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The agent's own permissions for new files: all for the volume's group, nothing for others.
const UMASK: u32 = 0o007;
/// From the signal to the end of a run that cannot stop. The tool has two times
/// [`GRACE`](crate::agent::tool::process::GRACE) of it, and the kubelet kills after 30 seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(27);
/// The same after the deadline. Its Job has a minute more.
const DEADLINE_PATIENCE: Duration = Duration::from_secs(55);
/// How long the end waits for a log that nobody reads. The verdict is written by then.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// A check and an inspection have no deadline of their own; their Jobs have.
const NO_DEADLINE: Duration = Duration::from_hours(365 * 24);

/// What the agent does.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Make one attempt of a backup, as the environment variable `GRAPHBACKUP_RUN` says.
    Backup(Paths),
    /// Say whether a cold copy can be made, as the environment variable `GRAPHBACKUP_RUN` says.
    Check(Paths),
    /// Say whether a point of a backup is on the target, as the environment variable `GRAPHBACKUP_RUN` says.
    Inspect(Paths),
    /// Remove the files of a backup from the target, as the environment variable `GRAPHBACKUP_RUN` says.
    Prune(Paths),
    /// Restore a point to a scratch volume and let the engine open it, as the environment variable `GRAPHBACKUP_RUN` says.
    Drill(Paths),
    /// Say what is on a member's volume, as the environment variable `GRAPHBACKUP_RUN` says.
    Survey(Paths),
    /// Restore a point to the new volume of a member, as the environment variable `GRAPHBACKUP_RUN` says.
    Stage(Paths),
    /// Copy to that volume what lies beside the member's store, as the environment variable `GRAPHBACKUP_RUN` says.
    Carry(Paths),
    /// Copy this binary to where other containers of the pod find it.
    Install {
        /// Where to.
        #[arg(long, default_value_os_t = Path::new(AGENT_MOUNT).join(BINARY_NAME))]
        to: PathBuf,
    },
    /// Become the tool; used by `backup` and `drill`.
    #[command(hide = true)]
    Exec {
        /// Process id of the agent that asks.
        #[arg(long)]
        parent: i32,
        /// The tool and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// Where the agent finds the volumes and leaves its verdict.
#[derive(Debug, Args)]
pub struct Paths {
    /// Where the target claim is mounted.
    #[arg(long, default_value = TARGET_MOUNT)]
    target: PathBuf,
    /// Where the member's own volume is mounted, for a cold copy or a restore.
    #[arg(long, default_value = SOURCE_MOUNT)]
    source: PathBuf,
    /// Where the scratch volume of a drill is mounted.
    #[arg(long, default_value = SCRATCH_MOUNT)]
    scratch: PathBuf,
    /// Where the new volume of a member is mounted, for a restore.
    #[arg(long, default_value = STAGED_MOUNT)]
    staged: PathBuf,
    /// The container's termination message.
    #[arg(long, default_value = MESSAGE_PATH)]
    verdict: PathBuf,
}

/// Does it. The exit code is 1 for a failure, else 0.
pub fn run(command: AgentCommand) -> ExitCode {
    match command {
        AgentCommand::Backup(paths) => conclude(&paths.verdict, &in_runtime(run_backup(&paths))),
        AgentCommand::Check(paths) => conclude(&paths.verdict, &in_runtime(run_check(&paths))),
        AgentCommand::Inspect(paths) => conclude(&paths.verdict, &in_runtime(run_inspect(&paths))),
        AgentCommand::Prune(paths) => conclude(&paths.verdict, &in_runtime(run_prune(&paths))),
        AgentCommand::Drill(paths) => conclude(&paths.verdict, &in_runtime(run_drill(&paths))),
        AgentCommand::Survey(paths) => conclude(&paths.verdict, &in_runtime(run_survey(&paths))),
        AgentCommand::Stage(paths) => conclude(&paths.verdict, &in_runtime(run_stage(&paths))),
        AgentCommand::Carry(paths) => conclude(&paths.verdict, &in_runtime(run_carry(&paths))),
        AgentCommand::Install { to } => match install(&to) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(io::stderr(), "{error}");
                ExitCode::FAILURE
            }
        },
        AgentCommand::Exec { parent, command } => exec(parent, &command),
    }
}

/// This thread for the run, one for signals and clocks, further ones only for what blocks. The tool is started by this
/// thread, which lives as long as the process: the kernel ties the tool's life to it.
fn in_runtime(work: impl Future<Output = Result<Verdict, Failure>>) -> Verdict {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let verdict = match runtime {
        Ok(runtime) => {
            let verdict = runtime.block_on(work);
            // What still blocks a thread, such as a volume that does not answer, must not hold up the verdict.
            runtime.shutdown_background();
            verdict
        }
        Err(error) => Err(Failure::new(Reason::AgentFailed, format!("cannot start the agent: {error}"))),
    };
    verdict.unwrap_or_else(Verdict::Failed)
}

async fn run_backup(paths: &Paths) -> Result<Verdict, Failure> {
    let run: BackupRun = read_run()?;
    let pod_uid = variable(POD_UID_VARIABLE)?;
    rustix::process::umask(Mode::from_raw_mode(UMASK));
    let stop = listen(Duration::from_secs(run.deadline_seconds), &paths.verdict)?;
    let discovery = Network::default();
    let (mount, source) = (&paths.target, &paths.source);
    let with = Surroundings { discovery: &discovery, mount, source, pod_uid: &pod_uid, stop: &stop };
    Ok(Box::pin(backup(&run, &with)).await)
}

async fn run_check(paths: &Paths) -> Result<Verdict, Failure> {
    let run: BackupRun = read_run()?;
    rustix::process::umask(Mode::from_raw_mode(UMASK));
    let stop = listen(NO_DEADLINE, &paths.verdict)?;
    earlier::refuse(&run, &paths.target)?;
    cold::check(&run, &paths.target, &paths.source, &stop).await?;
    Ok(Verdict::Ready)
}

async fn run_inspect(paths: &Paths) -> Result<Verdict, Failure> {
    let run: InspectRun = read_run()?;
    let stop = listen(NO_DEADLINE, &paths.verdict)?;
    Ok(inspect(run, &paths.target, &stop).await)
}

async fn run_prune(paths: &Paths) -> Result<Verdict, Failure> {
    let run: PruneRun = read_run()?;
    let stop = listen(NO_DEADLINE, &paths.verdict)?;
    Ok(prune(&run, &paths.target, &stop).await)
}

async fn run_drill(paths: &Paths) -> Result<Verdict, Failure> {
    let run: DrillRun = read_run()?;
    rustix::process::umask(Mode::from_raw_mode(UMASK));
    let stop = listen(Duration::from_secs(run.deadline_seconds), &paths.verdict)?;
    Ok(drill(run, &paths.target, &paths.scratch, &stop).await)
}

async fn run_survey(paths: &Paths) -> Result<Verdict, Failure> {
    let run: SurveyRun = read_run()?;
    let stop = listen(Duration::from_secs(run.deadline_seconds), &paths.verdict)?;
    Ok(survey(run, &paths.source, &stop).await)
}

async fn run_stage(paths: &Paths) -> Result<Verdict, Failure> {
    let run: StageRun = read_run()?;
    rustix::process::umask(Mode::from_raw_mode(UMASK));
    let stop = listen(Duration::from_secs(run.deadline_seconds), &paths.verdict)?;
    Ok(stage(run, &paths.target, &paths.staged, &stop).await)
}

async fn run_carry(paths: &Paths) -> Result<Verdict, Failure> {
    let run: CarryRun = read_run()?;
    rustix::process::umask(Mode::from_raw_mode(UMASK));
    let stop = listen(Duration::from_secs(run.deadline_seconds), &paths.verdict)?;
    Ok(carry(run, &paths.source, &paths.staged, &stop).await)
}

fn listen(deadline: Duration, verdict: &Path) -> Result<Stop, Failure> {
    let stop = Stop::listen(deadline)
        .map_err(|error| Failure::new(Reason::AgentFailed, format!("cannot take signals: {error}")))?;
    tokio::spawn(end_in_time(stop.clone(), verdict.to_owned()));
    Ok(stop)
}

/// Ends the process when the run was told to stop and cannot: a system call on a volume that does not answer never
/// returns.
async fn end_in_time(stop: Stop, verdict: PathBuf) {
    let cause = stop.stopped().await;
    tokio::time::sleep(match cause {
        StopCause::Signal(_) => STOP_PATIENCE,
        StopCause::Deadline(_) => DEADLINE_PATIENCE,
    })
    .await;
    let failure =
        Failure::from(cause).and("it did not stop in time, so the process was ended: the volume may not answer");
    report(&verdict, &Verdict::Failed(failure));
    progress::finish(LOG_PATIENCE);
    std::process::exit(1);
}

fn read_run<T: DeserializeOwned>() -> Result<T, Failure> {
    let text = variable(RUN_VARIABLE)?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(Reason::AgentFailed, format!("cannot read {RUN_VARIABLE}: {error}")))
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| Failure::new(Reason::AgentFailed, format!("{name}: {error}")))
}

fn conclude(path: &Path, verdict: &Verdict) -> ExitCode {
    report(path, verdict);
    progress::finish(LOG_PATIENCE);
    match verdict {
        Verdict::Failed(_) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn report(path: &Path, verdict: &Verdict) {
    let _step = start(Step::Report);
    if let Err(error) = report::write(path, verdict) {
        // The operator then asks the volume.
        progress::message(Step::Report, &format!("cannot write the verdict to {}: {error}", path.display()));
    }
    progress::verdict(verdict);
}
