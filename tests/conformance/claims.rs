//! What a StatefulSet does with its claims and pods when it is scaled.

use super::stage::{Objects, Stage, eventually, names, text, version};
use super::task::IMAGE;
use super::volumes::{Storage, claim, exactly};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::time::Duration;

/// How long something is watched that is not to happen.
const NEVER: Duration = Duration::from_secs(4);

/// Members with a volume each.
fn members(replicas: u32) -> Value {
    let labels = json!({"app.kubernetes.io/name": "members"});
    let command = json!(["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]);
    let mount = json!({"name": "data", "mountPath": "/data"});
    let container = json!({"name": "member", "image": IMAGE, "command": command, "volumeMounts": [mount]});
    let storage = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    json!({
        "metadata": {"name": "members", "labels": labels},
        "spec": {
            "replicas": replicas, "serviceName": "members", "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"of": "template"}}, "spec": storage}],
        },
    })
}

async fn scale(sets: &Objects<'_>, replicas: u32) {
    sets.merge("members", &json!({"spec": {"replicas": replicas}})).await.is("200");
}

/// Waits until there are so many pods, all of them ready, and the controller has seen what is wanted.
async fn settled(sets: &Objects<'_>, replicas: u32) {
    eventually(&format!("{replicas} members are ready"), async || {
        let set = sets.get("members").await.is("200");
        let status = &set["status"];
        let counts = [&status["replicas"], &status["readyReplicas"]].map(|count| count.as_u64().unwrap_or_default());
        let seen = status["observedGeneration"] == set["metadata"]["generation"];
        (seen && counts == [u64::from(replicas); 2]).then_some(())
    })
    .await;
}

fn owners(claim: &Value) -> Vec<&str> {
    let owners = claim["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.map(|owner| text(owner, "/kind")).collect()
}

pub async fn are_made_where_they_are_missing(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    sets.create(&members(1)).await.is("201");
    settled(&sets, 1).await;
    let made = storage.claims.get("data-members-0").await.is("200");
    assert_eq!(made["metadata"]["labels"], json!({"app.kubernetes.io/name": "members", "of": "template"}));
    assert!(owners(&made).is_empty());

    // One that somebody else made is used as it is.
    let foreign = storage.claims.create(&claim("data-members-1", "")).await.is("201");
    scale(&sets, 2).await;
    settled(&sets, 2).await;
    let used = storage.claim_is("data-members-1", "Bound").await;
    assert_eq!(used["metadata"]["uid"], foreign["metadata"]["uid"]);
    assert_eq!((&used["metadata"]["labels"], owners(&used).len()), (&Value::Null, 0));

    scale(&sets, 0).await;
    settled(&sets, 0).await;
    storage.pods.get("members-0").await.is("404 NotFound");
    let kept = &storage.claims.get("data-members-0").await.is("200")["metadata"];
    assert_eq!((&kept["uid"], &kept["deletionTimestamp"]), (&made["metadata"]["uid"], &Value::Null));
}

pub async fn go_when_the_set_is_scaled_down(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    let mut set = members(1);
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": "Delete", "whenDeleted": "Retain"});
    sets.create(&set).await.is("201");
    settled(&sets, 1).await;
    let first = storage.claims.get("data-members-0").await.is("200");
    assert!(owners(&first).is_empty());
    let volume = text(&first, "/spec/volumeName");
    storage.keep(volume).await;
    scale(&sets, 0).await;
    storage.claims.gone("data-members-0").await;
    let released = storage.volume_is(volume, "Released").await;
    assert_eq!(released["spec"]["claimRef"]["uid"], first["metadata"]["uid"]);

    // The next one is another claim, with another volume.
    scale(&sets, 1).await;
    settled(&sets, 1).await;
    let next = storage.claims.get("data-members-0").await.is("200");
    assert_ne!(next["metadata"]["uid"], first["metadata"]["uid"]);
    assert_ne!(text(&next, "/spec/volumeName"), volume);
    storage.drop(volume).await;
    storage.volumes.gone(volume).await;
}

pub async fn go_with_the_set(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    let mut set = members(1);
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": "Retain", "whenDeleted": "Delete"});
    let set = sets.create(&set).await.is("201");
    settled(&sets, 1).await;
    let made = eventually("the claim is owned", async || {
        let claim = storage.claims.get("data-members-0").await.is("200");
        (owners(&claim) == ["StatefulSet"]).then_some(claim)
    })
    .await;
    let volume = text(&made, "/spec/volumeName");
    // Scaled down, it stays.
    scale(&sets, 0).await;
    settled(&sets, 0).await;
    assert_eq!(owners(&storage.claims.get("data-members-0").await.is("200")), ["StatefulSet"]);
    sets.delete("members", &exactly(&set)).await.is("200");
    storage.claims.gone("data-members-0").await;
    storage.volumes.gone(volume).await;
}

/// No pod is made on a claim that is being deleted: it comes with the next claim.
pub async fn are_waited_for_while_they_go(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    let (first, volume) = storage.used("data-members-0").await;
    storage.claims.delete("data-members-0", &exactly(&first)).await.is("200");
    sets.create(&members(1)).await.is("201");
    tokio::time::sleep(NEVER).await;
    storage.pods.get("members-0").await.is("404 NotFound");
    storage.pods.delete("uses-data-members-0", &DeleteParams::default()).await.is("200");
    settled(&sets, 1).await;
    let next = storage.claims.get("data-members-0").await.is("200");
    assert_ne!(next["metadata"]["uid"], first["metadata"]["uid"]);
    storage.drop(&volume).await;
    storage.volumes.gone(&volume).await;
}

/// A claim that is made with a volume of its own is what the pod gets.
pub async fn are_taken_with_their_volume(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    let volume = storage.released("staged").await;
    storage.point(&volume, "data-members-0", None).await;
    // The StatefulSet makes the claim, and it gets the volume that waits for it.
    sets.create(&members(1)).await.is("201");
    settled(&sets, 1).await;
    storage.are_bound("data-members-0", &volume).await;
    storage.drop(&volume).await;
}

/// Members of which none is ever ready.
fn never_ready(policy: &str) -> Value {
    let mut set = members(2);
    set["spec"]["podManagementPolicy"] = json!(policy);
    let probe = json!({"exec": {"command": ["sh", "-c", "false"]}, "periodSeconds": 1});
    set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe;
    set
}

async fn runs(storage: &Storage<'_>, pod: &str) {
    eventually(&format!("{pod} runs"), async || {
        (storage.pods.get(pod).await.body["status"]["phase"] == "Running").then_some(())
    })
    .await;
}

pub async fn of_pods_that_start_in_order(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    sets.create(&never_ready("OrderedReady")).await.is("201");
    runs(&storage, "members-0").await;
    tokio::time::sleep(NEVER).await;
    storage.pods.get("members-1").await.is("404 NotFound");
    storage.claims.get("data-members-1").await.is("404 NotFound");
    // A pod that is not ready blocks those after it, but may itself go.
    scale(&sets, 0).await;
    storage.pods.gone("members-0").await;
    settled(&sets, 0).await;
}

/// Readiness gate of a pod.
const GATE: &str = "graphbackup.dev/gate";

/// Opens or closes the gate of a pod.
async fn set_gate(pods: &Objects<'_>, name: &str, open: bool) {
    eventually(&format!("the gate of {name} is set"), async || {
        let pod = pods.get(name).await.is("200");
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != GATE);
        conditions.push(json!({"type": GATE, "status": if open { "True" } else { "False" }}));
        let answer = pods.merge_status(name, version(&pod), &json!({"conditions": conditions})).await;
        (answer.code() == 200).then_some(())
    })
    .await;
}

/// The last pod does not stop while it is not ready and one before it is not ready either, until somebody deletes it.
pub async fn of_pods_that_stop_in_order(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    let mut set = members(2);
    set["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": GATE}]);
    sets.create(&set).await.is("201");
    for pod in ["members-0", "members-1"] {
        runs(&storage, pod).await;
        set_gate(&storage.pods, pod, true).await;
    }
    settled(&sets, 2).await;
    for pod in ["members-0", "members-1"] {
        set_gate(&storage.pods, pod, false).await;
    }
    eventually("no member is ready", async || {
        sets.get("members").await.is("200")["status"]["readyReplicas"]
            .as_u64()
            .is_none_or(|ready| ready == 0)
            .then_some(())
    })
    .await;
    scale(&sets, 0).await;
    tokio::time::sleep(NEVER).await;
    for pod in ["members-0", "members-1"] {
        assert_eq!(storage.pods.get(pod).await.is("200")["metadata"]["deletionTimestamp"], Value::Null, "{pod}");
    }
    storage.pods.delete("members-1", &DeleteParams::default()).await.is("200");
    storage.pods.gone("members-1").await;
    storage.pods.gone("members-0").await;
}

