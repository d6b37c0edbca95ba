//! A scripted database: what each look-up finds, who its members are, and when its master moves.

use super::ensemble::{Data, Ensemble};
use futures::future::BoxFuture;
use graph_backup_operator::api::{Endpoint, Mastership, MastershipToken, ProbeMark, StoreId};
use graph_backup_operator::discovery::probe::{ProbeError, Transaction};
use graph_backup_operator::discovery::{ClusterView, Discovery, DiscoveryError, Located, Registered, SourceUri};
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The store of the database.
pub const STORE: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };

/// What one look-up finds.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// The master.
    Found,
    /// An error.
    Fails(fn() -> DiscoveryError),
    /// An error, after this many seconds.
    Slow(u64),
}

/// The database; all clones are the same one.
#[derive(Clone)]
pub struct Database {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    looks: Vec<Look>,
    ensemble: Ensemble,
}

impl Database {
    /// A database whose look-ups go by the script, and find the master after its end.
    pub fn new(looks: &[Look]) -> Self {
        let mut looks = looks.to_vec();
        looks.reverse();
        Self::with(looks, Ensemble::of_three(STORE))
    }

    /// The database of another cluster, whose look-ups find the master.
    pub fn of(store: StoreId) -> Self {
        Self::with(Vec::new(), Ensemble::of_three(store))
    }

    /// A database of which no member has ever run.
    pub fn empty() -> Self {
        Self::with(Vec::new(), Ensemble::empty())
    }

    fn with(looks: Vec<Look>, ensemble: Ensemble) -> Self {
        Self { state: Arc::new(Mutex::new(State { looks, ensemble })) }
    }

    /// Another database in the same state.
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().unwrap().clone())) }
    }

    /// Describes everything that decides what it shows.
    pub fn describe(&self, out: &mut String) {
        let state = self.state.lock().unwrap();
        write!(out, "; database {} {:?}", state.looks.len(), state.ensemble).unwrap();
    }

    /// The master changes.
    pub fn move_master(&self) {
        self.ensemble(Ensemble::move_master);
    }

    /// Works on the members and their volumes.
    pub fn ensemble<T>(&self, work: impl FnOnce(&mut Ensemble) -> T) -> T {
        work(&mut self.state.lock().unwrap().ensemble)
    }

    /// A process starts on a volume and joins; `false` if it hangs in its start.
    pub fn join(&self, id: i32, pod: &str, disk: &str) -> bool {
        self.ensemble(|ensemble| ensemble.join(id, pod, disk))
    }

    /// A member ends its session.
    pub fn leave(&self, id: i32, pod: &str) {
        self.ensemble(|ensemble| ensemble.leave(id, pod));
    }

    /// A client writes; `false` if there is no master.
    pub fn write(&self, what: &'static str) -> bool {
        self.ensemble(|ensemble| ensemble.write(what))
    }

    /// What a member serves.
    pub fn served_by(&self, id: i32) -> Option<Data> {
        self.ensemble(|ensemble| ensemble.served_by(id).cloned())
    }

    /// What the volume with this UID holds; nothing if it is empty.
    pub fn on(&self, volume: &str) -> Option<Data> {
        self.ensemble(|ensemble| ensemble.on(volume).cloned())
    }

    /// Puts a store on the volume with this UID.
    pub fn put(&self, volume: &str, data: Data) {
        self.ensemble(|ensemble| ensemble.put(volume, data));
    }

    /// Removes what the volume with this UID holds.
    pub fn erase(&self, volume: &str) {
        self.ensemble(|ensemble| ensemble.erase(volume));
    }

    /// The mastership as ZooKeeper shows it now, if there is a master.
    fn found(&self) -> Option<Mastership> {
        let ((member_id, created), (_, rebound_modified)) =
            self.ensemble(|ensemble| Some((ensemble.master()?, ensemble.rebound())))?;
        Some(Mastership::Master(MastershipToken {
            member_id,
            endpoint: endpoint(member_id),
            server_created: created,
            election_created: created + 1,
            rebound: member_id,
            rebound_modified,
            cluster_modified: 3,
            incarnation: None,
        }))
    }

    /// The mastership as ZooKeeper shows it to an agent, which starts only where there was one.
    pub fn mastership(&self) -> Mastership {
        let nobody = || Mastership::Probe(ProbeMark { endpoint: endpoint(1), store_id: STORE });
        self.found().unwrap_or_else(nobody)
    }

    fn look(&self, source: &SourceUri) -> Result<Located, DiscoveryError> {
        let (servers, cluster) = (source.to_string(), "neo4j.ha".to_owned());
        let detail = "no member is registered".to_owned();
        let store_id = self.ensemble(|ensemble| ensemble.cluster());
        let Some(store_id) = store_id else { return Err(DiscoveryError::ClusterUnknown { servers, cluster, detail }) };
        let mastership = self.found().ok_or(DiscoveryError::NoMaster { cluster, detail })?;
        Ok(Located { store_id, mastership })
    }
}

fn endpoint(member_id: i32) -> Endpoint {
    Endpoint { host: format!("neo4j-{}.neo4j", member_id - 1), port: 6362 }
}

impl Discovery for Database {
    fn cluster<'a>(
        &'a self,
        source: &'a SourceUri,
        _cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ClusterView, DiscoveryError>> {
        let (found, members, (_, rebound)) =
            self.ensemble(|ensemble| (ensemble.cluster(), ensemble.members(), ensemble.rebound()));
        let members = members.into_iter().map(|id| Registered { id, endpoint: Some(endpoint(id)) }).collect();
        Box::pin(async move {
            let unknown = || DiscoveryError::ClusterUnknown {
                servers: source.to_string(),
                cluster: "neo4j.ha".to_owned(),
                detail: "no member is registered".to_owned(),
            };
            Ok(ClusterView { store_id: found.ok_or_else(unknown)?, members, rebound: Some(rebound) })
        })
    }

    fn transaction<'a>(
        &'a self,
        member: &'a Endpoint,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Transaction>, ProbeError>> {
        let served = (1..=3).find(|id| endpoint(*id) == *member).and_then(|id| self.served_by(id));
        Box::pin(async move {
            let served = served.ok_or_else(|| ProbeError::Unreachable("it does not run".to_owned()))?;
            Ok((served.last_transaction >= id).then_some(Transaction { id, entries: Vec::new() }))
        })
    }

    fn members<'a>(
        &'a self,
        _source: &'a SourceUri,
        _cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Registered>, DiscoveryError>> {
        let members = self.ensemble(|ensemble| ensemble.members());
        let registered = |id| Registered { id, endpoint: Some(endpoint(id)) };
        Box::pin(async move { Ok(members.into_iter().map(registered).collect()) })
    }

    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        _cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>> {
        Box::pin(async move {
            let look = self.state.lock().unwrap().looks.pop().unwrap_or(Look::Found);
            match look {
                Look::Found => self.look(source),
                Look::Fails(error) => Err(error()),
                Look::Slow(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    let detail = "it took too long".to_owned();
                    Err(DiscoveryError::EnsembleUnavailable { servers: source.to_string(), detail })
                }
            }
        })
    }
}
