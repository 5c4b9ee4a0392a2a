//! Whatever comes over the wire, the server stays up, its memory bounded, and others are served.
//!
//! A bystander reads and writes beside every attack and must get right answers; waits are bounded
//! by the client's patience, and nothing here measures a latency.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its world should fail"
)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::proto::request::{PathWatch, SetData};
use quorate_server::testing::wire::proto::{
    AddWatchMode, OpCode, Reply, Request, SessionId, Version, Xid,
};
use quorate_server::testing::wire::{ConnectOptions, Frame, Handshake, WireClient};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{interval, timeout};

/// The largest frame by default.
const FRAME_MOST: usize = 1_048_575;

/// Far above what this process needs with all of its tests at once, and far below what it would
/// need if it believed a length or kept what nobody reads.
const RESIDENT_MOST: usize = 400 << 20;

/// Bytes of this process, servers and clients together, that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn assert_memory_is_bounded() {
    let resident = resident();
    assert!(resident < RESIDENT_MOST, "{resident} bytes are resident");
}

/// Another client of the same server.
struct Bystander {
    client: WireClient,
    path: String,
    writes: i32,
}

impl Bystander {
    async fn come(addr: SocketAddr) -> Bystander {
        let mut client = WireClient::open(addr).await;
        let path = format!("/bystander-{}", client.session());
        client.create(&path, b"0").await.unwrap();
        Bystander {
            client,
            path,
            writes: 0,
        }
    }

    /// Writes and reads, and gets what it should.
    async fn works(&mut self) {
        self.writes += 1;
        let text = self.writes.to_string();
        let set = self
            .client
            .set_data(&self.path, text.as_bytes(), self.writes - 1);
        let stat = set.await.unwrap();
        assert_eq!(stat.version, self.writes);
        let found = self.client.get_data(&self.path, false).await.unwrap();
        assert_eq!(found, (Some(text.into_bytes()), stat));
        assert_memory_is_bounded();
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes(), payload].concat()
}

fn handshake() -> Vec<u8> {
    let mut payload = [0; 45].to_vec();
    // The timeout, and the length of the password.
    payload[12..16].copy_from_slice(&10_000_i32.to_be_bytes());
    payload[24..28].copy_from_slice(&16_i32.to_be_bytes());
    frame(&payload)
}

/// A jute string or buffer.
fn text(text: &str) -> Vec<u8> {
    frame(text.as_bytes())
}

const NULL: [u8; 4] = [0xff; 4];

/// Lengths that end a connection at any stage.
const BAD_LENGTHS: [i32; 6] = [-1, i32::MIN, -2, 0, 0x10_0000, i32::MAX];

#[tokio::test]
async fn a_length_that_cannot_be_closes_the_connection_without_a_byte() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    for length in BAD_LENGTHS {
        // With and without something behind it.
        for behind in [0, 100] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.resize(4 + behind, 7);
            let mut fresh = WireClient::tcp(server.addr()).await;
            fresh.send_raw(&bytes).await;
            fresh.closed().await;
            let mut open = WireClient::open(server.addr()).await;
            open.send_raw(&bytes).await;
            open.closed().await;
        }
        bystander.works().await;
    }
    for length in 1..8 {
        let mut open = WireClient::open(server.addr()).await;
        open.send_raw(&frame(&vec![0; length])).await;
        open.closed().await;
    }
    bystander.works().await;
}

#[tokio::test]
async fn a_handshake_that_is_too_short_closes_the_connection_without_a_byte() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let whole = handshake();
    for length in 0..28 {
        let mut fresh = WireClient::tcp(server.addr()).await;
        fresh.send_raw(&frame(&whole[4..4 + length])).await;
        fresh.closed().await;
    }
    bystander.works().await;
}

#[tokio::test]
async fn the_largest_frame_is_served_and_one_byte_more_is_not() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/large", b"").await.unwrap();
    // xid, opcode, path, the data's length, version.
    let around = 8 + text("/large").len() + 4 + 4;
    for (len, fits) in [(FRAME_MOST, true), (FRAME_MOST + 1, false)] {
        let data = vec![1; len - around];
        let set = Request::SetData(SetData {
            path: "/large".into(),
            data: Some(&data),
            version: Version(-1),
        });
        client.submit(&set).await;
        if fits {
            assert_eq!(client.reply().await.header.err, 0);
        } else {
            client.closed().await;
        }
    }
    bystander.works().await;
}

