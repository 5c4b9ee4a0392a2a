//! The client against a server that says what the test wrote.

use tokio::net::TcpListener;

use super::*;
use quorate_proto::reply;

/// Plays a server on the other end: takes a connection and what comes, and sends `answer`.
async fn scripted<T>(answer: BytesMut, client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 256];
        let _ = socket.read(&mut first).await.unwrap();
        socket.write_all(&answer).await.unwrap();
        socket.shutdown().await.unwrap();
        // Until the client has gone: an early drop would reset what it has not read.
        while socket.read(&mut first).await.is_ok_and(|read| read > 0) {}
    };
    let client = client(addr);
    let (result, ()) = tokio::join!(client, server);
    result
}

fn accepted() -> BytesMut {
    let mut out = BytesMut::new();
    ConnectResponse {
        timeout_ms: 4_000,
        session: SessionId(7),
        password: [9; 16],
        read_only: None,
    }
    .write_frame(&mut out);
    out
}

#[tokio::test]
async fn a_handshake_ends_in_one_of_three_ways() {
    let mut refused = BytesMut::new();
    ConnectResponse::refused(Some(false)).write_frame(&mut refused);
    let session = Handshake::Accepted {
        session: SessionId(7),
        password: [9; 16],
        timeout: Duration::from_secs(4),
        read_only: None,
        raw_len: 36,
    };
    let refusal = Handshake::Refused {
        session: SessionId::NONE,
        password: [0; 16],
        raw_len: 37,
    };
    for (answer, expected) in [
        (accepted(), session),
        (refused, refusal),
        (BytesMut::new(), Handshake::ClosedWithoutReply),
    ] {
        let handshake = scripted(answer, async |addr| {
            WireClient::connect(addr, &ConnectOptions::default())
                .await
                .1
        });
        assert_eq!(handshake.await, expected);
    }
}

#[tokio::test]
async fn a_trace_shows_events_in_their_place() {
    let mut answer = accepted();
    reply::notification(&mut answer, Zxid(5), EventType::NodeDataChanged, "/a");
    reply::empty(&mut answer, Xid::PING, Zxid(5));
    reply::notification(&mut answer, Zxid(6), EventType::NodeDeleted, "/a");
    scripted(answer, async |addr| {
        let mut client = WireClient::open(addr).await;
        let frames = client.call_traced(&Request::Ping).await;
        assert!(matches!(
            &frames[..],
            [Frame::Event(Event { zxid: Zxid(5), .. }), Frame::Reply(_)]
        ));
        assert_eq!(client.event().await.kind, EventType::NodeDeleted);
        client.closed().await;
    })
    .await;
}

#[tokio::test]
async fn a_call_puts_events_aside_and_returns_the_error() {
    let mut answer = accepted();
    reply::notification(&mut answer, Zxid(5), EventType::NodeCreated, "/a");
    reply::error(&mut answer, Xid(1), Zxid(6), ErrorCode::NoNode);
    scripted(answer, async |addr| {
        let mut client = WireClient::open(addr).await;
        assert_eq!(client.exists("/b", false).await, Err(ErrorCode::NoNode));
        assert_eq!(client.last_header().zxid, Zxid(6));
        assert_eq!(client.events().len(), 1);
        assert_eq!(client.next().await, None);
    })
    .await;
}
