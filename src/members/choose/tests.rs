use super::*;
use serde_json::{Value, json};

fn named() -> Workload {
    Workload { stateful_set: "neo4j".into(), volume_claim_template: "data".into(), store_path: "graph.db".into() }
}

/// Three members that are up, changed as a JSON merge patch says.
fn workload(change: &Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "neo4j", "uid": "set-uid", "generation": 4},
        "spec": {
            "replicas": 3, "serviceName": "neo4j", "selector": {}, "template": {},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
        "status": {"observedGeneration": 4, "replicas": 3, "readyReplicas": 3},
    });
    for part in ["spec", "status"] {
        for (field, value) in change[part].as_object().into_iter().flatten() {
            set[part][field] = value.clone();
        }
    }
    serde_json::from_value(set).unwrap()
}

fn chosen(change: &Value) -> Result<Candidate, Reason> {
    candidate(&named(), Some(&workload(change)), "graph-backups").map_err(|why| why.reason)
}

#[test]
fn the_member_of_the_highest_ordinal_is_chosen() {
    let candidate = chosen(&json!({})).unwrap();
    assert_eq!((candidate.pod.as_str(), candidate.claim.as_str()), ("neo4j-2", "data-neo4j-2"));
    assert_eq!((candidate.replicas, candidate.generation, candidate.stateful_set_uid.as_str()), (3, 4, "set-uid"));
    let numbered_from_five = json!({"spec": {"ordinals": {"start": 5}}});
    assert_eq!(chosen(&numbered_from_five).unwrap().pod, "neo4j-7");
    let alone = json!({"spec": {"replicas": 1}, "status": {"replicas": 1, "readyReplicas": 1}});
    assert_eq!(chosen(&alone).unwrap().pod, "neo4j-0");
}

#[test]
fn every_guard_has_its_reason() {
    let deletes = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}});
    assert_eq!(chosen(&deletes), Err(Reason::ScaleDownDeletesClaim));
    let keeps =
        json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain", "whenDeleted": "Delete"}}});
    assert!(chosen(&keeps).is_ok());
    assert_eq!(chosen(&json!({"spec": {"volumeClaimTemplates": []}})), Err(Reason::WorkloadUnfit));
    for not_whole in [
        json!({"status": {"readyReplicas": 2}}),
        json!({"status": {"replicas": 4}}),
        json!({"status": {"observedGeneration": 3}}),
        json!({"status": {"currentRevision": "neo4j-1", "updateRevision": "neo4j-2", "updatedReplicas": 1}}),
        json!({"status": {"currentRevision": "neo4j-1", "updateRevision": "neo4j-2", "updatedReplicas": 3}}),
        json!({"spec": {"updateStrategy": {"type": "OnDelete"}},
               "status": {"currentRevision": "neo4j-1", "updateRevision": "neo4j-2", "updatedReplicas": 2}}),
        json!({"spec": {"replicas": 0}, "status": {"replicas": 0, "readyReplicas": 0}}),
    ] {
        assert_eq!(chosen(&not_whole), Err(Reason::WorkloadNotReady), "{not_whole}");
    }
    let reason = |workload: Option<&StatefulSet>, target| candidate(&named(), workload, target).unwrap_err().reason;
    assert_eq!(reason(None, "graph-backups"), Reason::WorkloadMissing);
    assert_eq!(reason(Some(&workload(&json!({}))), "data-neo4j-2"), Reason::WorkloadUnfit);
}

fn members(hosts: &[&str]) -> Vec<Registered> {
    let endpoint = |host: &&str| Some(Endpoint { host: (*host).to_owned(), port: 6362 });
    (1..).zip(hosts).map(|(id, host)| Registered { id, endpoint: endpoint(host) }).collect()
}

#[test]
fn the_member_is_found_by_the_name_of_its_pod_and_the_master_is_spared() {
    let candidate = chosen(&json!({})).unwrap();
    let three = members(&["neo4j-0.neo4j", "neo4j-1.neo4j", "neo4j-2.neo4j.graph.svc"]);
    let of = |members: &[Registered], master, if_master| registration(if_master, &candidate, members, master);
    let found = of(&three, Some(1), IfMaster::Refuse).unwrap();
    assert_eq!((found.0, found.1.host.as_str()), (3, "neo4j-2.neo4j.graph.svc"));
    assert_eq!(of(&three, Some(3), IfMaster::Refuse).unwrap_err().reason, Reason::MemberIsMaster);
    assert!(of(&three, Some(3), IfMaster::FailOver).is_ok());
    // Neither a longer name nor an address is that of the pod.
    let others = members(&["neo4j-20.neo4j", "10.0.0.2", "xneo4j-2"]);
    assert_eq!(of(&others, Some(1), IfMaster::Refuse).unwrap_err().reason, Reason::MemberNotRegistered);
    let alone = Candidate { replicas: 1, ..candidate.clone() };
    assert!(registration(IfMaster::Refuse, &alone, &three, Some(3)).is_ok(), "nobody else could be master");
}
