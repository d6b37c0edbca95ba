//! From the specification as stored to one that cannot be wrong. Pure.

use crate::api::names::{APPROVE_PLAN_ANNOTATION, ROLL_BACK_ANNOTATION};
use crate::api::{Approval, Kind, OnFailure, Owner, PodTemplate, Restore, RestoreFrom, Workload, parse_duration};
use crate::discovery::{SourceUri, SourceUriError};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::time::Duration;

/// Finalizer of a restore that has begun: it is undone before the object goes.
pub const RESTORE_FINALIZER: &str = "graphbackup.dev/restore";

/// Why a restore cannot be worked on; the schema refuses most of these earlier.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRestore {
    /// Metadata that the API server always sets is missing.
    #[error("the object has no {0}; only objects read from the API server can be worked on")]
    Metadata(&'static str),
    /// `spec.into.source.uri`.
    #[error("spec.into.source.uri: {0}")]
    Source(#[from] SourceUriError),
    /// `single://`.
    #[error("spec.into.source.uri is an ha:// URI: the operator finds the members in ZooKeeper")]
    Single,
    /// Both a backup and a schedule, or neither.
    #[error("spec.from names one thing: either backup or schedule")]
    From,
    /// A duration.
    #[error("spec.{0} is not a duration such as '30m' or '2h'")]
    Duration(&'static str),
}

/// A `Restore` whose every field has been read.
#[derive(Clone, Debug)]
pub struct ValidRestore {
    /// Namespace, name and UID.
    pub owner: Owner,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// Whether the object is being deleted.
    pub is_deleted: bool,
    /// Where the point comes from.
    pub from: From,
    /// Where the cluster registers its members.
    pub source: SourceUri,
    /// Name of the cluster in ZooKeeper.
    pub cluster_name: Option<String>,
    /// The StatefulSet and its volumes.
    pub workload: Workload,
    /// Whether a person has to approve the plan.
    pub needs_approval: bool,
    /// The plan that a person has approved.
    pub approved: Option<String>,
    /// Somebody asks for the original volumes.
    pub roll_back: Option<String>,
    /// Whether a failure is undone.
    pub rolls_back: bool,
    /// How long the original volumes are kept.
    pub keep_original_for: Duration,
    /// Limits of the steps.
    pub deadlines: Deadlines,
    /// Overrides for pods.
    pub pod_template: PodTemplate,
}

/// Where the point comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A backup of this name.
    Backup(String),
    /// The newest good point of a schedule of this name, not newer than a time.
    Schedule(String, Option<DateTime<Utc>>),
}

/// Limits of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Until the check is passed.
    pub wait_for_backup: Duration,
    /// Of staging.
    pub stage: Duration,
    /// Of stopping, of carrying, and of swapping.
    pub stop: Duration,
    /// Of the first member's start.
    pub start: Duration,
    /// Of the proof.
    pub prove: Duration,
}

impl ValidRestore {
    /// Whether it has the finalizer that keeps it until it is undone.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == RESTORE_FINALIZER)
    }

    /// The finalizers of others.
    pub fn other_finalizers(&self) -> Vec<String> {
        self.finalizers.iter().filter(|finalizer| *finalizer != RESTORE_FINALIZER).cloned().collect()
    }

    /// Name of the claim that a volume has while it is not the member's.
    pub fn aside(&self, word: &str, ordinal: i32) -> String {
        format!("{}-{word}-{ordinal}", self.owner.name)
    }
}

/// The object as the owner of what belongs to it.
pub fn owner_of(object: &Restore) -> Owner {
    Owner {
        kind: Kind::Restore,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// Reads an object from the API server.
pub fn validate(object: &Restore) -> Result<ValidRestore, InvalidRestore> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let text = |field: &Option<String>, name| field.clone().ok_or(InvalidRestore::Metadata(name));
    let owner = Owner {
        kind: Kind::Restore,
        namespace: text(&meta.namespace, "namespace")?,
        name: text(&meta.name, "name")?,
        uid: text(&meta.uid, "uid")?,
    };
    let source: SourceUri = spec.into.source.uri.parse()?;
    if matches!(source, SourceUri::Single(_)) {
        return Err(InvalidRestore::Single);
    }
    let annotation = |name: &str| object.annotations().get(name).cloned();
    let duration = |text: &String, name| parse_duration(text).ok_or(InvalidRestore::Duration(name));
    let limits = &spec.deadlines;
    Ok(ValidRestore {
        owner,
        generation: meta.generation.ok_or(InvalidRestore::Metadata("generation"))?,
        resource_version: text(&meta.resource_version, "resourceVersion")?,
        finalizers: object.finalizers().to_vec(),
        is_deleted: meta.deletion_timestamp.is_some(),
        from: from(&spec.from)?,
        source,
        cluster_name: spec.into.source.cluster_name.clone(),
        workload: spec.into.workload.clone(),
        needs_approval: spec.approval == Approval::Required,
        approved: annotation(APPROVE_PLAN_ANNOTATION),
        roll_back: annotation(ROLL_BACK_ANNOTATION),
        rolls_back: spec.on_failure == OnFailure::RollBack,
        keep_original_for: duration(&spec.keep_original_for, "keepOriginalFor")?,
        deadlines: Deadlines {
            wait_for_backup: duration(&limits.wait_for_backup, "deadlines.waitForBackup")?,
            stage: duration(&limits.stage, "deadlines.stage")?,
            stop: duration(&limits.stop, "deadlines.stop")?,
            start: duration(&limits.start, "deadlines.start")?,
            prove: duration(&limits.prove, "deadlines.prove")?,
        },
        pod_template: spec.pod_template.clone().unwrap_or_default(),
    })
}

fn from(from: &RestoreFrom) -> Result<From, InvalidRestore> {
    match (&from.backup, &from.schedule) {
        (Some(backup), None) => Ok(From::Backup(backup.clone())),
        (None, Some(schedule)) => Ok(From::Schedule(schedule.clone(), from.as_of)),
        (None, None) | (Some(_), Some(_)) => Err(InvalidRestore::From),
    }
}
