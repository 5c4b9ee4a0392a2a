//! Loads what a ZooKeeper left: the newest valid snapshot, then its log.
//!
//! Files are opened for reading only. A digest that ZooKeeper recorded is held against ours after
//! every transaction: whoever differs has not understood the log, and a wrong replica is worse
//! than a missing one.

use std::collections::BTreeSet;
use std::io;

use quorate_proto::{SessionId, Zxid};
use tracing::{info, warn};

use super::super::fault::{Fault, FileFault};
use super::super::record::{NodeKind, NodeView, SessionRecord, kind_of, ttl_owner};
use super::directory::{NamedFile, ZooKeeperDirs};
use super::fingerprint::Fingerprint;
use super::image::{CONFIG_PATH, Image};
use super::log_file::{End, LogFile, Position};
use super::quota;
use super::snapshot_file;
use super::txn::{DIGEST_VERSION, LoggedRecord};
use crate::tree::{LoadError, SessionInfo, State};

/// How many snapshots are tried, as in ZooKeeper.
const SNAPSHOTS_TRIED_MAX: usize = 100;
/// How many paths, schemes and gaps a report names.
const NAMED_MAX: usize = 16;
/// Schemes that a server of ours knows.
const KNOWN_SCHEMES: [&str; 6] = ["world", "auth", "digest", "ip", "sasl", "x509"];
/// The top byte by which ZooKeeper 3.5.3 marked a time to live; 56 bits of it follow.
const OLD_TTL_MARK: u64 = 0x80;

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

/// A ZooKeeper's state, loaded.
#[derive(Debug)]
pub struct Import {
    image: Image,
    /// What was found.
    pub report: ImportReport,
    /// What the directory looked like.
    pub fingerprint: Fingerprint,
}

impl Import {
    /// Makes it the state of a cluster that begins with it.
    ///
    /// Sessions keep their timeouts, and the passwords that ZooKeeper gave them. The next zxid is
    /// larger than any that a client has seen.
    ///
    /// # Errors
    /// If a znode has a path that no znode can have.
    pub(crate) fn into_state(self, cluster_key: [u8; 32], level: u32) -> Result<State, LoadError> {
        let mut builder = State::builder(cluster_key);
        builder.level(level);
        builder.zxid(Zxid(self.image.zxid.max(self.report.epoch << 32)));
        for SessionRecord { id, session } in self.sessions() {
            builder.session(id, session);
        }
        let mut last = None;
        for node in self.nodes() {
            // Most znodes have the list of the one before.
            let acl = match last.take() {
                Some((list, handle)) if list == node.acl => handle,
                Some(_) | None => builder.acl(node.acl),
            };
            let path = if node.path.is_empty() { "/" } else { node.path };
            builder.node(path, node.data, &acl, &node.stat)?;
            last = Some((node.acl, acl));
        }
        builder.finish()
    }

    /// All znodes, parents first. The root's path is empty.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.image.views()
    }

    /// All sessions.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionRecord> {
        self.image
            .sessions
            .iter()
            .map(|(&id, &timeout_ms)| SessionRecord {
                id: SessionId(id),
                session: SessionInfo {
                    timeout_ms,
                    attach: 0,
                    last_seq: 0,
                    ticket: None,
                    imported: true,
                },
            })
    }
}

/// Loads the state of a ZooKeeper that is not running.
///
/// # Errors
/// See [`ImportError`]. Whatever it is, the directory is as it was.
pub fn read(dirs: &ZooKeeperDirs, options: &ImportOptions) -> Result<Import, ImportError> {
    // Before anything is read: what ZooKeeper writes from now on is a change.
    let stamps = dirs.stamps()?;
    let logs = dirs.logs()?;
    let mut loader = Loader::from_snapshot(dirs, options, &logs)?;
    loader.replay(&logs)?;
    let Loader {
        mut image,
        mut report,
        skipped,
        checker,
        ..
    } = loader;
    if let Some((lost, fault)) = skipped.into_iter().max_by_key(|(zxid, _)| *zxid)
        && lost > image.zxid
    {
        return Err(ImportError::Missing {
            lost,
            reached: image.zxid,
            fault,
        });
    }
    checker.finish(&mut report)?;
    report.digest = image.digest();
    adopt(&mut image, &mut report, options)?;
    report.last_zxid = image.zxid;
    let of_zxid = image.zxid >> 32;
    report.epoch = dirs.epoch("currentEpoch")?.unwrap_or(of_zxid).max(of_zxid);
    survey(&image, &mut report, options);
    let fingerprint = Fingerprint {
        last_zxid: image.zxid,
        stamps,
    };
    info!(
        zxid = %format_args!("{:#x}", report.last_zxid),
        nodes = report.nodes,
        sessions = report.sessions,
        txns_replayed = report.txns_replayed,
        "loaded the state of a ZooKeeper"
    );
    Ok(Import {
        image,
        report,
        fingerprint,
    })
}

struct Loader {
    image: Image,
    report: ImportReport,
    skipped: Vec<(i64, FileFault)>,
    checker: DigestChecker,
    /// The log file before ended in a half-written record, and nothing was read since.
    after_torn: bool,
}

