//! The points of other objects: which one an incremental backup starts from, and whose an adopted one is. Pure; the agent
//! proves on the volume that it can.

use super::foreign::foreign_status;
use super::status::succeeded;
use super::validate::ValidBackup;
use crate::api::{GraphBackup, Parent, StoreId};
use std::borrow::Borrow;

/// Points of objects that are known already: what is not seen yet costs a full copy at most, and the agent proves the rest on
/// the volume.
pub trait Points: Send + Sync {
    /// The newest earlier point of the cluster with this store id for a backup.
    fn newest_parent(&self, backup: &ValidBackup, store: StoreId) -> Option<Parent>;

    /// Name of another object whose point is the one that this backup would have in the cluster with this store id.
    fn taken_by(&self, backup: &ValidBackup, store: StoreId) -> Option<String>;
}

/// Knows none.
impl Points for () {
    fn newest_parent(&self, _: &ValidBackup, _: StoreId) -> Option<Parent> {
        None
    }

    fn taken_by(&self, _: &ValidBackup, _: StoreId) -> Option<String> {
        None
    }
}

/// The newest point of the cluster with this store id, on the same target.
pub fn newest_parent<T: Borrow<GraphBackup>>(
    backup: &ValidBackup,
    store: StoreId,
    points: impl IntoIterator<Item = T>,
) -> Option<Parent> {
    let candidates = points.into_iter().filter_map(|object| {
        let object = object.borrow();
        let meta = &object.metadata;
        let own = foreign_status(object).is_none();
        let status = object.status.as_ref().filter(|status| own && succeeded(status))?;
        let point = status.point.as_ref()?;
        let fits = meta.namespace.as_deref() == Some(&backup.owner.namespace)
            && meta.deletion_timestamp.is_none()
            && object.spec.target == backup.target
            && point.store_id == store;
        let folder = status.directory.as_deref()?.rsplit('/').next()?;
        let parent = Parent {
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            point: folder.to_owned(),
            manifest_digest: point.manifest_digest.clone(),
            last_transaction: point.last_transaction,
        };
        fits.then_some((point.data_to, parent))
    });
    candidates.max_by(|(a, left), (b, right)| (a, &left.uid).cmp(&(b, &right.uid))).map(|(_, parent)| parent)
}

/// Name of another object on the same target whose point is in this backup's directory. One that failed there has none.
pub fn taken_by<T: Borrow<GraphBackup>>(
    backup: &ValidBackup,
    store: StoreId,
    points: impl IntoIterator<Item = T>,
) -> Option<String> {
    let directory = backup.place(store).to_string();
    points.into_iter().find_map(|object| {
        let object = object.borrow();
        let other = object.metadata.uid.as_ref() != Some(&backup.owner.uid);
        let same = foreign_status(object).is_none()
            && object.metadata.namespace.as_ref() == Some(&backup.owner.namespace)
            && object.spec.target.claim_name == backup.target.claim_name
            && object.status.as_ref().is_some_and(|status| {
                status.point.is_some() && succeeded(status) && status.directory.as_ref() == Some(&directory)
            });
        object.metadata.name.clone().filter(|_| other && same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::validate::validate;
    use serde_json::{Value, json};

    const STORE: StoreId = StoreId { creation_time: 1, random_id: 2 };

    fn object(name: &str, status: &Value) -> GraphBackup {
        serde_json::from_value(json!({
            "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
            "metadata": {"name": name, "namespace": "graph", "uid": format!("uid-{name}"), "generation": 1,
                         "resourceVersion": "7", "creationTimestamp": "2026-11-24T06:00:00Z"},
            "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"}},
            "status": status,
        }))
        .unwrap()
    }

    fn point(name: &str, hour: u32) -> GraphBackup {
        object(
            name,
            &json!({
                "directory": format!("{STORE}/{name}-folder"),
                "conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "",
                                "lastTransitionTime": "2026-11-24T06:00:00Z"}],
                "point": {"manifestDigest": "sha256:0", "storeId": STORE.to_string(), "type": "Full",
                          "lastTransaction": 42, "files": 1, "bytes": 1, "attempt": 1,
                          "dataFrom": format!("2026-11-24T{hour:02}:00:00Z"), "dataTo": format!("2026-11-24T{hour:02}:01:00Z")},
            }),
        )
    }

    fn chosen(points: Vec<GraphBackup>) -> Option<String> {
        let backup = validate(&object("new", &json!({}))).unwrap();
        newest_parent(&backup, STORE, points).map(|parent| parent.point)
    }

    #[test]
    fn only_an_object_with_a_point_has_taken_it() {
        let mut adopts = object("new", &json!({}));
        adopts.spec.adopt = Some(format!("{STORE}/a-folder"));
        let adopts = validate(&adopts).unwrap();
        assert_eq!(taken_by(&adopts, STORE, [point("a", 1)]).as_deref(), Some("a"));
        assert_eq!(taken_by(&adopts, STORE, [point("b", 1)]), None);
        let failed = object("a", &json!({"directory": format!("{STORE}/a-folder")}));
        assert_eq!(taken_by(&adopts, STORE, [failed]), None);
    }

    #[test]
    fn the_newest_point_of_the_cluster_on_the_target_is_taken() {
        let points = vec![point("a", 1), point("c", 3), point("b", 2), object("running", &json!({}))];
        assert_eq!(chosen(points).as_deref(), Some("c-folder"));
        assert_eq!(chosen(vec![]), None);
    }

    #[test]
    fn what_is_elsewhere_going_or_not_there_is_no_parent() {
        type Change = fn(&mut GraphBackup);
        let changes: &[Change] = &[
            |o| o.metadata.namespace = Some("other".into()),
            |o| o.metadata.deletion_timestamp = o.metadata.creation_timestamp.clone(),
            |o| o.spec.target.claim_name = "other".into(),
            |o| o.spec.target.directory = "other".into(),
            |o| o.status.as_mut().unwrap().conditions[0].status = "False".into(),
            |o| o.status.as_mut().unwrap().point.as_mut().unwrap().store_id.random_id = 3,
            |o| o.status.as_mut().unwrap().point = None,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut unfit = point("a", 3);
            change(&mut unfit);
            assert_eq!(chosen(vec![unfit, point("b", 1)]).as_deref(), Some("b-folder"), "change {number}");
        }
    }
}
