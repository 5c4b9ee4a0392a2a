//! Auth packets: which identity a connection gains, or why not.
//!
//! Source: ZooKeeper's `DigestAuthenticationProvider`, `IPAuthenticationProvider`,
//! `EnsembleAuthenticationProvider`.

use std::net::IpAddr;

use quorate_proto::Id;

use crate::config::{Config, DigestAlgorithm, digest_identity};

/// The settings of this server that decide about credentials and ACL schemes.
#[derive(Clone, Debug)]
pub(crate) struct AuthRules {
    digest: Option<DigestAlgorithm>,
    super_digest: Option<String>,
    ensemble_name: Option<String>,
    /// Whether `sasl` may stand in an ACL.
    sasl_acls: bool,
}

/// The credentials were not accepted. The client gets -115 and the connection closes; which rule
/// refused is for the log, not for the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum AuthRefused {
    #[error("no provider takes credentials of this scheme")]
    UnknownScheme,
    #[error("the credentials are null")]
    NoCredentials,
    #[error("the ensemble has another name")]
    WrongEnsemble,
    #[error("the connection has as many identities as it may have")]
    TooMany,
    #[error("`quorate` takes `read=linearizable` or `read=local`")]
    UnknownReadMode,
}

/// The scheme of auth packets that are no proof of anything: they say how this session is to be
/// served. Clients send their auth packets again after a reconnect, so what was said lasts as
/// long as the session. ZooKeeper refuses the scheme.
pub(super) const WISHES: &str = "quorate";

/// Where reads get their right to be called current.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadMode {
    /// From this server's own state, at once: they may miss what others wrote.
    Local,
    /// From a quorum, for each: they show all that was acknowledged before they were sent.
    Linearizable,
}

impl ReadMode {
    /// What a server's configuration says.
    pub(super) fn of(config: &Config) -> ReadMode {
        match &config.ensemble {
            Some(ensemble) if ensemble.linearizable_reads => ReadMode::Linearizable,
            // A server that stands alone has nobody to be behind.
            Some(_) | None => ReadMode::Local,
        }
    }

    /// What a session wishes, by the credentials of [`WISHES`].
    pub(super) fn wished(credentials: Option<&[u8]>) -> Result<ReadMode, AuthRefused> {
        match credentials {
            Some(b"read=linearizable") => Ok(ReadMode::Linearizable),
            Some(b"read=local") => Ok(ReadMode::Local),
            _ => Err(AuthRefused::UnknownReadMode),
        }
    }
}

impl AuthRules {
    pub(crate) fn new(config: &Config) -> AuthRules {
        AuthRules {
            digest: config.digest_auth.then_some(config.digest_algorithm),
            super_digest: config.super_digest.clone(),
            ensemble_name: config.ensemble_auth_name.clone(),
            sasl_acls: config.sasl_provider || !config.sasl_users.is_empty(),
        }
    }

    /// The identities that an auth packet brings.
    pub(crate) fn authenticate(
        &self,
        scheme: Option<&str>,
        credentials: Option<&[u8]>,
        address: IpAddr,
    ) -> Result<Vec<Id>, AuthRefused> {
        match (scheme, self.digest, &self.ensemble_name) {
            (Some("digest"), Some(algorithm), _) => {
                let credentials = credentials.ok_or(AuthRefused::NoCredentials)?;
                let credentials = String::from_utf8_lossy(credentials);
                let digest = digest_identity(&credentials, algorithm);
                let mut ids = Vec::with_capacity(2);
                if self.super_digest.as_ref() == Some(&digest) {
                    ids.push(Id::new("super", ""));
                }
                ids.push(Id::new("digest", digest));
                Ok(ids)
            }
            // Whatever it says, a client has the address that it has.
            (Some("ip"), ..) => Ok(vec![Id::new("ip", address.to_string())]),
            (Some("ensemble"), _, Some(name)) => match credentials {
                None | Some([]) => Ok(Vec::new()),
                Some(given) if given == name.as_bytes() => Ok(Vec::new()),
                Some(_) => Err(AuthRefused::WrongEnsemble),
            },
            _ => Err(AuthRefused::UnknownScheme),
        }
    }

    /// Whether an ACL may name `id` in `scheme`; `None` if no provider knows the scheme.
    pub(crate) fn is_valid_acl_id(&self, scheme: &str, id: &str) -> Option<bool> {
        match scheme {
            "digest" if self.digest.is_some() => Some(java_split_len(id) == 2),
            "ip" => Some(is_address_pattern(id)),
            "sasl" if self.sasl_acls => Some(true),
            _ => None,
        }
    }
}

