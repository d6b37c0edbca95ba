//! Effects in a few words, for tests that compare lists.

use super::Effect;

impl<R> Effect<R> {
    /// A few words, for tests that compare lists.
    pub fn words(&self) -> String {
        match self {
            Self::RequireUnchanged => "unchanged?".to_owned(),
            Self::TakeLock { .. } => "take lock".to_owned(),
            Self::ReleaseLocks => "release locks".to_owned(),
            Self::DeleteLock(_) => "delete lock".to_owned(),
            Self::CreateEvent(event) => format!("event {}", event.reason.as_deref().unwrap_or_default()),
            Self::RecordStatus(_) => "record".to_owned(),
            Self::ReplaceStatus(_) => "replace status".to_owned(),
            Self::SetFinalizers(_) => "set finalizers".to_owned(),
            Self::CreateJob { job, .. } => format!("create {}", job.metadata.name.as_deref().unwrap_or_default()),
            Self::DeleteJob(job) => format!("delete {}", job.name),
            Self::CreateClaim { .. } => "create claim".to_owned(),
            Self::DeleteClaim { .. } => "delete claim".to_owned(),
            Self::MarkClaim { name, .. } => format!("mark {name}"),
            Self::ChangeVolume { .. } => "change volume".to_owned(),
            Self::DeletePod { .. } => "delete pod".to_owned(),
            Self::Scale { .. } => "scale".to_owned(),
            Self::CreateObject { object, .. } => format!("create {}", object["metadata"]["name"]),
            Self::DeleteObject { object, .. } => format!("delete {}", object.name),
            Self::RecordOn { object, .. } => format!("record on {}", object.name),
            Self::ChangeMetadata { object, .. } => format!("change {}", object.name),
            Self::MarkAndDelete { object, .. } => format!("mark and delete {}", object.name),
        }
    }
}
