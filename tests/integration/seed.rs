//! A cluster starts from a point, as `docs/volume.md` says: one member of a fresh ensemble has the copy, the others are
//! empty. Slaves write, the master is killed, another takes over, and an incremental backup goes on from the point.
//!
//! Three of these guard the promise in every run; `make seeds` runs all of them.

use crate::agent::{Backup, finished};
use crate::support::{Ensemble, Member, wait_for};
use graph_backup_operator::api::SeedState;
use graph_backup_operator::contract::task::{Mode, Plan};
use graph_backup_operator::contract::verdict::Published;
use graph_backup_operator::discovery::{DEFAULT_CLUSTER_NAME, Discovery, Located, Network};
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::sync::Mutex;

const INDEX: &str = "words";

/// One at a time: each starts six JVMs.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A database of one member, which is enough to be a master.
struct Database {
    ensemble: Ensemble,
    member: Member,
    /// How many of its nodes are in no index, if transactions write to one.
    not_indexed: Option<u64>,
}

impl Database {
    async fn new(with_index: bool) -> Self {
        let ensemble = Ensemble::start(1).await;
        let mut member = Member::new(1, &ensemble, DEFAULT_CLUSTER_NAME);
        member.start();
        member.ready().await;
        member.write_bytes(2 << 20).await;
        let not_indexed = if with_index { Some(member.count().await) } else { None };
        let database = Self { ensemble, member, not_indexed };
        database.write().await;
        database
    }

    /// One transaction.
    async fn write(&self) {
        if self.not_indexed.is_some() { self.member.write_indexed(INDEX).await } else { self.member.write(1).await }
    }

    async fn backup(&self) -> Backup {
        Backup::of(self.ensemble.uri(), &located(&self.ensemble).await)
    }

    /// Makes the backup while so many transactions are committed each second.
    async fn back_up(&self, backup: &Backup, per_second: u32) -> Published {
        let mut agent = tokio::spawn(finished(backup.start(&backup.run.owner.uid)));
        let mut clock = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
        let published = loop {
            tokio::select! {
                outcome = &mut agent => break outcome.unwrap().published(),
                _ = clock.tick(), if per_second > 0 => self.write().await,
            }
        };
        let state = published.seed.as_ref().map(|seed| seed.state);
        assert_eq!(state, Some(SeedState::LogsComplete), "{:?}", published.seed);
        published
    }
}

