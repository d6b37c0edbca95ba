//! The slots of a schedule: the instants that a cron expression names in a time zone. Pure.
//!
//! An expression has five fields: minute, hour, day of month, month and weekday. A field is `*`, or a list of values
//! and ranges, with a step where needed. A step counts from the start of its range: `*/7` minutes means 0, 7, and so on
//! to 56, and then 0 of the next hour. `croner` reads the fields. What follows from them is decided here.
//!
//! A day field that begins with `*` is unrestricted, as in vixie cron. Where both day fields are restricted, a day
//! matches if either does: `0 0 1-7 * 1` means the first seven days and every Monday. Where one of them is
//! unrestricted, a day must match both: `0 0 */2 * 1` means the Mondays with an odd date.
//!
//! Where the clocks change, the hour field decides. If it covers all 24 hours, the slots follow real time: local times
//! that are skipped have no slot, and local times that are repeated have two. Otherwise each local time has one slot.
//! If it is skipped, the slot is the first instant after the gap, and all skipped times of one gap share this slot. If
//! it is repeated, the slot is the first of its instants.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use croner::CronComponent;
use croner::parser::{CronParser, Seconds, Year};
use std::iter;
use std::ops::Range;

mod text;
mod zone;

pub use text::ExpressionError;
pub use zone::{TZDATA_VERSION, Zone, ZoneError, parse_zone};

use text::{FIELDS, check_field, fields_of, not_valid};

const DAY: i64 = 86_400;
/// Longer than any jump of local time. The largest, at the date line, is shorter than 26 hours.
const NEAR: i64 = 2 * DAY;
/// No zone returns to an offset so soon after it left it, so that equal offsets at both ends mean no change in between.
const STRIDE: i64 = 3 * DAY;
/// A weekday comes back to 29 February within 40 years, even across 2100.
const SEARCH: i64 = 41 * 366 * DAY;
/// The greatest length of each month, from January.
const MONTH_LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A cron expression. Two are equal if their fields name the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// One bit for each value, as in the other fields.
    minutes: u64,
    hours: u64,
    /// From bit 1.
    days: u64,
    /// From bit 1.
    months: u64,
    /// From Sunday, bit 0.
    weekdays: u64,
    /// Whether a day matches if its date or its weekday does. Otherwise it must match both.
    either: bool,
}

/// What has passed between two instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The newest slot.
    pub slot: DateTime<Utc>,
    /// The number of slots, this one included.
    pub count: u64,
}

