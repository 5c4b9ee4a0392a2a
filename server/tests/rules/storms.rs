//! Reconnects under writes: `setWatches` loses no final state (R15).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use quorate_proto::{SetWatches, Zxid};
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::{ConnectOptions, WireClient};

use crate::support::number;

/// A client that keeps the values of some znodes by watches alone, over reconnects, as Java's
/// does: it looks again where it heard of a change, and sends the rest along.
struct Mirror<'a> {
    paths: &'a [String],
    options: ConnectOptions,
    last_zxid: Zxid,
    values: HashMap<String, u64>,
    /// To be looked at again.
    heard: HashSet<String>,
}

impl Mirror<'_> {
    fn note(&mut self, client: &mut WireClient) {
        self.last_zxid = self.last_zxid.max(client.last_header().zxid);
        let events = client.events();
        self.heard
            .extend(events.into_iter().map(|event| event.path));
    }

    async fn look_again(&mut self, client: &mut WireClient) {
        for path in std::mem::take(&mut self.heard) {
            let (data, _) = client.get_data(&path, true).await.unwrap();
            self.values.insert(path, number(data));
            self.note(client);
        }
    }

    async fn reconnect(&mut self, addr: std::net::SocketAddr) -> WireClient {
        self.options.last_zxid_seen = self.last_zxid;
        let mut client = WireClient::open_with(addr, &self.options).await;
        let armed = self.paths.iter().filter(|path| !self.heard.contains(*path));
        let watches = SetWatches {
            relative_zxid: self.last_zxid,
            data: armed.map(|path| path.into()).collect(),
            exist: Vec::new(),
            child: Vec::new(),
        };
        client.set_watches(watches).await.unwrap();
        self.note(&mut client);
        client
    }
}

#[tokio::test]
async fn reconnecting_under_writes_loses_no_final_state() {
    const LAST: u64 = 60;
    let server = TestServer::start().await;
    let paths: Vec<_> = (0..20).map(|n| format!("/n{n}")).collect();
    let mut writer = WireClient::open(server.addr()).await;
    for path in &paths {
        writer.create(path, b"0").await.unwrap();
    }
    let done = AtomicBool::new(false);
    let writes = async {
        for value in 1..=LAST {
            let text = value.to_string();
            for path in &paths {
                writer.set_data(path, text.as_bytes(), -1).await.unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let mirror = async || {
        let mut client = WireClient::open(server.addr()).await;
        let mut mirror = Mirror {
            paths: &paths,
            options: client.reattach(),
            last_zxid: Zxid::ZERO,
            values: HashMap::new(),
            heard: paths.iter().cloned().collect(),
        };
        mirror.look_again(&mut client).await;
        let mut reconnects = 0;
        while !done.load(Ordering::Relaxed) {
            drop(client);
            client = mirror.reconnect(server.addr()).await;
            mirror.look_again(&mut client).await;
            reconnects += 1;
        }
        assert!(reconnects > 5, "no storm");
        loop {
            mirror.look_again(&mut client).await;
            let stale = |path: &&String| mirror.values[*path] != LAST;
            if mirror.heard.is_empty() && paths.iter().find(stale).is_none() {
                return;
            }
            if mirror.heard.is_empty() {
                let event = client.event().await;
                mirror.heard.insert(event.path);
            }
        }
    };
    tokio::join!(writes, join_all((0..4).map(|_| mirror())));
}
