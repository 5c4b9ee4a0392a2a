//! A whole server in the test's process.

mod power;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_proto::SessionId;
use tempfile::TempDir;

use crate::clock::{ManualClock, SharedClock, SystemClock};
use crate::config::Config;
use crate::disk::SharedDisk;
use crate::disk::real::RealDisk;
use crate::disk::sim::SimDisk;
use crate::node::{NoSession, Server, StartError};
use crate::replication::SnapshotFailed;

/// A server in this process.
///
/// It keeps its address over [`TestServer::restart`] and [`TestServer::kill`], so that clients
/// find it again. Dropped, it is gone, and so is its data.
///
/// ```
/// # async fn run() {
/// use quorate_server::testing::TestServer;
///
/// let server = TestServer::start().await;
/// let connect_to = server.connect_string(); // "127.0.0.1:49321"
/// # let _ = connect_to;
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run());
/// ```
pub struct TestServer {
    config: Config,
    storage: Storage,
    address: SocketAddr,
    /// `None`: that of the operating system.
    clock: Option<Arc<ManualClock>>,
    server: Option<Server>,
}

/// How a [`TestServer`] is to be.
#[derive(Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct TestServerBuilder {
    config: Config,
    directory: Option<PathBuf>,
    in_directory: bool,
    is_time_manual: bool,
}

enum Storage {
    /// Gone with the server; a kill loses what was not synced.
    Memory(Arc<SimDisk>),
    /// A directory of the test's own making, or a temporary one.
    Directory { _temporary: Option<TempDir> },
}

impl TestServerBuilder {
    /// Changes the configuration. The address stays the test server's own.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> TestServerBuilder {
        change(&mut self.config);
        self
    }

    /// Lets time stand still until [`TestServer::advance`]. Sessions end, and containers and TTL
    /// znodes are reaped, when they are over by that clock **and** [`TestServer::expire_overdue`]
    /// or [`TestServer::reap`] looks.
    pub fn manual_time(mut self) -> TestServerBuilder {
        self.is_time_manual = true;
        self
    }

    /// Keeps the data in a temporary directory instead of memory.
    pub fn on_disk(mut self) -> TestServerBuilder {
        self.in_directory = true;
        self
    }

    /// Keeps the data in this directory, which stays.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> TestServerBuilder {
        self.directory = Some(directory.into());
        self.in_directory = true;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// [`StartError`] if it does not come up.
    #[expect(clippy::missing_panics_doc, reason = "the address is set here")]
    pub async fn try_start(mut self) -> Result<TestServer, StartError> {
        self.config.client_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let storage = if self.in_directory {
            let mut temporary = None;
            self.config.data_dir = match self.directory {
                Some(directory) => directory,
                None => temporary
                    .insert(tempfile::tempdir().map_err(StartError::Runtime)?)
                    .path()
                    .to_owned(),
            };
            Storage::Directory {
                _temporary: temporary,
            }
        } else {
            self.config.data_dir = PathBuf::from("/memory");
            Storage::Memory(Arc::new(SimDisk::new()))
        };
        let clock = self.is_time_manual.then(|| {
            let clock = ManualClock::default();
            // 2001-09-09: any day that looks like one.
            clock.set_wall_ms(1_000_000_000_000);
            Arc::new(clock)
        });
        let server = start(&self.config, &storage, clock.as_ref()).await?;
        let address = server.client_addr().expect("an address was configured");
        self.config.client_addr = Some(address);
        Ok(TestServer {
            config: self.config,
            storage,
            address,
            clock,
            server: Some(server),
        })
    }

    /// Starts the server.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(self) -> TestServer {
        self.try_start().await.expect("a test server starts")
    }
}

impl std::fmt::Debug for TestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestServer")
            .field("addr", &self.address)
            .finish_non_exhaustive()
    }
}

