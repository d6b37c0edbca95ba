//! Real ZooKeeper servers and real Neo4j 1.8 members on loopback, for tests in Rust.
//!
//! Everything started here is killed when its value is dropped and, at the latest, when the test process ends, however
//! it ends. Ports are reserved across processes, so test runs do not disturb each other. Data and logs are below
//! `target/tmp/`, where the next run removes them.
#![allow(dead_code, unused_imports, reason = "no test target uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cluster;
mod folder;
mod member;
pub mod ports;
mod process;
mod zookeeper;

pub use cluster::{Cluster, ClusterGuard};
pub use folder::{Folder, home};
pub use member::{Member, SESSION_TIMEOUT, State};
pub use process::Process;
pub use zookeeper::Ensemble;

use std::time::{Duration, Instant};

/// Asks again until there is an answer; panics with `what` when `bound` is over.
pub async fn wait_for<T>(what: &str, bound: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
