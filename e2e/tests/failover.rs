//! The master is lost before and during a backup.

use crate::support::{Backup, Copy, Database, claim, client, marker, real_tool_in};
use serde_json::json;

/// The real tool, and a wait after it in which the test acts: the tool ends only when its file is there.
pub fn tool_that_waits(go: &str) -> serde_json::Value {
    let script = format!(
        "neo4j-backup \"$@\" && echo waiting for {go} && i=0 && while [ ! -e {go} ] && [ $i -lt 240 ]; do sleep 1; i=$((i + 1)); done && echo Done"
    );
    real_tool_in(&script)
}

#[tokio::test]
async fn after_the_master_was_killed_the_backup_comes_from_the_new_one() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    let survives = marker("survives");
    database.write(&survives, 50, 100).await;
    let (held, new) = database.kill_master().await;

    let backup = Backup::create(&client, "new-master", "whole", json!({"retry": {"limit": 3}})).await;
    let status = backup.succeeded().await;

    assert!(status.master.as_deref().unwrap().starts_with(&new.pod), "{:?} is not {}", status.master, new.pod);
    let copy = Copy { claim: "whole", directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &survives).await, 50);
    drop(held);
    backup.delete().await;
    Database::ready(&client).await;
}

#[tokio::test]
async fn a_backup_whose_master_changed_meanwhile_is_no_recovery_point() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "moved", "1Gi").await;
    let tool = json!({"tool": {"command": tool_that_waits("/tmp/go")}, "deadlines": {"run": "10m"}});
    let backup = Backup::create(&client, "moved", "moved", tool).await;
    let running = backup.until("the copy is made", |status| status.phase.is_some() && status.master.is_some()).await;
    crate::lost::wait_for_log(&client, &running.attempts[0].job, "waiting for").await;

    let (held, _) = database.kill_master().await;
    crate::lost::in_tool(&client, &running.attempts[0].job, "touch /tmp/go").await;

    let status = backup.failed("MasterChanged", &["was master"]).await;
    let stable = status.conditions.iter().find(|c| c.type_ == "MasterStable").unwrap();
    assert_eq!(stable.status, "False");
    // Earlier runs have left points of other backups on the claim.
    let listing = Copy { claim: "moved", directory: "" }.listing(&client).await;
    assert!(!listing.contains("-moved-") && !listing.contains(".partial-"), "{listing}");
    drop(held);
    backup.delete().await;
    Database::ready(&client).await;
}

#[tokio::test]
async fn a_master_killed_in_mid_backup_costs_an_attempt_and_not_the_backup() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "moved", "1Gi").await;
    let survives = marker("both-attempts");
    database.write(&survives, 20, 100).await;
    let spec =
        json!({"tool": {"command": tool_that_waits("/tmp/go")}, "deadlines": {"run": "10m"}, "retry": {"limit": 2}});
    let backup = Backup::create(&client, "both-attempts", "moved", spec).await;
    let first = backup.until("the first attempt", |status| !status.attempts.is_empty()).await.attempts[0].clone();
    crate::lost::wait_for_log(&client, &first.job, "waiting for").await;
    let (held, new) = database.kill_master().await;
    crate::lost::in_tool(&client, &first.job, "touch /tmp/go").await;

    let status = backup.until("the second attempt", |status| status.attempts.len() == 2).await;
    crate::lost::wait_for_log(&client, &status.attempts[1].job, "waiting for").await;
    crate::lost::in_tool(&client, &status.attempts[1].job, "touch /tmp/go").await;
    let status = backup.succeeded().await;
    let reasons: Vec<_> = status.attempts.iter().map(|attempt| attempt.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("MasterChanged"), None]);
    assert!(status.master.as_deref().unwrap().starts_with(&new.pod), "{:?} is not {}", status.master, new.pod);
    let copy = Copy { claim: "moved", directory: status.directory.as_deref().unwrap() };
    assert_eq!(copy.count(&client, &survives).await, 20);
    drop(held);
    backup.delete().await;
    Database::ready(&client).await;
}
