//! What the real API server takes and refuses, and what the operator asks of it.

use crate::support::{Backup, Database, NAMESPACE, OPERATOR_NAMESPACE, claim, client, kubectl_refused};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

fn object(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}).to_string()
}

#[tokio::test]
async fn the_api_server_refuses_bad_input_and_says_the_fix() {
    client().await;
    let spec = |uri: &str, claim: &str| json!({"source": {"uri": uri}, "target": {"claimName": claim}, "tool": {"image": "i"}});
    let mut unknown = spec("ha://zk", "c");
    unknown["compression"] = json!("gzip");
    for (name, spec, hint) in [
        ("uri", spec("zookeeper:2181", "c"), "write 'single://host[:port]'"),
        ("several", spec("single://a,b", "c"), "write 'single://host[:port]'"),
        ("claim", spec("ha://zk", "Not_A_Claim"), "name of a PersistentVolumeClaim"),
        ("unknown", unknown, "compression"),
    ] {
        let said = kubectl_refused(&["create", "-f", "-"], &object(name, &spec));
        assert!(said.contains(hint), "{name}: {said}");
    }
}

#[tokio::test]
async fn the_spec_of_a_backup_cannot_be_changed() {
    let client = client().await;
    claim(&client, "whole", "1Gi").await;
    let backup = Backup::create(
        &client,
        "frozen",
        "whole",
        json!({"deadlines": {"run": "5s"}, "source": {"uri": "ha://nowhere"}}),
    )
    .await;
    let patch = r#"{"spec":{"target":{"claimName":"other"}}}"#;
    let said = kubectl_refused(&["-n", NAMESPACE, "patch", "gb", "frozen", "--type=merge", "-p", patch], "");
    assert!(said.contains("create a new GraphBackup"), "{said}");
    backup.delete().await;
}

/// Verb, resource and status code of the requests of the operator's service account in the API server's audit log, from
/// `start` on.
fn requests(start: chrono::DateTime<chrono::Utc>) -> Vec<(String, String, u64)> {
    let log = std::env::var("GBO_AUDIT_LOG").expect("make e2e sets GBO_AUDIT_LOG");
    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:graph-backup-operator");
    std::fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|entry| entry["user"]["username"] == user.as_str() && entry["stage"] == "ResponseComplete")
        .filter(|entry| {
            let time = entry["requestReceivedTimestamp"]
                .as_str()
                .and_then(|t| t.parse::<chrono::DateTime<chrono::Utc>>().ok());
            time.is_some_and(|time| time >= start)
        })
        .map(|entry| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let target = &entry["objectRef"];
            let sub = target["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
            let code = entry["responseStatus"]["code"].as_u64().unwrap_or_default();
            (text(&entry["verb"]), format!("{}{sub}", text(&target["resource"])), code)
        })
        .collect()
}

#[tokio::test]
async fn a_backup_costs_at_most_six_writes_and_rest_costs_none() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    let start = chrono::Utc::now();
    let backup = Backup::create(&client, "counted", "whole", json!({})).await;
    backup.succeeded().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut writes: BTreeMap<String, u32> = BTreeMap::new();
    for (verb, resource, _) in requests(start)
        .into_iter()
        .filter(|(verb, ..)| !matches!(verb.as_str(), "watch" | "get" | "list"))
        // The leadership's Lease is renewed every few seconds; the lock of a cluster is created and deleted.
        .filter(|(verb, resource, _)| (verb.as_str(), resource.as_str()) != ("update", "leases"))
        // A pass that begins before the last one's writes have come back by the watch is refused, and writes nothing.
        .filter(|(.., code)| *code != 409)
    {
        *writes.entry(format!("{verb} {resource}")).or_default() += 1;
    }
    println!("writes of one backup: {writes:?}");
    assert_eq!(writes.get("create jobs"), Some(&1), "{writes:?}");
    assert_eq!(writes.get("create events"), Some(&1), "{writes:?}");
    assert!(writes.values().sum::<u32>() <= 6, "lock, first status, Job, Event, unlock, last status: {writes:?}");

    let rest = chrono::Utc::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let idle: Vec<_> =
        requests(rest).into_iter().filter(|(verb, resource, _)| verb != "watch" && resource != "leases").collect();
    assert!(idle.is_empty(), "{idle:?}");
    backup.delete().await;
}
