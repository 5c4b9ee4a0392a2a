//! Servers greet each other, over pipes and over TCP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::net::{Net, Stream};
use super::*;
use crate::config::{Ensemble, PeerAddress, Role, ServerLine};

const CLUSTER: [u8; 16] = [7; 16];

fn address(host: &str, quorum_port: u16) -> PeerAddress {
    PeerAddress {
        host: host.into(),
        quorum_port,
        election_port: 1,
    }
}

fn line(id: u8, addresses: Vec<PeerAddress>) -> ServerLine {
    ServerLine {
        id,
        addresses,
        role: Role::Participant,
        role_written: false,
        client: None,
        secure_client: None,
    }
}

fn ensemble(ids: &[u8]) -> Ensemble {
    let lines = ids
        .iter()
        .map(|&id| line(id, vec![address("host", id.into())]));
    Ensemble::new(lines.collect(), Role::Participant, Duration::from_secs(2))
}

fn node(id: u8) -> u64 {
    u64::from(id) << 32 | 1
}

/// Echoes frames, and tells who called.
struct Echo(mpsc::Sender<Caller>);

impl Handler for Echo {
    fn handle(&self, caller: Caller, mut link: Link) -> BoxFuture<'static, ()> {
        let heard = self.0.clone();
        Box::pin(async move {
            heard.send(caller).await.unwrap();
            while let Ok(Some(frame)) = link.reader.recv().await {
                if link.writer.send(&frame).await.is_err() {
                    return;
                }
            }
        })
    }
}

struct Server {
    peers: Peers,
    callers: mpsc::Receiver<Caller>,
}

/// A listening member that echoes on every purpose.
async fn server(hub: &Hub, id: u8, ids: &[u8]) -> Server {
    let peers = Peers::new(id, &ensemble(ids), hub.net(id), Handle::current());
    peers.become_member(CLUSTER, node(id));
    let (heard, callers) = mpsc::channel(64);
    for purpose in [Purpose::Boot, Purpose::Raft, Purpose::Snapshot] {
        peers.serve(purpose, Arc::new(Echo(heard.clone())));
    }
    peers.listen(None).await.unwrap();
    Server { peers, callers }
}

async fn echoes(link: &mut Link) {
    link.writer.send(b"word").await.unwrap();
    let heard = link.reader.recv().await.unwrap();
    assert_eq!(heard, Some(Bytes::from_static(b"word")));
}

