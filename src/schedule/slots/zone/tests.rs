use super::*;
use chrono::{DateTime, Offset};
use chrono_tz::TZ_VARIANTS;

#[test]
fn a_zone_has_its_name_in_the_database() {
    for name in ["Europe/Berlin", "Europe/Kiev", "Europe/Kyiv", "Asia/Calcutta", "UTC", "Etc/UTC", "Etc/GMT+3"] {
        assert_eq!(parse_zone(name).unwrap().name(), name);
    }
    let rows = [
        ("", "the time zone is empty; name one such as 'Europe/Berlin' or 'Etc/UTC'"),
        ("europe/berlin", "there is no time zone 'europe/berlin'; write 'Europe/Berlin'"),
        (" Europe/Berlin", "there is no time zone ' Europe/Berlin'; write 'Europe/Berlin'"),
        ("America/New York", "there is no time zone 'America/New York'; write 'America/New_York'"),
        ("Berlin", "there is no time zone 'Berlin'; write 'Europe/Berlin'"),
        ("utc", "there is no time zone 'utc'; write 'UTC'"),
        ("CEST", "'CEST' is an abbreviation, not a time zone; name the zone of a place, such as 'Europe/Berlin'"),
        (
            "+02:00",
            "there is no time zone '+02:00'; name one of the IANA database, such as 'Europe/Berlin' or 'Etc/UTC'",
        ),
        ("Local", "there is no time zone 'Local'; name one of the IANA database, such as 'Europe/Berlin' or 'Etc/UTC'"),
    ];
    for (name, expected) in rows {
        assert_eq!(parse_zone(name).unwrap_err().to_string(), expected);
    }
    assert!(parse_zone(&"x".repeat(10_000)).unwrap_err().to_string().len() < 200);
    for (short, zone) in COMMON {
        assert!(parse_zone(short).is_err() && parse_zone(zone).is_ok(), "{short}");
    }
    assert_eq!(TZDATA_VERSION.len(), "2025b".len());
}

/// Another library reads another compilation of the database. It has the same local times in every zone that it knows.
#[test]
fn offsets_are_those_of_another_library() {
    // From 2000 until 2024.
    let (start, end) = (946_684_800, 1_704_067_200);
    for named in TZ_VARIANTS {
        let zone = parse_zone(named.name()).unwrap();
        for now in (start..end).step_by(5 * 86_400 + 3600) {
            let local = DateTime::from_timestamp(now, 0).unwrap().with_timezone(&named);
            let offset = i64::from(local.offset().fix().local_minus_utc());
            assert_eq!(zone.offset_at(now), offset, "{named} {local}");
        }
    }
}
