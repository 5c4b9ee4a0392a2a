//! What one server is told: plain data, checked once.

mod digest;
pub mod zoo_cfg;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use digest::digest_identity;
pub use zoo_cfg::{ClientAddress, PeerAddress, Role, ServerLine};

/// Everything a server needs to know before it starts.
///
/// Each field names the key of `zoo.cfg` that sets it. [`Config::default`] is the zero-config
/// server: loopback, `./quorate-data`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where clients connect. `clientPort`, `clientPortAddress`. `None`: no plain listener.
    pub client_addr: Option<SocketAddr>,
    /// Accept backlog; `None` = the system's. `clientPortListenBacklog`.
    pub listen_backlog: Option<u32>,
    /// Snapshots, and the identity of this server. `dataDir`.
    pub data_dir: PathBuf,
    /// The log; default: as `data_dir`. `dataLogDir`.
    pub data_log_dir: Option<PathBuf>,
    /// This server's number, 1..=255; standalone default 1. The `myid` file.
    pub my_id: u8,
    /// The other servers, and what this one is among them; `None` = it stands alone.
    pub ensemble: Option<Ensemble>,
    /// Base unit of session limits and of expiry. Default 3 s. `tickTime`, ms.
    pub tick_time: Duration,
    /// Least session timeout; default 2 ticks. `minSessionTimeout`, ms.
    pub min_session_timeout: Duration,
    /// Largest session timeout; default 20 ticks. `maxSessionTimeout`, ms.
    pub max_session_timeout: Duration,
    /// Connections per source address; 0 = unlimited. Default 60. `maxClientCnxns`.
    pub max_client_cnxns: u32,
    /// Connections in all; 0 = unlimited. Default 0. `maxCnxns`.
    pub max_cnxns: u32,
    /// Largest request frame, in bytes. Default 1 048 575. `jute.maxbuffer`.
    pub jute_max_buffer: usize,
    /// How long a socket may take to send its connect request. Default 10 s.
    /// `nio.sessionlessCnxnTimeout`, ms.
    pub sessionless_timeout: Duration,
    /// Requests in process above which connections with outstanding requests are not read.
    /// Default 1000. `globalOutstandingLimit`.
    pub global_outstanding_limit: u32,
    /// Requests over this many bytes share a budget; `None` = off. `largeRequestThreshold`.
    pub large_request_threshold: Option<usize>,
    /// That budget, in bytes. Default 100 MiB. `largeRequestMaxBytes`.
    pub large_request_max_bytes: usize,
    /// Snapshots to keep; at least 3. `autopurge.snapRetainCount`.
    pub snap_retain_count: usize,
    /// How often to purge; `None` = never. `autopurge.purgeInterval`, hours.
    pub purge_interval: Option<Duration>,
    /// Transactions between snapshots. Default 100 000. `snapCount`.
    pub snap_count: u64,
    /// Log bytes between snapshots. Default 4 GiB; 0 = off. `snapSizeLimitInKb`.
    pub snap_size_limit: u64,
    /// Warn about a slower log sync. Default 1 s. `fsync.warningthresholdms`.
    pub fsync_warning: Duration,
    /// `forceSync=no`: acknowledge without a sync. Data is lost on power failure.
    pub force_sync: bool,
    /// Skip every ACL check. `skipACL=yes`.
    pub skip_acl: bool,
    /// `user:base64(sha1(user:password))` of the super user.
    /// `DigestAuthenticationProvider.superDigest`.
    pub super_digest: Option<String>,
    /// Whether the digest scheme exists. `DigestAuthenticationProvider.enabled`.
    pub digest_auth: bool,
    /// Hash of the digest scheme. `DigestAuthenticationProvider.digestAlg`.
    pub digest_algorithm: DigestAlgorithm,
    /// Users of SASL DIGEST-MD5; empty = SASL is not configured. The JAAS section `Server` of
    /// `java.security.auth.login.config`.
    pub sasl_users: Vec<SaslUser>,
    /// Whether the `sasl` scheme may be used in ACLs. `authProvider.N` naming the SASL provider.
    pub sasl_provider: bool,
    /// A SASL id that passes every check. `superUser`.
    pub sasl_super_user: Option<String>,
    /// Go on unauthenticated after a failed SASL exchange. `allowSaslFailedClients`.
    pub allow_sasl_failed_clients: bool,
    /// Schemes of which a connection must hold an identity before any request; empty = off.
    /// `enforce.auth.enabled` + `enforce.auth.schemes`, `sessionRequireClientSASLAuth`.
    pub enforce_auth_schemes: Vec<String>,
    /// The name that scheme `ensemble` asks for. `ensembleAuthName`.
    pub ensemble_auth_name: Option<String>,
    /// TTL znodes. Default on. `extendedTypesEnabled`.
    pub extended_types: bool,
    /// Refuse what exceeds a hard quota. `enforceQuota`.
    pub enforce_quota: bool,
    /// How often empty containers and stale TTL znodes are looked for. Default 60 s.
    /// `znode.container.checkIntervalMs`.
    pub container_check_interval: Duration,
    /// Most deletions per minute by that search. Default 10 000. `znode.container.maxPerMinute`.
    pub container_max_per_minute: u32,
    /// Delete a container that never had a child after this; `None` = never.
    /// `znode.container.maxNeverUsedIntervalMs`.
    pub container_max_never_used: Option<Duration>,
    /// Whether `reconfig` is allowed at all. `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// Four-letter words that are answered; `srvr` always is. `4lw.commands.whitelist`.
    pub four_letter_words: FourLetterWords,
    /// Keep and check ZooKeeper's tree digest. `digest.enabled`.
    pub digest_enabled: bool,
    /// Load a log without any snapshot when importing. `snapshot.trust.empty`.
    pub snapshot_trust_empty: bool,
    /// Read TTL owners as ZooKeeper 3.5.3 wrote them. `emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// Make missing data directories. `datadir.autocreate`.
    pub data_dir_autocreate: bool,
    /// TCP keep-alive on client sockets. `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// The token bucket of connect requests; `None` = off. `connection_throttle_*`.
    pub connection_throttle: Option<ConnectionThrottle>,
    /// The request throttle; `None` = off. `request_throttle_*`.
    pub request_throttle: Option<RequestThrottle>,
    /// Answer -127 to requests that waited longer; `None` = off. `throttled_op_wait_time`, ms.
    pub throttled_op_wait: Option<Duration>,
}

