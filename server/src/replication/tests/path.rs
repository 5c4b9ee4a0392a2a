//! What goes in comes out, in order, once.

use super::*;
use crate::replication::queue::ENTRY_BYTES_MAX;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_passes_through_the_log_and_its_outcome_is_delivered() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    server.heard.outcomes(2).await;
    assert!(succeeded(&server.heard.heard.lock().outcomes[1].1));
    assert_eq!(server.data("/a").unwrap(), b"first");
    let heard = server.heard.heard.lock();
    let events: Vec<_> = heard.changes.iter().map(|c| (c.1, c.2.as_str())).collect();
    assert_eq!(
        events,
        [
            (EventType::NodeCreated, "/a"),
            (EventType::NodeChildrenChanged, "/")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replays_to_the_same_state() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    for seq in 2..=50 {
        server.set(session, seq, "/a", format!("{seq}").as_bytes());
    }
    server.heard.outcomes(51).await;
    let (digest, zxid) = (server.digest(), server.state().applied_zxid());
    server.replication.stop().await;
    assert_eq!(server.health(), Health::Stopped);
    drop(server);

    let server = world.start().await;
    assert_eq!(server.digest(), digest);
    assert_eq!(server.data("/a").unwrap(), b"50");
    let now = server.state().applied_zxid();
    assert!(now > zxid, "{now} after {zxid}");
    assert_eq!(server.state().session(session).unwrap().last_seq, 50);
}
