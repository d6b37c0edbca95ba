//! The agent with everything real: the ensemble, the members, the backup tool, and the engine that opens the copy.

use crate::agent_process::{Outcome, Running};
use crate::support::{Cluster, Folder, home, wait_for};
use graph_backup_operator::agent::run::{BackupRun, InspectRun, Owner, Place, Plan};
use graph_backup_operator::api::{Reason, Verification};
use graph_backup_operator::discovery::{Located, SourceUri};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A target volume and a run that backs the located member up to it.
struct Backup {
    folder: Folder,
    run: BackupRun,
}

impl Backup {
    fn of(source: SourceUri, located: &Located) -> Self {
        let folder = Folder::new("target");
        let tool = home().join("bin/neo4j-backup").display().to_string();
        let command = [tool.as_str(), "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"];
        let run = BackupRun {
            owner: Owner { namespace: "graph".into(), name: "real".into(), uid: "uid-1".into() },
            attempt: 1,
            source,
            cluster_name: None,
            fence: located.fence.clone(),
            plan: Plan::Full,
            command: command.map(String::from).to_vec(),
            place: Place { directory: "d".into(), cluster: located.store_id, point: "point".into() },
            verification: Verification::Quick,
            deadline_seconds: 300,
            image: "neo4j:1.8".into(),
            dead_pods: Vec::new(),
        };
        Self { folder, run }
    }

    /// The tool does its work, then waits for `let_go`, so that what happens meanwhile happens while it runs.
    fn held(mut self) -> Self {
        let notes = self.folder.path().display();
        let script = format!(
            "\"$@\"; code=$?; touch {notes}/copied; while [ ! -e {notes}/go ]; do sleep 0.05; done; exit $code"
        );
        let holding = ["sh", "-c", &script, "sh"].map(String::from);
        self.run.command.splice(0..0, holding);
        self
    }

    async fn copied(&self) {
        let copied = self.folder.join("copied");
        wait_for("the tool to copy", Duration::from_secs(60), async || copied.exists().then_some(())).await;
    }

    fn let_go(&self) {
        std::fs::write(self.folder.join("go"), "").unwrap();
    }

    fn start(&self, pod: &str) -> Running {
        Running::start("backup", pod, &self.run, self.folder.path(), &self.folder.join(pod))
    }

    fn inspect(&self) -> Outcome {
        let run = InspectRun { owner: self.run.owner.clone(), place: self.run.place.clone() };
        Running::start("inspect", "inspect", &run, self.folder.path(), &self.folder.join("inspect")).finish()
    }

    fn point(&self) -> PathBuf {
        self.folder.join("d").join(self.run.place.cluster.to_string()).join("point")
    }

    /// What the real engine finds in a copy of the published store.
    fn opened(&self) -> Value {
        let copy = self.folder.join("opened");
        let copied = Command::new("cp").arg("-r").arg(self.point().join("store")).arg(&copy).status().unwrap();
        assert!(copied.success());
        let output = Command::new(home().join("bin/neo4j-count-nodes")).arg(&copy).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn finished(running: Running) -> Outcome {
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
    let published = outcome.published();
    assert!(published.last_transaction >= transaction, "{published:?}");
    assert_eq!(published.store_id, located.store_id);
    assert_eq!(published.fence_before, published.fence_after);
    let opened = backup.opened();
    assert!(opened["nodes"].as_u64().unwrap() >= nodes, "{nodes} nodes before, {opened}");
    assert_eq!(opened["lastCommittedTx"], published.last_transaction);
    assert_eq!(opened["recovered"], false);
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
    assert_eq!(published.fence_after, located.fence);
}

#[tokio::test]
async fn a_master_that_changes_while_the_tool_runs_makes_no_point() {
    let mut cluster = Cluster::shared().await;
    let located = cluster.located().await;
    let backup = Backup::of(cluster.ensemble.uri(), &located).held();
    let running = backup.start("pod-1");
    backup.copied().await;
    let before = located.fence.clone();
    cluster.master().await.kill();
    cluster.located_where(|token| graph_backup_operator::api::Fence::Master(token.clone()) != before).await;
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
    let mut next = backup;
    next.run.dead_pods = vec!["pod-2".into()];
    finished(next.start("pod-3")).await.published();
}
