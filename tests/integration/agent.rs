//! The agent with everything real: the ensemble, the members, the backup tool, and the engine that opens the copy.

use crate::agent_process::{Outcome, Running};
use crate::support::{Cluster, Folder, home, wait_for};
use graph_backup_operator::api::{Kind, Owner};
use graph_backup_operator::api::{Mastership, Reason, Verification};
use graph_backup_operator::contract::task::{BackupRun, InspectRun, Mode, Parent, Place, Plan};
use graph_backup_operator::contract::verdict::Published;
use graph_backup_operator::discovery::{Located, SourceUri};
use serde_json::Value;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A target volume and a run that backs the located member up to it.
pub struct Backup {
    pub folder: Folder,
    pub run: BackupRun,
}

impl Backup {
    pub fn of(source: SourceUri, located: &Located) -> Self {
        let folder = Folder::new("target");
        let tool = home().join("bin/neo4j-backup").display().to_string();
        let command = [tool.as_str(), "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"];
        let run = BackupRun {
            owner: Owner {
                kind: Kind::GraphBackup,
                namespace: "graph".into(),
                name: "real".into(),
                uid: "uid-1".into(),
            },
            attempt: 1,
            source,
            cluster_name: None,
            mastership: located.mastership.clone(),
            plan: Plan::Full,
            command: command.map(String::from).to_vec(),
            place: Place { directory: "d".into(), cluster: located.store_id, point: "point".into() },
            verification: Verification::Quick,
            boot_command: None,
            bandwidth_limit: None,
            deadline_seconds: 300,
            image: "neo4j:1.8".into(),
        };
        Self { folder, run }
    }

    /// The tool does its work, then waits for `let_go`, so that what happens meanwhile happens while it runs.
    pub fn held(mut self) -> Self {
        let notes = self.folder.path().display();
        let script = format!(
            "\"$@\"; code=$?; touch {notes}/copied; while [ ! -e {notes}/go ]; do sleep 0.05; done; exit $code"
        );
        let holding = ["sh", "-c", &script, "sh"].map(String::from);
        self.run.command.splice(0..0, holding);
        self
    }

    pub async fn copied(&self) {
        let copied = self.folder.join("copied");
        wait_for("the tool to copy", Duration::from_secs(60), async || copied.exists().then_some(())).await;
    }

    pub fn let_go(&self) {
        std::fs::write(self.folder.join("go"), "").unwrap();
    }

    pub fn start(&self, pod: &str) -> Running {
        Running::start("backup", pod, &self.run, self.folder.path(), &self.folder.join(pod))
    }

    pub fn inspect(&self) -> Outcome {
        let run =
            InspectRun { owner: self.run.owner.clone(), place: self.run.place.clone(), adopt: false, clean: false };
        Running::start("inspect", "inspect", &run, self.folder.path(), &self.folder.join("inspect")).finish()
    }

    pub fn point(&self) -> PathBuf {
        self.folder.join("d").join(self.run.place.cluster.to_string()).join(&self.run.place.point)
    }

    /// The next run makes the point `name` from `parent`, with the master that was located now.
    pub fn incremental(&mut self, name: &str, parent: &Published, located: &Located, or_full: bool) {
        let parent = Parent {
            name: self.run.owner.name.clone(),
            uid: parent.owner_uid.clone(),
            point: self.run.place.point.clone(),
            manifest_digest: parent.manifest_digest.clone(),
            last_transaction: parent.last_transaction,
        };
        self.run.plan = Plan::Incremental { parent, or_full };
        self.run.owner.uid = format!("uid-{name}");
        self.run.place.point = name.into();
        self.run.mastership = located.mastership.clone();
    }

    pub async fn published(&self) -> Published {
        finished(self.start(&self.run.owner.uid)).await.published()
    }

