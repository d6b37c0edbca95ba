//! What one pass sees of the world, already read and typed. Pure data.

use crate::agent::verdict::Verdict;
use crate::api::Parent;
use crate::cluster_lock::HeldLock;
use crate::discovery::{DiscoveryError, Located};
use chrono::{DateTime, Utc};

/// What matters for the next step; observed anew in every pass.
#[derive(Debug)]
pub enum World {
    /// No attempt is open: may one start?
    Idle {
        /// Job of the newest closed attempt, if it still works.
        leftover: Option<JobRef>,
        /// What an attempt needs; not looked at while one is not due.
        ground: Option<Ground>,
    },
    /// An attempt is open: what became of its Jobs?
    Open {
        /// The Job that runs the tool.
        backup: JobState,
        /// The Job that asks the volume, once it is needed.
        inspect: JobState,
    },
}

/// What an attempt needs before it can start.
#[derive(Debug)]
pub enum Ground {
    /// The target claim does not exist.
    ClaimMissing,
    /// The claim is there, but the database cannot be found.
    NotFound(DiscoveryError),
    /// The database is found.
    Found(Box<Site>),
}

/// Where an attempt would run.
#[derive(Debug)]
pub struct Site {
    /// The master.
    pub located: Located,
    /// The lock of the cluster.
    pub lock: SiteLock,
    /// The newest earlier point; nothing when there is none, or when the whole store is copied anyway.
    pub parent: Option<Parent>,
}

/// Who holds the lock of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteLock {
    /// Nobody.
    Free,
    /// This backup, since an earlier attempt.
    Ours,
    /// Somebody who works, or of whom nothing is known; the text names the holder.
    Held(String),
    /// An object that is gone or done and has no Job that works.
    Abandoned(HeldLock),
}

/// An object by name and UID, for a delete that cannot hit another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRef {
    /// Name of the Job.
    pub name: String,
    /// UID of the Job.
    pub uid: String,
}

/// State of one Job of ours.
#[derive(Debug)]
pub enum JobState {
    /// There is none of this name.
    Absent,
    /// There is one of this name, but it is not ours.
    Foreign,
    /// It works, or waits to.
    Active {
        /// The Job.
        job: JobRef,
        /// When it was created.
        created: DateTime<Utc>,
        /// Whether its pod's containers have started, and if not, what keeps them.
        start: PodStart,
    },
    /// It has ended.
    Ended {
        /// Whether the Job controller ended it for `activeDeadlineSeconds`.
        deadline_exceeded: bool,
        /// UID of the pod whose verdict this is, or of the newest one.
        pod_uid: Option<String>,
        /// The agent's answer, if a pod still holds it.
        verdict: Option<Verdict>,
    },
}

/// How far a Job's pod came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodStart {
    /// The tool's container has started.
    Started,
    /// It has not, and this is what the cluster says about it.
    Waiting(Obstacle),
}

/// What keeps a pod from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing is known to be wrong yet.
    NoneKnown,
    /// An image cannot be pulled; the text names it.
    Image(String),
    /// Scheduling, volumes, or the container's configuration; the text says which.
    Other(String),
}
