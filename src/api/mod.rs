//! The kinds of group `graphbackup.dev`, their conditions and reasons, and the names of what belongs to them. No I/O.

mod attempt;
mod backup_schedule;
mod bandwidth;
pub mod condition;
mod crds;
mod graph_backup;
mod journal;
mod mastership;
pub mod names;
mod owner;
mod parts;
mod point;
mod reason;
mod restore;
mod schedule_status;
mod seed;
mod store_id;
mod time;

pub use attempt::{Attempt, Inspection, StoppedMember};
pub use backup_schedule::{
    BackupSchedule, BackupScheduleSpec, BackupTemplate, ConcurrencyPolicy, Drill, DrillVerification, Freshness,
    Retention, Scratch, Timing,
};
pub use bandwidth::parse_bandwidth;
pub use crds::crds_yaml;
pub use graph_backup::{
    BackupType, Cold, DeletionPolicy, GraphBackup, GraphBackupSpec, GraphBackupStatus, IfMaster, Method, Phase,
    Verification,
};
pub use journal::{ClaimRecord, Journal, MemberRecord, SurveyRecord, VolumeRecord, VolumeRole};
pub use mastership::{Endpoint, Incarnation, Mastership, MastershipToken, Movement, ProbeMark};
pub use owner::{Kind, Owner};
pub use parts::{Deadlines, PodTemplate, Retry, Source, Target, Tool, Workload};
pub use point::{Boot, CopiedBy, Parent, Point};
pub use reason::{Reason, Remedy};
pub use restore::{
    Approval, Cause, Direction, Downtime, OnFailure, Restore, RestoreDeadlines, RestoreFrom, RestoreInto, RestorePhase,
    RestorePlan, RestorePoint, RestoreSpec, RestoreStatus, RestoreStep,
};
pub use schedule_status::{
    Approved, BackupNow, BackupScheduleStatus, Capacity, DrillResult, DrillStatus, Failures, Keeps, LastPoint, Removes,
    RetentionStatus, RunningDrill, SchedulePhase, Skipped, Slot, TimingStatus,
};
pub use seed::{MendedHeader, Seed, SeedState};
pub use store_id::{ParseStoreIdError, StoreId};
pub use time::{moment, now_seconds, parse_duration, to_kubernetes};

/// API group and version of all kinds.
pub const API_VERSION: &str = "graphbackup.dev/v1alpha1";
