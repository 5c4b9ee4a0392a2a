//! What the four-letter words need to know of a server: the only door through which `admin` looks.
//!
//! Implemented where the parts are joined. Everything here is a view of a moment; the pieces of
//! one answer may be of slightly different moments.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use quorate_proto::{SessionId, Zxid};

use crate::config::Config;
use crate::metrics::{Metrics, SummaryView};

/// One server, as its four-letter words see it.
///
/// The `each_*` methods stop when the visitor breaks, so that a bounded answer costs bounded work.
pub(crate) trait ServerView {
    fn config(&self) -> &Config;
    fn metrics(&self) -> &Metrics;
    /// Whether requests are served: started, and able to answer from the tree.
    fn serving(&self) -> bool;
    fn uptime(&self) -> Duration;
    /// What this server is in its ensemble; `None` if it stands alone.
    fn ensemble(&self) -> Option<EnsembleView> {
        None
    }
    /// Every session of the ensemble with its timeout in milliseconds, in the order of their ids.
    fn session_timeouts(&self) -> Vec<(SessionId, i32)> {
        Vec::new()
    }
    /// Where clients connect in fact: the port is never 0.
    fn client_addr(&self) -> Option<SocketAddr>;
    fn tree(&self) -> TreeFacts;
    /// The connection that asks is one of them.
    fn each_connection(&self, visit: &mut dyn FnMut(&ConnectionRow) -> ControlFlow<()>);
    fn each_session(&self, visit: &mut dyn FnMut(&SessionRow) -> ControlFlow<()>);
    fn ephemerals_of(&self, session: SessionId) -> Vec<Arc<str>>;
    fn watches(&self) -> WatchFacts;
    /// Rows of one session follow each other.
    fn each_watch_by_session(&self, visit: &mut dyn FnMut(SessionId, &str) -> ControlFlow<()>);
    /// Rows of one path follow each other.
    fn each_watch_by_path(&self, visit: &mut dyn FnMut(&str, SessionId) -> ControlFlow<()>);
    /// The recorded digests of the tree, oldest first.
    fn digests(&self) -> Vec<(Zxid, u64)>;
    fn dir_sizes(&self) -> DirSizes;
    /// Why writes are refused for good; `None` while the disk does its duty.
    fn disk_failure(&self) -> Option<String>;
    fn process(&self) -> ProcessFacts;
    /// Zeroes what [`ConnectionRow`] counts, on every connection.
    fn reset_connection_stats(&self);
    /// Zeroes packets and latencies of the server.
    fn reset_server_stats(&self);
}

/// One server of an ensemble, at a moment in which it serves.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnsembleView {
    pub(crate) duty: Duty,
    /// Voters in force.
    pub(crate) quorum_size: u64,
    pub(crate) term: u64,
    /// The last entry that a quorum is known to have, and the last one applied here.
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    /// The members in force, as `/zookeeper/config` spells them, ending with `version=…`.
    pub(crate) members: String,
    /// Milliseconds from a leader's loss to the next one's presence, as this server saw them.
    pub(crate) elections: SummaryView,
}

/// What a server of an ensemble does.
#[derive(Clone, Debug, Default)]
pub(crate) enum Duty {
    Leads(Leading),
    #[default]
    Follows,
    Observes {
        /// The number of the leader.
        leader: u8,
    },
}

/// What only a leader knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leading {
    /// Since it leads.
    pub(crate) uptime: Duration,
    /// All others, this server left out.
    pub(crate) peers: Vec<PeerRow>,
    /// Entries proposed and not yet committed.
    pub(crate) pending: u64,
}

/// Another server, as its leader sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerRow {
    /// Its number.
    pub(crate) id: u8,
    pub(crate) votes: bool,
    /// Heard lately, and not far behind.
    pub(crate) synced: bool,
    /// Entries that it is behind; `None` if nothing was heard of it.
    pub(crate) lag: Option<u64>,
}

