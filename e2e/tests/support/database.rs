//! The database under test: its members, written to and counted over their HTTP endpoints.

use super::{NAMESPACE, eventually, kubectl, kubectl_succeeds};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Port of the members' HTTP endpoint.
const HTTP_PORT: u16 = 7474;
/// Members of the test cluster.
const MEMBERS: usize = 3;
/// How long a fail-over, a start and a store copy may take together on a busy machine.
const FORMS: Duration = Duration::from_secs(240);

/// The three members of a StatefulSet.
pub struct Database {
    pods: Api<Pod>,
    set: String,
}

/// One member as it answers right now.
#[derive(Clone, Debug)]
pub struct Member {
    /// Name of its pod.
    pub pod: String,
    /// Address of its pod.
    pub ip: String,
    /// Whether it says that it is master.
    pub is_master: bool,
}

impl Database {
    /// Waits until all members are in and one of them is master.
    pub async fn ready(client: &Client) -> Self {
        Self::ready_in(client, "neo4j").await
    }

    /// The same for the members of another StatefulSet.
    pub async fn ready_in(client: &Client, set: &str) -> Self {
        let database = Self { pods: Api::namespaced(client.clone(), NAMESPACE), set: set.to_owned() };
        database.whole().await;
        database
    }

    async fn whole(&self) {
        let whole = || async {
            let members = self.members().await;
            (members.len() == MEMBERS && members.iter().filter(|m| m.is_master).count() == 1).then_some(())
        };
        eventually("three members are in and one is master", FORMS, whole).await;
    }

    /// Members that answer and have joined.
    pub async fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for ordinal in 0..MEMBERS {
            let name = format!("{}-{ordinal}", self.set);
            let Ok(Some(pod)) = self.pods.get_opt(&name).await else { continue };
            let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else { continue };
            let Some(state) = ask(&ip, "GET", "/").await.filter(|state| state["ready"] == true) else { continue };
            members.push(Member { pod: pod.name_any(), ip, is_master: state["isMaster"] == true });
        }
        members
    }

    /// The master.
    pub async fn master(&self) -> Member {
        eventually("a master", FORMS, || async { self.members().await.into_iter().find(|member| member.is_master) })
            .await
    }

    /// Sees to it that none of these members is master: if one is, they are shut down cleanly, and come back when
    /// another one is.
    pub async fn spare(&self, pods: &[&str]) {
        if pods.contains(&self.master().await.pod.as_str()) {
            // The StatefulSet starts no other one before the first is ready.
            let held = Held::stop(pods[0]);
            kubectl(&[&["-n", NAMESPACE, "delete", "pod", "--timeout=120s"][..], pods].concat());
            let another = || async { self.members().await.into_iter().find(|m| m.is_master) };
            let another = eventually("another member is master", FORMS, another).await.pod;
            assert!(!pods.contains(&another.as_str()), "{another}");
            // Of members that are equal the one that committed last becomes master again.
            self.write("handed-over", 1, 10).await;
            drop(held);
            self.whole().await;
        }
        let master = self.master().await.pod;
        assert!(!pods.contains(&master.as_str()), "{master} is master again");
    }

    /// Kills the master for good (`kill -9`, and it stays down until it is let go) and waits for another.
    pub async fn kill_master(&self) -> (Held, Member) {
        let old = self.master().await;
        let held = Held::kill(&old.pod);
        let another =
            || async { self.members().await.into_iter().find(|member| member.is_master && member.pod != old.pod) };
        (held, eventually("another master", FORMS, another).await)
    }

    /// Writes nodes through every member, slaves as well; then waits until each member holds them all.
    pub async fn write_through_all(&self, marker: &str, count: u64) {
        let members = self.members().await;
        for member in &members {
            let written = write(&member.ip, marker, count, 100).await;
            assert!(written.is_some(), "{} (master: {}) takes no write", member.pod, member.is_master);
        }
        let expected = count * members.len() as u64;
        for member in &members {
            let pulled = || async {
                let answer = ask(&member.ip, "GET", &format!("/nodes/count?marker={marker}")).await?;
                (answer["nodes"] == expected).then_some(())
            };
            eventually(&format!("{} holds {expected} nodes", member.pod), Duration::from_secs(60), pulled).await;
        }
    }

    /// Nodes with this marker, as the master counts them.
    pub async fn count(&self, marker: &str) -> u64 {
        let master = self.master().await;
        let answer = ask(&master.ip, "GET", &format!("/nodes/count?marker={marker}")).await.unwrap();
        answer["nodes"].as_u64().unwrap()
    }

    /// Nodes with this marker, as each of the members counts them once it has pulled what the master has.
    pub async fn counts(&self, marker: &str) -> Vec<u64> {
        let expected = self.count(marker).await;
        let mut counts = Vec::new();
        for member in self.members().await {
            let path = format!("/nodes/count?marker={marker}");
            let pulled = || async {
                let nodes = ask(&member.ip, "GET", &path).await?["nodes"].as_u64()?;
                (nodes == expected).then_some(nodes)
            };
            let what = format!("{} holds {expected} nodes", member.pod);
            counts.push(eventually(&what, Duration::from_secs(60), pulled).await);
        }
        counts
    }

    /// Writes nodes with a marker and returns when they are committed.
    pub async fn write(&self, marker: &str, count: u64, bytes: u64) {
        let master = self.master().await;
        write(&master.ip, marker, count, bytes).await.expect("the master takes the nodes");
    }

    /// Commits nodes that the legacy index `index` finds as `title` = `value`. All of it is to be encoded for a URL.
    pub async fn index(&self, index: &str, value: &str, count: u64) {
        let master = self.master().await;
        let path = format!("/index?index={index}&key=title&value={value}&count={count}");
        let answer = ask(&master.ip, "POST", &path).await.expect("the master takes the nodes");
        assert_eq!(answer["created"], count);
    }

    /// Writes nodes in the background until it is told to stop. The first ones are committed when this returns.
    pub async fn keep_writing(&self, marker: &str) -> Writer {
        let ip = self.master().await.ip;
        write(&ip, marker, 10, 100).await.expect("the master takes the nodes");
        Writer::start(ip, marker.to_owned())
    }
}

