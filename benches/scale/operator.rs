//! The operator as it ships, and what it costs by the kernel's account.

use crate::plane::Plane;
use crate::support::{Folder, Process, ports, wait_for};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Namespace of the operator.
pub const NAMESPACE: &str = "graph-backup";
/// Between two looks at its processor time.
const LOOK: Duration = Duration::from_millis(100);
/// It is quiet when it has used next to no processor time for so long.
const QUIET: Duration = Duration::from_secs(4);
/// Clock ticks (10 ms) in one look from which on it is at work.
const AT_WORK: u64 = 2;

/// A running operator.
pub struct Operator {
    process: Process,
    port: u16,
    started: Instant,
}

/// Resident memory, KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// The most since the start, or since [`Operator::forget_peak`].
    pub peak: u64,
}

impl Operator {
    /// Starts it and waits until it leads.
    pub async fn start(plane: &Plane, namespaces: &str, folder: &Folder, places: usize) -> Self {
        let program = PathBuf::from(std::env::var_os("GBO_PROGRAM").expect("GBO_PROGRAM is not set"));
        let port = ports::next();
        let variables = [
            ("KUBECONFIG", plane.kubeconfig().display().to_string()),
            ("WATCH_NAMESPACES", namespaces.to_owned()),
            ("POD_NAMESPACE", NAMESPACE.to_owned()),
            ("OPERATOR_IMAGE", "localhost/graph-backup-operator:dev".to_owned()),
            ("LISTEN", format!("127.0.0.1:{port}")),
            ("MAX_RUNNING_BACKUPS", places.to_string()),
        ];
        let log = folder.join("operator.log");
        let process = Process::start_with(&program, &["operator".to_owned()], &variables, &log);
        let mut operator = Self { process, port, started: Instant::now() };
        wait_for("the operator to lead", Duration::from_secs(60), async || {
            operator.process.must_run();
            let metrics = get(operator.port, "/metrics").await?;
            metrics.contains("graphbackup_leader 1").then_some(())
        })
        .await;
        operator
    }

    /// Waits until it is quiet, and says how long after its start it was.
    pub async fn quiet(&mut self) -> Duration {
        self.quiet_since(self.started).await
    }

    /// Waits until it is quiet, and says how long after a moment it was.
    pub async fn quiet_since(&mut self, moment: Instant) -> Duration {
        let mut before = self.ticks();
        let mut at_work = Instant::now();
        while at_work.elapsed() < QUIET {
            tokio::time::sleep(LOOK).await;
            self.process.must_run();
            let ticks = self.ticks();
            if ticks - before >= AT_WORK {
                at_work = Instant::now();
            }
            before = ticks;
        }
        at_work.saturating_duration_since(moment)
    }

    /// Its resident memory.
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Memory { now: field("VmRSS:"), peak: field("VmHWM:") }
    }

    /// From now on the peak counts anew.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    /// Processor time, clock ticks.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self) {
        self.process.terminate();
    }
}

/// Body of an answer over plain HTTP.
async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
