//! Rules of the API server that the controller rests on.

use super::stage::{Objects, Stage, names, text, version};
use graph_backup_operator::api::GraphBackup;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Preconditions};
use serde_json::{Value, json};

const MANAGER: &str = "conformance";
/// A finalizer that nobody works on.
const HOLD: &str = "graphbackup.dev/hold";

/// A `GraphBackup` that the API server takes.
pub fn backup(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"},
            "target": {"claimName": "graph-backups"},
            "tool": {"image": "registry.example/neo4j:1.8"},
        },
    })
}

/// A Job that nobody works on.
pub fn job(name: &str) -> Value {
    let container = json!({"name": "tool", "image": "registry.example/neo4j:1.8"});
    let pod = json!({"restartPolicy": "Never", "containers": [container]});
    json!({"metadata": {"name": name}, "spec": {"managedBy": "graphbackup.dev/nobody", "template": {"spec": pod}}})
}

/// An Event about something in a namespace.
pub fn event(name: &str, namespace: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "action": "Backup", "reason": "Succeeded", "type": "Normal", "note": "a note",
        "eventTime": "2026-11-24T06:00:00.000000Z",
        "reportingController": "graphbackup.dev/graph-backup-operator", "reportingInstance": "replica-0",
        "regarding": {"apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup", "name": "any", "namespace": namespace},
    })
}

fn lease(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"holderIdentity": "GraphBackup/graph/nightly/uid"}})
}

/// One object of each kind that the controller creates or writes.
fn one_of_each(stage: &Stage) -> [(Objects<'_>, Value); 4] {
    [
        (stage.objects::<GraphBackup>(), backup("one")),
        (stage.objects::<Job>(), job("one")),
        (stage.objects::<Lease>(), lease("one")),
        (stage.objects::<Event>(), event("one", stage.namespace())),
    ]
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "AsTold", "message": "", "lastTransitionTime": "2026-11-24T06:00:00Z"})
}

pub async fn created_twice(stage: &Stage) {
    for (objects, object) in one_of_each(stage) {
        let created = objects.create(&object).await.is("201");
        assert!(!text(&created, "/metadata/uid").is_empty() && !version(&created).is_empty());
        text(&created, "/metadata/creationTimestamp");
        objects.create(&object).await.is("409 AlreadyExists");
        assert_eq!(version(&objects.get("one").await.is("200")), version(&created), "the second changed something");
    }
}

pub async fn nothing_is_there(stage: &Stage) {
    for (objects, _) in one_of_each(stage) {
        objects.get("one").await.is("404 NotFound");
        objects.get_metadata("one").await.is("404 NotFound");
        objects.delete("one", &DeleteParams::default()).await.is("404 NotFound");
        objects.merge("one", &json!({"metadata": {"finalizers": []}})).await.is("404 NotFound");
        assert!(names(&objects.list("a=b").await.is("200")).is_empty());
    }
    let backups = stage.objects::<GraphBackup>();
    backups.apply_status("one", MANAGER, "1", &json!({"phase": "Pending"})).await.is("404 NotFound");
}

pub async fn a_new_object_has_no_status(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let mut object = backup("one");
    object["status"] = json!({"phase": "Succeeded"});
    let created = backups.create(&object).await.is("201");
    assert_eq!((&created["status"]["phase"], &created["metadata"]["generation"]), (&Value::Null, &json!(1)));

    let jobs = stage.objects::<Job>();
    let mut object = job("one");
    object["status"] = json!({"succeeded": 1});
    let created = jobs.create(&object).await.is("201");
    assert_eq!((&created["status"]["succeeded"], &created["metadata"]["generation"]), (&Value::Null, &json!(1)));
}

pub async fn status_is_written_to_the_present_version_only(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let first = backups.create(&backup("one")).await.is("201");
    let apply = async |version: &str, phase: &str| {
        backups.apply_status("one", MANAGER, version, &json!({"phase": phase, "observedGeneration": 1})).await
    };
    let second = apply(version(&first), "Pending").await.is("200");
    assert_ne!(version(&second), version(&first));
    assert_eq!((&second["status"]["phase"], &second["metadata"]["generation"]), (&json!("Pending"), &json!(1)));

    apply(version(&first), "Running").await.is("409 Conflict");
    let found = backups.get("one").await.is("200");
    assert_eq!((version(&found), &found["status"]["phase"]), (version(&second), &json!("Pending")));

    let same = apply(version(&second), "Pending").await.is("200");
    assert_eq!(version(&same), version(&second), "an apply that changes nothing is a change");
    apply(version(&second), "Running").await.is("200");
}