/// Opcode, body, and what is wrong with it.
fn malformed() -> Vec<(i32, Vec<u8>, &'static str)> {
    let mut found = Vec::new();
    let with_body = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 103, 104, 105, 106,
    ];
    for op in with_body {
        found.push((op, Vec::new(), "no body"));
        found.push((op, vec![0, 0], "half a length"));
        found.push((
            op,
            [&100_i32.to_be_bytes()[..], b"/a"].concat(),
            "truncated",
        ));
        found.push((op, i32::MAX.to_be_bytes().to_vec(), "a 2 GB string"));
        found.push((op, i32::MIN.to_be_bytes().to_vec(), "a negative string"));
    }
    let path_and = |rest: &[u8]| [&text("/"), rest].concat();
    found.push((106, path_and(&7_i32.to_be_bytes()), "no watch mode"));
    found.push((17, path_and(&9_i32.to_be_bytes()), "no watcher type"));
    found.push((18, path_and(&9_i32.to_be_bytes()), "no watcher type"));
    found.push((3, [&NULL[..], &[0]].concat(), "a null path"));
    found.push((4, [&NULL[..], &[0]].concat(), "a null path"));
    found.push((8, [&NULL[..], &[0]].concat(), "a null path"));
    found.push((12, [&NULL[..], &[0]].concat(), "a null path"));
    found.push((
        -10,
        10_000_i32.to_be_bytes().to_vec(),
        "createSession of a client",
    ));
    // A multi: type, done, err, then the body; the terminator is missing.
    let header = |kind: i32| [&kind.to_be_bytes()[..], &[0], &NULL].concat();
    found.push((14, header(13), "a multi without an end"));
    found.push((14, header(11), "a ping in a multi"));
    found.push((14, header(14), "a multi in a multi"));
    found.push((22, header(5), "a write in a multiRead"));
    // A vector of a billion strings.
    let many = [&0_i64.to_be_bytes()[..], &1_000_000_000_i32.to_be_bytes()].concat();
    found.push((101, many.clone(), "a billion watches"));
    found.push((105, many, "a billion watches"));
    found
}

#[tokio::test]
async fn a_malformed_body_is_a_marshalling_error_and_the_connection_goes_on() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let mut client = WireClient::open(server.addr()).await;
    for (at, (op, body, what)) in malformed().into_iter().enumerate() {
        if op == 9 {
            // A sync without a readable path: judged below, with its own rules.
            continue;
        }
        let xid = Xid(i32::try_from(at).unwrap() + 1_000_000);
        client.send(xid, op, &body).await;
        client.submit(&Request::Ping).await;
        let Some(Frame::Reply(response)) = client.next().await else {
            panic!("opcode {op}, {what}: closed");
        };
        assert_eq!(response.header.err, -5, "opcode {op}, {what}: {response:?}");
        assert!(response.body.is_empty(), "opcode {op}, {what}");
        assert_eq!(client.reply().await.header.xid, Xid::PING, "{op}, {what}");
        if at.is_multiple_of(20) {
            bystander.works().await;
        }
    }
    bystander.works().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_read_as_far_as_it_goes() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    let body = [&text("/")[..], &[0], b"and what is this?"].concat();
    client.send(Xid(1), OpCode::Exists.code(), &body).await;
    assert!(client.reply().await.result(OpCode::Exists).is_ok());
}

#[tokio::test]
async fn an_unknown_opcode_is_told_and_ends_the_connection() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    for op in [10, 23, 99, 1000, -1, 0, 13, i32::MAX, i32::MIN] {
        let mut client = WireClient::open(server.addr()).await;
        let mut out = BytesMut::new();
        out.extend_from_slice(&frame(
            &[&5_i32.to_be_bytes()[..], &op.to_be_bytes()].concat(),
        ));
        Request::WhoAmI.write_frame(&mut out, Xid(6)).unwrap();
        client.send_raw(&out).await;
        let Some(Frame::Reply(response)) = client.next().await else {
            panic!("opcode {op}: no reply");
        };
        assert_eq!(
            (response.header.xid, response.header.err),
            (Xid(5), -6),
            "{op}"
        );
        assert_eq!(response.header.zxid.0, -1, "{op}");
        assert!(response.body.is_empty());
        client.closed().await;
        bystander.works().await;
    }
}

