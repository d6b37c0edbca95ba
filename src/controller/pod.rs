//! The Jobs of the operator and their pods: restricted, without an API token, with the agent in one container. Pure.

use crate::api::names::{MANAGED_BY, MANAGED_BY_LABEL, TASK_LABEL};
use crate::api::{Owner, PodTemplate};
use crate::contract::task::{POD_UID_VARIABLE, RUN_VARIABLE, Task};
use crate::contract::verdict::MESSAGE_PATH;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, EphemeralVolumeSource, ObjectFieldSelector,
    PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, PersistentVolumeClaimVolumeSource, PodAffinityTerm,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume,
    VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// Name of the container whose termination message is the verdict.
pub const AGENT_CONTAINER: &str = "tool";
/// User, group and fsGroup of Job pods that name none.
const DEFAULT_ID: i64 = 65532;
/// How long an ended Job stays for people who want its log, seconds.
const TTL_SECONDS: i32 = 3600;
/// The agent needs this long to stop the tool and to report after it was told to end, seconds.
const TERMINATION_GRACE_SECONDS: i64 = 30;

/// What tells one Job from another.
pub struct JobIdentity<'a> {
    /// The object that the Job works for, and that owns it.
    pub owner: &'a Owner,
    /// Name of the Job.
    pub name: &'a str,
    /// What its agent is asked to do.
    pub task: Task,
    /// Further labels of the Job and its pod.
    pub labels: BTreeMap<String, String>,
}

/// A Job that runs one pod once, for at most `seconds`.
pub fn job(identity: JobIdentity<'_>, template: &PodTemplate, seconds: i64, pod: PodSpec) -> Job {
    let JobIdentity { owner, name, task, mut labels } = identity;
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(TASK_LABEL.to_owned(), task.word().to_owned());
    let mut pod_labels = template.labels.clone();
    pod_labels.extend(labels.clone());
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(owner.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(seconds),
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".to_owned()),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(template.annotations.clone()).filter(|a| !a.is_empty()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn owner_reference(owner: &Owner) -> OwnerReference {
    OwnerReference {
        api_version: owner.kind.api_version().to_owned(),
        kind: owner.kind.as_str().to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// A pod that runs `main` after `init`, with what the user wants of it.
pub fn pod_spec(wanted: &PodTemplate, init: Vec<Container>, main: Container, volumes: Vec<Volume>) -> PodSpec {
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        service_account_name: wanted.service_account_name.clone(),
        image_pull_secrets: Some(wanted.image_pull_secrets.clone()).filter(|secrets| !secrets.is_empty()),
        priority_class_name: wanted.priority_class_name.clone(),
        node_selector: Some(wanted.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(wanted.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        affinity: wanted.affinity.clone(),
        security_context: Some(pod_security(wanted.security_context.clone().unwrap_or_default())),
        init_containers: Some(init).filter(|containers| !containers.is_empty()),
        containers: vec![main],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// The group that owns what a pod with this template writes to a volume.
pub fn volume_group(wanted: &PodTemplate) -> i64 {
    let security = pod_security(wanted.security_context.clone().unwrap_or_default());
    security.fs_group.unwrap_or(DEFAULT_ID)
}

/// Each field that the user sets stands; the others follow PodSecurity `restricted`.
fn pod_security(wanted: PodSecurityContext) -> PodSecurityContext {
    let user = wanted.run_as_user.unwrap_or(DEFAULT_ID);
    let group = wanted.run_as_group.unwrap_or(user);
    PodSecurityContext {
        run_as_non_root: wanted.run_as_non_root.or(Some(true)),
        run_as_user: Some(user),
        run_as_group: Some(group),
        fs_group: wanted.fs_group.or(Some(group)),
        fs_group_change_policy: wanted.fs_group_change_policy.or(Some("OnRootMismatch".to_owned())),
        seccomp_profile: wanted
            .seccomp_profile
            .or(Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None })),
        ..wanted
    }
}

/// Puts a pod on the node of another one: as long as that runs, its volume may be mounted there only.
pub fn on_node_of(pod: &mut PodSpec, other: &str) {
    let label = ("statefulset.kubernetes.io/pod-name".to_owned(), other.to_owned());
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some([label].into()), match_expressions: None }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let affinity = pod.affinity.get_or_insert_default().pod_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
}

/// The container of the agent. `binary` is where its image has it, `run` what it is asked as JSON.
pub fn agent_container(task: Task, binary: &str, run: &str) -> Container {
    Container {
        name: AGENT_CONTAINER.to_owned(),
        command: Some(vec![binary.to_owned(), "agent".to_owned(), task.word().to_owned()]),
        env: Some(agent_env(run)),
        security_context: Some(restricted()),
        termination_message_path: Some(MESSAGE_PATH.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

/// The init container that copies the agent to where the image of the tool finds it.
pub fn install_container(operator_image: &str, agent_mount: VolumeMount) -> Container {
    Container {
        name: "agent".to_owned(),
        image: Some(operator_image.to_owned()),
        args: Some(vec!["agent".to_owned(), "install".to_owned()]),
        resources: Some(agent_resources()),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![agent_mount]),
        ..Container::default()
    }
}

fn agent_env(run: &str) -> Vec<EnvVar> {
    let pod_uid = EnvVarSource {
        field_ref: Some(ObjectFieldSelector { field_path: "metadata.uid".to_owned(), api_version: None }),
        ..EnvVarSource::default()
    };
    vec![
        EnvVar { name: RUN_VARIABLE.to_owned(), value: Some(escape(run)), value_from: None },
        EnvVar { name: POD_UID_VARIABLE.to_owned(), value: None, value_from: Some(pod_uid) },
    ]
}

/// Kubernetes expands `$(NAME)` in values; `$$` stands for one dollar.
fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// Resources of a container that runs the operator's own image.
pub fn agent_resources() -> ResourceRequirements {
    let amounts = |cpu: &str, memory: &str| {
        Some([("cpu", cpu), ("memory", memory)].map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into())
    };
    ResourceRequirements { requests: amounts("10m", "16Mi"), limits: amounts("1", "128Mi"), claims: None }
}

/// A claim as a volume of the pod. The volume of a member that is mounted read-only keeps its files' groups and modes.
pub fn claim_volume(name: &str, claim: &str, read_only: bool) -> Volume {
    let source = PersistentVolumeClaimVolumeSource {
        claim_name: claim.to_owned(),
        read_only: Some(read_only).filter(|only| *only),
    };
    Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
}

/// An empty folder that lives as long as the pod.
pub fn scratch_volume(name: &str, limit: Option<&str>) -> Volume {
    let source = EmptyDirVolumeSource { medium: None, size_limit: limit.map(|size| Quantity(size.to_owned())) };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

/// An empty volume of a StorageClass that lives as long as the pod.
pub fn scratch_claim(name: &str, size: &str, storage_class: Option<&str>) -> Volume {
    let requests = Some([("storage".to_owned(), Quantity(size.to_owned()))].into());
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        resources: Some(VolumeResourceRequirements { requests, limits: None }),
        storage_class_name: storage_class.map(str::to_owned),
        ..PersistentVolumeClaimSpec::default()
    };
    let source =
        EphemeralVolumeSource { volume_claim_template: Some(PersistentVolumeClaimTemplate { metadata: None, spec }) };
    Volume { name: name.to_owned(), ephemeral: Some(source), ..Volume::default() }
}

/// Where a container sees a volume.
pub fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only).filter(|only| *only),
        ..VolumeMount::default()
    }
}
