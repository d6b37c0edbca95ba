//! How volumes and claims find and lose each other: what a restore that swaps volumes rests on.

use super::stage::{Objects, Stage, eventually, text};
use super::task::{IMAGE, REPORT, Subject, Task};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Preconditions};
use serde_json::{Value, json};
use std::time::Duration;

/// How long something is watched that is not to happen.
const NEVER: Duration = Duration::from_secs(4);

/// The claims, the pods and the volumes of a stage.
pub struct Storage<'a> {
    /// All claims.
    pub claims: Objects<'a>,
    /// All pods.
    pub pods: Objects<'a>,
    /// All volumes of the cluster.
    pub volumes: Objects<'a>,
    namespace: &'a str,
}

/// A claim of the default class, for the volume of this name if it has one.
pub fn claim(name: &str, volume: &str) -> Value {
    let mut claim = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    });
    if !volume.is_empty() {
        claim["spec"]["volumeName"] = json!(volume);
    }
    claim
}

/// A pod that mounts a claim and ends well at once.
pub fn user(claim: &str) -> Value {
    json!({
        "metadata": {"name": format!("uses-{claim}")},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "user", "image": IMAGE, "command": ["sh", "-c", "true"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// As the controller deletes.
pub fn exactly(object: &Value) -> DeleteParams {
    let uid = Some(text(object, "/metadata/uid").to_owned());
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::background() }
}

impl<'a> Storage<'a> {
    /// Of a stage.
    pub fn of(stage: &'a Stage) -> Self {
        let (claims, pods) = (stage.objects::<PersistentVolumeClaim>(), stage.objects::<Pod>());
        Self { claims, pods, volumes: stage.of_the_cluster::<PersistentVolume>(), namespace: stage.namespace() }
    }

    /// Waits until a claim has a phase; gives it.
    pub async fn claim_is(&self, name: &str, phase: &str) -> Value {
        eventually(&format!("claim {name} is {phase}"), async || {
            let claim = self.claims.get(name).await.is("200");
            (claim["status"]["phase"] == phase).then_some(claim)
        })
        .await
    }

    /// Waits until a volume has a phase; gives it.
    pub async fn volume_is(&self, name: &str, phase: &str) -> Value {
        eventually(&format!("the volume is {phase}"), async || {
            let volume = self.volumes.get(name).await.is("200");
            (volume["status"]["phase"] == phase).then_some(volume)
        })
        .await
    }

    /// A claim stays without a volume.
    pub async fn claim_waits(&self, name: &str) {
        tokio::time::sleep(NEVER).await;
        assert_eq!(self.claims.get(name).await.is("200")["status"]["phase"], "Pending", "claim {name}");
    }

    /// Waits until a pod has ended well.
    pub async fn ended(&self, name: &str) {
        eventually(&format!("pod {name} has ended"), async || {
            (self.pods.get(name).await.is("200")["status"]["phase"] == "Succeeded").then_some(())
        })
        .await;
    }

    /// A claim on a volume that stays when the claim goes, after a pod has used it. Gives the claim and the name of the
    /// volume; the pod is still there.
    pub async fn used(&self, name: &str) -> (Value, String) {
        self.claims.create(&claim(name, "")).await.is("201");
        self.pods.create(&user(name)).await.is("201");
        self.ended(&format!("uses-{name}")).await;
        let claim = self.claims.get(name).await.is("200");
        let volume = text(&claim, "/spec/volumeName").to_owned();
        self.keep(&volume).await;
        (claim, volume)
    }

    /// A volume stays when its claim goes.
    pub async fn keep(&self, volume: &str) {
        let keep = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        self.volumes.merge(volume, &keep).await.is("200");
    }

    /// A volume whose claim is gone. Its claim had this name.
    pub async fn released(&self, name: &str) -> String {
        let (claim, volume) = self.used(name).await;
        self.pods.delete(&format!("uses-{name}"), &DeleteParams::default()).await.is("200");
        self.claims.delete(name, &exactly(&claim)).await.is("200");
        self.claims.gone(name).await;
        self.volume_is(&volume, "Released").await;
        volume
    }

    /// Points a volume at a claim, with the claim's UID if that is known.
    pub async fn point(&self, volume: &str, claim: &str, uid: Option<&str>) {
        let at = json!({"namespace": self.namespace, "name": claim, "uid": uid, "resourceVersion": null});
        let version = self.volumes.get(volume).await.is("200")["metadata"]["resourceVersion"].clone();
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"claimRef": at}});
        self.volumes.merge(volume, &patch).await.is("200");
    }

    /// A claim and a volume name each other, and are bound.
    pub async fn are_bound(&self, name: &str, volume: &str) {
        let (claim, bound) = (self.claim_is(name, "Bound").await, self.volume_is(volume, "Bound").await);
        assert_eq!(text(&claim, "/spec/volumeName"), volume);
        let named = &bound["spec"]["claimRef"];
        assert_eq!((&named["name"], &named["namespace"]), (&json!(name), &json!(self.namespace)));
        assert_eq!(named["uid"], claim["metadata"]["uid"]);
        let annotations = &claim["metadata"]["annotations"];
        assert_eq!(annotations["pv.kubernetes.io/bind-completed"], "yes");
        assert_eq!(claim["status"]["capacity"], bound["spec"]["capacity"]);
    }

    /// Lets a volume go with its claim, so that the script leaves nothing: the claim is gone, or goes with the stage.
    pub async fn drop(&self, volume: &str) {
        let go = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        self.volumes.merge(volume, &go).await.is("200");
    }
}

