//! The Jobs and claims of a restore. Pure.

use super::validate::ValidRestore;
use super::world::VolumeSeen;
use crate::api::names::{MANAGED_BY, MANAGED_BY_LABEL, restore_job};
use crate::api::names::{
    ORIGINAL_CLAIM_ANNOTATION, RESTORE_LABEL, RESTORE_UID_ANNOTATION, RESTORE_UID_LABEL, VOLUME_ROLE_ANNOTATION,
};
use crate::api::{ClaimRecord, MemberRecord, PodTemplate, RestorePoint, SurveyRecord, VolumeRole};
use crate::contract::task::{
    BINARY_NAME, CarryRun, Place, SOURCE_MOUNT, STAGED_MOUNT, StagePoint, StageRun, SurveyRun, TARGET_MOUNT, Task,
};
use crate::controller::pod::{
    JobIdentity, agent_container, agent_resources, claim_volume, job, mount, on_node_of, pod_spec,
};
use crate::members::workload::SetSeen;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext,
    SecurityContext, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;
use std::time::Duration;

/// Limit of the Job that reads a member's volume.
const SURVEY_LIMIT: Duration = Duration::from_mins(30);
/// The agent ends by itself before its Job is ended.
const MARGIN: Duration = Duration::from_mins(1);

/// What the Jobs of one member are made of.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// The restore.
    pub restore: &'a ValidRestore,
    /// The StatefulSet; its pods' scheduling is followed.
    pub set: Option<&'a SetSeen>,
    /// The member.
    pub member: &'a MemberRecord,
    /// Whether its pod is there.
    pub has_pod: bool,
    /// Its original volume.
    pub original: Option<&'a VolumeSeen>,
    /// Image that holds the agent.
    pub operator_image: &'a str,
}

/// A claim for a volume of a member, or for a new volume where `volume` is none. It is like the member's own in all
/// that the volume depends on. The member's labels are only on the claim that has the member's name: whatever selects
/// members by them must not find the others.
pub fn claim(
    restore: &ValidRestore,
    member: &MemberRecord,
    role: VolumeRole,
    name: &str,
    volume: Option<&str>,
) -> PersistentVolumeClaim {
    let own = &member.claim;
    let is_members = own.name == name;
    let mut labels = if is_members { own.labels.clone() } else { BTreeMap::new() };
    let mut annotations = if is_members { own.annotations.clone() } else { BTreeMap::new() };
    if !is_members {
        labels.extend(ours(restore));
    }
    for (key, value) in [
        (RESTORE_UID_ANNOTATION, restore.owner.uid.as_str()),
        (VOLUME_ROLE_ANNOTATION, role.word()),
        (ORIGINAL_CLAIM_ANNOTATION, own.name.as_str()),
    ] {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(restore.owner.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(own.access_modes.clone()),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size(own, volume.is_some())))].into()),
                limits: None,
            }),
            storage_class_name: own.storage_class_name.clone(),
            volume_mode: own.volume_mode.clone(),
            volume_attributes_class_name: own.volume_attributes_class_name.clone(),
            volume_name: volume.map(str::to_owned),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// What a claim requests: as much as the member's own, and for a new volume at least the capacity of the live one,
/// which may have grown.
fn size(own: &ClaimRecord, has_volume: bool) -> String {
    if has_volume || own.capacity.is_empty() { own.storage.clone() } else { own.capacity.clone() }
}

fn ours(restore: &ValidRestore) -> BTreeMap<String, String> {
    let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    [
        text((MANAGED_BY_LABEL, MANAGED_BY)),
        text((RESTORE_LABEL, &restore.owner.name)),
        text((RESTORE_UID_LABEL, &restore.owner.uid)),
    ]
    .into()
}

/// Name of a member's Job.
pub fn job_name(restore: &ValidRestore, task: Task, ordinal: i32) -> String {
    let letter = match task {
        Task::Survey => 'v',
        Task::Carry => 'c',
        _ => 's',
    };
    restore_job(&restore.owner.name, &restore.owner.uid, letter, ordinal)
}

