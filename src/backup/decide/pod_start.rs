//! How long a pod may take to start. Pure.

use crate::api::Reason;
use crate::backup::step::Ending;
use crate::backup::validate::ValidBackup;
use crate::controller::job::{JobRef, Obstacle};
use crate::controller::pace::since;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// Time left for the pod of a Job to start, or how its Job ends when there is none.
pub(super) fn time_to_start(
    backup: &ValidBackup,
    job: &JobRef,
    created: DateTime<Utc>,
    obstacle: Obstacle,
    now: DateTime<Utc>,
) -> Result<Duration, Ending> {
    let left = backup.pod_start_deadline.saturating_sub(since(created, now));
    if !left.is_zero() {
        return Ok(left);
    }
    let head = format!(
        "the pod of Job {} did not start within deadlines.podStart ({} s)",
        job.name,
        backup.pod_start_deadline.as_secs()
    );
    Err(match obstacle {
        Obstacle::Image(said) => Ending::new(
            Reason::ImageCannotBePulled,
            format!("{head}: {said}; check spec.tool.image and the pull secrets"),
        ),
        Obstacle::Other(said) => Ending::new(Reason::PodCannotStart, format!("{head}: {said}")),
        Obstacle::NoneKnown => Ending::new(Reason::PodCannotStart, format!("{head} and the cluster does not say why")),
    })
}
