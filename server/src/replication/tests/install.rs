//! A follower that is too far behind is sent a snapshot, and goes on behind it as if it had
//! applied every entry itself; wherever the power fails (R20, R27, R28).

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;
use openraft::{EntryPayload, RaftLogReader as _};

use super::*;
use crate::log::Log;
use crate::replication::entry::Header;
use crate::replication::files::Layout;
use crate::replication::identity::Identity;
use crate::replication::log_store::LogStore;
use crate::replication::machine::{Machine, Progress, SnapshotPace};
use crate::replication::network::NoPeers;
use crate::replication::queue::ProposeQueue;
use crate::replication::snapshots::{Meta, ReceiveError, SnapshotFile, Snapshots};
use crate::replication::start::{self, Surroundings};
use crate::replication::types::{Body, Entry, LogId, Raft, Types, Vote, log_id, node_id};

/// What one leader did in two terms.
struct History {
    identity: Identity,
    entries: Vec<Entry>,
    snapshots: Vec<Sent>,
    end: Option<Seen>,
}

/// A snapshot as it goes over the network, and the state in it.
struct Sent {
    meta: Meta,
    bytes: Vec<u8>,
    seen: Seen,
}

/// All that must agree.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    zxid: Zxid,
    digest: u64,
    sessions: Vec<(SessionId, crate::tree::SessionInfo)>,
}

impl Seen {
    fn of(state: &State) -> Seen {
        Seen {
            zxid: state.applied_zxid(),
            digest: state.tree().digest(),
            sessions: state.sessions(),
        }
    }
}

fn read_all(snapshots: &Snapshots, file: &SnapshotFile) -> Vec<u8> {
    let mut reader = snapshots.open_for_sending(file).unwrap();
    let mut bytes = vec![0; usize::try_from(reader.len()).unwrap()];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = reader.read(&mut bytes[filled..]).unwrap();
        assert_ne!(read, 0);
        filled += read;
    }
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    bytes
}

const TERMS: u64 = 2;

impl History {
    async fn write() -> History {
        let world = World::new();
        let mut history = History {
            identity: Identity::found(0, None),
            entries: Vec::new(),
            snapshots: Vec::new(),
            end: None,
        };
        let (mut session, mut seq) = (SessionId::NONE, 0);
        for term in 0..TERMS {
            let server = world.start().await;
            // The end of the log, behind the last snapshot, was applied again and heard again.
            let mut heard = server.heard.heard.lock().outcomes.len();
            if term == 0 {
                session = server.open_session(1).await;
                server.create(session, 1, "/a");
                (seq, heard) = (1, 2);
            }
            for _ in 0..3 {
                for _ in 0..4 {
                    (seq, heard) = (seq + 1, heard + 1);
                    server.set(session, seq, "/a", format!("{seq}").as_bytes());
                    // Entry by entry, so that there are many points to stop at.
                    server.heard.outcomes(heard).await;
                }
                history.note(&server).await;
            }
            (seq, heard) = (seq + 1, heard + 1);
            server.set(session, seq, "/a", b"last");
            server.heard.outcomes(heard).await;
            history.copy_log(&server).await;
            history.end = Some(Seen::of(server.state()));
            server.replication.stop().await;
        }
        let identity = Layout::new(&world.config).identity();
        history.identity = Identity::read(&world.disk, &identity).unwrap().unwrap();
        history
    }

    async fn copy_log(&mut self, server: &Server) {
        let mut log = LogStore::new(server.replication.log.clone(), 0, None);
        let from = self.entries.len() as u64;
        self.entries
            .extend(log.try_get_log_entries(from..).await.unwrap());
    }

    /// A snapshot of now, and the entries that it makes superfluous.
    async fn note(&mut self, server: &Server) {
        self.copy_log(server).await;
        server.replication.snapshot().await.unwrap();
        let snapshots = &server.replication.snapshots;
        let current = snapshots.current().unwrap();
        self.snapshots.push(Sent {
            bytes: read_all(snapshots, &current.snapshot),
            meta: current.meta,
            seen: Seen::of(server.state()),
        });
    }

    fn end(&self) -> &Seen {
        self.end.as_ref().unwrap()
    }

    fn id_at(&self, index: u64) -> LogId {
        self.entries[usize::try_from(index).unwrap()].log_id
    }

    fn last(&self) -> LogId {
        self.entries.last().unwrap().log_id
    }

