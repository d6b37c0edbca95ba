//! The one entry for callers, over the network.

use super::{
    DiscoveryError, SourceUri,
    ensemble::Ensemble,
    locate,
    probe::{self, ProbeError, Transaction},
    resolve::{ResolveError, Resolver},
    zookeeper::Session,
};
use crate::api::{Endpoint, Mastership, ProbeMark, StoreId};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Longest time that one look-up takes, name resolution and every retry included.
pub const LOOK_UP_BOUND: Duration = Duration::from_secs(15);

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
    /// The member to back up (`mastership.endpoint()`: host and backup port) and what must not move meanwhile.
    pub mastership: Mastership,
}

/// A member that is registered in ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Member id (`ha.server_id`).
    pub id: i32,
    /// Host and backup port that it publishes; nothing where no backup could name them.
    pub endpoint: Option<Endpoint>,
}

/// A cluster as ZooKeeper knows it, whether it has a master or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// Identity of its store.
    pub store_id: StoreId,
    /// Its registered members, by id.
    pub members: Vec<Registered>,
    /// Transaction that last wrote `master-rebound` (mzxid), in which the master names itself. It stays when the master
    /// goes.
    pub rebound: Option<i64>,
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

    /// The members that are registered with the cluster of an `ha://` source, by id; `single://` names no cluster, and
    /// none is registered. Bounded and without effect like [`Self::locate`].
    fn members<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Registered>, DiscoveryError>>;

    /// The cluster of an `ha://` source, whether it has a master or not. Bounded and without effect like
    /// [`Self::locate`].
    fn cluster<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ClusterView, DiscoveryError>>;

    /// Transaction `id` as a member holds it; what the answers mean says [`probe::transaction`]. Bounded and without
    /// effect like [`Self::locate`].
    fn transaction<'a>(
        &'a self,
        member: &'a Endpoint,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Transaction>, ProbeError>>;
}

/// What is asked of an ensemble: itself, the names of its servers for messages, and the name of the cluster.
type Question<T> = for<'a> fn(&'a dyn Ensemble, &'a str, Option<&'a str>) -> BoxFuture<'a, Result<T, DiscoveryError>>;

/// A session that is being opened or is open.
type Opening = BoxFuture<'static, Result<Arc<Session>, DiscoveryError>>;

/// The sessions that look-ups use just now, by the names of the servers and the addresses that these names have.
///
/// A ZooKeeper server takes only so many connections from one address (10 in 3.3, 60 later), and opening and closing
/// cost the ensemble a write each: look-ups that run at the same time share a session, whichever namespace they are
/// for. It is closed with the last of them.
type Sessions = Arc<Mutex<HashMap<(String, Vec<SocketAddr>), WeakShared<Opening>>>>;

/// [`Discovery`] by asking the real ZooKeeper servers or the real member. Clones share their sessions.
#[derive(Clone, Debug)]
pub struct Network {
    bound: Duration,
    resolver: Arc<Resolver>,
    sessions: Sessions,
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
            match source {
                SourceUri::Ha(servers) => {
                    self.ask(servers, cluster_name, |ensemble, names, cluster| {
                        locate::master(ensemble, names, cluster).boxed()
                    })
                    .await
                }
                SourceUri::Single(member) => {
                    let found = timeout(self.bound, self.member(member)).await;
                    found.unwrap_or_else(|_| {
                        Err(DiscoveryError::MemberUnreachable { member: member.clone(), detail: self.late() })
                    })
                }
            }
        })
    }

    fn members<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Registered>, DiscoveryError>> {
        Box::pin(async move {
            match source {
                SourceUri::Ha(servers) => {
                    self.ask(servers, cluster_name, |ensemble, names, cluster| {
                        locate::members(ensemble, names, cluster).boxed()
                    })
                    .await
                }
                SourceUri::Single(_) => Ok(Vec::new()),
            }
        })
    }

    fn cluster<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ClusterView, DiscoveryError>> {
        Box::pin(async move {
            match source {
                SourceUri::Ha(servers) => {
                    self.ask(servers, cluster_name, |ensemble, names, cluster| {
                        locate::cluster(ensemble, names, cluster).boxed()
                    })
                    .await
                }
                SourceUri::Single(_) => {
                    let located = self.locate(source, cluster_name).await?;
                    Ok(ClusterView { store_id: located.store_id, members: Vec::new(), rebound: None })
                }
            }
        })
    }

    fn transaction<'a>(
        &'a self,
        member: &'a Endpoint,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Transaction>, ProbeError>> {
        Box::pin(Self::transaction(self, member, id))
    }
}

