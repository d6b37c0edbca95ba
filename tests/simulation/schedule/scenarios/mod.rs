//! The scenarios. To add one: write a function that returns it, and name it in the list.

mod clocks;
mod drills;
mod namespace;
mod people;
mod points;
mod slots;

use crate::report::enumerated;

/// How many tests there are.
pub const COUNT: usize = ALL + RESTLESS + WITH_PAIRS;

enumerated! {
    ALL, every_fault_of, enumerate:
    slots::full_and_incremental,
    slots::with_jitter,
    slots::a_backup_fails,
    slots::the_target_keeps_failing,
    slots::down_across_slots,
    slots::down_beyond_the_deadline,
    slots::forbid,
    slots::queue,
    slots::queue_with_a_full_one,
    slots::replace,
    slots::replaced_too_often,
    slots::replaced_at_its_very_end,
    slots::refused_for_a_while,
    slots::stale_data,
    points::retention,
    points::failed_ones_go,
    points::no_failed_one_stays,
    points::pinned_and_in_use,
    points::an_old_point_is_pinned_later,
    points::in_use_by_another,
    points::a_mass_deletion_waits,
    points::a_mass_deletion_is_approved,
    points::an_approval_does_not_outlive_its_rules,
    points::points_get_too_old,
    points::of_others,
    points::they_go_with_the_schedule,
    points::they_go_with_the_schedule_in_mid_run,
    points::they_stay_without_the_schedule,
    points::a_mark_on_a_point_that_stays,
    points::a_removal_is_refused_for_a_while,
    people::a_child_is_deleted_in_mid_run,
    people::a_good_child_is_deleted,
    people::suspended_and_resumed,
    people::suspended_in_mid_run,
    people::edited,
    people::edited_in_mid_run,
    people::a_backup_at_once,
    people::a_backup_at_once_while_suspended,
    people::a_token_from_the_beginning,
    people::recreated_between_slots,
    people::recreated_in_mid_run,
    people::recreated_and_taken_over,
    people::a_foreign_object_has_the_name,
    people::an_unreadable_object_has_the_name,
    people::the_running_backup_becomes_unreadable,
    people::a_label_is_removed,
    people::the_status_is_that_of_another,
    people::made_invalid_and_valid_again,
    people::invalid_and_deleted,
    people::unreadable,
    people::unreadable_and_deleted,
    people::invalid_in_its_template_and_deleted,
    clocks::forward_by_hours,
    clocks::forward_to_a_slot,
    clocks::back_over_a_slot,
    clocks::back_by_seconds_over_a_slot,
    clocks::back_by_hours,
    clocks::only_the_operators_clock_is_ahead,
    clocks::only_the_operators_clock_is_behind,
    clocks::a_year_ahead_and_back,
    clocks::half_an_hour_is_skipped,
    clocks::half_an_hour_is_repeated,
    clocks::midnight_is_skipped,
    clocks::midnight_is_repeated,
    clocks::a_day_is_skipped,
    clocks::set_back_where_midnight_is_repeated,
    drills::a_drill_passes,
    drills::a_drill_fails,
    drills::the_job_of_a_drill_is_deleted_at_once,
    drills::the_job_of_a_drill_is_deleted,
    drills::the_pod_of_a_drill_is_evicted,
    drills::a_drill_says_nothing,
    drills::a_drill_tells_of_another_point,
    drills::a_drill_never_ends,
    drills::the_image_of_a_drill_cannot_be_pulled,
    drills::the_job_of_a_drill_is_refused,
    drills::a_drill_after_the_backup_of_the_same_slot,
    drills::down_across_drills,
    drills::the_drilled_point_is_due_for_removal,
    drills::deleted_in_mid_drill,
    namespace::the_namespace_goes,
    namespace::the_namespace_goes_across_a_slot,
    namespace::the_namespace_goes_in_mid_run,
    namespace::the_namespace_goes_and_cannot_be_read,
}

enumerated! {
    RESTLESS, every_fault_with_a_pass_for_every_change_of, enumerate_with_a_pass_for_every_change:
    slots::full_and_incremental,
    slots::replace,
    points::retention,
    points::they_go_with_the_schedule,
    drills::a_drill_passes,
}

enumerated! {
    WITH_PAIRS, every_pair_of_faults_of, enumerate_pairs:
    slots::full_and_incremental,
    slots::replace,
    points::retention,
    drills::a_drill_passes,
}
