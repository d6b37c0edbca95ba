//! What ZooKeeper repeats, and what it is away for: neither may cost a copy, or make one of two histories.

use crate::agent::{Backup, finished};
use crate::support::{Cluster, Ensemble, wait_for};
use graph_backup_operator::api::{Mastership, MastershipToken, Reason};
use graph_backup_operator::contract::task::{Mode, Plan};
use graph_backup_operator::discovery::Located;
use std::process::Command;
use std::time::Duration;

/// What a look-up can tell by zxids alone.
fn zxids(located: &Located) -> MastershipToken {
    let Mastership::Master(token) = &located.mastership else { panic!("{located:?}") };
    MastershipToken { incarnation: None, ..token.clone() }
}

#[tokio::test]
async fn a_fresh_ensemble_does_not_make_an_old_point_a_parent() {
    let mut cluster = Cluster::on(Ensemble::start(1).await, 1).await;
    let before = cluster.located().await;
    let mut backup = Backup::of(cluster.ensemble.uri(), &before);
    let older = backup.published().await;
    let older_store = backup.point().join("store");
    cluster.members[0].write(20).await;
    backup.incremental("newer", &older, &cluster.located().await, false);
    let newer = backup.published().await;

    // Everything but the target is lost. The older point is put back and written past the end of the newer one.
    cluster.members[0].kill();
    std::fs::remove_dir_all(cluster.members[0].store()).unwrap();
    let copied = Command::new("cp").arg("-r").arg(older_store).arg(cluster.members[0].store()).status().unwrap();
    assert!(copied.success());
    cluster.ensemble.start_afresh().await;
    cluster.members[0].start();
    cluster.members[0].ready().await;
    while cluster.members[0].state().await.unwrap().last_committed_tx.unwrap() <= newer.last_transaction {
        cluster.members[0].write(5).await;
    }
    let nodes = cluster.members[0].count().await;
    let after = cluster.located().await;
    assert_eq!(after.store_id, before.store_id);
    assert_eq!(zxids(&after), zxids(&before), "a fresh ensemble repeats them, or this test shows nothing");

    backup.incremental("after", &newer, &after, false);
    let failure = finished(backup.start("pod-1")).await.failed(Reason::HistoryMayDiffer);
    assert!(failure.message.contains(&format!("transaction {}", newer.last_transaction)), "{}", failure.message);
    let Plan::Incremental { or_full, .. } = &mut backup.run.plan else { panic!("it is incremental") };
    *or_full = true;
    let point = backup.published().await;
    let fell_back = point.fell_back.map(|failure| failure.reason);
    assert_eq!((point.mode, fell_back), (Mode::Full, Some(Reason::HistoryMayDiffer)));
    assert_eq!(backup.opened()["nodes"], nodes);
}

#[tokio::test]
async fn zookeeper_away_after_the_tool_costs_no_copy() {
    let mut cluster = Cluster::shared().await;
    let located = cluster.located().await;
    // The agent knows one server of three; the members go on with the others.
    let server = format!("ha://127.0.0.1:{}", cluster.ensemble.ports()[0]);
    let backup = Backup::of(server.parse().unwrap(), &located).held();
    let running = backup.start("pod-1");
    backup.copied().await;
    cluster.ensemble.kill_server(0);
    backup.let_go();
    // Longer than a look-up takes to give up.
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.ensemble.start_server(0);
    let published = finished(running).await.published();
    assert_eq!((&published.mastership_before, &published.mastership_after), (&located.mastership, &located.mastership));
    cluster.ensemble.serving().await;
    assert_eq!(cluster.located().await, located, "the members did not notice");
}

#[tokio::test]
async fn a_member_without_its_registration_is_to_be_restarted() {
    let mut cluster = Cluster::on(Ensemble::start(1).await, 1).await;
    let located = cluster.located().await;
    let path = format!("{}/ha-servers/1", located.store_id.root_path());
    cluster.ensemble.remove(&path).await;
    let network = graph_backup_operator::discovery::Network::default();
    let uri = cluster.ensemble.uri();
    let look = graph_backup_operator::discovery::Discovery::locate(&network, &uri, None).await;
    let error = look.unwrap_err();
    assert_eq!(error.reason(), Reason::MemberWithoutAddress);
    assert!(error.to_string().contains("restart"), "{error}");
    cluster.members[0].kill();
    wait_for("the member's sessions to end", Duration::from_secs(60), async || {
        (cluster.ensemble.sessions().await == 0).then_some(())
    })
    .await;
    cluster.members[0].start();
    cluster.members[0].ready().await;
    assert_ne!(cluster.located().await.mastership, located.mastership);
}
