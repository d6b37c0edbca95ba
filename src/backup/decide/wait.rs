//! What a backup waits for, in words for its object. Pure.

use crate::api::{Attempt, GraphBackupStatus, Inspection, Reason, StoppedMember};
use crate::backup::step::{DEADLINE_MARGIN, Waiting};
use crate::backup::validate::ValidBackup;
use std::time::Duration;

/// Bounds of the time between two looks at a member that stops or starts: nothing tells when ZooKeeper knows of it.
pub const LOOK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// The target claim is missing.
pub(super) fn claim_missing(backup: &ValidBackup, look_again: Duration) -> Waiting {
    Waiting {
        reason: Reason::TargetClaimMissing,
        message: format!(
            "PersistentVolumeClaim {} does not exist in namespace {}: create it, or correct spec.target.claimName in a new \
             GraphBackup",
            backup.target.claim_name, backup.owner.namespace
        ),
        look_again,
    }
}

/// `holder`, in words, has the lock of the cluster.
pub fn lock_held(holder: &str, look_again: Duration) -> Waiting {
    Waiting {
        reason: Reason::WaitingForLock,
        message: format!("{holder} is using this cluster; this backup starts when it finishes"),
        look_again,
    }
}

/// What an open attempt is doing.
pub fn running(status: &GraphBackupStatus) -> Waiting {
    let message = match status.attempts.last() {
        Some(Attempt { inspection: Some(inspection), job, .. }) => {
            return Waiting {
                reason: Reason::Inspecting,
                message: format!(
                    "Job {job} ended without a verdict: {}",
                    asking(inspection, "inspects the volume for a published point")
                ),
                look_again: DEADLINE_MARGIN,
            };
        }
        Some(Attempt { stopped: Some(stopped), .. }) if stopped.gone_time.is_none() => {
            return Waiting {
                reason: Reason::StoppingMember,
                message: format!(
                    "pod {} (member {}) is stopped once a check shows that its store can be copied",
                    stopped.pod, stopped.member_id
                ),
                look_again: DEADLINE_MARGIN,
            };
        }
        Some(Attempt { stopped: Some(stopped), .. }) if stopped.restored_time.is_some() => {
            return starting(stopped);
        }
        Some(Attempt { stopped: Some(stopped), job, .. }) => {
            format!("Job {job} copies the store of pod {}, which is stopped", stopped.pod)
        }
        Some(attempt) => format!("Job {} copies from {}", attempt.job, attempt.mastership.endpoint()),
        None => String::new(),
    };
    Waiting { reason: Reason::Running, message, look_again: DEADLINE_MARGIN }
}

/// What an inspection is doing. `does` says it of its Job.
fn asking(inspection: &Inspection, does: &str) -> String {
    match (&inspection.unanswered, inspection.unanswered_time) {
        (Some(why), Some(_)) => format!("Job {} gave no answer and is run again: {why}", inspection.job),
        _ => format!("Job {} {does}", inspection.job),
    }
}

/// What stands on the object while a point is read back to be adopted.
pub fn reading(adoption: &Inspection) -> Waiting {
    Waiting {
        reason: Reason::Running,
        message: asking(adoption, "reads the point back"),
        look_again: Duration::from_mins(1),
    }
}

/// What stands on the object while the member of a cold backup comes back.
pub(super) fn starting(stopped: &StoppedMember) -> Waiting {
    Waiting {
        reason: Reason::StartingMember,
        message: format!(
            "pod {} (member {}) has been started again; the backup waits until it is registered in ZooKeeper",
            stopped.pod, stopped.member_id
        ),
        look_again: LOOK.0,
    }
}
