//! Reads and writes `name=value, name="quoted value"`.

use super::SaslError;

/// More than any server sends.
const DIRECTIVES_MAX: usize = 64;

/// The directives of a token, in order.
#[derive(Debug)]
pub(super) struct Directives(Vec<(String, String)>);

const fn malformed(problem: &'static str) -> SaslError {
    SaslError::Malformed { problem }
}

impl Directives {
    pub(super) fn parse(token: &[u8]) -> Result<Directives, SaslError> {
        let text = std::str::from_utf8(token).map_err(|_| malformed("not UTF-8"))?;
        let mut directives = Vec::new();
        let mut rest = text.trim_start_matches(is_filler);
        while !rest.is_empty() {
            if directives.len() == DIRECTIVES_MAX {
                return Err(malformed("too many directives"));
            }
            let (name, after) = rest
                .split_once('=')
                .ok_or(malformed("a directive without ="))?;
            let (value, after) = match after.trim_start().strip_prefix('"') {
                Some(quoted) => unquote(quoted).ok_or(malformed("an open quote"))?,
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    let (value, after) = after.split_at_checked(end).unwrap_or((after, ""));
                    (value.trim().to_owned(), after)
                }
            };
            directives.push((name.trim().to_ascii_lowercase(), value));
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                return Err(malformed("no comma behind a value"));
            }
            rest = after.trim_start_matches(is_filler);
        }
        Ok(Directives(directives))
    }

    /// The first of this name.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The only one of this name; two are an error.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, SaslError> {
        match self.0.iter().filter(|(known, _)| known == name).count() {
            0 | 1 => Ok(self.first(name)),
            _ => Err(malformed("a directive that may stand once stands twice")),
        }
    }
}

/// Between directives: RFC 2831 allows empty ones.
fn is_filler(c: char) -> bool {
    c == ',' || c.is_ascii_whitespace()
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

/// In quotes, with a backslash before what would end them.
pub(super) fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}