    fn vote(&self) -> Vote {
        Vote::new_committed(self.last().leader_id.term, self.identity.node_id)
    }

    /// The entries behind `after`, up to `upto`.
    fn entries(&self, after: Option<LogId>, upto: u64) -> AppendEntriesRequest<Types> {
        let from = after.map_or(0, |id| id.index + 1);
        let entries = self.entries.iter();
        AppendEntriesRequest {
            vote: self.vote(),
            prev_log_id: after,
            entries: entries
                .filter(|entry| (from..=upto).contains(&entry.log_id.index))
                .cloned()
                .collect(),
            leader_commit: Some(self.id_at(upto)),
        }
    }
}

/// The world of server 2, which is told who it is.
fn world_of(history: &History) -> World {
    let mut world = World::new();
    world.config.my_id = 2;
    let layout = Layout::new(&world.config);
    let identity = Identity {
        node_id: node_id(2, 1),
        ..history.identity.clone()
    };
    crate::disk::Disk::create_dir_all(&world.disk, &layout.data).unwrap();
    identity.write(&world.disk, &layout.identity()).unwrap();
    world
}

/// A server that hears a leader by hand.
struct Follower {
    raft: Raft,
    log: Arc<Log>,
    snapshots: Arc<Snapshots>,
    state: Arc<State>,
    progress: Arc<Progress>,
    heard: Recorder,
}

impl Follower {
    async fn start(world: &World) -> Result<Follower, StartError> {
        let around = Surroundings {
            disk: Arc::new(world.disk.clone()),
            clock: world.clock.clone(),
            metrics: Arc::default(),
        };
        let config = world.config.clone();
        let prepared = tokio::task::spawn_blocking(move || start::prepare(&config, &around));
        let prepared = prepared.await.unwrap()?;
        let applied = prepared.restored.applied;
        let follower = |raft, state, progress, heard| Follower {
            raft,
            log: prepared.log.clone(),
            snapshots: prepared.snapshots.clone(),
            state,
            progress,
            heard,
        };
        let (heard, progress) = (Recorder::default(), Arc::new(Progress::default()));
        let state = prepared.restored.state.clone();
        let machine = Machine::new(
            prepared.restored,
            Box::new(heard.clone()),
            Arc::new(ProposeQueue::new(1 << 20)),
            prepared.snapshots.clone(),
            SnapshotPace {
                requests: 1_000_000,
                bytes: 0,
            },
            progress.clone(),
            Arc::default(),
        );
        let id = prepared.identity.node_id;
        let term = applied.map(|applied| applied.leader_id.term);
        let store = LogStore::new(prepared.log.clone(), id, term);
        let settings = openraft::Config {
            enable_elect: false,
            enable_leader_restore: Some(false),
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            ..openraft::Config::default()
        };
        match Raft::new(id, Arc::new(settings), NoPeers, store, machine).await {
            Ok(raft) => Ok(follower(raft, state, progress, heard)),
            Err(error) => panic!("the engine does not start: {error}"),
        }
    }

    /// Hears of the entries up to one, and applies them.
    async fn follow(&self, history: &History, after: Option<LogId>, upto: u64) {
        let answer = self.raft.append_entries(history.entries(after, upto)).await;
        assert!(answer.as_ref().unwrap().is_success(), "{answer:?}");
        self.applied(upto).await;
    }

    async fn applied(&self, index: u64) {
        let wait = self.raft.wait(Some(std::time::Duration::from_secs(20)));
        wait.applied_index_at_least(Some(index), "applied")
            .await
            .unwrap();
    }

    async fn receive(&self, sent: &Sent) -> Result<SnapshotFile, String> {
        let (snapshots, meta, bytes) = (
            self.snapshots.clone(),
            sent.meta.clone(),
            sent.bytes.clone(),
        );
        let received = tokio::task::spawn_blocking(move || {
            let mut sink = snapshots.receive(&meta)?;
            for piece in bytes.chunks(300) {
                sink.write(piece)?;
            }
            sink.finish()
        });
        let received: Result<_, ReceiveError> = received.await.unwrap();
        received.map_err(|error| format!("{error:?}"))
    }

