//! The disk fails, the log is not ours, the queue is full: refused, said so, nothing lost.

use std::path::Path;

use super::*;
use crate::log::{Log, LogEntry, LogOptions};
use crate::replication::queue::QUEUE_BYTES_MAX;
use crate::replication::{SnapshotFailed, Unavailable};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_acknowledged_that_is_not_on_disk_and_reads_go_on() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    server.heard.outcomes(2).await;
    world.disk.fail_sync(1);
    server.set(session, 2, "/a", b"never");
    server.heard.lost().await;
    let health = server.until_unhealthy().await;
    assert!(matches!(health, Health::DiskFailed { .. }), "{health:?}");
    assert_eq!(server.heard.heard.lock().outcomes.len(), 2);
    assert_eq!(server.heard.heard.lock().lost, 1);
    assert_eq!(server.data("/a").unwrap(), b"first");
    let caller = CallerBuf::new(&[], true);
    let refused = server.replication.queue().push(&Proposal {
        origin: origin(session, 3),
        caller: caller.as_caller(),
        txn: Txn::CloseSession,
    });
    assert!(
        matches!(
            refused,
            Err(Refused::Unavailable(Unavailable::DiskFailed { .. }))
        ),
        "{refused:?}"
    );
    let read = server.replication.read_index().await;
    assert!(
        matches!(read, Err(Unavailable::DiskFailed { .. })),
        "{read:?}"
    );
    let snapshot = server.replication.snapshot().await;
    assert_eq!(snapshot, Err(SnapshotFailed::Stopped));
    server.replication.stop().await;
    assert!(matches!(server.health(), Health::DiskFailed { .. }));

    let server = world.crash(1).start().await;
    assert!(server.state().session(session).unwrap().last_seq >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_behind_a_stalled_disk_fills_and_refuses_and_loses_nothing() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    server.heard.outcomes(2).await;
    world.disk.stall_syncs();
    let data = vec![1; 1024 * 1024];
    let caller = CallerBuf::new(&[], true);
    let mut seq = 1;
    let refused = loop {
        let set = Op::SetData {
            path: "/a".into(),
            data: Some(data.as_slice().into()),
            version: Version::ANY,
            enforce_quota: false,
        };
        let pushed = server.replication.queue().push(&Proposal {
            origin: origin(session, seq + 1),
            caller: caller.as_caller(),
            txn: Txn::Op(set),
        });
        match pushed {
            Ok(()) => seq += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::Full { .. }), "{refused}");
    assert!(server.replication.queue().held_bytes() <= QUEUE_BYTES_MAX);
    assert_eq!(server.heard.heard.lock().outcomes.len(), 2);
    world.disk.resume_syncs();
    server
        .heard
        .outcomes(usize::try_from(seq).unwrap() + 1)
        .await;
    assert_eq!(server.state().session(session).unwrap().last_seq, seq);
    // The last entry lands just after its outcomes.
    while server.replication.queue().held_bytes() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_written_harms_nobody() {
    let world = World::new();
    let server = world.start().await;
    let session = server.open_session(1).await;
    server.create(session, 1, "/a");
    server.heard.outcomes(2).await;
    world.disk.fail_write(1);
    let failed = server.replication.snapshot().await;
    assert!(
        matches!(failed, Err(SnapshotFailed::Write { .. })),
        "{failed:?}"
    );
    server.set(session, 2, "/a", b"on");
    server.heard.outcomes(3).await;
    assert_eq!(server.health(), Health::Serving);
    server.replication.snapshot().await.unwrap();
}

/// Adds an entry of this body to the log of a stopped server.
async fn append(world: &World, body: &'static [u8]) {
    let dir = world.config.data_dir.join("quorate");
    let log = Log::open(
        Arc::new(world.disk.clone()),
        &dir,
        LogOptions::new([0; 16]),
        Arc::default(),
        world.clock.clone(),
    )
    .unwrap();
    let (term, index) = log.state().last.unwrap();
    let entry = LogEntry {
        index: index + 1,
        term,
        body: bytes::Bytes::from_static(body),
    };
    let (done, written) = tokio::sync::oneshot::channel();
    log.append(
        vec![entry],
        Box::new(move |result| done.send(result).unwrap()),
    );
    written.await.unwrap().unwrap();
    log.close();
}

/// R25: never skipped, never guessed.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_newer_version_refuses_to_start() {
    let world = World::new();
    world.start().await.replication.stop().await;
    append(&world, &[77, 1, 2, 3]).await;
    let error = world.try_start().await.map(|_| ()).unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("upgrade this server"), "{error}");
}

/// A digest that the leader recorded differs from ours: we stop (R27).
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_differs_from_the_recorded_one_stops_the_server() {
    let world = World::new();
    let server = world.start().await;
    server.open_session(1).await;
    server.replication.stop().await;
    let mut body = vec![1];
    body.extend(0_i64.to_be_bytes());
    body.extend(0_u32.to_be_bytes());
    body.extend(1_u64.to_be_bytes());
    body.extend(0xbad_u64.to_be_bytes());
    append(&world, body.leak()).await;
    let error = world.try_start().await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_another_server_are_refused() {
    let mut world = World::new();
    world.start().await.replication.stop().await;
    world.config.my_id = 2;
    let error = world.try_start().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            StartError::OtherServer {
                found: 1,
                configured: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_an_identity_is_refused() {
    use crate::disk::Disk;
    let world = World::new();
    world.start().await.replication.stop().await;
    let identity = Path::new("/nowhere/quorate-tests/quorate/identity");
    world.disk.remove(identity).unwrap();
    let error = world.try_start().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(error, StartError::IdentityMissing { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_identity_is_refused() {
    let world = World::new();
    world.start().await.replication.stop().await;
    let identity = Path::new("/nowhere/quorate-tests/quorate/identity");
    world.disk.flip(identity, 30, 4);
    let error = world.try_start().await.map(|_| ()).unwrap_err();
    assert!(matches!(error, StartError::Identity(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_directory_is_refused_when_none_may_be_made() {
    let mut world = World::new();
    world.config.data_dir_autocreate = false;
    let error = world.try_start().await.map(|_| ()).unwrap_err();
    assert!(matches!(error, StartError::NoDirectory { .. }), "{error}");
}
