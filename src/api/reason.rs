//! The reasons of conditions: a closed set of CamelCase words that is part of the API.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What the operator does about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The operator runs the backup again by itself, within `spec.retry.limit`.
    Retry,
    /// Running again would give the same result: a person has to change something.
    Act,
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident => $remedy:ident, )+) => {
        /// The reason of a condition. Its text form is the variant's name.
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
    /// The operator has seen the object; nothing has run yet.
    Pending => Retry,
    /// A Job is copying the store.
    Running => Retry,
    /// An attempt failed, and the next one is waiting for its backoff.
    RetryScheduled => Retry,
    /// The Job ended without a readable verdict; the volume is inspected to find out what became of the run.
    Inspecting => Retry,
    /// A manifest is on the volume, and its digest is on the object.
    Succeeded => Retry,
    /// Succeeded with a copy of the whole store, because an incremental one was not possible; the message says why.
    FellBackToFull => Retry,
    /// Succeeded with a point that was already on the target, made for another object.
    Adopted => Retry,
    /// Another backup is using the same cluster; this one starts when that one finishes.
    WaitingForLock => Retry,
    /// The operator runs as many backups at once as it may; this one has no turn yet.
    WaitingForCapacity => Retry,
    /// `spec.adopt`: other points on the same claim are read back first.
    WaitingForTurn => Retry,
    /// A member is being stopped for a cold copy.
    StoppingMember => Retry,
    /// The member that was stopped for a cold copy is being started again.
    StartingMember => Retry,
    /// Both readings of the mastership are equal: the same member was master throughout.
    MasterUnchanged => Retry,
    /// `single://` names a member directly, so whether the master changed cannot be observed.
    NotObservable => Retry,
    /// Every file of the point was read back and matches the manifest.
    ManifestVerified => Retry,
    /// The real engine opened a copy of the store, and every file of the point matches the manifest.
    StoreOpened => Retry,
    /// The newest log of the copy holds its last transaction: a cluster can start from it.
    LogsComplete => Retry,
    /// The tool left a wrong header in a log of the copy, and the agent corrected it: a cluster can start from it.
    LogHeaderMended => Retry,
    /// The header of a log in the copy is wrong and was not corrected: slaves of a cluster that starts from it fail.
    LogHeaderWrong => Act,
    /// The last transaction of the copy is in none of its logs: no slave joins a cluster that starts from it.
    LastTransactionNotLogged => Act,
    /// A log of the copy cannot be parsed as one: whether a cluster can start from it is not known.
    LogsUnreadable => Act,
    /// `spec.verification` is `None`.
    NotRequested => Retry,
    /// Not determined yet.
    NotYetKnown => Retry,

    // The specification.
    /// The specification contradicts itself.
    InvalidSpec => Act,

    // Schedules.
    /// The schedule takes backups.
    Active => Retry,
    /// `spec.suspend` is `true`; also of the slots that passed meanwhile.
    Suspended => Retry,
    /// The operator can read the schedule.
    Valid => Retry,
    /// A cron expression cannot be read, or has no time that ever comes.
    InvalidExpression => Act,
    /// `spec.timeZone` names no time zone.
    InvalidTimeZone => Act,
    /// The newest recovery point is fresh enough.
    OnTime => Retry,
    /// The schedule has no recovery point yet.
    NoBackupYet => Retry,
    /// The newest recovery point is too old, and no backup has failed since.
    Overdue => Act,
    /// The newest recovery point is too old, because backups fail.
    LastRunFailed => Act,
    /// The newest recovery point is too old, because a slot was skipped.
    SlotSkipped => Act,
    /// `concurrencyPolicy: Replace`: the backups are replaced again and again before they end.
    ReplacedTooSoon => Act,
    /// A slot was skipped, because its backup could not start within `startingDeadline`.
    DeadlineMissed => Retry,
    /// A slot was skipped, because an earlier backup of the schedule was not over.
    PreviousStillRunning => Retry,
    /// A slot was skipped, because one backup stands for several slots that had passed.
    Superseded => Retry,
    /// A slot was skipped, because its expression or time zone was changed before its backup was taken.
    ScheduleChanged => Retry,
    /// A slot was skipped, because a foreign object has the name of its backup.
    NameTaken => Act,
    /// Slots are skipped for a while, because backups keep failing for the same cause on the target.
    TargetKeepsFailing => Act,
    /// The API server refuses the backup that is due.
    BackupRefused => Retry,
    /// Only points are left that a rule keeps.
    RetentionApplied => Retry,
    /// The last restore drill failed; the message names the reason.
    DrillFailed => Act,
    /// Points that no rule keeps are being removed.
    RemovingPoints => Retry,
    /// The API server refuses to delete a backup that has to go, or to change its mark.
    RemovalRefused => Retry,
    /// The retention plan removes more points than `approveAbove`: a person has to approve it.
    ApprovalRequired => Act,

    // Finding the database.
    /// No ZooKeeper server answered, or none that belongs to a quorum.
    EnsembleUnavailable => Retry,
    /// The ensemble knows no cluster of this name.
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
    /// The member answers requests on its backup port with an exception.
    MemberFailed => Retry,
    /// What answers on the backup port does not speak the backup protocol of Neo4j 1.5.1 to 1.9.
    NotABackupServer => Act,

    // Running the Job.
    /// The claim named in `spec.target.claimName` does not exist.
    TargetClaimMissing => Retry,
    /// The API server refuses the Job (quota, admission, name in use).
    JobRefused => Retry,
    /// The pod did not start within `spec.deadlines.podStart`.
    PodCannotStart => Retry,
    /// The image of the tool or of the operator cannot be pulled.
    ImageCannotBePulled => Retry,
    /// The run did not end within `spec.deadlines.run`.
    DeadlineExceeded => Act,
    /// The Job or its pod vanished, and the volume holds no point of it.
    JobLost => Retry,
    /// The verdict was lost, and no inspection could tell whether the volume holds the point.
    OutcomeUnknown => Act,
    /// The agent ended without a verdict, and the volume holds no point of it.
    AgentFailed => Retry,
    /// The agent was told to stop (eviction, drain, deletion) before it had published.
    Interrupted => Retry,

    // Stopping a member for a cold copy.
    /// The StatefulSet in `spec.cold.workload` does not exist, or was replaced during the run.
    WorkloadMissing => Retry,
    /// Not all members of the StatefulSet are ready, or an update is in progress: no further one is stopped.
    WorkloadNotReady => Retry,
    /// No member of the StatefulSet can be copied as it is; the message says what to change.
    WorkloadUnfit => Act,
    /// Scaling the StatefulSet down would delete the member's claim.
    ScaleDownDeletesClaim => Act,
    /// The member's volume and the target's cannot be mounted in one pod.
    TopologyMismatch => Act,
    /// The member to be stopped is not registered in ZooKeeper.
    MemberNotRegistered => Retry,
    /// The member to be stopped is the master, and `spec.cold.ifMaster` is `Refuse`.
    MemberIsMaster => Act,
    /// The API server refuses to scale the StatefulSet.
    ScaleRefused => Retry,
    /// The member did not stop in time, and was started again.
    MemberDidNotStop => Retry,
    /// The member was started again and did not register in ZooKeeper in time. The verdict on the copy does not change.
    MemberNotBack => Act,
    /// Somebody scaled the StatefulSet while its member was stopped or copied.
    ScaledMeanwhile => Act,
    /// The member's store was not shut down cleanly.
    UncleanShutdown => Retry,
    /// The member's store changed while it was being copied.
    SourceChanged => Retry,
    /// The member's store, or with a restore what lies beside it, cannot be read from its volume.
    SourceUnreadable => Act,
    /// The member's own volume failed, or did not answer.
    SourceIoError => Retry,

    // The tool.
    /// The tool's command cannot be executed in `spec.tool.image`.
    ToolNotFound => Act,
    /// The tool ended with an error that is none of those below.
    ToolFailed => Retry,
    /// The tool was killed by a signal, most often because the pod's memory limit was reached.
    ToolKilled => Retry,
    /// The tool could not connect to the member, or lost the connection while it copied.
    MasterUnreachable => Retry,
    /// The tool reported success but left no complete store.
    ToolLeftNoStore => Retry,
    /// The copied store belongs to a different database.
    StoreMismatch => Act,
    /// The logs that an incremental backup needs are gone from the master.
    LogsPruned => Act,
    /// The target has no earlier point of the same cluster from which an incremental backup could start.
    NoParent => Act,
    /// The earlier point or the copy may have a different history of the same store, as after a restore.
    HistoryMayDiffer => Act,
    /// The earlier point on the volume is not what its object says.
    ParentDamaged => Act,
    /// Characters in the names of indexes were replaced in the copy.
    NamesReplaced => Act,
    /// The tool's consistency check found errors in the copied store.
    ConsistencyFailed => Act,
    /// The target volume is full.
    TargetFull => Act,
    /// The agent cannot write to the target volume (read-only, permissions, no file modes).
    TargetNotWritable => Act,
    /// The target volume failed, or did not answer.
    TargetIoError => Retry,
    /// Another run holds the lock on the target directory.
    TargetLocked => Retry,
    /// The target's file system has no file locks, so two runs could write at once.
    LockUnsupported => Act,

    // The evidence.
    /// The master changed, or stepped down and returned, while the tool ran.
    MasterChanged => Retry,
    /// The verdict claims success, but there is no manifest to prove it.
    ManifestMissing => Retry,
    /// What is on the volume does not match its manifest.
    VerificationFailed => Act,
    /// The real engine could not open a copy of the store.
    BootFailed => Act,
    /// A restore drill: the scratch volume is full, or too small for the point.
    ScratchFull => Act,
    /// The point that `spec.adopt` names, or that is drilled or restored, is not on the target.
    PointMissing => Act,
    /// The point that `spec.adopt` names belongs to another `GraphBackup`.
    PointTaken => Act,
    /// The object's status was written for another object.
    ForeignStatus => Act,
    /// `method: Cold`: the target holds a point that an earlier object of the same name made.
    EarlierPoint => Act,
    /// A foreign folder is where the point would be published.
    PointExists => Act,

    // Restores.
    /// The plan waits for the approval of a person.
    WaitingForApproval => Act,
    /// New volumes are being written while the database serves.
    Staging => Retry,
    /// All members are being stopped.
    StoppingMembers => Retry,
    /// The volumes are being exchanged.
    Swapping => Retry,
    /// The first member starts with the restored store.
    StartingMembers => Retry,
    /// The operator waits until every member serves the restored store.
    Proving => Retry,
    /// Every member serves the restored store.
    Restored => Retry,
    /// The original volumes are being put back.
    RollingBack => Act,
    /// The original volumes serve again.
    RolledBack => Act,
    /// Somebody asked for the original volumes, or deleted the `Restore`.
    CalledOff => Act,
    /// Members could not join a cluster that starts from the point.
    PointNotSeedable => Act,
    /// A member that is not of the StatefulSet is registered with the cluster.
    StoreIdInUse => Act,
    /// The volume of a member cannot be exchanged.
    VolumeUnfit => Act,
    /// A claim does not go, because a pod or a foreign finalizer keeps it.
    ClaimHeld => Act,
    /// The API server refuses a claim.
    ClaimRefused => Act,
    /// The API server refuses to read or to change a volume.
    VolumeRefused => Act,
    /// A volume of the restore is gone, or is another one.
    VolumeLost => Act,
    /// Another member is master than the one that has the restored store.
    SeedNotMaster => Act,
    /// The store's folder on a member's volume, or a folder that it is in, is a link or no folder.
    StorePathUnfit => Act,
    /// A member's volume holds something besides the store that no copy can hold, such as a device.
    CannotBeCarried => Act,
    /// The new volume of a member is full, or too small for what is restored to it.
    StagingFull => Act,
    /// The new volume of a member holds something that this restore did not put there.
    StagingNotEmpty => Act,
    /// The agent cannot write to the new volume of a member (read-only, permissions, no file modes).
    StagingNotWritable => Act,
    /// The new volume of a member failed, or did not answer.
    StagingIoError => Retry,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