/// An ensemble as its configuration lists it.
///
/// The list founds the ensemble and says where its servers are reached; who belongs to it from
/// then on stands in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ensemble {
    /// All servers, this one among them, in the order of their numbers. `server.N`.
    pub servers: Vec<ServerLine>,
    /// What this server is. Its line in the list, not `peerType`.
    pub role: Role,
    /// How long a server may take to reach the leader and its state. Default 10 ticks. `initLimit`.
    pub init_limit: Duration,
    /// How long a server may be without news of the leader before it closes its clients, at
    /// most. Default 5 ticks. `syncLimit`.
    pub sync_limit: Duration,
    /// Listen for peers on all interfaces. `quorumListenOnAllIPs`.
    pub listen_everywhere: bool,
    /// Pause between two heartbeats of the leader. Default 50 ms. `quorate.heartbeatMs`.
    pub heartbeat: Duration,
    /// Least time without a heartbeat before an election, on top of the leader's lease, which is
    /// `election_max`. Default 150 ms. `quorate.electionTimeoutMinMs`.
    pub election_min: Duration,
    /// Largest such time, and the lease. Default 300 ms. `quorate.electionTimeoutMaxMs`.
    pub election_max: Duration,
    /// Have a quorum prove that each read is current. A session can ask for the other.
    /// Default false. `quorate.linearizableReads`.
    pub linearizable_reads: bool,
    /// A leader takes clients. Default true. `leaderServes`.
    pub leader_serves: bool,
    /// Whose word an ensemble is founded on. Default all. `quorate.firstBoot`.
    pub first_boot: FirstBoot,
}

/// How many voters of the list must say that they are empty before one of them founds an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirstBoot {
    /// All, or a majority whose members all carry the marker file `initialize`.
    All,
    /// A majority, as in ZooKeeper. One server that lost its disk and one that was never started
    /// are a majority of three: they would found an ensemble without the data of the third.
    Majority,
}

impl Config {
    /// Whether this server takes no clients while it leads. One that is alone in its list would
    /// serve nobody.
    pub(crate) fn leader_is_aloof(&self) -> bool {
        let ensemble = self.ensemble.as_ref();
        ensemble.is_some_and(|ensemble| !ensemble.leader_serves && ensemble.servers.len() > 1)
    }
}

impl Ensemble {
    /// An ensemble of these servers with the default times, `role` being that of this server.
    #[must_use]
    pub fn new(mut servers: Vec<ServerLine>, role: Role, tick: Duration) -> Ensemble {
        servers.sort_by_key(|line| line.id);
        Ensemble {
            servers,
            role,
            init_limit: tick * 10,
            sync_limit: tick * 5,
            listen_everywhere: false,
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            linearizable_reads: false,
            leader_serves: true,
            first_boot: FirstBoot::All,
        }
    }

    /// How long a server may be without news of the leader before it closes its clients: the
    /// leader must not give up a session while its client still trusts it.
    #[must_use]
    pub fn patience(&self, config: &Config) -> Duration {
        let half = config.min_session_timeout / 2;
        config.tick_time.min(self.sync_limit).min(half)
    }

    /// The canonical text of the list, as `/zookeeper/config` and `conf` show it.
    #[must_use]
    pub fn text(&self, version: u64) -> String {
        use std::fmt::Write as _;

        let mut text = String::new();
        for line in &self.servers {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{line}");
        }
        let _ = write!(text, "version={version:x}");
        text
    }

