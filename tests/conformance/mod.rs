//! What our promises rest on, as scripts that are played twice: on the simulation, and on a real Kubernetes.
//!
//! A script sends requests through the real client and says what must come back. The simulation's tests and the
//! end-to-end tests include this module and play [`every_script_holds`]; a script knows nothing of where it is played,
//! so what holds of the one side holds of the other. `docs/testing.md` tells how to add one.

mod api;
mod claims;
mod job;
mod refusal;
mod stage;
mod task;
mod volumes;
mod workload;

use futures::future::LocalBoxFuture;
pub use stage::Stage;
#[allow(unused_imports, reason = "what containers do is told to the simulation only")]
pub use task::{REPORT, Task};

/// What is played.
pub type Script = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, ()>;

macro_rules! scripts {
    ($($file:ident::$name:ident),+ $(,)?) => {
        /// Every script, by its name.
        const SCRIPTS: &[(&str, Script)] =
            &[$((concat!(stringify!($file), "::", stringify!($name)), |stage| Box::pin($file::$name(stage)))),+];
    };
}

scripts! {
    api::created_twice,
    api::nothing_is_there,
    api::a_new_object_has_no_status,
    api::status_is_written_to_the_present_version_only,
    api::what_an_apply_leaves_out_goes,
    api::a_changed_spec_is_another_generation,
    api::finalizers_are_written_to_the_present_version_only,
    api::a_delete_means_one_object,
    api::a_finalizer_holds_an_object,
    api::labels_select,
    api::metadata_can_be_had_alone,
    api::a_watch_tells_every_change_in_order,
    refusal::of_jobs,
    refusal::of_events,
    refusal::of_status,
    job::succeeds,
    job::fails,
    job::runs_out_of_time,
    job::loses_its_pod,
    job::is_deleted_in_mid_run,
    job::has_an_image_that_cannot_be_pulled,
    job::finds_no_node,
    job::goes_with_its_owner,
    job::of_an_owner_that_is_gone_already,
    job::expires,
    workload::is_scaled,
    volumes::come_with_the_first_pod,
    volumes::outlive_their_claim_if_they_are_retained,
    volumes::go_with_their_claim_if_they_are_deleted,
    volumes::are_pointed_at_a_claim_that_waits,
    volumes::wait_for_a_claim_of_a_name,
    volumes::are_held_by_the_pod_of_a_job,
    volumes::are_swapped,
    volumes::are_lost_to_a_claim_from_which_they_are_taken,
    volumes::are_not_changed_in_a_claim,
    claims::are_made_where_they_are_missing,
    claims::go_when_the_set_is_scaled_down,
    claims::go_with_the_set,
    claims::are_waited_for_while_they_go,
    claims::are_taken_with_their_volume,
    claims::of_pods_that_start_in_order,
    claims::of_pods_that_stop_in_order,
    claims::of_pods_that_start_together,
    claims::are_made_anew_for_a_pod_that_waits,
}

/// Plays every script, all at the same time. Those that fail say so under their names.
pub fn every_script_holds(play: impl Fn(Script) + Sync) {
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let start = |&(name, script): &(&'static str, Script)| {
            let play = &play;
            (name, std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, move || play(script)).unwrap())
        };
        let started: Vec<_> = SCRIPTS.iter().map(start).collect();
        started.into_iter().filter_map(|(name, script)| script.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "{} of {} scripts do not hold: {failed:?}", failed.len(), SCRIPTS.len());
}
