//! What one pass sees of the world, already read and typed. Pure data.

use crate::api::{Parent, Reason, StoppedMember};
use crate::contract::verdict::Verdict;
use crate::controller::lock::HeldLock;
use crate::discovery::{DiscoveryError, Located};
use chrono::{DateTime, Utc};

/// What matters for the next step; observed anew in every pass.
#[derive(Debug)]
pub enum World {
    /// No attempt is open: may one start?
    Idle {
        /// Job of the newest closed attempt, if it still works.
        leftover: Option<JobRef>,
        /// The member that it stopped, if its replicas are not put back yet.
        member: Option<MemberState>,
        /// How the member is that was started again and is not registered yet.
        away: Option<String>,
        /// What an attempt needs; not looked at while one is not due.
        ground: Option<Ground>,
    },
    /// The object adopts a point.
    Adopting(Adoption),
    /// An attempt is open whose member is not gone yet.
    Stopping {
        /// The Job that checks whether a copy can be made; not looked at once the member is being stopped.
        check: JobState,
        /// Whether a pod of that Job is still there although the Job is gone.
        check_pod: bool,
        /// The member.
        member: MemberState,
    },
    /// An attempt is open: what became of its Jobs?
    Open {
        /// The Job that runs the tool.
        backup: JobState,
        /// The Job that asks the volume, once it is needed.
        inspect: JobState,
        /// The member that it stopped, until its replicas are put back.
        member: Option<MemberState>,
        /// How that member is when it was started again and is not registered yet.
        away: Option<String>,
    },
}

/// What there is of a point that is to be adopted.
#[derive(Debug)]
pub struct Adoption {
    /// Whether the target claim exists.
    pub claim: bool,
    /// Name of another object that has the point.
    pub taken_by: Option<String>,
    /// The Job that reads the point back.
    pub job: JobState,
}

/// What an attempt needs before it can start.
#[derive(Debug)]
pub enum Ground {
    /// The target claim does not exist.
    ClaimMissing,
    /// The claim is there, but the database cannot be found.
    NotFound(DiscoveryError),
    /// The database is found, but no member of it can be stopped for a cold copy.
    Unfit(Unfit),
    /// The database is found.
    Found(Box<Site>),
}

/// Why no member can be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Typed reason.
    pub reason: Reason,
    /// What is in the way and what to do.
    pub message: String,
}

impl Unfit {
    /// From its parts.
    pub const fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }
}

/// Where an attempt would run.
#[derive(Debug)]
pub struct Site {
    /// The member to copy from: the master, or the one that is stopped.
    pub located: Located,
    /// What puts that one back, for a cold copy.
    pub stopped: Option<StoppedMember>,
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

/// A member that an attempt stops, by its StatefulSet.
#[derive(Debug)]
pub enum MemberState {
    /// The StatefulSet does not exist any more, or is another one of its name.
    WorkloadGone,
    /// The StatefulSet is there.
    Present {
        /// `spec.replicas`.
        replicas: i32,
        /// `metadata.generation`.
        generation: i64,
        /// `metadata.resourceVersion`.
        resource_version: String,
        /// Whether there are as many pods as `replicas` says, by a controller that has seen the newest generation.
        settled: bool,
        /// Whether the member is registered in ZooKeeper; not looked at before its pod is gone.
        registered: Option<Result<bool, DiscoveryError>>,
    },
}

/// A number of replicas, for a StatefulSet as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleTo {
    /// `spec.replicas`.
    pub replicas: i32,
    /// `metadata.resourceVersion` of the StatefulSet: scaling fails when it has moved on.
    pub resource_version: String,
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
    /// The agent has ended, or the Job has.
    Ended {
        /// Whether the Job controller ended it for `activeDeadlineSeconds`.
        deadline_exceeded: bool,
        /// UID of the pod whose verdict this is, or of the newest one.
        pod_uid: Option<String>,
        /// The agent's answer, if a pod still holds it.
        verdict: Option<Verdict>,
        /// The memory limit at which the agent was killed, if it was; empty where it had none.
        out_of_memory: Option<String>,
        /// The Job, if something else than the agent keeps its pod running.
        lingering: Option<JobRef>,
    },
}

impl JobState {
    /// The Job, if it still works or something keeps its pod.
    pub fn at_work(&self) -> Option<JobRef> {
        match self {
            Self::Active { job, .. } | Self::Ended { lingering: Some(job), .. } => Some(job.clone()),
            Self::Absent | Self::Foreign | Self::Ended { lingering: None, .. } => None,
        }
    }
}

/// How far a Job's pod came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodStart {
    /// The tool's container has started.
    Started,
    /// It has not, and this is what the cluster says about it.
    Waiting(Obstacle),
    /// The Job has a pod, but it cannot be found: it may work.
    Unseen,
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
