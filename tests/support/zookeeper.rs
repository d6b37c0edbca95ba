//! Real ZooKeeper servers.

use super::folder::home_of_zookeeper;
use super::{Folder, Process, home, ports, wait_for};
use graph_backup_operator::discovery::SourceUri;
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use zookeeper_client::{Acls, Client, CreateMode, Error};

/// A server of an ensemble.
#[derive(Debug)]
struct Server {
    port: u16,
    variables: Vec<(&'static str, String)>,
    process: Option<Process>,
}

/// Which ZooKeeper a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 3.3.2, which 1.8 brings.
    OfTheDatabase,
    /// The one in `e2e/zookeeper/pom.xml`.
    OfToday,
}

/// An ensemble of one or several servers.
#[derive(Debug)]
pub struct Ensemble {
    release: Release,
    folder: Folder,
    servers: Vec<Server>,
}

/// What a znode is made of, its own and its children's zxids included: equal trees mean that nothing was written.
pub type Tree = BTreeMap<String, (Vec<u8>, i64, i64, i64)>;

impl Ensemble {
    /// Starts `count` servers of the database's own release and waits until they serve.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// Starts `count` servers of today's release and waits until they serve.
    pub async fn start_today(count: usize) -> Self {
        Self::start_release(Release::OfToday, count, &[]).await
    }

