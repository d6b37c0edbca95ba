//! Cold copies of real members' stores.

use crate::agent::{Backup, finished};
use crate::agent_process::Outcome;
use crate::support::{Cluster, Ensemble, Member, wait_for};
use graph_backup_operator::api::Reason;
use graph_backup_operator::contract::task::{Mode, Plan};
use graph_backup_operator::discovery::Located;
use std::time::Duration;

/// Copies the store of a member that is stopped.
async fn copied(cluster: &Cluster, member: &Member, located: &Located) -> (Backup, Outcome) {
    let mut backup = Backup::of(cluster.ensemble.uri(), located);
    backup.run.plan = Plan::Cold { store_path: "graph.db".into(), alone: false };
    let source = backup.folder.path().with_file_name("source");
    let _ = std::fs::remove_file(&source);
    std::os::unix::fs::symlink(member.store().parent().unwrap(), &source).unwrap();
    let outcome = finished(backup.start("pod-1")).await;
    (backup, outcome)
}

async fn caught_up(member: &Member, last: i64) {
    wait_for("a slave to catch up", Duration::from_secs(60), async || {
        member.state().await?.last_committed_tx.filter(|id| *id >= last)
    })
    .await;
}

#[tokio::test]
async fn a_stopped_slave_is_a_point_and_a_former_master_with_transactions_of_its_own_is_none() {
    let mut cluster = Cluster::on(Ensemble::start(1).await, 2).await;
    cluster.repair().await;
    let master = cluster.master().await;
    master.write(10).await;
    let (id, last) = (master.id, master.state().await.unwrap().last_committed_tx.unwrap());
    let slave = 3 - id;
    caught_up(cluster.member(slave), last).await;

    // The master commits what nobody pulls any more, and is stopped: the slave takes over.
    cluster.member(slave).freeze();
    cluster.member(id).write(5).await;
    cluster.member(id).stop();
    cluster.member(slave).thaw();
    let located = cluster.located_where(|token| token.member_id == slave).await;
    let former = cluster.members.iter().find(|member| member.id == id).unwrap();
    let (backup, outcome) = copied(&cluster, former, &located).await;
    let failure = outcome.failed(Reason::HistoryMayDiffer);
    assert!(failure.message.contains("has not come to its last transaction"), "{}", failure.message);
    assert!(!backup.point().exists());

    // With them committed again by all, a stopped member is a point, and a parent.
    cluster.repair().await;
    let master = cluster.master().await;
    master.write(10).await;
    let (id, last) = (master.id, master.state().await.unwrap().last_committed_tx.unwrap());
    let nodes = master.count().await;
    caught_up(cluster.member(3 - id), last).await;
    cluster.member(3 - id).stop();
    let located = cluster.located().await;
    let stopped = cluster.members.iter().find(|member| member.id != id).unwrap();
    let (mut backup, outcome) = copied(&cluster, stopped, &located).await;
    let point = outcome.published();
    assert_eq!((point.mode, point.last_transaction), (Mode::Full, last));
    assert_eq!(backup.opened()["nodes"], nodes);
    cluster.member(id).write(10).await;
    backup.incremental("second", &point, &located, false);
    assert_eq!(backup.published().await.mode, Mode::Incremental);
}
