//! End-to-end tests: the operator as installed by its chart, on a real Kubernetes with a real ZooKeeper ensemble and a
//! real three-member Neo4j 1.8 HA cluster. `make e2e` starts all of it; the tests share it and run one after another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it wants in the fewest words"
)]

mod adopt;
mod away;
mod backup;
mod cold;
mod conformance;
mod deletion;
mod failover;
mod failures;
mod full;
mod incremental;
mod index;
mod lost;
mod restore;
mod restored;
mod rights;
mod schedule;
mod seed;
mod sidecar;
mod support;
mod terminating;
