//! A whole cluster, shared by the tests of a process: starting six JVMs takes its time.

use super::{Ensemble, Member, wait_for};
use graph_backup_operator::{
    api::{Mastership, MastershipToken},
    discovery::{DEFAULT_CLUSTER_NAME, Discovery, Located, Network},
};
use std::time::Duration;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

/// How long members that run, or are started once, may take to be a whole cluster.
const WHOLE_BOUND: Duration = Duration::from_secs(60);

/// ZooKeeper servers and members: three of each, ids 1 to 3, if it is the shared one.
#[derive(Debug)]
pub struct Cluster {
    /// The ZooKeeper servers.
    pub ensemble: Ensemble,
    /// The members, by id minus one.
    pub members: Vec<Member>,
}

static SHARED: Mutex<Option<Cluster>> = Mutex::const_new(None);

impl Cluster {
    /// The shared cluster, all members up and one of them master, for one test at a time.
    ///
    /// A test may do with it what it likes: what it broke is repaired for the next one. Who is master is not said.
    pub async fn shared() -> ClusterGuard {
        let mut guard = SHARED.lock().await;
        if guard.is_none() {
            *guard = Some(Self::start().await);
        }
        guard.as_mut().unwrap().repair().await;
        ClusterGuard(guard)
    }

    async fn start() -> Self {
        Self::on(Ensemble::start(3).await, 3).await
    }

    /// A cluster of its own, for a test that the shared one does not fit: `count` members, of which the first is up.
    pub async fn on(ensemble: Ensemble, count: i32) -> Self {
        let mut members: Vec<_> = (1..=count).map(|id| Member::new(id, &ensemble, DEFAULT_CLUSTER_NAME)).collect();
        // The first alone, so that the cluster is its store.
        members[0].start();
        members[0].ready().await;
        members[0].write(3).await;
        Self { ensemble, members }
    }

    /// Brings up what is down, and starts every member anew if they do not become a cluster again.
    ///
    /// A machine that stands still for longer than a session lives can cost a member its registration for good: 1.8
    /// serves on without it, and no look-up finds it.
    pub async fn repair(&mut self) {
        self.ensemble.repair().await;
        if timeout(WHOLE_BOUND, self.whole()).await.is_ok() {
            return;
        }
        for member in &mut self.members {
            member.kill();
        }
        let ensemble = &self.ensemble;
        // A member that starts while its last session lives hangs for ever.
        wait_for("the members' sessions to end", Duration::from_secs(60), async || {
            (ensemble.sessions().await == 0).then_some(())
        })
        .await;
        self.whole().await;
    }

    /// Starts what does not run, and waits until every member is registered and one of them is found as master.
    async fn whole(&mut self) {
        for member in &mut self.members {
            if member.runs() {
                member.thaw();
            } else {
                member.start();
            }
            // One after another: starting JVMs must not starve those that run.
            member.ready().await;
        }
        self.located().await;
        let (network, uri) = (Network::default(), self.ensemble.uri());
        wait_for("every member to be registered", Duration::from_secs(60), async || {
            let registered = network.members(&uri, None).await.ok()?;
            (registered.len() == self.members.len()).then_some(())
        })
        .await;
    }

    /// The master, as soon as there is one that says so itself.
    pub async fn master(&mut self) -> &mut Member {
        let master = wait_for("a master", Duration::from_secs(90), async || {
            for member in &self.members {
                if member.runs() && member.state().await.is_some_and(|state| state.is_master) {
                    return Some(member.id);
                }
            }
            None
        })
        .await;
        self.member(master)
    }

    /// The member with this id.
    pub fn member(&mut self, id: i32) -> &mut Member {
        self.members.iter_mut().find(|member| member.id == id).unwrap()
    }

    /// What a look-up finds, as soon as it finds a master.
    pub async fn located(&self) -> Located {
        self.located_where(|_| true).await
    }

    /// What a look-up finds, as soon as it is what the test waits for.
    pub async fn located_where(&self, wanted: impl Fn(&MastershipToken) -> bool) -> Located {
        let network = Network::default();
        let uri = self.ensemble.uri();
        wait_for("a look-up to find the master", Duration::from_secs(90), async || {
            let located = network.locate(&uri, None).await.ok()?;
            matches!(&located.mastership, Mastership::Master(token) if wanted(token)).then_some(located)
        })
        .await
    }
}

/// The shared cluster, until this is dropped.
pub struct ClusterGuard(MutexGuard<'static, Option<Cluster>>);

impl std::ops::Deref for ClusterGuard {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for ClusterGuard {
    fn deref_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap()
    }
}
