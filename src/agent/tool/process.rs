//! The database's own tool as a child process.
//!
//! The child is started through [`exec`](super::exec), leads a process group of its own, and never outlives the agent.
//! The agent is the first process of its container, so it also reaps what the tool leaves behind.

use crate::agent::progress::{Step, Stream, start};
use crate::agent::stop::{Stop, StopCause};
use crate::agent::tool::output::Ending;
use crate::agent::tool::stream::{Ended, follow};
use crate::api::{Endpoint, Reason};
use crate::contract::failure::Failure;
use crate::contract::task::Mode;
use crate::discovery::SourceUri;
use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, wait};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::watch;

/// From the signal that is passed on to `SIGKILL`. Kubernetes gives a pod 30 seconds by default; some are for cleaning
/// up.
pub const GRACE: Duration = Duration::from_secs(10);
/// What decides how Java turns names of files into bytes, the first one that is set before the others: locale(7).
const LOCALE_VARIABLES: [&str; 3] = ["LC_ALL", "LC_CTYPE", "LANG"];
/// The locale where neither the image nor the object sets one. Without it Java writes `?` for what is not ASCII.
const DEFAULT_LOCALE: &str = "C.UTF-8";
/// `ha.cluster_name` of a database that does not set it.
const DEFAULT_CLUSTER_NAME: &str = "neo4j.ha";

/// The tool did not run to its own end.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The command asks for what the source does not have.
    #[error("the tool's command holds {{clusterName}}, but a single:// source has no cluster name")]
    NoClusterName,
    /// The process or its surroundings cannot be made.
    #[error("cannot start the tool: {0}")]
    Start(#[source] io::Error),
    /// The run had to end first.
    #[error("stopped")]
    Stopped(StopCause),
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::NoClusterName => Self::new(Reason::InvalidSpec, error.to_string()),
            ToolError::Start(_) => Self::new(Reason::AgentFailed, error.to_string()),
            ToolError::Stopped(cause) => cause.into(),
        }
    }
}

/// What the placeholders of the tool's command become.
#[derive(Clone, Debug)]
pub struct Placeholders<'a> {
    /// `{mode}`.
    pub mode: Mode,
    /// `{host}` and `{port}`.
    pub member: &'a Endpoint,
    /// `{target}`.
    pub target: &'a Path,
    /// Where `{clusterName}` means something.
    pub source: &'a SourceUri,
    /// `{clusterName}`, if it is not the default.
    pub cluster_name: Option<&'a str>,
}

/// Fills the placeholders in. Anything else in braces stays as it is.
pub fn fill(command: &[String], with: &Placeholders) -> Result<Vec<String>, ToolError> {
    let has_name = matches!(with.source, SourceUri::Ha(_));
    if !has_name && command.iter().any(|word| word.contains("{clusterName}")) {
        return Err(ToolError::NoClusterName);
    }
    let port = with.member.port.to_string();
    let target = with.target.to_string_lossy();
    let values = [
        ("{mode}", with.mode.flag()),
        ("{host}", &with.member.host),
        ("{port}", &port),
        ("{target}", &target),
        // Last: it is the only value that could hold braces.
        ("{clusterName}", with.cluster_name.unwrap_or(DEFAULT_CLUSTER_NAME)),
    ];
    let filled = |word: &String| values.iter().fold(word.clone(), |word, (name, value)| word.replace(name, value));
    Ok(command.iter().map(filled).collect())
}

/// A run of the tool that came to its own end.
#[derive(Clone, Debug)]
pub struct ToolRun {
    /// How it ended.
    pub ending: Ending,
    /// Its standard output.
    pub stdout: Ended,
    /// Its standard error.
    pub stderr: Ended,
    /// Right before it was started.
    pub from: DateTime<Utc>,
    /// When its end was seen.
    pub to: DateTime<Utc>,
}