async fn located(ensemble: &Ensemble) -> Located {
    let (network, uri) = (Network::default(), ensemble.uri());
    wait_for("a master", Duration::from_secs(90), async || network.locate(&uri, None).await.ok()).await
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

/// Three members, the first with the store, the others empty.
struct Restored {
    ensemble: Ensemble,
    members: Vec<Member>,
}

impl Restored {
    async fn from(store: &Path) -> Self {
        let ensemble = Ensemble::start(1).await;
        let members: Vec<_> = (1..=3).map(|id| Member::new(id, &ensemble, DEFAULT_CLUSTER_NAME)).collect();
        copy(store, &members[0].store());
        let mut restored = Self { ensemble, members };
        for at in 0..3 {
            restored.members[at].start();
            let state = restored.members[at].ready().await;
            assert_eq!(state.is_master, at == 0, "member {}", at + 1);
        }
        restored
    }

    /// All that run come to hold the same; says how many nodes.
    async fn agree(&self) -> u64 {
        let running: Vec<_> = self.members.iter().filter(|member| member.runs()).collect();
        wait_for("the members to agree", Duration::from_secs(60), async || {
            let mut held = Vec::new();
            for member in &running {
                held.push(member.state().await?.last_committed_tx?);
            }
            held.iter().all(|last| *last == held[0]).then_some(())
        })
        .await;
        let mut counts = Vec::new();
        for member in &running {
            counts.push(member.count().await);
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        counts[0]
    }

    /// Kills the first member, the master, and waits for another one.
    async fn fail_over(&mut self) {
        self.members[0].kill();
        wait_for("another master", Duration::from_secs(90), async || {
            for member in &self.members[1..] {
                if member.state().await.is_some_and(|state| state.ready && state.is_master) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// No store was put aside: nobody took another's history for a branch.
    fn nothing_branched(&self) {
        for member in &self.members {
            let branched = std::fs::read_dir(member.store().join("branched")).map_or(0, Iterator::count);
            assert_eq!(branched, 0, "of member {}", member.id);
        }
    }
}

/// The point that was made last seeds a cluster, and the chain goes on in it. The index finds every node that its
/// transactions added, those of the last ones too.
async fn seeds_a_cluster(backup: &mut Backup, point: &Published, not_indexed: Option<u64>) {
    let nodes = backup.opened()["nodes"].as_u64().unwrap();
    let mut cluster = Restored::from(&backup.point().join("store")).await;
    assert_eq!(cluster.agree().await, nodes);
    if let Some(not_indexed) = not_indexed {
        let hits = nodes - not_indexed;
        for member in &cluster.members {
            assert_eq!(member.hits(INDEX).await, hits, "the index of member {}", member.id);
        }
        for member in &cluster.members[1..] {
            member.write_indexed(INDEX).await;
        }
        cluster.agree().await;
        assert_eq!(cluster.members[2].hits(INDEX).await, hits + 2);
    }
    cluster.members[1].write(3).await;
    cluster.members[2].write(2).await;
    let before = cluster.agree().await;
    cluster.fail_over().await;
    cluster.members[1].write(1).await;
    cluster.members[2].write(1).await;
    assert_eq!(cluster.agree().await, before + 2);
    cluster.members[0].start();
    cluster.members[0].ready().await;
    let nodes = cluster.agree().await;
    assert_eq!(nodes, before + 2);
    cluster.nothing_branched();

    backup.run.source = cluster.ensemble.uri();
    backup.incremental("after", point, &located(&cluster.ensemble).await, false);
    let after = backup.published().await;
    assert_eq!((after.mode, after.parent.is_some()), (Mode::Incremental, true));
    assert!(after.last_transaction > point.last_transaction);
    assert_eq!(after.seed.as_ref().map(|seed| seed.state), Some(SeedState::LogsComplete));
    assert_eq!(backup.opened()["nodes"], nodes);
}

async fn a_full_one_seeds(per_second: u32, with_index: bool) {
    let _alone = ALONE.lock().await;
    let database = Database::new(with_index).await;
    let mut backup = database.backup().await;
    let point = database.back_up(&backup, per_second).await;
    let not_indexed = database.not_indexed;
    drop(database);
    seeds_a_cluster(&mut backup, &point, not_indexed).await;
}

#[tokio::test]
async fn a_full_copy_of_an_idle_database_seeds_a_cluster() {
    a_full_one_seeds(0, false).await;
}

#[tokio::test]
async fn a_full_copy_under_30_writes_a_second_seeds_a_cluster() {
    a_full_one_seeds(30, false).await;
}

#[tokio::test]
async fn a_full_copy_with_writes_to_an_index_seeds_a_cluster() {
    a_full_one_seeds(3, true).await;
}

#[tokio::test]
#[ignore = "two minutes: make seeds"]
async fn a_full_copy_under_a_write_a_second_seeds_a_cluster() {
    a_full_one_seeds(1, false).await;
}

#[tokio::test]
#[ignore = "two minutes: make seeds"]
async fn a_full_copy_under_3_writes_a_second_seeds_a_cluster() {
    a_full_one_seeds(3, false).await;
}

#[tokio::test]
#[ignore = "two minutes: make seeds"]
async fn a_full_copy_with_many_writes_to_an_index_seeds_a_cluster() {
    a_full_one_seeds(30, true).await;
}

#[tokio::test]
#[ignore = "two minutes: make seeds"]
async fn a_full_copy_with_a_limit_seeds_a_cluster() {
    let _alone = ALONE.lock().await;
    let database = Database::new(false).await;
    let mut backup = database.backup().await;
    backup.run.bandwidth_limit = NonZeroU64::new(1 << 20);
    let point = database.back_up(&backup, 3).await;
    drop(database);
    seeds_a_cluster(&mut backup, &point, None).await;
}

#[tokio::test]
#[ignore = "two minutes: make seeds"]
async fn an_incremental_copy_seeds_a_cluster() {
    let _alone = ALONE.lock().await;
    let database = Database::new(false).await;
    let mut backup = database.backup().await;
    let full = database.back_up(&backup, 3).await;
    database.write().await;
    backup.incremental("second", &full, &located(&database.ensemble).await, false);
    let point = database.back_up(&backup, 3).await;
    assert!(point.last_transaction > full.last_transaction);
    drop(database);
    seeds_a_cluster(&mut backup, &point, None).await;
}

#[tokio::test]
#[ignore = "two minutes: make seeds"]
async fn a_cold_copy_seeds_a_cluster() {
    let _alone = ALONE.lock().await;
    let mut database = Database::new(true).await;
    let mut backup = database.backup().await;
    database.member.stop();
    let store_path = format!("{}/graph.db", std::process::id());
    let source = backup.folder.path().with_file_name("source").join(&store_path);
    std::fs::create_dir_all(source.parent().unwrap()).unwrap();
    copy(&database.member.store(), &source);
    backup.run.plan = Plan::Cold { store_path, alone: true };
    let point = finished(backup.start("cold")).await.published();
    assert_eq!(point.seed.as_ref().map(|seed| seed.state), Some(SeedState::LogsComplete));
    let not_indexed = database.not_indexed;
    drop(database);
    seeds_a_cluster(&mut backup, &point, not_indexed).await;
}
