//! What an import may be told, what it tells, and why it may refuse.

use std::collections::BTreeSet;
use std::io;

use super::super::fault::FileFault;

/// What to do where ZooKeeper's settings decided.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Hold the tree against recorded digests. `digest.enabled`; default on.
    pub check_digest: bool,
    /// Load a log without any snapshot. `snapshot.trust.empty`; default off.
    pub trust_empty: bool,
    /// Owners that start with 0x80 are times to live, as 3.5.3 wrote them. `emulate353TTLNodes`;
    /// default off.
    pub emulate_353_ttl: bool,
    /// What becomes of the content of `/zookeeper/config`.
    pub config_node: ConfigNode,
    /// A znode whose path and data exceed this is reported. `jute.maxbuffer`, bytes.
    pub node_bytes_max: usize,
}

/// What becomes of the content of `/zookeeper/config`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigNode {
    /// Emptied, as a standalone server has it: clients that follow the list of the former
    /// ensemble would leave for servers that are gone.
    Standalone,
    /// Kept.
    Keep,
}

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        ImportOptions {
            check_digest: true,
            trust_empty: false,
            emulate_353_ttl: false,
            config_node: ConfigNode::Standalone,
            node_bytes_max: 0xf_ffff,
        }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// The zxid of the snapshot; `None`: there was none, and that was trusted.
    pub snapshot_zxid: Option<i64>,
    /// Newer snapshots that could not be read, with their causes.
    pub snapshots_skipped: Vec<String>,
    /// Transactions replayed from the log.
    pub txns_replayed: u64,
    /// The last zxid.
    pub last_zxid: i64,
    /// The epoch: `currentEpoch`, or what the last zxid tells.
    pub epoch: i64,
    /// Where the log ends in a half-written record: file and offset.
    pub torn_tail: Option<(String, u64)>,
    /// Zxids missing within an epoch: the last before, the first behind. The first few.
    pub zxid_gaps: Vec<(i64, i64)>,
    /// Znodes.
    pub nodes: u64,
    /// Sessions, each of which gets its full timeout again.
    pub sessions: u64,
    /// Ephemeral znodes kept.
    pub ephemerals: u64,
    /// Ephemeral znodes dropped, because their sessions are gone.
    pub orphaned_ephemerals: u64,
    /// Containers.
    pub containers: u64,
    /// Znodes with a time to live.
    pub ttl_nodes: u64,
    /// The tree digest.
    pub digest: u64,
    /// Recorded digests that were equal.
    pub digests_matched: u64,
    /// Recorded digests that were not, although a later one was again.
    pub digests_differed: u64,
    /// Schemes in access control lists that no server here knows. The first few.
    pub unknown_schemes: BTreeSet<String>,
    /// Znodes whose access control list was lost in the snapshot: only the super user gets in.
    pub lost_acls: u64,
    /// How many znodes are over the limit of a frame.
    pub oversize_nodes: u64,
    /// The first few of them.
    pub oversize_paths: Vec<String>,
    /// The configuration of the former ensemble was taken out of `/zookeeper/config`.
    pub config_emptied: bool,
}

/// The directory cannot be taken over. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The operating system said no.
    #[error("cannot read the ZooKeeper directory")]
    Io(#[from] io::Error),
    /// There is nothing.
    #[error("neither snapshot nor log of a ZooKeeper")]
    Nothing,
    /// There are transactions and nothing that they apply to.
    #[error(
        "a transaction log without any snapshot; if this server never wrote one \
         (before 3.5.3), set snapshot.trust.empty=true"
    )]
    NoSnapshot,
    /// Every snapshot is damaged.
    #[error("none of {tried} snapshots can be read; the newest says")]
    NoValidSnapshot {
        /// How many were tried.
        tried: usize,
        /// What is wrong with the newest.
        #[source]
        newest: FileFault,
    },
    /// A log file is damaged, elsewhere than at its torn end.
    #[error("the transaction log is damaged")]
    DamagedLog(#[source] FileFault),
    /// Only an older snapshot could be read, and the log does not lead from it to where the
    /// newer one was.
    #[error(
        "snapshot {lost:#x} cannot be read, and snapshot and log lead to {reached:#x} only: \
         transactions are missing"
    )]
    Missing {
        /// The zxid of the damaged snapshot.
        lost: i64,
        /// The last transaction there is.
        reached: i64,
        /// What is wrong with it.
        #[source]
        fault: FileFault,
    },
    /// The tree is not the one that ZooKeeper had.
    #[error(
        "tree digest {computed:#x} at {zxid:#x}, where ZooKeeper recorded {recorded:#x} \
         (digest.enabled=false loads it all the same)"
    )]
    Digest {
        /// Since which transaction.
        zxid: i64,
        /// Ours.
        computed: u64,
        /// ZooKeeper's.
        recorded: u64,
    },
    /// An owner marker that is no session, container or time to live.
    #[error("{path} has owner {owner:#x}, a type of znode that this server does not know")]
    UnknownType {
        /// The znode.
        path: String,
        /// Its owner marker.
        owner: i64,
    },
}
