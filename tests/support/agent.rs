//! The agent's real binary, started as a pod starts it.
#![allow(dead_code, reason = "no test target uses all of it")]

use graph_backup_operator::api::Reason;
use graph_backup_operator::contract::failure::Failure;
use graph_backup_operator::contract::task::{POD_UID_VARIABLE, RUN_VARIABLE};
use graph_backup_operator::contract::verdict::{Drilled, MESSAGE_BYTES_MAX, Published, Verdict};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The program, if [`PROGRAM_VARIABLE`] names no other.
pub const AGENT: &str = env!("CARGO_BIN_EXE_graph-backup-operator");
/// Names another build of the program.
pub const PROGRAM_VARIABLE: &str = "GBO_PROGRAM";

/// The program that is tested.
pub fn program() -> String {
    std::env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| AGENT.to_owned())
}

/// An agent that runs.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    verdict: PathBuf,
    log: Vec<Value>,
    usage: Usage,
}

impl Running {
    /// Starts the agent in a pod with this UID. A member's own volume is `source`, beside the target, its new one
    /// `staged`, and the volume of a drill `scratch`.
    pub fn start(what: &str, pod: &str, run: &impl Serialize, target: &Path, verdict: &Path) -> Self {
        Self::start_through(&[program()], what, pod, run, target, verdict)
    }

    /// The same by a command that ends with the program; its process is that of the command.
    pub fn start_through(
        command: &[String],
        what: &str,
        pod: &str,
        run: &impl Serialize,
        target: &Path,
        verdict: &Path,
    ) -> Self {
        // An earlier build does not know the option; it has no such task either.
        let staged = ["stage", "carry"]
            .contains(&what)
            .then(|| ["--staged".into(), target.with_file_name("staged").into_os_string()]);
        let staged = staged.into_iter().flatten();
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .args(["agent", what, "--target"])
            .arg(target)
            .arg("--source")
            .arg(target.with_file_name("source"))
            .arg("--scratch")
            .arg(target.with_file_name("scratch"))
            .args(staged)
            .arg("--verdict")
            .arg(verdict)
            .env(RUN_VARIABLE, serde_json::to_string(run).unwrap())
            .env(POD_UID_VARIABLE, pod)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, verdict: verdict.to_owned(), log: Vec::new(), usage: Usage::default() }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends a signal to its first child: the agent, where this was started through another program.
    pub fn send_to_child(&self, signal: Signal) {
        let pid = self.pid().as_raw_pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let child = children.split_whitespace().next().expect("a child").parse().unwrap();
        kill_process(Pid::from_raw(child).unwrap(), signal).unwrap();
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

    /// Whether it has left its verdict.
    pub fn has_verdict(&self) -> bool {
        fs::metadata(&self.verdict).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// Waits for its end without reading its log.
    #[track_caller]
    pub fn ended_within(mut self, patience: Duration) -> Outcome {
        let until = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                None => {
                    self.child.kill().unwrap();
                    panic!("it did not end within {patience:?}");
                }
            }
        };
        let verdict = serde_json::from_slice(&fs::read(&self.verdict).expect("a verdict")).unwrap();
        Outcome { status, verdict, log: self.log, usage: self.usage }
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
        Outcome { status, verdict: serde_json::from_slice(&verdict).unwrap(), log: self.log, usage: self.usage }
    }

    fn next_line(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the line {line:?}"));
        self.log.push(value.clone());
        // A process that has ended no longer tells.
        self.usage = Usage::of(self.pid()).unwrap_or(self.usage);
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
    /// What it had used when it wrote its last lines.
    pub usage: Usage,
}

impl Outcome {
    /// The point; panics with the failure if there is none.
    #[track_caller]
    pub fn published(self) -> Published {
        match self.verdict {
            Verdict::Published(published) => {
                assert_eq!(self.status.code(), Some(0));
                *published
            }
            Verdict::Failed(failure) => panic!("{failure:?}\n{:#?}", self.log),
            _ => panic!("it answered another question"),
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

    /// Panics unless it removed everything.
    #[track_caller]
    pub fn pruned(self) {
        assert_eq!((self.verdict, self.status.code()), (Verdict::Pruned, Some(0)));
    }

    /// What a drill found out; panics with the failure if it is none.
    #[track_caller]
    pub fn drilled(self) -> Drilled {
        match self.verdict {
            Verdict::Drilled(drilled) => {
                assert_eq!(self.status.code(), Some(0));
                *drilled
            }
            other => panic!("{other:?}\n{:#?}", self.log),
        }
    }

    /// The lines that the tool wrote to a stream.
    pub fn tool_lines(&self, stream: &str) -> Vec<&str> {
        let of_stream = self.log.iter().filter(|line| line["stream"] == stream);
        of_stream.map(|line| line["line"].as_str().unwrap()).collect()
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The most memory that it held, bytes.
    pub peak_bytes: u64,
    /// Its own processor time, seconds.
    pub own: f64,
    /// Processor time of its children that have ended, seconds.
    pub children: f64,
}

impl Usage {
    /// As proc(5) describes it; none when the process has ended.
    fn of(pid: Pid) -> Option<Self> {
        let read = |file| fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_pid())).ok();
        let (status, stat) = (read("status")?, read("stat")?);
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let peak_bytes = peak.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
        // After the name, which may hold blanks, comes field 3. Ticks are hundredths of a second.
        let (_, stat) = stat.rsplit_once(") ")?;
        let ticks: Vec<f64> = stat.split(' ').skip(14 - 3).take(4).map_while(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks.try_into().ok()?;
        Some(Self { peak_bytes, own: (user + system) / 100.0, children: (children_user + children_system) / 100.0 })
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
