//! Look-ups in ensembles that are broken or hold what no member of 1.8 writes: hand-made znodes in real servers.

use crate::support::Ensemble;
use futures::future::join_all;
use graph_backup_operator::{
    api::{Endpoint, Mastership, Reason, StoreId},
    discovery::{Discovery, DiscoveryError, LOOK_UP_BOUND, Located, Network, SourceUri},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

const STORE_ID: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };
const R: &str = "/1795334483295_-3368555925325939961";

/// A look-up that must end within its bound, and the seconds it took.
async fn locate(uri: &SourceUri, name: Option<&str>) -> Result<Located, DiscoveryError> {
    let start = Instant::now();
    let answer = Network::default().locate(uri, name).await;
    assert!(start.elapsed() < LOOK_UP_BOUND + Duration::from_millis(500), "it took {:?}", start.elapsed());
    answer
}

/// The reason of a failure, whose message has `words`.
async fn reason(uri: &SourceUri, name: Option<&str>, words: &[&str]) -> Reason {
    let error = locate(uri, name).await.unwrap_err();
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
    error.reason()
}

fn pointer(version: bool) -> Vec<u8> {
    let mut bytes = [STORE_ID.creation_time.to_be_bytes(), STORE_ID.random_id.to_be_bytes()].concat();
    if version {
        bytes.extend(0x0030_2e41_2e30_7606_i64.to_be_bytes());
    }
    bytes
}

fn server(backup_port: i32, address: &str) -> Vec<u8> {
    let mut bytes = backup_port.to_be_bytes().to_vec();
    bytes.push(u8::try_from(address.len()).unwrap());
    bytes.extend(address.encode_utf16().flat_map(u16::to_be_bytes));
    bytes.extend([0; 95]);
    bytes
}

/// The znodes of a cluster with one member, 7: as 1.3 writes them, or 1.8.
async fn cluster(ensemble: &Ensemble, name: &str, of_1_3: bool) {
    ensemble.put(&format!("/{name}"), &pointer(!of_1_3)).await;
    ensemble.put(&format!("{R}/ha-servers/7"), &server(if of_1_3 { 0 } else { 6362 }, "db-7:6361")).await;
    let transaction = 42_i64.to_be_bytes();
    let election = if of_1_3 { transaction.to_vec() } else { [&transaction[..], &7_i32.to_be_bytes()].concat() };
    ensemble.put(&format!("{R}/7_0000000002"), &election).await;
    ensemble.put(&format!("{R}/master-notify"), &(-1_i32).to_be_bytes()).await;
    ensemble.put(&format!("{R}/master-rebound"), &7_i32.to_be_bytes()).await;
}

fn member_7(answer: Result<Located, DiscoveryError>) {
    let located = answer.unwrap();
    let Mastership::Master(token) = &located.mastership else { panic!("{located:?}") };
    assert_eq!((located.store_id, token.member_id), (STORE_ID, 7));
    assert_eq!(token.endpoint, Endpoint { host: "db-7".into(), port: 6362 });
}

#[tokio::test]
async fn without_a_quorum_the_ensemble_is_unavailable() {
    let mut ensemble = Ensemble::start(3).await;
    let uri = ensemble.uri();
    assert_eq!(reason(&uri, None, &["none was found there"]).await, Reason::ClusterUnknown);

    ensemble.freeze_server(0);
    assert_eq!(reason(&uri, None, &[]).await, Reason::ClusterUnknown, "two of three servers are enough");
    ensemble.freeze_server(1);
    assert_eq!(reason(&uri, None, &["no quorum", "gives no session"]).await, Reason::EnsembleUnavailable);
    ensemble.thaw_server(0);
    ensemble.thaw_server(1);
    ensemble.serving().await;

    ensemble.kill_server(0);
    ensemble.kill_server(1);
    let ports = ensemble.ports();
    let refused = format!("127.0.0.1:{}: Connection refused", ports[0]);
    let without_quorum = format!("127.0.0.1:{} accepts connections but gives no session", ports[2]);
    assert_eq!(reason(&uri, None, &[&refused, &without_quorum]).await, Reason::EnsembleUnavailable);

    ensemble.start_server(0);
    ensemble.serving().await;
    assert_eq!(reason(&uri, None, &[]).await, Reason::ClusterUnknown, "the quorum is back");
}