    /// What the real engine finds in a copy of the published store.
    pub fn opened(&self) -> Value {
        let copy = self.folder.join(format!("opened-{}", self.run.place.point));
        let copied = Command::new("cp").arg("-r").arg(self.point().join("store")).arg(&copy).status().unwrap();
        assert!(copied.success());
        let output = Command::new(home().join("bin/neo4j-count-nodes")).arg(&copy).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub async fn finished(running: Running) -> Outcome {
    tokio::task::spawn_blocking(|| running.finish()).await.unwrap()
}

#[tokio::test]
async fn a_full_backup_holds_everything_committed_before_it_began() {
    let mut cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let backup = Backup::of(cluster.ensemble.uri(), &located);
    let master = cluster.master().await;
    for _ in 0..10 {
        master.write(50).await;
    }
    let nodes = master.count().await;
    let transaction = master.state().await.unwrap().last_committed_tx.unwrap();
    let mut agent = tokio::spawn(finished(backup.start("pod-1")));
    // The database is written to all the while.
    let outcome = loop {
        tokio::select! {
            outcome = &mut agent => break outcome.unwrap(),
            () = master.write(7) => {}
        }
    };
    let percents: Vec<_> = outcome.log.iter().filter_map(|line| line["percent"].as_u64()).collect();
    assert!(percents.contains(&100), "{percents:?}");
    let published = outcome.facts();
    assert!(published.last_transaction >= transaction, "{published:?}");
    assert_eq!(published.store_id, located.store_id);
    assert_eq!(published.mastership_before, published.mastership_after);
    let opened = backup.opened();
    assert!(opened["nodes"].as_u64().unwrap() >= nodes, "{nodes} nodes before, {opened}");
    assert_eq!(opened["lastCommittedTx"], published.last_transaction);
    assert_eq!(opened["recovered"], false);
    assert_eq!(backup.inspect().published(), published);
}

#[tokio::test]
async fn a_limit_holds_and_changes_nothing_else() {
    const LIMIT: u32 = 1 << 20;
    let mut cluster = Cluster::shared().await;
    let master = cluster.master().await;
    master.write_bytes(u64::from(4 * LIMIT)).await;
    let nodes = master.count().await;
    let mut backup = Backup::of(cluster.ensemble.uri(), &cluster.located().await);
    backup.run.bandwidth_limit = NonZeroU64::new(LIMIT.into());
    let outcome = finished(backup.start("pod-1")).await;
    let mut messages = outcome.log.iter().filter_map(|line| line["message"].as_str());
    let came = messages.find(|message| message.contains("bytes came from")).unwrap();
    let numbers: Vec<f64> = came.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [bytes, seconds] = numbers[..] else { panic!("{came}") };
    let least = bytes / f64::from(LIMIT);
    assert!(bytes >= 4e6 && (least - 0.2..least + 5.0).contains(&seconds), "{came}");
    let progress: Vec<_> = outcome.log.iter().filter_map(|line| line["bytes"].as_f64()).collect();
    assert!(progress.is_sorted() && progress.iter().any(|so_far| (1.0..bytes).contains(so_far)), "{progress:?}");
    let published = outcome.facts();
    assert!((published.data_to - published.data_from).as_seconds_f64() >= seconds);
    let opened = backup.opened();
    assert_eq!((&opened["nodes"], &opened["recovered"]), (&nodes.into(), &false.into()), "{opened}");
    assert_eq!(opened["lastCommittedTx"], published.last_transaction);
    assert_eq!(backup.inspect().published(), published);
}

#[tokio::test]
async fn a_member_named_directly_is_backed_up() {
    let mut cluster = Cluster::shared().await;
    let uri = cluster.master().await.uri();
    let located = graph_backup_operator::discovery::Discovery::locate(
        &graph_backup_operator::discovery::Network::default(),
        &uri,
        None,
    )
    .await
    .unwrap();
    let backup = Backup::of(uri, &located);
    let published = finished(backup.start("pod-1")).await.published();
    assert_eq!(published.mastership_after, located.mastership);
}

#[tokio::test]
async fn a_master_that_changes_while_the_tool_runs_makes_no_point() {
    let mut cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let backup = Backup::of(cluster.ensemble.uri(), &located).held();
    let running = backup.start("pod-1");
    backup.copied().await;
    let before = located.mastership.clone();
    cluster.master().await.kill();
    cluster.located_where(|token| Mastership::Master(token.clone()) != before).await;
    backup.let_go();
    let failure = finished(running).await.failed(Reason::MasterChanged);
    assert!(failure.message.contains("while the tool ran"), "{}", failure.message);
    assert!(!backup.point().exists());
    backup.inspect().failed(Reason::JobLost);
}

#[tokio::test]
async fn a_slave_that_comes_and_goes_does_not_matter() {
    let mut cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let backup = Backup::of(cluster.ensemble.uri(), &located).held();
    let running = backup.start("pod-1");
    backup.copied().await;
    let master = cluster.master().await.id;
    let slave = cluster.members.iter_mut().find(|member| member.id != master).unwrap();
    slave.kill();
    slave.start();
    slave.ready().await;
    backup.let_go();
    finished(running).await.published();
}

#[tokio::test]
async fn the_real_tools_complaints_have_their_reasons() {
    let cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let mut backup = Backup::of(cluster.ensemble.uri(), &located);
    let good = backup.run.command.clone();
    let mut fails = async |command: &[&str], reason, text: &str| {
        backup.run.command = command.iter().map(|word| (*word).to_owned()).collect();
        let failure = finished(backup.start("pod-1")).await.failed(reason);
        assert!(failure.message.contains(text), "{}", failure.message);
        assert!(!backup.point().exists());
    };
    let tool = good[0].as_str();
    // Nobody listens on port 1.
    let wrong_port = [tool, "-full", "-from", "single://{host}:1", "-to", "{target}"];
    fails(&wrong_port, Reason::MasterUnreachable, "online_backup_enabled").await;
    let no_source = [tool, "-full", "-to", "{target}"];
    fails(&no_source, Reason::ToolFailed, "exit code 1").await;
    let no_parent = [tool, "-incremental", "-from", "single://{host}:{port}", "-to", "{target}"];
    fails(&no_parent, Reason::ToolFailed, "doesn't contain a database").await;
    let twice = "\"$@\" >&2 && \"$@\"";
    let twice: Vec<_> = ["sh", "-c", twice, "sh"].into_iter().chain(good.iter().map(String::as_str)).collect();
    fails(&twice, Reason::ToolFailed, "already contains a database").await;
}

#[tokio::test]
async fn the_real_tool_is_stopped_and_ends_with_a_killed_agent() {
    let cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let backup = Backup::of(cluster.ensemble.uri(), &located).held();
    let running = backup.start("pod-1");
    backup.copied().await;
    running.send(rustix::process::Signal::TERM);
    finished(running).await.failed(Reason::Interrupted);
    assert!(!backup.point().exists());
    std::fs::remove_file(backup.folder.join("copied")).unwrap();
    let running = backup.start("pod-2");
    backup.copied().await;
    running.kill();
    backup.inspect().failed(Reason::JobLost);
    backup.let_go();
    let next = backup;
    finished(next.start("pod-3")).await.published();
}

/// Adds nodes, and says how many there are then.
async fn grown(cluster: &mut Cluster) -> u64 {
    let master = cluster.master().await;
    master.write(20).await;
    master.count().await
}

#[tokio::test]
async fn incremental_points_follow_the_database_and_a_change_of_master() {
    let mut cluster = Cluster::shared().await;
    grown(&mut cluster).await;
    let located = cluster.located().await;
    let mut backup = Backup::of(cluster.ensemble.uri(), &located);
    let mut parent = backup.published().await;
    for (name, depth) in [("second", 1), ("third", 2)] {
        let nodes = grown(&mut cluster).await;
        let before = backup.inspect().published();
        let run_of_parent = backup.run.clone();
        backup.incremental(name, &parent, &cluster.located().await, false);
        let point = backup.published().await;
        assert_eq!((point.mode, point.depth), (Mode::Incremental, depth));
        assert!(point.last_transaction > parent.last_transaction);
        let opened = backup.opened();
        assert_eq!((&opened["nodes"], &opened["recovered"]), (&nodes.into(), &false.into()), "{opened}");
        assert_eq!(opened["lastCommittedTx"], point.last_transaction);
        // Every byte of the parent is as its manifest has it.
        let run = std::mem::replace(&mut backup.run, run_of_parent);
        assert_eq!(backup.inspect().published(), before);
        backup.run = run;
        parent = point;
    }

    // A slave that has everything becomes master. It holds the transactions under local numbers of its own.
    let old = cluster.master().await.id;
    for member in cluster.members.iter().filter(|member| member.id != old) {
        wait_for("a slave to catch up", Duration::from_secs(60), async || {
            member.state().await?.last_committed_tx.filter(|last| *last >= parent.last_transaction)
        })
        .await;
    }
    let before = cluster.located().await.mastership;
    cluster.member(old).kill();
    cluster.located_where(|token| Mastership::Master(token.clone()) != before && token.member_id != old).await;
    let nodes = grown(&mut cluster).await;
    backup.incremental("fourth", &parent, &cluster.located().await, false);
    let outcome = finished(backup.start("uid-fourth")).await;
    let proof = format!("the master holds transaction {} as the earlier point does", parent.last_transaction);
    assert!(outcome.log.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with(&proof))));
    let point = outcome.published();
    assert_eq!((point.mode, point.depth), (Mode::Incremental, 3));
    assert_eq!(backup.opened()["nodes"], nodes);
}

