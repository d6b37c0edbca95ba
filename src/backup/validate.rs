//! From the specification as stored to one that cannot be wrong. Pure.

use super::finalizers::deletion_policy;
use crate::api::{
    BackupType, Cold, DeletionPolicy, GraphBackup, GraphBackupSpec, GraphBackupStatus, Kind, Method, Owner,
    PodTemplate, StoreId, Target, Verification, names, parse_bandwidth, parse_duration,
};
use crate::contract::task::Place;
use crate::discovery::SourceUri;
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::EnvVar;
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

/// Command of the tool in Neo4j 1.3 to 1.8, where the object names none.
pub const DEFAULT_COMMAND: [&str; 6] =
    ["neo4j-backup", "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"];

/// The shell of Neo4j 1.3 to 1.8, which opens the store with the embedded engine and tells how much is in it.
pub const DEFAULT_BOOT_COMMAND: [&str; 5] = ["neo4j-shell", "-path", "{store}", "-c", "dbinfo -g \"Primitive count\""];

/// Why an object cannot be worked on; the schema refuses most of these earlier.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBackup {
    /// Metadata that the API server always sets is missing.
    #[error("the object has no {0}; only objects read from the API server can be backed up")]
    Metadata(&'static str),
    /// `spec.source.uri`.
    #[error("spec.source.uri: {0}")]
    Uri(#[from] crate::discovery::SourceUriError),
    /// `spec.source.clusterName` with `single://`.
    #[error("spec.source.clusterName names a cluster in ZooKeeper: remove it, or use an ha:// URI")]
    ClusterName,
    /// `spec.deadlines`.
    #[error("spec.deadlines.{0} is not a duration above zero such as '2h' or '90s'")]
    Duration(&'static str),
    /// `spec.tool.bandwidthLimit`.
    #[error("spec.tool.bandwidthLimit is not a number of bytes per second, 256Ki or more, such as '20Mi'")]
    Bandwidth,
    /// `spec.method` and what does not go with it.
    #[error("spec.method {0}")]
    Method(&'static str),
    /// `spec.cold.workload.storePath`.
    #[error("spec.cold.workload.storePath is not a relative path without parts that start with '.'")]
    StorePath,
    /// `spec.adopt`.
    #[error("spec.adopt {0}")]
    Adopt(&'static str),
    /// `spec.target.directory`.
    #[error("spec.target.directory is not a relative path without parts that start with '.'")]
    Directory,
}

/// A `GraphBackup` whose every field has been read.
#[derive(Clone, Debug)]
pub struct ValidBackup {
    /// Namespace, name and UID.
    pub owner: Owner,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.resourceVersion`: status writes fail when the object has moved on.
    pub resource_version: String,
    /// Where the database is.
    pub source: SourceUri,
    /// Name of the cluster in ZooKeeper.
    pub cluster_name: Option<String>,
    /// Full, incremental, or what can be done.
    pub backup_type: BackupType,
    /// What makes the point.
    pub work: Work,
    /// Where points go.
    pub target: Target,
    /// Folder name of this object's point; of the adopted one with [`Work::Adopt`].
    pub point: String,
    /// Image of the tool.
    pub image: String,
    /// Command of the tool, with placeholders.
    pub command: Vec<String>,
    /// Command that opens a copy of the store, with `verification: Boot`.
    pub boot_command: Option<Vec<String>>,
    /// The most bytes a second that the tool may take from the member.
    pub bandwidth_limit: Option<NonZeroU64>,
    /// Environment of the tool.
    pub env: Vec<EnvVar>,
    /// Overrides of the pod.
    pub pod_template: PodTemplate,
    /// How the copy is checked.
    pub verification: Verification,
    /// What happens to the files when the object is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Attempts after the first.
    pub retry_limit: u32,
    /// Limit of the whole backup.
    pub run_deadline: Duration,
    /// Limit from Job to running pod.
    pub pod_start_deadline: Duration,
}

/// What makes the point of a backup.
#[derive(Clone, Debug)]
pub enum Work {
    /// Nothing: a point of this store that is on the volume already is adopted.
    Adopt(StoreId),
    /// The database's own tool, while the database serves.
    Online,
    /// The store of a member that is stopped is copied.
    Cold(Cold),
}

impl ValidBackup {
    /// The member that a cold backup stops.
    pub fn cold(&self) -> Option<&Cold> {
        match &self.work {
            Work::Cold(cold) => Some(cold),
            Work::Adopt(_) | Work::Online => None,
        }
    }

    /// Where files of the object may be: its attempts may have found different stores.
    pub fn places(&self, status: &GraphBackupStatus) -> Vec<Place> {
        let found = status.attempts.iter().map(|attempt| attempt.store_id);
        let stores: BTreeSet<_> = found.chain(status.point.iter().map(|point| point.store_id)).collect();
        stores.into_iter().map(|store| self.place(store)).collect()
    }

    /// Where this object's point of the cluster with the given store is published.
    pub fn place(&self, cluster: StoreId) -> Place {
        Place { directory: self.target.directory.clone(), cluster, point: self.point.clone() }
    }
}

/// Reads an object from the API server.
pub fn validate(object: &GraphBackup) -> Result<ValidBackup, InvalidBackup> {
    let meta = &object.metadata;
    let text = |field: &Option<String>, name| field.clone().ok_or(InvalidBackup::Metadata(name));
    let owner = Owner {
        kind: Kind::GraphBackup,
        namespace: text(&meta.namespace, "namespace")?,
        name: text(&meta.name, "name")?,
        uid: text(&meta.uid, "uid")?,
    };
    let created = meta
        .creation_timestamp
        .as_ref()
        .and_then(|time| DateTime::<Utc>::from_timestamp(time.0.as_second(), 0))
        .ok_or(InvalidBackup::Metadata("creationTimestamp"))?;
    let spec = &object.spec;
    let source: SourceUri = spec.source.uri.parse()?;
    if spec.source.cluster_name.is_some() && matches!(source, SourceUri::Single(_)) {
        return Err(InvalidBackup::ClusterName);
    }
    let directory = &spec.target.directory;
    if !directory.is_empty() && !is_relative(directory) {
        return Err(InvalidBackup::Directory);
    }
    let cold = cold(spec, &source)?;
    let adopted = spec.adopt.as_deref().map(|point| parse_adopted(spec, point)).transpose()?;
    let bandwidth = |text: &String| parse_bandwidth(text).ok_or(InvalidBackup::Bandwidth);
    let duration = |text, name| parse_duration(text).ok_or(InvalidBackup::Duration(name));
    Ok(ValidBackup {
        point: adopted
            .as_ref()
            .map_or_else(|| names::point(&owner.name, &owner.uid, created), |(_, point)| point.clone()),
        work: match (adopted, cold) {
            (Some((store, _)), _) => Work::Adopt(store),
            (None, Some(cold)) => Work::Cold(cold),
            (None, None) => Work::Online,
        },
        owner,
        generation: meta.generation.ok_or(InvalidBackup::Metadata("generation"))?,
        resource_version: text(&meta.resource_version, "resourceVersion")?,
        source,
        cluster_name: spec.source.cluster_name.clone(),
        backup_type: spec.backup_type,
        target: spec.target.clone(),
        image: spec.tool.image.clone(),
        command: spec.tool.command.clone().unwrap_or_else(|| DEFAULT_COMMAND.map(str::to_owned).to_vec()),
        boot_command: (spec.verification == Verification::Boot).then(|| {
            spec.tool.boot_command.clone().unwrap_or_else(|| DEFAULT_BOOT_COMMAND.map(str::to_owned).to_vec())
        }),
        bandwidth_limit: spec.tool.bandwidth_limit.as_ref().map(bandwidth).transpose()?,
        env: spec.tool.env.clone(),
        pod_template: spec.tool.pod_template.clone().unwrap_or_default(),
        verification: spec.verification,
        deletion_policy: deletion_policy(object),
        retry_limit: spec.retry.limit,
        run_deadline: duration(&spec.deadlines.run, "run")?,
        pod_start_deadline: duration(&spec.deadlines.pod_start, "podStart")?,
    })
}

fn is_relative(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

/// Store and folder name of the point that is adopted.
fn parse_adopted(spec: &GraphBackupSpec, point: &str) -> Result<(StoreId, String), InvalidBackup> {
    let as_it_is = spec.backup_type == BackupType::Full
        && spec.method == Method::Online
        && spec.verification == Verification::Quick
        && spec.tool.command.is_none()
        && spec.tool.bandwidth_limit.is_none();
    if !as_it_is {
        return Err(InvalidBackup::Adopt(
            "takes a point as it is: leave type, method, verification, tool.command and tool.bandwidthLimit out",
        ));
    }
    let parsed = point.split_once('/').and_then(|(store, folder)| Some((store.parse().ok()?, folder.to_owned())));
    parsed
        .filter(|(_, folder)| is_relative(folder) && !folder.contains('/'))
        .ok_or(InvalidBackup::Adopt("is not '<store id>/<folder>', as in status.directory"))
}

/// Which member a cold backup stops; `None` for an online one.
fn cold(spec: &GraphBackupSpec, source: &SourceUri) -> Result<Option<Cold>, InvalidBackup> {
    let refuse = |problem| Err(InvalidBackup::Method(problem));
    let cold = match (spec.method, &spec.cold) {
        (Method::Online, None) => return Ok(None),
        (Method::Online, Some(_)) => return refuse("Online stops no member: remove spec.cold, or set method: Cold"),
        (Method::Cold, None) => return refuse("Cold requires spec.cold, which names the StatefulSet"),
        (Method::Cold, Some(cold)) => cold,
    };
    if spec.backup_type != BackupType::Full {
        return refuse("Cold always copies the whole store: set type: Full");
    }
    if matches!(source, SourceUri::Single(_)) {
        return refuse("Cold requires an ha:// URI");
    }
    if spec.tool.command.is_some() || spec.tool.bandwidth_limit.is_some() {
        return refuse("Cold does not run the tool: remove spec.tool.command and spec.tool.bandwidthLimit");
    }
    if is_relative(&cold.workload.store_path) { Ok(Some(cold.clone())) } else { Err(InvalidBackup::StorePath) }
}
