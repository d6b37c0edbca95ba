//! What the tests share: the cluster, its database, and the objects under test.

mod database;
mod object;
mod point;

pub use database::Database;
pub use object::{Backup, claim, claim_in};
pub use point::Copy;

use kube::{Client, Config};
use serde_json::Value;
use std::future::Future;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Namespace of the database, its backups and their claims.
pub const NAMESPACE: &str = "graph";
/// A watched namespace without a database, which a test may delete.
pub const SHORT_LIVED: &str = "short-lived";
/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "graph-backup";
/// Image of the database and its tool.
pub const TOOL_IMAGE: &str = "localhost/neo4j-ha:1.8";
/// Image of the operator.
pub const OPERATOR_IMAGE: &str = "localhost/graph-backup-operator:dev";
/// The source of the test cluster.
pub const SOURCE: &str = "ha://zookeeper-0.zookeeper:2181,zookeeper-1.zookeeper:2181,zookeeper-2.zookeeper:2181";

/// A client with all rights.
pub async fn client() -> Client {
    let config = Config::infer().await.expect("run through e2e/run or make e2e: it sets KUBECONFIG");
    Client::try_from(config).unwrap()
}

/// Asks until there is an answer; fails the test with `what` when the time is over.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A marker for nodes that no earlier run wrote.
pub fn marker(name: &str) -> String {
    format!("{name}-{}", chrono::Utc::now().timestamp_millis())
}

/// A command of the tool: a script that is given the arguments of the real one as `"$@"`.
pub fn real_tool_in(script: &str) -> Value {
    serde_json::json!(["sh", "-c", script, "tool", "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"])
}

/// Runs kubectl and says whether it succeeded.
pub fn kubectl_succeeds(arguments: &[&str]) -> bool {
    Command::new("kubectl").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Runs kubectl; fails the test when kubectl fails.
pub fn kubectl(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new("kubectl").args(arguments).output().expect("kubectl is on the PATH");
    assert!(status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs kubectl, which has to fail; gives what it says.
pub fn kubectl_refused(arguments: &[&str], stdin: &str) -> String {
    let Output { status, stderr, .. } = kubectl_fed(arguments, stdin);
    assert!(!status.success(), "kubectl {arguments:?} was expected to be refused");
    String::from_utf8(stderr).unwrap()
}

/// Runs kubectl with objects on its standard input; fails the test when kubectl fails.
pub fn kubectl_with(arguments: &[&str], objects: &Value) -> String {
    let Output { status, stdout, stderr } = kubectl_fed(arguments, &objects.to_string());
    assert!(status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn kubectl_fed(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is on the PATH");
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Scales a workload and waits until it has that many ready pods, or none at all.
pub fn scale(namespace: &str, workload: &str, replicas: u32) {
    kubectl(&["-n", namespace, "scale", workload, "--replicas", &replicas.to_string()]);
    kubectl(&["-n", namespace, "rollout", "status", workload, "--timeout=180s"]);
}
