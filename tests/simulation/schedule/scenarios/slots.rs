//! Slots come, and get a backup or a reason.

use crate::apiserver::Verb;
use crate::driver::Run;
use crate::schedule::look::schedule;
use crate::schedule::scenario::{Scenario, scenario};
use crate::schedule::standin::{End, truth};
use serde_json::{Value, json};

pub fn full_and_incremental() -> Scenario {
    scenario("full and incremental").also(|run: &Run| {
        // The status of the beginning; then for each slot one with the backup, and one with its end.
        let writes = run.records.iter().filter(|record| record.call.writes()).count();
        assert_eq!(writes, 1 + 5 * 3, "writes");
    })
}

pub fn with_jitter() -> Scenario {
    scenario("with jitter").spec("jitter", json!("10m"))
}

pub fn a_backup_fails() -> Scenario {
    scenario("a backup fails")
        .backups(|slot| if slot.ends_with("0900") { End::Fails("ToolFailed", 120) } else { End::Good(120) })
}

/// Three in a row for a cause on the target: the slots rest for a quarter of an hour.
pub fn the_target_keeps_failing() -> Scenario {
    scenario("the target keeps failing")
        .spec("full", Value::Null)
        .spec("incremental", json!({"schedule": "*/10 7 * * *"}))
        .spec("failedHistoryLimit", json!(2))
        .backups(|slot| if slot.ends_with("50") { End::Good(120) } else { End::Fails("TargetFull", 120) })
        .tight()
        .takes(&["0700", "0710", "0720", "0740"])
        .removes(&["0700", "0710"])
        .skips(&[("TargetKeepsFailing", 2)])
}

pub fn down_across_slots() -> Scenario {
    scenario("down across slots")
        .down(3000, 10_900)
        .loose()
        .takes(&["0800F", "1000", "1100"])
        .skips(&[("Superseded", 2)])
}

pub fn down_beyond_the_deadline() -> Scenario {
    scenario("down beyond the deadline")
        .spec("startingDeadline", json!("10m"))
        .down(3000, 12_000)
        .tight()
        .takes(&["1000", "1100"])
        .skips(&[("DeadlineMissed", 4)])
}

pub fn forbid() -> Scenario {
    scenario("forbid")
        .backups(|slot| if slot.ends_with("0900") { End::Good(4000) } else { End::Good(120) })
        .tight()
        .takes(&["0700", "0800F", "0900", "1100"])
        .skips(&[("PreviousStillRunning", 1)])
}

pub fn queue() -> Scenario {
    scenario("queue")
        .spec("concurrencyPolicy", json!("Queue"))
        .backups(|slot| if slot.ends_with("0900") { End::Good(4000) } else { End::Good(120) })
}

/// A full one waits while an incremental one is at work, whatever comes meanwhile.
pub fn queue_with_a_full_one() -> Scenario {
    scenario("queue with a full one")
        .spec("concurrencyPolicy", json!("Queue"))
        .backups(|slot| if slot.ends_with("0700") { End::Good(8000) } else { End::Good(120) })
        .loose()
        .takes(&["0700", "0800F", "1000", "1100"])
        .skips(&[("Superseded", 1)])
}

pub fn replace() -> Scenario {
    scenario("replace")
        .spec("concurrencyPolicy", json!("Replace"))
        .backups(|slot| if slot.ends_with("0900") { End::Never } else { End::Good(120) })
        .removes(&["0900"])
}

pub fn replaced_too_often() -> Scenario {
    scenario("replaced too often")
        .spec("concurrencyPolicy", json!("Replace"))
        .spec("full", Value::Null)
        .backups(|slot| if slot.ends_with("1100") { End::Good(120) } else { End::Never })
        .takes(&["0700", "0800", "0900", "1000", "1100"])
        .removes(&["0700", "0800", "0900", "1000"])
}

/// It ends in the second in which the next slot comes.
pub fn replaced_at_its_very_end() -> Scenario {
    scenario("replaced at its very end")
        .spec("concurrencyPolicy", json!("Replace"))
        .spec("full", Value::Null)
        .backups(|slot| if slot.ends_with("0900") { End::Good(3600) } else { End::Good(120) })
        .tight()
        .takes(&["0700", "0800", "0900", "1000", "1100"])
}

/// By a quota, until the next slot.
pub fn refused_for_a_while() -> Scenario {
    scenario("refused for a while")
        .spec("full", Value::Null)
        .spec("incremental", json!({"schedule": "0,5,10,20 7 * * *"}))
        .refusing(|call| call.verb == Verb::Create && call.kind.name == "GraphBackup" && call.name.ends_with("0705"))
        .tight()
        .takes(&["0700", "0710", "0720"])
        .skips(&[("Superseded", 1)])
}

/// The data is too old between two slots, and again at the end.
pub fn stale_data() -> Scenario {
    scenario("stale data")
        .spec("freshness", json!({"maxAge": "30m"}))
        .tight()
        .also(|run: &Run| assert_eq!(truth(schedule(run), "Fresh"), "False"))
}
