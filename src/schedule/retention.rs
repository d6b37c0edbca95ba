//! Retention: which points of a schedule stay, which go, and the rule that keeps each one. Pure: it reads no clock and
//! does no I/O.

use super::slots::Zone;
use chrono::{DateTime, Datelike, IsoWeek, NaiveDate, TimeDelta, Utc};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};
use std::hash::Hash;
use std::time::Duration;

/// How many points to keep. Zero switches a count off. Validation makes sure that at least one rule is set; without any
/// rule every point stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest points, whenever they are from.
    pub keep_last: u32,
    /// The newest point of each of the most recent days that have one.
    pub keep_daily: u32,
    /// The newest point of each of the most recent ISO weeks that have one.
    pub keep_weekly: u32,
    /// The newest point of each of the most recent months that have one.
    pub keep_monthly: u32,
    /// The newest point of each of the most recent years that have one.
    pub keep_yearly: u32,
    /// The counts keep no point that is older than this. Without any count, every point that is not older stays.
    pub max_age: Option<Duration>,
    /// The newest points that stay whatever the other rules say. Zero means one.
    pub minimum_keep: u32,
}

/// A finished backup as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// The moment that the data is from.
    pub data_from: DateTime<Utc>,
    /// What the point is to the schedule.
    pub standing: Standing,
}

/// What a point is to the schedule whose points are pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A good point of this schedule. It counts for every rule and may be pruned.
    Own,
    /// A good point of this schedule that an annotation pins. It counts for every rule and is never pruned.
    Pinned,
    /// A good point of this schedule that the named user needs now. It counts for every rule and is not pruned now.
    InUse(String),
    /// A point of this schedule that a verification or a drill found broken. It counts for no rule, and no rule prunes
    /// it.
    Broken,
    /// A point that somebody made by hand. It counts for no rule and is never pruned.
    Manual,
    /// A point that was adopted. It counts for no rule and is never pruned.
    Adopted,
    /// A point of the named schedule, which may have the same name and another UID. It counts for no rule and is never
    /// pruned.
    OtherSchedule(String),
}

impl Standing {
    /// Whether the point counts for the rules.
    fn is_good(&self) -> bool {
        matches!(self, Self::Own | Self::Pinned | Self::InUse(_))
    }

    /// The rule by which a point stays whatever the policy says.
    fn rule(&self) -> Option<Rule> {
        match self {
            Self::Own => None,
            Self::Pinned => Some(Rule::Pinned),
            Self::InUse(user) => Some(Rule::InUse(user.clone())),
            Self::Broken => Some(Rule::Broken),
            Self::Manual => Some(Rule::Manual),
            Self::Adopted => Some(Rule::Adopted),
            Self::OtherSchedule(schedule) => Some(Rule::OtherSchedule(schedule.clone())),
        }
    }
}

/// Why a point stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is one of the newest points.
    Last,
    /// It is the newest point of this day.
    Daily(NaiveDate),
    /// It is the newest point of this ISO week.
    Weekly(IsoWeek),
    /// It is the newest point of this month.
    Monthly {
        /// The year that the month is in.
        year: i32,
        /// The month, from 1.
        month: u32,
    },
    /// It is the newest point of this year.
    Yearly(i32),
    /// It is not older than the greatest age, and the policy has no count.
    MaxAge,
    /// It is one of the newest points, and no other rule keeps it.
    Minimum,
    /// An annotation pins it.
    Pinned,
    /// The named user needs it.
    InUse(String),
    /// It is broken: people decide about it.
    Broken,
    /// Somebody made it by hand.
    Manual,
    /// It was adopted.
    Adopted,
    /// It is a point of the named schedule.
    OtherSchedule(String),
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("keepLast"),
            Self::Daily(day) => write!(f, "keepDaily {day}"),
            Self::Weekly(week) => write!(f, "keepWeekly {:04}-W{:02}", week.year(), week.week()),
            Self::Monthly { year, month } => write!(f, "keepMonthly {year:04}-{month:02}"),
            Self::Yearly(year) => write!(f, "keepYearly {year:04}"),
            Self::MaxAge => f.write_str("maxAge"),
            Self::Minimum => f.write_str("minimumKeep"),
            Self::Pinned => f.write_str("pinned"),
            Self::InUse(user) => write!(f, "in use by {user}"),
            Self::Broken => f.write_str("broken"),
            Self::Manual => f.write_str("made by hand"),
            Self::Adopted => f.write_str("adopted"),
            Self::OtherSchedule(schedule) => write!(f, "of another schedule ({schedule})"),
        }
    }
}

/// A point that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Name of the object.
    pub name: String,
    /// The rules that keep it, at least one: first those of the policy, then what the point itself is.
    pub rules: Vec<Rule>,
}

/// Why a point goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is older than the greatest age.
    OlderThanMaxAge,
    /// No rule keeps it.
    NoRule,
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OlderThanMaxAge => "older than maxAge",
            Self::NoRule => "no rule keeps it",
        })
    }
}

/// A point that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// Why it goes.
    pub why: Why,
}

/// What stays and what goes. Every candidate is in one of the two lists, and both lists have the newest point first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The points that stay.
    pub kept: Vec<Kept>,
    /// The points that go.
    pub prune: Vec<Pruned>,
}

/// Parameters of the 64-bit FNV-1a hash: the first value, and the factor.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3);
/// No text in UTF-8 has this byte, so that two texts never hash like two others with the boundary elsewhere.
const END_OF_TEXT: u8 = 0xff;

