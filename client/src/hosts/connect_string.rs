//! Reads `host:port,host:port/chroot`.

use std::net::Ipv6Addr;
use std::str::FromStr as _;

use quorate_proto::path::{PathError, ROOT, validate};

use super::{HostPort, PORT_DEFAULT};

/// A connect string, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConnectString {
    /// In the order given; at least one.
    pub(crate) servers: Vec<HostPort>,
    /// What stands in front of every path; never `/`.
    pub(crate) chroot: Option<String>,
}

/// Why a string names no servers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectStringError {
    /// Nothing but commas and blanks.
    #[error("no server in {connect_string:?}")]
    NoServer {
        /// What was given.
        connect_string: String,
    },
    /// A part has a port but no host, or a blank inside.
    #[error("no host in {part:?}")]
    BadHost {
        /// Between which commas.
        part: String,
    },
    /// A port is no number from 1 to 65535.
    #[error("port {port:?} of {part:?} is no number from 1 to 65535")]
    BadPort {
        /// Between which commas.
        part: String,
        /// What stands there for a port.
        port: String,
    },
    /// An IPv6 address outside brackets: where it ends and its port starts is anybody's guess.
    #[error("an IPv6 address stands in brackets, unlike {part:?}")]
    NeedsBrackets {
        /// Between which commas.
        part: String,
    },
    /// What stands in brackets is no IPv6 address, or no colon follows.
    #[error("no IPv6 address in brackets, and perhaps a port, in {part:?}")]
    BadIpv6 {
        /// Between which commas.
        part: String,
    },
    /// More servers follow the chroot, which stands once, behind the last.
    #[error("servers behind the chroot in {chroot:?}: it stands once, behind the last server")]
    ServerBehindChroot {
        /// From the first slash.
        chroot: String,
    },
    /// The chroot is no path.
    #[error("bad chroot {chroot:?}")]
    BadChroot {
        /// From the first slash.
        chroot: String,
        /// Which rule it breaks.
        source: PathError,
    },
}

impl ConnectString {
    /// Reads servers and chroot. Blanks around servers and empty parts between commas are passed
    /// over, as ZooKeeper's client does.
    pub(crate) fn parse(connect_string: &str) -> Result<ConnectString, ConnectStringError> {
        let connect_string = connect_string.trim();
        let (hosts, chroot) = match connect_string.find('/') {
            Some(at) => connect_string.split_at(at),
            None => (connect_string, ROOT),
        };
        let servers: Vec<HostPort> = hosts
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(parse_server)
            .collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(ConnectStringError::NoServer {
                connect_string: connect_string.to_owned(),
            });
        }
        let chroot = parse_chroot(chroot)?;
        Ok(ConnectString { servers, chroot })
    }
}

fn parse_chroot(chroot: &str) -> Result<Option<String>, ConnectStringError> {
    // `h1:2181/app,h2:2181/app` would make a legal path of the second server.
    let names_port = |part: &str| {
        let server = part.split('/').next().unwrap_or_default();
        matches!(server.rsplit_once(':'), Some((_, port)) if port.parse::<u16>().is_ok())
    };
    if chroot.split(',').skip(1).any(names_port) {
        return Err(ConnectStringError::ServerBehindChroot {
            chroot: chroot.to_owned(),
        });
    }
    validate(chroot).map_err(|source| ConnectStringError::BadChroot {
        chroot: chroot.to_owned(),
        source,
    })?;
    Ok((chroot != ROOT).then(|| chroot.to_owned()))
}