impl Loader {
    fn from_snapshot(
        dirs: &ZooKeeperDirs,
        options: &ImportOptions,
        logs: &[NamedFile],
    ) -> Result<Loader, ImportError> {
        let snapshots = dirs.snapshots()?;
        let mut report = ImportReport::default();
        let mut skipped = Vec::new();
        for file in snapshots.iter().take(SNAPSHOTS_TRIED_MAX) {
            match snapshot_file::read(&file.path, file.zxid) {
                Ok(found) => {
                    report.snapshot_zxid = Some(file.zxid);
                    report.lost_acls = found.lost_acls;
                    let mut checker = DigestChecker::new(options.check_digest, file.zxid);
                    checker.snapshot(found.recorded.digest, file.zxid, found.image.digest());
                    return Ok(Loader {
                        image: found.image,
                        report,
                        skipped,
                        checker,
                        after_torn: false,
                    });
                }
                Err(fault) => {
                    warn!(
                        file = %file.path.display(),
                        offset = fault.offset,
                        cause = %fault.fault,
                        "snapshot is not usable, trying the one before"
                    );
                    report
                        .snapshots_skipped
                        .push(format!("{fault}: {}", fault.fault));
                    skipped.push((file.zxid, fault));
                }
            }
        }
        let tried = skipped.len();
        if let Some((_, newest)) = skipped.into_iter().next() {
            return Err(ImportError::NoValidSnapshot { tried, newest });
        }
        if logs.is_empty() {
            return Err(ImportError::Nothing);
        }
        if !options.trust_empty {
            return Err(ImportError::NoSnapshot);
        }
        warn!("no snapshot: starting from an empty tree, as snapshot.trust.empty asks");
        let checker = DigestChecker::new(options.check_digest, 0);
        Ok(Loader {
            image: Image::fresh(),
            report,
            skipped: Vec::new(),
            checker,
            after_torn: false,
        })
    }

    /// Replays what is newer than the snapshot.
    fn replay(&mut self, logs: &[NamedFile]) -> Result<(), ImportError> {
        let from = self.image.zxid;
        // The file before may reach into what we need.
        let first = logs
            .iter()
            .rposition(|file| file.zxid <= from.saturating_add(1))
            .unwrap_or(0);
        for (index, file) in logs.iter().enumerate().skip(first) {
            let position = if index + 1 == logs.len() {
                Position::Last
            } else {
                Position::Earlier
            };
            let mut log = LogFile::open(&file.path, position).map_err(ImportError::DamagedLog)?;
            loop {
                let Some((offset, payload)) = log.next().map_err(ImportError::DamagedLog)? else {
                    break;
                };
                self.record(payload, from)
                    .map_err(|fault| ImportError::DamagedLog(fault.at(&file.path, offset)))?;
            }
            if let End::Torn(offset) = log.end() {
                warn!(
                    file = %file.path.display(),
                    offset,
                    "the log ends in a half-written record, which is left out"
                );
                self.after_torn = true;
                self.report.torn_tail = Some((file.path.display().to_string(), offset));
            }
        }
        Ok(())
    }

    fn record(&mut self, payload: &[u8], from: i64) -> Result<(), Fault> {
        let record = LoggedRecord::decode(payload)?;
        let (zxid, last) = (record.header.zxid, self.image.zxid);
        if zxid <= from {
            return Ok(());
        }
        if zxid <= last {
            return Err(Fault::FallingZxid { last, found: zxid });
        }
        let gap = zxid >> 32 == last >> 32 && zxid > last + 1;
        // After a crash ZooKeeper goes on with the zxid that the half-written record had. If it
        // did not, the record was whole then and is damaged now.
        if gap && std::mem::take(&mut self.after_torn) {
            return Err(Fault::Gap { last, found: zxid });
        }
        self.after_torn = false;
        if gap && self.report.zxid_gaps.len() < NAMED_MAX {
            warn!(
                last = %format_args!("{last:#x}"),
                next = %format_args!("{zxid:#x}"),
                "transactions are missing from the log"
            );
            self.report.zxid_gaps.push((last, zxid));
        }
        self.image.apply(&record.header, &record.txn);
        self.report.txns_replayed += 1;
        let digest = record
            .digest
            .filter(|digest| digest.version == DIGEST_VERSION);
        self.checker.txn(
            zxid,
            digest.map(|digest| digest.tree.cast_unsigned()),
            self.image.digest(),
        );
        Ok(())
    }
}

/// Holds the tree against the digests that ZooKeeper recorded.
struct DigestChecker {
    enabled: bool,
    fuzzy: Fuzzy,
    matched: u64,
    differed: u64,
    /// The first of an unbroken row of differences: zxid, ours, ZooKeeper's.
    standing: Option<(i64, u64, u64)>,
}

/// How far the snapshot may hold more than its name tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fuzzy {
    /// Up to this zxid, where it should have this digest.
    Until(i64, u64),
    /// Until a digest is equal: the writer did not say.
    Unknown,
    /// No more.
    Over,
}

