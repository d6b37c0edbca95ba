//! The claims of a StatefulSet: made from its templates, and owned by what their deletion follows.

use super::controllers::text;
use super::volumes::claim_key;
use crate::apiserver::{Kind, Store};
use serde_json::{Value, json};

/// A claim that is being deleted is waited for.
pub struct Refused;

/// Names of the templates of a StatefulSet, and of the claims that one pod has.
pub fn names(set: &Value, ordinal: i64) -> Vec<(String, String)> {
    let templates = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    let name = text(&set["metadata"]["name"]);
    let names = templates.map(|template| text(&template["metadata"]["name"]));
    names.map(|template| (template.to_owned(), format!("{template}-{name}-{ordinal}"))).collect()
}

/// How an object names its controller.
pub fn owner(api_version: &str, kind: &str, meta: &Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": meta["name"], "uid": meta["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Makes the claims of a pod that are not there.
pub fn make(store: &mut Store, set: &Value, ordinal: i64) -> Result<(), Refused> {
    let (namespace, mut refused) = (text(&set["metadata"]["namespace"]), false);
    let templates = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    for (template, (_, name)) in templates.zip(names(set, ordinal)) {
        if let Some(claim) = store.get(&claim_key(namespace, &name)) {
            refused |= !claim["metadata"]["deletionTimestamp"].is_null();
            continue;
        }
        let mut labels = template["metadata"]["labels"].clone();
        for (label, value) in set["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
            labels[label] = value.clone();
        }
        let mut meta = json!({"name": name, "labels": labels});
        meta["annotations"] = template["metadata"]["annotations"].clone();
        meta.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let claim = json!({"metadata": meta, "spec": template["spec"]});
        // In a namespace that goes nothing is made.
        refused |= store.create(Kind::named("PersistentVolumeClaim"), namespace, claim).is_err();
    }
    if refused { Err(Refused) } else { Ok(()) }
}

fn is_deleted(set: &Value, when: &str) -> bool {
    set["spec"]["persistentVolumeClaimRetentionPolicy"][when] == "Delete"
}

fn refers_to(owner: &Value, kind: &str, name: &Value) -> bool {
    owner["kind"] == kind && owner["name"] == *name
}

fn owners(claim: &Value) -> Vec<Value> {
    claim["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default()
}

/// Whether a claim of a pod that is not there goes with an earlier pod of its name.
pub fn are_stale(store: &Store, set: &Value, ordinal: i64) -> bool {
    let pod = json!(format!("{}-{ordinal}", text(&set["metadata"]["name"])));
    let namespace = text(&set["metadata"]["namespace"]);
    let stale = |(_, name): (String, String)| {
        let claim = store.get(&claim_key(namespace, &name));
        claim.is_some_and(|claim| owners(claim).iter().any(|owner| refers_to(owner, "Pod", &pod)))
    };
    is_deleted(set, "whenScaled") && names(set, ordinal).into_iter().any(stale)
}

/// Makes the claims of a pod go with the pod, with the StatefulSet, or with none of them.
pub fn own(store: &mut Store, set: &Value, ordinal: i64, pod: &Value) {
    let pod = &pod["metadata"];
    let (scaled, deleted) = (is_deleted(set, "whenScaled"), is_deleted(set, "whenDeleted"));
    let meta = &set["metadata"];
    let condemned = !super::stateful_set::wanted(set).contains(&ordinal);
    let wanted = match (scaled, deleted) {
        (true, _) if condemned => Some(owner("v1", "Pod", pod)),
        (_, true) => Some(owner("apps/v1", "StatefulSet", meta)),
        _ => None,
    };
    for (_, name) in names(set, ordinal) {
        let key = claim_key(text(&meta["namespace"]), &name);
        let Some(claim) = store.get(&key) else { continue };
        let own = [("StatefulSet", meta), ("Pod", pod)];
        let is_own = |owner: &Value| own.iter().any(|(kind, meta)| refers_to(owner, kind, &meta["name"]));
        // Those of an earlier StatefulSet or pod of the name go with that one.
        let is_stale = |owner: &Value| {
            own.iter().any(|(kind, meta)| refers_to(owner, kind, &meta["name"]) && owner["uid"] != meta["uid"])
        };
        let mut list = owners(claim);
        if list.iter().any(is_stale) {
            continue;
        }
        let of_another = list.iter().any(|owner| owner["controller"] == true && !is_own(owner));
        let before = list.clone();
        list.retain(|owner| !is_own(owner));
        if !of_another || (!scaled && !deleted) {
            list.extend(wanted.clone());
        }
        if list == before {
            continue;
        }
        let set_owners = |claim: &mut Value| {
            let meta = claim["metadata"].as_object_mut().unwrap();
            meta.remove("ownerReferences");
            if !list.is_empty() {
                meta.insert("ownerReferences".to_owned(), json!(list));
            }
        };
        store.change(&key, set_owners).unwrap();
    }
}
