//! SASL DIGEST-MD5, server side (RFC 2831 as ZooKeeper speaks it).
//!
//! Service and host are constants in every ZooKeeper client, `zookeeper/zk-sasl-md5`, whatever
//! the server is called. The quality of protection is always `auth`.

use std::collections::HashMap;

use md5::{Digest as _, Md5};

use crate::config::SaslUser;

const REALM: &str = "zk-sasl-md5";
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";

/// Where one connection stands in the exchange.
#[derive(Debug)]
pub(crate) enum SaslExchange {
    /// Nothing was said yet.
    Fresh,
    /// The challenge with this nonce is out.
    Challenged { nonce: String },
    /// Done, well or badly: whatever comes now is refused.
    Over,
}

/// What to answer.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum SaslStep {
    /// Send this and go on.
    Challenge(Vec<u8>),
    /// The client proved that it is this user; send the token that proves that we know the secret.
    Authenticated { user: String, token: Vec<u8> },
    /// Wrong in some way that a client is not told.
    Refused,
}

impl SaslExchange {
    /// Takes the next token of the client. `nonce` must be fresh and unguessable.
    pub(crate) fn step(&mut self, users: &[SaslUser], nonce: &str, token: &[u8]) -> SaslStep {
        match std::mem::replace(self, SaslExchange::Over) {
            SaslExchange::Fresh => {
                let challenge =
                    format!("realm=\"{REALM}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                *self = SaslExchange::Challenged {
                    nonce: nonce.to_owned(),
                };
                SaslStep::Challenge(challenge.into_bytes())
            }
            SaslExchange::Challenged { nonce } => match verify(users, &nonce, token) {
                Some((user, token)) => SaslStep::Authenticated { user, token },
                None => SaslStep::Refused,
            },
            SaslExchange::Over => SaslStep::Refused,
        }
    }
}

/// The user and the answer to the client, if its response is right.
fn verify(users: &[SaslUser], nonce: &str, token: &[u8]) -> Option<(String, Vec<u8>)> {
    let fields = directives(std::str::from_utf8(token).ok()?)?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    let (username, cnonce, nc) = (field("username")?, field("cnonce")?, field("nc")?);
    let right_form = field("nonce")? == nonce
        && field("digest-uri")? == DIGEST_URI
        && field("realm").unwrap_or_default() == REALM
        && field("qop").unwrap_or("auth") == "auth"
        && nc == "00000001";
    if !right_form {
        return None;
    }
    let user = users.iter().find(|user| user.name == username)?;
    // An authorization id other than the user's own asks to act for somebody else.
    let authzid = field("authzid");
    if authzid.is_some_and(|authzid| !authzid.is_empty() && authzid != username) {
        return None;
    }
    let response = |a2: &str| {
        let parts = [username, REALM, &user.password];
        let secret = Md5::digest(parts.map(hashed_bytes).join(&b':'));
        let mut a1 = Md5::new();
        a1.update(secret);
        a1.update(format!(":{nonce}:{cnonce}"));
        if let Some(authzid) = authzid {
            a1.update(format!(":{authzid}"));
        }
        let (a1, a2) = (hex(&a1.finalize()), hex(&Md5::digest(a2)));
        hex(&Md5::digest(format!(
            "{a1}:{nonce}:{nc}:{cnonce}:auth:{a2}"
        )))
    };
    let wanted = response(&format!("AUTHENTICATE:{DIGEST_URI}"));
    let given = field("response")?;
    // Compared in full, so that the time taken tells nothing about the first wrong byte.
    let differs = wanted
        .bytes()
        .zip(given.bytes())
        .fold(0, |acc, (a, b)| acc | (a ^ b));
    if given.len() != wanted.len() || differs != 0 {
        return None;
    }
    let proof = format!("rspauth={}", response(&format!(":{DIGEST_URI}")));
    Some((username.to_owned(), proof.into_bytes()))
}

