//! The agent's real binary, started as a pod starts it.
#![allow(dead_code, reason = "no test target uses all of it")]

use graph_backup_operator::agent::run::{POD_UID_VARIABLE, RUN_VARIABLE};
use graph_backup_operator::agent::verdict::{Failure, MESSAGE_BYTES_MAX, Published, Verdict};
use graph_backup_operator::api::Reason;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The program.
pub const AGENT: &str = env!("CARGO_BIN_EXE_graph-backup-operator");

/// An agent that runs.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    verdict: PathBuf,
    log: Vec<Value>,
}

impl Running {
    /// Starts `agent backup` or `agent inspect` in a pod with this UID.
    pub fn start(what: &str, pod: &str, run: &impl Serialize, target: &Path, verdict: &Path) -> Self {
        let mut child = Command::new(AGENT)
            .args(["agent", what, "--target"])
            .arg(target)
            .arg("--verdict")
            .arg(verdict)
            .env(RUN_VARIABLE, serde_json::to_string(run).unwrap())
            .env(POD_UID_VARIABLE, pod)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, verdict: verdict.to_owned(), log: Vec::new() }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Reads the log until this event of this step; false when the log ends before.
    pub fn reaches(&mut self, step: &str, event: &str) -> bool {
        while let Some(line) = self.next_line() {
            if line["step"] == step && line["event"] == event {
                return true;
            }
        }
        false
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and checks what any verdict must be.
    pub fn finish(mut self) -> Outcome {
        while self.next_line().is_some() {}
        let status = self.child.wait().unwrap();
        let verdict = fs::read(&self.verdict).expect("a verdict");
        assert!(verdict.len() <= MESSAGE_BYTES_MAX, "the verdict has {} bytes", verdict.len());
        Outcome { status, verdict: serde_json::from_slice(&verdict).unwrap(), log: self.log }
    }

    fn next_line(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the line {line:?}"));
        self.log.push(value.clone());
        Some(value)
    }
}

/// An agent that has ended by itself.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code.
    pub status: ExitStatus,
    /// Its termination message.
    pub verdict: Verdict,
    /// Its standard output.
    pub log: Vec<Value>,
}

impl Outcome {
    /// The point; panics with the failure if there is none.
    #[track_caller]
    pub fn published(self) -> Published {
        match self.verdict {
            Verdict::Pruned => panic!("it pruned"),
            Verdict::Published(published) => {
                assert_eq!(self.status.code(), Some(0));
                *published
            }
            Verdict::Failed(failure) => panic!("{failure:?}\n{:#?}", self.log),
        }
    }

    /// The point without the free space, which is another one each time that it is asked for.
    #[track_caller]
    pub fn facts(self) -> Published {
        Published { free_bytes: None, ..self.published() }
    }

    /// The failure, which must be for this reason.
    #[track_caller]
    pub fn failed(self, reason: Reason) -> Failure {
        match self.verdict {
            Verdict::Failed(failure) => {
                assert_eq!(self.status.code(), Some(1));
                assert_eq!(failure.reason, reason, "{}", failure.message);
                failure
            }
            other => panic!("{other:?}"),
        }
    }

    /// The lines that the tool wrote to a stream.
    pub fn tool_lines(&self, stream: &str) -> Vec<&str> {
        let of_stream = self.log.iter().filter(|line| line["stream"] == stream);
        of_stream.map(|line| line["line"].as_str().unwrap()).collect()
    }
}

/// Waits until something holds, ten seconds at most.
#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
