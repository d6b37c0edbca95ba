//! What is kept in memory of a `GraphBackup`: of one that is over only what another one's decision can need. Pure.

use super::finalizers::is_marked;
use super::foreign::foreign_status;
use super::request::{Request, request};
use super::step::ObjectStep;
use crate::api::condition::SUCCEEDED;
use crate::api::names::{PIN_ANNOTATION, SCHEDULE_LABEL, SCHEDULE_UID_LABEL, SLOT_ANNOTATION};
use crate::api::{DrillResult, GraphBackup, GraphBackupStatus, Parent, Reason, StoreId, Target};
use crate::controller::pass::key;
use crate::controller::store::{Kept, Key};
use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use std::time::Duration;

/// A `GraphBackup` as the process knows it.
#[derive(Debug)]
pub enum Known {
    /// Not over, or with the status of another object: whole.
    Open(Box<GraphBackup>),
    /// Over.
    Over(Box<Over>),
    /// This version cannot read it.
    Unreadable {
        /// Namespace and name.
        key: String,
        /// Why.
        error: String,
    },
}

/// From the record of an attempt to the pass that it brings: soon enough to create its Job if that has failed meanwhile.
const AFTER_AN_OPENING: Duration = Duration::from_secs(20);

/// From a change of an object to the pass that it brings: at once, unless all that has changed is that an attempt was
/// opened. The next step depends on the attempt's Job, whose end usually brings a pass before.
pub fn pass_after(before: Option<&Known>, after: &Known) -> Duration {
    let (Some(before), Some(after)) = (before.and_then(Known::open), after.open()) else { return Duration::ZERO };
    let attempts = |object: &GraphBackup| object.status.iter().map(|status| status.attempts.len()).sum::<usize>();
    let open = after.status.as_ref().and_then(GraphBackupStatus::open_attempt);
    let only_opened = attempts(after) > attempts(before)
        && open.is_some_and(|attempt| attempt.stopped.is_none())
        && ObjectMeta { resource_version: None, ..before.metadata.clone() }
            == ObjectMeta { resource_version: None, ..after.metadata.clone() };
    if only_opened { AFTER_AN_OPENING } else { Duration::ZERO }
}

/// What is kept of a backup that is over: a few hundred bytes.
#[derive(Debug)]
pub struct Over {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// The whole object, if there is work left all the same: it is deleted and its files have to be removed, or its
    /// finalizers are not those that it should have. It is not read again for that: in a namespace that goes away the
    /// operator may not read any more.
    pub unsettled: Option<Box<GraphBackup>>,
    /// The recovery point, if it succeeded.
    pub point: Option<KnownPoint>,
    /// The schedule that took it.
    pub origin: Option<Box<Origin>>,
    /// Its end, if it failed.
    pub failure: Option<Box<KnownFailure>>,
}

/// The schedule that took a backup, by the labels of the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the schedule.
    pub schedule: Box<str>,
    /// UID of the schedule.
    pub schedule_uid: Box<str>,
    /// The slot; `None` for a backup that a person asked the schedule for.
    pub slot: Option<DateTime<Utc>>,
    /// UID of the backup.
    pub uid: Box<str>,
    /// Whether it is being deleted.
    pub is_deleted: bool,
}

/// How a backup failed.
#[derive(Debug)]
pub struct KnownFailure {
    /// The reason.
    pub reason: Box<str>,
    /// When.
    pub time: DateTime<Utc>,
    /// Whether it is pinned.
    pub is_pinned: bool,
}

/// What is kept of a recovery point.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct KnownPoint {
    /// UID of its object.
    pub uid: Box<str>,
    /// Whether its object is deleted.
    pub is_deleted: bool,
    /// Where it was written.
    pub target: Target,
    /// `status.directory`: its folder on the target.
    pub directory: Box<str>,
    /// SHA-256 of its manifest: `sha256:<hex>`.
    pub manifest_digest: Box<str>,
    /// Identity of the copied store.
    pub store_id: StoreId,
    /// Last committed transaction in it.
    pub last_transaction: i64,
    /// Everything that was committed before this time is in it.
    pub data_from: DateTime<Utc>,
    /// When the tool or the copying ended.
    pub data_to: DateTime<Utc>,
    /// Number of incremental backups since the last full one.
    pub depth: u32,
    /// What it takes on the volume beyond what it shares with its parent, bytes.
    pub bytes: i64,
    /// Free space on the target afterwards, bytes.
    pub free_bytes: Option<i64>,
    /// Whether it is pinned.
    pub is_pinned: bool,
    /// Whether another object made it.
    pub is_adopted: bool,
    /// Whether a restore drill has found that it cannot be restored.
    pub is_broken: bool,
    /// Whether its schedule has marked it for removal.
    pub is_marked: bool,
}

