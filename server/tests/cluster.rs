//! An ensemble in this process: elected, served by every server, and again after a leader's death.

use quorate_server::testing::TestCluster;
use quorate_server::testing::wire::WireClient;

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
