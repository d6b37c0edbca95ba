//! Log and metrics of what a pass did.

use super::status::success;
use super::step::{Decision, Ending, Note, ObjectStep, Removal, Step};
use crate::api::GraphBackup;
use crate::controller::metrics::Metrics;
use kube::ResourceExt;

/// Logs and counts a decision that was executed.
pub fn log_step(object: &GraphBackup, decision: &Decision, metrics: &Metrics) {
    let backup = object.name_any();
    if let Some(job) = &decision.delete_first {
        tracing::info!(backup, job = job.name, "Job deleted: its agent has ended, its pod has not");
    }
    match &decision.step {
        Step::Object(step) => log_object_step(object, step, metrics),
        Step::Remove(removal) => log_removal(&backup, removal),
        Step::Wait(waiting) => tracing::debug!(backup, reason = %waiting.reason, "waits: {}", waiting.message),
        Step::OpenAttempt { attempt, .. } => {
            let (number, job, master) = (attempt.number, &attempt.job, attempt.mastership.endpoint());
            tracing::info!(backup, attempt = number, job, %master, "attempt started");
        }
        Step::CopyMember(attempt) => {
            tracing::info!(backup, job = attempt.job, "the member is gone, and its store is copied");
        }
        Step::RecreateJob(attempt) => tracing::info!(backup, job = attempt.job, "Job created again"),
        Step::RecreateCheck => tracing::info!(backup, "Job that checks the volumes created again"),
        Step::Checked => tracing::info!(backup, "a cold copy can be made"),
        Step::StopMember(to) => tracing::info!(backup, replicas = to.replicas, "the member is being stopped"),
        Step::StartMember(to) => tracing::info!(backup, replicas = to.replicas, "the member is started again"),
        Step::LeaveReplicas => tracing::info!(backup, "there are no replicas to put back"),
        Step::MemberMissing(note) => tracing::warn!(backup, "{note}"),
        Step::BreakLock(lock) => tracing::info!(backup, lease = lock.name, "abandoned lock deleted"),
        Step::Adopt(_, reading) => tracing::info!(backup, job = reading.job, "the point is read back to be adopted"),
        Step::Inspect(inspection) => {
            tracing::info!(backup, job = inspection.job, "the verdict is lost: the volume is inspected");
        }
        Step::Unanswered(inspection, _) => {
            let why = inspection.unanswered.as_deref().unwrap_or_default();
            tracing::warn!(backup, job = inspection.job, "the inspection gave no answer: {why}");
        }
        Step::CloseAttempt(ending) => {
            metrics.attempt_failed(ending.reason);
            tracing::warn!(backup, reason = %ending.reason, "attempt failed: {}", ending.message);
        }
        Step::DeleteJob(job) => tracing::info!(backup, job = job.name, "Job of a closed attempt deleted"),
        Step::Succeed(point) => {
            let uid = object.uid().unwrap_or_default();
            metrics.succeeded(success(point, &uid).0, point);
            tracing::info!(backup, bytes = point.bytes, digest = point.manifest_digest, "succeeded");
        }
        Step::Fail(ending) => log_failure(&backup, ending, metrics),
    }
}

fn log_failure(backup: &str, ending: &Ending, metrics: &Metrics) {
    metrics.finished(ending.reason);
    tracing::warn!(backup, reason = %ending.reason, "failed: {}", ending.message);
}

fn log_object_step(object: &GraphBackup, step: &ObjectStep, metrics: &Metrics) {
    let backup = object.name_any();
    match step {
        ObjectStep::Nothing => {}
        ObjectStep::SetFinalizers(finalizers) => tracing::debug!(backup, ?finalizers, "finalizers set"),
        ObjectStep::Refuse(ending) | ObjectStep::Disown(ending) => log_failure(&backup, ending, metrics),
        ObjectStep::Release(note) => log_release(&backup, note.as_ref()),
    }
}

fn log_release(backup: &str, note: Option<&Note>) {
    tracing::info!(backup, note = note.map(|note| note.message.as_str()), "deleted");
}

fn log_removal(backup: &str, removal: &Removal) {
    match removal {
        Removal::Release(note) => log_release(backup, note.as_ref()),
        Removal::StopJob(job) => tracing::info!(backup, job = job.name, "Job of a deleted object deleted"),
        Removal::StartMember(_) => {
            tracing::info!(backup, "the member that a deleted object stopped is started again");
        }
        Removal::Prune => tracing::info!(backup, "the files of a deleted object are being removed"),
        Removal::Failed { note, .. } => {
            tracing::warn!(backup, reason = %note.reason, "files not removed: {}", note.message);
        }
        Removal::Wait(_) => {}
    }
}