pub async fn what_an_apply_leaves_out_goes(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let created = backups.create(&backup("one")).await.is("201");
    let ours = json!({"phase": "Running", "size": "1Gi", "conditions": [condition("Ready"), condition("Stalled")]});
    let applied = backups.apply_status("one", MANAGER, version(&created), &ours).await.is("200");
    let theirs = json!({"free": "2Gi", "conditions": [condition("Reviewed")]});
    let applied = backups.apply_status("one", "somebody", version(&applied), &theirs).await.is("200");

    let less = json!({"size": "1Gi", "conditions": [condition("Ready")]});
    let applied = backups.apply_status("one", MANAGER, version(&applied), &less).await.is("200");
    let status = &applied["status"];
    assert_eq!((&status["phase"], &status["size"], &status["free"]), (&Value::Null, &json!("1Gi"), &json!("2Gi")));
    let mut kinds: Vec<&str> = status["conditions"].as_array().unwrap().iter().map(|c| text(c, "/type")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["Ready", "Reviewed"]);

    // What somebody else has taken over is not ours any more: to leave it out does not remove it.
    let taken = json!({"free": "2Gi", "size": "3Gi", "conditions": [condition("Reviewed")]});
    let applied = backups.apply_status("one", "somebody", version(&applied), &taken).await.is("200");
    let applied = backups.apply_status("one", MANAGER, version(&applied), &json!({})).await.is("200");
    assert_eq!(applied["status"]["size"], "3Gi");
    // And it is ours again when we write it, by force.
    let applied = backups.apply_status("one", MANAGER, version(&applied), &json!({"size": "4Gi"})).await.is("200");
    let applied = backups.apply_status("one", "somebody", version(&applied), &json!({})).await.is("200");
    assert_eq!((&applied["status"]["size"], &applied["status"]["free"]), (&json!("4Gi"), &Value::Null));
}

pub async fn a_changed_spec_is_another_generation(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let created = backups.create(&backup("one")).await.is("201");
    let labelled = backups.merge("one", &json!({"metadata": {"labels": {"a": "b"}}})).await.is("200");
    assert_ne!(version(&labelled), version(&created));
    assert_eq!((&labelled["metadata"]["generation"], &labelled["metadata"]["labels"]["a"]), (&json!(1), &json!("b")));

    backups.merge("one", &json!({"spec": {"target": {"claimName": "another"}}})).await.is("422 Invalid");
    let changed = backups.merge("one", &json!({"spec": {"deletionPolicy": "Delete"}})).await.is("200");
    let found = (&changed["metadata"]["generation"], &changed["spec"]["deletionPolicy"]);
    assert_eq!(found, (&json!(2), &json!("Delete")));
    let same = backups.merge("one", &json!({"spec": {"deletionPolicy": "Delete"}})).await.is("200");
    assert_eq!(version(&same), version(&changed), "a patch that changes nothing is a change");
    // Status is written through its own resource only.
    let same = backups.merge("one", &json!({"status": {"phase": "Succeeded"}})).await.is("200");
    assert_eq!((version(&same), &same["status"]["phase"]), (version(&changed), &Value::Null));
}

pub async fn finalizers_are_written_to_the_present_version_only(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let created = backups.create(&backup("one")).await.is("201");
    let patch =
        |version: &str, finalizers: Value| json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    let held = backups.merge_metadata("one", &patch(version(&created), json!([HOLD]))).await.is("200");
    assert_eq!((&held["kind"], &held["spec"]), (&json!("PartialObjectMetadata"), &Value::Null));
    assert_eq!((&held["metadata"]["finalizers"], &held["metadata"]["generation"]), (&json!([HOLD]), &json!(1)));

    backups.merge_metadata("one", &patch(version(&created), json!([]))).await.is("409 Conflict");
    assert_eq!(backups.get("one").await.is("200")["metadata"]["finalizers"], json!([HOLD]));
    let free = backups.merge_metadata("one", &patch(version(&held), json!([]))).await.is("200");
    assert_eq!(free["metadata"]["finalizers"], Value::Null);
}

fn only(uid: Option<&str>, resource_version: Option<&str>) -> DeleteParams {
    let (uid, resource_version) = (uid.map(str::to_owned), resource_version.map(str::to_owned));
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version }), ..DeleteParams::background() }
}

pub async fn a_delete_means_one_object(stage: &Stage) {
    for (objects, object) in one_of_each(stage) {
        let first = objects.create(&object).await.is("201");
        let uid = text(&first, "/metadata/uid");
        objects.delete("one", &only(Some("1a2b3c4d-0000-4000-8000-000000000000"), None)).await.is("409 Conflict");
        objects.delete("one", &only(None, Some("0"))).await.is("409 Conflict");
        objects.get("one").await.is("200");
        objects.delete("one", &only(Some(uid), None)).await.is("200");
        objects.get("one").await.is("404 NotFound");

        let second = objects.create(&object).await.is("201");
        assert_ne!(text(&second, "/metadata/uid"), uid);
        objects.delete("one", &only(Some(uid), None)).await.is("409 Conflict");
        objects.delete("one", &only(None, Some(version(&second)))).await.is("200");
        objects.get("one").await.is("404 NotFound");
    }
}