/// How many parts Java's `split(":")` makes: empty ones at the end do not count.
fn java_split_len(id: &str) -> usize {
    let parts: Vec<&str> = id.split(':').collect();
    parts
        .iter()
        .rposition(|part| !part.is_empty())
        .map_or(0, |last| last + 1)
}

/// An IPv4 or IPv6 literal, with or without `/bits`.
fn is_address_pattern(id: &str) -> bool {
    let (address, bits) = match id.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (id, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn rules(change: impl FnOnce(&mut Config)) -> AuthRules {
        let mut config = Config::default();
        change(&mut config);
        AuthRules::new(&config)
    }

    #[test]
    fn digest_identity_is_that_of_zookeeper() {
        let ids = rules(|_| ()).authenticate(Some("digest"), Some(b"u:p"), HERE);
        assert_eq!(
            ids,
            Ok(vec![Id::new("digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")])
        );
        for (credentials, user) in [("a:b:c", "a:"), ("nocolon", "nocolon:"), ("", ":")] {
            let ids =
                rules(|_| ()).authenticate(Some("digest"), Some(credentials.as_bytes()), HERE);
            let ids = ids.expect("whatever it says, it makes an identity");
            assert!(
                ids.iter().all(|id| id.id.starts_with(user)),
                "{credentials}"
            );
        }
    }

    #[test]
    fn super_digest_gives_both_identities() {
        let rules = rules(|c| c.super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".into()));
        let ids = rules
            .authenticate(Some("digest"), Some(b"super:test"), HERE)
            .expect("accepted");
        assert_eq!(ids.first(), Some(&Id::new("super", "")));
        assert_eq!(ids.len(), 2);
        let other = rules
            .authenticate(Some("digest"), Some(b"super:wrong"), HERE)
            .expect("accepted");
        assert_eq!(other.len(), 1);
    }

    #[test]
    fn schemes_without_a_provider_are_refused() {
        let rules = rules(|_| ());
        for scheme in [
            None,
            Some("world"),
            Some("sasl"),
            Some("x509"),
            Some("super"),
            Some(""),
        ] {
            let refused = rules.authenticate(scheme, Some(b"x"), HERE);
            assert_eq!(refused, Err(AuthRefused::UnknownScheme), "{scheme:?}");
        }
        assert_eq!(
            rules.authenticate(Some("digest"), None, HERE),
            Err(AuthRefused::NoCredentials)
        );
    }

    #[test]
    fn ensemble_name_is_checked_only_where_one_is_set() {
        let named = rules(|c| c.ensemble_auth_name = Some("blue".into()));
        assert_eq!(
            named.authenticate(Some("ensemble"), Some(b"blue"), HERE),
            Ok(vec![])
        );
        assert_eq!(
            named.authenticate(Some("ensemble"), Some(b"green"), HERE),
            Err(AuthRefused::WrongEnsemble)
        );
        let unnamed = rules(|_| ());
        assert!(
            unnamed
                .authenticate(Some("ensemble"), Some(b"blue"), HERE)
                .is_err()
        );
    }

    #[test]
    fn wishes_about_reads_are_read_to_the_letter() {
        let wished = |text: &str| ReadMode::wished(Some(text.as_bytes()));
        assert_eq!(wished("read=linearizable"), Ok(ReadMode::Linearizable));
        assert_eq!(wished("read=local"), Ok(ReadMode::Local));
        for other in ["", "linearizable", "read=", "read=LOCAL"] {
            assert_eq!(wished(other), Err(AuthRefused::UnknownReadMode), "{other}");
        }
        assert!(ReadMode::wished(None).is_err());
    }

    #[test]
    fn acl_ids_are_judged_as_by_zookeepers_providers() {
        let rules = rules(|_| ());
        for (id, valid) in [
            ("u:h", true),
            ("foo", false),
            ("a:b:c", false),
            (":h", true),
            ("u:", false),
        ] {
            assert_eq!(rules.is_valid_acl_id("digest", id), Some(valid), "{id}");
        }
        for (id, valid) in [
            ("127.0.0.1", true),
            ("127.0.0.0/8", true),
            ("::1/128", true),
            ("1.2.3.4/33", false),
            ("1.2.3.4/x", false),
            ("foo", false),
            ("1.2.3", false),
        ] {
            assert_eq!(rules.is_valid_acl_id("ip", id), Some(valid), "{id}");
        }
        assert_eq!(rules.is_valid_acl_id("sasl", "bob"), None);
        assert_eq!(rules.is_valid_acl_id("nosuch", "bob"), None);
    }
}
