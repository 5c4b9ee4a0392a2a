//! Engines on simulated disks, joined by a network that can be cut and slowed down.

mod codec;
mod ensemble;
mod lane;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, ServerState};
use parking_lot::Mutex;
use quorate_proto::{Acl, EventType, Zxid};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{Network, RaftHandler, SnapshotHandler};
use crate::clock::ManualClock;
use crate::config::{Config, Ensemble, PeerAddress, Role, ServerLine};
use crate::disk::sim::SimDisk;
use crate::log::Log;
use crate::peers::{Call, Hub, Peers, Purpose};
use crate::replication::Deliver;
use crate::replication::entry::Header;
use crate::replication::files::Layout;
use crate::replication::identity::Identity;
use crate::replication::log_store::LogStore;
use crate::replication::machine::{Machine, Progress, SnapshotPace};
use crate::replication::queue::ProposeQueue;
use crate::replication::snapshots::Snapshots;
use crate::replication::start::{self, Surroundings};
use crate::replication::types::{Body, Raft, node_id};
use crate::tree::txn::{Origin, Proposal, Ticket, Txn, Verdict};
use crate::tree::{CallerBuf, State};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: [u8; 16] = [3; 16];

/// Counts the snapshots that took the place of entries.
#[derive(Clone, Default)]
struct Deaf(Arc<Mutex<usize>>);

impl Deliver for Deaf {
    fn change(&mut self, _: Zxid, _: EventType, _: &str, _: &[Acl]) {}
    fn outcome(&mut self, _: &Proposal<'_>, _: &Verdict) {}
    fn turn_done(&mut self) {}
    fn skipped(&mut self) {
        *self.0.lock() += 1;
    }
    fn lost(&mut self) {}
}

/// What outlives a server.
struct Place {
    number: u8,
    disk: SimDisk,
    config: Config,
    hub: Hub,
    ensemble: Ensemble,
}

/// A running engine and its links.
struct Node {
    id: u64,
    raft: Raft,
    log: Arc<Log>,
    state: Arc<State>,
    snapshots: Arc<Snapshots>,
    peers: Arc<Peers>,
    gone: tokio::sync::watch::Receiver<Option<u64>>,
    skipped: Deaf,
}

fn ensemble(numbers: impl Iterator<Item = u8>) -> Ensemble {
    let line = |id: u8| ServerLine {
        id,
        addresses: vec![PeerAddress {
            host: "host".into(),
            quorum_port: id.into(),
            election_port: 1,
        }],
        role: Role::Participant,
        role_written: false,
        client: None,
        secure_client: None,
    };
    let tick = Duration::from_secs(2);
    Ensemble::new(numbers.map(line).collect(), Role::Participant, tick)
}

impl Place {
    fn new(hub: &Hub, number: u8, ensemble: &Ensemble) -> Place {
        let config = Config {
            data_dir: PathBuf::from("/nowhere/quorate-network-tests"),
            my_id: number,
            ..Config::default()
        };
        let disk = SimDisk::new();
        let layout = Layout::new(&config);
        crate::disk::Disk::create_dir_all(&disk, &layout.data).unwrap();
        let identity = Identity {
            cluster_id: CLUSTER,
            cluster_key: [4; 32],
            ..Identity::found(node_id(number, 1), None)
        };
        identity.write(&disk, &layout.identity()).unwrap();
        Place {
            number,
            disk,
            config,
            hub: hub.clone(),
            ensemble: ensemble.clone(),
        }
    }

    async fn start(&self) -> Node {
        let around = Surroundings {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(ManualClock::default()),
            metrics: Arc::default(),
        };
        let config = self.config.clone();
        let prepared = tokio::task::spawn_blocking(move || start::prepare(&config, &around));
        let prepared = prepared.await.unwrap().unwrap();
        let (id, log, snapshots) = (
            prepared.identity.node_id,
            prepared.log.clone(),
            prepared.snapshots.clone(),
        );
        let state = prepared.restored.state.clone();
        let term = prepared.restored.applied.map(|id| id.leader_id.term);
        let skipped = Deaf::default();
        let machine = Machine::new(
            prepared.restored,
            Box::new(skipped.clone()),
            Arc::new(ProposeQueue::new(1 << 20)),
            snapshots.clone(),
            SnapshotPace {
                requests: 1_000_000,
                bytes: 0,
            },
            Arc::new(Progress::default()),
            Arc::default(),
        );
        let net = self.hub.net(self.number);
        let peers = Peers::new(self.number, &self.ensemble, net, Handle::current());
        let peers = Arc::new(peers);
        peers.become_member(CLUSTER, id);
        let call: Arc<dyn Call> = peers.clone();
        let tasks = TaskTracker::new();
        let network = Network::new(call, snapshots.clone(), tasks, Handle::current());
        let settings = openraft::Config {
            heartbeat_interval: 50,
            election_timeout_min: 150,
            election_timeout_max: 300,
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            ..openraft::Config::default()
        };
        let store = LogStore::new(log.clone(), id, term);
        let raft = Raft::new(id, Arc::new(settings), network, store, machine);
        let raft = raft.await.unwrap();
        let handler = RaftHandler::new(raft.clone(), id);
        let gone = handler.gone();
        peers.serve(Purpose::Raft, Arc::new(handler));
        let handler = SnapshotHandler::new(raft.clone(), id, snapshots.clone());
        peers.serve(Purpose::Snapshot, Arc::new(handler));
        peers.listen(None).await.unwrap();
        Node {
            id,
            raft,
            log,
            state,
            snapshots,
            peers,
            gone,
            skipped,
        }
    }
}

/// The request of the `count`th session.
fn request(count: u64) -> Body {
    let mut entry = BytesMut::zeroed(Header::LEN);
    let caller = CallerBuf::new(&[], true);
    let ticket = Ticket {
        server: 1,
        boot: 1,
        count,
    };
    let proposal = Proposal {
        origin: Origin::default(),
        caller: caller.as_caller(),
        txn: Txn::OpenSession {
            ticket,
            timeout_ms: 30_000,
        },
    };
    proposal.encode(&mut entry);
    let header = Header {
        wall_ms: 1,
        count: 1,
        applied: None,
    };
    header.fill(&mut entry);
    Body(entry.freeze())
}

impl Node {
    fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.state == ServerState::Leader
    }

