//! A point restored by hand onto a fresh cluster, as docs/volume.md says: on one member, which the others copy.

use crate::support::{
    Backup, Database, NAMESPACE, TOOL_IMAGE, claim, client, kubectl, kubectl_succeeds, kubectl_with, marker,
};
use serde_json::{Value, json};

const CLAIM: &str = "seed";
/// StatefulSet and Service of the fresh members.
const MEMBERS: &str = "seeded";
/// StatefulSet and Service of their ensemble, of one server.
const ENSEMBLE: &str = "seeded-zookeeper";

/// The fresh cluster, removed when this is dropped.
struct Fresh;

impl Drop for Fresh {
    fn drop(&mut self) {
        for name in [MEMBERS, ENSEMBLE] {
            let label = format!("app.kubernetes.io/name={name}");
            let everything = ["-n", NAMESPACE, "delete", "statefulset,service,pod,pvc", "-l", &label, "--timeout=120s"];
            let _ = kubectl_succeeds(&everything);
        }
        let claim = format!("data-{MEMBERS}-0");
        let _ = kubectl_succeeds(&["-n", NAMESPACE, "delete", "pvc", &claim, "--ignore-not-found", "--timeout=60s"]);
    }
}

/// A StatefulSet like one of the test cluster, and its Service, under another name and with other variables.
fn like(set: &str, name: &str, replicas: u32, variables: &[(&str, &str)]) -> Value {
    let mut object: Value =
        serde_json::from_str(&kubectl(&["-n", NAMESPACE, "get", "statefulset", set, "-o", "json"])).unwrap();
    let labels = json!({"app.kubernetes.io/name": name});
    object.as_object_mut().unwrap().remove("status");
    object["metadata"] = json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    let spec = &mut object["spec"];
    spec["replicas"] = json!(replicas);
    spec["serviceName"] = json!(name);
    spec["selector"] = json!({"matchLabels": labels});
    spec["template"]["metadata"] = json!({"labels": labels});
    spec["template"]["spec"].as_object_mut().unwrap().remove("topologySpreadConstraints");
    for (variable, value) in variables {
        let env = spec["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.retain(|entry| entry["name"] != *variable);
        env.push(json!({"name": variable, "value": value}));
    }
    let ports: Vec<_> = [2181, 6361, 6362, 7474].map(|port| json!({"name": format!("p{port}"), "port": port})).to_vec();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "selector": labels, "ports": ports},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [service, object]})
}

/// Puts the store of a point on the first member's volume, with the files given to the database's user.
fn plant(directory: &str) {
    let volume = |name: &str, claim: &str, read_only: bool| json!({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}});
    let script = format!("cp -r /backups/{directory}/store /data/graph.db && chmod -R u+w /data/graph.db");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "plant", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": MEMBERS}},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 7474, "runAsGroup": 7474, "fsGroup": 7474,
                "fsGroupChangePolicy": "OnRootMismatch",
                // The group of the points.
                "supplementalGroups": [65532],
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "plant", "image": TOOL_IMAGE, "command": ["sh", "-c", script],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "backups", "mountPath": "/backups"}, {"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [volume("backups", CLAIM, true), volume("data", &format!("data-{MEMBERS}-0"), false)],
        },
    });
    kubectl_with(&["apply", "-f", "-"], &pod);
    let planted = "--for=jsonpath={.status.phase}=Succeeded";
    kubectl(&["-n", NAMESPACE, "wait", "pod/plant", planted, "--timeout=90s"]);
    kubectl(&["-n", NAMESPACE, "delete", "pod/plant"]);
}

#[tokio::test]
#[ignore = "three more members, two minutes; the integration tests have the matrix"]
async fn a_full_under_writes_seeds_a_fresh_cluster_whose_slaves_write() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let before = marker("seed");
    database.write(&before, 200, 1000).await;
    let writer = database.keep_writing("meanwhile").await;
    let backup = Backup::create(&client, "seed", CLAIM, json!({})).await;
    let status = backup.succeeded().await;
    writer.stop().await;
    let seedable = status.conditions.iter().find(|condition| condition.type_ == "Seedable").unwrap();
    assert_eq!(seedable.status, "True", "{}", seedable.message);

    drop(Fresh);
    let fresh = Fresh;
    claim(&client, &format!("data-{MEMBERS}-0"), "1Gi").await;
    plant(status.directory.as_deref().unwrap());
    kubectl_with(&["apply", "-f", "-"], &like("zookeeper", ENSEMBLE, 1, &[("ZOO_SERVERS", "")]));
    kubectl(&["-n", NAMESPACE, "rollout", "status", &format!("statefulset/{ENSEMBLE}"), "--timeout=90s"]);
    let server = format!("$(POD_NAME).{MEMBERS}.{NAMESPACE}.svc:6361");
    let coordinators = format!("{ENSEMBLE}-0.{ENSEMBLE}:2181");
    let variables = [("HA_SERVER", server.as_str()), ("HA_COORDINATORS", &coordinators)];
    kubectl_with(&["apply", "-f", "-"], &like("neo4j", MEMBERS, 3, &variables));

    let seeded = Database::ready_in(&client, MEMBERS).await;
    assert_eq!(seeded.count(&before).await, 200);
    seeded.write_through_all(&marker("seeded"), 10).await;
    drop(fresh);
    backup.delete().await;
}
