//! The points of other objects: which one an incremental backup starts from, and whose an adopted one is. Pure; the agent
//! proves on the volume that it can.

use super::foreign::foreign_status;
use super::validate::ValidBackup;
use crate::api::{GraphBackup, GraphBackupStatus, Parent, StoreId};
use std::borrow::Borrow;

/// Points of objects that are known already: what is not seen yet costs a full copy at most, and the agent proves the rest on
/// the volume.
pub trait Points: Send + Sync {
    /// The newest earlier point of the cluster with this store id for a backup.
    fn newest_parent(&self, backup: &ValidBackup, store: StoreId) -> Option<Parent>;

    /// Name of another object whose point is the one that this backup would have in the cluster with this store id.
    fn taken_by(&self, backup: &ValidBackup, store: StoreId) -> Option<String>;

    /// Number of other objects whose points on the same claim are read back before this object's.
    fn adoptions_ahead(&self, backup: &ValidBackup) -> usize;
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
        let status = object.status.as_ref().filter(|status| own && status.has_succeeded())?;
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
                status.point.is_some() && status.has_succeeded() && status.directory.as_ref() == Some(&directory)
            });
        object.metadata.name.clone().filter(|_| other && same)
    })
}

/// Number of other objects that adopt a point on the same claim and go first: those whose point is read now, and those whose
/// turn comes earlier. What is not seen yet has not begun, so that every pass counts alike. One that gets no answer lets
/// others pass.
pub fn adoptions_ahead<T: Borrow<GraphBackup>>(backup: &ValidBackup, objects: impl IntoIterator<Item = T>) -> usize {
    let ahead = objects.into_iter().filter(|object| {
        let object = object.borrow();
        let status = object.status.as_ref();
        let reading = status.and_then(|status| status.adoption.as_ref());
        let first = match reading {
            Some(reading) => reading.unanswered_time.is_none(),
            None => object.metadata.uid.as_ref() < Some(&backup.owner.uid),
        };
        first
            && object.spec.adopt.is_some()
            && object.metadata.uid.as_ref() != Some(&backup.owner.uid)
            && object.metadata.namespace.as_ref() == Some(&backup.owner.namespace)
            && object.spec.target.claim_name == backup.target.claim_name
            && object.metadata.deletion_timestamp.is_none()
            && !status.is_some_and(GraphBackupStatus::is_terminal)
    });
    ahead.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::testing::{STORE, backup};
    use crate::backup::validate::validate;
    use serde_json::{Value, json};

    fn object(name: &str, status: &Value) -> GraphBackup {
        backup().named(name).status(status.clone()).object()
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
    fn of_many_objects_that_adopt_a_few_go_first() {
        let adopts = |name: &str, status: Value| {
            backup().named(name).spec("adopt", format!("{STORE}/{name}-folder")).status(status).object()
        };
        let reading = json!({"adoption": {"job": "j", "startTime": "2026-11-24T06:00:00Z", "tries": 1}});
        let mut unanswered = reading.clone();
        unanswered["adoption"]["unansweredTime"] = json!("2026-11-24T06:01:00Z");
        let all = || {
            let new = ["a", "b", "c", "d"].map(|name| adopts(name, json!({})));
            let others = [adopts("x", reading.clone()), adopts("y", unanswered.clone()), object("z", &json!({}))];
            new.into_iter().chain(others)
        };
        let ahead = |name: &str| adoptions_ahead(&validate(&adopts(name, json!({}))).unwrap(), all());
        assert_eq!(["a", "b", "c", "d"].map(ahead), [1, 2, 3, 4], "x is being read, y got no answer");
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