impl Known {
    /// Namespace and name, as a store has them.
    pub fn store_key(&self) -> Key {
        match self {
            Self::Open(object) => Key::of(&object.metadata),
            Self::Over(over) => Key { namespace: over.namespace.to_string(), name: over.name.to_string() },
            Self::Unreadable { key, .. } => {
                let (namespace, name) = key.split_once('/').unwrap_or_default();
                Key { namespace: namespace.to_owned(), name: name.to_owned() }
            }
        }
    }

    /// Namespace and name.
    pub fn key(&self) -> String {
        match self {
            Self::Open(object) => key(&object.metadata),
            Self::Over(over) => format!("{}/{}", over.namespace, over.name),
            Self::Unreadable { key, .. } => key.clone(),
        }
    }

    /// The object, if it is not over.
    pub fn open(&self) -> Option<&GraphBackup> {
        match self {
            Self::Open(object) => Some(object),
            Self::Over(_) | Self::Unreadable { .. } => None,
        }
    }

    /// The object, if a pass may have something to do for it.
    pub fn with_work(&self) -> Option<&GraphBackup> {
        match self {
            Self::Open(object) => Some(object),
            Self::Over(over) => over.unsettled.as_deref(),
            Self::Unreadable { .. } => None,
        }
    }

    /// Whether an attempt is open.
    pub fn is_at_work(&self) -> bool {
        self.open().is_some_and(|object| object.status.as_ref().and_then(GraphBackupStatus::open_attempt).is_some())
    }

    /// Whether an attempt is open whose member's replicas are not put back.
    pub fn has_stopped_member(&self) -> bool {
        let attempt = self.open().and_then(|object| object.status.as_ref()?.open_attempt());
        attempt.is_some_and(|attempt| attempt.member_to_restore().is_some())
    }

    /// The schedule that took it, with the name of the backup.
    pub fn origin(&self) -> Option<Origin> {
        match self {
            Self::Open(object) => Origin::of(object),
            Self::Over(over) => over.origin.as_deref().cloned(),
            Self::Unreadable { .. } => None,
        }
    }

    /// Whether it is over, and pinned.
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Over(over) => {
                over.point.as_ref().is_some_and(|point| point.is_pinned)
                    || over.failure.as_ref().is_some_and(|failure| failure.is_pinned)
            }
            Self::Open(_) | Self::Unreadable { .. } => false,
        }
    }

    /// The object and its recovery point, if it has one.
    pub fn point(&self) -> Option<(&Over, &KnownPoint)> {
        match self {
            Self::Over(over) => Some((over, over.point.as_ref()?)),
            Self::Open(_) | Self::Unreadable { .. } => None,
        }
    }
}

impl Kept for Known {
    type Object = GraphBackup;

    fn keep(object: GraphBackup) -> Self {
        let over =
            object.status.as_ref().is_some_and(GraphBackupStatus::is_terminal) && foreign_status(&object).is_none();
        if !over {
            return Self::Open(Box::new(object));
        }
        let is_unsettled = !matches!(request(&object), Request::Object(ObjectStep::Nothing));
        let point = KnownPoint::of(&object);
        let boxed = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
        let (namespace, name) = (boxed(&object.metadata.namespace), boxed(&object.metadata.name));
        let (origin, failure) = (Origin::of(&object).map(Box::new), KnownFailure::of(&object).map(Box::new));
        let unsettled = is_unsettled.then(|| Box::new(object));
        Self::Over(Box::new(Over { namespace, name, unsettled, point, origin, failure }))
    }

    fn unreadable(metadata: ObjectMeta, error: String) -> Self {
        Self::Unreadable { key: key(&metadata), error }
    }

    fn is_settled(&self) -> bool {
        matches!(self, Self::Over(over) if over.unsettled.is_none())
    }
}

