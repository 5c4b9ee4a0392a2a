//! Three servers elect, replicate, and get over what a network does to them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_elect_and_replicate() {
    let hub = Hub::new();
    let (_places, nodes) = founded(&hub, 3).await;
    let leader = leader_of(&nodes, None).await;
    nodes[leader].open_sessions(50).await;
    for node in &nodes {
        node.has_sessions(50).await;
        assert_eq!(node.state.tree().digest(), nodes[0].state.tree().digest());
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_leader_is_replaced_and_follows_after_healing() {
    let hub = Hub::new();
    let (_places, nodes) = founded(&hub, 3).await;
    let former = leader_of(&nodes, None).await;
    nodes[former].open_sessions_surely(5).await;
    for node in others(&nodes, former) {
        hub.cut(number(&nodes[former]), number(node));
    }
    // Into the void.
    let lost = nodes[former].raft.client_write_ff(request(99), None).await;
    lost.unwrap();
    let one = others(&nodes, former).next().unwrap();
    let leader = one.leader(Some(nodes[former].id)).await;
    let leader = nodes.iter().position(|node| node.id == leader).unwrap();
    let leads = nodes[leader].raft.wait(Some(PATIENCE));
    leads.state(ServerState::Leader, "leads").await.unwrap();
    nodes[leader].open_sessions_surely(7).await;
    hub.heal_all();
    let known = nodes[former].leader(Some(nodes[former].id)).await;
    assert_eq!(known, nodes[leader].id);
    nodes[former].has_sessions(12).await;
    assert_eq!(nodes[former].sessions(), 12, "what no quorum had is gone");
    for node in nodes {
        node.stop().await;
    }
}

/// It hears nobody and everybody hears it: with pre-votes it deposes no leader.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_hears_nobody_does_not_disturb_the_leader() {
    let hub = Hub::new();
    let (_places, nodes) = founded(&hub, 3).await;
    let leader = leader_of(&nodes, None).await;
    let deaf = (leader + 1) % 3;
    nodes[leader].open_sessions(1).await;
    let term = nodes[leader].raft.metrics().borrow_watched().current_term;
    for node in others(&nodes, deaf) {
        hub.cut_one_way(number(node), number(&nodes[deaf]));
    }
    // Until it has noticed, and then some.
    let alone = |metrics: &openraft::RaftMetrics<_>| metrics.current_leader.is_none();
    let _ = nodes[deaf]
        .raft
        .wait(Some(Duration::from_secs(2)))
        .metrics(alone, "alone")
        .await;
    nodes[leader].open_sessions(1).await;
    assert!(nodes[leader].leads());
    assert_eq!(
        nodes[leader].raft.metrics().borrow_watched().current_term,
        term
    );
    hub.heal_all();
    nodes[deaf].has_sessions(2).await;
    assert_eq!(
        nodes[leader].raft.metrics().borrow_watched().current_term,
        term
    );
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_hands_over() {
    let hub = Hub::new();
    let (_places, nodes) = founded(&hub, 3).await;
    let leader = leader_of(&nodes, None).await;
    nodes[leader].open_sessions(3).await;
    let heir = (leader + 1) % 3;
    nodes[heir].has_sessions(3).await;
    nodes[leader]
        .raft
        .trigger()
        .transfer_leader(nodes[heir].id)
        .await
        .unwrap();
    let leads = nodes[heir].raft.wait(Some(PATIENCE));
    leads.state(ServerState::Leader, "heir").await.unwrap();
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_leader_is_heard_of() {
    let hub = Hub::new();
    let (_places, mut nodes) = founded(&hub, 3).await;
    let at = leader_of(&nodes, None).await;
    nodes[at].open_sessions(1).await;
    let leader = nodes.remove(at);
    let id = leader.id;
    leader.stop().await;
    for node in &mut nodes {
        let told = node.gone.wait_for(|gone| *gone == Some(id));
        tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
    }
    let next = leader_of(&nodes, Some(id)).await;
    nodes[next].open_sessions(1).await;
    for node in nodes {
        node.stop().await;
    }
}

/// It was down while the log was purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_far_behind_gets_a_snapshot() {
    let hub = Hub::new();
    let (places, mut nodes) = founded(&hub, 3).await;
    let leader = leader_of(&nodes, None).await;
    let leader_id = nodes[leader].id;
    let late = (leader + 1) % 3;
    nodes[leader].open_sessions(3).await;
    nodes.remove(late).stop().await;
    let leader = nodes.iter().position(|node| node.id == leader_id).unwrap();
    nodes[leader].open_sessions(3000).await;
    nodes[leader].raft.trigger().snapshot().await.unwrap();
    let wait = nodes[leader].raft.wait(Some(PATIENCE));
    let written = wait.metrics(|metrics| metrics.snapshot.is_some(), "a snapshot");
    let last = written.await.unwrap().snapshot;
    let index = last.unwrap().index;
    nodes[leader].raft.trigger().purge_log(index).await.unwrap();
    let wait = nodes[leader].raft.wait(Some(PATIENCE));
    wait.metrics(|metrics| metrics.purged == last, "purged")
        .await
        .unwrap();
    assert!(nodes[leader].snapshots.current().is_some());

    nodes.push(places[late].start().await);
    let late = nodes.last().unwrap();
    late.has_sessions(3003).await;
    assert_eq!(*late.skipped.0.lock(), 1);
    nodes[leader].open_sessions(1).await;
    late.has_sessions(3004).await;
    assert_eq!(
        late.state.tree().digest(),
        nodes[leader].state.tree().digest()
    );
    for node in nodes {
        node.stop().await;
    }
}

/// Replication goes on while answers are under way: over a link with a delay, many entries take
/// little longer than one. A stop-and-wait would need two delays for each.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_carries_many_entries_at_once() {
    const DELAY: Duration = Duration::from_millis(20);
    let hub = Hub::new();
    let (_places, nodes) = founded(&hub, 2).await;
    let leader = leader_of(&nodes, None).await;
    nodes[leader].open_sessions(1).await;
    hub.delay(1, 2, DELAY);
    hub.delay(2, 1, DELAY);
    let began = tokio::time::Instant::now();
    for count in 0..40 {
        nodes[leader]
            .raft
            .client_write_ff(request(count), None)
            .await
            .unwrap();
        // One entry, one request.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    nodes[leader].has_sessions(41).await;
    let took = began.elapsed();
    assert!(took < DELAY * 2 * 20, "{took:?}");
    assert_eq!(voters(&nodes).len(), 2);
    for node in nodes {
        node.stop().await;
    }
}
