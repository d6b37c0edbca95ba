//! The verdict is lost with its pod or its Job: only the volume knows.

use crate::apiserver::{Key, Verb};
use crate::backup::jobs::{backup, inspect};
use crate::backup::scenario::{Scenario, scenario};
use crate::fault::delete;
use crate::world::cluster::Behaviour::{Dies, Fails, Hangs, JobVanishes, NodeDies, PodVanishes, Says, SaysNothing};
use graph_backup_operator::api::Reason;
use serde_json::json;

pub fn killed_before_publishing() -> Scenario {
    scenario("killed before publishing").backup_job(Dies { published: false }).succeeds(&[
        backup(1),
        inspect(1, 1),
        backup(2),
    ])
}

pub fn killed_after_publishing() -> Scenario {
    scenario("killed after publishing")
        .spec("/retry/limit", json!(0))
        .backup_job(Dies { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn pod_evicted_before_publishing() -> Scenario {
    scenario("pod evicted before publishing")
        .spec("/retry/limit", json!(0))
        .backup_job(PodVanishes { published: false })
        .fails(Reason::JobLost, &[backup(1), inspect(1, 1)])
}

pub fn pod_evicted_after_publishing() -> Scenario {
    scenario("pod evicted after publishing")
        .backup_job(PodVanishes { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn job_deleted_before_publishing() -> Scenario {
    scenario("Job deleted before publishing").tool_needs(60).backup_job(JobVanishes { published: false }).succeeds(&[
        backup(1),
        inspect(1, 1),
        backup(2),
    ])
}

pub fn job_deleted_after_publishing() -> Scenario {
    scenario("Job deleted after publishing")
        .tool_needs(60)
        .backup_job(JobVanishes { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
}

/// So soon that it looks as if the creation had been lost: it is created again, for the same attempt.
pub fn job_deleted_right_after_its_creation() -> Scenario {
    scenario("Job deleted right after its creation")
        .tight()
        .in_mid_run(|store| {
            let keys: Vec<Key> = store.list("Job").map(Key::of).collect();
            for key in keys {
                delete(store, &key);
            }
        })
        .succeeds(&[backup(1), backup(1)])
}

/// Later than `deadlines.podStart`: a Job without a pod is not one whose pod did not start.
pub fn pod_evicted_after_minutes() -> Scenario {
    scenario("pod evicted after minutes")
        .tool_needs(400)
        .spec("/retry/limit", json!(0))
        .backup_job(PodVanishes { published: true })
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn complete_without_a_word() -> Scenario {
    scenario("complete without a word")
        .spec("/retry/limit", json!(0))
        .backup_job(SaysNothing)
        .fails(Reason::JobLost, &[backup(1), inspect(1, 1)])
}

pub fn complete_with_words_of_no_meaning() -> Scenario {
    scenario("complete with words of no meaning")
        .spec("/retry/limit", json!(0))
        .backup_job(Says("backup OK!"))
        .fails(Reason::JobLost, &[backup(1), inspect(1, 1)])
}

pub fn the_volume_cannot_be_asked_either() -> Scenario {
    scenario("the volume cannot be asked either")
        .spec("/retry/limit", json!(0))
        .backup_job(Dies { published: false })
        .inspect_job(Dies { published: false })
        .inspect_jobs_again(Dies { published: false })
        .tight()
        .fails(
            Reason::OutcomeUnknown,
            &[backup(1), inspect(1, 1), inspect(1, 2), inspect(1, 3), inspect(1, 4), inspect(1, 5)],
        )
}

/// That it was interrupted says nothing about the volume.
pub fn the_question_is_interrupted() -> Scenario {
    scenario("the question is interrupted")
        .spec("/retry/limit", json!(0))
        .backup_job(Dies { published: true })
        .inspect_job(Fails(Reason::Interrupted))
        .succeeds(&[backup(1), inspect(1, 1), inspect(1, 2)])
}

pub fn the_question_is_refused() -> Scenario {
    scenario("the question is refused")
        .spec("/retry/limit", json!(0))
        .refusing(|call| call.verb == Verb::Create && call.kind.name == "Job" && call.name.ends_with("-1i"))
        .backup_job(Dies { published: true })
        .tight()
        .succeeds(&[backup(1), inspect(1, 2)])
}

/// Its pod stays terminating, and its Job runs for ever.
pub fn the_node_dies_after_publishing() -> Scenario {
    scenario("the node dies after publishing")
        .tight()
        .spec("/retry/limit", json!(0))
        .spec("/deadlines/run", json!("10m"))
        .backup_job(NodeDies { published: true })
        .waits_for_a_node()
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn the_node_dies_before_publishing() -> Scenario {
    scenario("the node dies before publishing")
        .tight()
        .spec("/deadlines/run", json!("10m"))
        .backup_job(NodeDies { published: false })
        .waits_for_a_node()
        .fails(Reason::DeadlineExceeded, &[backup(1), inspect(1, 1)])
}

pub fn the_job_is_gone_before_anybody_looks() -> Scenario {
    scenario("the Job is gone before anybody looks")
        .operator_down_in_mid_run(7000)
        .succeeds(&[backup(1), inspect(1, 1)])
}

pub fn the_failed_job_is_gone_before_anybody_looks() -> Scenario {
    scenario("the failed Job is gone before anybody looks")
        .operator_down_in_mid_run(7000)
        .backup_job(Fails(Reason::ToolFailed))
        .succeeds(&[backup(1), inspect(1, 1), backup(2)])
}

pub fn the_tool_never_ends() -> Scenario {
    scenario("the tool never ends")
        .tight()
        .spec("/deadlines/run", json!("10m"))
        .backup_job(Hangs)
        .fails(Reason::DeadlineExceeded, &[backup(1), inspect(1, 1)])
}
