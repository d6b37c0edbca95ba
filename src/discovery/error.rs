//! Every way in which a look-up can end without a master.

use crate::api::{Endpoint, Reason};

/// Why the database was not found. Each message says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// No ZooKeeper server answered in time, or none that belongs to a quorum.
    #[error(
        "no quorum of the ZooKeeper servers {servers} answered: {detail}; check that most of them run and that their \
         client ports can be reached from here"
    )]
    EnsembleUnavailable {
        /// The servers of the source URI, joined by commas.
        servers: String,
        /// What the last attempt met.
        detail: String,
    },
    /// The ensemble has no znode `/<cluster name>`.
    #[error(
        "the ZooKeeper servers {servers} know no cluster {cluster:?}: {detail}; set clusterName to the members' \
         ha.cluster_name, or start the cluster once"
    )]
    ClusterUnknown {
        /// The servers of the source URI, joined by commas.
        servers: String,
        /// The cluster name that was looked for.
        cluster: String,
        /// What was found instead.
        detail: String,
    },
    /// No live member claims to be master.
    #[error("cluster {cluster:?} has no master: {detail}; check that its members run and have joined")]
    NoMaster {
        /// The cluster name that was looked for.
        cluster: String,
        /// What ZooKeeper says.
        detail: String,
    },
    /// The members disagree on who is master.
    #[error(
        "cluster {cluster:?} is electing its master: {detail}; this is usually temporary; if it persists, check the \
         members' messages.log"
    )]
    ElectionRunning {
        /// The cluster name that was looked for.
        cluster: String,
        /// What ZooKeeper says.
        detail: String,
    },
    /// The master registered without an address that a backup could use.
    #[error(
        "the master of cluster {cluster:?} publishes no usable address: {detail}; set its ha.server to host:port, \
             with a name or IPv4 address that the backup can reach"
    )]
    MemberWithoutAddress {
        /// The cluster name that was looked for.
        cluster: String,
        /// The znode and what it says.
        detail: String,
    },
    /// The master lost its registration and still takes part in elections.
    ///
    /// Seen when a ZooKeeper server stood still for 20 s: the members' `ha-servers/<id>` were gone for good, while the
    /// database served and wrote.
    #[error(
        "member {member}, the master of cluster {cluster:?}, has lost its registration: {detail}; if it is not \
         starting or stopping, it lost the registration while ZooKeeper was unavailable, and only a restart of that \
         member brings it back"
    )]
    RegistrationLost {
        /// The cluster name that was looked for.
        cluster: String,
        /// Member id (`ha.server_id`).
        member: i32,
        /// The znodes, and which of them is missing.
        detail: String,
    },
    /// An ensemble of Neo4j 1.3 or 1.4 holds several clusters.
    #[error(
        "the ZooKeeper servers {servers} hold several clusters, {roots}, but this version of the database allows one per \
         ensemble; give each cluster its own ensemble, or remove the root of the cluster that is gone"
    )]
    MultipleRoots {
        /// The servers of the source URI, joined by commas.
        servers: String,
        /// The root znodes, joined by commas.
        roots: String,
    },
    /// A znode holds bytes that no known version of the database writes.
    #[error(
        "{problem}; no Neo4j from 1.3 to 1.8 writes this: check that the source names this database's ensemble, and what \
         else writes to it"
    )]
    ZnodeUnreadable {
        /// Which znode, how many bytes, what is wrong with them.
        problem: String,
    },
    /// The backup port does not answer.
    #[error(
        "the backup port of {member} does not answer: {detail}; check that the member runs with online_backup_enabled=true \
         and that the port can be reached from here"
    )]
    MemberUnreachable {
        /// The member that was asked.
        member: Endpoint,
        /// What the attempt met.
        detail: String,
    },
    /// The member answers on its backup port, with an exception.
    #[error("{member} cannot say which store it serves: {detail}; check its messages.log")]
    MemberFailed {
        /// The member that was asked.
        member: Endpoint,
        /// The member's words.
        detail: String,
    },
    /// What answers is not a backup server of a known version.
    #[error(
        "{member} answers but is not a backup server of Neo4j 1.5.1 to 1.9: {detail}; name a member's backup port \
         (online_backup_port, default 6362) in the source"
    )]
    NotABackupServer {
        /// The member that was asked.
        member: Endpoint,
        /// What is wrong with the answer.
        detail: String,
    },
}

impl DiscoveryError {
    /// The word for conditions, Events and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::EnsembleUnavailable { .. } => Reason::EnsembleUnavailable,
            Self::ClusterUnknown { .. } => Reason::ClusterUnknown,
            Self::NoMaster { .. } => Reason::NoMaster,
            Self::ElectionRunning { .. } => Reason::ElectionRunning,
            Self::MemberWithoutAddress { .. } | Self::RegistrationLost { .. } => Reason::MemberWithoutAddress,
            Self::MultipleRoots { .. } => Reason::MultipleRoots,
            Self::ZnodeUnreadable { .. } => Reason::ZnodeUnreadable,
            Self::MemberUnreachable { .. } => Reason::MemberUnreachable,
            Self::MemberFailed { .. } => Reason::MemberFailed,
            Self::NotABackupServer { .. } => Reason::NotABackupServer,
        }
    }
}
