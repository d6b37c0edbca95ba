//! Restore drills: their Jobs end, or do not, and one result is recorded of each.

use crate::apiserver::Verb;
use crate::driver::Run;
use crate::schedule::look::{backup, schedule, schedule_key};
use crate::schedule::scenario::{Scenario, scenario};
use crate::schedule::standin::{End, truth};
use crate::world::cluster::Behaviour;
use crate::world::pods::Stuck;
use graph_backup_operator::api::Reason;
use serde_json::{Value, json};

/// One backup, at 09:00.
fn one_slot(title: &'static str) -> Scenario {
    let incremental = json!({"schedule": "0 9 * * *"});
    scenario(title).spec("full", Value::Null).spec("incremental", incremental).takes(&["0900"]).hours(7)
}

/// Its point is tried, if the watch has shown it.
fn drilled(title: &'static str, first: Behaviour) -> Scenario {
    one_slot(title).drilled("30 9 * * *", first).tight()
}

fn last(run: &Run) -> &Value {
    &schedule(run)["status"]["drill"]["last"]
}

fn jobs(run: &Run) -> Vec<&str> {
    let creates = run.records.iter().filter(|record| record.applied() && record.call.verb == Verb::Create);
    creates.filter(|record| record.call.kind.name == "Job").map(|record| record.call.name.as_str()).collect()
}

/// The last drill of a run ended so, after so many Jobs, of the point of this slot.
fn assert_told(run: &Run, reason: Reason, count: usize, slot: &str) {
    assert_eq!((last(run)["reason"].as_str(), jobs(run).len()), (Some(reason.as_str()), count));
    assert_eq!(backup(run, slot).unwrap()["status"]["drill"], *last(run));
    let passed = reason == Reason::StoreOpened;
    assert_eq!(truth(schedule(run), "DrillPassed"), if passed { "True" } else { "False" });
}

pub fn a_drill_passes() -> Scenario {
    drilled("a drill passes", Behaviour::Honest).also(|run| assert_told(run, Reason::StoreOpened, 1, "0900"))
}

pub fn a_drill_fails() -> Scenario {
    drilled("a drill fails", Behaviour::Fails(Reason::BootFailed))
        .also(|run| assert_told(run, Reason::BootFailed, 1, "0900"))
}

/// It was never created, as far as can be told: the second one passes.
pub fn the_job_of_a_drill_is_deleted_at_once() -> Scenario {
    drilled("the Job of a drill is deleted at once", Behaviour::Honest)
        .at(12_610, |store| {
            let jobs: Vec<_> = store.list("Job").map(crate::apiserver::Key::of).collect();
            for job in &jobs {
                crate::fault::delete(store, job);
            }
        })
        .tight()
        .also(|run| assert_told(run, Reason::StoreOpened, 2, "0900"))
}

pub fn the_job_of_a_drill_is_deleted() -> Scenario {
    drilled("the Job of a drill is deleted", Behaviour::JobVanishes { published: false })
        .tight()
        .also(|run| assert_told(run, Reason::JobLost, 1, "0900"))
}

pub fn the_pod_of_a_drill_is_evicted() -> Scenario {
    drilled("the pod of a drill is evicted", Behaviour::PodVanishes { published: false })
        .also(|run| assert_told(run, Reason::JobLost, 1, "0900"))
}

pub fn a_drill_says_nothing() -> Scenario {
    drilled("a drill says nothing", Behaviour::Dies { published: false })
        .also(|run| assert_told(run, Reason::JobLost, 1, "0900"))
}

/// Another point than the one that was asked for says nothing about it.
pub fn a_drill_tells_of_another_point() -> Scenario {
    const OTHER: &str = r#"{"drilled":{"manifestDigest":"sha256:other","storeId":"0000000000000001-0000000000000002",
        "lastTransaction":1,"files":1,"bytes":1,"copySeconds":1,"openSeconds":1,"totalSeconds":2,
        "finished":"2026-11-24T09:31:00Z"}}"#;
    drilled("a drill tells of another point", Behaviour::Says(OTHER))
        .also(|run| assert_told(run, Reason::AgentFailed, 1, "0900"))
}

pub fn a_drill_never_ends() -> Scenario {
    drilled("a drill never ends", Behaviour::Hangs)
        .spec(
            "template",
            json!({
                "source": {"uri": "ha://zk-0.zk,zk-1.zk,zk-2.zk"}, "target": {"claimName": "graph-backups"},
                "tool": {"image": "registry.example/neo4j:1.8"}, "deadlines": {"run": "10m"},
            }),
        )
        .tight()
        .also(|run| assert_told(run, Reason::DeadlineExceeded, 1, "0900"))
}

pub fn the_image_of_a_drill_cannot_be_pulled() -> Scenario {
    drilled("the image of a drill cannot be pulled", Behaviour::Stuck(Stuck::Image))
        .tight()
        .also(|run| assert_told(run, Reason::ImageCannotBePulled, 1, "0900"))
}

pub fn the_job_of_a_drill_is_refused() -> Scenario {
    drilled("the Job of a drill is refused", Behaviour::Honest)
        .refusing(|call| call.verb == Verb::Create && call.kind.name == "Job")
        .also(|run| assert_told(run, Reason::JobRefused, 0, "0900"))
}

/// Where both are due, the backup goes first, and its point is the one that is tried.
pub fn a_drill_after_the_backup_of_the_same_slot() -> Scenario {
    one_slot("a drill after the backup of the same slot")
        .drilled("0 9 * * *", Behaviour::Honest)
        .backups(|slot| if slot.ends_with("0900") { End::Good(900) } else { End::Good(120) })
        .tight()
        .also(|run| assert_told(run, Reason::StoreOpened, 1, "0900"))
}

/// The newest slot stands for the others.
pub fn down_across_drills() -> Scenario {
    one_slot("down across drills")
        .drilled("*/15 9 * * *", Behaviour::Honest)
        .down(10_700, 13_700)
        .loose()
        .also(|run| assert_told(run, Reason::StoreOpened, 1, "0900"))
}

/// The point that is tried stays until the drill is over.
pub fn the_drilled_point_is_due_for_removal() -> Scenario {
    scenario("the drilled point is due for removal")
        .drilled("59 8 * * *", Behaviour::Honest)
        .spec("retention", json!({"keepLast": 1}))
        .removes(&["0700", "0800", "0900", "1000"])
        .tight()
        .also(|run| assert_eq!(last(run)["reason"], "StoreOpened"))
}

pub fn deleted_in_mid_drill() -> Scenario {
    drilled("deleted in mid-drill", Behaviour::Honest)
        .spec("deletionPolicy", json!("Delete"))
        .at(12_640, |store| crate::fault::delete(store, &schedule_key()))
        .goes()
        .removes(&["0900"])
}
