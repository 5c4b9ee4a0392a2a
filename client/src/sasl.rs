//! SASL DIGEST-MD5, client side (RFC 2831 as ZooKeeper speaks it).
//!
//! Job: tokens in, tokens out. Not here: the packets they travel in, and when: after the
//! handshake and before anything else, one reply at a time.
//!
//! Invariants: the password never leaves, neither in a token nor in `Debug`; a server is believed
//! only when it has proven that it knows the password, too; no challenge, however odd, makes this
//! panic or keep more than a few KiB.

use std::fmt;

use md5::{Digest as _, Md5};

use self::directives::{Directives, quote};

mod directives;

/// What every ZooKeeper client says, whatever the server is called.
const SERVICE: &str = "zookeeper";
const HOST: &str = "zk-sasl-md5";
/// The longest token that RFC 2831 lets a server send.
const TOKEN_BYTES_MAX: usize = 2048;
/// Counts the uses of a nonce; we never use one twice.
const NONCE_COUNT: &str = "00000001";

/// One exchange, for one connection.
pub(crate) struct DigestMd5 {
    user: String,
    password: String,
    digest_uri: String,
    cnonce: String,
    state: State,
}

enum State {
    /// The empty token was sent or is about to be.
    Started,
    /// Our response is out; what the server must answer to prove itself.
    Responded {
        proof: String,
    },
    Over,
}

/// Why the exchange failed. The connection is of no use then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// ZooKeeper answers the first token with an empty one if it has no SASL users.
    #[error("the server has no SASL configured")]
    NotOffered,
    /// Longer than RFC 2831 allows.
    #[error("SASL token of {token_bytes} bytes")]
    TooLong {
        /// How long.
        token_bytes: usize,
    },
    /// The server's token is no list of directives, or one that matters is missing or doubled.
    #[error("malformed SASL token: {problem}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
    },
    /// The server wants another algorithm or quality of protection than there is here.
    #[error("the server offers no DIGEST-MD5 with md5-sess and qop auth")]
    Unsupported,
    /// The server did not prove that it knows the password: it may be an impostor.
    #[error("the server did not prove itself")]
    ServerNotProven,
    /// A token after the exchange was over.
    #[error("SASL token after the exchange")]
    Over,
}

impl DigestMd5 {
    /// The token to send first.
    pub(crate) const FIRST_TOKEN: &'static [u8] = b"";

    pub(crate) fn new(user: impl Into<String>, password: impl Into<String>) -> DigestMd5 {
        let cnonce = format!("{:032x}", rand::random::<u128>());
        DigestMd5::with(user.into(), password.into(), SERVICE, HOST, cnonce)
    }

    fn with(
        user: String,
        password: String,
        service: &str,
        host: &str,
        cnonce: String,
    ) -> DigestMd5 {
        DigestMd5 {
            user,
            password,
            digest_uri: format!("{service}/{host}"),
            cnonce,
            state: State::Started,
        }
    }

    /// Takes a token of the server; gives the one to send, or `None` when both sides have proven
    /// themselves. Nothing more may be sent then: ZooKeeper closes the connection.
    pub(crate) fn step(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, SaslError> {
        // Whatever goes wrong from here on ends the exchange.
        let state = std::mem::replace(&mut self.state, State::Over);
        if challenge.len() > TOKEN_BYTES_MAX {
            return Err(SaslError::TooLong {
                token_bytes: challenge.len(),
            });
        }
        match state {
            State::Started if challenge.is_empty() => Err(SaslError::NotOffered),
            State::Started => {
                let (response, proof) = self.respond(&Directives::parse(challenge)?)?;
                self.state = State::Responded { proof };
                Ok(Some(response.into_bytes()))
            }
            State::Responded { proof } => {
                let directives = Directives::parse(challenge)?;
                match directives.one("rspauth")? {
                    Some(given) if given == proof => Ok(None),
                    _ => Err(SaslError::ServerNotProven),
                }
            }
            State::Over => Err(SaslError::Over),
        }
    }

    /// The response to a challenge, and the proof that the server owes us.
    fn respond(&self, challenge: &Directives) -> Result<(String, String), SaslError> {
        let nonce = challenge.one("nonce")?.ok_or(SaslError::Malformed {
            problem: "no nonce",
        })?;
        let algorithm = challenge.one("algorithm")?;
        let offers_auth = match challenge.one("qop")? {
            None => true,
            Some(offers) => offers.split(',').any(|offer| offer.trim() == "auth"),
        };
        if algorithm != Some("md5-sess") || !offers_auth {
            return Err(SaslError::Unsupported);
        }
        let utf8 = challenge.one("charset")? == Some("utf-8");
        // Several realms are an offer to choose from.
        let realm = challenge.first("realm");
        let (user, cnonce, uri) = (&self.user, &self.cnonce, &self.digest_uri);

        let secret = [user, realm.unwrap_or_default(), &self.password]
            .map(charset)
            .join(&b':');
        let mut a1 = Md5::new();
        a1.update(Md5::digest(secret));
        a1.update(format!(":{nonce}:{cnonce}"));
        let a1 = hex(&a1.finalize());
        let prove = |a2: String| {
            let a2 = hex(&Md5::digest(a2));
            let all = format!("{a1}:{nonce}:{NONCE_COUNT}:{cnonce}:auth:{a2}");
            hex(&Md5::digest(all))
        };
        let response = prove(format!("AUTHENTICATE:{uri}"));
        let proof = prove(format!(":{uri}"));

        let charset = if utf8 { "charset=utf-8," } else { "" };
        let realm = realm.map(|realm| format!("realm={},", quote(realm)));
        let token = format!(
            "{charset}username={},{}nonce={},nc={NONCE_COUNT},cnonce={},digest-uri={},\
             maxbuf=65536,response={response},qop=auth",
            quote(user),
            realm.unwrap_or_default(),
            quote(nonce),
            quote(cnonce),
            quote(uri),
        );
        Ok((token, proof))
    }
}

/// Hides the password and what is made of it.
impl fmt::Debug for DigestMd5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestMd5")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The bytes of a text as they are hashed: in ISO 8859-1 if it can be written so, else in UTF-8.
/// RFC 2831, section 2.1.2.1; Java's server does the same.
fn charset(text: &str) -> Vec<u8> {
    let latin: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    latin.unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