impl Made<'_> {
    /// The Job that reads what is on the member's own volume.
    pub fn survey(&self) -> Result<Job, serde_json::Error> {
        let run = SurveyRun {
            store_path: self.restore.workload.store_path.clone(),
            deadline_seconds: SURVEY_LIMIT.as_secs(),
        };
        let volumes = vec![claim_volume("source", &self.member.claim.name, true)];
        let mounts = vec![mount("source", SOURCE_MOUNT, true)];
        let mut made = self.job(Task::Survey, &serde_json::to_string(&run)?, SURVEY_LIMIT, (volumes, mounts));
        self.beside_the_member(&mut made);
        Ok(made)
    }

    /// The Job that writes the member's new volume: the point for the first member, nothing for the others.
    pub fn stage(&self, point: Option<&RestorePoint>) -> Result<Job, serde_json::Error> {
        let limit = self.restore.deadlines.stage;
        let (folder_mode, file_mode) = modes(self.member.survey.as_ref());
        let run = StageRun {
            store_path: self.restore.workload.store_path.clone(),
            point: point.map(|point| StagePoint {
                place: Place {
                    directory: point.directory.clone(),
                    cluster: point.store_id,
                    point: point.folder.clone(),
                },
                owner_uid: Some(point.owner_uid.clone()),
                manifest_digest: Some(point.manifest_digest.clone()),
            }),
            folder_mode,
            file_mode,
            deadline_seconds: limit.as_secs(),
        };
        let staged = self.restore.aside("staged", self.member.ordinal);
        let mut volumes = vec![claim_volume("staged", &staged, false)];
        let mut mounts = vec![mount("staged", STAGED_MOUNT, false)];
        if let Some(point) = point {
            volumes.push(claim_volume("target", &point.claim_name, true));
            mounts.push(mount("target", TARGET_MOUNT, true));
        }
        let mut made = self.job(Task::Stage, &serde_json::to_string(&run)?, limit, (volumes, mounts));
        if let Some(point) = point {
            read_as(&mut made, point.group);
        }
        Ok(made)
    }

    /// The Job that copies what lies outside the store, while the member is stopped.
    pub fn carry(&self) -> Result<Job, serde_json::Error> {
        let limit = self.restore.deadlines.stop;
        let run = CarryRun { store_path: self.restore.workload.store_path.clone(), deadline_seconds: limit.as_secs() };
        let staged = self.restore.aside("staged", self.member.ordinal);
        let volumes =
            vec![claim_volume("source", &self.member.claim.name, true), claim_volume("staged", &staged, false)];
        let mounts = vec![mount("source", SOURCE_MOUNT, true), mount("staged", STAGED_MOUNT, false)];
        Ok(self.job(Task::Carry, &serde_json::to_string(&run)?, limit, (volumes, mounts)))
    }

    fn job(&self, task: Task, run: &str, limit: Duration, (volumes, mounts): (Vec<Volume>, Vec<VolumeMount>)) -> Job {
        let template = self.template();
        let container = Container {
            image: Some(self.operator_image.to_owned()),
            resources: Some(template.resources.clone().unwrap_or_else(agent_resources)),
            volume_mounts: Some(mounts),
            ..agent_container(task, &format!("/{BINARY_NAME}"), run)
        };
        let pod = pod_spec(&template, Vec::new(), container, volumes);
        let name = job_name(self.restore, task, self.member.ordinal);
        let labels = [(RESTORE_LABEL, &self.restore.owner.name), (RESTORE_UID_LABEL, &self.restore.owner.uid)];
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let identity = JobIdentity { owner: &self.restore.owner, name: &name, task, labels };
        job(identity, &template, seconds(limit + MARGIN), pod)
    }

    /// The pod's template: what the user wants of it, else what the member has; the ids are those of the store.
    fn template(&self) -> PodTemplate {
        let mut template = self.restore.pod_template.clone();
        let member = self.set.and_then(|set| set.object.spec.as_ref()?.template.spec.clone()).unwrap_or_default();
        if template.tolerations.is_empty() {
            template.tolerations = member.tolerations.unwrap_or_default();
        }
        let wanted = template.security_context.take().unwrap_or_default();
        let own = member.containers.first().and_then(|container| container.security_context.clone());
        let ids = self.ids(member.security_context, own);
        template.security_context = Some(PodSecurityContext {
            run_as_user: wanted.run_as_user.or(ids.run_as_user),
            run_as_group: wanted.run_as_group.or(ids.run_as_group),
            fs_group: wanted.fs_group.or(ids.fs_group),
            supplemental_groups: wanted.supplemental_groups.clone().or(ids.supplemental_groups),
            ..wanted
        });
        let affinity = template.affinity.take().unwrap_or_default();
        template.affinity = Some(self.where_the_volume_is(affinity));
        template
    }

    /// User and groups that read and write as the member does.
    fn ids(&self, member: Option<PodSecurityContext>, container: Option<SecurityContext>) -> PodSecurityContext {
        let (of_member, own) = (member.unwrap_or_default(), container.unwrap_or_default());
        let survey = self.member.survey.as_ref();
        let (user, group) = (survey.map(|survey| survey.uid), survey.map(|survey| survey.gid));
        PodSecurityContext {
            run_as_user: user.or(own.run_as_user).or(of_member.run_as_user),
            run_as_group: group.or(own.run_as_group).or(of_member.run_as_group),
            fs_group: of_member.fs_group.or(group),
            supplemental_groups: of_member.supplemental_groups,
            ..PodSecurityContext::default()
        }
    }

    /// Requires the nodes that can reach the member's own volume: the new one takes its place there.
    fn where_the_volume_is(&self, mut affinity: Affinity) -> Affinity {
        let spec = self.original.and_then(|volume| volume.object.spec.as_ref());
        let required = spec.and_then(|spec| spec.node_affinity.as_ref()?.required.clone());
        if let Some(required) = required {
            let node: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
            node.required_during_scheduling_ignored_during_execution = Some(required);
        }
        affinity
    }

    /// As long as the member runs, its volume may be mounted on its node only.
    fn beside_the_member(&self, job: &mut Job) {
        let pod = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
        if let Some(pod) = pod.filter(|_| self.has_pod) {
            on_node_of(pod, &self.member.pod);
        }
    }
}

/// Lets a Job's pod read what belongs to a group. A volume that is mounted read-only keeps its files' groups.
fn read_as(job: &mut Job, group: i64) {
    let pod = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    if let Some(security) = pod.and_then(|pod| pod.security_context.as_mut()) {
        let groups = security.supplemental_groups.get_or_insert_default();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
}

fn modes(survey: Option<&SurveyRecord>) -> (u32, u32) {
    let mode = |mode: i32, default: u32| u32::try_from(mode).ok().filter(|mode| *mode != 0).unwrap_or(default);
    survey.map_or((0o775, 0o664), |survey| (mode(survey.folder_mode, 0o775), mode(survey.file_mode, 0o664)))
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
