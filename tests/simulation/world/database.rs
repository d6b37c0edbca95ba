//! A scripted database: what each look-up finds, and when its master moves.

use futures::future::BoxFuture;
use graph_backup_operator::api::{Endpoint, Mastership, MastershipToken, StoreId};
use graph_backup_operator::discovery::{Discovery, DiscoveryError, Located, Registered, SourceUri};
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
    store: StoreId,
    looks: Vec<Look>,
    /// How often the master has moved.
    moves: i64,
    /// How many members are registered, the first ones.
    members: i32,
}

impl Database {
    /// A database whose look-ups go by the script, and find the master after its end.
    pub fn new(looks: &[Look]) -> Self {
        let mut looks = looks.to_vec();
        looks.reverse();
        Self { state: Arc::new(Mutex::new(State { store: STORE, looks, moves: 0, members: 3 })) }
    }

    /// The database of another cluster, whose look-ups find the master.
    pub fn of(store: StoreId) -> Self {
        let database = Self::new(&[]);
        database.state.lock().unwrap().store = store;
        database
    }

    /// Another database in the same state.
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().unwrap().clone())) }
    }

    /// Describes everything that decides what it shows.
    pub fn describe(&self, out: &mut String) {
        let state = self.state.lock().unwrap();
        write!(out, "; database {} {} {}", state.looks.len(), state.moves, state.members).unwrap();
    }

    /// The master changes.
    pub fn move_master(&self) {
        self.state.lock().unwrap().moves += 1;
    }

    /// How many members are registered.
    pub fn registered(&self) -> i32 {
        self.state.lock().unwrap().members
    }

    /// So many members are registered.
    pub fn register(&self, members: i32) {
        self.state.lock().unwrap().members = members;
    }

    /// The mastership as ZooKeeper shows it now.
    pub fn mastership(&self) -> Mastership {
        let moves = self.state.lock().unwrap().moves;
        let member_id = i32::try_from(moves % 3).unwrap() + 1;
        Mastership::Master(MastershipToken {
            member_id,
            endpoint: endpoint(member_id),
            server_created: 8,
            election_created: 9,
            rebound: member_id,
            rebound_modified: 15 + moves,
            cluster_modified: 3,
            incarnation: None,
        })
    }
}

fn endpoint(member_id: i32) -> Endpoint {
    Endpoint { host: format!("neo4j-{}.neo4j", member_id - 1), port: 6362 }
}

impl Discovery for Database {
    fn members<'a>(
        &'a self,
        _source: &'a SourceUri,
        _cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Registered>, DiscoveryError>> {
        let members = self.state.lock().unwrap().members;
        Box::pin(async move { Ok((1..=members).map(|id| Registered { id, endpoint: Some(endpoint(id)) }).collect()) })
    }

    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        _cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>> {
        Box::pin(async move {
            let (look, store_id) = {
                let mut state = self.state.lock().unwrap();
                (state.looks.pop().unwrap_or(Look::Found), state.store)
            };
            match look {
                Look::Found => Ok(Located { store_id, mastership: self.mastership() }),
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