pub async fn come_with_the_first_pod(stage: &Stage) {
    let storage = Storage::of(stage);
    storage.claims.create(&claim("one", "")).await.is("201");
    storage.claim_waits("one").await;
    storage.pods.create(&user("one")).await.is("201");
    storage.ended("uses-one").await;
    let claim = storage.claims.get("one").await.is("200");
    let volume = text(&claim, "/spec/volumeName");
    storage.are_bound("one", volume).await;
    text(&claim, "/metadata/annotations/volume.kubernetes.io~1selected-node");
    assert_eq!(claim["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let volume = storage.volumes.get(volume).await.is("200");
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(volume["spec"]["storageClassName"], claim["spec"]["storageClassName"]);
    assert!(volume["spec"]["nodeAffinity"].is_object());
}

pub async fn outlive_their_claim_if_they_are_retained(stage: &Stage) {
    let storage = Storage::of(stage);
    let (claim, volume) = storage.used("one").await;
    storage.claims.delete("one", &exactly(&claim)).await.is("200");
    // The pod has ended, and holds the claim all the same.
    tokio::time::sleep(NEVER).await;
    let held = storage.claims.get("one").await.is("200");
    text(&held, "/metadata/deletionTimestamp");
    assert_eq!(held["status"]["phase"], "Bound");
    storage.volume_is(&volume, "Bound").await;
    storage.pods.delete("uses-one", &DeleteParams::default()).await.is("200");
    storage.claims.gone("one").await;
    let released = storage.volume_is(&volume, "Released").await;
    let named = &released["spec"]["claimRef"];
    assert_eq!((&named["name"], &named["uid"]), (&json!("one"), &claim["metadata"]["uid"]));
    // A new claim of the name is another claim.
    storage.claims.create(&super::volumes::claim("one", &volume)).await.is("201");
    storage.claim_waits("one").await;
    storage.volume_is(&volume, "Released").await;
    storage.drop(&volume).await;
    storage.volumes.gone(&volume).await;
    // Still pending: what it wants may come again.
    storage.claim_waits("one").await;
}

pub async fn go_with_their_claim_if_they_are_deleted(stage: &Stage) {
    let storage = Storage::of(stage);
    let (claim, volume) = storage.used("one").await;
    storage.drop(&volume).await;
    storage.pods.delete("uses-one", &DeleteParams::default()).await.is("200");
    storage.claims.delete("one", &exactly(&claim)).await.is("200");
    storage.claims.gone("one").await;
    storage.volumes.gone(&volume).await;
}

pub async fn are_pointed_at_a_claim_that_waits(stage: &Stage) {
    let storage = Storage::of(stage);
    let volume = storage.released("one").await;
    let two = storage.claims.create(&claim("two", &volume)).await.is("201");
    storage.claim_waits("two").await;
    storage.point(&volume, "two", Some(text(&two, "/metadata/uid"))).await;
    storage.are_bound("two", &volume).await;
    let two = storage.claims.get("two").await.is("200");
    assert_eq!(two["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], Value::Null);
    storage.drop(&volume).await;
}

pub async fn wait_for_a_claim_of_a_name(stage: &Stage) {
    let storage = Storage::of(stage);
    let volume = storage.released("one").await;
    storage.point(&volume, "two", None).await;
    let waiting = storage.volume_is(&volume, "Available").await;
    assert_eq!(waiting["spec"]["claimRef"]["uid"], Value::Null);
    // It is nobody else's, whoever asks for it.
    storage.claims.create(&claim("other", "")).await.is("201");
    storage.claims.create(&claim("greedy", &volume)).await.is("201");
    storage.pods.create(&user("greedy")).await.is("201");
    storage.claim_waits("greedy").await;
    storage.claim_waits("other").await;
    // No pod is needed, although the class waits for one, and no name of a volume.
    storage.claims.create(&claim("two", "")).await.is("201");
    storage.are_bound("two", &volume).await;
    let two = storage.claims.get("two").await.is("200");
    assert_eq!(two["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    storage.drop(&volume).await;
}

/// The claim of a Job is held by the Job's pod, also when that has ended.
pub async fn are_held_by_the_pod_of_a_job(stage: &Stage) {
    let storage = Storage::of(stage);
    let mut subject = Subject::new(stage, Task::Succeeds).await;
    let target = json!({"name": "target", "persistentVolumeClaim": {"claimName": "one"}});
    subject.job["spec"]["template"]["spec"]["volumes"] = json!([target]);
    let job = subject.start().await;
    // The pod waits for the claim, and the claim for the pod.
    tokio::time::sleep(NEVER).await;
    storage.claims.create(&claim("one", "")).await.is("201");
    let over = format!("ended 0 {REPORT}");
    assert_eq!(subject.pods_until(&over).await, ["waits", "works", &over]);
    let claim = storage.claim_is("one", "Bound").await;
    storage.claims.delete("one", &exactly(&claim)).await.is("200");
    tokio::time::sleep(NEVER).await;
    text(&storage.claims.get("one").await.is("200"), "/metadata/deletionTimestamp");
    subject.jobs.delete(&subject.name, &exactly(&job)).await.is("200");
    storage.claims.gone("one").await;
    storage.volumes.gone(text(&claim, "/spec/volumeName")).await;
}

/// With the name of the volume in the claim, too: as a restore does it.
pub async fn are_swapped(stage: &Stage) {
    let storage = Storage::of(stage);
    let (first, second) = (storage.released("first").await, storage.released("second").await);
    storage.point(&first, "second", None).await;
    storage.point(&second, "first", None).await;
    storage.claims.create(&claim("second", &first)).await.is("201");
    storage.claims.create(&claim("first", &second)).await.is("201");
    storage.are_bound("second", &first).await;
    storage.are_bound("first", &second).await;
    storage.drop(&first).await;
    storage.drop(&second).await;
}

pub async fn are_lost_to_a_claim_from_which_they_are_taken(stage: &Stage) {
    let storage = Storage::of(stage);
    let (one, volume) = storage.used("one").await;
    storage.pods.delete("uses-one", &DeleteParams::default()).await.is("200");
    storage.pods.gone("uses-one").await;
    storage.point(&volume, "two", None).await;
    storage.claim_is("one", "Lost").await;
    storage.claims.create(&claim("two", &volume)).await.is("201");
    storage.are_bound("two", &volume).await;
    // It is no longer of interest to the volume.
    storage.claims.delete("one", &exactly(&one)).await.is("200");
    storage.claims.gone("one").await;
    storage.are_bound("two", &volume).await;
    storage.drop(&volume).await;
}

/// The API server takes no other volume, class or mode for a claim that is there.
pub async fn are_not_changed_in_a_claim(stage: &Stage) {
    let storage = Storage::of(stage);
    storage.claims.create(&claim("one", "no-such-volume")).await.is("201");
    storage.claims.merge("one", &json!({"spec": {"volumeName": "another"}})).await.is("422 Invalid");
    storage.claims.merge("one", &json!({"spec": {"storageClassName": "another"}})).await.is("422 Invalid");
    storage.claim_waits("one").await;
    // A claim that no pod uses goes at once.
    storage.claims.delete("one", &DeleteParams::default()).await.is("200");
    storage.claims.gone("one").await;
}