    /// Receives a snapshot and hands it to the engine.
    async fn install(&self, history: &History, sent: &Sent) -> Result<(), String> {
        let snapshot = self.receive(sent).await?;
        let meta = sent.meta.clone();
        let snapshot = openraft::alias::SnapshotOf::<Types, _> { meta, snapshot };
        let installed = self.raft.install_full_snapshot(history.vote(), snapshot);
        installed
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    async fn stop(self) {
        // One that has failed has nothing to stop.
        let _ = self.raft.shutdown().await;
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || log.close())
            .await
            .unwrap();
    }
}

fn index_of(sent: &Sent) -> u64 {
    sent.meta.last_log_id.unwrap().index
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_at_any_point_and_the_entries_behind_it_are_as_good_as_all_entries() {
    let history = History::write().await;
    let last = history.last().index;
    for sent in &history.snapshots {
        let at = index_of(sent);
        for knows in [None, Some(0), Some(3), Some(at / 2), Some(at - 1)] {
            let world = world_of(&history);
            let follower = Follower::start(&world).await.unwrap();
            if let Some(upto) = knows {
                follower.follow(&history, None, upto).await;
            }
            follower.install(&history, sent).await.unwrap();
            follower.applied(at).await;
            assert_eq!(Seen::of(&follower.state), sent.seen);
            {
                let heard = follower.heard.heard.lock();
                assert_eq!((heard.skipped, heard.resumed), (1, 1));
            }
            follower.follow(&history, sent.meta.last_log_id, last).await;
            assert_eq!(&Seen::of(&follower.state), history.end(), "{knows:?}, {at}");
            assert_eq!(follower.log.state().purged.unwrap().1, at);
            // It can help the next one.
            let current = follower.snapshots.current().unwrap();
            assert_eq!(read_all(&follower.snapshots, &current.snapshot), sent.bytes);
            follower.stop().await;

            let again = Follower::start(&world).await.unwrap();
            again.follow(&history, Some(history.last()), last).await;
            assert_eq!(&Seen::of(&again.state), history.end());
            again.stop().await;
        }
    }
}

/// Entries of a leader that nobody else followed: `from` on, in its term.
fn divergent(history: &History, term: u64, from: u64, count: u64) -> AppendEntriesRequest<Types> {
    let entry = |index| Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Blank,
    };
    AppendEntriesRequest {
        vote: Vote::new_committed(term, node_id(3, 1)),
        prev_log_id: Some(history.id_at(from - 1)),
        entries: (from..from + count).map(entry).collect(),
        leader_commit: Some(history.id_at(from - 1)),
    }
}

/// What a leader does with a server of which it knows nothing: a snapshot, then the rest.
async fn catch_up(follower: &Follower, history: &History) {
    let sent = history.snapshots.last().unwrap();
    follower.install(history, sent).await.unwrap();
    let last = history.last().index;
    follower.follow(history, sent.meta.last_log_id, last).await;
    assert_eq!(&Seen::of(&follower.state), history.end());
}