impl EnsembleView {
    /// As `srvr` and `mntr` call it.
    pub(crate) fn word(&self) -> &'static str {
        match self.duty {
            Duty::Leads(_) => "leader",
            Duty::Follows => "follower",
            Duty::Observes { .. } => "observer",
        }
    }
}

impl Leading {
    /// Connected servers that do or do not vote.
    pub(crate) fn synced(&self, votes: bool) -> u64 {
        let is = |peer: &&PeerRow| peer.votes == votes && peer.synced;
        self.peers.iter().filter(is).count() as u64
    }

    /// Servers of which something was heard.
    pub(crate) fn connected(&self) -> u64 {
        let heard = |peer: &&PeerRow| peer.lag.is_some();
        self.peers.iter().filter(heard).count() as u64
    }
}

/// The tree in figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TreeFacts {
    pub(crate) zxid: Zxid,
    pub(crate) znodes: u64,
    pub(crate) ephemerals: u64,
    pub(crate) approximate_data_size: u64,
}

/// One client connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionRow {
    pub(crate) peer: SocketAddr,
    /// 1 while the socket is read, 0 while it is not, 4 more while something waits to be written.
    pub(crate) interest_ops: u8,
    /// Requests that wait for their reply.
    pub(crate) queued: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// When it will be closed unless something arrives, milliseconds since 1970.
    pub(crate) expires_ms: i64,
    /// `None` before the connect request, and for a four-letter word.
    pub(crate) session: Option<ConnectedSession>,
}

/// What is known of a connection that has a session.
#[derive(Clone, Debug)]
pub(crate) struct ConnectedSession {
    pub(crate) id: SessionId,
    /// As [`op_label`] spells it.
    pub(crate) last_op: &'static str,
    /// Milliseconds since 1970.
    pub(crate) established_ms: i64,
    pub(crate) timeout_ms: i64,
    pub(crate) last_xid: i64,
    pub(crate) last_zxid: Zxid,
    /// Monotonic milliseconds of the last reply.
    pub(crate) last_reply_ms: u64,
    pub(crate) latency_last_ms: u64,
    pub(crate) latency_min_ms: u64,
    pub(crate) latency_avg_ms: u64,
    pub(crate) latency_max_ms: u64,
}

/// One session, connected here or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    /// When it ends unless it is heard of, milliseconds since 1970.
    pub(crate) expires_ms: i64,
}

/// The watches in figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WatchFacts {
    /// Connections that hold one at least.
    pub(crate) connections: u64,
    pub(crate) paths: u64,
    pub(crate) total: u64,
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirSizes {
    pub(crate) data: u64,
    pub(crate) log: u64,
}

/// The process and its host.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessFacts {
    pub(crate) open_files: u64,
    pub(crate) max_files: u64,
    pub(crate) host_name: String,
    pub(crate) user_name: String,
    pub(crate) user_home: String,
    pub(crate) user_dir: String,
    /// The kernel's release.
    pub(crate) os_version: String,
}

/// The label of an operation in `cons`.
///
/// Source: ZooKeeper, `FinalRequestProcessor`, variable `lastOp`.
pub(crate) fn op_label(op: i32) -> &'static str {
    match op {
        -11 => "CLOS",
        -10 => "SESS",
        1 | 15 | 19 | 21 => "CREA",
        2 | 20 => "DELE",
        3 => "EXIS",
        4 => "GETD",
        5 => "SETD",
        6 => "GETA",
        7 => "SETA",
        8 | 12 => "GETC",
        9 => "SYNC",
        11 => "PING",
        13 => "CHEC",
        14 => "MULT",
        16 => "RECO",
        17 => "CHKW",
        18 => "REMW",
        22 => "MLTR",
        101 => "SETW",
        103 => "GETE",
        104 => "GETACN",
        105 => "STW2",
        106 => "ADDW",
        107 => "HOMI",
        _ => "NA",
    }
}
