//! A disk that is full or fails: what was in flight has an unknown end, what comes later is
//! refused, reads go on, and nothing acknowledged is lost.

use quorate_proto::ErrorCode;
use quorate_server::config::FourLetterWords;
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::{ConnectOptions, Handshake, WireClient};

use crate::support::{create, rest};

async fn a_disk_ends(end: impl Fn(&TestServer)) {
    let mut server = TestServer::builder()
        .config(|config| config.four_letter_words = FourLetterWords::All)
        .start()
        .await;
    let mut bystander = WireClient::open(server.addr()).await;
    let mut writer = WireClient::open(server.addr()).await;
    bystander.create("/a", b"kept").await.unwrap();
    bystander.get_data("/a", true).await.unwrap();
    end(&server);
    // More than a log file has room for, each write acknowledged or lost with its connection.
    let large = vec![7; 200_000];
    let mut acknowledged = 0;
    loop {
        let path = format!("/n{acknowledged}");
        let create = quorate_proto::Request::Create(crate::support::open_create(
            &path,
            &large,
            quorate_proto::CreateMode::Persistent,
        ));
        writer.submit(&create).await;
        match &rest_or_reply(&mut writer).await {
            Some(0) => acknowledged += 1,
            Some(err) => panic!("{path} was refused with {err}: its end was not known"),
            None => break,
        }
        assert!(acknowledged < 1000, "the disk never ended");
    }
    for _ in 0..2 {
        let refused = bystander.create("/later", b"").await;
        assert_eq!(refused, Err(ErrorCode::NotReadOnly));
        let (data, _) = bystander.get_data("/a", false).await.unwrap();
        assert_eq!(data.unwrap(), b"kept");
        bystander.ping().await.unwrap();
    }
    let options = ConnectOptions::default();
    let (_, handshake) = WireClient::connect(server.addr(), &options).await;
    assert_eq!(handshake, Handshake::ClosedWithoutReply);
    // Writes are refused from the first moment; who watches over the log says why a little later.
    let mut mntr = String::new();
    for _ in 0..1000 {
        mntr = WireClient::tcp(server.addr()).await.word("mntr").await;
        if mntr.contains("quorate_disk_failed\t1\n") {
            break;
        }
    }
    assert!(mntr.contains("quorate_disk_failure_cause\t"), "{mntr}");

    server.kill().await;
    let again = bystander.reattach();
    let mut client = WireClient::open_with(server.addr(), &again).await;
    for number in 0..acknowledged {
        let (data, _) = client
            .get_data(&format!("/n{number}"), false)
            .await
            .unwrap();
        assert!(
            data.unwrap() == large,
            "acknowledged write {number} is lost"
        );
    }
    assert_eq!(client.exists("/later", false).await, Err(ErrorCode::NoNode));
    client.create("/later", b"").await.unwrap();
}

/// The error of the next reply; `None` if the connection ends instead.
async fn rest_or_reply(client: &mut WireClient) -> Option<i32> {
    match client.next().await {
        Some(quorate_server::testing::wire::Frame::Reply(reply)) => Some(reply.header.err),
        Some(other) => panic!("{other:?} instead of a reply"),
        None => None,
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_acknowledged_and_reads_go_on() {
    a_disk_ends(TestServer::fill_disk).await;
}

#[tokio::test]
async fn a_failing_disk_loses_nothing_acknowledged_and_reads_go_on() {
    a_disk_ends(TestServer::fail_disk).await;
}

#[tokio::test]
async fn every_connection_with_a_write_in_flight_closes_when_the_disk_fails() {
    let server = TestServer::start().await;
    let mut writers = Vec::new();
    for _ in 0..5 {
        writers.push(WireClient::open(server.addr()).await);
    }
    let mut idle = WireClient::open(server.addr()).await;
    server.stall_disk();
    let mode = quorate_proto::CreateMode::Persistent;
    for (n, writer) in writers.iter_mut().enumerate() {
        writer.submit(&create(&format!("/n{n}"), mode)).await;
        writer.submit(&quorate_proto::Request::Ping).await;
        crate::support::reply_to(writer, quorate_proto::Xid::PING).await;
    }
    server.fail_disk();
    server.resume_disk();
    for writer in &mut writers {
        assert_eq!(rest(writer).await, []);
    }
    assert!(idle.exists("/", false).await.is_ok());
    assert_eq!(idle.create("/a", b"").await, Err(ErrorCode::NotReadOnly));
}
