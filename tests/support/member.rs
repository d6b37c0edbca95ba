//! Real Neo4j 1.8 HA members; `e2e/neo4j/README.md` describes the program.

use super::{Ensemble, Folder, Process, home, ports, wait_for};
use graph_backup_operator::{
    api::{Endpoint, StoreId},
    discovery::SourceUri,
};
use serde::Deserialize;
use std::{path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long ZooKeeper keeps a member that fell silent. A machine that has just been started may stand still for ten
/// seconds and more; a member whose session ends meanwhile can lose its registration for good.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A member, running or not.
#[derive(Debug)]
pub struct Member {
    /// `ha.server_id`.
    pub id: i32,
    /// Backup port on 127.0.0.1.
    pub backup_port: u16,
    /// Port for the other members.
    pub ha_port: u16,
    /// Port of its HTTP endpoint.
    pub http_port: u16,
    folder: Folder,
    variables: Vec<(&'static str, String)>,
    process: Option<Process>,
}

/// What a member says of itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// It has joined.
    pub ready: bool,
    /// It is master.
    pub is_master: bool,
    /// Its last transaction.
    pub last_committed_tx: Option<i64>,
    /// Its store.
    pub store_id: Option<StoreId>,
}

impl Member {
    /// A member of `cluster` in `ensemble`, not started.
    pub fn new(id: i32, ensemble: &Ensemble, cluster: &str) -> Self {
        let folder = Folder::new(&format!("member-{id}"));
        let [ha_port, backup_port, http_port] = [ports::next(), ports::next(), ports::next()];
        let variables = vec![
            ("HA_SERVER_ID", id.to_string()),
            ("HA_SERVER", format!("127.0.0.1:{ha_port}")),
            ("HA_COORDINATORS", ensemble.connect_string()),
            ("HA_CLUSTER_NAME", cluster.to_owned()),
            ("BACKUP_PORT", backup_port.to_string()),
            ("HTTP_PORT", http_port.to_string()),
            ("STORE_DIR", folder.join("graph.db").display().to_string()),
            ("ZK_SESSION_TIMEOUT_MS", SESSION_TIMEOUT.as_millis().to_string()),
        ];
        Self { id, backup_port, ha_port, http_port, folder, variables, process: None }
    }

    /// Gives a setting of `e2e/neo4j/README.md` for its next start.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.to_owned()));
    }

    /// Starts the member, which does not run; [`Member::ready`] waits until it has joined.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "member {} runs", self.id);
        let log = self.folder.join("member.log");
        self.process = Some(Process::start(&home().join("bin/neo4j-member"), &self.variables, &log));
    }

    /// Whether it was started and not killed.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Waits until it has joined, as master or slave.
    ///
    /// 1.8 gives up when it loses its session while it joins, as it may on a busy machine: then it is started again, as
    /// Kubernetes would do.
    pub async fn ready(&mut self) -> State {
        let mut left = 3;
        wait_for(&format!("member {} to join", self.id), Duration::from_secs(120), async || {
            let process = self.process.as_mut().expect("the member was not started");
            if left > 0 && process.has_ended() {
                left -= 1;
                self.process = None;
                self.start();
                return None;
            }
            process.must_run();
            self.state().await.filter(|state| state.ready)
        })
        .await
    }

    /// Whether its process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().expect("the member was not started").has_ended()
    }

    /// Everything that its processes have printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("member.log")).unwrap_or_default()
    }

    /// What it says of itself, if it answers.
    pub async fn state(&self) -> Option<State> {
        serde_json::from_str(&self.ask("GET", "/").await?).ok()
    }

    /// Commits at least `count` nodes, through the master. A member that has just joined or changed its role may
    /// refuse: it is asked again.
    pub async fn write(&self, count: u32) {
        self.post(&format!("/nodes?count={count}")).await;
    }

    /// Commits nodes that hold about so many bytes.
    pub async fn write_bytes(&self, bytes: u64) {
        self.write_data(bytes.div_ceil(100_000), 100_000).await;
    }

    /// Commits nodes with so many bytes each.
    pub async fn write_data(&self, count: u64, bytes: u64) {
        self.post(&format!("/nodes?count={count}&bytes={bytes}")).await;
    }

    /// Commits one node, and adds it to the legacy node index of this name, which has plain letters only.
    pub async fn write_indexed(&self, index: &str) {
        self.post(&format!("/index?index={index}&key=k&value=v")).await;
    }

    /// How many nodes that index finds.
    pub async fn hits(&self, index: &str) -> u64 {
        let answer = self.ask("GET", &format!("/index/count?index={index}&key=k&value=v")).await.unwrap_or_default();
        let found: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        found["hits"].as_u64().unwrap_or_else(|| panic!("member {} could not look: {answer}", self.id))
    }

    async fn post(&self, path: &str) {
        let what = format!("member {} to write", self.id);
        wait_for(&what, Duration::from_secs(60), async || {
            self.ask("POST", path).await.filter(|answer| answer.contains("\"created\""))
        })
        .await;
    }

    /// How many nodes it holds, each of them read.
    pub async fn count(&self) -> u64 {
        let answer = self.ask("GET", "/nodes/count").await.unwrap_or_default();
        let counted: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        counted["nodes"].as_u64().unwrap_or_else(|| panic!("member {} could not count: {answer}", self.id))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM: it closes its store.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate();
        }
    }

    /// SIGSTOP: its session ends, it does not know.
    pub fn freeze(&self) {
        self.process.as_ref().unwrap().freeze();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.as_ref().unwrap().thaw();
    }

    /// Where it serves backups.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: "127.0.0.1".into(), port: self.backup_port }
    }

    /// The member as a source.
    pub fn uri(&self) -> SourceUri {
        SourceUri::Single(self.endpoint())
    }

    /// Its store. Only to be read while it does not run.
    pub fn store(&self) -> PathBuf {
        self.folder.join("graph.db")
    }

    /// The body that its HTTP endpoint answers with.
    async fn ask(&self, method: &str, path: &str) -> Option<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).await.ok()?;
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: member\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
        };
        timeout(Duration::from_secs(30), exchange).await.ok().flatten()
    }
}
