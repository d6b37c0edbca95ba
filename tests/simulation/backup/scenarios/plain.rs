//! What happens every day: success, failure, and trying again.

use crate::backup::jobs::backup;
use crate::backup::scenario::{Scenario, create_backup, scenario};
use crate::world::cluster::Behaviour::{Fails, Rambles};
use graph_backup_operator::api::Reason;
use serde_json::json;

pub fn succeeds_at_once() -> Scenario {
    scenario("succeeds at once").succeeds(&[backup(1)]).writes(6)
}

pub fn fails_once_and_then_succeeds() -> Scenario {
    scenario("fails once and then succeeds").backup_job(Fails(Reason::ToolFailed)).succeeds(&[backup(1), backup(2)])
}

pub fn fails_for_good_at_once() -> Scenario {
    scenario("fails for good at once")
        .backup_job(Fails(Reason::ConsistencyFailed))
        .fails(Reason::ConsistencyFailed, &[backup(1)])
        .writes(6)
}

pub fn fails_until_no_attempt_is_left() -> Scenario {
    scenario("fails until no attempt is left")
        .spec("/retry/limit", json!(1))
        .backup_job(Fails(Reason::ToolFailed))
        .backup_job(Fails(Reason::MasterUnreachable))
        .fails(Reason::MasterUnreachable, &[backup(1), backup(2)])
}

pub fn long_names_and_messages_of_many_bytes() -> Scenario {
    const LONGEST: &str = "a-name-of-fifty-two-characters-which-is-the-maximum1";
    scenario("long names and messages of many bytes")
        .named(LONGEST)
        .spec("/retry/limit", json!(1))
        .backup_job(Rambles)
        .backup_job(Rambles)
        .fails(Reason::ToolFailed, &[backup(1), backup(2)])
}

pub fn several_at_once() -> Scenario {
    scenario("several at once")
        .prepared(|store, spec| create_backup(store, "weekly", spec))
        .succeeds(&[backup(1), backup(1)])
}
