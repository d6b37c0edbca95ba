//! The plan against one that is made in another way, over points and policies of every kind, and over a year.

use super::*;
use chrono::{Days, TimeZone};
use chrono_tz::Australia;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Count = fn(&Policy) -> u32;

/// The rule of each kind of calendar period: its name, its number of places, and the format of a period.
const PERIODS: [(&str, Count, &str); 4] = [
    ("keepDaily", |policy| policy.keep_daily, "%Y-%m-%d"),
    ("keepWeekly", |policy| policy.keep_weekly, "%G-W%V"),
    ("keepMonthly", |policy| policy.keep_monthly, "%Y-%m"),
    ("keepYearly", |policy| policy.keep_yearly, "%Y"),
];

/// First day of the period that a day is in.
fn first_day(rule: &str, day: NaiveDate) -> NaiveDate {
    match rule {
        "keepDaily" => day,
        "keepWeekly" => day - Days::new(day.weekday().num_days_from_monday().into()),
        "keepMonthly" => day.with_day(1).unwrap(),
        _ => day.with_ordinal(1).unwrap(),
    }
}

/// The rules that keep each point, by UID. It sorts nothing: it walks back through the calendar, period by period, and
/// looks for points in each. Where a day begins twice, the plan can differ from it, and no zone of the cases has such a
/// day.
fn reference(policy: &Policy, zone: Tz, candidates: &[Candidate], now: DateTime<Utc>) -> BTreeMap<String, String> {
    let moment = |point: &Candidate| (point.data_from, point.uid.clone());
    let is_good = |point: &&Candidate| {
        !matches!(point.standing, Standing::Broken | Standing::Manual | Standing::Adopted | Standing::OtherSchedule(_))
    };
    let good: Vec<_> = candidates.iter().filter(is_good).collect();
    let newer = |than: &Candidate| good.iter().filter(|point| moment(point) > moment(than)).count();
    let oldest = policy.max_age.map(|age| now - TimeDelta::from_std(age).unwrap());
    let young = good.iter().filter(|point| oldest.is_none_or(|oldest| point.data_from >= oldest));
    let young: Vec<_> =
        young.map(|point| (*point, zone.from_utc_datetime(&point.data_from.naive_utc()).date_naive())).collect();

    let mut rules = BTreeMap::<String, Vec<String>>::new();
    let mut add = |point: &Candidate, rule: String| rules.entry(point.uid.clone()).or_default().push(rule);
    for (point, _) in young.iter().filter(|(point, _)| newer(point) < policy.keep_last as usize) {
        add(point, "keepLast".into());
    }
    for (rule, count, label) in PERIODS {
        let mut places = count(policy);
        let Some(mut last_day) = young.iter().map(|(_, day)| *day).max() else { continue };
        let earliest = young.iter().map(|(_, day)| *day).min().unwrap();
        while places > 0 && last_day >= earliest {
            let first = first_day(rule, last_day);
            let within = young.iter().filter(|(_, day)| (first..=last_day).contains(day));
            if let Some((point, _)) = within.max_by_key(|(point, _)| moment(point)) {
                add(point, format!("{rule} {}", first.format(label)));
                places -= 1;
            }
            last_day = first - Days::new(1);
        }
    }
    if PERIODS.iter().all(|(_, count, _)| count(policy) == 0) && policy.keep_last == 0 {
        for (point, _) in &young {
            add(point, "maxAge".into());
        }
    }
    for point in candidates {
        match &point.standing {
            Standing::Own => {}
            Standing::Pinned => add(point, "pinned".into()),
            Standing::InUse(user) => add(point, format!("in use by {user}")),
            Standing::Broken => add(point, "broken".into()),
            Standing::Manual => add(point, "made by hand".into()),
            Standing::Adopted => add(point, "adopted".into()),
            Standing::OtherSchedule(schedule) => add(point, format!("of another schedule ({schedule})")),
        }
    }
    for point in good.iter().filter(|point| newer(point) < policy.minimum_keep.max(1) as usize) {
        rules.entry(point.uid.clone()).or_insert_with(|| vec!["minimumKeep".into()]);
    }
    rules.into_iter().map(|(uid, rules)| (uid, rules.join(", "))).collect()
}

