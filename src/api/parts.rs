//! The parts that the kinds share: source, target, tool, retry, deadlines.

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSecurityContext, ResourceRequirements, Toleration,
};
use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One address of a source URI: a name according to RFC 1123 or an IPv4 address, and a port from 1 to 65535.
const ADDRESS: &str = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?";

fn uri_rule() -> Rule {
    Rule::new(format!("self.matches('^(single://{ADDRESS}|ha://{ADDRESS}(,{ADDRESS})*)$')")).message(
        "write 'single://host[:port]' (one member's backup port, default 6362) or 'ha://host[:port]{,host[:port]}' \
         (the ZooKeeper servers, default port 2181); hosts have letters, digits, '-' and '.' only",
    )
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.clusterName) || self.uri.startsWith('ha://')")
    .message("clusterName names a cluster in ZooKeeper: remove it, or use an ha:// URI"))]
pub struct Source {
    /// Source URI as the Neo4j 1.x manual writes it. `ha://host[:port]{,host[:port]}` names the ZooKeeper servers
    /// (default port 2181) through which the master is found. `single://host[:port]` names one member's backup port
    /// (default 6362).
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = uri_rule())]
    pub uri: String,
    /// Name of the cluster in ZooKeeper (the members' `ha.cluster_name`). With `ha://` only. Default: `neo4j.ha`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!self.contains('/') && self.trim() == self")
        .message("clusterName is the value of ha.cluster_name: one znode name, without '/' and without leading or trailing spaces"))]
    pub cluster_name: Option<String>,
}

/// Where to write recovery points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Name of a PersistentVolumeClaim in the object's namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("claimName is the name of a PersistentVolumeClaim: lower-case letters, digits, '-' and '.'"))]
    pub claim_name: String,
    /// Folder on the claim below which the points are written, relative to the claim's root. Default: the root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*)?$')")
        .message("directory is a relative path such as 'team/graph': letters, digits, '.', '_' and '-', no part that starts with '.'"))]
    pub directory: String,
}

/// The workload that runs the members of the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Name of the StatefulSet in the object's namespace.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("statefulSet is the name of a StatefulSet: lower-case letters, digits and '-'"))]
    pub stateful_set: String,
    /// Name of the StatefulSet's volumeClaimTemplate whose claims hold the members' stores.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("volumeClaimTemplate is the name of one of the StatefulSet's templates: lower-case letters, digits and '-'"))]
    pub volume_claim_template: String,
    /// The store's folder on such a volume, relative to the volume's root.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$')")
        .message("storePath is a relative path such as 'graph.db': letters, digits, '.', '_' and '-', no part that starts with '.'"))]
    pub store_path: String,
}

/// The database's own backup tool, and how its pod is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Image that contains the tool; preferably the image that the database runs.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[^\\\\s]+$')").message("image is an image reference without spaces"))]
    pub image: String,
    /// Command line of the tool. Placeholders: `{mode}` (`full` or `incremental`), `{host}` and `{port}` (the member
    /// that was found), `{target}` (the folder to write to), `{clusterName}`. Default, for Neo4j 1.3 to 1.8:
    /// `["neo4j-backup", "-{mode}", "-from", "single://{host}:{port}", "-to", "{target}"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new("self.exists(word, word.contains('{target}'))")
        .message("command must contain {target}, the folder that the tool writes its copy to"))]
    #[x_kube(validation = Rule::new("self.exists(word, word.contains('{host}')) && self.exists(word, word.contains('{port}'))")
        .message("command must contain {host} and {port}: a backup is pinned to the member that the operator found"))]
    pub command: Option<Vec<String>>,
    /// Command line that opens a copy of the store with the real engine, for `verification: Boot`. Exit code 0 means
    /// success. Placeholder: `{store}` (a scratch copy, which may be written to). Default, for the shell of Neo4j 1.3
    /// to 1.8: `["neo4j-shell", "-path", "{store}", "-c", "dbinfo -g \"Primitive count\""]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new("self.exists(word, word.contains('{store}'))")
        .message("bootCommand must contain {store}, the folder of the copy that it opens"))]
    pub boot_command: Option<Vec<String>>,
    /// The most bytes per second that the tool may read from the member, at least `256Ki`, such as `20Mi` or `50M`. The
    /// tool's connection then goes through the operator's agent in the same pod. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,9}(k|M|G|Ki|Mi|Gi)?$') && quantity(self).compareTo(quantity('256Ki')) >= 0")
        .message("bandwidthLimit is a number of bytes per second, 256Ki or more, such as '20Mi'"))]
    pub bandwidth_limit: Option<String>,
    /// Environment of the tool's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// Overrides for the pod that runs the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// Overrides for a Job's pod. What is not set here follows the PodSecurity standard `restricted`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Requests and limits of the tool's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Node labels that the pod requires.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Scheduling constraints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Additional labels of the pod. The operator's own labels win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Service account of the pod. No API token is mounted, whichever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Secrets for pulling the images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Priority class of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Security context of the pod: user, groups, and the group that owns the volume. Each field that is set replaces
    /// its default. The defaults are user, group and fsGroup 65532, non-root, and seccomp `RuntimeDefault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
}

/// How often a failed attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts after the first one, if the reason is one that may pass (a failover, a lost pod).
    #[serde(default = "Retry::default_limit")]
    #[schemars(with = "i32", range(min = 0, max = 10))]
    pub limit: u32,
}

impl Retry {
    const fn default_limit() -> u32 {
        3
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: Self::default_limit() }
    }
}

pub(super) fn duration_rule(name: &str, example: &str) -> Rule {
    Rule::new("self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self.matches('[1-9]')")
        .message(format!("{name} is a duration above zero in hours, minutes and seconds, such as '{example}'").as_str())
}

/// Time limits. Durations are written as `2h`, `1h30m` or `90s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deadlines {
    /// Limit for the whole backup, from the first time the operator saw it, including all waiting and all attempts.
    #[serde(default = "Deadlines::default_run")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.run", "2h"))]
    pub run: String,
    /// Limit from the creation of a Job to the start of its containers (scheduling, volume, image).
    #[serde(default = "Deadlines::default_pod_start")]
    #[schemars(length(min = 2, max = 21))]
    #[x_kube(validation = duration_rule("deadlines.podStart", "5m"))]
    pub pod_start: String,
}

impl Deadlines {
    fn default_run() -> String {
        "2h".to_owned()
    }

    fn default_pod_start() -> String {
        "5m".to_owned()
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { run: Self::default_run(), pod_start: Self::default_pod_start() }
    }
}
