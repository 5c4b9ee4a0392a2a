//! The users of SASL DIGEST-MD5 from a JAAS file. Pure: text in, users out.
//!
//! Only the section `Server` counts, and of login modules only ZooKeeper's `DigestLoginModule`:
//! Kerberos is refused rather than ignored.

use crate::config::SaslUser;

use super::values::BadValue;

const DIGEST_MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// The `user_NAME="password"` options of the section `section`, in the order of the file.
pub(super) fn server_users(text: &str, section: &str) -> Result<Vec<SaslUser>, BadValue> {
    let bad = |message: String| Err(BadValue(message));
    let mut words = Words { rest: text };
    while let Some(name) = words.next()? {
        if words.next()?.as_deref() != Some("{") {
            return bad(format!("section `{name}` does not open with {{"));
        }
        let mut users = Vec::new();
        let mut module: Option<String> = None;
        loop {
            let Some(word) = words.next()? else {
                return bad(format!("section `{name}` is not closed"));
            };
            match word.as_str() {
                "}" => break,
                ";" => module = None,
                _ if module.is_none() => {
                    if name == section && word != DIGEST_MODULE {
                        return bad(format!(
                            "section `{name}` uses `{word}`: only {DIGEST_MODULE} is supported"
                        ));
                    }
                    module = Some(word);
                }
                "=" => {}
                option => {
                    let Some(user) = option.strip_prefix("user_") else {
                        // `required`, `debug=true` and the like.
                        continue;
                    };
                    if words.next()?.as_deref() != Some("=") {
                        return bad(format!("`{option}` has no value"));
                    }
                    let Some(password) = words.next()? else {
                        return bad(format!("`{option}` has no value"));
                    };
                    users.push(SaslUser::new(user, password));
                }
            }
        }
        if words.rest.trim_start().starts_with(';') {
            words.next()?;
        }
        if name == section {
            return if users.is_empty() {
                bad(format!(
                    "section `{section}` names no user_NAME=\"password\""
                ))
            } else {
                Ok(users)
            };
        }
    }
    bad(format!("there is no section `{section}`"))
}

/// Splits the text into names, quoted strings and the signs `{ } ; =`, without comments.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Option<String>, BadValue> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("//") || self.rest.starts_with('#') {
                self.rest = self.rest.split_once('\n').map_or("", |(_, after)| after);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment
                    .split_once("*/")
                    .map(|(_, after)| after)
                    .ok_or_else(|| BadValue("a comment is not closed".into()))?;
            } else {
                break;
            }
        }
        let mut chars = self.rest.chars();
        let word = match chars.next() {
            None => return Ok(None),
            Some(sign @ ('{' | '}' | ';' | '=')) => {
                self.rest = chars.as_str();
                sign.to_string()
            }
            Some(quote @ ('"' | '\'')) => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => return Err(BadValue("a quoted value is not closed".into())),
                        Some('\\') => word.extend(chars.next()),
                        Some(c) if c == quote => break,
                        Some(c) => word.push(c),
                    }
                }
                self.rest = chars.as_str();
                word
            }
            Some(_) => {
                let end = self
                    .rest
                    .find(|c: char| c.is_whitespace() || "{};=\"'".contains(c))
                    .unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                word.to_owned()
            }
        };
        Ok(Some(word))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = r#"
        /* the usual two sections */
        Client { org.apache.zookeeper.server.auth.DigestLoginModule required username="bob"; };
        Server {
            org.apache.zookeeper.server.auth.DigestLoginModule required // who may come
            user_super="adminsecret"
            user_bob="bob\"secret";
        };
    "#;

    #[test]
    fn users_of_the_server_section_are_found() {
        let users = server_users(FILE, "Server").unwrap();
        assert_eq!(
            users,
            [
                SaslUser::new("super", "adminsecret"),
                SaslUser::new("bob", "bob\"secret")
            ]
        );
    }

    #[test]
    fn a_password_is_not_in_the_debug_form() {
        let users = server_users(FILE, "Server").unwrap();
        assert!(!format!("{users:?}").contains("secret"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let refusal = |text: &str| server_users(text, "Server").unwrap_err().to_string();
        assert!(refusal("").contains("no section `Server`"));
        assert!(
            refusal("Server { com.sun.security.auth.module.Krb5LoginModule required; };")
                .contains("only org.apache.zookeeper.server.auth.DigestLoginModule")
        );
        assert!(refusal(&format!("Server {{ {DIGEST_MODULE} required; }};")).contains("names no"));
        assert!(refusal("Server {").contains("not closed"));
        assert!(refusal("Server x").contains("does not open"));
        assert!(refusal("/* ").contains("not closed"));
        assert!(refusal("Server { \"x").contains("not closed"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(Server|\\{|\\}|;|=|user_a|\"|'|\\\\|/\\*|\\*/|//|\n| |é){0,30}") {
            let _ = server_users(&text, "Server");
        }
    }
}
