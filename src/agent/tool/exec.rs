//! `agent exec`: becomes the tool, after asking the kernel to end it together with the agent.
//!
//! The agent starts the tool through this step because a process can ask for its parent-death signal only itself, and
//! what it asked for survives `exec`. In a container whose first process is the agent the kernel ends everything
//! anyway; this holds where it is not (`shareProcessNamespace`, a run by hand).

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// By the convention of shells: the command was not found.
const NOT_FOUND: u8 = 127;
/// By the convention of shells: the command was found but cannot be executed.
const CANNOT_EXECUTE: u8 = 126;

/// Never returns when the command could be executed.
pub fn exec(parent: i32, command: &[String]) -> ExitCode {
    // Failing here would only take away the second safety.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        // The agent ended before the kernel knew what we want.
        return ExitCode::from(CANNOT_EXECUTE);
    }
    let Some((program, arguments)) = command.split_first() else { return ExitCode::from(NOT_FOUND) };
    let error = Command::new(program).args(arguments).exec();
    let _ = writeln!(io::stderr(), "cannot execute {program:?}: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE })
}
