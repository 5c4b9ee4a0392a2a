//! The grammar of `server.N` lines. Pure: text in, [`ServerLine`] out.
//!
//! ```text
//! server.<id> = <addr> { "|" <addr> } [ ";" [client] [ ";" [secureClient] ] ]
//! addr         = host ":" quorumPort ":" electionPort [ ":" role ]
//! client       = [host ":"] port
//! ```
//!
//! Source: ZooKeeper, `QuorumPeer.QuorumServer`.

use std::fmt;

use super::values::{BadValue, number};

/// One member of an ensemble, as its line in `zoo.cfg` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLine {
    /// The member's number.
    pub id: u8,
    /// Where its peers reach it; more than one needs `multiAddress.enabled`.
    pub addresses: Vec<PeerAddress>,
    /// What it is; a line that does not say is a participant's.
    pub role: Role,
    /// Whether the line names the role.
    pub role_written: bool,
    /// Where its clients connect.
    pub client: Option<ClientAddress>,
    /// Where its clients connect with TLS.
    pub secure_client: Option<ClientAddress>,
}

/// Where peers reach a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerAddress {
    /// A name or an address, without brackets.
    pub host: String,
    /// The first port.
    pub quorum_port: u16,
    /// The second port.
    pub election_port: u16,
}

/// Where clients reach a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientAddress {
    /// A name or an address, without brackets; `0.0.0.0` when the line names none.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a member does in its ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Votes.
    Participant,
    /// Follows without a vote.
    Observer,
}

impl ServerLine {
    /// Reads the value of `server.<id>`.
    pub(super) fn parse(id: &str, value: &str) -> Result<ServerLine, BadValue> {
        let id = number::<u8>(id, 0, u8::MAX)
            .map_err(|_| BadValue(format!("`{id}` is not a server number from 0 to 255")))?;
        let mut parts = value.splitn(3, ';').map(str::trim);
        let mut role: Option<Role> = None;
        let mut addresses = Vec::new();
        for (at, text) in parts.next().unwrap_or_default().split('|').enumerate() {
            let (address, its_role) = peer_address(text.trim())?;
            if at > 0 && role != its_role {
                return Err(BadValue(
                    "gives its addresses different roles: all of one server have the same".into(),
                ));
            }
            role = its_role;
            addresses.push(address);
        }
        Ok(ServerLine {
            id,
            addresses,
            role: role.unwrap_or(Role::Participant),
            role_written: role.is_some(),
            client: parts.next().map(client_address).transpose()?.flatten(),
            secure_client: parts.next().map(client_address).transpose()?.flatten(),
        })
    }
}

/// The canonical text, as `conf` and `/zookeeper/config` print it: the role always, the client
/// part only when there is one.
impl fmt::Display for ServerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Participant => "participant",
            Role::Observer => "observer",
        };
        write!(f, "server.{}=", self.id)?;
        for (at, address) in self.addresses.iter().enumerate() {
            let bar = if at == 0 { "" } else { "|" };
            let (quorum, election) = (address.quorum_port, address.election_port);
            write!(f, "{bar}{}:{quorum}:{election}:{role}", Host(&address.host))?;
        }
        if let Some(client) = &self.client {
            write!(f, ";{}:{}", Host(&client.host), client.port)?;
        }
        if let Some(secure) = &self.secure_client {
            let empty = if self.client.is_none() { ";" } else { "" };
            write!(f, "{empty};{}:{}", Host(&secure.host), secure.port)?;
        }
        Ok(())
    }
}

/// IPv6 addresses go in brackets.
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

fn peer_address(text: &str) -> Result<(PeerAddress, Option<Role>), BadValue> {
    let malformed = || {
        BadValue(format!(
            "`{text}` does not have the form host:quorumPort:electionPort[:role]"
        ))
    };
    let (host, rest) = split_host(text).ok_or_else(malformed)?;
    let mut fields = rest.split(':');
    let (Some(quorum), Some(election)) = (fields.next(), fields.next()) else {
        return Err(malformed());
    };
    let (quorum_port, election_port) = (port(quorum)?, port(election)?);
    if quorum_port == election_port {
        return Err(BadValue(format!(
            "uses port {quorum_port} for both quorum and election: they must be different"
        )));
    }
    let role = match fields.next() {
        None => None,
        Some(role) if role.eq_ignore_ascii_case("participant") => Some(Role::Participant),
        Some(role) if role.eq_ignore_ascii_case("observer") => Some(Role::Observer),
        Some(role) => {
            return Err(BadValue(format!(
                "`{role}` is neither participant nor observer"
            )));
        }
    };
    if fields.next().is_some() {
        return Err(malformed());
    }
    let host = host.to_owned();
    let address = PeerAddress {
        host,
        quorum_port,
        election_port,
    };
    Ok((address, role))
}