/// Between receiving, naming, cutting, installing and purging.
#[tokio::test(flavor = "multi_thread")]
async fn the_power_may_fail_at_any_moment_of_an_installation() {
    let history = History::write().await;
    // In the second term, and not the last one: some must be left to follow.
    let sent = &history.snapshots[4];
    let at = index_of(sent);
    let begins = history
        .entries
        .iter()
        .find(|entry| entry.log_id.leader_id.term == TERMS)
        .unwrap()
        .log_id
        .index;
    assert!(begins + 2 < at);
    // A log that ends before the snapshot, one that it contradicts, one that has it already.
    for (branch, tail) in [(4, 0), (begins - 2, 200), (begins, 200), (0, 0)] {
        let prepare = async |world: &World| {
            let follower = Follower::start(world).await.unwrap();
            if branch > 0 {
                let mut known = history.entries(None, branch - 1);
                known.vote = Vote::new_committed(1, node_id(3, 1));
                follower.raft.append_entries(known).await.unwrap();
                follower.applied(branch - 1).await;
            }
            if tail > 0 {
                let entries = divergent(&history, 1, branch, tail);
                follower.raft.append_entries(entries).await.unwrap();
            }
            follower
        };
        let probe = world_of(&history);
        let follower = prepare(&probe).await;
        let before = Seen::of(&follower.state);
        let began = probe.disk.operations();
        follower.install(&history, sent).await.unwrap();
        follower.stop().await;
        let ended = probe.disk.operations();
        for cut in began..=ended {
            let world = world_of(&history);
            let follower = prepare(&world).await;
            world.disk.cut_after(cut);
            let installed = follower.install(&history, sent).await.is_ok();
            follower.stop().await;
            let world = world.crash(cut);
            let what = format!("branch {branch}, tail {tail}, cut {cut} of {began}..{ended}");
            let again = match Follower::start(&world).await {
                Ok(again) => again,
                Err(error) => panic!("{what}: {error:?}"),
            };
            let seen = Seen::of(&again.state);
            if installed || seen != before {
                // Founded in the log, or all of the snapshot; nothing between.
                let replayed = !installed && seen.zxid <= before.zxid;
                assert!(seen == sent.seen || replayed, "{what}: {seen:?}");
            }
            catch_up(&again, &history).await;
            again.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_what_was_announced_changes_nothing() {
    let history = History::write().await;
    let world = world_of(&history);
    let follower = Follower::start(&world).await.unwrap();
    follower.follow(&history, None, 3).await;
    let before = Seen::of(&follower.state);
    let good = &history.snapshots[1];
    let damaged = |bytes| Sent {
        meta: good.meta.clone(),
        bytes,
        seen: good.seen.clone(),
    };
    let mut flipped = good.bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    let torn = good.bytes[..middle].to_vec();
    let other = history.snapshots[2].bytes.clone();
    for bytes in [flipped, torn, other, Vec::new()] {
        let refused = follower.install(&history, &damaged(bytes)).await;
        refused.unwrap_err();
    }
    let empty = Meta::default();
    assert!(matches!(
        follower.snapshots.receive(&empty).map(|_| ()),
        Err(ReceiveError::Empty)
    ));
    assert_eq!(Seen::of(&follower.state), before);
    assert_eq!(follower.heard.heard.lock().skipped, 0);
    catch_up(&follower, &history).await;
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_two_snapshots_do_not_arrive_at_once() {
    let history = History::write().await;
    let follower = Follower::start(&world_of(&history)).await.unwrap();
    let meta = &history.snapshots[0].meta;
    let first = follower.snapshots.receive(meta).unwrap();
    let _second = follower.snapshots.receive(meta).unwrap();
    let third = follower.snapshots.receive(meta).map(|_| ());
    assert!(matches!(third, Err(ReceiveError::Busy)), "{third:?}");
    drop(first);
    follower.snapshots.receive(meta).map(|_| ()).unwrap();
    follower.stop().await;
}

/// R27: the leader says what its state was, and this server had another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_differs_from_its_leader_stops() {
    let history = History::write().await;
    let world = world_of(&history);
    let follower = Follower::start(&world).await.unwrap();
    follower.follow(&history, None, 5).await;
    let (index, digest) = follower.progress.digest().unwrap();
    let mut entry = bytes::BytesMut::zeroed(Header::LEN);
    let header = Header {
        wall_ms: 0,
        count: 0,
        applied: Some((index, digest ^ 1)),
    };
    header.fill(&mut entry);
    let mut wrong = history.entries(Some(history.id_at(5)), 6);
    wrong.entries[0].payload = EntryPayload::Normal(Body(Bytes::from(entry)));
    // It may stop before it can answer.
    let _ = follower.raft.append_entries(wrong).await;
    follower.heard.lost().await;
    let fault = follower.progress.fault().unwrap();
    assert!(fault.contains("digest"), "{fault}");
    follower.stop().await;
}

/// Every member writes its own, and one that arrived counts among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_writes_snapshots_and_keeps_the_log_behind_the_oldest_that_counts() {
    let history = History::write().await;
    let world = world_of(&history);
    let follower = Follower::start(&world).await.unwrap();
    follower.follow(&history, None, 4).await;
    let mut attempts = follower.snapshots.attempts();
    follower.raft.trigger().snapshot().await.unwrap();
    let written = attempts.wait_for(|attempt| attempt.newest.is_some());
    assert_eq!(written.await.unwrap().newest, Some(history.id_at(4)));
    assert_eq!(
        follower.snapshots.log_needed_after(),
        None,
        "one is no fallback"
    );
    let sent = &history.snapshots[1];
    follower.install(&history, sent).await.unwrap();
    assert_eq!(follower.snapshots.log_needed_after(), Some(4));
    assert_eq!(attempts.borrow().newest, sent.meta.last_log_id);
    follower.snapshots.purge_files().unwrap();
    assert_eq!(follower.snapshots.current().unwrap().meta, sent.meta);
    follower.stop().await;
}
