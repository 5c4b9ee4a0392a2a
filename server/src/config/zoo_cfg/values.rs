//! Values as `zoo.cfg` spells them: numbers, switches, times. Pure.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// Why a value cannot be used: the end of a sentence that begins with the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadValue(pub(super) String);

/// A decimal number, or a hexadecimal one after `0x` (which Java's `Integer.decode` reads too),
/// within bounds.
pub(super) fn number<T>(value: &str, least: T, most: T) -> Result<T, BadValue>
where
    T: Copy + PartialOrd + Display + TryFrom<i64>,
{
    let parsed = match value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        Some(hex) if !hex.starts_with(['+', '-']) => i64::from_str_radix(hex, 16),
        Some(_) | None => i64::from_str(value),
    };
    parsed
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| BadValue(format!("`{value}` is not a number from {least} to {most}")))
}

/// A number that ZooKeeper lets fall below 0, where it means the same as 0: off.
pub(super) fn at_least_0(value: &str) -> Result<u32, BadValue> {
    let number = number::<i64>(value, i64::from(i32::MIN), i64::from(i32::MAX))?;
    Ok(u32::try_from(number).unwrap_or(0))
}

/// A number of milliseconds, at least `least`.
pub(super) fn millis(value: &str, least: u32) -> Result<Duration, BadValue> {
    // ZooKeeper's times are Java `int`s.
    number::<u32>(value, least, i32::MAX.unsigned_abs()).map(|ms| Duration::from_millis(ms.into()))
}

/// As [`millis`], where 0 and less mean "off".
pub(super) fn millis_or_off(value: &str) -> Result<Option<Duration>, BadValue> {
    let ms = number::<i64>(value, i64::from(i32::MIN), i64::from(i32::MAX))?;
    Ok(u64::try_from(ms)
        .ok()
        .filter(|&ms| ms > 0)
        .map(Duration::from_millis))
}

/// `true` or `false` in any case, and nothing else.
///
/// Source: ZooKeeper, `QuorumPeerConfig.parseBoolean`.
pub(super) fn strict_bool(value: &str) -> Result<bool, BadValue> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(BadValue(format!(
            "invalid option `{value}`: choose `true` or `false`"
        )))
    }
}

/// A share from 0 to 1.
pub(super) fn share(value: &str) -> Result<f64, BadValue> {
    f64::from_str(value)
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| BadValue(format!("`{value}` is not a share from 0 to 1")))
}

/// Hours, or a number with `ms`, `s`, `m`, `h` or `d`; 0 and less mean "off".
pub(super) fn interval(value: &str) -> Result<Option<Duration>, BadValue> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms: i64 = match value.get(digits.len()..).unwrap_or_default() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" | "" => 3_600_000,
        "d" => 86_400_000,
        unit => return Err(BadValue(format!("`{unit}` is not one of ms, s, m, h, d"))),
    };
    let count = number::<i64>(digits, i64::from(i32::MIN), i64::from(i32::MAX))?;
    Ok(count
        .checked_mul(unit_ms)
        .and_then(|ms| u64::try_from(ms).ok())
        .filter(|&ms| ms > 0)
        .map(Duration::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_bounds() {
        assert_eq!(number::<u32>("0x10", 0, 100), Ok(16));
        assert_eq!(number::<i64>("-1", -1, 5), Ok(-1));
        for bad in [
            "",
            "x",
            "101",
            "-1",
            "0x",
            "0x-1",
            "1.5",
            "99999999999999999999",
        ] {
            let error = number::<u32>(bad, 0, 100).unwrap_err().to_string();
            assert_eq!(error, format!("`{bad}` is not a number from 0 to 100"));
        }
    }

    #[test]
    fn switches_are_true_or_false_only() {
        assert_eq!(strict_bool("TRUE"), Ok(true));
        assert_eq!(strict_bool("False"), Ok(false));
        assert!(strict_bool("yes").is_err());
        assert!(strict_bool("").is_err());
    }

    #[test]
    fn intervals_are_hours_unless_they_say_otherwise() {
        assert_eq!(interval("24"), Ok(Some(Duration::from_secs(86_400))));
        assert_eq!(interval("1d"), Ok(Some(Duration::from_secs(86_400))));
        assert_eq!(interval("90s"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(interval("5ms"), Ok(Some(Duration::from_millis(5))));
        assert_eq!(interval("0"), Ok(None));
        assert_eq!(interval("-1"), Ok(None));
        assert!(interval("5w").is_err());
        assert!(interval("h").is_err());
    }
}
