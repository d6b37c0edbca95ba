//! What the agent adds to the tool's own run: `make bench`, or `make bench MIB=2048` for a larger store.
//!
//! A real member with a store of at least that size is copied by the tool alone and by the agent with the same tool, in
//! turns, onto the disk that holds `target/`. Only the agent has to be a release build: `GBO_PROGRAM` names it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "no product code")]

#[path = "../tests/support/agent.rs"]
mod agent_process;
#[path = "../tests/support/mod.rs"]
mod support;

use agent_process::{Outcome, Running};
use graph_backup_operator::api::Verification;
use graph_backup_operator::api::{Kind, Owner};
use graph_backup_operator::contract::task::{BackupRun, Place, Plan};
use graph_backup_operator::discovery::{DEFAULT_CLUSTER_NAME, Discovery, Located, Network, SourceUri};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::{Ensemble, Folder, Member, home};

/// Times that each is run.
const TURNS: usize = 3;
const STORE_MIB: u64 = 1024;
/// Data of one node. With its checksum and what the store adds it takes a tenth more.
const NODE_BYTES: u64 = 4096;
/// Data that the member is asked to write at once.
const REQUEST_BYTES: u64 = 16 << 20;

/// Seconds of one turn.
struct Turn {
    /// The tool alone.
    tool: f64,
    /// Flushing to the disk what the tool has left in memory.
    flush: f64,
    /// The agent, from its start to its end.
    agent: f64,
    /// Of these, the tool that it ran.
    inner: f64,
    /// Reading every file back from the disk.
    verify: f64,
    /// Processor time of the agent itself.
    cpu: f64,
    /// Processor time of the tool that it ran.
    inner_cpu: f64,
    /// Bytes and files in the copy.
    copy: (u64, u64),
}

impl Turn {
    /// What the agent added to the tool that it ran, as a part of that tool's time.
    fn added(&self) -> f64 {
        (self.agent - self.inner) / self.inner
    }

    /// The same for `verification: None`.
    fn added_unverified(&self) -> f64 {
        (self.agent - self.verify - self.inner) / self.inner
    }
}

#[tokio::main]
async fn main() {
    let mib = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(STORE_MIB);
    let ensemble = Ensemble::start(1).await;
    let mut member = Member::new(1, &ensemble, DEFAULT_CLUSTER_NAME);
    member.start();
    member.ready().await;
    let begin = Instant::now();
    for _ in 0..(mib << 20).div_ceil(REQUEST_BYTES) {
        member.write_data(REQUEST_BYTES / NODE_BYTES, NODE_BYTES).await;
    }
    println!("{mib} MiB of data written in {:.0} s", begin.elapsed().as_secs_f64());
    let located = Network::default().locate(&ensemble.uri(), None).await.expect("a master");
    let bench = Bench { source: ensemble.uri(), located };
    println!(
        "     alone          | the agent and its steps                      | added           | CPU time      | agent's\n\
         turn     tool    flush |    agent     tool     hash   verify    other |  Quick           None |     tool    agent    peak RSS"
    );
    let turns: Vec<_> = (1..=TURNS).map(|number| bench.turn(number)).collect();
    summarize(&turns);
}

struct Bench {
    source: SourceUri,
    located: Located,
}

impl Bench {
    fn turn(&self, number: usize) -> Turn {
        let (tool, flush) = self.tool_alone();
        let (agent, outcome) = self.agent();
        let [inner, hash, verify] = ["tool", "hash", "verify"].map(|step| seconds_of(&outcome, step));
        let usage = outcome.usage;
        let published = outcome.published();
        let (cpu, inner_cpu) = (usage.own, usage.children);
        let copy = (published.bytes, published.files);
        let turn = Turn { tool, flush, agent, inner, verify, cpu, inner_cpu, copy };
        let other = agent - inner - hash - verify;
        let (added, unverified) = (100.0 * turn.added(), 100.0 * turn.added_unverified());
        println!(
            "{number:4} {tool:7.2}s {flush:7.2}s | {agent:7.2}s {inner:7.2}s {hash:7.2}s {verify:7.2}s {other:7.2}s | \
             {added:5.1}% {unverified:14.1}% | {inner_cpu:7.2}s {cpu:7.2}s {:7.1} MiB",
            mib(usage.peak_bytes)
        );
        turn
    }

    fn tool_alone(&self) -> (f64, f64) {
        let folder = fresh_folder("tool-alone");
        let member = self.located.mastership.endpoint();
        let store = folder.join("store");
        let mut tool = Command::new(home().join("bin/neo4j-backup"));
        tool.args(["-full", "-from", &format!("single://{}:{}", member.host, member.port), "-to"]).arg(&store);
        tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        assert!(tool.status().unwrap().success(), "the tool alone failed");
        let tool = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        flush(folder.path());
        let flush = begin.elapsed().as_secs_f64();
        fs::remove_dir_all(folder.path()).unwrap();
        (tool, flush)
    }

    fn agent(&self) -> (f64, Outcome) {
        let folder = fresh_folder("agent");
        let verdict = Folder::new("verdict").join("verdict");
        let begin = Instant::now();
        let outcome = Running::start("backup", "pod-1", &self.run(), folder.path(), &verdict).finish();
        let agent = begin.elapsed().as_secs_f64();
        fs::remove_dir_all(folder.path()).unwrap();
        (agent, outcome)
    }

    fn run(&self) -> BackupRun {
        let tool = home().join("bin/neo4j-backup").display().to_string();
        let command = [tool.as_str(), "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"];
        BackupRun {
            owner: Owner {
                kind: Kind::GraphBackup,
                namespace: "graph".into(),
                name: "bench".into(),
                uid: "uid-1".into(),
            },
            attempt: 1,
            source: self.source.clone(),
            cluster_name: None,
            mastership: self.located.mastership.clone(),
            plan: Plan::Full,
            command: command.map(String::from).to_vec(),
            bandwidth_limit: None,
            place: Place { directory: String::new(), cluster: self.located.store_id, point: "point".into() },
            verification: Verification::Quick,
            boot_command: None,
            deadline_seconds: 3600,
            image: "neo4j:1.8".into(),
        }
    }
}

fn summarize(turns: &[Turn]) {
    let (bytes, files) = turns[0].copy;
    let median = |of: fn(&Turn) -> f64| {
        let mut values: Vec<_> = turns.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("store: {:.0} MiB in {files} files", mib(bytes));
    println!("median of agent / tool alone:       {:.3}", median(|turn| turn.agent / turn.tool));
    println!("median of agent / (tool and flush): {:.3}", median(|turn| turn.agent / (turn.tool + turn.flush)));
    println!("median added, verification Quick:   {:.1} %", 100.0 * median(Turn::added));
    println!("median added, verification None:    {:.1} %", 100.0 * median(Turn::added_unverified));
    println!("median of agent's / tool's CPU:     {:.3}", median(|turn| turn.cpu / turn.inner_cpu));
}

/// An empty folder on a disk that has nothing else to do.
fn fresh_folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    flush(folder.path());
    folder
}

/// Flushes the file system that holds a folder.
fn flush(folder: &Path) {
    rustix::fs::syncfs(File::open(folder).unwrap()).unwrap();
}

fn seconds_of(outcome: &Outcome, step: &str) -> f64 {
    let ended = |line: &&serde_json::Value| line["step"] == step && line["event"] == "ended";
    outcome.log.iter().filter(ended).filter_map(|line| line["seconds"].as_f64()).sum()
}

#[allow(clippy::cast_precision_loss, reason = "for reading")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