/// A piece of local time that runs as real time does.
struct Stretch {
    /// Local time less UTC, in seconds.
    offset: i64,
    /// The slot at its beginning that stands for skipped local times.
    late: Option<i64>,
    /// The local times that have one slot each if they match.
    local: Range<i64>,
}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let text = text.trim();
        let fields = fields_of(text)?;
        for (field, part) in FIELDS.iter().zip(fields) {
            check_field(field, part)?;
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parse = |fields: [&str; 5]| parser.parse(&fields.join(" ")).map(|cron| cron.pattern);
        let pattern = parse(fields).map_err(|_| {
            // The library does not say which field it refuses. It refuses that field alone, too.
            let refused = fields.iter().enumerate().find(|&(place, &part)| {
                let alone = std::array::from_fn(|other| if other == place { part } else { "*" });
                parse(alone).is_err()
            });
            let (place, part) = refused.unwrap_or((0, &text));
            FIELDS.get(place).map_or(ExpressionError::Empty, |field| not_valid(field, part))
        })?;
        let [_, _, days, months, weekdays] = fields;
        let expression = Self {
            minutes: mask_of(&pattern.minutes),
            hours: mask_of(&pattern.hours),
            days: mask_of(&pattern.days),
            months: mask_of(&pattern.months),
            weekdays: mask_of(&pattern.days_of_week),
            either: !days.starts_with('*') && !weekdays.starts_with('*'),
        };
        if expression.never_comes() {
            return Err(ExpressionError::Never { months: months.to_owned(), days: days.to_owned() });
        }
        Ok(expression)
    }

    /// The first slot after `after`; none if none comes in the next 41 years.
    pub fn next(&self, zone: &Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut at = after.timestamp();
        let last = at + SEARCH;
        while at < last {
            let until = at + NEAR;
            let mut slots = self
                .stretches(zone, at, until)
                .filter_map(|stretch| stretch.late.or_else(|| Some(self.first(&stretch.local)? - stretch.offset)));
            if let Some(slot) = slots.next() {
                return DateTime::from_timestamp(slot, 0);
            }
            // From `until` on, no change of the clocks leads back to local times before this one, and none leads to a
            // match from farther away than `NEAR`.
            let local = at + zone.offset_at(at);
            let ahead = self.first(&(local..local + SEARCH))? - local;
            at = until.max(at + ahead - NEAR);
        }
        None
    }

    /// The newest slot after `after` and not after `until`, with the number of slots there.
    pub fn newest(&self, zone: &Zone, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<Passed> {
        let (mut count, mut newest) = (0, None);
        for stretch in self.stretches(zone, after.timestamp(), until.timestamp()) {
            count += u64::from(stretch.late.is_some()) + self.count(&stretch.local);
            newest = self.last(&stretch.local).map(|local| local - stretch.offset).or(stretch.late).or(newest);
        }
        Some(Passed { slot: DateTime::from_timestamp(newest?, 0)?, count })
    }

    /// The stretches of local time between two instants, the second included.
    fn stretches(&self, zone: &Zone, after: i64, until: i64) -> impl Iterator<Item = Stretch> {
        // Local times that come again after `after` have been there before this.
        let mut begin = if after < until { after - NEAR } else { until + 1 };
        let mut seen = begin + zone.offset_at(begin);
        iter::from_fn(move || {
            while begin <= until {
                let (offset, end) = stretch_at(zone, begin, until + 1);
                let stretch = self.stretch(offset, begin..end, seen);
                (begin, seen) = (end, seen.max(end + offset));
                if end > after + 1 {
                    let late = stretch.late.filter(|&slot| slot > after);
                    let start = stretch.local.start.max(after + 1 + offset);
                    return Some(Stretch { late, local: start..stretch.local.end, ..stretch });
                }
            }
            None
        })
    }

    /// What a piece of real time with one offset holds, if local time had come to `seen` before it.
    fn stretch(&self, offset: i64, real: Range<i64>, seen: i64) -> Stretch {
        let local = real.start + offset..real.end + offset;
        if self.hours.count_ones() == 24 {
            return Stretch { offset, late: None, local };
        }
        if self.first(&(seen..local.start)).is_some() {
            // If the end of the gap matches too, it has no second slot.
            return Stretch { offset, late: Some(real.start), local: local.start + 1..local.end };
        }
        Stretch { offset, late: None, local: seen.max(local.start)..local.end }
    }

    /// The first local time in a range that matches. Local times are in seconds since 1970.
    fn first(&self, local: &Range<i64>) -> Option<i64> {
        let ((date, minute), (end, _)) = (split(local.start)?, split(local.end)?);
        let today = self.first_minute(minute).filter(|_| self.includes(date)).map(|minute| join(date, minute));
        let later = || {
            let mut months = self.days(date.succ_opt()?, end.succ_opt()?);
            let date = months.find_map(|(month, days)| month.with_day(lowest(days)?))?;
            Some(join(date, self.first_minute(0)?))
        };
        today.or_else(later).filter(|first| local.contains(first))
    }

    /// The last local time in a range that matches.
    fn last(&self, local: &Range<i64>) -> Option<i64> {
        let ((start, _), (date, minute)) = (split(local.start)?, split(local.end)?);
        let today = self.last_minute(minute).filter(|_| self.includes(date)).map(|minute| join(date, minute));
        let earlier = || {
            let mut months = self.days(start, date).rev();
            let date = months.find_map(|(month, days)| month.with_day(highest(days)?))?;
            Some(join(date, self.last_minute(24 * 60)?))
        };
        today.or_else(earlier).filter(|last| local.contains(last))
    }

    /// The number of local times in a range that match.
    fn count(&self, local: &Range<i64>) -> u64 {
        let (Some((start, early)), Some((end, late))) = (split(local.start), split(local.end)) else { return 0 };
        if local.is_empty() {
            return 0;
        }
        let days: u64 = self.days(start, end).map(|(_, days)| u64::from(days.count_ones())).sum();
        let before = |date, minute| if self.includes(date) { self.minutes_before(minute) } else { 0 };
        (days * self.minutes_before(24 * 60) + before(end, late)).saturating_sub(before(start, early))
    }

    /// The matching days from `start` until before `end`, in months: each with its first day and a bit for every day.
    fn days(&self, start: NaiveDate, end: NaiveDate) -> impl DoubleEndedIterator<Item = (NaiveDate, u64)> {
        let number = |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month0());
        (number(start)..=number(end)).filter_map(move |month| {
            let year = i32::try_from(month.div_euclid(12)).ok()?;
            let first = NaiveDate::from_ymd_opt(year, u32::try_from(month.rem_euclid(12)).ok()? + 1, 1)?;
            let from = if number(start) == month { start.day() } else { 0 };
            let to = if number(end) == month { end.day() } else { 32 };
            Some((first, at_least(below(self.days_of(first), to), from)))
        })
    }

    /// The matching days of a month, given its first day.
    fn days_of(&self, first: NaiveDate) -> u64 {
        if !has(self.months, first.month()) {
            return 0;
        }
        let weekday = first.weekday().num_days_from_sunday();
        let week = below((self.weekdays >> weekday) | (self.weekdays << (7 - weekday)), 7);
        let weekly = (0..5).fold(0, |days, number| days | (week << (1 + 7 * number)));
        let days = if self.either { self.days | weekly } else { self.days & weekly };
        below(days, u32::from(first.num_days_in_month()) + 1)
    }

    fn includes(&self, date: NaiveDate) -> bool {
        date.with_day(1).is_some_and(|first| has(self.days_of(first), date.day()))
    }

    /// The first matching minute of a day from this one on.
    fn first_minute(&self, minute: u32) -> Option<u32> {
        let (hour, minute) = (minute / 60, minute % 60);
        let minutes = lowest(at_least(self.minutes, minute)).filter(|_| has(self.hours, hour));
        let at = |hour, minute| hour * 60 + minute;
        minutes
            .map(|minute| at(hour, minute))
            .or_else(|| Some(at(lowest(at_least(self.hours, hour + 1))?, lowest(self.minutes)?)))
    }

    /// The last matching minute of a day before this one.
    fn last_minute(&self, minute: u32) -> Option<u32> {
        let (hour, minute) = (minute / 60, minute % 60);
        let minutes = highest(below(self.minutes, minute)).filter(|_| has(self.hours, hour));
        let at = |hour, minute| hour * 60 + minute;
        minutes
            .map(|minute| at(hour, minute))
            .or_else(|| Some(at(highest(below(self.hours, hour))?, highest(self.minutes)?)))
    }

    /// The number of matching minutes of a day before this one.
    fn minutes_before(&self, minute: u32) -> u64 {
        let (hour, minute) = (minute / 60, minute % 60);
        let hours = below(self.hours, hour).count_ones() * self.minutes.count_ones();
        let rest = if has(self.hours, hour) { below(self.minutes, minute).count_ones() } else { 0 };
        u64::from(hours + rest)
    }

    /// Whether no month has such a day. Every date that exists comes on every weekday.
    fn never_comes(&self) -> bool {
        let exists = |(month, &length): (u32, &u32)| has(self.months, month) && below(self.days, length + 1) != 0;
        !self.either && !(1..).zip(&MONTH_LENGTHS).any(exists)
    }
}

