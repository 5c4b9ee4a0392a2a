//! An ensemble in this process: elected, served by every server, and again after a leader's death.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its world should fail"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_server::testing::TestCluster;
use quorate_server::testing::wire::proto::request::{AuthPacket, PathWatch, Request, SetData};
use quorate_server::testing::wire::proto::{OpCode, Reply, Version, Xid};
use quorate_server::testing::wire::{ConnectOptions, Frame, Handshake, Response, WireClient};

#[tokio::test]
async fn every_server_takes_writes_and_shows_those_of_the_others() {
    let cluster = TestCluster::builder().observers(1).start().await;
    for server in cluster.servers() {
        let mut client = WireClient::open(cluster.addr(server)).await;
        client.create(&format!("/{server}"), b"").await.unwrap();
    }
    for server in cluster.servers() {
        let mut client = WireClient::open(cluster.addr(server)).await;
        client.sync("/").await.unwrap();
        for other in cluster.servers() {
            client.exists(&format!("/{other}"), false).await.unwrap();
        }
    }
    cluster.converged().await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_what_it_acknowledged_is_there() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = WireClient::open(cluster.addr(leader)).await;
    client.create("/kept", b"yes").await.unwrap();
    cluster.kill(leader).await;
    let next = cluster.leader().await;
    let mut client = WireClient::open(cluster.addr(next)).await;
    client.create("/next", b"").await.unwrap();
    let (data, _) = client.get_data("/kept", false).await.unwrap();
    assert_eq!(data.as_deref(), Some(&b"yes"[..]));
    cluster.restart(leader).await;
    cluster.serving(&cluster.servers()).await;
    cluster.converged().await;
}

/// A jute string or buffer.
fn text(text: &str) -> Vec<u8> {
    let len = i32::try_from(text.len()).unwrap();
    [&len.to_be_bytes(), text.as_bytes()].concat()
}

/// Bodies that no server can read to their end, with their opcodes.
fn malformed_writes() -> Vec<(OpCode, Vec<u8>)> {
    const NULL: [u8; 4] = [0xff; 4];
    let create = [&text("/malformed")[..], &text("data")].concat();
    let null_acl = [&create[..], &NULL, &0_i32.to_be_bytes()].concat();
    let header = |op: OpCode, done: u8| [&op.code().to_be_bytes()[..], &[done], &NULL].concat();
    let end = [&(-1_i32).to_be_bytes()[..], &[1], &NULL].concat();
    let truncated = create[..create.len() - 2].to_vec();
    vec![
        (OpCode::Create, truncated.clone()),
        (OpCode::Create2, truncated.clone()),
        (OpCode::SetData, text("/malformed")),
        (OpCode::Delete, text("/malformed")),
        (
            OpCode::Multi,
            [header(OpCode::Create, 0), truncated].concat(),
        ),
        (
            OpCode::Multi,
            [
                &header(OpCode::Create, 0)[..],
                &null_acl[..create.len() + 2],
            ]
            .concat(),
        ),
        (
            OpCode::Multi,
            [header(OpCode::Create, 0), null_acl, end].concat(),
        ),
    ]
}

#[tokio::test]
async fn a_malformed_write_at_any_server_is_refused_and_the_ensemble_goes_on() {
    let cluster = TestCluster::builder().observers(1).start().await;
    let leader = cluster.leader().await;
    for server in cluster.servers() {
        let mut client = WireClient::open(cluster.addr(server)).await;
        for (at, (op, body)) in malformed_writes().into_iter().enumerate() {
            let xid = Xid(i32::try_from(at).unwrap() + 1_000);
            client.send(xid, op.code(), &body).await;
            let response = client.reply().await;
            assert_eq!(response.header.xid, xid);
            assert_eq!(response.header.err, -5, "server {server}, {op:?} {at}");
            assert!(client.exists("/malformed", false).await.is_err());
        }
        // The same session goes on, through the log.
        client.create(&format!("/{server}"), b"").await.unwrap();
    }
    cluster.converged().await;
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_before_anybody_came_is_replaced() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    assert_ne!(cluster.leader().await, leader);
}

/// Sends a request and waits for its answer; `None` if the server closed the connection instead.
async fn ask(client: &mut WireClient, request: &Request<'_>) -> Option<Response> {
    client.submit(request).await;
    loop {
        match client.next().await? {
            Frame::Reply(response) => return Some(response),
            Frame::Event(_) => {}
        }
    }
}

/// A session, unless the server closes instead of giving one.
async fn try_open(addr: SocketAddr) -> Option<WireClient> {
    let (client, handshake) = WireClient::connect(addr, &ConnectOptions::default()).await;
    matches!(handshake, Handshake::Accepted { .. }).then_some(client)
}

fn set_data<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData(SetData {
        path: path.into(),
        data: Some(data),
        version: Version(-1),
    })
}

/// It does not die: nobody's sockets close, nobody's dials are refused. The clients of a follower
/// go on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_clients_of_a_follower_write_again() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.servers().into_iter().find(|&id| id != leader);
    let addr = cluster.addr(follower.unwrap());
    let mut client = WireClient::open(addr).await;
    client.create("/a", b"before").await.unwrap();
    cluster.pause(leader);
    let written = async {
        // A connection may end in between, as it may for any client.
        while ask(&mut client, &set_data("/a", b"after")).await.is_none() {
            client = loop {
                if let Some(client) = try_open(addr).await {
                    break client;
                }
            };
        }
    };
    let written = tokio::time::timeout(Duration::from_secs(30), written).await;
    written.expect("a write within a fraction of this time");
    assert_ne!(cluster.leader().await, leader);
    cluster.resume(leader);
    cluster.serving(&cluster.servers()).await;
    cluster.converged().await;
}

