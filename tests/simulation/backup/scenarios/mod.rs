//! The scenarios. To add one: write a function that returns it, and name it in the list.

mod adopt;
mod changed;
mod cold;
mod database;
mod lock;
mod lost;
mod people;
mod plain;
mod refused;
mod removal;

use crate::report::enumerated;

/// How many tests there are.
pub const COUNT: usize = ALL + RESTLESS + WITH_PAIRS;

enumerated! {
    ALL, every_fault_of, enumerate:
    plain::succeeds_at_once,
    plain::fails_once_and_then_succeeds,
    plain::fails_for_good_at_once,
    plain::fails_until_no_attempt_is_left,
    plain::long_names_and_messages_of_many_bytes,
    plain::several_at_once,
    lost::killed_before_publishing,
    lost::killed_after_publishing,
    lost::pod_evicted_before_publishing,
    lost::pod_evicted_after_publishing,
    lost::job_deleted_before_publishing,
    lost::job_deleted_after_publishing,
    lost::job_deleted_right_after_its_creation,
    lost::pod_evicted_after_minutes,
    lost::complete_without_a_word,
    lost::complete_with_words_of_no_meaning,
    lost::the_volume_cannot_be_asked_either,
    lost::the_question_is_interrupted,
    lost::the_question_is_refused,
    lost::the_node_dies_after_publishing,
    lost::the_node_dies_before_publishing,
    lost::the_job_is_gone_before_anybody_looks,
    lost::the_failed_job_is_gone_before_anybody_looks,
    lost::the_tool_never_ends,
    database::master_moves_before_the_tool_starts,
    database::master_moves_while_the_tool_runs,
    database::a_point_of_two_histories_never_counts,
    database::what_passes_is_waited_for,
    database::no_master_until_time_is_over,
    database::garbage_in_zookeeper,
    database::two_clusters_where_one_may_be,
    refused::claim_comes_later,
    refused::claim_never_comes,
    refused::image_cannot_be_pulled_at_first,
    refused::no_node_takes_the_pod,
    refused::quota_refuses_every_job,
    refused::quota_refuses_the_first_job,
    refused::a_foreign_job_has_the_name,
    refused::a_foreign_job_has_the_name_of_the_question,
    refused::a_verdict_about_another_object,
    refused::a_verdict_without_a_digest,
    refused::a_verdict_about_another_store,
    refused::a_verdict_from_another_master,
    refused::a_specification_that_contradicts_itself,
    refused::an_object_of_another_version,
    refused::an_object_of_another_version_beside_a_good_one,
    people::deleted_before_the_first_look,
    people::deleted_while_the_job_runs,
    people::deleted_while_somebody_holds_it,
    people::recreated_while_the_job_runs,
    people::label_of_the_job_removed,
    people::label_of_the_pod_removed,
    people::status_edited,
    people::the_status_is_that_of_another_object,
    people::the_status_is_the_success_of_another_object,
    people::a_pod_with_our_labels_claims_success,
    changed::a_sidecar_never_ends,
    changed::a_sidecar_beside_a_failure,
    changed::a_sidecar_beside_a_failure_that_passes,
    changed::a_sidecar_beside_a_lost_verdict,
    changed::a_sidecar_beside_a_cold_copy,
    changed::a_sidecar_beside_an_adoption,
    changed::a_sidecar_beside_a_removal,
    changed::jobs_go_when_they_end,
    changed::jobs_go_when_they_end_with_their_verdict,
    changed::jobs_go_when_they_end_beside_a_cold_copy,
    changed::jobs_go_when_they_end_beside_an_adoption,
    changed::deadlines_of_jobs_are_shortened,
    lock::the_holder_of_the_lock_is_gone,
    lock::the_holder_of_the_lock_is_unknown,
    lock::an_incremental_backup_whose_verdict_is_lost,
    removal::files_go_with_the_object,
    removal::files_go_in_mid_run,
    removal::nothing_was_written_yet,
    removal::the_removal_fails_at_first,
    removal::the_job_of_the_removal_is_deleted,
    removal::the_claim_went_first,
    removal::the_namespace_goes,
    adopt::a_point_is_adopted,
    adopt::the_point_is_missing,
    adopt::adopted_files_go_with_the_object,
    cold::a_member_is_stopped_and_started,
    cold::the_only_member_is_stopped_and_started,
    cold::the_copy_fails_once,
    cold::the_check_fails,
    cold::the_copy_cannot_be_made,
    cold::the_agent_is_killed_after_publishing,
    cold::the_job_is_deleted_in_mid_copy,
    cold::the_object_is_deleted_in_mid_copy,
    cold::somebody_scales_up_in_mid_copy,
    cold::somebody_stops_all_in_mid_copy,
    cold::the_member_does_not_stop,
    cold::the_member_does_not_come_back,
    cold::the_member_is_the_master,
    cold::scaling_is_refused,
    cold::the_workload_comes_later,
    cold::the_workload_is_deleted_in_mid_copy,
}

// Of each kind of flow some scenarios run where every change brings a pass: a list brings one at any time, too.
enumerated! {
    RESTLESS, every_fault_with_a_pass_for_every_change_of, enumerate_with_a_pass_for_every_change:
    plain::succeeds_at_once,
    plain::fails_once_and_then_succeeds,
    lost::killed_after_publishing,
    lost::job_deleted_right_after_its_creation,
    lost::the_volume_cannot_be_asked_either,
    refused::image_cannot_be_pulled_at_first,
    people::recreated_while_the_job_runs,
    changed::a_sidecar_beside_a_removal,
    changed::jobs_go_when_they_end,
    removal::files_go_in_mid_run,
    removal::the_removal_fails_at_first,
    adopt::a_point_is_adopted,
    cold::a_member_is_stopped_and_started,
    cold::the_copy_fails_once,
    cold::the_job_is_deleted_in_mid_copy,
}

// Of each kind of flow one scenario also meets two faults in one run.
enumerated! {
    WITH_PAIRS, every_pair_of_faults_of, enumerate_pairs:
    plain::succeeds_at_once,
    plain::fails_once_and_then_succeeds,
    lost::killed_after_publishing,
    cold::a_member_is_stopped_and_started,
    removal::files_go_with_the_object,
}