#[tokio::test]
async fn sasl_without_a_configuration_answers_null_and_closes_on_null() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    assert_eq!(client.sasl(b"").await, Ok(None));
    client.ping().await.unwrap();
    client.send(Xid(9), OpCode::Sasl.code(), &NULL).await;
    client.closed().await;
}

#[tokio::test]
async fn garbage_at_every_stage_harms_nobody_else() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut garbage = vec![0; rng.random_range(1..2_000)];
        rng.fill_bytes(&mut garbage);
        let mut client = match seed % 4 {
            0 => WireClient::tcp(server.addr()).await,
            _ => WireClient::open(server.addr()).await,
        };
        match seed % 4 {
            // As a handshake, framed and not.
            0 if rng.random_bool(0.5) => client.send_raw(&frame(&garbage)).await,
            0 | 1 => client.send_raw(&garbage).await,
            // As a request.
            2 => client.send_raw(&frame(&garbage)).await,
            // As the body of every request there is, and then cut off.
            _ => {
                for op in OpCode::ALL {
                    let len = rng.random_range(0..garbage.len().min(64));
                    client.send(Xid(7), op.code(), &garbage[..len]).await;
                }
                client.send_raw(&frame(&garbage)[..5]).await;
            }
        }
        if rng.random_bool(0.5) {
            // Some read what comes, some are gone at once.
            let _ = timeout(Duration::from_millis(5), client.next_frame()).await;
        }
        drop(client);
        if seed % 10 == 0 {
            bystander.works().await;
        }
    }
    bystander.works().await;
}

/// Half a handshake, then silence; or a byte now and then: the time for a handshake is bounded
/// as a whole, so that bytes do not extend it.
#[tokio::test]
async fn a_handshake_that_never_ends_is_closed() {
    let configured = TestServer::builder().config(|config| {
        config.sessionless_timeout = Duration::from_millis(300);
    });
    let server = configured.start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let whole = handshake();
    for length in [0, 1, 3, 4, 20, whole.len() - 1] {
        let mut half = WireClient::tcp(server.addr()).await;
        half.send_raw(&whole[..length]).await;
        half.closed().await;
    }
    bystander.works().await;
    let mut slow = WireClient::tcp(server.addr()).await;
    let mut pace = interval(Duration::from_millis(40));
    let mut sent = 0;
    for byte in whole {
        pace.tick().await;
        if slow.socket().write_all(&[byte]).await.is_err() {
            break;
        }
        sent += 1;
        let mut peeked = [0];
        if let Ok(Ok(0)) = timeout(Duration::from_millis(1), slow.socket().peek(&mut peeked)).await
        {
            break;
        }
    }
    assert!(sent < 45, "all of it was taken, a byte at a time");
    bystander.works().await;
}

/// After the handshake it is the session that ends: bytes of a request that never comes keep
/// nothing alive.
#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_its_session() {
    let configured = TestServer::builder().config(|config| {
        config.tick_time = Duration::from_millis(100);
        config.min_session_timeout = Duration::from_millis(200);
        config.max_session_timeout = Duration::from_secs(60);
    });
    let server = configured.start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let options = ConnectOptions::with_timeout_ms(300);
    let mut client = WireClient::open_with(server.addr(), &options).await;
    let options = client.reattach();
    let mut request = BytesMut::new();
    let path = "/long".into();
    let exists = Request::Exists(PathWatch { path, watch: false });
    exists.write_frame(&mut request, Xid(1)).unwrap();
    client.send_raw(&request[..request.len() - 1]).await;
    client.closed().await;
    let (_, handshake) = WireClient::connect(server.addr(), &options).await;
    assert!(
        matches!(handshake, Handshake::Refused { .. }),
        "{handshake:?}"
    );
    bystander.works().await;
}

