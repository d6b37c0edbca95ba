//! Finding the master in what an ensemble says: reading and judging, no connection of its own.

use super::{
    ClusterView, DiscoveryError, Located, Registered,
    ensemble::{Ensemble, EnsembleError, Znode},
    znode::{self, Pointer, ZnodeError},
};
use crate::api::{Endpoint, Incarnation, Mastership, MastershipToken, StoreId};
use futures::try_join;

/// The database's own default of `ha.cluster_name`.
pub const DEFAULT_CLUSTER_NAME: &str = "neo4j.ha";

/// How often the token is read when it changes while it is read, or shows a member in the middle of joining.
const READINGS: usize = 2;

/// How many top-level znodes are looked into to say which clusters there are, when the one asked for is missing.
const NEIGHBOURS: usize = 16;

/// Finds the master of a cluster and its mastership token, all in one session.
///
/// The master is the member that `master-rebound` names, if it is registered and takes part in elections: each member
/// that starts as master writes its id there (Neo4j 1.2 to 1.8). The election itself cannot be recomputed from outside
/// without writing: since 1.8 members publish their transaction only while `flush-requested` asks for it.
pub async fn master(
    ensemble: &dyn Ensemble,
    servers: &str,
    cluster_name: Option<&str>,
) -> Result<Located, DiscoveryError> {
    let look_up = LookUp::new(ensemble, servers, cluster_name);
    ensemble.sync().await.map_err(|error| look_up.failed(error))?;
    let mut reading = look_up.read().await;
    for _ in 1..READINGS {
        if matches!(reading, Err(Halt::Unsettled(_))) {
            reading = look_up.read().await;
        }
    }
    reading.map_err(|(Halt::Final(error) | Halt::Unsettled(error))| error)
}

/// The members that are registered with a cluster right now, by id. One whose znode cannot be read is an error.
pub async fn members(
    ensemble: &dyn Ensemble,
    servers: &str,
    cluster_name: Option<&str>,
) -> Result<Vec<Registered>, DiscoveryError> {
    let look_up = LookUp::new(ensemble, servers, cluster_name);
    ensemble.sync().await.map_err(|error| look_up.failed(error))?;
    let cluster = look_up.cluster().await?;
    look_up.registered(&cluster.store_id.root_path()).await
}

/// The cluster, whether it has a master or not. A member whose znode cannot be read is an error.
pub async fn cluster(
    ensemble: &dyn Ensemble,
    servers: &str,
    cluster_name: Option<&str>,
) -> Result<ClusterView, DiscoveryError> {
    let look_up = LookUp::new(ensemble, servers, cluster_name);
    ensemble.sync().await.map_err(|error| look_up.failed(error))?;
    let store_id = look_up.cluster().await?.store_id;
    let root = store_id.root_path();
    let members = look_up.registered(&root).await?;
    let rebound = look_up.znode(&format!("{root}/master-rebound")).await?.map(|rebound| rebound.modified);
    Ok(ClusterView { store_id, members, rebound })
}

/// Why one reading gave no token.
enum Halt {
    /// Reading again at once gives the same.
    Final(DiscoveryError),
    /// Something changed while it was read, or a member joins just now.
    Unsettled(DiscoveryError),
}

impl From<DiscoveryError> for Halt {
    fn from(error: DiscoveryError) -> Self {
        Self::Final(error)
    }
}

/// What a look-up asks whom.
struct LookUp<'a> {
    ensemble: &'a dyn Ensemble,
    servers: &'a str,
    cluster: &'a str,
    named: bool,
}

/// The znode that leads to a cluster's root.
struct Cluster {
    path: String,
    store_id: StoreId,
    modified: i64,
    /// Milliseconds since 1970.
    modified_at: i64,
}

impl Cluster {
    fn at(path: String, pointer: &Pointer, found: &Znode) -> Self {
        Self { path, store_id: pointer.store_id, modified: found.modified, modified_at: found.modified_at }
    }
}

/// A member's claim to be master: it declared itself, is registered, and takes part in elections.
struct Claim {
    id: i32,
    rebound_path: String,
    rebound: Znode,
    server_path: String,
    server: Znode,
    election_path: String,
}

impl<'a> LookUp<'a> {
    fn new(ensemble: &'a dyn Ensemble, servers: &'a str, cluster_name: Option<&'a str>) -> Self {
        let cluster = cluster_name.unwrap_or(DEFAULT_CLUSTER_NAME);
        Self { ensemble, servers, cluster, named: cluster_name.is_some() }
    }
}

