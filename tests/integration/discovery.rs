//! Finding the master of a real cluster, and what changes its mastership token.

use crate::support::{Cluster, Folder, SESSION_TIMEOUT, home, wait_for};
use graph_backup_operator::{
    api::{Mastership, MastershipToken, Movement, Reason},
    discovery::{Discovery, Located, Network},
};
use std::time::Duration;

/// Longer than a member's session lives after its death.
const SESSION_AND_A_BIT: Duration = SESSION_TIMEOUT.saturating_add(Duration::from_secs(3));

fn token(located: &Located) -> &MastershipToken {
    let Mastership::Master(token) = &located.mastership else { panic!("{located:?}") };
    token
}

/// The reason and the message of a failure, if it is one.
async fn refusal(cluster: &Cluster, name: Option<&str>) -> Option<(Reason, String)> {
    let error = Network::default().locate(&cluster.ensemble.uri(), name).await.err()?;
    Some((error.reason(), error.to_string()))
}

#[tokio::test]
async fn the_master_is_found_under_every_spelling() {
    let mut cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let found = token(&located).clone();
    let master = cluster.master().await;
    assert_eq!((found.member_id, &found.endpoint), (master.id, &master.endpoint()));
    let state = master.state().await.unwrap();
    assert_eq!(Some(located.store_id), state.store_id);

    // By another server of the ensemble alone, by a name from /etc/hosts, with the cluster's name.
    let network = Network::default();
    for port in cluster.ensemble.ports() {
        let uri = format!("ha://localhost:{port}").parse().unwrap();
        assert_eq!(network.locate(&uri, Some("neo4j.ha")).await, Ok(located.clone()));
    }
}

#[tokio::test]
async fn slaves_writes_and_the_tool_leave_the_token_where_it_is() {
    let mut cluster = Cluster::shared().await;
    let before = cluster.located().await;
    let master = token(&before).member_id;
    let slave = if master == 1 { 2 } else { 1 };

    cluster.member(master).write(10).await;
    cluster.member(slave).write(10).await;
    assert_eq!(cluster.located().await, before, "members wrote");

    cluster.member(slave).kill();
    assert_eq!(cluster.located().await, before, "a slave was killed");
    tokio::time::sleep(SESSION_AND_A_BIT).await;
    assert_eq!(cluster.located().await, before, "the session of the killed slave ended");

    cluster.member(slave).start();
    cluster.member(slave).ready().await;
    assert_eq!(cluster.located().await, before, "a slave joined");

    let copy = Folder::new("copy");
    let uri = cluster.ensemble.uri().to_string();
    let tool = tokio::process::Command::new(home().join("bin/neo4j-backup"))
        .args(["-full", "-from", &uri, "-to"])
        .arg(copy.join("store"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), tool).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(cluster.located().await, before, "the tool ran an election of its own");
}

#[tokio::test]
async fn a_master_that_steps_down_and_returns_moves_the_token() {
    let mut cluster = Cluster::shared().await;
    let before = cluster.located().await;
    let master = token(&before).member_id;
    // The last transaction decides: who committed it as master is preferred.
    cluster.member(master).write(1).await;

    cluster.member(master).freeze();
    let between = cluster.located_where(|token| token.member_id != master).await;
    let expected = format!("member {master} was master, member {} is now", token(&between).member_id);
    assert_eq!(before.mastership.movement(&between.mastership), Movement::Moved(expected));
    assert_eq!(between.store_id, before.store_id);

    cluster.member(master).thaw();
    let after = cluster.located_where(|token| token.member_id == master).await;
    assert_eq!(token(&after).endpoint, token(&before).endpoint);
    let expected = format!("member {master} lost its registration or its mastership and took it back");
    assert_eq!(before.mastership.movement(&after.mastership), Movement::Moved(expected));
    assert!(token(&after).server_created > token(&before).server_created);
    assert!(token(&after).election_created > token(&before).election_created);
    assert!(token(&after).rebound_modified > token(&before).rebound_modified);
}

/// `master-notify` names the old master for a while after that has registered again: that is no election.
#[tokio::test]
async fn a_killed_master_that_returns_as_slave_is_not_taken_for_an_election() {
    let mut cluster = Cluster::shared().await;
    let before = cluster.located().await;
    let master = token(&before).member_id;
    let [successor, other] = if master == 1 { [2, 3] } else { [1, 5 - master] };

    // With nobody else there the successor takes over without a note in master-notify.
    cluster.member(other).kill();
    tokio::time::sleep(SESSION_AND_A_BIT).await;
    cluster.member(master).kill();
    let after = cluster.located_where(|token| token.member_id == successor).await;
    assert!(matches!(before.mastership.movement(&after.mastership), Movement::Moved(_)));
    assert_eq!(cluster.master().await.id, successor);
    cluster.member(successor).write(1).await;
    let notify = cluster.ensemble.data(&format!("{}/master-notify", before.store_id.root_path())).await;
    assert_eq!(notify, Some(master.to_be_bytes().to_vec()), "the case that this test is about");

    cluster.member(master).start();
    let network = Network::default();
    let uri = cluster.ensemble.uri();
    wait_for("the old master to join", Duration::from_secs(60), async || {
        assert_eq!(network.locate(&uri, None).await.as_ref(), Ok(&after));
        cluster.members.iter().find(|member| member.id == master)?.state().await.filter(|state| state.ready)
    })
    .await;
    assert!(!cluster.member(master).ready().await.is_master, "the successor has a newer transaction");
    assert_eq!(cluster.located().await, after);
}

#[tokio::test]
async fn a_cluster_without_live_members_has_no_master() {
    let mut cluster = Cluster::shared().await;
    let last = cluster.located().await;
    for member in &mut cluster.members {
        member.kill();
    }
    let (reason, message) = wait_for("the sessions of dead members to end", Duration::from_secs(60), async || {
        refusal(&cluster, None).await
    })
    .await;
    assert_eq!(reason, Reason::NoMaster, "{message}");
    assert!(
        message.contains(&format!("member {}, the last that was master, is not registered", token(&last).member_id))
    );
}

#[tokio::test]
async fn an_unknown_cluster_names_those_that_are_known() {
    let cluster = Cluster::shared().await;
    let (reason, message) = refusal(&cluster, Some("orders")).await.unwrap();
    assert_eq!(reason, Reason::ClusterUnknown);
    assert!(message.contains("know no cluster \"orders\": they know \"neo4j.ha\""), "{message}");
    assert!(message.contains(&cluster.ensemble.connect_string()), "{message}");
}

#[tokio::test]
async fn a_look_up_writes_nothing_and_closes_its_session() {
    let cluster = Cluster::shared().await;
    // Members that have just joined may still have something to write.
    let before = wait_for("a cluster at rest", Duration::from_secs(60), async || {
        let tree = cluster.ensemble.tree().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (tree == cluster.ensemble.tree().await).then_some(tree)
    })
    .await;
    // Each member has two; those of the test end in a moment.
    let only_members = async || {
        wait_for("every session but the members' to be closed", Duration::from_secs(30), async || {
            (cluster.ensemble.sessions().await == 2 * cluster.members.len()).then_some(())
        })
        .await;
    };
    only_members().await;

    let network = Network::default();
    let uri = cluster.ensemble.uri();
    for _ in 0..5 {
        network.locate(&uri, None).await.unwrap();
        network.locate(&uri, Some("orders")).await.unwrap_err();
    }
    // Cut off in the middle.
    let _ = tokio::time::timeout(Duration::from_millis(5), network.locate(&uri, None)).await;

    only_members().await;
    assert_eq!(cluster.ensemble.tree().await, before);
}
