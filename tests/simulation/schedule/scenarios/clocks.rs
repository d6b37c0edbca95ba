//! The wall clock is set, and the clocks of a zone change.

use crate::driver::Run;
use crate::schedule::look::{schedule, skips};
use crate::schedule::scenario::{Scenario, scenario};
use serde_json::{Value, json};

/// A machine that stood still for hours: what it missed is like an outage.
pub fn forward_by_hours() -> Scenario {
    scenario("the clock goes forward by hours")
        .set_clocks(&[(5000, 9000)])
        .loose()
        .takes(&["0700", "0800F", "1100"])
        .skips(&[("Superseded", 2)])
}

/// To the very second of a slot.
pub fn forward_to_a_slot() -> Scenario {
    scenario("the clock goes forward to a slot").set_clocks(&[(5000, 2200)]).tight()
}

/// Minutes after a slot, to before it: it does not come again.
pub fn back_over_a_slot() -> Scenario {
    scenario("the clock goes back over a slot").set_clocks(&[(7800, -1200)]).tight().hours(9)
}

pub fn back_by_seconds_over_a_slot() -> Scenario {
    scenario("the clock goes back by seconds over a slot").set_clocks(&[(7202, -10)]).tight()
}

/// Slots that have a backup come again: each still has one backup. One that was skipped, because a fault cost its time,
/// has a second chance, so that both are counted.
pub fn back_by_hours() -> Scenario {
    scenario("the clock goes back by hours")
        .set_clocks(&[(15_000, -9000)])
        .uncounted()
        .tight()
        .hours(11)
        .also(|run: &Run| assert_eq!(skips(run).len(), 0))
}

/// The operator's own clock is wrong for a while: what it took too soon is not taken again, and nothing that came
/// later is lost.
pub fn only_the_operators_clock_is_ahead() -> Scenario {
    scenario("only the operator's clock is ahead")
        .set_own_clock(&[(5000, 4000), (6500, -4000)])
        .uncounted()
        .tight()
        .also(|run: &Run| assert_eq!(skips(run).values().sum::<i64>(), 0))
}

/// It is behind for a while: the slots come late, and none is lost.
pub fn only_the_operators_clock_is_behind() -> Scenario {
    scenario("only the operator's clock is behind").set_own_clock(&[(5000, -3000), (12_000, 3000)]).tight()
}

/// A year ahead, then right: the schedule does not wait for a year.
pub fn a_year_ahead_and_back() -> Scenario {
    scenario("a year ahead and back")
        .spec("full", Value::Null)
        .set_own_clock(&[(5000, 31_536_000), (5900, -31_536_000)])
        .uncounted()
        .tight()
        .takes(&["0700", "20271124-0700", "0800", "0900", "1000", "1100"])
        .skips(&[("Superseded", 1824)])
        .also(|run: &Run| assert_eq!(schedule(run)["status"]["incremental"]["lastSlot"], "2026-11-24T11:00:00Z"))
}

fn zoned(title: &'static str, zone: &str, begin: &str, slots: &str) -> Scenario {
    scenario(title)
        .spec("full", Value::Null)
        .spec("incremental", json!({"schedule": slots}))
        .spec("timeZone", json!(zone))
        .begins(begin)
        .tight()
        .hours(7)
}

/// From 02:00 to 02:30: what is skipped has one slot, the first moment after it.
pub fn half_an_hour_is_skipped() -> Scenario {
    let slots = "0,10,20,30,45 1-2 * * *";
    zoned("half an hour is skipped", "Australia/Lord_Howe", "2026-10-03T14:00:00Z", slots).takes(&[
        "20261003-1430",
        "20261003-1440",
        "20261003-1450",
        "20261003-1500",
        "20261003-1515",
        "20261003-1530",
        "20261003-1545",
    ])
}

/// From 02:00 back to 01:30: each local time has its first slot only.
pub fn half_an_hour_is_repeated() -> Scenario {
    let slots = "0,15,30,45 1-2 * * *";
    zoned("half an hour is repeated", "Australia/Lord_Howe", "2026-04-04T13:30:00Z", slots).takes(&[
        "20260404-1400",
        "20260404-1415",
        "20260404-1430",
        "20260404-1445",
        "20260404-1530",
        "20260404-1545",
        "20260404-1600",
        "20260404-1615",
    ])
}

/// There is no midnight: its slots share the first moment after the gap, 01:00.
pub fn midnight_is_skipped() -> Scenario {
    zoned("midnight is skipped", "America/Havana", "2026-03-08T03:30:00Z", "0,30 0,2,23 * * *").takes(&[
        "20260308-0400",
        "20260308-0430",
        "20260308-0500",
        "20260308-0600",
        "20260308-0630",
    ])
}

/// Midnight comes twice: the second one has no slot.
pub fn midnight_is_repeated() -> Scenario {
    zoned("midnight is repeated", "America/Havana", "2025-11-02T02:30:00Z", "0,30 0,1,23 * * *").takes(&[
        "20251102-0300",
        "20251102-0330",
        "20251102-0400",
        "20251102-0430",
        "20251102-0600",
        "20251102-0630",
    ])
}

/// There is no 30 December: its slots share the first moment of the 31st.
pub fn a_day_is_skipped() -> Scenario {
    zoned("a day is skipped", "Pacific/Apia", "2011-12-30T07:30:00Z", "0 1,6,12,22 * * *").hours(8).takes(&[
        "20111230-0800",
        "20111230-1000",
        "20111230-1100",
    ])
}

/// The clock goes back into the hour before the change, after the change.
pub fn set_back_where_midnight_is_repeated() -> Scenario {
    zoned("set back where midnight is repeated", "America/Havana", "2025-11-02T02:30:00Z", "0,30 0,1,23 * * *")
        .set_clocks(&[(10_000, -5000)])
        .uncounted()
        .hours(8)
        .takes(&["20251102-0300", "20251102-0330", "20251102-0400", "20251102-0430", "20251102-0600", "20251102-0630"])
}
