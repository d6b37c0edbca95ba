//! The one entry for callers, over the network.

use super::{
    DiscoveryError, SourceUri,
    ensemble::{EnsembleError, Session},
    locate,
    probe::{self, ProbeError},
    resolve::{ResolveError, Resolver},
};
use crate::api::{Endpoint, Fence, ProbeMark, StoreId};
use futures::future::{BoxFuture, join_all};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

/// Longest time that one look-up takes, name resolution and every retry included.
pub const LOOK_UP_BOUND: Duration = Duration::from_secs(15);

/// How many sessions are open with one ensemble at a time: ZooKeeper 3.3 takes 10 connections from one address, later ones 60.
const SESSIONS_PER_ENSEMBLE: usize = 8;
/// How often a look-up is tried when its session is lost in the middle.
const SESSIONS_PER_LOOK_UP: usize = 2;
/// How long one server is given to accept a connection, when a message has to say which of them do.
const DIAGNOSIS_BOUND: Duration = Duration::from_secs(1);
/// How many servers a message tells about.
const DIAGNOSED_SERVERS: usize = 7;

/// A database that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Identity of the database; names the cluster among all clusters.
    pub store_id: StoreId,
    /// The member to back up (`fence.endpoint()`: host and backup port) and what must not move meanwhile.
    pub fence: Fence,
}

/// Finds the database that a source names.
pub trait Discovery: Send + Sync {
    /// The master that `source` leads to, or the member that it names.
    ///
    /// `cluster_name` counts with `ha://` only; without one it is Neo4j's default, `neo4j.ha`. Always answers within a
    /// bound of the implementation's own, and changes nothing anywhere.
    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>>;
}

/// [`Discovery`] by asking the real ZooKeeper servers or the real member. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Network {
    bound: Duration,
    resolver: Arc<Resolver>,
    sessions: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

impl Default for Network {
    fn default() -> Self {
        Self { bound: LOOK_UP_BOUND, resolver: Arc::default(), sessions: Arc::default() }
    }
}

impl Discovery for Network {
    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>> {
        Box::pin(async move {
            let late = || format!("no answer within {} s", self.bound.as_secs());
            match source {
                SourceUri::Ha(servers) => {
                    let names = names(servers);
                    let found = timeout(self.bound, self.master(servers, &names, cluster_name)).await;
                    found
                        .unwrap_or_else(|_| Err(DiscoveryError::EnsembleUnavailable { servers: names, detail: late() }))
                }
                SourceUri::Single(member) => {
                    let found = timeout(self.bound, self.member(member)).await;
                    found.unwrap_or_else(|_| {
                        Err(DiscoveryError::MemberUnreachable { member: member.clone(), detail: late() })
                    })
                }
            }
        })
    }
}

impl Network {
    /// A network with another bound than [`LOOK_UP_BOUND`] on each look-up.
    pub fn bounded(bound: Duration) -> Self {
        Self { bound, ..Self::default() }
    }

    /// A network whose short names are those of a namespace: a source means the same to the operator as to the Job.
    pub fn in_namespace(namespace: &str) -> Self {
        Self { resolver: Arc::new(Resolver::in_namespace(namespace)), ..Self::default() }
    }

    async fn master(
        &self,
        servers: &[Endpoint],
        names: &str,
        cluster_name: Option<&str>,
    ) -> Result<Located, DiscoveryError> {
        let unavailable = |detail| DiscoveryError::EnsembleUnavailable { servers: names.to_owned(), detail };
        let sessions = self.sessions(names);
        // Never closed, so never refused.
        let _permit = sessions.acquire().await;
        let resolved = join_all(servers.iter().map(|server| self.resolver.addresses(server))).await;
        let mut addresses: Vec<SocketAddr> = resolved.iter().flatten().flatten().copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(unavailable(diagnose(servers, &resolved).await));
        }
        let mut left = SESSIONS_PER_LOOK_UP;
        loop {
            let session = match Session::open(&addresses).await {
                Ok(session) => session,
                Err(EnsembleError::Unavailable(detail) | EnsembleError::Refused { detail, .. }) => {
                    return Err(unavailable(format!("{detail}; {}", diagnose(servers, &resolved).await)));
                }
            };
            left -= 1;
            match locate::master(&session, names, cluster_name).await {
                Err(DiscoveryError::EnsembleUnavailable { .. }) if left > 0 => {}
                answer => return answer,
            }
        }
    }

    async fn member(&self, member: &Endpoint) -> Result<Located, DiscoveryError> {
        let unreachable = |detail| DiscoveryError::MemberUnreachable { member: member.clone(), detail };
        let addresses = self.resolver.addresses(member).await.map_err(|error| unreachable(error.to_string()))?;
        let mut error = unreachable("its name has no address".to_owned());
        for address in addresses {
            error = match probe::store_id(address).await {
                Ok(store_id) => {
                    let mark = ProbeMark { endpoint: member.clone(), store_id };
                    return Ok(Located { store_id, fence: Fence::Probe(mark) });
                }
                Err(ProbeError::Foreign(detail)) => {
                    return Err(DiscoveryError::NotABackupServer { member: member.clone(), detail });
                }
                Err(problem) => unreachable(problem.to_string()),
            };
        }
        Err(error)
    }

    /// The permits for sessions with one ensemble; kept only while somebody holds or awaits one.
    fn sessions(&self, servers: &str) -> Arc<Semaphore> {
        let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(servers).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(SESSIONS_PER_ENSEMBLE));
        all.insert(servers.to_owned(), Arc::downgrade(&new));
        new
    }
}

fn names(servers: &[Endpoint]) -> String {
    let names: Vec<_> = servers.iter().map(ToString::to_string).collect();
    names.join(",")
}

/// What is wrong with each server, for a person: no such name, nobody listens, or it listens and has no quorum.
async fn diagnose(servers: &[Endpoint], resolved: &[Result<Vec<SocketAddr>, ResolveError>]) -> String {
    let states = servers.iter().zip(resolved).take(DIAGNOSED_SERVERS).map(|(server, addresses)| async move {
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(error) => return error.to_string(),
        };
        match timeout(DIAGNOSIS_BOUND, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(_)) => format!("{server} accepts connections but gives no session"),
            Ok(Err(error)) => format!("{server}: {error}"),
            Err(_) => format!("{server}: no connection within {} s", DIAGNOSIS_BOUND.as_secs()),
        }
    });
    join_all(states).await.join("; ")
}
