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

#[tokio::test(flavor = "multi_thread")]
async fn a_new_term_begins_an_epoch() {
    let world = World::new();
    for epoch in 1..=3 {
        let server = world.start().await;
        assert_eq!(server.state().applied_zxid(), Zxid(epoch << 32));
        server.open_session(epoch.unsigned_abs()).await;
        assert_eq!(server.state().applied_zxid(), Zxid(epoch << 32 | 1));
        server.replication.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_session_are_applied_in_order_whatever_others_push() {
    const SESSIONS: u64 = 4;
    const EACH: u64 = 2_000;
    let world = World::new();
    let server = Arc::new(world.start().await);
    let mut pushers = Vec::new();
    for n in 0..SESSIONS {
        let session = server.open_session(n).await;
        let server = server.clone();
        pushers.push(tokio::task::spawn_blocking(move || {
            let path = format!("/{n}");
            server.create(session, 1, &path);
            (2..=EACH).for_each(|seq| server.set(session, seq, &path, b"x"));
            session
        }));
    }
    let mut sessions = Vec::new();
    for pusher in pushers {
        sessions.push(pusher.await.unwrap());
    }
    let all = usize::try_from(SESSIONS * (EACH + 1)).unwrap();
    server.heard.outcomes(all).await;
    let heard = server.heard.heard.lock();
    for session in sessions {
        let of_session = heard.outcomes.iter().filter(|o| o.0.session == session);
        let seqs: Vec<u64> = of_session
            .map(|(origin, verdict)| {
                assert!(succeeded(verdict), "{origin:?}: {verdict:?}");
                origin.seq
            })
            .collect();
        assert!(seqs.into_iter().eq(1..=EACH));
    }
    assert!(heard.turns < all / 2, "requests share entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_passes() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    let large = vec![7; 3 * ENTRY_BYTES_MAX];
    server.create(session, 1, "/a");
    server.set(session, 2, "/a", &large);
    server.create(session, 3, "/b");
    server.heard.outcomes(4).await;
    assert_eq!(server.data("/a").unwrap(), large);
    assert!(server.data("/b").is_some());
}

/// The leader's calendar jumps both ways: nothing but times in the tree shows it (R21).
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_calendar_changes_mtimes_only() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    let mut zxid = Zxid::ZERO;
    for (seq, wall_ms) in (2..).zip([5_000_000, 1_000, 9_000_000_000, 0]) {
        world.clock.set_wall_ms(wall_ms);
        server.set(session, seq, "/a", b"x");
        server
            .heard
            .outcomes(usize::try_from(seq).unwrap() + 1)
            .await;
        let stat = server.state().tree().read("/a").node().unwrap().stat();
        assert_eq!(stat.mtime, wall_ms);
        let now = server.state().applied_zxid();
        assert!(now > zxid);
        zxid = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_index_covers_what_was_acknowledged_and_is_shared() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    let rounds = (0..100).map(|_| server.replication.read_index());
    for round in futures::future::join_all(rounds).await {
        round.unwrap();
    }
    server.replication.stop().await;
    let error = server.replication.read_index().await.unwrap_err();
    assert_eq!(error, crate::replication::Unavailable::Stopping);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_from_snapshots_and_a_purged_log_finds_everything() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    for round in 0..5 {
        for n in 1..=10 {
            let seq = 1 + round * 10 + n;
            server.set(session, seq, "/a", format!("{seq}").as_bytes());
            server
                .heard
                .outcomes(usize::try_from(seq).unwrap() + 1)
                .await;
        }
        server.replication.snapshot().await.unwrap();
    }
    assert_eq!(server.metrics.snapshots.get(), 5);
    let purged = server.replication.log.state().purged.unwrap();
    let last = server.replication.log.state().last.unwrap();
    assert!(purged.1 > 20 && purged.1 < last.1, "{purged:?} {last:?}");
    let digest = server.digest();
    server.replication.stop().await;
    drop(server);

    let server = world.start().await;
    assert_eq!(server.digest(), digest);
    assert_eq!(server.data("/a").unwrap(), b"51");
    assert_eq!(server.state().session(session).unwrap().last_seq, 51);
    server.set(session, 52, "/a", b"on");
    server.heard.outcomes(1).await;
    assert_eq!(server.data("/a").unwrap(), b"on");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_come_by_the_number_of_requests() {
    let mut world = World::new();
    world.config.snap_count = 20;
    let server = world.start().await;
    let mut attempts = server.replication.snapshots.attempts();
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    for seq in 2..=20 {
        server.set(session, seq, "/a", b"x");
    }
    let attempt = attempts.wait_for(|attempt| attempt.newest.is_some()).await;
    assert!(attempt.unwrap().error.is_none());
}

/// A ZooKeeper stops, we start on its directory, and it must not go on alone from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_zookeepers_data_are_taken_over_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("version-2");
    std::fs::create_dir(&theirs).unwrap();
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/zk-datadir/standalone/version-2");
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), theirs.join(entry.file_name())).unwrap();
    }
    let config = Config {
        data_dir: dir.path().to_owned(),
        ..Config::default()
    };
    let start = || async {
        Replication::start(
            &config,
            Arc::new(crate::disk::real::RealDisk),
            Arc::<ManualClock>::default(),
            Arc::default(),
            |_| Box::new(Recorder::default()),
            Arc::new(NoJudge),
            None,
            Handle::current(),
        )
        .await
    };
    let first = start().await.unwrap();
    let nodes = first.state().tree().node_count();
    let digest = first.state().tree().digest();
    assert!(nodes > 5, "{nodes}");
    assert!(first.state().applied_zxid() >= Zxid(1 << 32));
    let second = start().await.map(|_| ()).unwrap_err();
    assert!(matches!(second, StartError::Locked(_)), "{second}");
    first.stop().await;
    drop(first);

    let again = start().await.unwrap();
    assert_eq!(again.state().tree().digest(), digest);
    again.stop().await;
    drop(again);

    std::fs::write(theirs.join("log.ffff"), b"more").unwrap();
    let error = start().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, StartError::ZooKeeperWentOn { file, .. } if file == "log.ffff"),
        "{error}"
    );
}
