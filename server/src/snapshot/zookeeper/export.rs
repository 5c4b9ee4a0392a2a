//! Writes a directory that a ZooKeeper starts from.
//!
//! One snapshot is all it needs: no log, and no epoch files, which ZooKeeper derives from the
//! zxid. The file has its name only once it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use quorate_proto::SessionId;
use tracing::{info, warn};

use super::super::record::{NodeKind, NodeView, kind_of};
use super::snapshot_write;
use crate::tree::{CapturedNode, State};

/// How many paths a report names.
const NAMED_MAX: usize = 16;
const BUFFER_BYTES: usize = 1024 * 1024;

/// What becomes of ephemeral znodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ephemerals {
    /// Kept, with their sessions.
    Keep,
    /// Left out, and all sessions with them.
    LeaveOut,
}

/// What becomes of znodes with a time to live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TtlNodes {
    /// Kept: a ZooKeeper without `extendedTypesEnabled=true` deletes them at its start.
    Keep,
    /// Made persistent.
    MakePersistent,
}

/// What may be chosen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportOptions {
    /// What becomes of ephemeral znodes; default: kept.
    pub ephemerals: Ephemerals,
    /// What becomes of znodes with a time to live; default: kept.
    pub ttl_nodes: TtlNodes,
    /// A znode with more data is reported: a ZooKeeper may refuse the snapshot for it. Its
    /// `jute.maxbuffer`, bytes.
    pub data_bytes_max: usize,
}

impl Default for ExportOptions {
    fn default() -> ExportOptions {
        ExportOptions {
            ephemerals: Ephemerals::Keep,
            ttl_nodes: TtlNodes::Keep,
            data_bytes_max: 0xf_ffff,
        }
    }
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ExportReport {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The last zxid in it.
    pub zxid: i64,
    /// The digest of the tree as it was written.
    pub digest: u64,
    /// Znodes.
    pub znodes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Those of them that were opened here: ZooKeeper gives out other passwords, so their
    /// clients cannot come back to them, and their ephemerals go when they expire.
    pub sessions_opened_here: u64,
    /// Ephemeral znodes.
    pub ephemerals: u64,
    /// Ephemeral znodes that were left out.
    pub ephemerals_left_out: u64,
    /// Containers.
    pub containers: u64,
    /// Znodes with a time to live that were kept.
    pub ttl_nodes: u64,
    /// Znodes with a time to live that were made persistent.
    pub ttl_nodes_made_persistent: u64,
    /// How many znodes have more data than asked for.
    pub oversize_nodes: u64,
    /// The first few of them.
    pub oversize_paths: Vec<String>,
    /// What the operator should know before a ZooKeeper is started on it.
    pub warnings: Vec<String>,
}

/// Nothing was written that could be taken for a whole snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The target has something in it already.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot write {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was written is not the tree that was to be written.
    #[error("tree digest {written:#x} was written, where {expected:#x} was expected")]
    Digest {
        /// Of the znodes that were written.
        written: u64,
        /// Of the state.
        expected: u64,
    },
}

/// Writes the state as it is now into `target`, which must be missing or empty: a data directory
/// for ZooKeeper. Transactions may be applied meanwhile.
///
/// # Errors
/// See [`ExportError`].
pub(crate) fn export(
    state: &State,
    target: &Path,
    options: &ExportOptions,
) -> Result<ExportReport, ExportError> {
    check_empty(target)?;
    let mut capture = state.capture();
    let mut report = ExportReport {
        zxid: capture.zxid().0,
        ..ExportReport::default()
    };
    let mut sessions = capture.sessions();
    if options.ephemerals == Ephemerals::LeaveOut {
        sessions.clear();
    }
    report.sessions = sessions.len() as u64;
    report.sessions_opened_here = sessions
        .iter()
        .filter(|(_, session)| !session.imported)
        .count() as u64;
    let sessions: Vec<(SessionId, i32)> = sessions
        .into_iter()
        .map(|(id, session)| (id, session.timeout_ms))
        .collect();

    // A pointer each. Sorted by path, parents come before their children.
    let mut nodes: Vec<CapturedNode> = Vec::new();
    while let Some(section) = capture.next_section() {
        nodes.extend(
            section
                .into_iter()
                .filter(|node| choose(node, options, &mut report)),
        );
    }
    nodes.sort_unstable_by(|a, b| a.path().cmp(b.path()));
    report.znodes = nodes.len() as u64;

    let views = nodes.iter().map(|node| view(node, options));
    write_file(target, &sessions, views, &mut report)?;
    let expected = capture.digest();
    let changed = report.ephemerals_left_out > 0 || report.ttl_nodes_made_persistent > 0;
    if !changed && report.digest != expected {
        return Err(ExportError::Digest {
            written: report.digest,
            expected,
        });
    }
    add_warnings(&mut report);
    info!(
        snapshot = %report.snapshot.display(),
        zxid = %format_args!("{:#x}", report.zxid),
        nodes = report.znodes,
        "exported"
    );
    Ok(report)
}

