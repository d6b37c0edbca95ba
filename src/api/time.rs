//! Time at the Kubernetes boundary: `chrono` in our code, `jiff` where the Kubernetes types require it.

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// A moment in whole seconds, as Kubernetes stores it.
pub fn now_seconds(now: DateTime<Utc>) -> DateTime<Utc> {
    now.trunc_subsecs(0)
}

/// A moment for people: RFC 3339 in whole seconds, UTC.
pub fn moment(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Converts to the type of Kubernetes objects. Moments outside the range of jiff become the epoch.
pub fn to_kubernetes(moment: DateTime<Utc>) -> Time {
    Time(jiff::Timestamp::from_second(moment.timestamp()).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// Parses a duration as the API accepts it: `2h`, `1h30m`, `90s`. Returns `None` for anything else, and for zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0u64;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((digits, tail)) = rest.split_once(unit) else { continue };
        if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        seconds += digits.parse::<u64>().ok()? * factor;
        rest = tail;
    }
    (rest.is_empty() && seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_the_schema_takes_them() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs());
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("1h5s"), Some(3605));
        assert_eq!(seconds("90s"), Some(90));
        for bad in ["", "0s", "h", "5", "5d", "1.5h", "-1h", "1m1h", "1h 2m", "1234567s"] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }
}