/// The words with which server 2 refuses this caller.
async fn refusal(hub: &Hub, caller: &Peers, purpose: Purpose) -> String {
    assert!(hub.is_listening(&address("host", 2)));
    let error = caller.call(2, purpose).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_member_calls_another() {
    let hub = Hub::new();
    let one = server(&hub, 1, &[1, 2]).await;
    let mut two = server(&hub, 2, &[1, 2]).await;
    let mut link = one.peers.call(2, Purpose::Raft).await.unwrap();
    echoes(&mut link).await;
    let expected = Caller {
        server: 1,
        node: node(1),
    };
    assert_eq!(two.callers.recv().await, Some(expected));
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_in_words() {
    let hub = Hub::new();
    let _two = server(&hub, 2, &[1, 2]).await;
    let caller =
        |id: u8, ids: &[u8]| Peers::new(id, &ensemble(ids), hub.net(id), Handle::current());

    let other = caller(1, &[1, 2]);
    other.become_member([8; 16], node(1));
    let words = refusal(&hub, &other, Purpose::Raft).await;
    assert!(
        words.ends_with("server 2 belongs to another ensemble"),
        "{words}"
    );
    let words = refusal(&hub, &other, Purpose::Boot).await;
    assert!(
        words.ends_with("server 2 belongs to another ensemble"),
        "{words}"
    );

    let unlisted = caller(3, &[2, 3]);
    unlisted.become_member(CLUSTER, node(3));
    let words = refusal(&hub, &unlisted, Purpose::Raft).await;
    assert!(
        words.ends_with("server 3 is not in the configuration of server 2"),
        "{words}"
    );

    let disguised = caller(1, &[1, 2]);
    disguised.become_member(CLUSTER, node(3));
    let words = refusal(&hub, &disguised, Purpose::Raft).await;
    assert!(
        words.ends_with("server 1 shows the id of server 3"),
        "{words}"
    );

    let twin = caller(2, &[1, 2]);
    twin.become_member(CLUSTER, node(2));
    let words = refusal(&hub, &twin, Purpose::Boot).await;
    assert!(
        words.ends_with("there are two servers with number 2"),
        "{words}"
    );

    let mixed_up = ensemble(&[1, 2, 3]);
    let mut servers = mixed_up.servers.clone();
    servers[2].addresses = vec![address("host", 2)];
    let mixed_up = Ensemble {
        servers,
        ..mixed_up
    };
    let mixed_up = Peers::new(1, &mixed_up, hub.net(1), Handle::current());
    mixed_up.become_member(CLUSTER, node(1));
    let error = mixed_up.call(3, Purpose::Raft).await.err().unwrap();
    assert!(
        error.to_string().contains("this is server 2, not server 3"),
        "{error}"
    );

    let unserved = caller(1, &[1, 2]);
    unserved.become_member(CLUSTER, node(1));
    let words = refusal(&hub, &unserved, Purpose::Requests).await;
    assert!(
        words.ends_with("server 2 is starting: not ready for Requests"),
        "{words}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_no_member_may_only_boot() {
    let hub = Hub::new();
    let mut member = server(&hub, 2, &[1, 2]).await;
    let empty = Peers::new(1, &ensemble(&[1, 2]), hub.net(1), Handle::current());
    let (heard, mut called) = mpsc::channel(1);
    empty.serve(Purpose::Boot, Arc::new(Echo(heard)));
    empty.listen(None).await.unwrap();

    let error = empty.call(2, Purpose::Raft).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    echoes(&mut empty.call(2, Purpose::Boot).await.unwrap()).await;
    let caller = member.callers.recv().await.unwrap();
    assert_eq!(caller, Caller { server: 1, node: 0 });

    let error = member.peers.call(1, Purpose::Raft).await.err().unwrap();
    assert!(
        error
            .to_string()
            .ends_with("server 1 is no member of an ensemble yet"),
        "{error}"
    );
    echoes(&mut member.peers.call(1, Purpose::Boot).await.unwrap()).await;
    assert_eq!(called.recv().await.unwrap().node, node(2));
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_is_refused_and_silence_is_not() {
    let hub = Hub::new();
    let one = server(&hub, 1, &[1, 2, 3]).await;
    let two = server(&hub, 2, &[1, 2, 3]).await;
    two.peers.stop().await;
    let error = one.peers.call(2, Purpose::Raft).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let _three = server(&hub, 3, &[1, 2, 3]).await;
    hub.cut(1, 3);
    let error = one.peers.call(3, Purpose::Raft).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let error = one.peers.call(4, Purpose::Raft).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// Who is called may be stopped, and its links with it.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_all_links() {
    let hub = Hub::new();
    let one = server(&hub, 1, &[1, 2]).await;
    let two = server(&hub, 2, &[1, 2]).await;
    let mut link = one.peers.call(2, Purpose::Raft).await.unwrap();
    echoes(&mut link).await;
    two.peers.stop().await;
    assert!(matches!(link.reader.recv().await, Ok(None) | Err(_)));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_too_many_links_makes_room() {
    let hub = Hub::new();
    let one = server(&hub, 1, &[1, 2]).await;
    let _two = server(&hub, 2, &[1, 2]).await;
    let mut links = Vec::new();
    for _ in 0..17 {
        let mut link = one.peers.call(2, Purpose::Raft).await.unwrap();
        echoes(&mut link).await;
        links.push(link);
    }
    assert!(matches!(links[0].reader.recv().await, Ok(None) | Err(_)));
    for link in &mut links[1..] {
        echoes(link).await;
    }
}

/// A port scanner, a client at the wrong port, somebody who says nothing at all.
#[tokio::test(start_paused = true)]
async fn foreign_and_silent_callers_are_closed() {
    let hub = Hub::new();
    let _two = server(&hub, 2, &[1, 2]).await;
    for first in [&b"ruok"[..], b"GET / HTTP/1.1\r\n\r\n", b"", b"\xF5QUO"] {
        let mut stream = hub.net(1).dial(&address("host", 2)).await.unwrap();
        stream.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn tcp_finds_a_server_by_any_of_its_addresses() {
    let dead = free_port();
    let alive = free_port();
    let servers = vec![
        line(1, vec![address("127.0.0.1", dead)]),
        line(
            2,
            vec![address("127.0.0.1", dead), address("localhost", alive)],
        ),
    ];
    let list = Ensemble::new(servers, Role::Participant, Duration::from_secs(2));
    let tcp = || Arc::new(TcpNet) as SharedNet;
    let one = Peers::new(1, &list, tcp(), Handle::current());
    one.become_member(CLUSTER, node(1));
    let error = one.call(2, Purpose::Raft).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");

    let two = Peers::new(2, &list, tcp(), Handle::current());
    two.become_member(CLUSTER, node(2));
    let (heard, _callers) = mpsc::channel(1);
    two.serve(Purpose::Raft, Arc::new(Echo(heard)));
    // The first address is another listener's, as one that serves clients, too.
    let clients = format!("127.0.0.1:{dead}").parse().unwrap();
    two.listen(Some(clients)).await.unwrap();
    echoes(&mut one.call(2, Purpose::Raft).await.unwrap()).await;
}

#[tokio::test]
async fn an_adopted_connection_is_a_link_like_any_other() {
    let hub = Hub::new();
    let two = server(&hub, 2, &[1, 2]).await;
    let one = {
        let net = Adopting(Arc::new(two.peers));
        let peers = Peers::new(1, &ensemble(&[1, 2]), Arc::new(net), Handle::current());
        peers.become_member(CLUSTER, node(1));
        peers
    };
    echoes(&mut one.call(2, Purpose::Raft).await.unwrap()).await;
}

/// Reads the first bytes itself, as a listener for clients does, and hands the rest over.
struct Adopting(Arc<Peers>);

impl Net for Adopting {
    fn dial(&self, _to: &PeerAddress) -> BoxFuture<'static, io::Result<Stream>> {
        let peers = self.0.clone();
        let (mine, mut theirs) = tokio::io::duplex(1024);
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(async move {
            let mut first = BytesMut::zeroed(4);
            theirs.read_exact(&mut first).await.unwrap();
            assert_eq!(first[0], FIRST_BYTE);
            peers.adopt(Box::new(theirs), first);
        });
        Box::pin(async move { Ok(Box::new(mine) as Stream) })
    }

    fn listen(
        &self,
        _at: &PeerAddress,
        _everywhere: bool,
    ) -> BoxFuture<'static, io::Result<futures::stream::BoxStream<'static, io::Result<Stream>>>>
    {
        unreachable!("nobody listens here")
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bound.local_addr().unwrap().port()
}
