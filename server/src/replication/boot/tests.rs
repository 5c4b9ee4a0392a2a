//! Whole ensembles in one process: every order, a kill at every step, and what must wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use quorate_proto::SessionId;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::{SharedClock, SystemClock};
use crate::config::{Config, Ensemble, PeerAddress, Role as Kind, ServerLine};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::metrics::Metrics;
use crate::peers::{Hub, Peers};
use crate::replication::role::Role;
use crate::replication::tests::Recorder;
use crate::replication::types::server_of;
use crate::replication::{Judge, Replication, StartError};

/// A loaded machine is slow; what never happens is found out after this.
const PATIENCE: Duration = Duration::from_secs(30);

const THREE: [Kind; 3] = [Kind::Participant; 3];

/// Servers 1, 2, … of these kinds, as server `me` has them in its configuration.
pub(super) fn ensemble(me: u8, kinds: &[Kind]) -> Ensemble {
    let lines = (1..).zip(kinds).map(|(id, &role)| ServerLine {
        id,
        addresses: vec![PeerAddress {
            host: format!("server-{id}"),
            quorum_port: 2888,
            election_port: 3888,
        }],
        role,
        role_written: true,
        client: None,
        secure_client: None,
    });
    let lines: Vec<ServerLine> = lines.collect();
    let mine = lines
        .iter()
        .find(|line| line.id == me)
        .map(|line| line.role);
    let role = mine.unwrap_or(Kind::Participant);
    Ensemble::new(lines, role, Duration::from_secs(2))
}

#[derive(Default)]
struct CountingJudge {
    started: AtomicU64,
}

impl Judge for CountingJudge {
    fn renew(&self, _sessions: &[SessionId]) -> Vec<SessionId> {
        Vec::new()
    }

    fn start_over(&self, _lease: Duration) {
        self.started.fetch_add(1, Ordering::SeqCst);
    }
}

/// All servers of a test.
struct World {
    hub: Hub,
    kinds: Vec<Kind>,
    disks: Mutex<Vec<SimDisk>>,
    /// Those that run, or start.
    peers: Mutex<BTreeMap<u8, Arc<Peers>>>,
    /// Where it is not the usual place.
    data_dirs: BTreeMap<u8, PathBuf>,
    clock: SharedClock,
}

struct Member {
    replication: Replication,
    judge: Arc<CountingJudge>,
    id: u8,
}

impl World {
    fn new(kinds: &[Kind]) -> World {
        World {
            hub: Hub::new(),
            peers: Mutex::default(),
            data_dirs: BTreeMap::new(),
            kinds: kinds.to_vec(),
            disks: Mutex::new(kinds.iter().map(|_| SimDisk::new()).collect()),
            clock: SystemClock::shared(),
        }
    }

    fn disk(&self, id: u8) -> SimDisk {
        self.disks.lock()[usize::from(id) - 1].clone()
    }

    fn set_disk(&self, id: u8, disk: SimDisk) {
        self.disks.lock()[usize::from(id) - 1] = disk;
    }

    fn data_dir(id: u8) -> PathBuf {
        PathBuf::from(format!("/nowhere/quorate-boot-{id}"))
    }

    /// Starts a server; ready when its engine runs.
    fn start(&self, id: u8) -> JoinHandle<Result<Member, StartError>> {
        let ensemble = ensemble(id, &self.kinds);
        let net = self.hub.net(id);
        let peers = Arc::new(Peers::new(id, &ensemble, net, Handle::current()));
        self.peers.lock().insert(id, peers.clone());
        let data_dir = self.data_dirs.get(&id).cloned();
        let config = Config {
            my_id: id,
            data_dir: data_dir.unwrap_or_else(|| World::data_dir(id)),
            ensemble: Some(ensemble),
            ..Config::default()
        };
        let (disk, clock) = (Arc::new(self.disk(id)), self.clock.clone());
        let judge = Arc::<CountingJudge>::default();
        Handle::current().spawn(async move {
            peers.listen(None).await.unwrap();
            let replication = Replication::start(
                &config,
                disk,
                clock,
                Arc::new(Metrics::default()),
                |_| Box::new(Recorder::default()),
                judge.clone(),
                Some(peers),
                Handle::current(),
            )
            .await?;
            Ok(Member {
                replication,
                judge,
                id,
            })
        })
    }

