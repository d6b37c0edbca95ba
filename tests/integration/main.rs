//! Tests with real ZooKeeper servers, real Neo4j members and the real backup tool, on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
#[path = "../support/agent.rs"]
mod agent_process;
mod cold;
mod discovery;
mod discovery_ensemble;
mod discovery_probe;
mod fresh_ensemble;
mod joining;
mod seed;
mod zookeeper_today;