/// The rules that keep each point, by UID, as the plan has them. The names of the candidates are unique.
fn kept_by_uid(plan: &Plan, candidates: &[Candidate]) -> BTreeMap<String, String> {
    let uid = |name: &str| candidates.iter().find(|point| point.name == name).unwrap().uid.clone();
    plan.kept.iter().map(|kept| (uid(&kept.name), words(&kept.rules))).collect()
}

/// A policy with zero and small numbers.
fn policies() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![2 => Just(0), 3 => 1u32..6];
    let ages = prop::option::of(prop_oneof![0u32..96, 0u32..12_000]);
    (count(), count(), count(), count(), count(), ages, 0u32..5).prop_map(
        |(last, daily, weekly, monthly, yearly, age, minimum)| Policy {
            keep_last: last,
            keep_daily: daily,
            keep_weekly: weekly,
            keep_monthly: monthly,
            keep_yearly: yearly,
            max_age: age.map(|hours| Duration::from_hours(hours.into())),
            minimum_keep: minimum,
        },
    )
}

/// Moments close to clock changes, to a new year and to nothing of the kind.
fn nows() -> impl Strategy<Value = DateTime<Utc>> {
    let times = [
        "2026-03-29T03:00:00Z",
        "2026-10-25T03:00:00Z",
        "2027-01-04T01:00:00Z",
        "2012-01-02T00:00:00Z",
        "2024-02-29T12:34:56Z",
    ];
    prop::sample::select(times.map(at).to_vec())
}

fn zones() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![
        Tz::UTC,
        Europe::Berlin,
        America::Sao_Paulo,
        America::Los_Angeles,
        Asia::Kathmandu,
        Australia::Lord_Howe,
        Pacific::Apia,
    ])
}

fn standings() -> impl Strategy<Value = Standing> {
    prop_oneof![
        12 => Just(Standing::Own),
        1 => Just(Standing::Pinned),
        1 => Just(Standing::InUse("restore r".into())),
        1 => Just(Standing::Broken),
        1 => prop_oneof![Just(Standing::Manual), Just(Standing::Adopted), Just(Standing::OtherSchedule("s".into()))],
    ]
}

/// Points from the last hours, weeks and years before a moment, several from one moment, and a few from after it.
fn points(now: DateTime<Utc>) -> impl Strategy<Value = Vec<Candidate>> {
    let minutes = prop_oneof![
        1 => (-10i64..0).prop_map(|hours| hours * 60),
        4 => (0i64..100).prop_map(|number| number * 30),
        4 => 0i64..90_000,
        3 => 0i64..1_500_000,
    ];
    prop::collection::vec((minutes, standings()), 0..60).prop_map(move |points| {
        let numbered = points.into_iter().enumerate();
        let candidate = |(number, (minutes, standing)): (usize, (i64, Standing))| Candidate {
            name: format!("point-{number}"),
            // Neither rises nor falls with the name.
            uid: format!("{:02}", number * 37 % 101),
            data_from: now - TimeDelta::minutes(minutes),
            standing,
        };
        numbered.map(candidate).collect()
    })
}

/// All that a plan is made from.
fn cases() -> impl Strategy<Value = (Policy, Tz, Vec<Candidate>, DateTime<Utc>)> {
    nows().prop_flat_map(|now| (policies(), zones(), points(now), Just(now)))
}