impl LookUp<'_> {
    /// One reading of everything.
    ///
    /// Within a session every answer is at least as new as the one before. The election node is read between two
    /// equal readings of all other parts, so at that moment all parts were as the token says.
    async fn read(&self) -> Result<Located, Halt> {
        let cluster = self.cluster().await?;
        let root = cluster.store_id.root_path();
        let claim = self.claim(&root).await?;
        let member = znode::member(&claim.server_path, &claim.server.data).map_err(unreadable)?;
        let endpoint = member
            .endpoint()
            .ok_or_else(|| self.without_address(format!("{} says {:?}", claim.server_path, member.address)))?;
        let Some(election) = self.znode(&claim.election_path).await? else {
            return Err(Halt::Unsettled(self.election(format!("{} vanished while it was read", claim.election_path))));
        };
        znode::published(&claim.election_path, &election.data).map_err(unreadable)?;
        self.uncontested(&root, &claim).await?;
        let again =
            try_join!(self.znode(&cluster.path), self.znode(&claim.rebound_path), self.znode(&claim.server_path))?;
        let written = |pointer: Znode| (pointer.modified, pointer.modified_at);
        let unmoved = again.0.map(written) == Some((cluster.modified, cluster.modified_at))
            && again.1.as_ref() == Some(&claim.rebound)
            && again.2.as_ref() == Some(&claim.server);
        if !unmoved {
            return Err(Halt::Unsettled(self.election("the master changed while it was read".to_owned())));
        }
        let token = token(&cluster, &claim, &election, endpoint);
        Ok(Located { store_id: cluster.store_id, mastership: Mastership::Master(token) })
    }

    /// The members that are registered below a root, by id.
    async fn registered(&self, root: &str) -> Result<Vec<Registered>, DiscoveryError> {
        let folder = format!("{root}/ha-servers");
        let mut members = Vec::new();
        for name in self.children(&folder).await?.unwrap_or_default() {
            // Beside a member's own znode there may be one about its JMX address.
            let Ok(id) = name.parse() else { continue };
            let path = format!("{folder}/{name}");
            let Some(server) = self.znode(&path).await? else { continue };
            let member = znode::member(&path, &server.data).map_err(unreadable)?;
            members.push(Registered { id, endpoint: member.endpoint() });
        }
        members.sort_unstable_by_key(|member| member.id);
        Ok(members)
    }

    /// The member that `master-rebound` names, as far as it is there.
    async fn claim(&self, root: &str) -> Result<Claim, Halt> {
        let rebound_path = format!("{root}/master-rebound");
        let (children, rebound) = try_join!(self.children(root), self.znode(&rebound_path))?;
        let Some(children) = children else {
            return Err(self.no_master(format!("no member has ever registered below {root}")).into());
        };
        let Some(rebound) = rebound else {
            return Err(self.no_master(format!("{rebound_path}, in which the master names itself, is missing")).into());
        };
        let id = znode::member_id(&rebound_path, &rebound.data).map_err(unreadable)?;
        if id < 0 {
            return Err(self.no_master("no member has become master yet".to_owned()).into());
        }
        let server_path = format!("{root}/ha-servers/{id}");
        let elections = children.iter().filter_map(|name| Some((znode::election_name(name)?, name)));
        let election = elections.filter(|((of, _), _)| *of == id).max_by_key(|((_, sequence), _)| *sequence);
        match (self.znode(&server_path).await?, election) {
            (Some(server), Some((_, name))) => {
                let election_path = format!("{root}/{name}");
                Ok(Claim { id, rebound_path, rebound, server_path, server, election_path })
            }
            (None, None) => {
                Err(self.no_master(format!("member {id}, the last that was master, is not registered")).into())
            }
            (None, Some((_, name))) => {
                let detail = format!("it takes part in elections as {root}/{name}, but {server_path} is missing");
                Err(Halt::Unsettled(self.unregistered(id, detail)))
            }
            (Some(_), None) => {
                let detail = format!("member {id} is registered but does not take part in elections yet");
                Err(Halt::Unsettled(self.election(detail)))
            }
        }
    }

    /// An election runs where a live member found somebody else to be master after the master declared itself.
    ///
    /// `master-notify` is written by a member that found *another* one to be master. An older note says nothing: a
    /// master that was alone when it took over leaves the note about its predecessor, which may be back as a slave.
    async fn uncontested(&self, root: &str, claim: &Claim) -> Result<(), Halt> {
        let path = format!("{root}/master-notify");
        let Some(notify) = self.znode(&path).await? else { return Ok(()) };
        let named = znode::member_id(&path, &notify.data).map_err(unreadable)?;
        if named < 0 || named == claim.id || notify.modified < claim.rebound.modified {
            return Ok(());
        }
        if self.znode(&format!("{root}/ha-servers/{named}")).await?.is_none() {
            return Ok(());
        }
        let detail = format!("member {} declared itself master, then another member found {named} to be it", claim.id);
        Err(Halt::Unsettled(self.election(detail)))
    }

    /// The znode of the cluster that was asked for.
    ///
    /// From 1.5.1 on the cluster name leads to the root. Up to 1.5.0 the backup tool ignored it and took the only root
    /// of the ensemble. Both lead to the same root where `/<cluster name>` exists, which members write since 1.3; so
    /// the old rule only says that a second root is an error (1.3 and 1.4, told by their 16-byte store id; 1.5.0 cannot
    /// be told from its successors), and finds the cluster of a source without a name. A *name* that is missing is
    /// never replaced by what else is there: that would back up another database.
    async fn cluster(&self) -> Result<Cluster, DiscoveryError> {
        let path = format!("/{}", self.cluster);
        let Some(found) = self.znode(&path).await? else { return self.only_cluster().await };
        let pointer = znode::pointer(&path, &found.data).map_err(unreadable)?;
        if pointer.store_version.is_none() {
            let (roots, _) = self.top_level().await?;
            self.refuse_several(&roots)?;
        }
        Ok(Cluster::at(path, &pointer, &found))
    }

    /// The cluster of an ensemble of 1.3 or 1.4 that goes by another name than the default, if none was asked for.
    async fn only_cluster(&self) -> Result<Cluster, DiscoveryError> {
        let (roots, others) = self.top_level().await?;
        let mut clusters = Vec::new();
        for name in others.iter().take(NEIGHBOURS) {
            let path = format!("/{name}");
            let found = match self.ensemble.znode(&path).await {
                Ok(Some(found)) => found,
                // Whatever else lives in the ensemble may write what it likes.
                Ok(None) | Err(EnsembleError::Oversized { .. }) => continue,
                Err(error) => return Err(self.failed(error)),
            };
            let Ok(pointer) = znode::pointer(&path, &found.data) else { continue };
            if roots.contains(&pointer.store_id) {
                clusters.push((name, pointer, found));
            }
        }
        let of_one_cluster_version = |(_, pointer, _): &(_, Pointer, _)| pointer.store_version.is_none();
        if !self.named && clusters.iter().all(of_one_cluster_version) {
            self.refuse_several(&roots)?;
            if let [(name, pointer, found)] = clusters.as_slice() {
                return Ok(Cluster::at(format!("/{name}"), pointer, found));
            }
        }
        let names: Vec<_> = clusters.iter().map(|(name, ..)| format!("{name:?}")).collect();
        let detail = if names.is_empty() {
            "none was found there".to_owned()
        } else {
            format!("they know {}", names.join(", "))
        };
        Err(DiscoveryError::ClusterUnknown {
            servers: self.servers.to_owned(),
            cluster: self.cluster.to_owned(),
            detail,
        })
    }

    /// The roots of clusters at the top level, and all other names there in order.
    async fn top_level(&self) -> Result<(Vec<StoreId>, Vec<String>), DiscoveryError> {
        let mut names = self.children("/").await?.unwrap_or_default();
        names.sort_unstable();
        let roots = names.iter().filter_map(|name| znode::root_name(name)).collect();
        names.retain(|name| znode::root_name(name).is_none() && name != "zookeeper");
        Ok((roots, names))
    }

    fn refuse_several(&self, roots: &[StoreId]) -> Result<(), DiscoveryError> {
        if roots.len() < 2 {
            return Ok(());
        }
        let roots: Vec<_> = roots.iter().map(StoreId::root_path).collect();
        Err(DiscoveryError::MultipleRoots { servers: self.servers.to_owned(), roots: roots.join(", ") })
    }

    async fn znode(&self, path: &str) -> Result<Option<Znode>, DiscoveryError> {
        self.ensemble.znode(path).await.map_err(|error| self.failed(error))
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, DiscoveryError> {
        self.ensemble.children(path).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: EnsembleError) -> DiscoveryError {
        match error {
            EnsembleError::Unavailable(detail) => {
                DiscoveryError::EnsembleUnavailable { servers: self.servers.to_owned(), detail }
            }
            EnsembleError::Refused { .. } | EnsembleError::Oversized { .. } => {
                DiscoveryError::ZnodeUnreadable { problem: error.to_string() }
            }
        }
    }

    fn no_master(&self, detail: String) -> DiscoveryError {
        DiscoveryError::NoMaster { cluster: self.cluster.to_owned(), detail }
    }

    fn election(&self, detail: String) -> DiscoveryError {
        DiscoveryError::ElectionRunning { cluster: self.cluster.to_owned(), detail }
    }

    fn unregistered(&self, member: i32, detail: String) -> DiscoveryError {
        DiscoveryError::RegistrationLost { cluster: self.cluster.to_owned(), member, detail }
    }

    fn without_address(&self, detail: String) -> DiscoveryError {
        DiscoveryError::MemberWithoutAddress { cluster: self.cluster.to_owned(), detail }
    }
}

fn token(cluster: &Cluster, claim: &Claim, election: &Znode, endpoint: Endpoint) -> MastershipToken {
    let incarnation = Incarnation {
        server_created_at: claim.server.created_at,
        server_session: claim.server.session,
        election_created_at: election.created_at,
        election_session: election.session,
        rebound_modified_at: claim.rebound.modified_at,
        cluster_modified_at: cluster.modified_at,
    };
    MastershipToken {
        member_id: claim.id,
        endpoint,
        server_created: claim.server.created,
        election_created: election.created,
        rebound: claim.id,
        rebound_modified: claim.rebound.modified,
        cluster_modified: cluster.modified,
        incarnation: Some(incarnation),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: ZnodeError) -> DiscoveryError {
    DiscoveryError::ZnodeUnreadable { problem: error.to_string() }
}

#[cfg(test)]
mod tests;