    /// Starts `count` servers with further settings, see `e2e/neo4j/README.md`.
    pub async fn start_with(count: usize, settings: &[(&'static str, String)]) -> Self {
        Self::start_release(Release::OfTheDatabase, count, settings).await
    }

    async fn start_release(release: Release, count: usize, settings: &[(&'static str, String)]) -> Self {
        let folder = Folder::new("zookeeper");
        let ports: Vec<[u16; 3]> = (0..count).map(|_| [ports::next(), ports::next(), ports::next()]).collect();
        let line =
            |(at, [_, peers, election]): (usize, &[u16; 3])| format!("server.{}=127.0.0.1:{peers}:{election}", at + 1);
        let lines: Vec<_> = ports.iter().enumerate().map(line).collect();
        let servers = ports.iter().enumerate().map(|(at, [client, ..])| {
            let id = at + 1;
            let mut variables = vec![
                ("ZOO_MY_ID", id.to_string()),
                ("ZOO_SERVERS", if count == 1 { String::new() } else { lines.join(" ") }),
                ("ZOO_CLIENT_PORT", client.to_string()),
                ("ZOO_DATA_DIR", folder.join(format!("data-{id}")).display().to_string()),
                // A minute: a busy machine must not cost the ensemble its leader, 3.3 may never find another one.
                ("ZOO_SYNC_LIMIT", "30".to_owned()),
                // Tests kill processes, never the machine: a slow disk need not hold the ensemble up.
                ("JAVA_OPTS", "-Xmx96m -Dzookeeper.forceSync=no".to_owned()),
            ];
            variables.extend_from_slice(settings);
            Server { port: *client, variables, process: None }
        });
        let mut ensemble = Self { release, servers: servers.collect(), folder };
        for at in 0..count {
            ensemble.start_server(at);
        }
        ensemble.serving().await;
        ensemble
    }

    /// Starts server `at` (from 0), which does not run.
    pub fn start_server(&mut self, at: usize) {
        let log = self.folder.join(format!("server-{}.log", at + 1));
        let home = match self.release {
            Release::OfTheDatabase => home(),
            Release::OfToday => home_of_zookeeper(),
        };
        let server = &mut self.servers[at];
        assert!(server.process.is_none(), "server {at} runs");
        server.process = Some(Process::start(&home.join("bin/zookeeper-server"), &server.variables, &log));
    }

    /// Loses every znode: kills the servers and starts them again, at the same ports and without their data.
    pub async fn start_afresh(&mut self) {
        for at in 0..self.servers.len() {
            self.kill_server(at);
            std::fs::remove_dir_all(self.folder.join(format!("data-{}", at + 1))).unwrap();
        }
        for at in 0..self.servers.len() {
            self.start_server(at);
        }
        self.serving().await;
    }

    /// Waits until every running server serves.
    pub async fn serving(&mut self) {
        for server in &mut self.servers {
            let Some(process) = &mut server.process else { continue };
            let port = server.port;
            wait_for("a ZooKeeper server", Duration::from_secs(120), async || {
                process.must_run();
                serves(port).await.then_some(())
            })
            .await;
        }
    }

    /// Starts every server anew if one does not serve: elections of 3.3 can hang for ever.
    pub async fn repair(&mut self) {
        for port in self.ports() {
            if !serves(port).await {
                for at in 0..self.servers.len() {
                    self.kill_server(at);
                }
                for at in 0..self.servers.len() {
                    self.start_server(at);
                }
                return self.serving().await;
            }
        }
    }

    /// Kills server `at`.
    pub fn kill_server(&mut self, at: usize) {
        self.servers[at].process = None;
    }

    /// Stops server `at` in its tracks.
    pub fn freeze_server(&self, at: usize) {
        self.servers[at].process.as_ref().unwrap().freeze();
    }

    /// Lets server `at` go on.
    pub fn thaw_server(&self, at: usize) {
        self.servers[at].process.as_ref().unwrap().thaw();
    }

    /// Client ports.
    pub fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }

    /// `host:port,host:port`, as a member's `ha.coordinators` wants it.
    pub fn connect_string(&self) -> String {
        let servers: Vec<_> = self.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        servers.join(",")
    }

    /// The ensemble as a source.
    pub fn uri(&self) -> SourceUri {
        format!("ha://{}", self.connect_string()).parse().unwrap()
    }

    /// A session of the test's own.
    pub async fn client(&self) -> Client {
        // Without the version the client sends requests that 3.3 does not know.
        let connector = Client::connector().with_server_version(3, 3, 2).with_session_timeout(Duration::from_secs(10));
        connector.connect(&self.connect_string()).await.unwrap()
    }

    /// Writes a znode: creates it and its parents, or replaces its bytes.
    pub async fn put(&self, path: &str, data: &[u8]) {
        let client = self.client().await;
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            client.mkdir(parent, &options).await.unwrap();
        }
        match client.create(path, data, &options).await {
            Ok(_) => {}
            Err(Error::NodeExists) => drop(client.set_data(path, data, None).await.unwrap()),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Removes a znode without children.
    pub async fn remove(&self, path: &str) {
        self.client().await.delete(path, None).await.unwrap();
    }

    /// The bytes of a znode, if it exists.
    pub async fn data(&self, path: &str) -> Option<Vec<u8>> {
        self.client().await.get_data(path).await.ok().map(|(data, _)| data)
    }

    /// Every znode but ZooKeeper's own.
    pub async fn tree(&self) -> Tree {
        let client = self.client().await;
        client.sync("/").await.unwrap();
        let mut tree = Tree::new();
        let mut left = vec!["/".to_owned()];
        while let Some(path) = left.pop() {
            let Ok((data, stat)) = client.get_data(&path).await else { continue };
            for child in client.list_children(&path).await.unwrap_or_default() {
                left.push(format!("{}/{child}", path.trim_end_matches('/')));
            }
            left.retain(|path| path != "/zookeeper");
            tree.insert(path, (data, stat.czxid, stat.mzxid, stat.pzxid));
        }
        tree
    }

    /// How many sessions are open with all servers, those of members included.
    pub async fn sessions(&self) -> usize {
        let mut count = 0;
        for port in self.ports() {
            let answer = four_letters(port, "cons").await.unwrap_or_default();
            count += answer.lines().filter(|line| line.contains("sid=")).count();
        }
        count
    }
}

/// Whether a server belongs to a quorum.
async fn serves(port: u16) -> bool {
    four_letters(port, "srvr").await.is_some_and(|answer| answer.contains("Zxid"))
}

/// What a server answers to one of ZooKeeper's four-letter words.
async fn four_letters(port: u16, word: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(word.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    timeout(Duration::from_secs(5), ask).await.ok().flatten()
}