fn get_data(path: &str) -> Request<'_> {
    Request::GetData(PathWatch {
        path: path.into(),
        watch: false,
    })
}

fn data(response: &Response) -> Vec<u8> {
    match response.result(OpCode::GetData) {
        Ok(Reply::DataStat(Some(data), _)) => data.to_vec(),
        other => panic!("no data but {other:?}"),
    }
}

/// What `/a` holds as a server shows it; `None` if it closes the connection instead.
async fn shown(client: &mut WireClient) -> Option<Vec<u8>> {
    let response = ask(client, &get_data("/a")).await?;
    Some(data(&response))
}

/// Has all reads of this session proven to be current.
async fn wish_linearizable(client: &mut WireClient) {
    let packet = Request::Auth(AuthPacket {
        kind: 0,
        scheme: Some("quorate".into()),
        auth: Some(b"read=linearizable"),
    });
    let response = ask(client, &packet).await.expect("the wish is known");
    assert_eq!(response.header.err, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_that_is_cut_off_answers_no_linearizable_read() {
    let cluster = TestCluster::start(3).await;
    let old = cluster.leader().await;
    let mut plain = WireClient::open(cluster.addr(old)).await;
    plain.create("/a", b"old").await.unwrap();
    let mut linearizable = WireClient::open(cluster.addr(old)).await;
    wish_linearizable(&mut linearizable).await;
    assert_eq!(shown(&mut linearizable).await.unwrap(), b"old");

    let others: Vec<u8> = cluster
        .servers()
        .into_iter()
        .filter(|&id| id != old)
        .collect();
    cluster.partition(&[&others]);
    let new = cluster.leader_among(&others).await;
    let mut writer = WireClient::open(cluster.addr(new)).await;
    writer.set_data("/a", b"new", -1).await.unwrap();
    if let Some(data) = shown(&mut plain).await {
        assert_eq!(data, b"old", "nobody has told it");
    }
    assert_eq!(shown(&mut linearizable).await, None, "it cannot know");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lags_shows_the_newest_to_linearizable_reads_in_their_order() {
    let cluster = TestCluster::builder()
        .config(|_, config| config.ensemble.as_mut().unwrap().linearizable_reads = true)
        .start()
        .await;
    let leader = cluster.leader().await;
    let lagging = cluster.servers().into_iter().find(|&id| id != leader);
    let lagging = lagging.unwrap();
    let mut writer = WireClient::open(cluster.addr(leader)).await;
    writer.create("/a", b"0").await.unwrap();
    cluster.slow_link(leader, lagging, Duration::from_millis(60));
    let mut reader = WireClient::open(cluster.addr(lagging)).await;
    for turn in 1..=10_u8 {
        writer.set_data("/a", &[turn], -1).await.unwrap();
        // Sent together with requests of other kinds, they are answered in their turn.
        let read = get_data("/a");
        reader.submit(&read).await;
        reader.submit(&set_data("/a", &[turn + 100])).await;
        reader.submit(&read).await;
        let before = data(&reader.reply().await);
        assert_eq!(reader.reply().await.header.err, 0);
        let after = data(&reader.reply().await);
        assert_eq!((before, after), (vec![turn], vec![turn + 100]));
    }
}

#[tokio::test]
async fn every_server_lists_the_members_as_its_configuration() {
    let cluster = TestCluster::builder().observers(1).start().await;
    for server in cluster.servers() {
        let mut client = WireClient::open(cluster.addr(server)).await;
        client.sync("/").await.unwrap();
        let (data, stat) = client.get_data("/zookeeper/config", false).await.unwrap();
        let text = String::from_utf8(data.unwrap()).unwrap();
        let expected = "server.1=server-1:2888:3888:participant\n\
                        server.2=server-2:2888:3888:participant\n\
                        server.3=server-3:2888:3888:participant\n\
                        server.4=server-4:2888:3888:observer\nversion=0";
        assert_eq!(text, expected, "server {server}");
        assert_eq!(usize::try_from(stat.data_length), Ok(text.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_serves_nobody_sends_its_clients_to_the_others() {
    let mut cluster = TestCluster::builder()
        .config(|_, config| config.ensemble.as_mut().unwrap().leader_serves = false)
        .start()
        .await;
    let leader = cluster.leader().await;
    assert!(try_open(cluster.addr(leader)).await.is_none());
    let followers: Vec<u8> = cluster
        .servers()
        .into_iter()
        .filter(|&id| id != leader)
        .collect();
    let mut clients = BTreeMap::new();
    for &follower in &followers {
        clients.insert(follower, WireClient::open(cluster.addr(follower)).await);
    }
    cluster.kill(leader).await;
    let next = cluster.leader().await;
    // It served this one as a follower, and has another duty now.
    clients.remove(&next).unwrap().closed().await;
    assert!(try_open(cluster.addr(next)).await.is_none());
}