/// Connections that the server knows of, that of the question left out.
async fn connections(addr: SocketAddr) -> usize {
    let answer = WireClient::tcp(addr).await.word("srvr").await;
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("Connections: "));
    line.unwrap().parse::<usize>().unwrap() - 1
}

/// Its events pile up to a bound; then it is closed, and finds so when it reads at last.
#[tokio::test]
async fn a_client_that_never_reads_its_events_is_closed() {
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let mut writer = WireClient::open(server.addr()).await;
    let root = format!("/{}", "long".repeat(100));
    let leaf = format!("{root}/{}", "leaf".repeat(1_000));
    writer.create(&root, b"").await.unwrap();
    writer.create(&leaf, b"").await.unwrap();
    let mut deaf = WireClient::open(server.addr()).await;
    deaf.add_watch(&root, AddWatchMode::PersistentRecursive)
        .await
        .unwrap();
    assert_eq!(connections(server.addr()).await, 3);
    let set = Request::SetData(SetData {
        path: leaf.as_str().into(),
        data: Some(b"x"),
        version: Version(-1),
    });
    let (mut rounds, mut written) = (0, 0);
    while connections(server.addr()).await == 3 {
        let mut out = BytesMut::new();
        for _ in 0..200 {
            set.write_frame(&mut out, Xid(1)).unwrap();
        }
        writer.send_raw(&out).await;
        for _ in 0..200 {
            assert_eq!(writer.reply().await.header.err, 0);
        }
        written += 200;
        bystander.works().await;
        rounds += 1;
        assert!(
            rounds < 200,
            "{written} events of 4 KB, and it is still there"
        );
    }
    let mut events = 0;
    while let Some(frame) = deaf.next().await {
        assert!(matches!(frame, Frame::Event(_)));
        events += 1;
    }
    assert!(events > 0 && events < written, "{events} of {written}");
    bystander.works().await;
}

/// Its requests are not read until it takes what it was answered; it loses nothing.
#[tokio::test]
async fn a_client_that_never_reads_its_replies_waits_for_itself_alone() {
    const REQUESTS: usize = 5_000;
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let data = vec![5; 900_000];
    let mut greedy = WireClient::open(server.addr()).await;
    greedy.create("/large", &data).await.unwrap();
    let mut out = BytesMut::new();
    for xid in 0..REQUESTS {
        let path = "/large".into();
        let read = Request::GetData(PathWatch { path, watch: false });
        read.write_frame(&mut out, Xid(i32::try_from(xid).unwrap()))
            .unwrap();
    }
    // 4.5 GB of replies, if it were answered.
    let sending = timeout(Duration::from_secs(2), greedy.socket().write_all(&out));
    let (_may_be_stuck, ()) = tokio::join!(sending, async {
        for _ in 0..200 {
            bystander.works().await;
        }
    });
    for xid in 0..20 {
        let response = greedy.reply().await;
        assert_eq!(response.header.xid, Xid(xid));
        match response.result(OpCode::GetData) {
            Ok(Reply::DataStat(Some(found), _)) => assert_eq!(found, data),
            other => panic!("{other:?}"),
        }
    }
    bystander.works().await;
}

#[tokio::test]
async fn ten_thousand_connections_opened_and_dropped_leave_nothing_behind() {
    const AT_ONCE: usize = 100;
    let server = TestServer::start().await;
    let mut bystander = Bystander::come(server.addr()).await;
    let whole = handshake();
    for round in 0..10_000 / AT_ONCE {
        let mut open = Vec::new();
        for n in 0..AT_ONCE {
            let mut client = WireClient::tcp(server.addr()).await;
            match n % 10 {
                0 => client.send_raw(&whole[..n % whole.len()]).await,
                // Gone before the answer.
                1 => client.send_raw(&whole).await,
                _ => {}
            }
            open.push(client);
        }
        drop(open);
        if round % 10 == 0 {
            bystander.works().await;
        }
    }
    let mut patience = interval(Duration::from_millis(20));
    for _ in 0..500 {
        if connections(server.addr()).await == 1 {
            bystander.works().await;
            assert_ne!(bystander.client.session(), SessionId::NONE);
            return;
        }
        patience.tick().await;
    }
    panic!("{} connections are left", connections(server.addr()).await);
}
