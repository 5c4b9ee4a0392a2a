//! Sizes (R26) and throttles.

use std::time::Duration;

use bytes::BytesMut;
use quorate_proto::multi::MultiOp;
use quorate_proto::{Acl, CreateMode, ErrorCode, Id, Perms, Request, Xid};
use quorate_server::config::{ConnectionThrottle, FourLetterWords};
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::{Handshake, WireClient};

use crate::support::{get, open_create, read_op, reply_to, rest, set};

#[tokio::test]
async fn a_large_request_passes_and_is_found_again_under_a_smaller_limit() {
    let mut server = TestServer::builder()
        .config(|config| config.jute_max_buffer = 5 << 20)
        .start()
        .await;
    let mut client = WireClient::open(server.addr()).await;
    let large = vec![7; 4 << 20];
    client.submit(&set("/zookeeper", b"small")).await;
    let create = Request::Create(open_create("/large", &large, CreateMode::Persistent));
    let xid = client.submit(&create).await;
    client.submit(&set("/large", b"small")).await;
    client.submit(&set("/large", &large)).await;
    client.reply().await;
    assert_eq!(reply_to(&mut client, xid).await.header.err, 0);
    for _ in 0..2 {
        assert_eq!(client.reply().await.header.err, 0);
    }
    server.change_config(|config| config.jute_max_buffer = 0xf_ffff);
    server.kill().await;
    let mut client = WireClient::open(server.addr()).await;
    let (data, _) = client.get_data("/large", false).await.unwrap();
    assert!(data.unwrap() == large, "other data came back");
}

#[tokio::test]
async fn a_frame_may_be_as_long_as_the_limit_and_no_longer() {
    let server = TestServer::start().await;
    let limit = 0xf_ffff;
    let payload = |data: &[u8]| {
        let create = Request::Create(open_create("/a", data, CreateMode::PersistentSequential));
        let mut out = BytesMut::new();
        create.write_frame(&mut out, Xid(1)).unwrap();
        out
    };
    let around = payload(b"").len() - 4;
    let data = vec![7; limit - around + 1];
    let mut client = WireClient::open(server.addr()).await;
    client.send_raw(&payload(&data[1..])).await;
    assert_eq!(client.reply().await.header.err, 0);
    client.send_raw(&payload(&data)).await;
    assert_eq!(rest(&mut client).await, []);
}

#[tokio::test]
async fn connections_of_one_address_are_counted() {
    let server = TestServer::builder()
        .config(|config| config.max_client_cnxns = 2)
        .start()
        .await;
    let first = WireClient::open(server.addr()).await;
    let mut second = WireClient::open(server.addr()).await;
    let mut third = WireClient::tcp(server.addr()).await;
    third.closed().await;
    second.close_session().await.unwrap();
    rest(&mut second).await;
    drop(first);
}

#[tokio::test]
async fn the_connection_throttle_closes_without_a_word() {
    let server = TestServer::builder()
        .config(|config| {
            let mut throttle = ConnectionThrottle::default();
            throttle.tokens = 2;
            throttle.fill_time = Duration::from_secs(1000);
            throttle.fill_count = 1;
            config.connection_throttle = Some(throttle);
        })
        .start()
        .await;
    let mut ends = Vec::new();
    for _ in 0..3 {
        let options = Default::default();
        ends.push(WireClient::connect(server.addr(), &options).await.1);
    }
    assert!(matches!(
        ends[..],
        [
            Handshake::Accepted { .. },
            Handshake::Accepted { .. },
            Handshake::ClosedWithoutReply
        ]
    ));
}

#[tokio::test]
async fn waiting_large_requests_share_a_budget() {
    let server = TestServer::builder()
        .config(|config| {
            config.large_request_threshold = Some(1000);
            config.large_request_max_bytes = 5000;
            config.four_letter_words = FourLetterWords::All;
        })
        .start()
        .await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/a", b"").await.unwrap();
    let large = vec![7; 3000];
    // One after the other they pass.
    for _ in 0..3 {
        client.set_data("/a", &large, -1).await.unwrap();
    }
    server.stall_disk();
    client.submit(&set("/a", b"")).await;
    client.submit(&get("/a", false)).await;
    client.submit(&set("/a", &large)).await;
    client.submit(&set("/a", &large)).await;
    assert_eq!(
        rest(&mut client).await,
        [],
        "over the budget the connection goes"
    );
    server.resume_disk();
    let mut other = WireClient::open(server.addr()).await;
    other.set_data("/a", &large, -1).await.unwrap();
    let mntr = WireClient::tcp(server.addr()).await.word("mntr").await;
    assert!(mntr.contains("zk_large_requests_rejected\t1\n"), "{mntr}");
}

#[tokio::test]
async fn a_connection_has_so_many_identities_and_no_more() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    let credentials = |n: usize| format!("{n}{}:secret", "u".repeat(30_000));
    for n in 0..2 {
        let known = client.auth("digest", credentials(n).as_bytes()).await;
        assert_eq!(known, Ok(()));
    }
    let one_more = client.auth("digest", credentials(2).as_bytes()).await;
    assert_eq!(one_more, Err(ErrorCode::AuthFailed));
    assert_eq!(rest(&mut client).await, []);
}

/// Each `auth` entry stands for all identities of its caller. A multi of 40 KB was more than an
/// entry of the log can hold, and its end.
#[tokio::test]
async fn a_multi_that_would_become_too_large_is_refused_and_the_server_goes_on() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    let credentials = format!("{}:secret", "u".repeat(60_000));
    client.auth("digest", credentials.as_bytes()).await.unwrap();
    let auth = [Acl {
        perms: Perms::ALL,
        id: Id::new("auth", ""),
    }];
    let paths: Vec<_> = (0..1000).map(|n| format!("/n{n}")).collect();
    let ops = paths.iter().map(|path| {
        let mut create = open_create(path, b"", CreateMode::Persistent);
        create.acl = Some(auth.iter().map(Into::into).collect());
        MultiOp::Create(create)
    });
    let outcomes = client.multi(ops.collect()).await.unwrap();
    assert!(
        outcomes
            .iter()
            .any(|outcome| format!("{outcome:?}").contains("InvalidAcl")),
        "{:?}",
        outcomes.last()
    );
    client.create("/later", b"").await.unwrap();
}

#[tokio::test]
async fn a_multi_read_of_too_much_is_refused_as_a_whole() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/large", &vec![7; 900_000]).await.unwrap();
    let reads = |count| (0..count).map(|_| read_op("/large")).collect();
    assert_eq!(client.multi_read(reads(70)).await.unwrap().len(), 70);
    let refused = client.multi_read(reads(80)).await;
    assert_eq!(refused.unwrap_err(), ErrorCode::MarshallingError);
}