/// Counts a znode; false if it is to be left out.
fn choose(node: &CapturedNode, options: &ExportOptions, report: &mut ExportReport) -> bool {
    match kind_of(node.stat().ephemeral_owner) {
        NodeKind::Ephemeral(_) if options.ephemerals == Ephemerals::LeaveOut => {
            report.ephemerals_left_out += 1;
            return false;
        }
        NodeKind::Ephemeral(_) | NodeKind::Unknown => report.ephemerals += 1,
        NodeKind::Container => report.containers += 1,
        NodeKind::Ttl(_) if options.ttl_nodes == TtlNodes::MakePersistent => {
            report.ttl_nodes_made_persistent += 1;
        }
        NodeKind::Ttl(_) => report.ttl_nodes += 1,
        NodeKind::Persistent => {}
    }
    if node.data().map_or(0, <[u8]>::len) > options.data_bytes_max {
        report.oversize_nodes += 1;
        if report.oversize_paths.len() < NAMED_MAX {
            report.oversize_paths.push(node.path().to_owned());
        }
    }
    true
}

fn view<'a>(node: &'a CapturedNode, options: &ExportOptions) -> NodeView<'a> {
    let mut stat = node.stat();
    let is_ttl = matches!(kind_of(stat.ephemeral_owner), NodeKind::Ttl(_));
    if is_ttl && options.ttl_nodes == TtlNodes::MakePersistent {
        stat.ephemeral_owner = 0;
    }
    let path = if node.path() == "/" { "" } else { node.path() };
    NodeView {
        path,
        data: node.data(),
        acl: node.acl(),
        stat,
    }
}

fn check_empty(target: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Io {
        path: target.to_owned(),
        source,
    };
    match fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(Ok(_)) => Err(ExportError::NotEmpty {
                path: target.to_owned(),
            }),
            Some(Err(error)) => Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn write_file<'a>(
    target: &Path,
    sessions: &[(SessionId, i32)],
    nodes: impl Iterator<Item = NodeView<'a>> + Clone,
    report: &mut ExportReport,
) -> Result<(), ExportError> {
    let dir = target.join("version-2");
    let name = format!("snapshot.{:x}", report.zxid);
    report.snapshot = dir.join(&name);
    let temporary = dir.join(format!("{name}.tmp"));
    let write = || {
        fs::create_dir_all(&dir)?;
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(&temporary)?);
        let digest = snapshot_write::write(&mut file, report.zxid, sessions, nodes)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&temporary, &report.snapshot)?;
        File::open(&dir)?.sync_all()?;
        File::open(target)?.sync_all()?;
        Ok(digest)
    };
    match write() {
        Ok(digest) => {
            report.digest = digest;
            Ok(())
        }
        Err(source) => Err(ExportError::Io {
            path: report.snapshot.clone(),
            source,
        }),
    }
}

fn add_warnings(report: &mut ExportReport) {
    let mut warnings = Vec::new();
    if report.ttl_nodes > 0 {
        warnings.push(format!(
            "{} znodes have a time to live: a ZooKeeper without extendedTypesEnabled=true deletes \
             them at its start",
            report.ttl_nodes
        ));
    }
    if report.oversize_nodes > 0 {
        warnings.push(format!(
            "{} znodes have more data than jute.maxbuffer allows: ZooKeeper needs a larger one to \
             read the snapshot; the first is {}",
            report.oversize_nodes,
            report.oversize_paths.first().map_or("", String::as_str)
        ));
    }
    if report.sessions_opened_here > 0 {
        warnings.push(format!(
            "{} sessions were opened here: ZooKeeper gives out other passwords, so their clients \
             open new ones, and their {} ephemerals go when the old ones expire",
            report.sessions_opened_here, report.ephemerals
        ));
    }
    if report.zxid & 0xffff_ffff == 0xffff_ffff {
        warnings.push("the zxid is the last of its epoch: the first write elects anew".to_owned());
    }
    for warning in &warnings {
        warn!("{warning}");
    }
    report.warnings = warnings;
}
