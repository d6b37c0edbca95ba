//! The scripts of the conformance test on the real controllers. Each has a namespace of its own that no operator
//! watches; that of one that fails is left until the next run, for people to look at.

#[path = "../../tests/conformance/mod.rs"]
mod scripts;

use crate::support::{client, eventually};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use scripts::{Script, Stage};
use serde_json::json;
use std::time::Duration;

/// Label of the namespaces.
const LABEL: &str = "graphbackup.dev/conformance";
/// What their names begin with.
const PREFIX: &str = "conformance-";

#[test]
fn every_script_holds() {
    in_a_runtime(async {
        let namespaces: Api<Namespace> = Api::all(client().await);
        for left in namespaces.list(&ListParams::default().labels(LABEL)).await.unwrap() {
            // One that goes already is no reason to fail.
            let _ = namespaces.delete(&left.name_any(), &DeleteParams::default()).await;
        }
        remove_left_volumes().await;
    });
    scripts::every_script_holds(play);
}

/// A script that failed may have left a volume that stays when its claim has gone with the namespace.
async fn remove_left_volumes() {
    let volumes: Api<PersistentVolume> = Api::all(client().await);
    let go = Patch::Merge(json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}));
    for left in volumes.list(&ListParams::default()).await.unwrap() {
        let claim = left.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if claim.and_then(|claim| claim.namespace.as_deref()).is_some_and(|name| name.starts_with(PREFIX)) {
            let _ = volumes.patch(&left.name_any(), &PatchParams::default(), &go).await;
        }
    }
}

fn play(script: Script) {
    in_a_runtime(async {
        let client = client().await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = json!({"metadata": {"generateName": PREFIX, "labels": {LABEL: "true"}}});
        let namespace = serde_json::from_value(namespace).unwrap();
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        let account = || async { accounts.get_opt("default").await.unwrap() };
        eventually("pods can be created", Duration::from_secs(30), account).await;
        script(&Stage::new(client, &namespace)).await;
        namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    });
}

fn in_a_runtime(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
}