fn mask_of(component: &CronComponent) -> u64 {
    component.values().into_iter().fold(0, |mask, value| mask | bit(value.into()))
}

fn bit(place: u32) -> u64 {
    1_u64.checked_shl(place).unwrap_or(0)
}

fn has(mask: u64, place: u32) -> bool {
    mask & bit(place) != 0
}

fn below(mask: u64, place: u32) -> u64 {
    mask & bit(place).wrapping_sub(1)
}

fn at_least(mask: u64, place: u32) -> u64 {
    mask & !bit(place).wrapping_sub(1)
}

fn lowest(mask: u64) -> Option<u32> {
    (mask != 0).then(|| mask.trailing_zeros())
}

fn highest(mask: u64) -> Option<u32> {
    mask.checked_ilog2()
}

/// The date and the minute of the day of a local time, rounded up to a minute; none outside the calendar.
fn split(local: i64) -> Option<(NaiveDate, u32)> {
    let local = local + 59;
    let date = NaiveDate::from_epoch_days(i32::try_from(local.div_euclid(DAY)).ok()?)?;
    Some((date, u32::try_from(local.rem_euclid(DAY) / 60).ok()?))
}

fn join(date: NaiveDate, minute: u32) -> i64 {
    i64::from(date.to_epoch_days()) * DAY + i64::from(minute) * 60
}

/// The offset at an instant, and the instant at which it ends: `last` if it does not end before.
fn stretch_at(zone: &Zone, begin: i64, last: i64) -> (i64, i64) {
    let offset = zone.offset_at(begin);
    let mut same = begin;
    while same < last {
        let mut other = last.min(same + STRIDE);
        if zone.offset_at(other) == offset {
            same = other;
            continue;
        }
        while same + 1 < other {
            let middle = same.midpoint(other);
            *(if zone.offset_at(middle) == offset { &mut same } else { &mut other }) = middle;
        }
        return (offset, other);
    }
    (offset, last)
}

#[cfg(test)]
mod tests;
