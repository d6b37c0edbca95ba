//! Asking real members over their backup port.

use crate::support::{Cluster, Member};
use graph_backup_operator::{
    api::{Endpoint, Mastership, ProbeMark, Reason},
    discovery::{
        Discovery, Network, SourceUri,
        probe::{self, ProbeError},
    },
};
use std::net::SocketAddr;

fn address(member: &Member) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], member.backup_port))
}

async fn reason(port: u16) -> (Reason, String) {
    let uri = SourceUri::Single(Endpoint { host: "localhost".into(), port });
    let error = Network::default().locate(&uri, None).await.unwrap_err();
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn every_member_gives_its_store_id() {
    let cluster = Cluster::shared().await;
    let store_id = cluster.located().await.store_id;
    for member in &cluster.members {
        let found = Network::default().locate(&member.uri(), None).await.unwrap();
        assert_eq!(found.store_id, store_id);
        assert_eq!(found.mastership, Mastership::Probe(ProbeMark { endpoint: member.endpoint(), store_id }));
    }
}

#[tokio::test]
async fn other_ports_are_told_apart() {
    let mut cluster = Cluster::shared().await;
    let zookeeper = cluster.ensemble.ports()[0];
    let master = cluster.master().await;
    let (ha_port, http_port, backup_port) = (master.ha_port, master.http_port, master.backup_port);
    let (reason_of_ha, message) = reason(ha_port).await;
    assert_eq!(reason_of_ha, Reason::NotABackupServer, "{message}");
    let (reason_of_http, message) = reason(http_port).await;
    assert!([Reason::NotABackupServer, Reason::MemberUnreachable].contains(&reason_of_http), "{message}");
    let (reason_of_zookeeper, message) = reason(zookeeper).await;
    assert!([Reason::NotABackupServer, Reason::MemberUnreachable].contains(&reason_of_zookeeper), "{message}");

    master.freeze();
    let (reason_of_frozen, message) = reason(backup_port).await;
    master.thaw();
    assert_eq!(reason_of_frozen, Reason::MemberUnreachable);
    assert!(message.contains("no answer within 5 s"), "{message}");
    master.kill();
    let (reason_of_dead, message) = reason(backup_port).await;
    assert_eq!(reason_of_dead, Reason::MemberUnreachable);
    assert!(message.contains("Connection refused") && message.contains("online_backup_enabled"), "{message}");
}

#[tokio::test]
async fn transactions_are_served_as_they_stand_in_the_log() {
    let mut cluster = Cluster::shared().await;
    let master = cluster.master().await;
    master.write(10).await;
    let last = master.state().await.unwrap().last_committed_tx.unwrap();
    // The five bytes that end a transaction in the log reach the disk with the next one only.
    master.write(1).await;
    let found = probe::transaction(address(master), last).await.unwrap().unwrap();
    assert_eq!(found.id, last);
    assert_eq!(probe::transaction(address(master), last + 2).await, Ok(None));
    assert_eq!(probe::transaction(address(master), last + 1000).await, Ok(None));

    let logs = std::fs::read_dir(master.store()).unwrap().flatten();
    let logs = logs.filter(|file| file.file_name().to_string_lossy().starts_with("nioneo_logical.log."));
    let stands = |log: Vec<u8>| log.windows(found.entries.len()).any(|window| window == found.entries);
    assert!(logs.map(|file| std::fs::read(file.path()).unwrap()).any(stands), "{} bytes", found.entries.len());

    let error = probe::transaction(address(master), 1).await.unwrap_err();
    // It depends on whether a backup has made the member begin a new log since.
    let words = ["not found in any logical log", "is missing and can't be extracted"];
    let refused = matches!(&error, ProbeError::LogsGone(text) if words.iter().any(|words| text.contains(words)));
    assert!(refused, "{error}");
}
