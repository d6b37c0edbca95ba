//! The kinds that are served. A controller that needs another one adds a line here.

/// Where the objects of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In namespaces.
    Namespace,
    /// In the cluster.
    Cluster,
}

/// One kind.
#[derive(Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// CamelCase name.
    pub name: &'static str,
    /// Name in URLs.
    pub plural: &'static str,
    /// Where its objects are.
    pub scope: Scope,
    /// Whether status is written through the subresource only.
    pub has_status: bool,
    /// Whether `metadata.generation` counts the changes of the spec.
    pub counts_generations: bool,
    /// Whether the spec may not change, but for `deletionPolicy`.
    pub frozen_spec: bool,
}

const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    name: "",
    plural: "",
    scope: Scope::Namespace,
    has_status: false,
    counts_generations: false,
    frozen_spec: false,
};

/// Every kind that is served.
pub static KINDS: [Kind; 12] = [
    Kind {
        group: "graphbackup.dev",
        version: "v1alpha1",
        name: "GraphBackup",
        plural: "graphbackups",
        has_status: true,
        counts_generations: true,
        frozen_spec: true,
        ..PLAIN
    },
    Kind {
        group: "graphbackup.dev",
        version: "v1alpha1",
        name: "BackupSchedule",
        plural: "backupschedules",
        has_status: true,
        counts_generations: true,
        ..PLAIN
    },
    Kind {
        group: "graphbackup.dev",
        version: "v1alpha1",
        name: "Restore",
        plural: "restores",
        has_status: true,
        counts_generations: true,
        frozen_spec: true,
        ..PLAIN
    },
    Kind { group: "batch", name: "Job", plural: "jobs", has_status: true, counts_generations: true, ..PLAIN },
    Kind {
        group: "apps",
        name: "StatefulSet",
        plural: "statefulsets",
        has_status: true,
        counts_generations: true,
        ..PLAIN
    },
    Kind { name: "Namespace", plural: "namespaces", scope: Scope::Cluster, ..PLAIN },
    Kind { name: "Pod", plural: "pods", has_status: true, ..PLAIN },
    Kind { name: "PersistentVolumeClaim", plural: "persistentvolumeclaims", has_status: true, ..PLAIN },
    Kind { name: "PersistentVolume", plural: "persistentvolumes", scope: Scope::Cluster, has_status: true, ..PLAIN },
    Kind { group: "storage.k8s.io", name: "StorageClass", plural: "storageclasses", scope: Scope::Cluster, ..PLAIN },
    Kind { group: "coordination.k8s.io", name: "Lease", plural: "leases", ..PLAIN },
    Kind { group: "events.k8s.io", name: "Event", plural: "events", ..PLAIN },
];

impl Kind {
    /// By CamelCase name.
    pub fn named(name: &str) -> &'static Self {
        KINDS.iter().find(|kind| kind.name == name).unwrap_or_else(|| panic!("kind {name} is not modelled"))
    }

    /// By group, version and plural, as a URL has them.
    pub fn served(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| (kind.group, kind.version, kind.plural) == (group, version, plural))
    }

    /// As objects carry it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}
