//! Follows the ensemble's own list of its servers.
//!
//! Job: read `/zookeeper/config` and its changes, give the addresses for clients in it to the
//! session. Not here: which of them is dialled when (`hosts`), changing the ensemble.
//!
//! Invariants: the tracker keeps no client alive; a list without a single address changes nothing.

use std::sync::Weak;
use std::time::Duration;

use quorate_proto::path::CONFIG;

use crate::client::{Client, Inner};
use crate::hosts::{ConnectString, HostPort};
use crate::root::Root;
use crate::session::SessionState;

/// How long one reading of the list may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after one that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts to follow the list, for as long as the client lives.
pub(crate) fn track(client: &Client) {
    let inner = std::sync::Arc::downgrade(&client.inner);
    client.inner.tasks.spawn(follow(inner, client.status()));
}

async fn follow(inner: Weak<Inner>, mut status: tokio::sync::watch::Receiver<crate::Status>) {
    loop {
        let connected = status
            .wait_for(|status| status.state.is_connected() || status.state == SessionState::Closed);
        match connected.await {
            Ok(now) if now.state.is_connected() => {}
            _ => return,
        }
        let Some(client) = Client::of_inner(&inner, Root::default()) else {
            return;
        };
        let read = client.get(CONFIG).timeout(READ_TIMEOUT).watch();
        drop(client);
        let changed = match read.await {
            Ok((node, watch)) => {
                let servers = servers_of(&String::from_utf8_lossy(&node.data));
                tracing::debug!(?servers, "the ensemble names its servers");
                if let Some(inner) = inner.upgrade()
                    && !servers.is_empty()
                {
                    inner.session.set_servers(servers);
                }
                watch.await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            tracing::debug!(%error, "the ensemble's list cannot be followed now");
            tokio::time::sleep(PAUSE).await;
            let is_over = {
                let now = status.borrow();
                now.state == SessionState::Closed
            };
            if is_over || inner.strong_count() == 0 {
                return;
            }
        }
    }
}

/// The addresses for clients in a configuration, one server a line:
/// `server.1=peer:2888:3888:participant;client:2181`.
///
/// The part behind the semicolon may be a port alone, or a wildcard address: then the first peer
/// address stands in. Servers without that part are known to their own configuration only.
fn servers_of(config: &str) -> Vec<HostPort> {
    config.lines().filter_map(server_of).collect()
}

fn server_of(line: &str) -> Option<HostPort> {
    let (key, value) = line.trim().split_once('=')?;
    key.trim().strip_prefix("server.")?;
    let (peers, client) = value.split_once(';')?;
    let client = client.trim();
    let peer = || {
        let first = peers.split('|').next().unwrap_or_default().trim();
        match first.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map(|(host, _)| host.to_owned()),
            None => first.split_once(':').map(|(host, _)| host.to_owned()),
        }
    };
    let (host, port) = match client.rsplit_once(':') {
        None => (peer()?, client.parse().ok()?),
        Some(_) => {
            // The same rules as in a connect string, brackets included.
            let parsed = ConnectString::parse(client).ok()?;
            let HostPort { host, port } = parsed.servers.into_iter().next()?;
            match is_wildcard(&host) {
                true => (peer()?, port),
                false => (host, port),
            }
        }
    };
    (port != 0 && !host.is_empty()).then_some(HostPort { host, port })
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_addresses_are_read_and_wildcards_give_way_to_the_peers() {
        let table = [
            ("server.1=a:2888:3888:participant;b:2181", Some("b:2181")),
            (
                "server.1=a:2888:3888:participant;0.0.0.0:2181",
                Some("a:2181"),
            ),
            ("server.1=a:2888:3888;[::]:2182", Some("a:2182")),
            ("server.1=a:2888:3888:observer;2181", Some("a:2181")),
            ("server.1=[fe80::1]:2888:3888;2181", Some("[fe80::1]:2181")),
            (
                "server.2=a:2888:3888;[fe80::2]:2183",
                Some("[fe80::2]:2183"),
            ),
            (
                "server.3=a:2888:3888|b:2889:3889:participant;0.0.0.0:2181",
                Some("a:2181"),
            ),
            // Not told to clients.
            ("server.1=a:2888:3888:participant", None),
            ("version=100000000", None),
            ("server.1=a:2888:3888;nonsense", None),
            ("server.1=;0", None),
            ("", None),
        ];
        for (line, expected) in table {
            let read = server_of(line).map(|server| server.to_string());
            assert_eq!(read.as_deref(), expected, "{line}");
        }
        let config = "server.1=a:1:2;b:2181\nserver.2=c:1:2;d:2181\nversion=0";
        assert_eq!(servers_of(config).len(), 2);
    }
}