/// `name=value` and `name="quoted \"value\""`, separated by commas. A name that comes twice is an
/// error, as RFC 2831 demands of those that matter.
fn directives(text: &str) -> Option<HashMap<String, String>> {
    let mut fields = HashMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                (value.trim().to_owned(), after)
            }
        };
        if fields
            .insert(name.trim().to_ascii_lowercase(), value)
            .is_some()
        {
            return None;
        }
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(fields)
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// The bytes of a text as they are hashed: ISO 8859-1 where it can be written so, else UTF-8.
///
/// Source: RFC 2831, section 2.1.2.1; `com.sun.security.sasl.digest`, which Java's clients use.
fn hashed_bytes(text: &str) -> Vec<u8> {
    let latin: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    latin.unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<SaslUser> {
        vec![SaslUser::new("bob", "bobsecret")]
    }

    /// What a client answers, computed from the RFC's formula on its own.
    fn client_response(
        nonce: &str,
        user: &str,
        password: &str,
        uri: &str,
        authzid: Option<&str>,
    ) -> String {
        let tail = authzid.map(|id| format!(":{id}")).unwrap_or_default();
        let mut a1 = Md5::digest(format!("{user}:zk-sasl-md5:{password}")).to_vec();
        a1.extend_from_slice(format!(":{nonce}:cn{tail}").as_bytes());
        let (h1, h2) = (
            hex(&Md5::digest(a1)),
            hex(&Md5::digest(format!("AUTHENTICATE:{uri}"))),
        );
        let response = hex(&Md5::digest(format!("{h1}:{nonce}:00000001:cn:auth:{h2}")));
        let authzid = authzid
            .map(|id| format!(",authzid=\"{id}\""))
            .unwrap_or_default();
        format!(
            "charset=utf-8,username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",nc=00000001,\
             cnonce=\"cn\",digest-uri=\"{uri}\",maxbuf=65536,response={response},qop=auth{authzid}"
        )
    }

    fn challenged() -> SaslExchange {
        let mut exchange = SaslExchange::Fresh;
        let challenge = exchange.step(&users(), "n0nce", b"");
        let expected = b"realm=\"zk-sasl-md5\",nonce=\"n0nce\",charset=utf-8,algorithm=md5-sess";
        assert_eq!(challenge, SaslStep::Challenge(expected.to_vec()));
        exchange
    }

    #[test]
    fn right_password_authenticates_and_proves_us_to_the_client() {
        for authzid in [None, Some("bob")] {
            let token = client_response("n0nce", "bob", "bobsecret", DIGEST_URI, authzid);
            match challenged().step(&users(), "other", token.as_bytes()) {
                SaslStep::Authenticated { user, token } => {
                    assert_eq!(user, "bob");
                    assert!(token.starts_with(b"rspauth="));
                    assert_eq!(token.len(), 8 + 32);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// `né` is one byte in ISO 8859-1, and that one is hashed though the token says UTF-8.
    #[test]
    fn a_name_that_fits_iso_8859_1_is_hashed_so() {
        let users = vec![SaslUser::new("n\u{e9}", "s\u{e9}cret")];
        let mut exchange = SaslExchange::Fresh;
        exchange.step(&users, "n0nce", b"");
        let mut a1 = Md5::digest(b"n\xe9:zk-sasl-md5:s\xe9cret").to_vec();
        a1.extend_from_slice(b":n0nce:cn");
        let h2 = hex(&Md5::digest(format!("AUTHENTICATE:{DIGEST_URI}")));
        let proof = format!("{}:n0nce:00000001:cn:auth:{h2}", hex(&Md5::digest(a1)));
        let token = format!(
            "charset=utf-8,username=\"n\u{e9}\",realm=\"zk-sasl-md5\",nonce=\"n0nce\",nc=00000001,\
             cnonce=\"cn\",digest-uri=\"{DIGEST_URI}\",maxbuf=65536,response={},qop=auth",
            hex(&Md5::digest(proof)),
        );
        let step = exchange.step(&users, "", token.as_bytes());
        assert!(matches!(step, SaslStep::Authenticated { .. }), "{step:?}");
    }

    #[test]
    fn everything_else_is_refused() {
        let wrong = [
            client_response("n0nce", "bob", "wrong", DIGEST_URI, None),
            client_response("n0nce", "eve", "bobsecret", DIGEST_URI, None),
            client_response("n0nce", "bob", "bobsecret", "zookeeper/localhost", None),
            client_response("replayed", "bob", "bobsecret", DIGEST_URI, None),
            client_response("n0nce", "bob", "bobsecret", DIGEST_URI, Some("super")),
            String::new(),
            "username=\"bob".into(),
            "username=\"bob\",username=\"bob\"".into(),
        ];
        for token in wrong {
            assert_eq!(
                challenged().step(&users(), "", token.as_bytes()),
                SaslStep::Refused,
                "{token}"
            );
        }
    }

    #[test]
    fn after_the_exchange_every_packet_is_refused() {
        let mut exchange = challenged();
        let token = client_response("n0nce", "bob", "bobsecret", DIGEST_URI, None);
        assert!(matches!(
            exchange.step(&users(), "", token.as_bytes()),
            SaslStep::Authenticated { .. }
        ));
        assert_eq!(exchange.step(&users(), "", b""), SaslStep::Refused);
        assert_eq!(
            exchange.step(&users(), "", token.as_bytes()),
            SaslStep::Refused
        );
    }
}
