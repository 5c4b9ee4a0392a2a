//! An ensemble in this process: elected, served by every server, and again after a leader's death.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its world should fail"
)]

use quorate_server::testing::TestCluster;
use quorate_server::testing::wire::WireClient;
use quorate_server::testing::wire::proto::{OpCode, Xid};

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