impl TestServer {
    /// A server in memory with the default configuration, ready to serve.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start() -> TestServer {
        TestServer::builder().start().await
    }

    /// To start one that differs.
    pub fn builder() -> TestServerBuilder {
        TestServerBuilder {
            config: Config {
                // Tests open what they like.
                max_client_cnxns: 0,
                ..Config::default()
            },
            directory: None,
            in_directory: false,
            is_time_manual: false,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The same, as clients write it.
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// Its data directory; meaningless for a server in memory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// Stops the server in order. It can be started again with [`TestServer::restart`].
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Stops the server, if it runs, and starts it on the same data and address.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Ends the server as `kill -9` would and starts it again: what it had written is there,
    /// synced or not, and what it had not is gone. A disk in memory is whole again.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn kill(&mut self) {
        if let Storage::Memory(disk) = &mut self.storage {
            // From here on the dying server writes to a disk that nobody will read.
            let dying = std::mem::replace(disk, Arc::new(disk.kill()));
            dying.cut_after(0);
            dying.resume_syncs();
        }
        // Its threads end by themselves; a directory is free when its lock is.
        self.stop().await;
        self.start_again().await;
    }

    /// Ends a session as if its client had been silent for its timeout, and returns when its
    /// ephemerals are gone and its connection is closed.
    ///
    /// # Errors
    /// [`NoSession`] if there is none, or the server is stopped.
    pub async fn expire_session(&self, session: SessionId) -> Result<(), NoSession> {
        match &self.server {
            Some(server) => server.expire(session).await,
            None => Err(NoSession { session }),
        }
    }

    /// Lets time pass: on the server's clock, and nothing else happens.
    ///
    /// # Panics
    /// If the server is not one of [manual time](TestServerBuilder::manual_time).
    pub fn advance(&self, time: Duration) {
        let clock = self.clock.as_ref().expect("the server's time is manual");
        clock.advance(time);
    }

    /// Ends the sessions that are over by the server's clock, and returns when their ephemerals are
    /// gone: which. A stopped server ends none.
    pub async fn expire_overdue(&self) -> Vec<SessionId> {
        match &self.server {
            Some(server) => server.expire_overdue().await,
            None => Vec::new(),
        }
    }

    /// Removes the containers and TTL znodes that are over by the server's clock, and returns when
    /// that is applied: how many were due. A stopped server removes none.
    pub async fn reap(&self) -> usize {
        let never_used = self.config.container_max_never_used;
        let never_used_ms = never_used.and_then(|time| i64::try_from(time.as_millis()).ok());
        match &self.server {
            Some(server) => server.reap(never_used_ms).await,
            None => 0,
        }
    }

    /// Changes the configuration of the next start. The address stays the test server's own.
    pub fn change_config(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.config.client_addr = Some(self.address);
    }

    /// Lets no sync of the disk in memory end until [`TestServer::resume_disk`]: writes stay
    /// unanswered, reads go on.
    ///
    /// # Panics
    /// If the data is in a directory.
    pub fn stall_disk(&self) {
        self.disk().stall_syncs();
    }

    /// Ends a stall.
    ///
    /// # Panics
    /// If the data is in a directory.
    pub fn resume_disk(&self) {
        self.disk().resume_syncs();
    }

    /// From now on the disk in memory has no room for another byte, until [`TestServer::kill`].
    ///
    /// # Panics
    /// If the data is in a directory.
    pub fn fill_disk(&self) {
        self.disk().set_space(Some(0));
    }

    /// The next sync of the disk in memory fails.
    ///
    /// # Panics
    /// If the data is in a directory.
    pub fn fail_disk(&self) {
        self.disk().fail_sync(1);
    }

    /// ZooKeeper's digest of the tree as last applied: the same for the same znodes.
    ///
    /// # Panics
    /// If the server is stopped.
    #[must_use]
    pub fn tree_digest(&self) -> u64 {
        let server = self.server.as_ref().expect("the server runs");
        server.tree_digest()
    }

    /// Writes a snapshot of what is applied now, unless there is one, and purges the log.
    ///
    /// # Errors
    /// [`SnapshotFailed`] if the server is stopped, or the file could not be written.
    pub async fn snapshot(&self) -> Result<(), SnapshotFailed> {
        match &self.server {
            Some(server) => server.snapshot().await,
            None => Err(SnapshotFailed::Stopped),
        }
    }

    fn disk(&self) -> &SimDisk {
        match &self.storage {
            Storage::Memory(disk) => disk,
            Storage::Directory { .. } => panic!("only a disk in memory has faults"),
        }
    }

    async fn start_again(&mut self) {
        let started = start(&self.config, &self.storage, self.clock.as_ref()).await;
        self.server = Some(started.expect("a test server starts again"));
    }
}

async fn start(
    config: &Config,
    storage: &Storage,
    clock: Option<&Arc<ManualClock>>,
) -> Result<Server, StartError> {
    let clock: SharedClock = match clock {
        Some(clock) => clock.clone(),
        None => SystemClock::shared(),
    };
    let disk: SharedDisk = match storage {
        Storage::Memory(disk) => disk.clone(),
        Storage::Directory { .. } => Arc::new(RealDisk),
    };
    // A port that was just ours may take a moment to be free of its last connections.
    let mut attempts = 0;
    loop {
        match Server::start_on(config.clone(), disk.clone(), clock.clone()).await {
            Err(StartError::Bind { .. }) if attempts < 50 => {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
}