fn parse_server(part: &str) -> Result<HostPort, ConnectStringError> {
    let owned = || part.to_owned();
    let (host, port) = match part.strip_prefix('[') {
        Some(bracketed) => {
            let bad = || ConnectStringError::BadIpv6 { part: owned() };
            let (address, behind) = bracketed.split_once(']').ok_or_else(bad)?;
            let unzoned = address.split_once('%').map_or(address, |(left, _)| left);
            Ipv6Addr::from_str(unzoned).map_err(|_| bad())?;
            let port = match behind {
                "" => None,
                _ => Some(behind.strip_prefix(':').ok_or_else(bad)?),
            };
            (address, port)
        }
        None => match part.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(ConnectStringError::NeedsBrackets { part: owned() });
            }
            Some((host, port)) => (host, Some(port)),
            None => (part, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ConnectStringError::BadHost { part: owned() });
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|&port| port != 0 && !digits.starts_with('+'))
            .ok_or_else(|| ConnectStringError::BadPort {
                part: owned(),
                port: digits.to_owned(),
            })?,
    };
    Ok(HostPort {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(connect_string: &str) -> Vec<String> {
        let parsed = ConnectString::parse(connect_string).unwrap();
        parsed.servers.iter().map(HostPort::to_string).collect()
    }

    fn chroot(connect_string: &str) -> Option<String> {
        ConnectString::parse(connect_string).unwrap().chroot
    }

    #[test]
    fn servers_and_chroot_are_told_apart() {
        let given = "h1:2182,h2,[::1]:2183,[fe80::1%eth0]/app/x";
        assert_eq!(
            servers(given),
            ["h1:2182", "h2:2181", "[::1]:2183", "[fe80::1%eth0]:2181"]
        );
        assert_eq!(chroot(given).as_deref(), Some("/app/x"));
    }

    #[test]
    fn a_lone_slash_is_no_chroot() {
        assert_eq!(chroot("h1/"), None);
        assert_eq!(chroot("h1"), None);
    }

    #[test]
    fn blanks_and_empty_parts_are_passed_over() {
        assert_eq!(servers(" h1 , ,h2:1, "), ["h1:2181", "h2:1"]);
    }

    #[test]
    fn a_host_in_brackets_is_kept_without_them() {
        let parsed = ConnectString::parse("[::1]").unwrap();
        assert_eq!(parsed.servers[0].host, "::1");
    }

    #[test]
    fn a_comma_alone_may_stand_in_a_chroot() {
        assert_eq!(chroot("h1/a,b").as_deref(), Some("/a,b"));
    }

    #[test]
    fn each_mistake_has_its_own_words() {
        let says = [
            ("", "no server in \"\""),
            (" , ", "no server in \",\""),
            ("/app", "no server in \"/app\""),
            (":2181", "no host in \":2181\""),
            ("h 1:2181", "no host in \"h 1:2181\""),
            ("h1:", "port \"\" of \"h1:\" is no number from 1 to 65535"),
            (
                "h1:0",
                "port \"0\" of \"h1:0\" is no number from 1 to 65535",
            ),
            (
                "h1:+1",
                "port \"+1\" of \"h1:+1\" is no number from 1 to 65535",
            ),
            (
                "h1:65536",
                "port \"65536\" of \"h1:65536\" is no number from 1 to 65535",
            ),
            (
                "zk://h1",
                "port \"\" of \"zk:\" is no number from 1 to 65535",
            ),
            (
                "::1:2181",
                "an IPv6 address stands in brackets, unlike \"::1:2181\"",
            ),
            (
                "[::1",
                "no IPv6 address in brackets, and perhaps a port, in \"[::1\"",
            ),
            (
                "[h1]:2181",
                "no IPv6 address in brackets, and perhaps a port, in \"[h1]:2181\"",
            ),
            (
                "[::1]2181",
                "no IPv6 address in brackets, and perhaps a port, in \"[::1]2181\"",
            ),
            ("h1/app/", "bad chroot \"/app/\""),
            ("h1//app", "bad chroot \"//app\""),
            (
                "h1:1/app,h2:1/app",
                "servers behind the chroot in \"/app,h2:1/app\": it stands once, behind the last server",
            ),
        ];
        for (given, expected) in says {
            let error = ConnectString::parse(given).unwrap_err();
            assert_eq!(error.to_string(), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn no_string_breaks_the_parser(given in "[h1:,/\\[\\]%. +é]{0,24}") {
            if let Ok(parsed) = ConnectString::parse(&given) {
                prop_assert!(!parsed.servers.is_empty());
                prop_assert_ne!(parsed.chroot.as_deref(), Some("/"));
            }
        }

        #[test]
        fn what_is_printed_reads_back(given in "[h1:,/\\[\\]%]{0,24}") {
            if let Ok(parsed) = ConnectString::parse(&given) {
                let hosts: Vec<_> = parsed.servers.iter().map(HostPort::to_string).collect();
                let printed = hosts.join(",") + parsed.chroot.as_deref().unwrap_or_default();
                prop_assert_eq!(ConnectString::parse(&printed), Ok(parsed));
            }
        }
    }
}
