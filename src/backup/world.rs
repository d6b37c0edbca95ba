//! What one pass sees of the world, already read and typed. Pure data.

use crate::api::{Attempt, Parent, StoppedMember, StoreId};
use crate::controller::job::{JobRef, JobState};
use crate::controller::lock::HeldLock;
use crate::discovery::{DiscoveryError, Located};
use crate::members::choose::Ineligible;
use crate::members::replicas::MemberState;
use chrono::{DateTime, Utc};

/// What matters for the next step; observed anew in every pass. It carries the attempt that it was observed for.
#[derive(Debug)]
pub enum World<'a> {
    /// The request needs nothing of it.
    NotObserved,
    /// No attempt is open: may one start?
    Idle {
        /// Job of the newest closed attempt, if it still works.
        leftover: Option<JobRef>,
        /// The member that the newest attempt stopped, if its replicas are not put back yet.
        member: Option<(&'a Attempt, &'a StoppedMember, MemberState)>,
        /// How the member is that was started again and is not registered yet.
        missing: Option<String>,
        /// What an attempt needs; not observed while one is not due.
        prerequisites: Option<Prerequisites>,
    },
    /// The object adopts a point of the store with this id.
    Adopting(StoreId, Adoption),
    /// An attempt is open whose member is not gone yet.
    Stopping(Stopping<'a>),
    /// An attempt is open: what became of its Jobs?
    Open(Open<'a>),
    /// The object is deleted.
    Deleted(DeletionView),
}

/// An open attempt whose member is not gone yet.
#[derive(Debug)]
pub struct Stopping<'a> {
    /// The attempt.
    pub attempt: &'a Attempt,
    /// Its member, as the attempt recorded it.
    pub stopped: &'a StoppedMember,
    /// The member's StatefulSet now.
    pub member: MemberState,
    /// The Job that checks whether a copy can be made; not observed once the member is being stopped.
    pub check: JobState,
    /// Whether a pod of that Job is still there although the Job is gone.
    pub check_pod: bool,
}

/// An open attempt whose Jobs decide.
#[derive(Debug)]
pub struct Open<'a> {
    /// The attempt.
    pub attempt: &'a Attempt,
    /// The Job that makes the copy.
    pub backup: JobState,
    /// The Job that inspects the volume, once it is needed.
    pub inspect: JobState,
    /// The member that the attempt stopped, until its replicas are put back.
    pub member: Option<(&'a StoppedMember, MemberState)>,
    /// How that member is when it was started again and is not registered yet.
    pub missing: Option<String>,
}

/// What there is of a point that is to be adopted.
#[derive(Debug)]
pub struct Adoption {
    /// Whether the target claim exists.
    pub claim: bool,
    /// Name of another object that has the point.
    pub taken_by: Option<String>,
    /// Other objects whose points on the same claim are read back first.
    pub ahead: usize,
    /// The Job that reads the point back.
    pub job: JobState,
}

/// What an attempt needs before it can start.
#[derive(Debug)]
pub enum Prerequisites {
    /// The target claim does not exist.
    ClaimMissing,
    /// The claim is there, but the database cannot be found.
    NotFound(DiscoveryError),
    /// The database is found, but no member of it can be stopped for a cold copy.
    Ineligible(Ineligible),
    /// The database is found.
    Met(Box<Candidate>),
}

/// What an attempt would copy, and from where.
#[derive(Debug)]
pub struct Candidate {
    /// The member to copy from: the master, or the one that is stopped.
    pub located: Located,
    /// What puts that one back, for a cold copy.
    pub stopped: Option<StoppedMember>,
    /// The lock of the cluster.
    pub lock: LockState,
    /// The newest earlier point; nothing when there is none, or when the whole store is copied anyway.
    pub parent: Option<Parent>,
    /// The object, in words, that is still making one, if there is none that an `Incremental` backup could start from.
    pub upcoming: Option<String>,
    /// How many backups may work at the same time, if this one has to wait for its turn.
    pub crowded: Option<usize>,
}

/// Who holds the lock of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Not looked at: before the first attempt, taking it tells.
    NotObserved,
    /// Nobody.
    Free,
    /// This backup, since an earlier attempt.
    Ours,
    /// An object that works, or of which nothing is known; the text names it.
    Held(String),
    /// An object that is gone or over and has neither a Job nor a pod that works.
    Abandoned(HeldLock),
}

/// What is left of a deleted object.
#[derive(Debug)]
pub enum DeletionView {
    /// Its namespace is deleted, too: its claim, its Jobs and the operator's rights go, and nothing needs to be
    /// removed.
    NamespaceTerminating,
    /// Its namespace stays.
    Remains(Box<Remains>),
}

/// What is left of a deleted object whose namespace stays.
#[derive(Debug)]
pub struct Remains {
    /// When the object was deleted.
    pub deleted: DateTime<Utc>,
    /// Jobs of the object that work and could still write.
    pub working: Vec<JobRef>,
    /// The member that the newest attempt stopped, if its replicas are not put back yet.
    pub member: Option<(StoppedMember, MemberState)>,
    /// Whether that member is still registered in ZooKeeper, as far as can be told.
    pub registered: bool,
    /// Whether the target claim exists.
    pub claim: bool,
    /// The Job that removes the files.
    pub prune: JobState,
    /// When that Job was created, and what it is.
    pub prune_job: Option<(JobRef, DateTime<Utc>)>,
    /// Whether that Job is deleted and not gone yet.
    pub prune_terminating: bool,
}
