//! One server: its parts built in order from a `Config`, and taken down in reverse.

mod aloof;
mod ask;
mod error;
mod export;
mod periodic;
mod porch;
mod runtimes;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::ask::Ask;
#[cfg(feature = "testing")]
pub use self::error::NoSession;
pub use self::error::{ServerFailed, StartError, StorageError, StorageTrouble};
pub use self::export::{ExportDataDirError, export_datadir};
#[cfg(feature = "testing")]
pub(crate) use self::runtimes::Paused;
use self::runtimes::Runtimes;
use self::view::View;
use crate::clock::{SharedClock, SystemClock};
use crate::config::Config;
use crate::connection::{PeerPort, Shared};
use crate::disk::SharedDisk;
use crate::disk::real::RealDisk;
use crate::listener::{self, Listener};
use crate::metrics::Metrics;
use crate::peers::{Peers, SharedNet, TcpNet};
use crate::pipeline::Pipeline;
#[cfg(feature = "testing")]
use crate::replication::Role;
use crate::replication::{Health, Replication, SharedLinks};
use crate::sessions::{Bounds, CloseReason, Delivery, Reports, Sessions};

/// How long a stop waits for connections to end by themselves.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A running server.
///
/// Dropping it stops it without ceremony, as a kill would: nothing acknowledged is lost. Prefer
/// [`Server::stop`].
pub struct Server {
    client_addr: Option<SocketAddr>,
    #[cfg(feature = "testing")]
    my_id: u8,
    #[cfg(feature = "testing")]
    clock: SharedClock,
    replication: Arc<Replication>,
    sessions: Arc<Sessions>,
    /// Of an ensemble.
    peers: Option<Arc<Peers>>,
    /// Stops accepting and everything that serves clients.
    stop: CancellationToken,
    tasks: TaskTracker,
    runtimes: Runtimes,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("client_addr", &self.client_addr)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server and returns when it serves clients.
    ///
    /// # Errors
    /// [`StartError`], which says what is in the way and has ZooKeeper's exit code for it.
    ///
    /// # Cancel safety
    /// Dropped in mid-start, the server does not come up; its data directory is as after a kill.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let disk: SharedDisk = Arc::new(RealDisk);
        Server::start_on(config, disk, SystemClock::shared()).await
    }

    pub(crate) async fn start_on(
        config: Config,
        disk: SharedDisk,
        clock: SharedClock,
    ) -> Result<Server, StartError> {
        Server::start_in(config, disk, clock, Arc::new(TcpNet)).await
    }

    /// Starts a server that reaches its peers through `net`.
    pub(crate) async fn start_in(
        config: Config,
        disk: SharedDisk,
        clock: SharedClock,
        net: SharedNet,
    ) -> Result<Server, StartError> {
        let runtimes = Runtimes::new().map_err(StartError::Runtime)?;
        let metrics = Arc::new(Metrics::default());
        // Bound before anything else: a port in use is the most common mistake, and the cheapest
        // to find. Nothing is accepted before the server can serve.
        let bound = match config.client_addr {
            None => None,
            Some(address) => {
                let _entered = runtimes.clients().enter();
                let listener = listener::bind(address, config.listen_backlog)
                    .map_err(|source| StartError::Bind { address, source })?;
                Some(listener)
            }
        };
        let client_addr = bound
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());

        let tick_ms = u64::try_from(config.tick_time.as_millis()).unwrap_or(u64::MAX);
        let boot = rand::random();
        let sessions = Sessions::new(config.my_id, boot, tick_ms, clock.clone(), metrics.clone());
        let peers = match &config.ensemble {
            None => None,
            Some(ensemble) => {
                let runtime = runtimes.raft().clone();
                let peers = Arc::new(Peers::new(config.my_id, ensemble, net, runtime));
                let listening = peers.listen(client_addr).await;
                listening.map_err(|source| StartError::BindPeers { source })?;
                Some(peers)
            }
        };
        let delivery = sessions.clone();
        let starting = Replication::start(
            &config,
            disk,
            clock.clone(),
            metrics.clone(),
            move |state| Box::new(Delivery::new(delivery, state)),
            sessions.clone(),
            peers.clone().map(|peers| peers as SharedLinks),
            runtimes.raft().clone(),
        );
        let early = porch::answer(bound.as_ref(), peers.as_ref(), &config, runtimes.clients());
        let replication = tokio::select! {
            started = starting => Arc::new(started?),
            () = early => unreachable!("the porch is left when the server has started"),
        };

        let pipeline = Pipeline::new(
            &config,
            replication.clone(),
            sessions.clone(),
            clock.clone(),
            metrics.clone(),
        );
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let view = View {
            config: config.clone(),
            client_addr,
            replication: replication.clone(),
            sessions: sessions.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            since: clock.monotonic(),
        };
        let shared = Arc::new(Shared {
            pipeline,
            words: Arc::new(view),
            clock: clock.clone(),
            sessionless_timeout: config.sessionless_timeout,
            peers: peers.clone().map(|peers| peers as Arc<dyn PeerPort>),
        });
        if let Some(bound) = bound {
            let listener = Listener::new(bound, &config, shared, sessions.clone(), metrics.clone());
            let accepting = listener.run(tasks.clone(), stop.clone());
            tasks.spawn_on(accepting, runtimes.clients());
        }
        let (queue, stopped) = (replication.queue().clone(), stop.clone());
        let gather = async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = queue.gather() => {}
            }
        };
        tasks.spawn_on(gather, runtimes.clients());
        if let Some((confirmer, bounds)) = replication.confirmer().zip(Bounds::of(&config)) {
            let confirm = Arc::new(Ask::new(confirmer.clone()));
            let reports = Reports::new(confirm, bounds, clock.clone());
            sessions.join_ensemble(reports.clone());
            let reporting = reports.run(sessions.clone(), stop.clone());
            tasks.spawn_on(reporting, runtimes.raft());
        }
        if config.leader_is_aloof() {
            let (role, tick) = (replication.role(), config.tick_time);
            let sending = aloof::send_clients_on(role, sessions.clone(), tick, stop.clone());
            tasks.spawn_on(sending, runtimes.clients());
        }
        let role = config.ensemble.as_ref().map(|_| replication.role());
        if !clock.is_manual() {
            let periodic =
                periodic::Periodic::new(&config, &replication, &sessions, &clock, role.clone());
            tasks.spawn_on(periodic.expire(stop.clone()), runtimes.raft());
            let reaper = periodic::Periodic::new(&config, &replication, &sessions, &clock, role);
            tasks.spawn_on(reaper.reap(stop.clone()), runtimes.raft());
        }
        let (health, waiting) = (replication.health(), sessions.clone());
        tasks.spawn_on(
            abandon_at_the_end(health, waiting, stop.clone()),
            runtimes.raft(),
        );
        Ok(Server {
            client_addr,
            #[cfg(feature = "testing")]
            my_id: config.my_id,
            #[cfg(feature = "testing")]
            clock,
            replication,
            sessions,
            peers,
            stop,
            tasks,
            runtimes,
        })
    }

    /// Where clients connect; `None` without a plain listener.
    #[must_use]
    pub fn client_addr(&self) -> Option<SocketAddr> {
        self.client_addr
    }

    /// Waits until the server cannot go on.
    ///
    /// A full or failing disk is not the end: reads go on, and writes are refused.
    ///
    /// # Errors
    /// Always [`ServerFailed`]: a server does not end by itself for a good reason.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn wait(&self) -> ServerFailed {
        end_of(self.replication.health()).await
    }

    /// Stops in order: no more connections, no more requests, then the log.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the rest stops as with a dropped [`Server`].
    pub async fn stop(self) {
        let Server {
            replication,
            sessions,
            peers,
            stop,
            tasks,
            runtimes,
            ..
        } = self;
        // First of all, while clients are still served: nobody needs to wait for an election.
        replication.hand_over().await;
        // In this order: a connection that opens its session meanwhile sees one or the other.
        stop.cancel();
        sessions.close_all(CloseReason::Shutdown);
        tasks.close();
        if tokio::time::timeout(STOP_PATIENCE, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("connections did not end in {STOP_PATIENCE:?}");
        }
        drop(sessions);
        replication.stop().await;
        if let Some(peers) = peers {
            peers.stop().await;
        }
        drop(runtimes);
    }

    /// Ends as a killed process does: nothing is finished, and all sockets close.
    #[cfg(feature = "testing")]
    pub(crate) async fn kill(self) {
        let Server {
            replication,
            sessions,
            peers,
            stop,
            tasks,
            runtimes,
            ..
        } = self;
        stop.cancel();
        drop((replication, sessions, peers, tasks));
        // Waits until no task makes a step any more.
        let ended = tokio::task::spawn_blocking(move || runtimes.end()).await;
        ended.expect("ending runtimes does not panic");
    }

    /// Stops every step of this server until the answer is dropped.
    #[cfg(feature = "testing")]
    pub(crate) fn pause(&self) -> Paused {
        self.runtimes.pause()
    }

    /// The term in which it leads, and its number.
    #[cfg(feature = "testing")]
    pub(crate) fn leads(&self) -> Option<(u64, u8)> {
        match *self.replication.role().borrow() {
            Role::Leading { term } => Some((term, self.my_id)),
            _ => None,
        }
    }

    /// The term in which it follows, and whom.
    #[cfg(feature = "testing")]
    pub(crate) fn follows(&self) -> Option<(u64, u8)> {
        match *self.replication.role().borrow() {
            Role::Following { leader, term } => Some((term, leader)),
            _ => None,
        }
    }

    /// Whether so many vote, and no change of that is under way, as far as this server knows.
    #[cfg(feature = "testing")]
    pub(crate) fn has_voters(&self, count: usize) -> bool {
        let standing = self.replication.standing();
        standing.settled && standing.voters == count
    }

    /// Whether clients get sessions here.
    #[cfg(feature = "testing")]
    pub(crate) fn serves(&self) -> bool {
        let now = self.clock.monotonic();
        *self.replication.serving().borrow() && self.sessions.is_fresh(now)
    }

    /// The digest of the tree as far as it is applied, with its zxid.
    #[cfg(feature = "testing")]
    pub(crate) fn applied_digest(&self) -> (i64, u64) {
        let state = self.replication.state();
        (state.settled_zxid().0, state.tree().digest())
    }

    /// The digest of the tree as far as it is applied.
    #[cfg(feature = "testing")]
    pub(crate) fn tree_digest(&self) -> u64 {
        self.replication.state().tree().digest()
    }

    /// Writes a snapshot now.
    #[cfg(feature = "testing")]
    pub(crate) async fn snapshot(&self) -> Result<(), crate::replication::SnapshotFailed> {
        self.replication.snapshot().await
    }

    /// Ends a session as if its client had been silent for its timeout, and returns when that is
    /// applied: its ephemerals are gone, its connection is closed.
    #[cfg(feature = "testing")]
    pub(crate) async fn expire(&self, session: quorate_proto::SessionId) -> Result<(), NoSession> {
        periodic::expire_now(&self.replication, &self.sessions, session).await
    }

    /// Ends the sessions that are over by the clock, and returns when that is applied: which.
    #[cfg(feature = "testing")]
    pub(crate) async fn expire_overdue(&self) -> Vec<quorate_proto::SessionId> {
        let mut ended = Vec::new();
        for overdue in self.sessions.overdue(self.replication.term()) {
            match self.expire(overdue.session).await {
                Ok(()) => ended.push(overdue.session),
                Err(_) => self.sessions.not_expired(overdue.session, overdue.judged),
            }
        }
        ended
    }

    /// Removes the containers and TTL znodes that are over by the clock, and returns when that is
    /// applied: how many were looked at.
    #[cfg(feature = "testing")]
    pub(crate) async fn reap(&self, never_used_ms: Option<i64>) -> usize {
        periodic::reap_now(&self.replication, self.clock.wall_ms(), never_used_ms).await
    }
}