    async fn start_all(&self, order: &[u8]) -> Vec<Member> {
        let starting: Vec<_> = order.iter().map(|&id| self.start(id)).collect();
        let mut members = Vec::new();
        for start in starting {
            members.push(up(start).await);
        }
        members.sort_by_key(|member| member.id);
        members
    }

    /// Ends a process as `kill -9` does: its links break, and dialling it is refused.
    async fn kill(&self, member: Member) {
        let disk = self.disk(member.id).kill();
        self.set_disk(member.id, disk);
        let id = member.id;
        drop(member);
        self.silence(id).await;
    }

    async fn silence(&self, id: u8) {
        let peers = self.peers.lock().remove(&id);
        if let Some(peers) = peers {
            peers.stop().await;
        }
    }

    fn wipe(&self, id: u8) {
        self.set_disk(id, SimDisk::new());
    }
}

async fn up(start: JoinHandle<Result<Member, StartError>>) -> Member {
    timeout(PATIENCE, start)
        .await
        .expect("in time")
        .unwrap()
        .unwrap()
}

impl Member {
    fn node(&self) -> u64 {
        *self.replication.raft.node_id()
    }

    fn role(&self) -> Role {
        *self.replication.role().borrow()
    }

    async fn serves(&self) {
        let mut serving = self.replication.serving();
        let served = timeout(PATIENCE, serving.wait_for(|serving| *serving)).await;
        served.expect("it serves in time").expect("it runs");
    }

    /// Waits until these numbers vote, in the membership in force here.
    async fn voters(&self, expected: &[u8]) {
        let vote = |metrics: &openraft::RaftMetrics<_>| {
            let membership = metrics.committed_membership_config.membership();
            let voters: Vec<u8> = membership.voter_ids().map(server_of).collect();
            voters == expected && membership.get_joint_config().len() == 1
        };
        let raft = &self.replication.raft;
        let waited = raft.wait(Some(PATIENCE)).metrics(vote, "voters").await;
        waited.expect("these vote in time");
    }

    fn member_ids(&self) -> Vec<u64> {
        let metrics = self.replication.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.committed_membership_config.membership();
        membership.nodes().map(|(&id, _)| id).collect()
    }
}

/// For the one who reads of a test that failed.
fn tell(members: &[Member]) {
    for member in members {
        let metrics = member.replication.raft.metrics();
        let health = member.replication.health().borrow().clone();
        eprintln!("server {}: {:?}, {health:?}", member.id, member.role());
        eprintln!("  {}", *metrics.borrow_watched());
    }
}

