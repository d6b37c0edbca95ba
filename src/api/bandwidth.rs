//! Bytes per second, as the API accepts them.

use std::num::NonZeroU64;

/// The smallest limit, bytes per second.
///
/// The tool of 1.5.1 to 1.8 reads what the member sends in frames of up to 4 MiB (`BackupServer.FRAME_LENGTH`), and
/// gives up if one takes longer than 20 s (`Client.DEFAULT_READ_RESPONSE_TIMEOUT_SECONDS`; 1.8 waits 40 s). With this
/// limit, a frame takes 16 s.
const BANDWIDTH_MIN: u64 = 256 << 10;

/// A longer number may overflow once it is multiplied by its unit.
const DIGITS_MAX: usize = 10;

/// Parses bytes per second, written as a Kubernetes quantity: digits, then `k`, `M`, `G`, `Ki`, `Mi`, `Gi` or nothing.
///
/// Returns `None` for anything else, and for less than 256 Ki.
pub fn parse_bandwidth(text: &str) -> Option<NonZeroU64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    if number.starts_with('0') || number.len() > DIGITS_MAX {
        return None;
    }
    let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
    NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= BANDWIDTH_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_as_the_schema_takes_them() {
        let bytes = |text| parse_bandwidth(text).map(NonZeroU64::get);
        assert_eq!(bytes("262144"), Some(262_144));
        assert_eq!(bytes("256Ki"), Some(262_144));
        assert_eq!(bytes("263k"), Some(263_000));
        assert_eq!(bytes("20Mi"), Some(20_971_520));
        assert_eq!(bytes("50M"), Some(50_000_000));
        assert_eq!((bytes("1G"), bytes("1Gi")), (Some(1_000_000_000), Some(1 << 30)));
        assert_eq!(bytes("9999999999Gi"), Some(9_999_999_999 << 30));
    }
}
