mod reference;

use super::*;
use crate::schedule::slots::parse_zone;
use chrono_tz::{America, Asia, Europe, Pacific, Tz};
use std::collections::BTreeSet;

const DAY: Duration = Duration::from_hours(24);

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

fn point(name: &str, data_from: DateTime<Utc>, standing: Standing) -> Candidate {
    Candidate { name: name.into(), uid: format!("uid of {name}"), data_from, standing }
}

/// The plan in a zone. What the tests compare it with takes local times from `chrono_tz` itself, and the plan does not.
fn plan(policy: &Policy, zone: Tz, candidates: &[Candidate], now: DateTime<Utc>) -> Plan {
    super::plan(policy, &parse_zone(zone.name()).unwrap(), candidates, now)
}

/// Points of the schedule, each with its moment as its name.
fn own(times: &[&str]) -> Vec<Candidate> {
    times.iter().map(|time| point(time, at(time), Standing::Own)).collect()
}

fn words(rules: &[Rule]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What stays, with the rules, newest first.
fn kept(plan: &Plan) -> Vec<(&str, String)> {
    plan.kept.iter().map(|kept| (&*kept.name, words(&kept.rules))).collect()
}

/// What goes, with the reason, newest first.
fn gone(plan: &Plan) -> Vec<(&str, String)> {
    plan.prune.iter().map(|pruned| (&*pruned.name, pruned.why.to_string())).collect()
}

fn pruned(plan: &Plan) -> BTreeSet<&str> {
    plan.prune.iter().map(|pruned| &*pruned.uid).collect()
}

fn apply(candidates: &mut Vec<Candidate>, plan: &Plan) {
    let gone = pruned(plan);
    candidates.retain(|candidate| !gone.contains(&*candidate.uid));
}

/// Plans for points of the schedule at noon of 2027-01-10 and compares what stays.
#[track_caller]
fn stays(policy: &Policy, zone: Tz, times: &[&str], expected: &[(&str, &str)]) {
    let plan = plan(policy, zone, &own(times), at("2027-01-10T12:00:00Z"));
    let expected: Vec<_> = expected.iter().map(|(name, rules)| (*name, (*rules).to_owned())).collect();
    assert_eq!(kept(&plan), expected);
    assert_eq!(plan.kept.len() + plan.prune.len(), times.len());
}

#[test]
fn the_last_points_stay() {
    let times = ["2026-11-24T06:00:00Z", "2026-11-24T08:00:00Z", "2026-11-24T07:00:00Z"];
    let policy = |keep_last| Policy { keep_last, ..Policy::default() };
    let expected = [(times[1], "keepLast"), (times[2], "keepLast"), (times[0], "keepLast")];
    stays(&policy(1), Tz::UTC, &times, &expected[..1]);
    stays(&policy(2), Tz::UTC, &times, &expected[..2]);
    stays(&policy(3), Tz::UTC, &times, &expected);
    stays(&policy(u32::MAX), Tz::UTC, &times, &expected);
}

#[test]
fn the_newest_point_of_a_day_stays_and_a_day_without_one_takes_no_place() {
    let policy = Policy { keep_daily: 3, ..Policy::default() };
    let times = [
        "2026-11-19T23:59:59Z",
        "2026-11-20T00:00:00Z",
        "2026-11-20T23:59:59Z",
        "2026-11-23T12:00:00Z",
        "2026-11-24T06:00:00Z",
        "2026-11-24T06:00:01Z",
    ];
    let expected =
        [(times[5], "keepDaily 2026-11-24"), (times[3], "keepDaily 2026-11-23"), (times[2], "keepDaily 2026-11-20")];
    stays(&policy, Tz::UTC, &times, &expected);
}

#[test]
fn a_day_is_a_day_of_the_zone() {
    let policy = Policy { keep_daily: 9, ..Policy::default() };
    // 2026-11-23 in UTC, with midnight in Berlin at 23:00 and in Kathmandu at 18:15.
    let times = ["2026-11-23T18:14:59Z", "2026-11-23T18:15:00Z", "2026-11-23T22:59:59Z", "2026-11-23T23:00:00Z"];
    let (monday, tuesday) = ("keepDaily 2026-11-23", "keepDaily 2026-11-24");
    stays(&policy, Tz::UTC, &times, &[(times[3], monday)]);
    stays(&policy, Europe::Berlin, &times, &[(times[3], tuesday), (times[2], monday)]);
    stays(&policy, Asia::Kathmandu, &times, &[(times[3], tuesday), (times[0], monday)]);
    stays(&policy, America::Sao_Paulo, &times, &[(times[3], monday)]);
}

#[test]
fn a_day_at_a_clock_change_has_as_many_hours_as_the_zone_gives_it() {
    let policy = Policy { keep_daily: 9, ..Policy::default() };
    // 25 hours: from 22:00 in UTC to 23:00 in UTC. Both points at 02:30 in Berlin are of one day.
    let autumn = [
        "2026-10-24T21:59:59Z",
        "2026-10-24T22:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T22:59:59Z",
        "2026-10-25T23:00:00Z",
    ];
    let expected =
        [(autumn[5], "keepDaily 2026-10-26"), (autumn[4], "keepDaily 2026-10-25"), (autumn[0], "keepDaily 2026-10-24")];
    stays(&policy, Europe::Berlin, &autumn, &expected);
    stays(&policy, Europe::Berlin, &autumn[1..4], &[(autumn[3], "keepDaily 2026-10-25")]);
    // 23 hours: from 23:00 in UTC to 22:00 in UTC.
    let spring = ["2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"];
    let expected =
        [(spring[3], "keepDaily 2026-03-30"), (spring[2], "keepDaily 2026-03-29"), (spring[0], "keepDaily 2026-03-28")];
    stays(&policy, Europe::Berlin, &spring, &expected);
    // The clocks of Apia left this day out.
    let skipped = ["2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z"];
    let expected = [(skipped[1], "keepDaily 2011-12-31"), (skipped[0], "keepDaily 2011-12-29")];
    stays(&policy, Pacific::Apia, &skipped, &expected);
}

#[test]
fn a_day_that_begins_twice_has_one_place() {
    // At 00:01 on 2010-11-07 the clocks of St John's went back to 23:01 on the day before.
    let times = ["2010-11-07T02:00:00Z", "2010-11-07T02:30:30Z", "2010-11-07T03:00:00Z", "2010-11-07T04:00:00Z"];
    let expected = [(times[3], "keepDaily 2010-11-07"), (times[2], "keepDaily 2010-11-06")];
    stays(&Policy { keep_daily: 9, ..Policy::default() }, America::St_Johns, &times, &expected);
}

#[test]
fn the_newest_point_of_an_iso_week_stays() {
    let policy = Policy { keep_weekly: 4, ..Policy::default() };
    // 2026-W53 goes from 2026-12-28 to 2027-01-03.
    let times = [
        "2026-11-29T12:00:00Z",
        "2026-12-27T12:00:00Z",
        "2026-12-28T00:00:00Z",
        "2026-12-31T23:59:59Z",
        "2027-01-01T00:00:00Z",
        "2027-01-03T23:30:00Z",
        "2027-01-04T00:00:00Z",
    ];
    let expected = [
        (times[6], "keepWeekly 2027-W01"),
        (times[5], "keepWeekly 2026-W53"),
        (times[1], "keepWeekly 2026-W52"),
        (times[0], "keepWeekly 2026-W48"),
    ];
    stays(&policy, Tz::UTC, &times, &expected);
    stays(&Policy { keep_weekly: 2, ..policy.clone() }, Tz::UTC, &times, &expected[..2]);
    // Half an hour before midnight in UTC, the next week has begun in Berlin.
    let berlin = [expected[0], (times[4], "keepWeekly 2026-W53"), expected[2], expected[3]];
    stays(&policy, Europe::Berlin, &times, &berlin);
}

#[test]
fn the_newest_points_of_a_month_and_of_a_year_stay() {
    let times = [
        "2024-12-31T12:00:00Z",
        "2025-12-31T22:59:59Z",
        "2025-12-31T23:00:00Z",
        "2026-02-28T12:00:00Z",
        "2026-12-01T12:00:00Z",
        "2026-12-31T22:00:00Z",
    ];
    let monthly = Policy { keep_monthly: 3, ..Policy::default() };
    let expected =
        [(times[5], "keepMonthly 2026-12"), (times[3], "keepMonthly 2026-02"), (times[2], "keepMonthly 2025-12")];
    stays(&monthly, Tz::UTC, &times, &expected);
    let berlin = [expected[0], expected[1], (times[2], "keepMonthly 2026-01")];
    stays(&monthly, Europe::Berlin, &times, &berlin);
    let yearly = Policy { keep_yearly: 2, ..Policy::default() };
    stays(&yearly, Tz::UTC, &times, &[(times[5], "keepYearly 2026"), (times[2], "keepYearly 2025")]);
    stays(&yearly, Europe::Berlin, &times, &[(times[5], "keepYearly 2026"), (times[1], "keepYearly 2025")]);
}

#[test]
fn one_point_is_kept_by_several_rules_in_a_fixed_order() {
    let policy = Policy {
        keep_last: 1,
        keep_daily: 1,
        keep_weekly: 2,
        keep_monthly: 1,
        keep_yearly: 1,
        max_age: Some(60 * DAY),
        minimum_keep: 3,
    };
    let times = ["2026-11-09T06:00:00Z", "2027-01-02T06:00:00Z", "2027-01-09T06:00:00Z", "2027-01-09T07:00:00Z"];
    let all = "keepLast, keepDaily 2027-01-09, keepWeekly 2027-W01, keepMonthly 2027-01, keepYearly 2027";
    let expected = [(times[3], all), (times[2], "minimumKeep"), (times[1], "keepWeekly 2026-W53")];
    stays(&policy, Tz::UTC, &times, &expected);
    let pinned = [point("a", at(times[3]), Standing::Pinned), point("b", at(times[2]), Standing::InUse("c".into()))];
    let plan = plan(&policy, Tz::UTC, &pinned, at("2027-01-10T12:00:00Z"));
    assert_eq!(kept(&plan), [("a", format!("{all}, pinned")), ("b", "in use by c".into())]);
}

#[test]
fn without_a_count_every_point_that_is_not_too_old_stays() {
    let policy = Policy { max_age: Some(30 * DAY), ..Policy::default() };
    let times = ["2026-12-11T11:59:59Z", "2026-12-11T12:00:00Z", "2027-01-10T11:00:00Z", "2027-01-10T13:00:00Z"];
    let expected = [(times[3], "maxAge"), (times[2], "maxAge"), (times[1], "maxAge")];
    stays(&policy, Tz::UTC, &times, &expected);
    // A policy without any rule does not pass validation. If one comes through, nothing is lost.
    let plan = plan(&Policy::default(), Tz::UTC, &own(&times), at("2027-01-10T12:00:00Z"));
    assert_eq!((plan.kept.len(), plan.prune.len()), (4, 0));
}

#[test]
fn no_count_keeps_a_point_that_is_too_old() {
    let counts = [
        Policy { keep_last: 9, ..Policy::default() },
        Policy { keep_daily: 9, ..Policy::default() },
        Policy { keep_weekly: 9, ..Policy::default() },
        Policy { keep_monthly: 9, ..Policy::default() },
        Policy { keep_yearly: 9, ..Policy::default() },
    ];
    let times = ["2025-11-23T12:00:00Z", "2026-11-24T11:59:59Z", "2026-11-24T12:00:00Z"];
    for policy in counts {
        let policy = Policy { max_age: Some(DAY), ..policy };
        let plan = plan(&policy, Tz::UTC, &own(&times), at("2026-11-25T12:00:00Z"));
        assert_eq!(gone(&plan), [times[1], times[0]].map(|time| (time, "older than maxAge".into())), "{policy:?}");
    }
}

#[test]
fn the_newest_good_points_stay_whatever_the_rules_say() {
    let times = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"];
    let policy = |minimum_keep| Policy { max_age: Some(DAY), minimum_keep, ..Policy::default() };
    let expected = [times[2], times[1], times[0]].map(|time| (time, "minimumKeep"));
    for (minimum, number) in [(0, 1), (1, 1), (2, 2), (3, 3), (u32::MAX, 3)] {
        stays(&policy(minimum), Tz::UTC, &times, &expected[..number]);
    }
    // Points that another rule keeps are among the newest ones.
    let policy = Policy { keep_last: 1, minimum_keep: 2, ..Policy::default() };
    stays(&policy, Tz::UTC, &times, &[(times[2], "keepLast"), (times[1], "minimumKeep")]);
}

#[test]
fn only_good_points_of_the_schedule_count_and_only_free_ones_go() {
    let standings = [
        ("a", Standing::OtherSchedule("hourly".into())),
        ("b", Standing::Adopted),
        ("c", Standing::Manual),
        ("d", Standing::Broken),
        ("e", Standing::Own),
        ("f", Standing::InUse("restore r".into())),
        ("g", Standing::Pinned),
        ("h", Standing::Own),
        ("i", Standing::Own),
        ("j", Standing::Pinned),
    ];
    let hours = [20, 19, 18, 17, 16, 15, 14, 13, 12, 11].map(|hour| at(&format!("2026-11-24T{hour}:00:00Z")));
    let points: Vec<_> = standings.into_iter().zip(hours).map(|((name, is), time)| point(name, time, is)).collect();
    let policy = Policy { keep_last: 3, minimum_keep: 4, ..Policy::default() };
    let plan = plan(&policy, Tz::UTC, &points, at("2026-11-24T21:00:00Z"));
    let expected = [
        ("a", "of another schedule (hourly)"),
        ("b", "adopted"),
        ("c", "made by hand"),
        ("d", "broken"),
        ("e", "keepLast"),
        ("f", "keepLast, in use by restore r"),
        ("g", "keepLast, pinned"),
        ("h", "minimumKeep"),
        ("j", "pinned"),
    ];
    assert_eq!(kept(&plan), expected.map(|(name, rules)| (name, rules.to_owned())));
    assert_eq!(gone(&plan), [("i", "no rule keeps it".to_owned())]);
    assert_eq!(plan.prune[0].uid, "uid of i");
}

#[test]
fn a_pinned_point_that_is_newest_of_its_day_takes_the_place() {
    let points = [
        point("early", at("2026-11-24T06:00:00Z"), Standing::Own),
        point("late", at("2026-11-24T07:00:00Z"), Standing::Pinned),
    ];
    let plan = plan(&Policy { keep_daily: 7, ..Policy::default() }, Tz::UTC, &points, at("2026-11-24T12:00:00Z"));
    assert_eq!(kept(&plan), [("late", "keepDaily 2026-11-24, pinned".to_owned())]);
}

#[test]
fn the_uid_decides_between_points_from_one_moment() {
    let time = at("2026-11-24T06:00:00Z");
    let points = [("a", "2"), ("b", "3"), ("c", "1")]
        .map(|(name, uid)| Candidate { uid: uid.into(), ..point(name, time, Standing::Own) });
    let plan = plan(&Policy { keep_last: 1, ..Policy::default() }, Tz::UTC, &points, time);
    assert_eq!(kept(&plan), [("b", "keepLast".to_owned())]);
    assert_eq!(pruned(&plan), BTreeSet::from(["1", "2"]));
}

#[test]
fn the_ends_of_the_calendar_have_days_too() {
    let ends = [DateTime::<Utc>::MIN_UTC, DateTime::UNIX_EPOCH, DateTime::<Utc>::MAX_UTC];
    let points = ends.map(|end| point(&end.to_string(), end, Standing::Own));
    for (zone, now) in [Pacific::Kiritimati, America::Los_Angeles, Tz::UTC].into_iter().zip(ends) {
        for max_age in [None, Some(Duration::MAX), Some(Duration::ZERO)] {
            let policy = Policy { keep_daily: 1, keep_weekly: 2, keep_yearly: u32::MAX, max_age, ..Policy::default() };
            let plan = plan(&policy, zone, &points, now);
            let expected =
                if max_age == Some(Duration::ZERO) { ends.iter().filter(|end| **end >= now).count() } else { 3 };
            assert_eq!(plan.kept.len(), expected, "{zone} {now} {max_age:?}");
        }
    }
}

#[test]
fn the_digest_tells_what_goes_and_nothing_else() {
    let pruned = |name: &str, uid: &str| Pruned { name: name.into(), uid: uid.into(), why: Why::NoRule };
    let digest = |prune: Vec<Pruned>| Plan { kept: vec![], prune }.digest();
    assert_eq!(digest(vec![]), "cbf29ce484222325");
    let one = digest(vec![pruned("a", "b"), pruned("c", "d")]);
    assert_eq!(one, "53997eba86e1c7f5", "it does not change between releases");
    assert_eq!(one, digest(vec![pruned("c", "d"), Pruned { why: Why::OlderThanMaxAge, ..pruned("a", "b") }]));
    let kept = vec![Kept { name: "e".into(), rules: vec![Rule::Last] }];
    assert_eq!(one, Plan { kept, prune: vec![pruned("a", "b"), pruned("c", "d")] }.digest());
    let others = [
        vec![pruned("a", "b")],
        vec![pruned("a", "b"), pruned("c", "e")],
        vec![pruned("a", "b"), pruned("e", "d")],
        vec![pruned("a", "d"), pruned("c", "b")],
        vec![pruned("ab", ""), pruned("c", "d")],
    ];
    for other in others {
        assert_ne!(digest(other.clone()), one, "{other:?}");
    }
}