impl Network {
    /// A network with another bound than [`LOOK_UP_BOUND`] on each look-up.
    pub fn bounded(bound: Duration) -> Self {
        Self { bound, ..Self::default() }
    }

    /// The same network with the short names of a namespace: a source means the same to the operator as to the Job.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { resolver: Arc::new(Resolver::in_namespace(namespace)), ..self.clone() }
    }

    /// Transaction `id` as a member holds it; what the answers mean says [`probe::transaction`]. Bounded like a
    /// look-up.
    pub async fn transaction(&self, member: &Endpoint, id: i64) -> Result<Option<Transaction>, ProbeError> {
        let unreachable = |detail: &str| Err(ProbeError::Unreachable(detail.to_owned()));
        let ask = async {
            let addresses = match self.resolver.addresses(member).await {
                Ok(addresses) => addresses,
                Err(error) => return unreachable(&error.to_string()),
            };
            let mut answer = unreachable("its name has no address");
            for address in addresses {
                answer = probe::transaction(address, id).await;
                if !matches!(answer, Err(ProbeError::Unreachable(_))) {
                    break;
                }
            }
            answer
        };
        let late = format!("no answer within {} s", self.bound.as_secs());
        timeout(self.bound, ask).await.unwrap_or_else(|_| unreachable(&late))
    }

    /// A connection to a member's backup port, which nothing has been sent over yet. Bounded like a look-up.
    pub async fn connect(&self, member: &Endpoint) -> Result<TcpStream, DiscoveryError> {
        let unreachable = |detail| DiscoveryError::MemberUnreachable { member: member.clone(), detail };
        let connect = async {
            let addresses = self.resolver.addresses(member).await.map_err(|error| unreachable(error.to_string()))?;
            TcpStream::connect(addresses.as_slice()).await.map_err(|error| unreachable(error.to_string()))
        };
        let late = || Err(unreachable(format!("no connection within {} s", self.bound.as_secs())));
        timeout(self.bound, connect).await.unwrap_or_else(|_| late())
    }

    fn late(&self) -> String {
        format!("no answer within {} s", self.bound.as_secs())
    }

    /// Asks an ensemble within the bound, once more when the session is lost in the middle.
    async fn ask<T>(
        &self,
        servers: &[Endpoint],
        cluster_name: Option<&str>,
        question: Question<T>,
    ) -> Result<T, DiscoveryError> {
        let names = names(servers);
        let answer = async {
            let mut left = SESSIONS_PER_LOOK_UP;
            loop {
                left -= 1;
                let found = join_all(servers.iter().map(|server| self.resolver.addresses(server))).await;
                // The last try shares nothing: the reply to another look-up may have ended the session for all.
                let opening = match left {
                    0 => open(servers.to_vec(), names.clone(), found).boxed().shared(),
                    _ => self.session(servers, &names, found),
                };
                // Others find the session as long as this look-up keeps `opening`.
                let session = opening.clone().await?;
                let answer = question(session.as_ref(), &names, cluster_name).await;
                if !matches!(answer, Err(DiscoveryError::EnsembleUnavailable { .. })) {
                    return answer;
                }
                session.give_up();
                drop(opening);
                if left == 0 {
                    return answer;
                }
            }
        };
        let answer = timeout(self.bound, answer).await;
        answer.unwrap_or_else(|_| {
            Err(DiscoveryError::EnsembleUnavailable { servers: names.clone(), detail: self.late() })
        })
    }

    /// The session with an ensemble that other look-ups use just now, or a new one.
    fn session(
        &self,
        servers: &[Endpoint],
        names: &str,
        found: Vec<Result<Vec<SocketAddr>, ResolveError>>,
    ) -> Shared<Opening> {
        let key = (names.to_owned(), addresses(&found));
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = sessions.get(&key).and_then(WeakShared::upgrade).filter(serves) {
            return used;
        }
        sessions.retain(|_, used| used.upgrade().is_some());
        let new = open(servers.to_vec(), names.to_owned(), found).boxed().shared();
        sessions.extend(new.downgrade().map(|weak| (key, weak)));
        new
    }

    async fn member(&self, member: &Endpoint) -> Result<Located, DiscoveryError> {
        let unreachable = |detail| DiscoveryError::MemberUnreachable { member: member.clone(), detail };
        let addresses = self.resolver.addresses(member).await.map_err(|error| unreachable(error.to_string()))?;
        let mut error = unreachable("its name has no address".to_owned());
        for address in addresses {
            error = match probe::store_id(address).await {
                Ok(store_id) => {
                    let mark = ProbeMark { endpoint: member.clone(), store_id };
                    return Ok(Located { store_id, mastership: Mastership::Probe(mark) });
                }
                Err(ProbeError::Foreign(detail)) => {
                    return Err(DiscoveryError::NotABackupServer { member: member.clone(), detail });
                }
                Err(ProbeError::Unreachable(detail)) => unreachable(detail),
                Err(problem) => DiscoveryError::MemberFailed { member: member.clone(), detail: problem.to_string() },
            };
        }
        Err(error)
    }
}