    /// Opens sessions through this leader.
    async fn open_sessions(&self, count: u64) {
        // Until a quorum has answered, a new leader refuses.
        self.agreed().await;
        for count in 0..count {
            let written = self.raft.client_write_ff(request(count), None).await;
            written.unwrap();
        }
        self.agreed().await;
    }

    /// The same one by one. An entry that openraft refuses, because no quorum was heard for a
    /// moment, is gone without a word: it is written again.
    async fn open_sessions_surely(&self, count: u64) {
        for count in 0..count {
            let before = self.sessions();
            let opened = async {
                loop {
                    self.agreed().await;
                    let written = self.raft.client_write_ff(request(count), None).await;
                    written.unwrap();
                    let applied = async {
                        let mut metrics = self.raft.data_metrics();
                        while self.sessions() <= before {
                            metrics.changed().await.unwrap();
                        }
                    };
                    if tokio::time::timeout(PATIENCE / 4, applied).await.is_ok() {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, opened).await.unwrap();
        }
    }

    /// Returns when a quorum has confirmed that this server leads, and it has applied what it had.
    async fn agreed(&self) {
        let agreed = async {
            let confirmed = || {
                self.raft
                    .ensure_linearizable(openraft::ReadPolicy::ReadIndex)
            };
            while confirmed().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, agreed).await.unwrap();
    }

    fn sessions(&self) -> usize {
        self.state.sessions().len()
    }

    async fn has_sessions(&self, count: usize) {
        let has = async {
            let mut metrics = self.raft.data_metrics();
            while self.sessions() < count {
                metrics.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, has).await;
        assert!(waited.is_ok(), "{} of {count} sessions", self.sessions());
    }

    /// The leader that this node knows of, other than `former`.
    async fn leader(&self, former: Option<u64>) -> u64 {
        let known = |metrics: &openraft::RaftMetrics<_>| {
            metrics.current_leader.is_some() && metrics.current_leader != former
        };
        let metrics = self
            .raft
            .wait(Some(PATIENCE))
            .metrics(known, "a leader")
            .await;
        metrics.unwrap().current_leader.unwrap()
    }

    async fn stop(self) {
        let _ = self.raft.shutdown().await;
        self.peers.stop().await;
        tokio::task::spawn_blocking(move || self.log.close())
            .await
            .unwrap();
    }
}

/// Servers 1..=n, all voters, one of them leading.
async fn founded(hub: &Hub, n: u8) -> (Vec<Place>, Vec<Node>) {
    let list = ensemble(1..=n);
    let places: Vec<_> = (1..=n)
        .map(|number| Place::new(hub, number, &list))
        .collect();
    let mut nodes = Vec::new();
    for place in &places {
        nodes.push(place.start().await);
    }
    let members: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node.id, BasicNode::new("")))
        .collect();
    nodes[0].raft.initialize(members).await.unwrap();
    (places, nodes)
}

/// The place of the leader among these.
async fn leader_of(nodes: &[Node], former: Option<u64>) -> usize {
    let leader = nodes[0].leader(former).await;
    let at = nodes.iter().position(|node| node.id == leader).unwrap();
    nodes[at]
        .raft
        .wait(Some(PATIENCE))
        .state(ServerState::Leader, "leads")
        .await
        .unwrap();
    at
}

fn number(node: &Node) -> u8 {
    u8::try_from(node.id >> 32).unwrap()
}

/// The others among these.
fn others(nodes: &[Node], but: usize) -> impl Iterator<Item = &Node> {
    let others = nodes.iter().enumerate();
    others
        .filter(move |(at, _)| *at != but)
        .map(|(_, node)| node)
}

fn voters(nodes: &[Node]) -> BTreeSet<u64> {
    nodes.iter().map(|node| node.id).collect()
}