#[tokio::test]
async fn a_point_of_before_a_restore_is_no_parent() {
    let mut cluster = Cluster::shared().await;
    grown(&mut cluster).await;
    let mut backup = Backup::of(cluster.ensemble.uri(), &cluster.located().await);
    let older = backup.published().await;
    let older_store = backup.point().join("store");
    grown(&mut cluster).await;
    backup.incremental("newer", &older, &cluster.located().await, false);
    let newer = backup.published().await;

    // The older point is put back, and written past the transaction that the newer one ends with.
    for member in &mut cluster.members {
        member.kill();
        std::fs::remove_dir_all(member.store()).unwrap();
    }
    let copied = Command::new("cp").arg("-r").arg(older_store).arg(cluster.members[0].store()).status().unwrap();
    assert!(copied.success());
    let cluster_ref = &*cluster;
    wait_for("the members' sessions to end", Duration::from_secs(60), async || {
        (cluster_ref.ensemble.sessions().await == 0).then_some(())
    })
    .await;
    cluster.members[0].start();
    cluster.members[0].ready().await;
    while cluster.members[0].state().await.unwrap().last_committed_tx.unwrap() <= newer.last_transaction {
        cluster.members[0].write(5).await;
    }
    let nodes = cluster.members[0].count().await;

    let located = cluster.located().await;
    assert_eq!(located.store_id, newer.store_id);
    backup.incremental("after", &newer, &located, false);
    let failure = finished(backup.start("pod-1")).await.failed(Reason::HistoryMayDiffer);
    assert!(failure.message.contains(&format!("transaction {}", newer.last_transaction)), "{}", failure.message);
    let Plan::Incremental { or_full, .. } = &mut backup.run.plan else { panic!("it is incremental") };
    *or_full = true;
    let point = backup.published().await;
    assert_eq!(
        (point.mode, point.fell_back.map(|failure| failure.reason)),
        (Mode::Full, Some(Reason::HistoryMayDiffer))
    );
    assert_eq!(backup.opened()["nodes"], nodes);
}
