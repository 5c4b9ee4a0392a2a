//! The power fails: what was acknowledged is there, and the same from every start on.

use super::*;

/// The seed of the crashes; set it to repeat a failure.
fn seed() -> u64 {
    let seed = std::env::var("QUORATE_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("QUORATE_SEED={seed}");
    seed
}

/// What the clients of one life know.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    session: Option<SessionId>,
    /// The last acknowledged write; 0 if none.
    acked: u64,
}

const WRITES: u64 = 24;

/// Opens a session and writes, until all is done or the disk is gone.
async fn live(world: &World) -> Known {
    let mut known = Known::default();
    let Ok(server) = world.try_start().await else {
        return known;
    };
    let work = async {
        let session = server.open_session(1).await;
        known.session = Some(session);
        server.create(session, 1, "/a");
        for seq in 2..=WRITES {
            server.set(session, seq, "/a", format!("{seq}").as_bytes());
            if seq % 5 == 0 {
                server.heard.outcomes(usize::try_from(seq).unwrap()).await;
            }
            if seq % 10 == 0 {
                let _ = server.replication.snapshot().await;
            }
        }
        server
            .heard
            .outcomes(usize::try_from(WRITES).unwrap() + 1)
            .await;
    };
    tokio::select! {
        () = work => {}
        () = server.heard.lost() => {}
    }
    let heard = server.heard.heard.lock();
    let acked = heard.outcomes.iter().filter(|o| succeeded(&o.1));
    known.acked = acked.map(|(origin, _)| origin.seq).max().unwrap_or(0);
    known.session = heard.opened.get(&1).copied();
    known
}

/// What a start finds must hold all that was acknowledged, and nothing half.
async fn check(world: &World, known: Known, what: &str) -> u64 {
    let server = match world.try_start().await {
        Ok(server) => server,
        Err(error) => panic!("{what}: {error:?}"),
    };
    if let Some(session) = known.session {
        let found = server.state().session(session);
        let found = found.unwrap_or_else(|| panic!("{what}: the session is gone"));
        assert!(
            found.last_seq >= known.acked,
            "{what}: {} of {} acknowledged writes",
            found.last_seq,
            known.acked
        );
        match found.last_seq {
            0 => assert_eq!(server.data("/a"), None, "{what}"),
            1 => assert_eq!(server.data("/a").unwrap(), b"first", "{what}"),
            n => assert_eq!(
                server.data("/a").unwrap(),
                n.to_string().as_bytes(),
                "{what}"
            ),
        }
    }
    let digest = server.digest();
    server.replication.stop().await;
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_cut_at_any_operation() {
    let seed = seed();
    let probe = World::new();
    assert_eq!(live(&probe).await.acked, WRITES);
    let operations = probe.disk.operations();
    let step = (operations / 30).max(1);
    for cut in (0..operations).step_by(usize::try_from(step).unwrap()) {
        let cut = cut + seed % step;
        let world = World::new();
        world.disk.cut_after(cut);
        let known = live(&world).await;
        let world = world.crash(seed ^ cut);
        let what = format!("cut after {cut} of {operations}, {known:?}");
        let first = check(&world, known, &what).await;
        let second = check(&world, known, &what).await;
        assert_eq!(first, second, "{what}: two starts, two states");
    }
}

/// With `forceSync=no` a power failure takes the log's end, and with it the vote; the snapshot
/// was synced. The log goes on behind it, in a term that nobody led before (R28).
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_the_snapshot_goes_on_behind_it() {
    let seed = seed();
    let mut world = World::new();
    world.config.force_sync = false;
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    for seq in 2..=30 {
        server.set(session, seq, "/a", format!("{seq}").as_bytes());
    }
    server.heard.outcomes(31).await;
    server.replication.snapshot().await.unwrap();
    let (zxid, digest) = (server.state().applied_zxid(), server.digest());
    for extra in 0..5 {
        let world = world.crash(seed.wrapping_add(extra));
        let server = world.start().await;
        assert_eq!(server.digest(), digest);
        let now = server.state().applied_zxid();
        assert!(now.0 >> 32 > zxid.0 >> 32, "{now} after {zxid}");
        server.set(session, 31, "/a", b"on");
        server.heard.outcomes(1).await;
        server.replication.stop().await;
        let server = world.start().await;
        assert_eq!(server.data("/a").unwrap(), b"on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing() {
    let world = World::new();
    let known = live(&world).await;
    let world = World {
        disk: world.disk.kill(),
        ..world
    };
    check(&world, known, "kill").await;
}
