//! The members of the database, what their volumes hold, and who of them is master.
//!
//! It behaves as Neo4j 1.8.0 does: whoever has the highest transaction becomes master, a member with an empty volume
//! copies the master's store, and with no master becomes the master of an empty one.

use super::database::STORE;
use graph_backup_operator::api::StoreId;
use std::collections::{BTreeMap, BTreeSet};

/// A store on a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Its store id.
    pub store: StoreId,
    /// Its last transaction.
    pub last_transaction: i64,
    /// What was written to it, and is kept by every copy.
    pub writes: BTreeSet<&'static str>,
}

impl Data {
    /// A store with these writes, at this transaction.
    pub fn new(store: StoreId, last_transaction: i64, writes: &[&'static str]) -> Self {
        Self { store, last_transaction, writes: writes.iter().copied().collect() }
    }
}

/// Last transaction of members of whose volumes nothing is known.
const LAST_TRANSACTION: i64 = 42;
/// Version of ZooKeeper's data when the members registered that were there at first.
const REGISTERED: i64 = 8;

/// A member that is registered.
#[derive(Clone, Debug)]
struct Member {
    /// UID of its pod, and name of its volume; `None` where the world has no pods.
    runs: Option<(String, String)>,
    /// Version of ZooKeeper's data when it registered.
    created: i64,
}

/// The ensemble.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// The store id in `/<cluster name>`, if anybody has made a cluster.
    cluster: Option<StoreId>,
    members: BTreeMap<i32, Member>,
    /// The member that acts as master.
    master: Option<i32>,
    /// `master-rebound`: who was master last, ...
    rebound: i32,
    /// ... and the version of its last change.
    rebound_modified: i64,
    version: i64,
    disks: BTreeMap<String, Data>,
}

impl Ensemble {
    /// Three members, the first of them master.
    pub fn of_three(store: StoreId) -> Self {
        let member = |id| (id, Member { runs: None, created: REGISTERED });
        Self {
            cluster: Some(store),
            members: (1..=3).map(member).collect(),
            master: Some(1),
            rebound: 1,
            rebound_modified: 15,
            version: 100,
            disks: BTreeMap::new(),
        }
    }

    /// No member, and no cluster.
    pub fn empty() -> Self {
        Self { cluster: None, members: BTreeMap::new(), master: None, ..Self::of_three(STORE) }
    }

    /// The store id of the cluster.
    pub const fn cluster(&self) -> Option<StoreId> {
        self.cluster
    }

    /// Forgets the cluster, as whoever removes its znodes does. `false` if a member is registered.
    pub fn forget_cluster(&mut self) -> bool {
        if self.members.is_empty() {
            self.cluster = None;
        }
        self.members.is_empty()
    }

    /// Ids of the registered members.
    pub fn members(&self) -> Vec<i32> {
        self.members.keys().copied().collect()
    }

    /// The member that acts as master, and the version of its registration.
    pub fn master(&self) -> Option<(i32, i64)> {
        let id = self.master?;
        Some((id, self.members[&id].created))
    }

    /// `master-rebound`: who was master last, also if it is gone, and the version of its last change.
    pub const fn rebound(&self) -> (i32, i64) {
        (self.rebound, self.rebound_modified)
    }

    /// What a volume holds; nothing if it is empty.
    pub fn on(&self, disk: &str) -> Option<&Data> {
        self.disks.get(disk)
    }

    /// Puts a store on a volume.
    pub fn put(&mut self, disk: &str, data: Data) {
        self.disks.insert(disk.to_owned(), data);
    }

    /// Removes what a volume holds.
    pub fn erase(&mut self, disk: &str) {
        self.disks.remove(disk);
    }

    /// What a registered member serves; `None` if nothing is known of its volume.
    pub fn served_by(&self, id: i32) -> Option<&Data> {
        let (_, disk) = self.members.get(&id)?.runs.as_ref()?;
        self.disks.get(disk)
    }

    /// A client writes: through the master, to all members. `false` if there is no master.
    pub fn write(&mut self, what: &'static str) -> bool {
        let Some(data) = self.master.and_then(|id| self.served_by(id)) else { return false };
        let mut data = data.clone();
        data.last_transaction += 1;
        data.writes.insert(what);
        self.spread(&data);
        true
    }

    /// The next member becomes master.
    pub fn move_master(&mut self) {
        let after = self.members.keys().find(|id| **id > self.rebound);
        let next = after.or_else(|| self.members.keys().next()).copied();
        self.master = next;
        self.rebound = next.unwrap_or(self.rebound);
        self.rebound_modified += 1;
    }

    /// A process starts on a volume and joins. `false` if it hangs in its start: its store is of another cluster.
    pub fn join(&mut self, id: i32, pod: &str, disk: &str) -> bool {
        let own = self.disks.get(disk).cloned();
        if own.as_ref().zip(self.cluster).is_some_and(|(own, cluster)| own.store != cluster) {
            return false;
        }
        let of_master = self.master.and_then(|master| self.served_by(master)).cloned();
        let fresh = || Data::new(self.cluster.unwrap_or(STORE), 1, &[]);
        let data = own.or(of_master).unwrap_or_else(fresh);
        self.cluster.get_or_insert(data.store);
        self.disks.insert(disk.to_owned(), data);
        self.version += 1;
        let runs = Some((pod.to_owned(), disk.to_owned()));
        self.members.insert(id, Member { runs, created: self.version });
        self.elect();
        true
    }

    /// A member ends its session.
    pub fn leave(&mut self, id: i32, pod: &str) {
        let is_it = |member: &Member| member.runs.as_ref().is_some_and(|(runs, _)| runs == pod);
        if self.members.get(&id).is_some_and(is_it) {
            self.members.remove(&id);
            self.elect();
        }
    }

    /// A member that is registered turns out to be a pod.
    pub fn adopt(&mut self, id: i32, pod: &str, disk: &str) {
        let store = self.cluster.unwrap_or(STORE);
        if let Some(member) = self.members.get_mut(&id).filter(|member| member.runs.is_none()) {
            member.runs = Some((pod.to_owned(), disk.to_owned()));
            self.disks.entry(disk.to_owned()).or_insert_with(|| Data::new(store, LAST_TRANSACTION, &[]));
        }
    }

    /// The sessions of all others are over.
    pub fn retain(&mut self, pods: &BTreeSet<&str>) {
        self.members.retain(|_, member| member.runs.as_ref().is_some_and(|(pod, _)| pods.contains(&**pod)));
        self.elect();
    }

    /// The highest transaction wins; among equals whoever is master, or else whoever registered first.
    fn elect(&mut self) {
        let rank = |(id, member): &(&i32, &Member)| {
            let data = member.runs.as_ref().and_then(|(_, disk)| self.disks.get(disk));
            let last = data.map_or(LAST_TRANSACTION, |data| data.last_transaction);
            (last, self.master == Some(**id), -member.created, -**id)
        };
        let best = self.members.iter().max_by_key(rank).map(|(id, _)| *id);
        if self.master != best {
            self.master = best;
            if let Some(best) = best {
                self.rebound = best;
                self.rebound_modified += 1;
            }
        }
        if let Some(data) = best.and_then(|id| self.served_by(id)).cloned() {
            self.spread(&data);
        }
    }

    /// Every registered member has what the master has: it catches up, or puts its own aside and copies.
    pub fn spread(&mut self, data: &Data) {
        for member in self.members.values() {
            if let Some((_, disk)) = &member.runs {
                self.disks.insert(disk.clone(), data.clone());
            }
        }
    }
}