impl Origin {
    /// Reads the labels and the annotation of a backup.
    pub fn of(object: &GraphBackup) -> Option<Self> {
        let label = |name: &str| object.labels().get(name).map(|value| value.as_str().into());
        let slot = object.annotations().get(SLOT_ANNOTATION).and_then(|slot| slot.parse().ok());
        Some(Self {
            schedule: label(SCHEDULE_LABEL)?,
            schedule_uid: label(SCHEDULE_UID_LABEL)?,
            slot,
            uid: object.metadata.uid.as_deref()?.into(),
            is_deleted: object.metadata.deletion_timestamp.is_some(),
        })
    }
}

impl KnownFailure {
    fn of(object: &GraphBackup) -> Option<Self> {
        let status = object.status.as_ref().filter(|status| status.is_terminal() && !status.has_succeeded())?;
        let ended = status.conditions.iter().find(|condition| condition.type_ == SUCCEEDED)?;
        let time = status.completion_time.or(status.start_time).unwrap_or(DateTime::UNIX_EPOCH);
        let is_pinned = object.annotations().contains_key(PIN_ANNOTATION);
        Some(Self { reason: ended.reason.as_str().into(), time, is_pinned })
    }
}

/// Whether a drill has failed for what the point is, and not for its circumstances.
fn is_broken(drill: &DrillResult) -> bool {
    let of_point = [Reason::VerificationFailed, Reason::BootFailed, Reason::ManifestMissing, Reason::PointMissing];
    !drill.passed && of_point.iter().any(|reason| reason.as_str() == drill.reason)
}

impl KnownPoint {
    fn of(object: &GraphBackup) -> Option<Self> {
        let status = object.status.as_ref().filter(|status| status.has_succeeded())?;
        let point = status.point.as_ref()?;
        Some(Self {
            uid: object.metadata.uid.as_deref()?.into(),
            is_deleted: object.metadata.deletion_timestamp.is_some(),
            target: object.spec.target.clone(),
            directory: status.directory.as_deref()?.into(),
            manifest_digest: point.manifest_digest.as_str().into(),
            store_id: point.store_id,
            last_transaction: point.last_transaction,
            data_from: point.data_from,
            data_to: point.data_to,
            depth: point.depth,
            bytes: point.bytes.saturating_sub(point.shared_bytes),
            free_bytes: point.free_bytes,
            is_pinned: object.annotations().contains_key(PIN_ANNOTATION),
            is_adopted: point.owner_uid.is_some(),
            is_broken: status.drill.as_ref().is_some_and(is_broken),
            is_marked: is_marked(object),
        })
    }

