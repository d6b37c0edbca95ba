//! The database cannot be found, or its master moves.

use crate::backup::jobs::backup;
use crate::backup::scenario::{Scenario, scenario};
use crate::world::cluster::Behaviour::{MasterMovesBefore, MasterMovesDuring, MixesHistories};
use crate::world::database::Look;
use graph_backup_operator::api::Reason;
use graph_backup_operator::discovery::DiscoveryError;
use serde_json::json;

const NO_MASTER: Look = Look::Fails(|| DiscoveryError::NoMaster {
    cluster: "neo4j.ha".to_owned(),
    detail: "no member is there".to_owned(),
});
const NO_QUORUM: Look = Look::Fails(|| DiscoveryError::EnsembleUnavailable {
    servers: "zk-0.zk:2181".to_owned(),
    detail: "connection refused".to_owned(),
});
const ELECTION: Look = Look::Fails(|| DiscoveryError::ElectionRunning {
    cluster: "neo4j.ha".to_owned(),
    detail: "two members claim to be master".to_owned(),
});
const GARBAGE: Look = Look::Fails(|| DiscoveryError::ZnodeUnreadable { problem: "/neo4j.ha has 3 bytes".to_owned() });
const TWO_ROOTS: Look =
    Look::Fails(|| DiscoveryError::MultipleRoots { servers: "zk-0.zk:2181".to_owned(), roots: "/1_2,/3_4".to_owned() });

pub fn master_moves_before_the_tool_starts() -> Scenario {
    scenario("master moves before the tool starts").backup_job(MasterMovesBefore).succeeds(&[backup(1), backup(2)])
}

pub fn master_moves_while_the_tool_runs() -> Scenario {
    scenario("master moves while the tool runs").backup_job(MasterMovesDuring).succeeds(&[backup(1), backup(2)])
}

/// The agent breaks its promise: the controller's own comparison holds.
pub fn a_point_of_two_histories_never_counts() -> Scenario {
    scenario("a point of two histories never counts")
        .spec("/retry/limit", json!(1))
        .backup_job(MixesHistories)
        .fails(Reason::MasterChanged, &[backup(1), backup(2)])
}

pub fn what_passes_is_waited_for() -> Scenario {
    scenario("what passes is waited for")
        .looks(&[NO_QUORUM, Look::Slow(15), NO_MASTER, ELECTION])
        .succeeds(&[backup(1)])
}

pub fn no_master_until_time_is_over() -> Scenario {
    scenario("no master until time is over")
        .tight()
        .spec("/deadlines/run", json!("1m"))
        .looks(&[NO_MASTER; 100])
        .fails(Reason::NoMaster, &[])
}

pub fn garbage_in_zookeeper() -> Scenario {
    scenario("garbage in ZooKeeper").looks(&[GARBAGE; 9]).fails(Reason::ZnodeUnreadable, &[]).writes(2)
}

pub fn two_clusters_where_one_may_be() -> Scenario {
    scenario("two clusters where one may be").looks(&[TWO_ROOTS; 9]).fails(Reason::MultipleRoots, &[])
}