pub async fn a_finalizer_holds_an_object(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let mut object = backup("one");
    object["metadata"]["finalizers"] = json!([HOLD]);
    backups.create(&object).await.is("201");
    let going = backups.delete("one", &DeleteParams::default()).await.is("200");
    assert_eq!(going["kind"], "GraphBackup", "what stays is the answer");
    let found = backups.get("one").await.is("200");
    text(&found, "/metadata/deletionTimestamp");
    // It counts as a change of what is wanted.
    assert_eq!(found["metadata"]["generation"], 2);
    backups.delete("one", &DeleteParams::default()).await.is("200");
    assert_eq!(version(&backups.get("one").await.is("200")), version(&found), "a second delete is a change");
    backups.create(&object).await.is("409 AlreadyExists");

    let status = json!({"phase": "Failed"});
    let written = backups.apply_status("one", MANAGER, version(&found), &status).await.is("200");
    let finalizers = |version: &str, list: Value| json!({"metadata": {"resourceVersion": version, "finalizers": list}});
    let more = finalizers(version(&written), json!([HOLD, "graphbackup.dev/more"]));
    backups.merge_metadata("one", &more).await.is("422 Invalid");
    backups.merge_metadata("one", &finalizers(version(&written), json!([]))).await.is("200");
    backups.get("one").await.is("404 NotFound");
}

pub async fn labels_select(stage: &Stage) {
    for (objects, mut object) in one_of_each(stage) {
        for (name, labels) in [("c", json!({"x": "1"})), ("a", json!({"x": "1", "y": "2"})), ("b", json!({"y": "2"}))] {
            object["metadata"]["name"] = json!(name);
            object["metadata"]["labels"] = labels;
            objects.create(&object).await.is("201");
        }
        for (selector, found) in
            [("x=1", &["a", "c"] as &[&str]), ("x=1,y=2", &["a"]), ("y=2", &["a", "b"]), ("x=2", &[])]
        {
            let list = objects.list(selector).await.is("200");
            assert_eq!(names(&list), found, "{selector}");
            assert_eq!(names(&objects.list_metadata(selector).await.is("200")), found, "{selector}");
        }
    }
}

pub async fn metadata_can_be_had_alone(stage: &Stage) {
    for (objects, mut object) in one_of_each(stage) {
        object["metadata"]["labels"] = json!({"x": "1"});
        let created = objects.create(&object).await.is("201");
        let alone = objects.get_metadata("one").await.is("200");
        let list = objects.list_metadata("x=1").await.is("200");
        assert_eq!(list["kind"], "PartialObjectMetadataList");
        for alone in [&alone, &list["items"][0]] {
            assert_eq!((&alone["spec"], &alone["regarding"]), (&Value::Null, &Value::Null));
            assert_eq!((version(alone), &alone["metadata"]["uid"]), (version(&created), &created["metadata"]["uid"]));
        }
        assert_eq!(alone["kind"], "PartialObjectMetadata");
    }
}

pub async fn a_watch_tells_every_change_in_order(stage: &Stage) {
    let backups = stage.objects::<GraphBackup>();
    let before = backups.list("watched=yes").await.is("200");
    let mut object = backup("one");
    object["metadata"]["labels"] = json!({"watched": "yes"});
    object["metadata"]["finalizers"] = json!([HOLD]);
    let created = backups.create(&object).await.is("201");
    backups.create(&backup("unwatched")).await.is("201");
    backups.apply_status("one", MANAGER, version(&created), &json!({"phase": "Running"})).await.is("200");
    backups.merge("one", &json!({"spec": {"deletionPolicy": "Delete"}})).await.is("200");
    backups.delete("one", &DeleteParams::default()).await.is("200");
    backups.merge("one", &json!({"metadata": {"finalizers": null}})).await.is("200");

    let fact = |object: &Value| {
        let (meta, status) = (&object["metadata"], &object["status"]);
        let going = if meta["deletionTimestamp"].is_null() { "" } else { "going" };
        let phase = status["phase"].as_str().unwrap_or("new");
        format!("{} {} {phase} {going}", text(object, "/metadata/name"), meta["generation"]).trim_end().to_owned()
    };
    let seen = backups.film("watched=yes", version(&before), fact, "gone").await;
    assert_eq!(seen, ["one 1 new", "one 1 Running", "one 2 Running", "one 3 Running going", "gone"]);
}