/// The number of the leader, once all of these agree on it.
async fn leader(members: &[Member]) -> u8 {
    let agreed = async {
        loop {
            let roles: Vec<Role> = members.iter().map(Member::role).collect();
            let leads = members.iter().find(|member| member.role().leads());
            if let Some(leads) = leads {
                let follow = |role: &Role| match role {
                    Role::Following { leader, .. } => *leader == leads.id,
                    Role::Leading { .. } => true,
                    Role::Looking => false,
                };
                if roles.iter().all(follow) {
                    return leads.id;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let Ok(leader) = timeout(PATIENCE, agreed).await else {
        tell(members);
        panic!("nobody leads in time, or not all know");
    };
    leader
}

fn take(members: &mut Vec<Member>, id: u8) -> Member {
    let at = members.iter().position(|member| member.id == id).unwrap();
    members.remove(at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_empty_servers_become_one_ensemble_in_whatever_order_they_start() {
    for order in [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    ] {
        let world = World::new(&THREE);
        let mut starting = Vec::new();
        for (at, &id) in order.iter().enumerate() {
            if at == 2 {
                // The first two have asked each other by then, and found nothing.
                tokio::time::sleep(Duration::from_millis(150)).await;
                assert!(
                    starting
                        .iter()
                        .all(|start: &JoinHandle<_>| !start.is_finished())
                );
            }
            starting.push(world.start(id));
        }
        let mut members = Vec::new();
        for start in starting {
            members.push(up(start).await);
        }
        for member in &members {
            member.serves().await;
            member.voters(&[1, 2, 3]).await;
        }
        assert_eq!(
            leader(&members).await,
            1,
            "the founder leads, order {order:?}"
        );
        assert!(members.iter().all(|member| {
            let started = member.judge.started.load(Ordering::SeqCst);
            (started > 0) == (member.id == 1)
        }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_joins_without_a_vote() {
    let world = World::new(&[Kind::Participant, Kind::Participant, Kind::Observer]);
    let members = world.start_all(&[3, 2, 1]).await;
    for member in &members {
        member.serves().await;
        member.voters(&[1, 2]).await;
    }
    assert_eq!(members[2].member_ids().len(), 3);
    assert!(matches!(members[2].role(), Role::Following { .. }));
}

/// One wiped and one stopped: the wiped one is empty, and there is no quorum of those who hold
/// the data. With the quorum back it is a new member, and its old id has no vote any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_waits_for_the_quorum_and_comes_back_as_another_member() {
    let world = World::new(&THREE);
    let mut members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.voters(&[1, 2, 3]).await;
    }
    let wiped = take(&mut members, 3);
    let old = wiped.node();
    world.kill(wiped).await;
    let stopped = take(&mut members, 2);
    world.kill(stopped).await;
    world.wipe(3);
    let waiting = world.start(3);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!waiting.is_finished(), "it must wait for server 2");

    members.push(up(world.start(2)).await);
    members.push(up(waiting).await);
    let new = members.last().unwrap();
    new.serves().await;
    assert_ne!(new.node(), old);
    assert_eq!(server_of(new.node()), 3);
    let (raft, node) = (&new.replication.raft, new.node());
    let swapped = |metrics: &openraft::RaftMetrics<_>| {
        let membership = metrics.committed_membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        voters.contains(&node) && membership.get_node(&old).is_none()
    };
    let waited = raft.wait(Some(PATIENCE)).metrics(swapped, "swapped").await;
    waited.expect("the new id votes and the old one is gone");
    new.voters(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_with_the_number_of_a_member_is_refused() {
    let world = World::new(&THREE);
    let mut members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.voters(&[1, 2, 3]).await;
    }
    let leads = leader(&members).await;
    let at = members
        .iter()
        .position(|member| member.id == leads)
        .unwrap();
    let desk = members[at].replication.desk.clone().unwrap();
    let identity = desk_identity(&members[at]);
    let raft = members[at].replication.raft.clone();
    let other = if leads == 3 { 2 } else { 3 };
    let answer = super::admit::admit(&desk, &identity, &raft, other).await;
    let super::Message::Refused(why) = answer.unwrap_err() else {
        panic!("it must be refused");
    };
    assert!(
        why.contains(&format!("two servers with number {other}")),
        "{why}"
    );
    let unlisted = super::admit::admit(&desk, &identity, &raft, 9).await;
    let super::Message::Refused(why) = unlisted.unwrap_err() else {
        panic!("it must be refused");
    };
    assert!(why.contains("server 9 is not in the list"), "{why}");
    drop(raft);
    for member in members.drain(..) {
        world.kill(member).await;
    }
}

fn desk_identity(member: &Member) -> crate::replication::identity::Identity {
    crate::replication::identity::Identity::found(member.node(), None)
}

/// Each write and sync of the founder's and of a joiner's disk is the last one, in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_at_any_step_of_the_first_boot_only_delays_it() {
    for victim in [1, 2] {
        for step in (0..40).step_by(3) {
            let world = World::new(&THREE);
            world.disk(victim).cut_after(step);
            let starting: Vec<_> = [1, 2, 3].map(|id| (id, world.start(id))).into();
            let mut members: Vec<Member> = Vec::new();
            let mut waiting = Vec::new();
            for (id, start) in starting {
                if id == victim {
                    let mut start = start;
                    let failed = match timeout(Duration::from_millis(700), &mut start).await {
                        Ok(Ok(Ok(member))) => {
                            let mut health = member.replication.health();
                            let ended = health
                                .wait_for(|health| *health != crate::replication::Health::Serving);
                            let _ = timeout(Duration::from_millis(300), ended).await;
                            Some(member)
                        }
                        Ok(_) => None,
                        Err(_) => {
                            start.abort();
                            None
                        }
                    };
                    drop(failed);
                    world.silence(victim).await;
                } else {
                    waiting.push(start);
                }
            }
            let seed = step * 7 + u64::from(victim);
            world.set_disk(victim, world.disk(victim).crash(seed));
            let again = world.start(victim);
            let all = std::iter::once(again).chain(waiting);
            for (at, start) in all.enumerate() {
                let start = timeout(PATIENCE, start).await;
                let start = start.unwrap_or_else(|_| {
                    tell(&members);
                    panic!("start {at} hangs: victim {victim}, step {step}")
                });
                members.push(start.unwrap().unwrap());
            }
            let whole = async {
                for member in &members {
                    member.serves().await;
                    member.voters(&[1, 2, 3]).await;
                }
            };
            if timeout(PATIENCE / 2, whole).await.is_err() {
                tell(&members);
                panic!("no ensemble of three: victim {victim}, step {step}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_at_once_when_nobody_listens_in_its_place() {
    let world = World::new(&THREE);
    let mut members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.serves().await;
        member.voters(&[1, 2, 3]).await;
    }
    let killed = leader(&members).await;
    // The sentinels need a moment to have their links.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let gone = take(&mut members, killed);
    let began = world.clock.monotonic();
    world.kill(gone).await;
    let next = leader(&members).await;
    let took = world.clock.monotonic() - began;
    assert_ne!(next, killed);
    // The lease alone is 300 ms, and no ordinary election begins before its end.
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_others_hear_is_not_deposed_by_one_bad_link() {
    let world = World::new(&THREE);
    let members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.serves().await;
        member.voters(&[1, 2, 3]).await;
    }
    let leads = leader(&members).await;
    let other = if leads == 3 { 2 } else { 3 };
    let term = members[0].replication.term();
    world.hub.cut(leads, other);
    tokio::time::sleep(Duration::from_millis(900)).await;
    world.hub.heal_all();
    assert_eq!(leader(&members).await, leads);
    assert_eq!(members[0].replication.term(), term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_hands_the_leadership_over() {
    let world = World::new(&THREE);
    let mut members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.voters(&[1, 2, 3]).await;
    }
    let leads = leader(&members).await;
    let leaving = take(&mut members, leads);
    let began = world.clock.monotonic();
    leaving.replication.hand_over().await;
    let took = world.clock.monotonic() - began;
    assert!(!leaving.role().leads());
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_ne!(leader(&members).await, leads);
}

/// R18: alone, a leader keeps its role and loses its lease; healed, its judge starts over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_lease_is_counted_and_the_judge_starts_over() {
    let world = World::new(&THREE);
    let members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.serves().await;
        member.voters(&[1, 2, 3]).await;
    }
    let at = usize::from(leader(&members).await) - 1;
    let lease = members[at].replication.lease().clone();
    let held = async {
        while !lease.valid() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, held).await.unwrap();
    let (gaps, term) = (lease.gaps(), members[at].replication.term());
    let started = members[at].judge.started.load(Ordering::SeqCst);
    for one in 1..=3 {
        for other in 1..one {
            world.hub.cut(one, other);
        }
    }
    let lost = async {
        while lease.valid() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, lost).await.unwrap();
    world.hub.heal_all();
    // Whoever leads now: the same one after a gap, or another from the start.
    let again = async {
        loop {
            let holds = |member: &&Member| member.replication.lease().valid();
            if let Some(member) = members.iter().find(holds) {
                return member;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let leads = timeout(PATIENCE, again).await.unwrap();
    let judge = leads.judge.started.load(Ordering::SeqCst);
    if leads.id == members[at].id && leads.replication.term() == term {
        assert!(leads.replication.lease().gaps() > gaps);
    }
    assert!(
        judge
            > if leads.id == members[at].id {
                started
            } else {
                0
            }
    );
}

#[tokio::test]
async fn a_server_that_is_not_listed_does_not_start() {
    let world = World::new(&THREE);
    world.disks.lock().push(SimDisk::new());
    let refused = world.start(4).await.unwrap().map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, StartError::NotListed { server: 4 }),
        "{refused}"
    );
}

/// The file is the operator's word for one start: it must not found anything a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_with_the_marker_founds_and_the_marker_is_gone() {
    let world = World::new(&THREE);
    for id in [1, 2] {
        let disk = world.disk(id);
        disk.create_dir_all(&World::data_dir(id)).unwrap();
        disk.create(&World::data_dir(id).join("initialize"))
            .unwrap();
    }
    let members = world.start_all(&[2, 1]).await;
    for member in &members {
        member.serves().await;
        let marker = World::data_dir(member.id).join("initialize");
        assert!(world.disk(member.id).open(Path::new(&marker)).is_err());
    }
}

/// What the log does not tell must be sent: the founder's imported tree reaches everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_with_zookeepers_data_founds_and_the_others_get_its_tree() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("version-2");
    std::fs::create_dir(&theirs).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/zk-datadir/standalone/version-2");
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), theirs.join(entry.file_name())).unwrap();
    }
    let mut world = World::new(&THREE);
    world.data_dirs.insert(2, dir.path().to_owned());
    let members = world.start_all(&[1, 2, 3]).await;
    for member in &members {
        member.serves().await;
        member.voters(&[1, 2, 3]).await;
    }
    assert_eq!(leader(&members).await, 2);
    let nodes = |member: &Member| member.replication.state().tree().node_count();
    let digest = |member: &Member| member.replication.state().tree().digest();
    assert!(nodes(&members[1]) > 5);
    for member in &members {
        assert_eq!(nodes(member), nodes(&members[1]), "server {}", member.id);
        assert_eq!(digest(member), digest(&members[1]), "server {}", member.id);
    }
}

/// A server on its own that was a member for long enough to take note of it; it is down.
async fn former_member() -> World {
    let world = World::new(&[Kind::Participant]);
    let member = up(world.start(1)).await;
    member.serves().await;
    let mark = World::data_dir(1).join("quorate/joined");
    let marked = async {
        while world.disk(1).open(&mark).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, marked).await.expect("marked in time");
    world.kill(member).await;
    world
}

/// Without the others nobody knows what was acknowledged: a standalone server, or an export, would
/// wait for ever for votes, or leave something out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_member_are_not_opened_without_the_others() {
    let world = former_member().await;
    for ensemble in [None, Some(ensemble(1, &world.kinds))] {
        let config = Config {
            my_id: 1,
            data_dir: World::data_dir(1),
            ensemble,
            ..Config::default()
        };
        let started = Replication::start(
            &config,
            Arc::new(world.disk(1)),
            world.clock.clone(),
            Arc::new(Metrics::default()),
            |_| Box::new(Recorder::default()),
            Arc::<CountingJudge>::default(),
            None,
            Handle::current(),
        );
        let refused = started.await.map(|_| ()).unwrap_err();
        assert!(
            matches!(refused, StartError::MemberAlone { .. }),
            "{refused}"
        );
    }
}

/// The identity says that this server once acknowledged what the log held: without the log it
/// could vote that away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_log_alone_does_not_start() {
    let world = former_member().await;
    let log = World::data_dir(1).join("quorate");
    let disk = world.disk(1);
    for file in disk.list(&log).unwrap() {
        if file.name.ends_with(".wal") {
            disk.remove(&log.join(file.name)).unwrap();
        }
    }
    let refused = world.start(1).await.unwrap().map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, StartError::LogMissing { .. }),
        "{refused}"
    );
}