    /// The same of the members in force, of which `role_of` knows: who is listed and is none is
    /// left out.
    pub(crate) fn text_in_force(&self, role_of: impl Fn(u8) -> Option<Role>) -> String {
        let in_force = |line: &ServerLine| {
            let role = role_of(line.id)?;
            Some(ServerLine {
                role,
                ..line.clone()
            })
        };
        let members = Ensemble {
            servers: self.servers.iter().filter_map(in_force).collect(),
            ..self.clone()
        };
        members.text(0)
    }

    /// The line of a server.
    #[must_use]
    pub fn server(&self, id: u8) -> Option<&ServerLine> {
        self.servers.iter().find(|line| line.id == id)
    }

    /// The numbers of those that vote.
    pub fn participants(&self) -> impl Iterator<Item = u8> {
        let voting = |line: &&ServerLine| line.role == Role::Participant;
        self.servers.iter().filter(voting).map(|line| line.id)
    }
}

/// The hash of the digest scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// ZooKeeper's default.
    Sha1,
    /// `SHA-256`.
    Sha256,
    /// `SHA-512`.
    Sha512,
}

/// A user of SASL DIGEST-MD5.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaslUser {
    /// Its name.
    pub name: String,
    /// Its password, as the JAAS file has it.
    pub password: String,
}

impl SaslUser {
    /// A user with a password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> SaslUser {
        SaslUser {
            name: name.into(),
            password: password.into(),
        }
    }
}

impl std::fmt::Debug for SaslUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SaslUser")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Which four-letter words are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FourLetterWords {
    /// `*`.
    All,
    /// These, and `srvr`.
    Listed(Vec<String>),
}

/// The token bucket in front of connect requests (ZooKeeper's `BlueThrottle`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectionThrottle {
    /// Size of the bucket. `connection_throttle_tokens`.
    pub tokens: u32,
    /// How often tokens come in. `connection_throttle_fill_time`, ms.
    pub fill_time: Duration,
    /// How many. `connection_throttle_fill_count`.
    pub fill_count: u32,
    /// How long the drop probability stands still; `None` = no probabilistic drop.
    /// `connection_throttle_freeze_time`, ms; -1 = none.
    pub freeze_time: Option<Duration>,
    /// `connection_throttle_drop_increase`.
    pub drop_increase: f64,
    /// `connection_throttle_drop_decrease`.
    pub drop_decrease: f64,
    /// `connection_throttle_decrease_ratio`.
    pub decrease_ratio: f64,
    /// Weigh new sessions 3 and renewals 2. `connection_throttle_weight_enabled`.
    pub weighted: bool,
}

/// ZooKeeper's defaults: no tokens, so that whoever wants a throttle says how many.
impl Default for ConnectionThrottle {
    fn default() -> Self {
        ConnectionThrottle {
            tokens: 0,
            fill_time: Duration::from_millis(1),
            fill_count: 1,
            freeze_time: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            weighted: false,
        }
    }
}

/// The stall in front of the request pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestThrottle {
    /// Requests in process. `request_throttle_max_requests`.
    pub max_requests: u32,
    /// How long one stall lasts. `request_throttle_stall_time`, ms.
    pub stall_time: Duration,
    /// Drop requests whose connection is gone. `request_throttle_drop_stale`.
    pub drop_stale: bool,
}

impl Default for Config {
    fn default() -> Self {
        let tick_time = Duration::from_secs(3);
        Config {
            client_addr: Some(SocketAddr::from(([127, 0, 0, 1], 2181))),
            listen_backlog: None,
            data_dir: PathBuf::from("quorate-data"),
            data_log_dir: None,
            my_id: 1,
            ensemble: None,
            tick_time,
            min_session_timeout: tick_time * 2,
            max_session_timeout: tick_time * 20,
            max_client_cnxns: 60,
            max_cnxns: 0,
            jute_max_buffer: 0xf_ffff,
            sessionless_timeout: Duration::from_secs(10),
            global_outstanding_limit: 1000,
            large_request_threshold: None,
            large_request_max_bytes: 100 * 1024 * 1024,
            snap_retain_count: 3,
            purge_interval: None,
            snap_count: 100_000,
            snap_size_limit: 4 * 1024 * 1024 * 1024,
            fsync_warning: Duration::from_secs(1),
            force_sync: true,
            skip_acl: false,
            super_digest: None,
            digest_auth: true,
            digest_algorithm: DigestAlgorithm::Sha1,
            sasl_users: Vec::new(),
            sasl_provider: false,
            sasl_super_user: None,
            allow_sasl_failed_clients: false,
            enforce_auth_schemes: Vec::new(),
            ensemble_auth_name: None,
            extended_types: true,
            enforce_quota: false,
            container_check_interval: Duration::from_secs(60),
            container_max_per_minute: 10_000,
            container_max_never_used: None,
            reconfig_enabled: false,
            four_letter_words: FourLetterWords::Listed(vec!["srvr".into()]),
            digest_enabled: true,
            snapshot_trust_empty: false,
            emulate_353_ttl: false,
            data_dir_autocreate: true,
            tcp_keep_alive: false,
            connection_throttle: None,
            request_throttle: None,
            throttled_op_wait: None,
        }
    }
}
