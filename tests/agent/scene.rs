//! A target volume, a member, a scripted tool, and the agent run against them.

use crate::member::Member;
use graph_backup_operator::agent::manifest::Manifest;
use graph_backup_operator::agent::run::{BackupRun, InspectRun, Mode, Owner, POD_UID_VARIABLE, Place, RUN_VARIABLE};
use graph_backup_operator::agent::verdict::{Failure, MESSAGE_BYTES_MAX, Published, Verdict};
use graph_backup_operator::api::{Endpoint, Fence, ProbeMark, Reason, StoreId, Verification};
use graph_backup_operator::discovery::SourceUri;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const AGENT: &str = env!("CARGO_BIN_EXE_graph-backup-operator");
pub const STORE_ID: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };
pub const OTHER_STORE_ID: StoreId = StoreId { creation_time: 1_795_334_483_296, random_id: 7 };
pub const BACKUP_UID: &str = "1a2b3c4d-0000-4000-8000-000000000000";
pub const POINT: &str = "20261124T060000Z-before-upgrade-1a2b3c4d";
/// A store as small as it gets, and what the tool says about it.
pub const GOOD_TOOL: &str = r#"
mkdir -p "$target/index"
cp "$header" "$target/neostore"
echo nodes > "$target/neostore.nodestore.db"
: > "$target/index/lucene-store.db"
echo "Performing full backup from 'single://x'"
echo "Full consistency check" >&2
echo "....................  40%" >&2
echo "[3 Files copied]"
echo Done
"#;

pub struct Scene {
    pub folder: TempDir,
    pub member: Member,
    pub run: BackupRun,
}

impl Scene {
    /// The tool is a shell script; `$target` is where it writes, `$header` a valid `neostore`, `$scene` a folder for notes.
    pub fn with_tool(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("neostore"), neostore(STORE_ID)).unwrap();
        fs::write(folder.path().join("other-neostore"), neostore(OTHER_STORE_ID)).unwrap();
        let scene = folder.path().display();
        let tool = folder.path().join("tool");
        fs::write(
            &tool,
            format!("scene={scene}\nheader={scene}/neostore\ntarget=$1\necho $$ >> {scene}/pids\n{script}"),
        )
        .unwrap();
        let member = Member::serving(STORE_ID);
        let endpoint = Endpoint { host: "127.0.0.1".into(), port: member.port };
        let run = BackupRun {
            owner: Owner { namespace: "graph".into(), name: "before-upgrade".into(), uid: BACKUP_UID.into() },
            attempt: 1,
            source: SourceUri::Single(endpoint.clone()),
            cluster_name: None,
            fence: Fence::Probe(ProbeMark { endpoint, store_id: STORE_ID }),
            mode: Mode::Full,
            command: ["sh", tool.to_str().unwrap(), "{target}", "{mode}", "{host}:{port}"].map(String::from).to_vec(),
            place: Place { directory: "team/graph".into(), cluster: STORE_ID, point: POINT.into() },
            verification: Verification::Quick,
            deadline_seconds: 300,
            image: "registry.example/neo4j:1.8".into(),
            dead_pods: Vec::new(),
        };
        Self { folder, member, run }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn cluster_folder(&self) -> PathBuf {
        self.path("target/team/graph").join(STORE_ID.to_string())
    }

    pub fn point_folder(&self) -> PathBuf {
        self.cluster_folder().join(POINT)
    }

    /// Names in the cluster's folder but for the lock.
    pub fn in_cluster_folder(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.cluster_folder()) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    /// How often the tool was started.
    pub fn tool_runs(&self) -> usize {
        fs::read_to_string(self.path("pids")).unwrap_or_default().lines().count()
    }

    pub fn manifest(&self) -> Manifest {
        serde_json::from_slice(&fs::read(self.point_folder().join("manifest.json")).unwrap()).unwrap()
    }

    /// Starts `agent backup` in a pod with this UID.
    pub fn start(&self, pod: &str) -> Running {
        self.spawn("backup", pod, &self.run)
    }

    pub fn backup(&self, pod: &str) -> Outcome {
        self.start(pod).finish()
    }

    pub fn inspect(&self) -> Outcome {
        let run = InspectRun { owner: self.run.owner.clone(), place: self.run.place.clone() };
        self.spawn("inspect", "inspect-pod", &run).finish()
    }

    fn spawn(&self, what: &str, pod: &str, run: &impl Serialize) -> Running {
        let verdict = self.path(&format!("verdict-{pod}"));
        let mut child = Command::new(AGENT)
            .args(["agent", what, "--target"])
            .arg(self.path("target"))
            .arg("--verdict")
            .arg(&verdict)
            .env(RUN_VARIABLE, serde_json::to_string(run).unwrap())
            .env(POD_UID_VARIABLE, pod)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout, verdict, log: Vec::new() }
    }
}

/// An agent that runs.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    verdict: PathBuf,
    log: Vec<Value>,
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

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
    pub status: ExitStatus,
    pub verdict: Verdict,
    pub log: Vec<Value>,
}

impl Outcome {
    #[track_caller]
    pub fn published(self) -> Published {
        match self.verdict {
            Verdict::Published(published) => {
                assert_eq!(self.status.code(), Some(0));
                *published
            }
            Verdict::Failed(failure) => panic!("{failure:?}\n{:#?}", self.log),
        }
    }

    #[track_caller]
    pub fn failed(self, reason: Reason) -> Failure {
        match self.verdict {
            Verdict::Failed(failure) => {
                assert_eq!(self.status.code(), Some(1));
                assert_eq!(failure.reason, reason, "{}", failure.message);
                failure
            }
            Verdict::Published(published) => panic!("{published:?}"),
        }
    }

    /// The lines that the tool wrote to a stream.
    pub fn tool_lines(&self, stream: &str) -> Vec<&str> {
        let of_stream = self.log.iter().filter(|line| line["stream"] == stream);
        of_stream.map(|line| line["line"].as_str().unwrap()).collect()
    }
}

/// A `neostore` of a store that was shut down cleanly: six records and the trailer.
fn neostore(store_id: StoreId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [store_id.creation_time, store_id.random_id, 2, 6, 0x0030_2e41_2e30_7606, -1] {
        bytes.push(1);
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(b"NeoStore v0.A.0");
    bytes
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

/// Whether a process of this id runs; one that has ended but was not reaped does not.
pub fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}