/// Ways to make a policy keep more.
const RAISES: [fn(&mut Policy, u32); 7] = [
    |policy, by| policy.keep_last += by,
    |policy, by| policy.keep_daily += by,
    |policy, by| policy.keep_weekly += by,
    |policy, by| policy.keep_monthly += by,
    |policy, by| policy.keep_yearly += by,
    |policy, by| policy.minimum_keep += by,
    |policy, by| policy.max_age = policy.max_age.filter(|_| by < 8).map(|age| age * by),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_plan_is_that_of_the_reference((policy, zone, points, now) in cases()) {
        let plan = plan(&policy, zone, &points, now);
        let kept = kept_by_uid(&plan, &points);
        prop_assert_eq!(&kept, &reference(&policy, zone, &points, now));
        prop_assert_eq!(plan.kept.len() + plan.prune.len(), points.len());
        prop_assert!(plan.prune.iter().all(|pruned| !kept.contains_key(&pruned.uid)));
    }

    #[test]
    fn the_newest_good_point_stays_and_only_free_ones_go((policy, zone, points, now) in cases()) {
        let plan = plan(&policy, zone, &points, now);
        let gone = pruned(&plan);
        let good = points.iter().filter(|point| point.standing.is_good());
        let newest = good.max_by_key(|point| (point.data_from, &point.uid));
        prop_assert!(newest.is_none_or(|newest| !gone.contains(&*newest.uid)));
        let not_free = points.iter().filter(|point| point.standing != Standing::Own);
        prop_assert!(not_free.into_iter().all(|point| !gone.contains(&*point.uid)));
    }

    #[test]
    fn a_second_plan_changes_nothing((policy, zone, mut points, now) in cases()) {
        let first = plan(&policy, zone, &points, now);
        apply(&mut points, &first);
        let second = plan(&policy, zone, &points, now);
        prop_assert_eq!(second, Plan { prune: vec![], ..first });
    }

    #[test]
    fn a_part_of_a_plan_changes_nothing_that_stays((policy, zone, mut points, now) in cases(), part in 1usize..4) {
        let whole = plan(&policy, zone, &points, now);
        let prune = whole.prune.iter().step_by(part).cloned().collect();
        apply(&mut points, &Plan { prune, ..Plan::default() });
        prop_assert_eq!(plan(&policy, zone, &points, now).kept, whole.kept);
    }

    /// A policy without a count keeps every point that is not too old, so its first count does prune more.
    #[test]
    fn a_policy_that_asks_for_more_keeps_no_less(
        (policy, zone, points, now) in cases(), raise in prop::sample::select(RAISES.to_vec()), by in 1u32..9,
    ) {
        let mut raised = policy.clone();
        raise(&mut raised, by);
        let has_counts = PERIODS.iter().any(|(_, count, _)| count(&policy) > 0) || policy.keep_last > 0;
        let counts_stay = Policy { max_age: None, minimum_keep: 0, ..policy.clone() }
            == Policy { max_age: None, minimum_keep: 0, ..raised.clone() };
        prop_assume!(has_counts || counts_stay);
        let (before, after) = (plan(&policy, zone, &points, now), plan(&raised, zone, &points, now));
        prop_assert!(pruned(&after).is_subset(&pruned(&before)));
    }

    #[test]
    fn the_order_of_the_points_does_not_matter(
        ((policy, zone, points, now), shuffled) in cases().prop_flat_map(|case| {
            let shuffled = Just(case.2.clone()).prop_shuffle();
            (Just(case), shuffled)
        }),
    ) {
        let (sorted, other) = (plan(&policy, zone, &points, now), plan(&policy, zone, &shuffled, now));
        prop_assert_eq!(sorted.digest(), other.digest());
        prop_assert_eq!(sorted, other);
    }

    #[test]
    fn pruning_after_each_point_keeps_what_pruning_once_keeps((policy, zone, mut points, _) in cases()) {
        points.sort_by_key(|point| (point.data_from, point.uid.clone()));
        let mut left = Vec::new();
        for point in &points {
            left.push(point.clone());
            let step = plan(&policy, zone, &left, point.data_from);
            apply(&mut left, &step);
        }
        if let Some(last) = points.last() {
            let (step, once) = (plan(&policy, zone, &left, last.data_from), plan(&policy, zone, &points, last.data_from));
            prop_assert_eq!(step.kept, once.kept);
        }
    }
}

/// The moment of each hour of a year in Berlin.
fn hours_of_2026() -> impl Iterator<Item = DateTime<Utc>> {
    (0..8760).map(|hour| at("2025-12-31T23:00:00Z") + TimeDelta::hours(hour))
}