    /// The point as one that a backup starts from; `name` is that of its object.
    pub fn as_parent(&self, name: &str) -> Option<Parent> {
        Some(Parent {
            name: name.to_owned(),
            uid: self.uid.to_string(),
            point: self.directory.rsplit('/').next()?.to_owned(),
            manifest_digest: self.manifest_digest.to_string(),
            last_transaction: self.last_transaction,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::to_kubernetes;
    use crate::backup::finalizers::FILES_FINALIZER;
    use crate::backup::step::JOB_CREATION_GRACE;
    use crate::backup::testing::{at, backup};
    use serde_json::{Value, json};

    const STORE: &str = "0000000000000001-0000000000000002";

    /// A backup that succeeded, changed.
    fn known(change: impl FnOnce(&mut Value)) -> Known {
        let mut object = json!({
            "apiVersion": "graphbackup.dev/v1alpha1", "kind": "GraphBackup",
            "metadata": {"name": "nightly", "namespace": "graph", "uid": "ours"},
            "spec": {"source": {"uri": "ha://zk"}, "target": {"claimName": "backups"}, "tool": {"image": "neo4j:1.8"}},
            "status": {
                "uid": "ours",
                "directory": format!("{STORE}/folder"),
                "conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "",
                                "lastTransitionTime": "2026-11-24T06:00:00Z"}],
                "point": {"manifestDigest": "sha256:0", "storeId": STORE, "type": "Full", "lastTransaction": 42,
                          "files": 1, "bytes": 1, "attempt": 1,
                          "dataFrom": "2026-11-24T06:00:00Z", "dataTo": "2026-11-24T06:01:00Z"},
            },
        });
        change(&mut object);
        Known::keep(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn of_an_object_that_is_over_the_point_is_kept() {
        let known = known(|_| {});
        assert!(known.is_settled());
        assert_eq!(known.key(), "graph/nightly");
        let (over, point) = known.point().unwrap();
        let parent = point.as_parent(&over.name).unwrap();
        assert_eq!((parent.name.as_str(), parent.uid.as_str()), ("nightly", "ours"));
        assert_eq!((parent.point.as_str(), parent.last_transaction), ("folder", 42));
    }

    #[test]
    fn an_object_that_is_not_over_is_kept_whole() {
        for truth in ["Unknown", "other"] {
            let known = known(|object| object["status"]["conditions"][0]["status"] = json!(truth));
            assert!(matches!(known, Known::Open(_)) && !known.is_settled());
        }
        // Whose status it is has to be told on it.
        let foreign = known(|object| object["status"]["uid"] = json!("theirs"));
        assert!(matches!(foreign, Known::Open(_)) && !foreign.is_settled());
        assert!(foreign.point().is_none());
    }

    #[test]
    fn the_record_of_an_opened_attempt_brings_a_pass_later() {
        let known = |opened: bool, change: fn(&mut GraphBackup)| {
            let mut object = if opened { backup().attempted().object() } else { backup().object() };
            object.metadata.resource_version = Some(if opened { "8" } else { "7" }.to_owned());
            change(&mut object);
            Known::keep(object)
        };
        let (before, after) = (known(false, |_| {}), known(true, |_| {}));
        assert_eq!(pass_after(Some(&before), &after), AFTER_AN_OPENING);
        assert!(AFTER_AN_OPENING < JOB_CREATION_GRACE);
        // A new object, one that was open before, and everything else that changed with it.
        assert_eq!(pass_after(None, &after), Duration::ZERO);
        assert_eq!(pass_after(Some(&after), &after), Duration::ZERO);
        let changes: [fn(&mut GraphBackup); 3] = [
            |object| object.metadata.deletion_timestamp = Some(to_kubernetes(at(9))),
            |object| object.metadata.finalizers = Some(vec!["example.com/theirs".to_owned()]),
            |object| object.status.as_mut().unwrap().attempts[0].completion_time = Some(at(9)),
        ];
        for change in changes {
            assert_eq!(pass_after(Some(&before), &known(true, change)), Duration::ZERO);
        }
        // The member of a cold backup has to be looked at meanwhile.
        let stops = json!({"pod": "neo4j-2", "memberId": 3, "statefulSetUid": "u", "generation": 1, "replicas": 3});
        let mut cold = backup().cold().attempted().object();
        cold.status.as_mut().unwrap().attempts[0].stopped = Some(serde_json::from_value(stops).unwrap());
        assert_eq!(pass_after(Some(&before), &Known::keep(cold)), Duration::ZERO);
    }

    #[test]
    fn one_that_failed_has_no_point() {
        let known = known(|object| object["status"]["conditions"][0]["status"] = json!("False"));
        assert!(known.is_settled() && known.point().is_none());
    }

    #[test]
    fn an_object_whose_finalizers_are_to_change_is_not_settled() {
        let wanted = |object: &mut Value| object["spec"]["deletionPolicy"] = json!("Delete");
        assert!(!known(wanted).is_settled());
        let has = |object: &mut Value| object["metadata"]["finalizers"] = json!([FILES_FINALIZER]);
        assert!(!known(has).is_settled());
        let both = |object: &mut Value| {
            wanted(object);
            has(object);
        };
        assert!(known(both).is_settled() && known(both).with_work().is_none());
        let deleted = |object: &mut Value| {
            both(object);
            object["metadata"]["deletionTimestamp"] = json!("2026-11-24T07:00:00Z");
        };
        assert!(!known(deleted).is_settled());
        // The whole object is there for the pass: in a namespace that goes away it could not be read again.
        assert!(known(deleted).with_work().is_some_and(|object| object.metadata.finalizers.is_some()));
        assert!(known(deleted).point().is_some_and(|(_, point)| point.is_deleted));
        // What others hold up is theirs to let go.
        let theirs = |object: &mut Value| {
            deleted(object);
            object["metadata"]["finalizers"] = json!(["example.com/theirs"]);
        };
        assert!(known(theirs).is_settled());
    }
}
