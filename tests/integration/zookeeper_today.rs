//! The same with a ZooKeeper server of today: the database's client of 3.3.2 and ours both speak to it.

use crate::agent::Backup;
use crate::support::{Cluster, Ensemble};
use graph_backup_operator::api::{Mastership, MastershipToken};
use graph_backup_operator::contract::task::Mode;

fn token(mastership: &Mastership) -> &MastershipToken {
    let Mastership::Master(token) = mastership else { panic!("{mastership:?}") };
    token
}

/// A full point, and an incremental one over it.
async fn is_backed_up(cluster: &mut Cluster) {
    let located = cluster.located().await;
    let found = token(&located.mastership).clone();
    let born = found.incarnation.clone().unwrap();
    assert!(born.server_session != 0 && born.election_session != 0, "{born:?}");
    assert!(born.cluster_modified_at > 0 && born.rebound_modified_at >= born.cluster_modified_at, "{born:?}");
    let master = cluster.master().await;
    assert_eq!((found.member_id, &found.endpoint), (master.id, &master.endpoint()));
    let mut backup = Backup::of(cluster.ensemble.uri(), &located);
    let full = backup.published().await;
    cluster.master().await.write(20).await;
    let nodes = cluster.master().await.count().await;
    backup.incremental("second", &full, &cluster.located().await, false);
    let second = backup.published().await;
    assert_eq!((second.mode, &second.mastership_after), (Mode::Incremental, &located.mastership));
    assert_eq!(backup.opened()["nodes"], nodes);
}

#[tokio::test]
async fn a_single_server() {
    let mut cluster = Cluster::on(Ensemble::start_today(1).await, 1).await;
    is_backed_up(&mut cluster).await;
}

#[tokio::test]
async fn three_servers_of_which_one_is_lost_and_a_change_of_master() {
    let mut cluster = Cluster::on(Ensemble::start_today(3).await, 2).await;
    cluster.repair().await;
    is_backed_up(&mut cluster).await;
    let before = cluster.located().await;
    // The last one leads, its id is the highest.
    cluster.ensemble.kill_server(2);
    assert_eq!(cluster.located().await, before, "two of three servers are enough");
    cluster.ensemble.start_server(2);
    cluster.ensemble.serving().await;
    let master = token(&before.mastership).member_id;
    cluster.member(master).kill();
    let after = cluster.located_where(|token| token.member_id != master).await;
    assert_eq!(after.store_id, before.store_id);
    is_backed_up(&mut cluster).await;
}