/// Whether a session that others use can take another look-up: it is being opened, or open and not over.
fn serves(opening: &Shared<Opening>) -> bool {
    opening.peek().is_none_or(|opened| opened.as_ref().is_ok_and(|session| !session.is_over()))
}

/// Every address that was found, once.
fn addresses(found: &[Result<Vec<SocketAddr>, ResolveError>]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = found.iter().flatten().flatten().copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Opens a session with the ensemble of these servers, or says of each what keeps it from giving one.
async fn open(
    servers: Vec<Endpoint>,
    names: String,
    found: Vec<Result<Vec<SocketAddr>, ResolveError>>,
) -> Result<Arc<Session>, DiscoveryError> {
    let addresses = addresses(&found);
    let detail = if addresses.is_empty() {
        diagnose(&servers, &found).await
    } else {
        match Session::open(&addresses).await {
            Ok(session) => return Ok(Arc::new(session)),
            Err(error) => format!("{error}; {}", diagnose(&servers, &found).await),
        }
    };
    Err(DiscoveryError::EnsembleUnavailable { servers: names, detail })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn every_look_up_ends_within_its_bound_and_says_what_it_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let network = Network::bounded(Duration::from_secs(1));
        for uri in [format!("ha://{address},127.0.0.2:{}", address.port()), format!("single://{address}")] {
            let start = Instant::now();
            let error = network.locate(&uri.parse().unwrap(), None).await.unwrap_err().to_string();
            assert!(start.elapsed() < Duration::from_millis(1500), "{uri} took {:?}", start.elapsed());
            assert!(error.contains("no answer within 1 s") && error.contains(&address.to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn look_ups_at_the_same_time_share_one_session_and_later_ones_do_not() {
        let network = Network::default();
        let graph = network.in_namespace("graph");
        let servers = [Endpoint { host: "zk".into(), port: 2181 }];
        // The future that opens a session is not polled: nothing is sent.
        let at = |network: &Network, names: &str, port: u16| {
            network.session(&servers, names, vec![Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])])
        };
        let first = at(&network, "zk:2181", 1);
        assert!(first.ptr_eq(&at(&network, "zk:2181", 1)));
        assert!(first.ptr_eq(&at(&graph, "zk:2181", 1)), "another namespace, the same servers");
        assert!(!first.ptr_eq(&at(&graph, "zk:2181", 2)), "another namespace's servers of this name");
        assert!(!first.ptr_eq(&at(&network, "zk.graph:2181", 1)), "messages name the servers as the object does");
        drop(first);
        drop(at(&network, "other:2181", 1));
        assert!(!network.sessions.lock().unwrap().keys().any(|(names, _)| names == "zk:2181"));
    }

    /// A server that grants every session and answers nothing else; the number of its connections.
    async fn silent_server() -> (SocketAddr, Arc<AtomicUsize>) {
        const GRANTED: &[u8] = b"\0\0\0\x25\0\0\0\0\0\0\x1f\x40\x01\0\0\0\0\0\0\x07\0\0\0\x10a password of 16\0";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            let mut streams = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                stream.write_all(GRANTED).await.unwrap();
                streams.push(stream);
            }
        });
        (address, count)
    }

    #[tokio::test]
    async fn a_look_up_shares_the_open_session_of_one_that_still_asks() {
        let (address, connections) = silent_server().await;
        let (network, uri) = (Network::default(), format!("ha://{address}").parse().unwrap());
        let second = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            network.in_namespace("graph").locate(&uri, None).await
        };
        let look = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(connections.load(Ordering::Relaxed), 1);
        };
        // Both fail, each after a try with a session of its own.
        let (first, second, ()) = tokio::join!(network.locate(&uri, None), second, look);
        assert!(first.is_err() && second.is_err());
        assert_eq!(connections.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_session_that_failed_is_not_shared() {
        let network = Network::default();
        let servers = [Endpoint { host: "zk".into(), port: 2181 }];
        let unknown = || vec![Err(ResolveError::Unknown { name: "zk".into() })];
        let first = network.session(&servers, "zk:2181", unknown());
        assert!(first.clone().await.is_err_and(|error| error.to_string().contains("zk is unknown to DNS")));
        assert!(!first.ptr_eq(&network.session(&servers, "zk:2181", unknown())));
    }
}
