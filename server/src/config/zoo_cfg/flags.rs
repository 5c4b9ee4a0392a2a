//! `-Dkey=value` out of `SERVER_JVMFLAGS` and `JVMFLAGS`, so that a deployment keeps what it set
//! there. Pure: the text of the variables in, properties out.

/// The properties that a Java command line would set, and how many other flags there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Key and value, in order; the last of a key counts.
    pub(super) properties: Vec<(String, String)>,
    /// Flags for the JVM alone, such as `-Xmx`.
    pub(super) others: Vec<String>,
}

/// Splits as a shell does: blanks separate, quotes group, a backslash protects.
pub(super) fn parse(text: &str) -> Flags {
    let mut flags = Flags::default();
    for word in words(text) {
        match word.strip_prefix("-D") {
            Some(property) => {
                let (key, value) = property.split_once('=').unwrap_or((property, ""));
                flags.properties.push((key.into(), value.into()));
            }
            None => flags.others.push(word),
        }
    }
    flags
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_taken_and_the_rest_is_counted() {
        let flags = parse(
            r#"-Xmx1g -Dzookeeper.snapCount=5  -Dzookeeper.a="x y" '-Db=c d' -Dempty -verbose\ gc"#,
        );
        let properties: Vec<_> = flags
            .properties
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            properties,
            [
                ("zookeeper.snapCount", "5"),
                ("zookeeper.a", "x y"),
                ("b", "c d"),
                ("empty", "")
            ]
        );
        assert_eq!(flags.others, ["-Xmx1g", "-verbose gc"]);
    }

    #[test]
    fn an_empty_variable_sets_nothing() {
        assert_eq!(parse("  "), Flags::default());
    }
}
