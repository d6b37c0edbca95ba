//! Why a condition is as it is: a closed set of CamelCase words that is part of the API.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What the operator does about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Run again by itself, within `spec.retry.limit`.
    Retry,
    /// Running again gives the same result: a person has to change something.
    Act,
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident => $remedy:ident, )+) => {
        /// Why a condition is as it is. The text form is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$( Self::$name, )+];

            /// The CamelCase word that stands in conditions, Events and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )+ }
            }

            /// Whether a failed attempt with this reason is run again.
            pub const fn remedy(self) -> Remedy {
                match self { $( Self::$name => Remedy::$remedy, )+ }
            }
        }
    };
}

reasons! {
    // Progress.
    /// The object was seen for the first time and nothing has run yet.
    Pending => Retry,
    /// A backup Job runs.
    Running => Retry,
    /// An attempt failed; the next one waits for its back-off.
    RetryScheduled => Retry,
    /// The Job ended without a readable verdict; the volume is asked what became of the run.
    Inspecting => Retry,
    /// A manifest is on the volume and its digest on the object.
    Succeeded => Retry,
    /// Succeeded with a copy of the whole store, because an incremental one could not be made; the message says why.
    FellBackToFull => Retry,
    /// Succeeded with a point that was on the target already, made for another object.
    Adopted => Retry,
    /// Another backup of the same cluster works; this one starts when that has ended.
    WaitingForLock => Retry,
    /// `spec.adopt`: other points on the same claim are read back first.
    WaitingForTurn => Retry,
    /// A member is being stopped for a cold copy.
    StoppingMember => Retry,
    /// The member that was stopped for a cold copy is started again.
    StartingMember => Retry,
    /// The two readings of the mastership are equal.
    MasterUnchanged => Retry,
    /// `single://` names a member directly: whether the master changed cannot be seen.
    NotObservable => Retry,
    /// Every file of the point was read back and agrees with the manifest.
    ManifestVerified => Retry,
    /// The real engine opened a copy of the store, and every file of the point agrees with the manifest.
    StoreOpened => Retry,
    /// The newest log of the copy holds its last transaction: a cluster can start from it.
    LogsComplete => Retry,
    /// The tool left a wrong header in a log of the copy, which was mended: a cluster can start from it.
    LogHeaderMended => Retry,
    /// The header of a log in the copy is wrong and was not mended: slaves of a cluster that starts from it fail.
    LogHeaderWrong => Act,
    /// The last transaction of the copy is in none of its logs: no slave joins a cluster that starts from it.
    LastTransactionNotLogged => Act,
    /// A log of the copy cannot be read as one: whether a cluster can start from it is not known.
    LogsUnreadable => Act,
    /// `spec.verification` is `None`.
    NotRequested => Retry,
    /// Has not been found out yet.
    NotYetKnown => Retry,

    // The specification.
    /// The specification contradicts itself.
    InvalidSpec => Act,

    // Finding the database.
    /// No ZooKeeper server answered, or none that belongs to a quorum.
    EnsembleUnavailable => Retry,
    /// The ensemble does not know a cluster of this name.
    ClusterUnknown => Retry,
    /// The cluster is known but no live member claims to be master.
    NoMaster => Retry,
    /// The members disagree on who is master.
    ElectionRunning => Retry,
    /// The master publishes no usable address, or has lost its registration.
    MemberWithoutAddress => Retry,
    /// ZooKeeper holds several clusters where the database's version allows one.
    MultipleRoots => Act,
    /// A znode holds bytes that no known version of the database writes.
    ZnodeUnreadable => Act,
    /// The member's backup port does not answer.
    MemberUnreachable => Retry,
    /// The member answers questions over its backup port with an exception.
    MemberFailed => Retry,
    /// What answers on the backup port does not speak the backup protocol of Neo4j 1.5.1 to 1.9.
    NotABackupServer => Act,

    // Running the Job.
    /// The claim named in `spec.target.claimName` does not exist.
    TargetClaimMissing => Retry,
    /// The Job was refused by the API server (quota, admission, name in use).
    JobRefused => Retry,
    /// The pod did not start within `spec.deadlines.podStart`.
    PodCannotStart => Retry,
    /// The image of the tool cannot be pulled.
    ImageCannotBePulled => Retry,
    /// The run did not end within `spec.deadlines.run`.
    DeadlineExceeded => Act,
    /// The Job or its pod vanished and the volume holds no point of it.
    JobLost => Retry,
    /// The verdict was lost, and the volume could not be asked whether it holds the point.
    OutcomeUnknown => Act,
    /// The agent ended without a verdict, and the volume holds no point of it.
    AgentFailed => Retry,
    /// The agent was told to stop (eviction, drain, deletion) before it had published.
    Interrupted => Retry,

    // Stopping a member for a cold copy.
    /// The StatefulSet in `spec.cold.workload` does not exist, or was replaced in the middle of the run.
    WorkloadMissing => Retry,
    /// The StatefulSet does not have all its members up, or is rolling out: no further one is stopped.
    WorkloadNotReady => Retry,
    /// The StatefulSet is not one whose member could be copied; the message says what to change.
    WorkloadUnfit => Act,
    /// Scaling the StatefulSet down would delete the member's claim.
    ScaleDownDeletesClaim => Act,
    /// The member's volume and the target's cannot be mounted in one pod.
    TopologyMismatch => Act,
    /// The member that would be stopped is not registered in ZooKeeper.
    MemberNotRegistered => Retry,
    /// The member that would be stopped is the master, and `spec.cold.ifMaster` is `Refuse`.
    MemberIsMaster => Act,
    /// The API server refuses to scale the StatefulSet.
    ScaleRefused => Retry,
    /// The member did not stop in time; it was started again.
    MemberDidNotStop => Retry,
    /// The member was started again and did not register in ZooKeeper in time; the verdict of the copy stands.
    MemberNotBack => Act,
    /// Somebody scaled the StatefulSet while its member was stopped or copied.
    ScaledMeanwhile => Act,
    /// The member's store was not shut down cleanly.
    UncleanShutdown => Retry,
    /// The member's store changed while it was copied.
    SourceChanged => Retry,
    /// The member's store cannot be read from its volume.
    SourceUnreadable => Act,
    /// The member's volume failed, or did not answer.
    SourceIoError => Retry,

    // The tool.
    /// The tool's command cannot be executed in `spec.tool.image`.
    ToolNotFound => Act,
    /// The tool ended with an error that is not one of those below.
    ToolFailed => Retry,
    /// The tool was killed by a signal, most often because the pod's memory limit was reached.
    ToolKilled => Retry,
    /// The tool could not connect to the member it was pointed at, or lost it while it copied.
    MasterUnreachable => Retry,
    /// The tool reported success but left no complete store.
    ToolLeftNoStore => Retry,
    /// The store that the tool copied belongs to another database.
    StoreMismatch => Act,
    /// The logs that an incremental backup needs are gone from the master.
    LogsPruned => Act,
    /// There is no earlier point of the same cluster on the target that an incremental backup could start from.
    NoParent => Act,
    /// The earlier point may have been taken from another history of the same store, such as before a restore.
    HistoryMayDiffer => Act,
    /// The earlier point is not on the volume as its object says.
    ParentDamaged => Act,
    /// Characters in the names of indexes were replaced in the copy.
    NamesReplaced => Act,
    /// The tool's consistency check found errors in the copied store.
    ConsistencyFailed => Act,
    /// The target volume is full.
    TargetFull => Act,
    /// The target volume cannot be written (read-only, permissions, no file modes).
    TargetNotWritable => Act,
    /// The target volume failed, or did not answer.
    TargetIoError => Retry,
    /// Another run holds the lock on the target directory.
    TargetLocked => Retry,
    /// The target's file system has no file locks, without which two runs could write at once.
    LockUnsupported => Act,

    // The evidence.
    /// The master changed, or stepped down and returned, while the tool ran.
    MasterChanged => Retry,
    /// The Job claims success but there is no manifest to prove it.
    ManifestMissing => Retry,
    /// What is on the volume does not agree with its manifest.
    VerificationFailed => Act,
    /// The real engine could not open a copy of the store.
    BootFailed => Act,
    /// The point that `spec.adopt` names is not on the target.
    PointMissing => Act,
    /// The point that `spec.adopt` names is that of another `GraphBackup`.
    PointTaken => Act,
    /// The status of the object was written for another object.
    ForeignStatus => Act,
    /// `method: Cold`: the target holds a point that an earlier object of the same name made.
    EarlierPoint => Act,
    /// A foreign folder stands where the point would be published.
    PointExists => Act,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