/// They also stop together, ready or not, and their claims stay.
pub async fn of_pods_that_start_together(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    sets.create(&never_ready("Parallel")).await.is("201");
    runs(&storage, "members-0").await;
    runs(&storage, "members-1").await;
    scale(&sets, 0).await;
    storage.pods.gone("members-0").await;
    storage.pods.gone("members-1").await;
    let claims = storage.claims.list("app.kubernetes.io/name=members").await.is("200");
    assert_eq!(names(&claims), ["data-members-0", "data-members-1"]);
}

/// A pod that waits for its claim stays pending, and its StatefulSet makes the claim anew when it is gone.
pub async fn are_made_anew_for_a_pod_that_waits(stage: &Stage) {
    let (sets, storage) = (stage.objects::<StatefulSet>(), Storage::of(stage));
    let first = storage.claims.create(&claim("data-members-0", "no-such-volume")).await.is("201");
    sets.create(&members(1)).await.is("201");
    eventually("the pod is there", async || (storage.pods.get("members-0").await.code() == 200).then_some(())).await;
    tokio::time::sleep(NEVER).await;
    let pod = storage.pods.get("members-0").await.is("200");
    assert_eq!((&pod["status"]["phase"], &pod["spec"]["nodeName"]), (&json!("Pending"), &Value::Null));
    storage.claims.delete("data-members-0", &exactly(&first)).await.is("200");
    eventually("that claim is gone", async || {
        let claim = storage.claims.get("data-members-0").await.body;
        (claim["metadata"]["uid"] != first["metadata"]["uid"]).then_some(())
    })
    .await;
    // Its controller does not watch claims: something else has to make it look.
    sets.merge("members", &json!({"metadata": {"annotations": {"touched": "yes"}}})).await.is("200");
    settled(&sets, 1).await;
    assert_eq!(text(&pod, "/metadata/uid"), text(&storage.pods.get("members-0").await.is("200"), "/metadata/uid"));
}
