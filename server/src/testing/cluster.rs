//! A whole ensemble in the test's process.
//!
//! Each server has real storage (a simulated disk that a power failure tears, or a directory),
//! runtimes of its own, and reaches its peers through a switchboard that can be cut. Clients
//! connect over TCP; each server keeps its address for as long as the cluster lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_proto::SessionId;
use tempfile::TempDir;

use crate::clock::SystemClock;
use crate::config::{Config, Ensemble, PeerAddress, Role, ServerLine};
use crate::disk::SharedDisk;
use crate::disk::real::RealDisk;
use crate::disk::sim::SimDisk;
use crate::node::{NoSession, Paused, Server, StartError};
use crate::peers::Hub;

/// How long [`TestCluster::leader`] waits for one.
const LEADER_PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);
/// How often a port that was just ours is tried again.
const BIND_ATTEMPTS: u32 = 100;

/// An ensemble in this process. Dropped, it is gone, and so are its data.
///
/// Servers have the numbers 1, 2, 3 and on; participants come first, observers last.
///
/// ```
/// # async fn run() {
/// use quorate_server::testing::TestCluster;
///
/// let mut cluster = TestCluster::start(3).await;
/// let leader = cluster.leader().await;
/// cluster.kill(leader).await;
/// let next = cluster.leader().await;
/// assert_ne!(leader, next);
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run());
/// ```
pub struct TestCluster {
    hub: Hub,
    members: BTreeMap<u8, Member>,
}

struct Member {
    config: Config,
    storage: Storage,
    server: Option<Server>,
    paused: Option<Paused>,
}

enum Storage {
    Memory(Arc<SimDisk>),
    Directory { _temporary: TempDir },
}

/// What a test changes in the configuration of the server with this number.
type Change = Box<dyn Fn(u8, &mut Config)>;

/// How a [`TestCluster`] is to be.
#[must_use = "a builder does nothing until `start`"]
pub struct TestClusterBuilder {
    participants: u8,
    observers: u8,
    on_disk: bool,
    change: Change,
}

impl std::fmt::Debug for TestClusterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestClusterBuilder")
            .field("participants", &self.participants)
            .field("observers", &self.observers)
            .finish_non_exhaustive()
    }
}

impl TestClusterBuilder {
    /// Servers that vote. Default 3.
    pub fn participants(mut self, count: u8) -> TestClusterBuilder {
        self.participants = count;
        self
    }

    /// Servers that follow without a vote. Default none.
    pub fn observers(mut self, count: u8) -> TestClusterBuilder {
        self.observers = count;
        self
    }

    /// Keeps the data in temporary directories instead of memory.
    pub fn on_disk(mut self) -> TestClusterBuilder {
        self.on_disk = true;
        self
    }

    /// Changes the configuration of each server; it is told its number.
    pub fn config(mut self, change: impl Fn(u8, &mut Config) + 'static) -> TestClusterBuilder {
        self.change = Box::new(change);
        self
    }

    /// Starts all servers and returns when all of them serve.
    ///
    /// # Panics
    /// If one does not come up.
    pub async fn start(self) -> TestCluster {
        let mut cluster = TestCluster {
            hub: Hub::new(),
            members: BTreeMap::new(),
        };
        let count = self.participants + self.observers;
        let lines: Vec<ServerLine> = (1..=count)
            .map(|id| ServerLine {
                id,
                addresses: vec![address(id)],
                role: role(id, self.participants),
                role_written: true,
                client: None,
                secure_client: None,
            })
            .collect();
        for id in 1..=count {
            let mut config = Config {
                my_id: id,
                max_client_cnxns: 0,
                ..Config::default()
            };
            let role = role(id, self.participants);
            config.ensemble = Some(Ensemble::new(lines.clone(), role, config.tick_time));
            (self.change)(id, &mut config);
            config.client_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            let storage = if self.on_disk {
                let temporary = tempfile::tempdir().expect("a temporary directory");
                config.data_dir = temporary.path().to_owned();
                Storage::Directory {
                    _temporary: temporary,
                }
            } else {
                config.data_dir = PathBuf::from("/memory");
                Storage::Memory(Arc::new(SimDisk::new()))
            };
            let member = Member {
                config,
                storage,
                server: None,
                paused: None,
            };
            cluster.members.insert(id, member);
        }
        let every: Vec<u8> = cluster.members.keys().copied().collect();
        cluster.start_members(&every).await;
        cluster.serving(&every).await;
        // A majority of the voters serves already; a test may kill any of them at once.
        let voters = usize::from(self.participants);
        let all = cluster.until(|cluster| {
            let knows = |member: &Member| {
                let server = member.server.as_ref();
                server.is_some_and(|server| server.has_voters(voters))
            };
            cluster.members.values().all(knows).then_some(())
        });
        all.await.expect("all participants vote within 30 s");
        cluster
    }
}

