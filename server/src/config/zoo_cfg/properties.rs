//! The file format under `zoo.cfg`: Java properties.
//!
//! Bytes in, entries with their place out. It knows nothing of keys or values, reads no file, and
//! takes any bytes: the text is ISO-8859-1, so every byte is a character. The only thing it
//! refuses is what `java.util.Properties.load` refuses: a malformed `\uXXXX`.
//!
//! Source: `java.util.Properties.load` (Java SE documentation).

/// One `key = value`, with where its key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key, unescaped.
    pub(super) key: String,
    /// The value, unescaped and trimmed.
    pub(super) value: String,
    /// Where the key begins.
    pub(super) spot: Spot,
}

/// A place in a file, with enough to draw the line and a caret under it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Spot {
    /// From 1.
    pub(super) line: usize,
    /// From 0, in characters.
    pub(super) column: usize,
    /// How many characters are meant.
    pub(super) width: usize,
    /// The whole line, as written.
    pub(super) text: String,
}

/// A `\u` that is not followed by four hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadEscape {
    /// Where the logical line begins that holds it.
    pub(super) spot: Spot,
}

/// Every entry, in the order of the file; a key may come more than once, and the last counts.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, BadEscape> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let lines = natural_lines(&text);
    let mut entries = Vec::new();
    let mut rest = lines.iter().enumerate();
    while let Some((index, first)) = rest.next() {
        let start = first.trim_start_matches(is_blank);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = String::from(start);
        while ends_in_odd_backslashes(&logical) {
            logical.pop();
            // At the end of the file the backslash simply goes.
            let Some((_, next)) = rest.next() else { break };
            logical.push_str(next.trim_start_matches(is_blank));
        }
        let (raw_key, raw_value) = split(&logical);
        let spot = Spot {
            line: index + 1,
            column: first.chars().count() - start.chars().count(),
            width: raw_key.chars().count().max(1),
            text: (*first).to_owned(),
        };
        let (Some(key), Some(value)) = (unescape(raw_key), unescape(raw_value)) else {
            return Err(BadEscape { spot });
        };
        entries.push(Entry {
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            spot,
        });
    }
    Ok(entries)
}

/// Lines end in `\n`, `\r` or both.
fn natural_lines(text: &str) -> Vec<&str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
        .collect()
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// An even number of backslashes are escaped backslashes; one more continues the line.
fn ends_in_odd_backslashes(line: &str) -> bool {
    line.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or blank that no backslash protects; one separator and the
/// blanks around it belong to neither side.
fn split(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(logical.len(), |(at, _)| at);
    let (key, rest) = logical.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

/// `None` for a malformed `\uXXXX`.
fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let hex = digits.len() == 4 && digits.chars().all(|d| d.is_ascii_hexdigit());
                    units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| hex)?);
                    continue;
                }
                // Any other escaped character is itself.
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        // Two escapes in a row may be the halves of one character.
        flush(&mut units, &mut out);
        out.push(plain);
    }
    flush(&mut units, &mut out);
    Some(out)
}

fn flush(units: &mut Vec<u16>, out: &mut String) {
    if !units.is_empty() {
        out.push_str(&String::from_utf16_lossy(units));
        units.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &[u8]) -> Vec<(String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text.as_bytes());
        assert_eq!(all.len(), 1, "{text:?} gave {all:?}");
        all.remove(0)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn separators_are_equals_colon_or_blank() {
        for text in [
            "a=b",
            "a:b",
            "a b",
            "a = b",
            "  a\t:\tb  ",
            "a\x0cb",
            "a =b",
            "a\n=b",
        ] {
            if text.contains('\n') {
                assert_eq!(pairs(text.as_bytes()), [pair("a", ""), pair("", "b")]);
            } else {
                assert_eq!(one(text), pair("a", "b"), "{text:?}");
            }
        }
        assert_eq!(one("a==b"), pair("a", "=b"));
        assert_eq!(one("a b=c"), pair("a", "b=c"));
        assert_eq!(
            one("server.1=h:1:2;0.0.0.0:3"),
            pair("server.1", "h:1:2;0.0.0.0:3")
        );
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_are_never_continued() {
        let text = "# a=1\\\nb=2\n\n   ! c=3\n \t\nd=4 # not a comment\n";
        assert_eq!(
            pairs(text.as_bytes()),
            [pair("b", "2"), pair("d", "4 # not a comment")]
        );
    }

    #[test]
    fn a_trailing_backslash_joins_lines_and_drops_the_next_lines_indent() {
        assert_eq!(one("a=1\\\n   2\\\r\n\t3"), pair("a", "123"));
        assert_eq!(
            one("a=1\\\n   # still the value"),
            pair("a", "1# still the value")
        );
        // An escaped backslash at the end is a backslash.
        assert_eq!(pairs(b"a=C:\\\\\nb=2"), [pair("a", "C:\\"), pair("b", "2")]);
        assert_eq!(one("a=1\\"), pair("a", "1"));
    }

    #[test]
    fn escapes_are_java_s() {
        assert_eq!(
            one(r"a\ b\:c\=d = \t1\u00e9\q"),
            pair("a b:c=d", "1\u{e9}q")
        );
        assert_eq!(one(r"a=\ud83d\ude00"), pair("a", "\u{1f600}"));
        // A Windows path with single backslashes is mangled, as Apache ZooKeeper's users know.
        assert_eq!(one(r"dataDir=C:\zk\data"), pair("dataDir", "C:zkdata"));
        assert_eq!(parse(b"\na=\\u12g4").unwrap_err().spot.line, 2);
        assert_eq!(parse(b"a=\\u12").unwrap_err().spot.line, 1);
    }

    #[test]
    fn bytes_are_latin_1() {
        assert_eq!(pairs(b"a=\xe9"), [pair("a", "\u{e9}")]);
    }

    #[test]
    fn every_kind_of_line_end_counts_once() {
        let entries = parse(b"a=1\r\nb=2\rc=3\n\nd=4").unwrap();
        let lines: Vec<_> = entries.iter().map(|entry| entry.spot.line).collect();
        assert_eq!(lines, [1, 2, 3, 5]);
    }

    #[test]
    fn a_spot_points_at_the_key_as_written() {
        let entries = parse(b"x=\\\n 1\n  tikTime = 2000").unwrap();
        assert_eq!(
            entries[1].spot,
            Spot {
                line: 3,
                column: 2,
                width: 7,
                text: "  tikTime = 2000".into()
            }
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_tricky_text_makes_it_panic(text in "[\\\\u0a=: #!\r\n\tx]{0,80}") {
            let _ = parse(text.as_bytes());
        }
    }
}
