//! How answers spell times, numbers and addresses: as Java does. Pure.

use std::fmt;
use std::net::SocketAddr;

/// A text that stops growing.
///
/// Words that list connections, sessions or watches write here: whoever may ask must not be able
/// to make the server build an answer without end. What does not fit is left out whole lines at a
/// time, and the last line says so.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    limit: usize,
    full: bool,
}

/// 4 MiB: some twenty thousand connections, or forty thousand watches of usual length.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Page {
    pub(super) fn new() -> Page {
        Page::with_limit(PAGE_BYTES_MAX)
    }

    pub(super) fn with_limit(limit: usize) -> Page {
        Page {
            text: String::new(),
            limit,
            full: false,
        }
    }

    /// Adds a line, or closes the page.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.full {
            return;
        }
        let before = self.text.len();
        // Writing to a `String` cannot fail.
        let _ = fmt::Write::write_fmt(&mut self.text, line);
        self.text.push('\n');
        if self.text.len() > self.limit {
            self.text.truncate(before);
            self.text.push_str("... the rest is left out\n");
            self.full = true;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The text, for words whose end has no newline of its own.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Up to four decimals and at least one, as Java prints a rounded `double`.
pub(super) struct Decimal(pub(super) f64);

impl Decimal {
    /// `sum / count`; 0 for nothing.
    #[expect(clippy::cast_precision_loss, reason = "four decimals are shown")]
    pub(super) fn average(sum: u64, count: u64) -> Decimal {
        Decimal(if count == 0 {
            0.0
        } else {
            sum as f64 / count as f64
        })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.4}", self.0);
        let short = text.trim_end_matches('0');
        f.write_str(short)?;
        f.write_str(if short.ends_with('.') { "0" } else { "" })
    }
}

/// `/127.0.0.1:2181`, `/[0:0:0:0:0:0:0:1]:2181`: a Java `InetSocketAddress` without a name.
pub(super) struct Peer(pub(super) SocketAddr);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(addr) => write!(f, "/{addr}"),
            SocketAddr::V6(addr) => {
                f.write_str("/[")?;
                for (at, segment) in addr.ip().segments().iter().enumerate() {
                    write!(f, "{}{segment:x}", if at == 0 { "" } else { ":" })?;
                }
                write!(f, "]:{}", addr.port())
            }
        }
    }
}

/// `Sun Nov 22 06:56:31 UTC 2026`, from milliseconds since 1970.
pub(super) struct Date(pub(super) i64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let seconds = self.0.div_euclid(1000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Counted from March of year 0, leap days come last.
        // Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = (from_march + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        let name = |names: &[&'static str], at: i64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| names.get(at).copied())
                .unwrap_or("?")
        };
        write!(
            f,
            "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
            name(&DAYS, days.rem_euclid(7)),
            name(&MONTHS, month),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_to_four_places() {
        for (sum, count, text) in [
            (0, 0, "0.0"),
            (27, 5, "5.4"),
            (119, 60, "1.9833"),
            (4, 2, "2.0"),
            (1, 100_000, "0.0"),
        ] {
            assert_eq!(Decimal::average(sum, count).to_string(), text);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_795_330_831_169, "Sun Nov 22 07:00:31 UTC 2026"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
            (4_102_444_799_000, "Thu Dec 31 23:59:59 UTC 2099"),
        ] {
            assert_eq!(Date(ms).to_string(), text);
        }
    }

    #[test]
    fn addresses_are_spelled_as_java_spells_them() {
        let peer = |text: &str| Peer(text.parse().unwrap()).to_string();
        assert_eq!(peer("127.0.0.1:2181"), "/127.0.0.1:2181");
        assert_eq!(peer("[::1]:2181"), "/[0:0:0:0:0:0:0:1]:2181");
    }

    #[test]
    fn a_page_ends_with_a_whole_line_and_says_that_it_is_cut() {
        let mut page = Page::with_limit(10);
        page.line(format_args!("12345"));
        assert!(!page.is_full());
        page.line(format_args!("67890"));
        page.line(format_args!("x"));
        assert!(page.is_full());
        assert_eq!(page.into_text(), "12345\n... the rest is left out\n");
    }
}