fn role(id: u8, participants: u8) -> Role {
    if id <= participants {
        Role::Participant
    } else {
        Role::Observer
    }
}

fn address(id: u8) -> PeerAddress {
    PeerAddress {
        host: format!("server-{id}"),
        quorum_port: 2888,
        election_port: 3888,
    }
}

impl std::fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCluster")
            .field("servers", &self.members.keys())
            .finish_non_exhaustive()
    }
}

impl TestCluster {
    /// So many servers that vote, in memory, all serving.
    ///
    /// # Panics
    /// If one does not come up.
    pub async fn start(participants: u8) -> TestCluster {
        TestCluster::builder()
            .participants(participants)
            .start()
            .await
    }

    /// To start one that differs.
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder {
            participants: 3,
            observers: 0,
            on_disk: false,
            change: Box::new(|_, _| {}),
        }
    }

    /// The numbers of all servers, running or not.
    #[must_use]
    pub fn servers(&self) -> Vec<u8> {
        self.members.keys().copied().collect()
    }

    /// All client addresses, as clients write them.
    #[must_use]
    pub fn connect_string(&self) -> String {
        let addresses: Vec<String> = self
            .members
            .keys()
            .map(|&id| self.addr(id).to_string())
            .collect();
        addresses.join(",")
    }

    /// Where clients connect to one server.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn addr(&self, server: u8) -> SocketAddr {
        let address = self.member(server).config.client_addr;
        address.expect("set when it was started")
    }

    /// The number of the server that leads, once there is one that a majority follows.
    ///
    /// # Panics
    /// If there is none for 30 s.
    pub async fn leader(&self) -> u8 {
        let found = self.until(|cluster| cluster.leader_now());
        found.await.expect("a leader within 30 s")
    }

    /// The leader, once it is one of these, as behind a partition that took the old one away.
    ///
    /// # Panics
    /// If none of them leads for 30 s.
    pub async fn leader_among(&self, servers: &[u8]) -> u8 {
        let found = self.until(|cluster| cluster.leader_now().filter(|id| servers.contains(id)));
        found.await.expect("one of these leads within 30 s")
    }

    /// The server that leads at the moment, if one does.
    #[must_use]
    pub fn leader_now(&self) -> Option<u8> {
        let running = || {
            let paused = |member: &&Member| member.paused.is_none();
            self.members
                .values()
                .filter(paused)
                .filter_map(|m| m.server.as_ref())
        };
        let terms = running().filter_map(Server::leads).collect::<Vec<_>>();
        // One that was cut off may not know yet that it was deposed.
        let (term, leader) = terms.into_iter().max()?;
        let follow = running()
            .filter(|server| server.follows() == Some((term, leader)))
            .count();
        let voters = self.members.values().filter(|m| votes(m)).count();
        (follow + 1 > voters / 2).then_some(leader)
    }

    /// Returns when these servers serve clients.
    ///
    /// # Panics
    /// If they do not for 30 s.
    pub async fn serving(&self, servers: &[u8]) {
        let all = self.until(|cluster| {
            let serves = |id: &u8| {
                cluster
                    .member(*id)
                    .server
                    .as_ref()
                    .is_some_and(Server::serves)
            };
            servers.iter().all(serves).then_some(())
        });
        let waits = format!("servers {servers:?} serve within 30 s");
        all.await.expect(&waits);
    }

    /// Ends a server as `kill -9` would: what it had written is there, synced or not.
    ///
    /// # Panics
    /// If there is no such server.
    pub async fn kill(&mut self, server: u8) {
        let member = self.member_mut(server);
        if let Storage::Memory(disk) = &mut member.storage {
            let dying = std::mem::replace(disk, Arc::new(disk.kill()));
            dying.cut_after(0);
            dying.resume_syncs();
        }
        self.end(server).await;
    }

    /// Ends a server as a power failure would: of what it had not synced, the seed says what is
    /// left.
    ///
    /// # Panics
    /// If there is no such server, or its data is in a directory.
    pub async fn power_failure(&mut self, server: u8, seed: u64) {
        let member = self.member_mut(server);
        match &mut member.storage {
            Storage::Memory(disk) => {
                let dying = std::mem::replace(disk, Arc::new(disk.crash(seed)));
                dying.cut_after(0);
                dying.resume_syncs();
            }
            Storage::Directory { .. } => panic!("a directory has no power to fail"),
        }
        self.end(server).await;
    }

    /// The power of all servers fails at one moment, and they start again on what their disks
    /// kept; returns when all of them serve.
    ///
    /// # Errors
    /// Why a server does not start on what is left, as that of a disk that lies about syncs may be.
    ///
    /// # Panics
    /// If data is in directories, or the servers start and do not serve.
    pub async fn power_failure_of_all(&mut self, seed: u64) -> Result<(), String> {
        let mut dying = Vec::new();
        for member in self.members.values_mut() {
            match &mut member.storage {
                Storage::Memory(disk) => {
                    disk.cut_after(0);
                    dying.push(disk.clone());
                    *disk = Arc::new(disk.crash(seed));
                }
                Storage::Directory { .. } => panic!("a directory has no power to fail"),
            }
        }
        for disk in dying {
            disk.resume_syncs();
        }
        let every = self.servers();
        for &server in &every {
            self.end(server).await;
        }
        self.try_start_members(&every).await?;
        self.serving(&every).await;
        Ok(())
    }

    /// From now on a server's disk says of every sync that it is done, and does nothing: to prove
    /// that a test notices.
    ///
    /// # Panics
    /// If there is no such server, or its data is in a directory.
    pub fn break_syncs(&self, server: u8) {
        self.disk(server).lie_about_sync();
    }

    /// Stops a server in order: it hands over leadership first.
    ///
    /// # Panics
    /// If there is no such server.
    pub async fn stop(&mut self, server: u8) {
        let member = self.member_mut(server);
        member.paused = None;
        if let Some(server) = member.server.take() {
            server.stop().await;
        }
    }

    /// Starts a server that was killed or stopped, and returns when its part of the ensemble runs;
    /// use [`TestCluster::serving`] to wait until it serves.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn restart(&mut self, server: u8) {
        self.stop(server).await;
        self.start_members(&[server]).await;
    }

    /// Throws a server's data away; it must have been ended before.
    ///
    /// # Panics
    /// If there is no such server, it runs, or its data is in a directory.
    pub fn wipe(&mut self, server: u8) {
        let member = self.member_mut(server);
        assert!(member.server.is_none(), "server {server} runs");
        match &mut member.storage {
            Storage::Memory(disk) => *disk = Arc::new(SimDisk::new()),
            Storage::Directory { .. } => panic!("remove its directory instead"),
        }
    }

    /// Stops every step of a server, as `kill -STOP` would, until [`TestCluster::resume`].
    ///
    /// # Panics
    /// If there is no such server, or it does not run.
    pub fn pause(&mut self, server: u8) {
        let member = self.member_mut(server);
        let running = member.server.as_ref().expect("it runs");
        if member.paused.is_none() {
            member.paused = Some(running.pause());
        }
    }

    /// Ends a pause.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn resume(&mut self, server: u8) {
        self.member_mut(server).paused = None;
    }

    /// Cuts every link between servers of different groups, both ways. A server in no group is
    /// alone.
    pub fn partition(&self, groups: &[&[u8]]) {
        let group = |id: u8| groups.iter().position(|group| group.contains(&id));
        for a in self.servers() {
            for b in self.servers() {
                if a < b && (group(a).is_none() || group(a) != group(b)) {
                    self.hub.cut(a, b);
                }
            }
        }
    }

    /// Lets nothing through from one server to another; the other way stays open.
    pub fn cut_one_way(&self, from: u8, to: u8) {
        self.hub.cut_one_way(from, to);
    }

    /// Ends every cut and delay.
    pub fn heal(&self) {
        self.hub.heal_all();
    }

    /// Whatever goes from one server to another takes so long, until [`TestCluster::heal`].
    pub fn slow_link(&self, from: u8, to: u8, delay: Duration) {
        self.hub.delay(from, to, delay);
    }

    /// Each sync of a server's disk takes so long; zero ends it.
    ///
    /// # Panics
    /// If there is no such server, or its data is in a directory.
    pub fn slow_disk(&self, server: u8, each: Duration) {
        self.disk(server).slow_syncs(each);
    }

    /// Ends a session as if its client had been silent for its timeout, and returns when that is
    /// applied on the leader.
    ///
    /// # Errors
    /// [`NoSession`] if there is none.
    pub async fn expire(&self, session: SessionId) -> Result<(), NoSession> {
        let leader = self.leader().await;
        match &self.member(leader).server {
            Some(server) => server.expire(session).await,
            None => Err(NoSession { session }),
        }
    }

    /// ZooKeeper's digest of the tree as this server last applied it, with its zxid; `None` if it
    /// does not run.
    #[must_use]
    pub fn tree_digest(&self, server: u8) -> Option<(i64, u64)> {
        let running = self.member(server).server.as_ref()?;
        Some(running.applied_digest())
    }

    /// Returns when all running servers have applied the same, with the same digest.
    ///
    /// # Panics
    /// If they have not for 30 s: the digests that they have stand in the message.
    pub async fn converged(&self) {
        let digests = || -> Vec<_> {
            self.servers()
                .into_iter()
                .filter_map(|id| Some((id, self.tree_digest(id)?)))
                .collect()
        };
        let same = self.until(|_| {
            let digests = digests();
            let first = digests.first()?.1;
            digests.iter().all(|(_, d)| *d == first).then_some(())
        });
        if same.await.is_none() {
            panic!("replicas differ (server, (zxid, digest)): {:x?}", digests());
        }
    }

    /// Writes a snapshot on one server now, and purges its log.
    ///
    /// # Panics
    /// If it does not run, or cannot write one.
    pub async fn snapshot(&self, server: u8) {
        let running = self.member(server).server.as_ref().expect("it runs");
        running.snapshot().await.expect("a snapshot");
    }

    /// Changes the configuration of a server's next start. Its address stays.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn change_config(&mut self, server: u8, change: impl FnOnce(&mut Config)) {
        let member = self.member_mut(server);
        let address = member.config.client_addr;
        change(&mut member.config);
        member.config.client_addr = address;
    }

    fn member(&self, server: u8) -> &Member {
        self.members.get(&server).expect("a server of this cluster")
    }

    fn member_mut(&mut self, server: u8) -> &mut Member {
        let member = self.members.get_mut(&server);
        member.expect("a server of this cluster")
    }

    fn disk(&self, server: u8) -> &SimDisk {
        match &self.member(server).storage {
            Storage::Memory(disk) => disk,
            Storage::Directory { .. } => panic!("only a disk in memory has faults"),
        }
    }

    /// Drops a server without ceremony: its tasks end where they are.
    async fn end(&mut self, server: u8) {
        let member = self.member_mut(server);
        member.paused = None;
        if let Some(server) = member.server.take() {
            server.kill().await;
        }
    }

    /// Starts servers side by side: the first ones of all wait for each other.
    async fn start_members(&mut self, servers: &[u8]) {
        if let Err(why) = self.try_start_members(servers).await {
            panic!("{why}");
        }
    }

    async fn try_start_members(&mut self, servers: &[u8]) -> Result<(), String> {
        let starts = servers.iter().map(|&id| {
            let member = self.member(id);
            let disk: SharedDisk = match &member.storage {
                Storage::Memory(disk) => disk.clone(),
                Storage::Directory { .. } => Arc::new(RealDisk),
            };
            let (config, net) = (member.config.clone(), self.hub.net(id));
            async move {
                let mut attempts = 0;
                loop {
                    let clock = SystemClock::shared();
                    let started =
                        Server::start_in(config.clone(), disk.clone(), clock, net.clone());
                    match started.await {
                        Err(StartError::Bind { .. }) if attempts < BIND_ATTEMPTS => {
                            attempts += 1;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        outcome => return (id, outcome),
                    }
                }
            }
        });
        for (id, started) in futures::future::join_all(starts).await {
            let server = started.map_err(|error| format!("server {id}: {error}"))?;
            let member = self.member_mut(id);
            member.config.client_addr = server.client_addr();
            member.server = Some(server);
        }
        Ok(())
    }

    /// Looks until there is an answer, or patience ends.
    async fn until<T>(&self, look: impl Fn(&TestCluster) -> Option<T>) -> Option<T> {
        let looking = async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(LEADER_PATIENCE, looking).await.ok()
    }
}

fn votes(member: &Member) -> bool {
    let ensemble = member.config.ensemble.as_ref();
    ensemble.is_some_and(|ensemble| ensemble.role == Role::Participant)
}