#[test]
fn a_year_of_hourly_points_ends_as_the_rules_say() {
    let policy = Policy {
        keep_last: 3,
        keep_daily: 7,
        keep_weekly: 5,
        keep_monthly: 8,
        keep_yearly: 2,
        max_age: Some(300 * DAY),
        minimum_keep: 1,
    };
    let zone = Europe::Berlin;
    let local = |moment: &DateTime<Utc>| moment.with_timezone(&zone).format("%Y-%m-%dT%H").to_string();
    // Nothing runs in August, and on one day of the last week.
    let has_point = |time: &String| !time.starts_with("2026-08") && !time.starts_with("2026-12-28");
    let (mut points, mut most) = (Vec::new(), 0);
    for moment in hours_of_2026().filter(|moment| has_point(&local(moment))) {
        points.push(point(&moment.to_rfc3339(), moment, Standing::Own));
        let step = plan(&policy, zone, &points, moment);
        assert_eq!(kept_by_uid(&step, &points), reference(&policy, zone, &points, moment), "{moment}");
        apply(&mut points, &step);
        most = most.max(points.len());
    }
    let now = points.iter().map(|point| point.data_from).max().unwrap();
    assert_eq!(local(&now), "2026-12-31T23");
    let end = plan(&policy, zone, &points, now);
    let expected = [
        ("2026-12-31T23", "keepLast, keepDaily 2026-12-31, keepWeekly 2026-W53, keepMonthly 2026-12, keepYearly 2026"),
        ("2026-12-31T22", "keepLast"),
        ("2026-12-31T21", "keepLast"),
        ("2026-12-30T23", "keepDaily 2026-12-30"),
        ("2026-12-29T23", "keepDaily 2026-12-29"),
        ("2026-12-27T23", "keepDaily 2026-12-27, keepWeekly 2026-W52"),
        ("2026-12-26T23", "keepDaily 2026-12-26"),
        ("2026-12-25T23", "keepDaily 2026-12-25"),
        ("2026-12-24T23", "keepDaily 2026-12-24"),
        ("2026-12-20T23", "keepWeekly 2026-W51"),
        ("2026-12-13T23", "keepWeekly 2026-W50"),
        ("2026-12-06T23", "keepWeekly 2026-W49"),
        ("2026-11-30T23", "keepMonthly 2026-11"),
        ("2026-10-31T23", "keepMonthly 2026-10"),
        ("2026-09-30T23", "keepMonthly 2026-09"),
        ("2026-07-31T23", "keepMonthly 2026-07"),
        ("2026-06-30T23", "keepMonthly 2026-06"),
        ("2026-05-31T23", "keepMonthly 2026-05"),
        ("2026-04-30T23", "keepMonthly 2026-04"),
    ];
    let kept: Vec<_> = end.kept.iter().map(|kept| (local(&at(&kept.name)), words(&kept.rules))).collect();
    assert_eq!(kept, expected.map(|(time, rules)| (time.to_owned(), rules.to_owned())));
    assert_eq!(end.prune, []);
    assert!(most <= 3 + 7 + 5 + 8 + 2, "{most} points at once");
}

#[test]
fn a_year_without_a_count_ends_with_the_points_that_are_not_too_old() {
    let policy = Policy { max_age: Some(2 * DAY), minimum_keep: 3, ..Policy::default() };
    let mut points = Vec::new();
    for moment in hours_of_2026() {
        points.push(point(&moment.to_rfc3339(), moment, Standing::Own));
        let step = plan(&policy, Europe::Berlin, &points, moment);
        apply(&mut points, &step);
    }
    // 48 hours have 49 full hours, both ends included.
    assert_eq!(points.len(), 49);
    // Then no backup succeeds for a month.
    let end = plan(&policy, Europe::Berlin, &points, at("2027-01-31T00:00:00Z"));
    assert_eq!((end.kept.len(), end.prune.len()), (3, 46));
}
