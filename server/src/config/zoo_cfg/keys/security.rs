//! Keys that decide who may do what. None is ever silently without effect: what cannot be
//! honoured is refused, except where the thing that it would guard does not exist here.

use crate::config::DigestAlgorithm;
use crate::config::zoo_cfg::draft::Draft;
use crate::config::zoo_cfg::values::{BadValue, number, strict_bool};

use super::{Key, always, applied, checked, noted, refused, when_strictly_true, when_true};

const NO_TLS: &str = "remove the key, or put a TLS proxy in front of `clientPort`";
const NO_PEER_AUTH: &str = "remove the key, and let only the servers reach the peer ports";
const NO_TLS_HERE: &str = "belongs to TLS, which is refused where it is switched on";
const NO_PEERS_TLS: &str =
    "belongs to TLS between servers, which is refused where it is switched on";
const KERBEROS: &str = "belongs to Kerberos; a JAAS file that asks for Kerberos is refused";

pub(super) const KEYS: &[Key] = &[
    applied(
        "authProvider.*",
        "ip, digest",
        "`…SASLAuthenticationProvider` lets ACLs name the scheme `sasl`; \
         `…EnsembleAuthenticationProvider` adds the scheme `ensemble`; other classes are refused",
        auth_provider,
        |c| if c.sasl_provider { "sasl" } else { "" }.into(),
    ),
    applied(
        "DigestAuthenticationProvider.enabled",
        "true",
        "whether the scheme `digest` exists",
        |d, v| {
            d.config.digest_auth = d.lenient_bool(v);
            Ok(())
        },
        |c| c.digest_auth.to_string(),
    ),
    applied(
        "DigestAuthenticationProvider.superDigest",
        "",
        "`user:hash` that passes every check; `quorate digest user:password` makes it",
        |d, v| {
            if !v.contains(':') {
                d.warn("it has no colon and can never match: it has the form user:hash");
            }
            d.config.super_digest = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
        |c| {
            if c.super_digest.is_some() {
                "(set)"
            } else {
                ""
            }
            .into()
        },
    ),
    applied(
        "DigestAuthenticationProvider.digestAlg",
        "SHA1",
        "the hash of scheme `digest`: SHA1, SHA-256 or SHA-512",
        |d, v| {
            d.config.digest_algorithm = match v.to_ascii_uppercase().as_str() {
                "SHA" | "SHA1" | "SHA-1" => DigestAlgorithm::Sha1,
                "SHA-256" | "SHA256" => DigestAlgorithm::Sha256,
                "SHA-512" | "SHA512" => DigestAlgorithm::Sha512,
                _ => {
                    return Err(BadValue(format!(
                        "`{v}` is not supported: choose SHA1, SHA-256 or SHA-512"
                    )));
                }
            };
            Ok(())
        },
        |c| {
            match c.digest_algorithm {
                DigestAlgorithm::Sha1 => "SHA1",
                DigestAlgorithm::Sha256 => "SHA-256",
                DigestAlgorithm::Sha512 => "SHA-512",
            }
            .into()
        },
    ),
    applied(
        "java.security.auth.login.config",
        "",
        "the JAAS file; its section `Server` names the users of SASL DIGEST-MD5",
        |d, v| {
            d.jaas_file = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
        |c| {
            let names: Vec<_> = c.sasl_users.iter().map(|user| user.name.as_str()).collect();
            names.join(",")
        },
    )
    .bare(),
    applied(
        "sasl.serverconfig",
        "Server",
        "the name of that section",
        |d, v| {
            d.jaas_section = v.to_owned();
            Ok(())
        },
        |c| {
            if c.sasl_users.is_empty() {
                ""
            } else {
                "(found)"
            }
            .into()
        },
    ),
    applied(
        "SASLAuthenticationProvider.superPassword",
        "",
        "the password of the SASL user `super`",
        |d, v| {
            d.sasl_super_password = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
        |c| {
            let set = c.sasl_users.iter().any(|user| user.name == "super");
            if set { "(set)" } else { "" }.into()
        },
    ),
    applied(
        "superUser",
        "",
        "a SASL id that passes every check",
        super_user,
        |c| c.sasl_super_user.clone().unwrap_or_default(),
    ),
    applied(
        "superUser.*",
        "",
        "as `superUser`; more than one such id is refused",
        super_user,
        |c| c.sasl_super_user.clone().unwrap_or_default(),
    ),
    applied(
        "allowSaslFailedClients",
        "false",
        "a client whose SASL exchange fails goes on without an identity",
        |d, v| {
            d.config.allow_sasl_failed_clients = d.lenient_bool(v);
            Ok(())
        },
        |c| c.allow_sasl_failed_clients.to_string(),
    ),
    applied(
        "sessionRequireClientSASLAuth",
        "false",
        "clients must authenticate by SASL before any request",
        |d, v| {
            d.require_sasl = d.lenient_bool(v);
            Ok(())
        },
        |c| {
            c.enforce_auth_schemes
                .iter()
                .any(|scheme| scheme == "sasl")
                .to_string()
        },
    ),
    applied(
        "enforce.auth.enabled",
        "false",
        "clients must authenticate by one of `enforce.auth.schemes` before any request",
        |d, v| {
            d.enforce_auth = d.lenient_bool(v);
            Ok(())
        },
        |c| (!c.enforce_auth_schemes.is_empty()).to_string(),
    ),
    applied(
        "enforce.auth.schemes",
        "",
        "those schemes, comma separated",
        |d, v| {
            d.enforce_schemes = v
                .split(',')
                .map(str::trim)
                .filter(|scheme| !scheme.is_empty())
                .map(str::to_owned)
                .collect();
            Ok(())
        },
        |c| c.enforce_auth_schemes.join(","),
    ),
    applied(
        "ensembleAuthName",
        "",
        "the name that scheme `ensemble` asks for; a client that says another is disconnected",
        |d, v| {
            d.config.ensemble_auth_name = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
        |c| c.ensemble_auth_name.clone().unwrap_or_default(),
    ),
    applied(
        "skipACL",
        "no",
        "`yes` skips every ACL check",
        |d, v| {
            d.config.skip_acl = v == "yes";
            if d.config.skip_acl {
                d.warn("every ACL check is skipped: any client may do anything");
            }
            Ok(())
        },
        |c| if c.skip_acl { "yes" } else { "no" }.into(),
    ),
    refused(
        "secureClientPort",
        "",
        "a TLS listener is not built yet",
        |port| Ok(port != "0"),
        NO_TLS,
    )
    .file(),
    noted("secureClientPortAddress", "", NO_TLS_HERE).file(),
    refused(
        "client.portUnification",
        "false",
        "TLS on the client port is not built yet",
        when_true,
        NO_TLS,
    ),
    refused(
        "X509AuthenticationProvider.superUser",
        "",
        "the scheme `x509` needs TLS, which is not built yet",
        always,
        NO_TLS,
    ),
    noted("ssl.*", "", NO_TLS_HERE),
    noted("ssl.quorum.*", "", NO_PEERS_TLS),
    noted("client.certReload", "false", NO_TLS_HERE),
    noted("sslQuorumReloadCertFiles", "false", NO_PEERS_TLS).file(),
    noted("netty.server.outstandingHandshake.limit", "-1", NO_TLS_HERE),
    noted(
        "netty.server.earlyDropSecureConnectionHandshakes",
        "false",
        NO_TLS_HERE,
    ),
    noted(
        "fips-mode",
        "true",
        "no Java security provider is in play; SASL DIGEST-MD5 stays available",
    ),
    refused(
        "sslQuorum",
        "false",
        "TLS between servers is not built yet",
        when_strictly_true,
        "remove the key, and keep the peer ports on a network of their own",
    )
    .file(),
    refused(
        "portUnification",
        "false",
        "TLS between servers is not built yet",
        when_strictly_true,
        "remove the key, and keep the peer ports on a network of their own",
    )
    .file(),
    refused(
        "quorum.auth.enableSasl",
        "false",
        "authentication between servers is not built yet",
        when_true,
        NO_PEER_AUTH,
    )
    .file(),
    refused(
        "quorum.auth.serverRequireSasl",
        "false",
        "authentication between servers is not built yet",
        when_true,
        NO_PEER_AUTH,
    )
    .file(),
    refused(
        "quorum.auth.learnerRequireSasl",
        "false",
        "authentication between servers is not built yet",
        when_true,
        NO_PEER_AUTH,
    )
    .file(),
    noted(
        "quorum.auth.*",
        "",
        "belongs to authentication between servers, which is refused where it is switched on",
    )
    .file(),
    checked(
        "quorum.cnxn.threads.size",
        "20",
        "belongs to authentication between servers, which is refused where it is switched on",
        |_, v| number::<u32>(v, 0, u32::MAX).map(drop),
    )
    .file(),
    noted("kerberos.*", "", KERBEROS),
    noted("security.auth_to_local", "", KERBEROS),
    refused(
        "java.security.krb5.conf",
        "",
        "Kerberos is not supported",
        always,
        "remove the key; SASL DIGEST-MD5 is available",
    )
    .bare(),
    noted(
        "IPAuthenticationProvider.usexforwardedfor",
        "false",
        "concerns the HTTP admin server only, which does not exist yet",
    ),
    refused(
        "audit.enable",
        "false",
        "an audit log is not built yet",
        when_true,
        "remove the key, and note that changes are then not recorded by user",
    ),
    noted(
        "audit.impl.class",
        "",
        "belongs to `audit.enable`, which is refused",
    ),
    refused(
        "oraclePath",
        "",
        "two servers with an oracle cannot promise that acknowledged writes survive",
        |path| Ok(!path.is_empty()),
        "remove the key; use three servers for availability",
    )
    .file(),
    refused(
        "db.autocreate",
        "true",
        "a server that must not begin with an empty tree is not built yet",
        |value| Ok(!value.eq_ignore_ascii_case("true")),
        "remove the key, and make sure that `dataDir` is mounted before the server starts",
    ),
    checked(
        "localSessionsEnabled",
        "false",
        "every session is global: it lives on when its client goes to another server",
        |_, v| strict_bool(v).map(drop),
    )
    .file(),
    checked(
        "localSessionsUpgradingEnabled",
        "false",
        "every session is global: it lives on when its client goes to another server",
        |_, v| strict_bool(v).map(drop),
    )
    .file(),
    refused(
        "electionAlg",
        "3",
        "only 3 was ever kept",
        |value| Ok(value != "3"),
        "remove the key",
    )
    .file(),
];

fn auth_provider(draft: &mut Draft, class: &str) -> Result<(), BadValue> {
    match class.strip_prefix("org.apache.zookeeper.server.auth.") {
        Some("SASLAuthenticationProvider") => draft.config.sasl_provider = true,
        Some("EnsembleAuthenticationProvider") => draft.ensemble_provider = true,
        Some("DigestAuthenticationProvider" | "IPAuthenticationProvider") => {}
        Some("X509AuthenticationProvider") => {
            return Err(BadValue(
                "asks for the scheme `x509`, which needs TLS and is not built yet".into(),
            ));
        }
        _ => {
            return Err(BadValue(format!(
                "names `{class}`: only the sasl, digest, ip and ensemble providers exist here"
            )));
        }
    }
    Ok(())
}

fn super_user(draft: &mut Draft, value: &str) -> Result<(), BadValue> {
    match &draft.config.sasl_super_user {
        Some(other) if other != value => Err(BadValue(format!(
            "names `{value}` besides `{other}`: only one such id is supported yet"
        ))),
        _ => {
            draft.config.sasl_super_user = (!value.is_empty()).then(|| value.to_owned());
            Ok(())
        }
    }
}
