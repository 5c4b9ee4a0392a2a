//! Loads what a ZooKeeper left: the newest valid snapshot, then its log.
//!
//! Files are opened for reading only. A digest that ZooKeeper recorded is held against ours after
//! every transaction: whoever differs has not understood the log, and a wrong replica is worse
//! than a missing one.

use quorate_proto::{SessionId, Zxid};
use tracing::{info, warn};

use super::super::fault::{Fault, FileFault};
use super::super::record::{NodeKind, NodeView, SessionRecord, kind_of, ttl_owner};
use super::digest_check::DigestChecker;
use super::directory::{NamedFile, ZooKeeperDirs};
use super::fingerprint::Fingerprint;
use super::image::{CONFIG_PATH, Image};
use super::log_file::{End, LogFile, Position};
use super::quota;
use super::report::{ConfigNode, ImportError, ImportOptions, ImportReport};
use super::snapshot_file;
use super::txn::{DIGEST_VERSION, LoggedRecord, LoggedTxn};
use crate::tree::{LoadError, SessionInfo, State};

/// How many snapshots are tried, as in ZooKeeper.
const SNAPSHOTS_TRIED_MAX: usize = 100;
/// How many paths, schemes and gaps a report names.
const NAMED_MAX: usize = 16;
/// Schemes that a server of ours knows.
const KNOWN_SCHEMES: [&str; 6] = ["world", "auth", "digest", "ip", "sasl", "x509"];
/// The top byte by which ZooKeeper 3.5.3 marked a time to live; 56 bits of it follow.
const OLD_TTL_MARK: u64 = 0x80;

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
        // A multi that ZooKeeper cannot read is logged as an error under the zxid before it.
        if zxid == last && matches!(record.txn, LoggedTxn::Error { .. }) {
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
