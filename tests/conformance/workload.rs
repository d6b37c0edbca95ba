//! What becomes of a StatefulSet that is scaled, of its pods and of its claims.

use super::stage::{Stage, eventually, version};
use super::task::IMAGE;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

/// Two members that need a moment to stop.
fn members() -> Value {
    let labels = json!({"app.kubernetes.io/name": "members"});
    let command = json!(["sh", "-c", "trap 'sleep 2; exit 0' TERM; sleep 600 & wait"]);
    let storage = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    json!({
        "metadata": {"name": "members", "labels": labels},
        "spec": {
            "replicas": 2, "serviceName": "members", "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "member", "image": IMAGE, "command": command}]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": storage}],
        },
    })
}

/// How many members are wanted, whether the controller has seen that, and how many there are.
fn fact(set: &Value) -> String {
    let status = &set["status"];
    let seen = if status["observedGeneration"] == set["metadata"]["generation"] { "seen" } else { "not seen" };
    format!("{} wanted, {seen}, {} there", set["spec"]["replicas"], status["replicas"].as_i64().unwrap_or_default())
}

pub async fn is_scaled(stage: &Stage) {
    let (sets, pods) = (stage.objects::<StatefulSet>(), stage.objects::<Pod>());
    let selector = "app.kubernetes.io/name=members";
    sets.create(&members()).await.is("201");
    let up = eventually("both members are ready", async || {
        let set = sets.get("members").await.is("200");
        (set["status"]["readyReplicas"] == 2).then_some(set)
    })
    .await;
    assert_eq!((fact(&up).as_str(), &up["metadata"]["generation"]), ("2 wanted, seen, 2 there", &json!(1)));

    sets.scale("members", "1", 1).await.is("409 Conflict");
    let scale = sets.scale("members", version(&up), 1).await.is("200");
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(sets.get("members").await.is("200")["metadata"]["generation"], 2);
    sets.scale("members", version(&up), 0).await.is("409 Conflict");

    let down = ["1 wanted, not seen, 2 there", "1 wanted, seen, 2 there", "1 wanted, seen, 1 there"];
    assert_eq!(sets.film(selector, version(&up), fact, down[2]).await, down);
    // Nothing of the member runs any more, and its volume is still its own.
    pods.get("members-1").await.is("404 NotFound");
    let claim = stage.objects::<PersistentVolumeClaim>().get("data-members-1").await.is("200");
    assert!(claim["metadata"]["deletionTimestamp"].is_null(), "{claim}");

    let set = sets.get("members").await.is("200");
    sets.scale("members", version(&set), 2).await.is("200");
    let steps = sets.film(selector, version(&set), fact, "2 wanted, seen, 2 there").await;
    assert_eq!(steps[0], "2 wanted, not seen, 1 there");
}