impl DigestChecker {
    fn new(enabled: bool, snapshot_zxid: i64) -> DigestChecker {
        let fuzzy = if snapshot_zxid == 0 {
            Fuzzy::Over
        } else {
            Fuzzy::Unknown
        };
        DigestChecker {
            enabled,
            fuzzy,
            matched: 0,
            differed: 0,
            standing: None,
        }
    }

    fn snapshot(&mut self, recorded: Option<(i64, u64)>, zxid: i64, computed: u64) {
        if let Some((at, digest)) = recorded {
            if at == zxid {
                self.fuzzy = Fuzzy::Over;
                self.compare(zxid, digest, computed);
            } else if at > zxid {
                self.fuzzy = Fuzzy::Until(at, digest);
            }
        }
    }

    fn txn(&mut self, zxid: i64, recorded: Option<u64>, computed: u64) {
        match self.fuzzy {
            Fuzzy::Until(end, _) if zxid < end => {}
            Fuzzy::Until(end, digest) => {
                self.fuzzy = Fuzzy::Over;
                if zxid == end {
                    self.compare(zxid, digest, computed);
                } else if let Some(recorded) = recorded {
                    self.compare(zxid, recorded, computed);
                }
            }
            Fuzzy::Unknown => {
                if recorded == Some(computed) {
                    self.fuzzy = Fuzzy::Over;
                }
                if let Some(recorded) = recorded {
                    self.compare(zxid, recorded, computed);
                }
            }
            Fuzzy::Over => {
                if let Some(recorded) = recorded {
                    self.compare(zxid, recorded, computed);
                }
            }
        }
    }

    fn compare(&mut self, zxid: i64, recorded: u64, computed: u64) {
        if recorded == computed {
            self.matched += 1;
            self.standing = None;
        } else if self.fuzzy == Fuzzy::Unknown {
            self.standing.get_or_insert((zxid, computed, recorded));
        } else {
            self.differed += 1;
            self.standing.get_or_insert((zxid, computed, recorded));
        }
    }

    /// A difference that lasts to the end is one in the tree; one that vanished is not.
    fn finish(self, report: &mut ImportReport) -> Result<(), ImportError> {
        report.digests_matched = self.matched;
        report.digests_differed = self.differed;
        match self.standing {
            Some((zxid, computed, recorded)) if self.enabled => Err(ImportError::Digest {
                zxid,
                computed,
                recorded,
            }),
            _ => Ok(()),
        }
    }
}

/// Does what a ZooKeeper does to a tree it has loaded, and what makes it ours.
fn adopt(
    image: &mut Image,
    report: &mut ImportReport,
    options: &ImportOptions,
) -> Result<(), ImportError> {
    image.complete();
    if options.emulate_353_ttl {
        image.change_owners(|owner| {
            let bits = owner.cast_unsigned();
            (bits >> 56 == OLD_TTL_MARK && bits << 8 != 0)
                .then(|| ttl_owner((bits << 8 >> 8).cast_signed()))
        });
    }
    let zxid = image.zxid;
    for owner in image.owners() {
        if !image.sessions.contains_key(&owner) {
            let dropped = image.remove_ephemerals(owner, zxid);
            warn!(
                session = %SessionId(owner),
                dropped,
                "dropped the ephemeral znodes of a session that is gone"
            );
            report.orphaned_ephemerals += dropped as u64;
        }
    }
    if let Some(node) = image
        .views()
        .find(|node| kind_of(node.stat.ephemeral_owner) == NodeKind::Unknown)
    {
        let (path, owner) = (node.path.to_owned(), node.stat.ephemeral_owner);
        return Err(ImportError::UnknownType { path, owner });
    }
    quota::recount(image);
    if options.config_node == ConfigNode::Standalone {
        let filled = image
            .node(CONFIG_PATH)
            .is_some_and(|node| node.data.as_ref().is_none_or(|data| !data.is_empty()));
        if filled {
            image.change(CONFIG_PATH, |node| node.data = Some(Box::default()));
            report.config_emptied = true;
        }
    }
    Ok(())
}

fn survey(image: &Image, report: &mut ImportReport, options: &ImportOptions) {
    report.nodes = image.node_count() as u64;
    report.sessions = image.sessions.len() as u64;
    report.ephemerals = image.ephemeral_count() as u64;
    for node in image.views() {
        match kind_of(node.stat.ephemeral_owner) {
            NodeKind::Container => report.containers += 1,
            NodeKind::Ttl(_) => report.ttl_nodes += 1,
            NodeKind::Persistent | NodeKind::Ephemeral(_) | NodeKind::Unknown => {}
        }
        if node.path.len() + node.data.map_or(0, <[u8]>::len) > options.node_bytes_max {
            report.oversize_nodes += 1;
            if report.oversize_paths.len() < NAMED_MAX {
                report.oversize_paths.push(node.path.to_owned());
            }
        }
        for entry in node.acl.iter() {
            if !KNOWN_SCHEMES.contains(&entry.id.scheme.as_str())
                && report.unknown_schemes.len() < NAMED_MAX
                && !report.unknown_schemes.contains(&entry.id.scheme)
            {
                report.unknown_schemes.insert(entry.id.scheme.clone());
            }
        }
    }
}
