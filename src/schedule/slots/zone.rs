//! Names of time zones.

use chrono_tz::{TZ_VARIANTS, Tz};

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

/// The time zone with exactly this name in the IANA database. Old names that the database keeps are names too.
pub fn parse_zone(name: &str) -> Result<Tz, ZoneError> {
    name.parse().map_err(|_| {
        let shown: String = name.chars().take(SHOWN).collect();
        let wanted = name.trim().replace(' ', "_");
        let abbreviated = COMMON.iter().find(|(short, _)| short.eq_ignore_ascii_case(&wanted));
        let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
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
    })
}