/// An empty part names no address.
fn client_address(text: &str) -> Result<Option<ClientAddress>, BadValue> {
    if text.is_empty() {
        return Ok(None);
    }
    let (host, port_text) = if text.contains(':') {
        split_host(text)
            .ok_or_else(|| BadValue(format!("`{text}` does not have the form [host:]port")))?
    } else {
        ("0.0.0.0", text)
    };
    Ok(Some(ClientAddress {
        host: host.to_owned(),
        port: port(port_text)?,
    }))
}

/// `host:rest` or `[v6]:rest`, without the brackets.
fn split_host(text: &str) -> Option<(&str, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => text.split_once(':')?,
    };
    let odd = host.contains(|c: char| c == '[' || c == ']' || c.is_whitespace());
    (!host.is_empty() && !odd).then_some((host, rest))
}

fn port(text: &str) -> Result<u16, BadValue> {
    number::<u16>(text, 0, u16::MAX)
        .map_err(|_| BadValue(format!("`{text}` is not a port from 0 to 65535")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> ServerLine {
        ServerLine::parse("1", value).unwrap()
    }

    fn refusal(value: &str) -> String {
        ServerLine::parse("1", value).unwrap_err().to_string()
    }

    #[test]
    fn the_canonical_text_names_the_role() {
        for (given, canonical) in [
            ("h:2888:3888", "server.1=h:2888:3888:participant"),
            ("h:2888:3888:OBSERVER", "server.1=h:2888:3888:observer"),
            ("h:1:2;2181", "server.1=h:1:2:participant;0.0.0.0:2181"),
            (
                "h:1:2;a:2181;b:2281",
                "server.1=h:1:2:participant;a:2181;b:2281",
            ),
            ("h:1:2;;2281", "server.1=h:1:2:participant;;0.0.0.0:2281"),
            ("h:1:2;2181;", "server.1=h:1:2:participant;0.0.0.0:2181"),
            (
                "[::1]:1:2;[::]:2181",
                "server.1=[::1]:1:2:participant;[::]:2181",
            ),
            (
                "a:1:2|b:3:4",
                "server.1=a:1:2:participant|b:3:4:participant",
            ),
            (
                "a:1:2:observer|b:3:4:observer",
                "server.1=a:1:2:observer|b:3:4:observer",
            ),
        ] {
            assert_eq!(parse(given).to_string(), canonical);
            assert_eq!(
                parse(canonical.split_once('=').unwrap().1).to_string(),
                canonical
            );
        }
    }

    #[test]
    fn a_role_is_remembered_as_written_or_not() {
        assert!(!parse("h:1:2").role_written);
        assert!(parse("h:1:2:participant").role_written);
    }

    #[test]
    fn malformed_lines_say_what_is_expected() {
        for bad in [
            "",
            "h",
            "h:1",
            "h:1:2:participant:x",
            ":1:2",
            "::1:1:2:3",
            "[::1:1:2",
        ] {
            let message = refusal(bad);
            assert!(
                message.contains("host:quorumPort:electionPort") || message.contains("not a port"),
                "{bad}: {message}"
            );
        }
        assert!(refusal("h:2888:2888").contains("must be different"));
        assert!(refusal("h:1:2:leader").contains("neither participant nor observer"));
        assert!(refusal("h:1:70000").contains("not a port"));
        assert!(refusal("a:1:2|b:3:4:observer").contains("different roles"));
        assert!(refusal("h:1:2;x").contains("not a port"));
    }

    #[test]
    fn ids_fit_a_byte() {
        assert_eq!(ServerLine::parse("255", "h:1:2").unwrap().id, 255);
        assert!(ServerLine::parse("256", "h:1:2").is_err());
        assert!(ServerLine::parse("x", "h:1:2").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9:;|\\[\\] .é]{0,60}") {
            if let Ok(line) = ServerLine::parse("1", &text) {
                let canonical = line.to_string();
                let again = ServerLine::parse("1", canonical.split_once('=').unwrap().1);
                prop_assert_eq!(again.unwrap().to_string(), canonical);
            }
        }
    }
}
