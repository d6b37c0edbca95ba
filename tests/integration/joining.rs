//! Members that are started too soon: the engine of 1.8 never joins while ZooKeeper holds a registration of its id.
//! What is proved here is the member program of `e2e/neo4j`, which the end-to-end tests rest on.

use crate::support::{Ensemble, Member, wait_for};
use graph_backup_operator::api::StoreId;
use graph_backup_operator::discovery::DEFAULT_CLUSTER_NAME;
use std::time::Duration;
use zookeeper_client::{Acls, Client, CreateMode};

/// The znodes of a member whose process died: they are there until the session is dropped.
async fn registered(ensemble: &Ensemble, store: StoreId, id: i32) -> Client {
    let session = ensemble.client().await;
    for parent in ["compatibility-1.8", "ha-servers"] {
        let path = format!("{}/{parent}/{id}", store.root_path());
        session.create(&path, b"", &CreateMode::Ephemeral.with_acls(Acls::anyone_all())).await.unwrap();
    }
    session
}

/// A cluster of one member.
async fn cluster() -> (Ensemble, Member, StoreId) {
    let ensemble = Ensemble::start(1).await;
    let mut first = Member::new(1, &ensemble, DEFAULT_CLUSTER_NAME);
    first.start();
    let store = first.ready().await.store_id.unwrap();
    (ensemble, first, store)
}

async fn ended(member: &mut Member, bound: Duration) {
    let what = format!("member {} to end", member.id);
    wait_for(&what, bound, async || member.has_ended().then_some(())).await;
}

/// Without the wait the engine's stack overflows after some 11 s, and the member never joins.
#[tokio::test]
async fn a_member_that_starts_too_soon_waits_for_its_last_registration_to_go_and_joins() {
    let (ensemble, _first, store) = cluster().await;
    let session = registered(&ensemble, store, 2).await;
    let mut second = Member::new(2, &ensemble, DEFAULT_CLUSTER_NAME);
    second.start();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!second.state().await.unwrap().ready);
    drop(session);
    wait_for("the member to join", Duration::from_secs(60), async || {
        assert!(!second.has_ended(), "{}", second.log());
        second.state().await.filter(|state| state.ready)
    })
    .await;
}

#[tokio::test]
async fn a_member_whose_id_belongs_to_another_process_ends() {
    let (ensemble, _first, store) = cluster().await;
    let _session = registered(&ensemble, store, 2).await;
    let mut second = Member::new(2, &ensemble, DEFAULT_CLUSTER_NAME);
    second.start();
    ended(&mut second, Duration::from_secs(60)).await;
    assert!(second.log().contains("another process is member 2"), "{}", second.log());
}

/// Servers before 3.3.4 can keep a znode of a session that is over. One that is nobody's from the start is no
/// different.
#[tokio::test]
async fn a_registration_that_no_session_owns_is_removed() {
    let (ensemble, _first, store) = cluster().await;
    ensemble.put(&format!("{}/ha-servers/2", store.root_path()), b"").await;
    let mut second = Member::new(2, &ensemble, DEFAULT_CLUSTER_NAME);
    second.start();
    let joined = async || second.state().await.filter(|state| state.ready);
    wait_for("the member to join", Duration::from_secs(110), joined).await;
    assert!(second.log().contains("which ZooKeeper kept of a session that is over"), "{}", second.log());
}

/// One cause of a hang that no registration explains: the cluster's pointer names another store than the member's.
#[tokio::test]
async fn a_member_that_cannot_join_ends_in_time() {
    let (ensemble, mut first, store) = cluster().await;
    first.kill();
    let other = StoreId { creation_time: store.creation_time, random_id: store.random_id.wrapping_add(1) };
    let pointer = [other.creation_time.to_be_bytes(), other.random_id.to_be_bytes(), *b"\x000.A.0v\x06"].concat();
    ensemble.put(&format!("/{DEFAULT_CLUSTER_NAME}"), &pointer).await;
    first.set("JOIN_TIMEOUT_S", "15");
    first.start();
    ended(&mut first, Duration::from_secs(60)).await;
    assert!(first.log().contains("not joined within 15 s"), "{}", first.log());
}