/// Runs a command to its end, or stops it when the run has to end. `told_as` names it in the log.
pub async fn run(told_as: Step, command: &[String], stop: &Stop) -> Result<ToolRun, ToolError> {
    let _step = start(told_as);
    // Before the child exists, so that none of its signals is missed.
    let mut children = signal(SignalKind::child()).map_err(ToolError::Start)?;
    set_child_subreaper(Some(getpid())).map_err(|errno| ToolError::Start(errno.into()))?;
    let from = Utc::now();
    let (group, stdout, stderr) = spawn(command).map_err(ToolError::Start)?;
    let (over, is_over) = watch::channel(false);
    let stdout = tokio::spawn(follow(stdout, told_as, Stream::Stdout, is_over.clone()));
    let stderr = tokio::spawn(follow(stderr, told_as, Stream::Stderr, is_over));
    let ended = wait_or_stop(group, &mut children, stop).await;
    let to = Utc::now();
    end_leftovers(group);
    let _ = over.send(true);
    let output = |joined: Result<Ended, tokio::task::JoinError>| joined.map_err(|e| ToolError::Start(e.into()));
    let (stdout, stderr) = (output(stdout.await)?, output(stderr.await)?);
    reap(group);
    Ok(ToolRun { ending: ended.map_err(ToolError::Stopped)?, stdout, stderr, from, to })
}

/// Starts the child; it leads a process group whose id is its own.
fn spawn(command: &[String]) -> io::Result<(Pid, pipe::Receiver, pipe::Receiver)> {
    let mut child = Command::new("/proc/self/exe");
    if !LOCALE_VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        child.env(LOCALE_VARIABLES[0], DEFAULT_LOCALE);
    }
    let mut child = child
        .args(["agent", "exec", "--parent", &getpid().as_raw_pid().to_string(), "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take().map(OwnedFd::from).ok_or(io::ErrorKind::BrokenPipe)?;
    let stderr = child.stderr.take().map(OwnedFd::from).ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((Pid::from_child(&child), pipe::Receiver::from_owned_fd(stdout)?, pipe::Receiver::from_owned_fd(stderr)?))
}

async fn wait_or_stop(group: Pid, children: &mut SignalStream, stop: &Stop) -> Result<Ending, StopCause> {
    let cause = tokio::select! {
        biased;
        ending = ended(group, children) => return Ok(ending),
        cause = stop.stopped() => cause,
    };
    for signal in [cause.signal_to_pass_on(), Signal::KILL] {
        kill(group, signal);
        if tokio::time::timeout(GRACE, ended(group, children)).await.is_ok() {
            break;
        }
    }
    Err(cause)
}

/// Waits for the end of the child, reaping whatever else ends meanwhile.
async fn ended(child: Pid, children: &mut SignalStream) -> Ending {
    loop {
        if let Some(ending) = reap(child) {
            return ending;
        }
        // `None` would mean that no signal can come any more; there is no such case while the runtime lives.
        children.recv().await;
    }
}

/// Reaps every process that has ended, and says how `child` ended if it is among them.
fn reap(child: Pid) -> Option<Ending> {
    let mut ending = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            ending = status.exit_status().map(Ending::Exited).or(status.terminating_signal().map(Ending::Killed));
        }
    }
    ending
}

/// Nothing that the tool left behind may write on into a store that is being hashed.
///
/// As the first process of its container the agent ends all others in it. Elsewhere, what left the tool's group is out
/// of its reach.
fn end_leftovers(group: Pid) {
    kill(group, Signal::KILL);
    if getpid() == Pid::INIT {
        // By kill(2), the group of process 1 means every process that can be signalled, but for process 1 itself.
        kill(Pid::INIT, Signal::KILL);
    }
}

/// Signals the whole group. A group whose processes have all ended is not there any more, which is as good.
fn kill(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn placeholders_are_filled_in() {
        let member = Endpoint { host: "neo4j-0".into(), port: 6362 };
        let (ha, single) = ("ha://zk".parse().unwrap(), "single://neo4j-0".parse().unwrap());
        let mut with = Placeholders {
            mode: Mode::Full,
            member: &member,
            target: Path::new("/target/x/store"),
            source: &single,
            cluster_name: None,
        };
        let default = words(&["neo4j-backup", "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}", "{x}"]);
        let filled = ["neo4j-backup", "-full", "-from", "single://neo4j-0:6362", "-to", "/target/x/store", "{x}"];
        assert_eq!(fill(&default, &with).unwrap(), filled);
        let named = words(&["tool", "-cluster", "{clusterName}"]);
        assert!(matches!(fill(&named, &with), Err(ToolError::NoClusterName)));
        with.source = &ha;
        assert_eq!(fill(&named, &with).unwrap(), ["tool", "-cluster", "neo4j.ha"]);
        with.cluster_name = Some("{mode}");
        assert_eq!(fill(&named, &with).unwrap(), ["tool", "-cluster", "{mode}"]);
    }
}