impl Plan {
    /// A short hash of the names and the UIDs of what goes, in whatever order. It stays the same between releases, and
    /// it is no protection against somebody who looks for a collision.
    pub fn digest(&self) -> String {
        let mut texts: Vec<_> = self.prune.iter().map(|pruned| [&*pruned.name, &*pruned.uid]).collect();
        texts.sort_unstable();
        let bytes = texts.iter().flatten().flat_map(|text| text.bytes().chain([END_OF_TEXT]));
        let hash = bytes.fold(FNV.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV.1));
        format!("{hash:016x}")
    }
}

/// Decides about every candidate. Days, weeks, months and years are those of `zone`. A point from the future counts as
/// newest: a wrong clock must not cost a point.
pub fn plan(policy: &Policy, zone: &Zone, candidates: &[Candidate], now: DateTime<Utc>) -> Plan {
    let mut sorted: Vec<_> = candidates.iter().collect();
    sorted.sort_unstable_by(|a, b| newest_first(a, b));
    let mut selection = Selection::new(policy, zone, now);
    let mut plan = Plan::default();
    for candidate in sorted {
        let rules = selection.rules(candidate);
        let name = candidate.name.clone();
        if rules.is_empty() {
            let why = if selection.is_too_old(candidate) { Why::OlderThanMaxAge } else { Why::NoRule };
            plan.prune.push(Pruned { name, uid: candidate.uid.clone(), why });
        } else {
            plan.kept.push(Kept { name, rules });
        }
    }
    plan
}

/// The UID decides between points from the same moment, so that every pass decides alike.
fn newest_first(a: &Candidate, b: &Candidate) -> Ordering {
    (b.data_from, &b.uid, &b.name).cmp(&(a.data_from, &a.uid, &a.name))
}

/// The calendar day of a moment in a zone. At the ends of the calendar, where the zone has no date any more, it is the
/// day in UTC.
fn day_in(zone: &Zone, moment: DateTime<Utc>) -> NaiveDate {
    let utc = moment.naive_utc();
    let offset = TimeDelta::seconds(zone.offset_at(moment.timestamp()));
    utc.checked_add_signed(offset).unwrap_or(utc).date()
}

/// The periods of one length that have a place.
struct Places<P> {
    limit: usize,
    /// A set, because a zone can set its clocks back past midnight: then points of the later day lie on both sides of
    /// points of the earlier day.
    taken: HashSet<P>,
}

impl<P: Eq + Hash> Places<P> {
    fn new(limit: u32) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), taken: HashSet::new() }
    }

    /// Whether a period gets a place now. It gets one once only: for its newest point, which comes first.
    fn take(&mut self, period: P) -> bool {
        self.taken.len() < self.limit && self.taken.insert(period)
    }
}

/// What the policy keeps of points that come newest first.
struct Selection<'a> {
    policy: &'a Policy,
    zone: &'a Zone,
    now: DateTime<Utc>,
    /// Number of good points so far.
    good: u32,
    days: Places<NaiveDate>,
    weeks: Places<IsoWeek>,
    months: Places<(i32, u32)>,
    years: Places<i32>,
}

impl<'a> Selection<'a> {
    fn new(policy: &'a Policy, zone: &'a Zone, now: DateTime<Utc>) -> Self {
        Self {
            policy,
            zone,
            now,
            good: 0,
            days: Places::new(policy.keep_daily),
            weeks: Places::new(policy.keep_weekly),
            months: Places::new(policy.keep_monthly),
            years: Places::new(policy.keep_yearly),
        }
    }

    /// The rules that keep the next point; none where it goes.
    fn rules(&mut self, candidate: &Candidate) -> Vec<Rule> {
        let standing = candidate.standing.rule();
        if !candidate.standing.is_good() {
            return standing.into_iter().collect();
        }
        let mut rules = if self.is_too_old(candidate) { Vec::new() } else { self.rules_by_time(candidate.data_from) };
        rules.extend(standing);
        if rules.is_empty() && self.good < self.policy.minimum_keep.max(1) {
            rules.push(Rule::Minimum);
        }
        self.good = self.good.saturating_add(1);
        rules
    }

    /// The rules of the policy that keep a good point that is not too old.
    fn rules_by_time(&mut self, data_from: DateTime<Utc>) -> Vec<Rule> {
        if !self.has_counts() {
            return vec![Rule::MaxAge];
        }
        let day = day_in(self.zone, data_from);
        let (year, month, week) = (day.year(), day.month(), day.iso_week());
        let held = [
            (self.good < self.policy.keep_last).then_some(Rule::Last),
            self.days.take(day).then_some(Rule::Daily(day)),
            self.weeks.take(week).then_some(Rule::Weekly(week)),
            self.months.take((year, month)).then_some(Rule::Monthly { year, month }),
            self.years.take(year).then_some(Rule::Yearly(year)),
        ];
        held.into_iter().flatten().collect()
    }

    fn has_counts(&self) -> bool {
        let Policy { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, .. } = *self.policy;
        [keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly].iter().any(|count| *count > 0)
    }

    /// A point from the future has no age.
    fn is_too_old(&self, candidate: &Candidate) -> bool {
        let age = (self.now - candidate.data_from).to_std();
        self.policy.max_age.is_some_and(|max_age| age.is_ok_and(|age| age > max_age))
    }
}

#[cfg(test)]
mod tests;
