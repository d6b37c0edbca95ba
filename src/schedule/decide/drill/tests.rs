use crate::controller::job::JobState;
use crate::schedule::step::Step;
use crate::schedule::testing::{Play, at, hourly};
use serde_json::json;

/// A schedule whose backups leave no gap. A drill is due at 11:30, while the first of them runs; at 14:00, the second
/// ends.
fn without_a_gap() -> Play {
    let mut play = hourly().spec("concurrencyPolicy", "Queue").spec("drill", json!({"schedule": "30 11 * * *"}));
    play.takes = 5400;
    play
}

fn is_drilled(play: &Play) -> bool {
    play.status.drill.as_ref().is_some_and(|drill| drill.running.is_some())
}

#[test]
fn a_drill_lets_one_backup_go_first_and_then_has_its_turn() {
    let mut play = without_a_gap();
    play.run_until("2026-11-24T13:59:59Z");
    assert_eq!((play.slots().len(), is_drilled(&play)), (2, false));
    play.run_until("2026-11-24T14:10:00Z");
    assert!(is_drilled(&play));
    assert_eq!((play.slots().len(), play.status.waiting.map(|slot| slot.time)), (2, Some(at("2026-11-24T14:00:00Z"))));
    // It fails, which is its end all the same.
    play.drill = Some(JobState::Foreign);
    play.passes();
    assert!(!is_drilled(&play));
    assert_eq!(play.slots(), ["20261124-1100", "20261124-1200", "20261124-1400"]);
}

#[test]
fn a_slot_waits_for_a_drill_half_an_hour_and_not_beyond_its_deadline() {
    let mut play = without_a_gap();
    play.run_until("2026-11-24T14:29:59Z");
    assert_eq!(play.slots().len(), 2);
    play.run_until("2026-11-24T14:30:01Z");
    assert_eq!((play.slots().len(), is_drilled(&play)), (3, true));

    let mut play = without_a_gap().spec("startingDeadline", "10m");
    play.takes = 3600;
    play.run_until("2026-11-24T13:08:59Z");
    assert_eq!((play.slots().len(), is_drilled(&play)), (2, true));
    play.run_until("2026-11-24T13:09:01Z");
    assert_eq!((play.slots().len(), play.skipped("DeadlineMissed")), (3, 0));
}

#[test]
fn a_backup_that_was_missed_and_one_that_a_person_asks_for_go_before_a_drill() {
    let mut play = without_a_gap();
    play.takes = 60;
    play.run_until("2026-11-24T11:10:00Z");
    play.away_until("2026-11-24T13:05:00Z");
    assert!(matches!(play.decide().step, Step::Take(_)));

    let mut play = without_a_gap();
    play.run_until("2026-11-24T13:59:59Z");
    play.annotate("graphbackup.dev/backup-now", "before the upgrade");
    play.run_until("2026-11-24T14:00:01Z");
    assert_eq!((play.slots().len(), is_drilled(&play)), (3, false));
}