/// Closes whoever waits for an outcome when the log takes no more.
///
/// Apply does so when it ends, but a request may be taken between that and the closing of the
/// queue: nobody would tell its client. This comes behind the closing.
async fn abandon_at_the_end(
    mut health: watch::Receiver<Health>,
    sessions: Arc<Sessions>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        // An error says that the watchdog is gone, and with it the log.
        _ = health.wait_for(|health| *health != Health::Serving) => sessions.abandon_writes(),
    }
}

/// Why the server cannot go on, as soon as it cannot.
async fn end_of(mut health: watch::Receiver<Health>) -> ServerFailed {
    loop {
        if let Health::Broken { cause } = &*health.borrow_and_update() {
            return ServerFailed {
                cause: cause.clone(),
            };
        }
        if health.changed().await.is_err() {
            break;
        }
    }
    // Nobody tells of health any more: replication has ended.
    if matches!(*health.borrow(), Health::DiskFailed { .. }) {
        std::future::pending::<()>().await;
    }
    ServerFailed {
        cause: "the log has stopped".into(),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// The process used to end with the task that reported the disk, and reads with it.
    #[test]
    fn a_failed_disk_is_not_the_end_and_a_broken_log_is() {
        let (told, health) = watch::channel(Health::Serving);
        let cause = String::from("no space left on device");
        told.send_replace(Health::DiskFailed { cause });
        drop(told);
        assert!(end_of(health).now_or_never().is_none());

        let (told, health) = watch::channel(Health::Serving);
        let cause = String::from("a hole");
        told.send_replace(Health::Broken { cause });
        drop(told);
        let failed = end_of(health).now_or_never();
        assert_eq!(failed.unwrap().cause, "a hole");
    }
}