/// A member that was killed and stays down until this is dropped.
pub struct Held {
    pod: String,
}

impl Held {
    /// Holds a member down from its next start on.
    fn stop(pod: &str) -> Self {
        kubectl(&["-n", NAMESPACE, "exec", pod, "--", "touch", "/data/hold"]);
        Self { pod: pod.to_owned() }
    }

    /// Kills the Java process of a member, and holds the member down.
    pub fn kill(pod: &str) -> Self {
        let held = Self::stop(pod);
        // The container may end with its process before kubectl has its answer: what counts is seen in the database.
        let _ = kubectl_succeeds(&["-n", NAMESPACE, "exec", pod, "--", "sh", "-c", "kill -9 $(pidof java)"]);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let end = Instant::now() + FORMS;
        let release = ["-n", NAMESPACE, "exec", &self.pod, "--", "rm", "-f", "/data/hold"];
        if !kubectl_succeeds(&release) {
            // After several kills the kubelet lets the container wait, up to five minutes; a new pod starts at once.
            kubectl_succeeds(&["-n", NAMESPACE, "delete", "pod", &self.pod, "--timeout=60s"]);
        }
        while !kubectl_succeeds(&release) {
            if Instant::now() >= end {
                // The next test that needs all members says so.
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Nodes that are written while a test does something else.
pub struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<DateTime<Utc>>>,
}

impl Writer {
    fn start(ip: String, marker: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut commits = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if write(&ip, &marker, 10, 100).await.is_some() {
                    commits.push(Utc::now());
                }
            }
            commits
        });
        Self { stop, task }
    }

    /// Stops writing; gives the time of every commit.
    pub async fn stop(self) -> Vec<DateTime<Utc>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn write(ip: &str, marker: &str, count: u64, bytes: u64) -> Option<()> {
    let answer = ask(ip, "POST", &format!("/nodes?count={count}&bytes={bytes}&marker={marker}")).await?;
    (answer["created"] == count).then_some(())
}

/// One request with HTTP/1.0, bounded in time.
async fn ask(ip: &str, method: &str, path: &str) -> Option<Value> {
    let exchange = async {
        let mut stream = TcpStream::connect((ip, HTTP_PORT)).await.ok()?;
        stream.write_all(format!("{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split_whitespace().nth(1).filter(|code| *code == "200")?;
        serde_json::from_str(body).ok()
    };
    tokio::time::timeout(Duration::from_secs(120), exchange).await.ok().flatten()
}
