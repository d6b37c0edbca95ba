//! The points of other objects: which one an incremental backup starts from, and whose an adopted one is. Pure; the
//! agent proves on the volume that it can.

use super::effects::owner_of;
use super::known::{Known, KnownPoint, Over};
use super::validate::ValidBackup;
use crate::api::{GraphBackup, GraphBackupStatus, Parent, StoreId};

/// Points of objects that are known already: what is not seen yet costs a full copy at most, and the agent proves the
/// rest on the volume.
pub trait Points: Send + Sync {
    /// The newest earlier point of the cluster with this store id for a backup.
    fn newest_parent(&self, backup: &ValidBackup, store: StoreId) -> Option<Parent>;

    /// An object, in words, that is still making a point of this cluster on the same target.
    fn upcoming(&self, backup: &ValidBackup, store: StoreId) -> Option<String>;

    /// Name of another object whose point is the one that this backup would have in the cluster with this store id.
    fn taken_by(&self, backup: &ValidBackup, store: StoreId) -> Option<String>;

    /// Number of other objects whose points on the same claim are read back before this object's.
    fn adoptions_ahead(&self, backup: &ValidBackup) -> usize;
}

/// The newest point of the cluster with this store id, on the same target.
pub fn newest_parent<'a>(
    backup: &ValidBackup,
    store: StoreId,
    known: impl IntoIterator<Item = &'a Known>,
) -> Option<Parent> {
    let fits = |over: &Over, point: &KnownPoint| {
        *over.namespace == *backup.owner.namespace
            && !point.is_deleted
            && !point.is_broken
            && point.target == backup.target
            && point.store_id == store
    };
    let points = known.into_iter().filter_map(Known::point).filter(|(over, point)| fits(over, point));
    let (over, newest) = points.max_by_key(|(_, point)| (point.data_to, &point.uid))?;
    newest.as_parent(&over.name)
}

/// An object that is still making a point of the cluster with this store id on the same target: it has had an attempt
/// and is not over.
pub fn upcoming<'a>(
    backup: &ValidBackup,
    store: StoreId,
    known: impl IntoIterator<Item = &'a Known>,
) -> Option<String> {
    let makes = |object: &&GraphBackup| {
        let attempts = object.status.iter().flat_map(|status| &status.attempts);
        object.metadata.uid.as_ref() != Some(&backup.owner.uid)
            && object.metadata.namespace.as_ref() == Some(&backup.owner.namespace)
            && object.spec.target == backup.target
            && object.metadata.deletion_timestamp.is_none()
            && attempts.last().is_some_and(|attempt| attempt.store_id == store)
    };
    let found = known.into_iter().filter_map(Known::open).find(makes)?;
    Some(owner_of(found).to_string())
}

/// Name of another object on the same target whose point is in this backup's directory. One that failed there has none.
pub fn taken_by<'a>(
    backup: &ValidBackup,
    store: StoreId,
    known: impl IntoIterator<Item = &'a Known>,
) -> Option<String> {
    let directory = backup.place(store).to_string();
    let same = |over: &Over, point: &KnownPoint| {
        *point.uid != *backup.owner.uid
            && *over.namespace == *backup.owner.namespace
            && point.target.claim_name == backup.target.claim_name
            && *point.directory == *directory
    };
    let found = known.into_iter().filter_map(Known::point).find(|(over, point)| same(over, point));
    found.map(|(over, _)| over.name.to_string())
}

/// Number of other objects that adopt a point on the same claim and go first: those whose point is read now, and those
/// whose turn comes earlier. What is not seen yet has not begun, so that every pass counts alike. One that gets no
/// answer lets others pass.
pub fn adoptions_ahead<'a>(backup: &ValidBackup, known: impl IntoIterator<Item = &'a Known>) -> usize {
    let ahead = known.into_iter().filter_map(Known::open).filter(|object| {
        let reading = object.status.as_ref().and_then(|status| status.adoption.as_ref());
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
            && !object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal)
    });
    ahead.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GraphBackup;
    use crate::backup::testing::{STORE, backup};
    use crate::backup::validate::validate;
    use crate::controller::store::Kept;
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

    fn known(objects: impl IntoIterator<Item = GraphBackup>) -> Vec<Known> {
        objects.into_iter().map(Known::keep).collect()
    }

    fn chosen(points: Vec<GraphBackup>) -> Option<String> {
        let backup = validate(&object("new", &json!({}))).unwrap();
        newest_parent(&backup, STORE, &known(points)).map(|parent| parent.point)
    }

    #[test]
    fn only_an_object_with_a_point_has_taken_it() {
        let mut adopts = object("new", &json!({}));
        adopts.spec.adopt = Some(format!("{STORE}/a-folder"));
        let adopts = validate(&adopts).unwrap();
        assert_eq!(taken_by(&adopts, STORE, &known([point("a", 1)])).as_deref(), Some("a"));
        assert_eq!(taken_by(&adopts, STORE, &known([point("b", 1)])), None);
        let failed = object("a", &json!({"directory": format!("{STORE}/a-folder")}));
        assert_eq!(taken_by(&adopts, STORE, &known([failed])), None);
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
        let ahead = |name: &str| adoptions_ahead(&validate(&adopts(name, json!({}))).unwrap(), &known(all()));
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