#[tokio::test]
async fn where_no_zookeeper_listens_the_ensemble_is_unavailable() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let uri = format!("ha://127.0.0.1:{port}").parse().unwrap();
    assert_eq!(reason(&uri, None, &["accepts connections but gives no session"]).await, Reason::EnsembleUnavailable);
    drop(silent);
    assert_eq!(reason(&uri, None, &["Connection refused"]).await, Reason::EnsembleUnavailable);
}

#[tokio::test]
async fn the_layout_of_1_3_and_several_roots() {
    let ensemble = Ensemble::start(1).await;
    let uri = ensemble.uri();
    cluster(&ensemble, "orders", true).await;
    member_7(locate(&uri, Some("orders")).await);
    member_7(locate(&uri, None).await);
    assert_eq!(reason(&uri, Some("neo4j.ha"), &["they know \"orders\""]).await, Reason::ClusterUnknown);

    ensemble.put("/1_2", b"").await;
    for name in [None, Some("orders")] {
        assert_eq!(reason(&uri, name, &["/1_2", R]).await, Reason::MultipleRoots);
    }
}

#[tokio::test]
async fn garbage_in_any_znode_is_named() {
    let ensemble = Ensemble::start(1).await;
    let uri = ensemble.uri();
    cluster(&ensemble, "neo4j.ha", false).await;
    member_7(locate(&uri, None).await);

    for path in ["/neo4j.ha", "ha-servers/7", "7_0000000002", "master-notify", "master-rebound"] {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{R}/{path}") };
        let good = ensemble.data(&path).await.unwrap();
        for garbage in [&b""[..], b"garbage", &good[..good.len().min(16) - 1], &[0xff; 64]] {
            ensemble.put(&path, garbage).await;
            let length = format!("{} bytes of znode {path} are not", garbage.len());
            assert_eq!(reason(&uri, None, &[&length]).await, Reason::ZnodeUnreadable);
        }
        ensemble.put(&path, &good).await;
    }
    member_7(locate(&uri, None).await);

    ensemble.put(&format!("{R}/ha-servers/7"), &server(6362, "[::1]:6361")).await;
    assert_eq!(reason(&uri, None, &["[::1]:6361"]).await, Reason::MemberWithoutAddress);
    ensemble.remove(&format!("{R}/ha-servers/7")).await;
    assert_eq!(reason(&uri, None, &["7_0000000002"]).await, Reason::MemberWithoutAddress);
    ensemble.remove(&format!("{R}/7_0000000002")).await;
    assert_eq!(reason(&uri, None, &["member 7"]).await, Reason::NoMaster);
}

#[tokio::test]
async fn many_look_ups_at_once_fit_through_a_server_that_takes_ten_connections() {
    let ensemble = Ensemble::start_with(1, &[("ZOO_MAX_CLIENT_CNXNS", "10".to_owned())]).await;
    let uri = ensemble.uri();
    cluster(&ensemble, "neo4j.ha", false).await;
    let network = Network::default();
    for answer in join_all((0..200).map(|_| network.locate(&uri, None))).await {
        member_7(answer);
    }
}

#[tokio::test]
async fn servers_that_restart_one_after_another_do_not_fail_a_look_up() {
    let mut ensemble = Ensemble::start(3).await;
    cluster(&ensemble, "neo4j.ha", false).await;
    let uri = ensemble.uri();
    let restarted = AtomicBool::new(false);
    let restart = async {
        // The last one leads, its id is the highest.
        for at in [0, 2] {
            ensemble.kill_server(at);
            tokio::time::sleep(Duration::from_secs(1)).await;
            ensemble.start_server(at);
            ensemble.serving().await;
        }
        restarted.store(true, Ordering::Relaxed);
    };
    // Two at a time, so that sessions are shared and live long.
    let network = Network::default();
    let look_up = || async {
        while !restarted.load(Ordering::Relaxed) {
            member_7(network.locate(&uri, None).await);
        }
    };
    tokio::join!(restart, look_up(), look_up());
}
