//! What kazoo writes into a lease's znode.

use serde::Deserialize;

/// Who holds a lease, and until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holding {
    pub(super) holder: String,
    /// In s since 1970.
    pub(super) end: i64,
}

#[derive(Deserialize)]
struct Written {
    version: i64,
    holder: String,
    end: String,
}

impl Holding {
    /// As Python's `json.dumps` writes it, to the byte.
    pub(super) fn write(&self) -> String {
        let holder = python_string(&self.holder);
        let end = time(self.end);
        format!(r#"{{"version": 1, "holder": {holder}, "end": "{end}"}}"#)
    }

    /// `None` for what kazoo would not read either.
    pub(super) fn read(data: &[u8]) -> Option<Holding> {
        let written: Written = serde_json::from_slice(data).ok()?;
        let end = parse_time(&written.end)?;
        (written.version == 1).then_some(Holding {
            holder: written.holder,
            end,
        })
    }
}

fn python_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'"') => quoted.push_str("\\\""),
            Ok(b'\\') => quoted.push_str("\\\\"),
            Ok(b'\n') => quoted.push_str("\\n"),
            Ok(b'\r') => quoted.push_str("\\r"),
            Ok(b'\t') => quoted.push_str("\\t"),
            Ok(8) => quoted.push_str("\\b"),
            Ok(12) => quoted.push_str("\\f"),
            Ok(byte @ 0x20..=0x7f) => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\u{unit:04x}")),
        }
    }
    quoted.push('"');
    quoted
}

/// `2026-11-22T07:00:12`, in UTC.
fn time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn parse_time(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_time = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..62).contains(&second);
    is_time.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date. Years begin in March, so that the leap day is the last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    // No year has more days than this guess says, so it is the year or the one after.
    let mut year = 1970 + days_since_1970.div_euclid(366);
    while days(year + 1, 1, 1) <= days_since_1970 {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= days_since_1970 {
        month += 1;
    }
    (year, month, days_since_1970 - days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_written_as_python_writes_it() {
        let holding = Holding {
            holder: "me".to_owned(),
            end: parse_time("2026-11-22T07:00:12").unwrap(),
        };
        let text = r#"{"version": 1, "holder": "me", "end": "2026-11-22T07:00:12"}"#;
        assert_eq!(holding.write(), text);
        assert_eq!(Holding::read(text.as_bytes()), Some(holding));
        assert_eq!(python_string("a\"é\n"), r#""a\"\u00e9\n""#);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00");
        assert_eq!(time(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(time(1_767_225_599), "2025-12-31T23:59:59");
        for day in 0..60_000 {
            assert_eq!(parse_time(&time(day * 86_400 + 7)), Some(day * 86_400 + 7));
        }
    }

    #[test]
    fn other_data_is_no_lease() {
        for text in [
            "",
            "{}",
            r#"{"version": 2, "holder": "a", "end": "2026-11-22T07:00:12"}"#,
        ] {
            assert_eq!(Holding::read(text.as_bytes()), None);
        }
        assert_eq!(parse_time("2026-13-01T00:00:00"), None);
    }
}
