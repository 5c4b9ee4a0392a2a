//! From directories to a server that knows its past: who am I, what was I, what is in the log.
//!
//! Nothing here guesses. What is missing or belongs to somebody else is refused with the way out;
//! only a directory without any history of ours is founded anew, on ZooKeeper's data where there
//! is some.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Claim, Layout, write_file};
use super::identity::{Identity, IdentityError};
use super::machine::Restored;
use super::snapshots::{LEVEL_MAX, Snapshots};
use super::types::{FOUNDER, LogId, StoredMembership, node_id};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::disk::SharedDisk;
use crate::disk::real::DirLockError;
use crate::log::{Log, LogError, LogOptions};
use crate::metrics::Metrics;
use crate::snapshot::zookeeper::{
    self, Fingerprint, Import, ImportError, ImportOptions, ZooKeeperDirs,
};
use crate::snapshot::{self, LogReach};
use crate::tree::{LoadError, State};

/// Why this server does not start. Nothing was changed that a later start would miss.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StartError {
    /// A directory is not there, and `datadir.autocreate` is off.
    #[error(
        "directory {} does not exist, and `datadir.autocreate` is off: make it, or name another",
        path.display()
    )]
    NoDirectory { path: PathBuf },
    /// The file system said no.
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Another process uses the directory.
    #[error(transparent)]
    Locked(#[from] DirLockError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data belong to another server.
    #[error(
        "{} holds the data of server {found}, this is server {configured}: correct myid, or choose another dataDir",
        path.display()
    )]
    OtherServer {
        path: PathBuf,
        found: u64,
        configured: u8,
    },
    /// There is a log and nobody knows whose.
    #[error(
        "{} holds a log, but {} is missing: restore it, or empty both directories",
        log.display(), identity.display()
    )]
    IdentityMissing { log: PathBuf, identity: PathBuf },
    /// The log is another ensemble's.
    #[error("the log in {} belongs to another ensemble than {}", log.display(), identity.display())]
    OtherEnsemble { log: PathBuf, identity: PathBuf },
    /// ZooKeeper's data cannot be imported.
    #[error("the ZooKeeper data cannot be imported")]
    Import(#[from] ImportError),
    /// They cannot be a tree.
    #[error("the ZooKeeper data are no tree")]
    ImportedTree(#[from] LoadError),
    /// ZooKeeper is still at work on them.
    #[error("ZooKeeper runs on this directory, as process {pid}: stop it first")]
    ZooKeeperRuns { pid: u32 },
    /// ZooKeeper went on after its data were imported: there are two histories now.
    #[error(
        "ZooKeeper wrote {file} after its data were imported at zxid {zxid:#x}. Keep one history: \
         remove {} to stay with Quorate's, or {} to import again",
        theirs.display(), ours.display()
    )]
    ZooKeeperWentOn {
        file: String,
        zxid: i64,
        theirs: PathBuf,
        ours: PathBuf,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There are snapshots and none can be used.
    #[error(transparent)]
    Snapshots(#[from] snapshot::LoadError),
    /// No snapshot reaches back to where the log begins.
    #[error(
        "the log begins after entry {purged}, and no usable snapshot in {} reaches that far: \
         restore one from a backup",
        path.display()
    )]
    Gap { path: PathBuf, purged: u64 },
    /// The engine did not start.
    #[error("the consensus engine stopped: {cause}")]
    Engine { cause: String },
    /// A member of an ensemble without its log: it could vote away what it acknowledged.
    #[error(
        "{} belongs to a member of an ensemble, and its log in {} is missing: restore the log, or \
         empty both directories, and this server is admitted anew",
        identity.display(), log.display()
    )]
    LogMissing { log: PathBuf, identity: PathBuf },
    /// The times of an ensemble do not fit each other.
    #[error("the heartbeat and the election timeouts do not fit each other: {cause}")]
    Times { cause: String },
    /// A member of an ensemble, to be opened without the others.
    #[error(
        "{} belongs to a member of an ensemble, which cannot say without the others what was \
         acknowledged: start it with its `server.N` lines. An export of an ensemble's data is not \
         there yet: copy the znodes with a client",
        path.display()
    )]
    MemberAlone { path: PathBuf },
    /// This server is not in the list of servers.
    #[error(
        "server {server} is not in the list of servers: add its `server.{server}` line, or correct myid"
    )]
    NotListed { server: u8 },
    /// The log was read and may not be obeyed.
    #[error("{cause}")]
    Refused { cause: Arc<str> },
}

impl StartError {
    pub(super) fn member_alone(config: &Config) -> StartError {
        StartError::MemberAlone {
            path: config.data_dir.clone(),
        }
    }
}

/// The directories, claimed, and whose they are.
pub(super) struct Claimed {
    claim: Claim,
    layout: Layout,
    /// `None`: nobody's yet.
    pub(super) identity: Option<Identity>,
}

/// All that lies on disk, opened.
pub(super) struct Prepared {
    pub(super) claim: Claim,
    pub(super) identity: Identity,
    pub(super) log: Arc<Log>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) restored: Restored,
}

/// The parts of a server that outlive its state.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) disk: SharedDisk,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
}

/// Makes the directories this process's own, and looks whose they are. Blocks.
pub(super) fn claim(config: &Config, around: &Surroundings) -> Result<Claimed, StartError> {
    let disk = &*around.disk;
    let layout = Layout::new(config);
    if !config.data_dir_autocreate {
        exists(around, &config.data_dir)?;
        exists(
            around,
            config.data_log_dir.as_ref().unwrap_or(&config.data_dir),
        )?;
    }
    for dir in [&layout.data, &layout.log] {
        disk.create_dir_all(dir).map_err(io_at(dir))?;
    }
    let claim = layout.lock(disk)?;
    let identity = Identity::read(disk, &layout.identity())?;
    match &identity {
        Some(identity) => check(config, &layout, identity)?,
        None => no_log(around, &layout)?,
    }
    Ok(Claimed {
        claim,
        layout,
        identity,
    })
}

/// Opens what lies in directories that have an owner. Blocks.
pub(super) fn open(
    config: &Config,
    around: &Surroundings,
    claimed: Claimed,
    identity: Identity,
) -> Result<Prepared, StartError> {
    let Claimed { claim, layout, .. } = claimed;
    let disk = &*around.disk;
    let log = open_log(config, around, &layout, &identity)?;
    let in_log = log.state();
    let purged = in_log.purged.map(|(_, index)| index);
    if in_log.last.is_none() && purged.is_none() && disk.open(&layout.joined()).is_ok() {
        return Err(StartError::LogMissing {
            identity: layout.identity(),
            log: layout.log,
        });
    }
    let reach = in_log.last.map(|(_, last)| LogReach {
        first: purged.map_or(0, |purged| purged + 1),
        last,
    });
    let (snapshots, restored) =
        Snapshots::open(config, around, &layout.data, identity.cluster_id, reach)?;
    let restored = match restored {
        Some(restored) => restored,
        // Without a snapshot the log must reach back to the beginning, and the beginning must
        // have been empty.
        None if purged.is_none() && identity.imported.is_none() => Restored {
            state: Arc::new(State::new(identity.cluster_key)),
            applied: None,
            membership: StoredMembership::default(),
        },
        None => {
            return Err(StartError::Gap {
                path: layout.data,
                purged: purged.unwrap_or(0),
            });
        }
    };
    cut_what_the_snapshot_contradicts(&log, restored.applied)?;
    let reaches = restored.applied.map(|at| at.index);
    if let Some(purged) = purged.filter(|&purged| reaches.is_none_or(|at| at < purged)) {
        return Err(StartError::Gap {
            path: layout.data,
            purged,
        });
    }
    Ok(Prepared {
        claim,
        identity,
        log,
        snapshots,
        restored,
    })
}

/// A snapshot that another server sent may contradict the end of our log, which was never
/// committed, and the power may have failed before that end was cut. What is committed is the
/// snapshot, and the log goes on behind it (R28).
fn cut_what_the_snapshot_contradicts(log: &Log, applied: Option<LogId>) -> Result<(), StartError> {
    let Some(applied) = applied else {
        return Ok(());
    };
    match log.term_at(applied.index) {
        Some(term) if term != applied.leader_id.term => {}
        Some(_) | None => return Ok(()),
    }
    tracing::warn!(
        index = applied.index,
        "the end of the log was never committed, and a snapshot stands in its place: it is cut"
    );
    let (done, cut) = std::sync::mpsc::sync_channel(1);
    log.truncate_after(
        applied.index.checked_sub(1),
        Box::new(move |result| {
            let _ = done.send(result);
        }),
    );
    match cut.recv() {
        Ok(result) => Ok(result?),
        Err(_) => Err(StartError::Engine {
            cause: "the log has been closed".to_owned(),
        }),
    }
}

fn open_log(
    config: &Config,
    around: &Surroundings,
    layout: &Layout,
    identity: &Identity,
) -> Result<Arc<Log>, StartError> {
    let log = Log::open(
        around.disk.clone(),
        &layout.log,
        LogOptions {
            force_sync: config.force_sync,
            fsync_warning: config.fsync_warning,
            ..LogOptions::new(identity.cluster_id)
        },
        around.metrics.clone(),
        around.clock.clone(),
    )?;
    if log.state().cluster_id != identity.cluster_id {
        return Err(StartError::OtherEnsemble {
            log: layout.log.clone(),
            identity: layout.identity(),
        });
    }
    Ok(Arc::new(log))
}

fn check(config: &Config, layout: &Layout, identity: &Identity) -> Result<(), StartError> {
    let number = identity.node_id >> 32;
    if number != u64::from(config.my_id) {
        return Err(StartError::OtherServer {
            path: layout.data.clone(),
            found: number,
            configured: config.my_id,
        });
    }
    let Some(imported) = &identity.imported else {
        return Ok(());
    };
    let theirs = their_dirs(config);
    match theirs
        .changed_since(imported)
        .map_err(io_at(&config.data_dir))?
    {
        None => Ok(()),
        Some(file) => Err(StartError::ZooKeeperWentOn {
            file,
            zxid: imported.last_zxid,
            theirs: config.data_dir.join("version-2"),
            ours: layout.data.clone(),
        }),
    }
}

/// A log without an identity is somebody's: nobody begins anew on top of it.
fn no_log(around: &Surroundings, layout: &Layout) -> Result<(), StartError> {
    let in_log = around.disk.list(&layout.log).map_err(io_at(&layout.log))?;
    if in_log.iter().any(|file| file.name.ends_with(".wal")) {
        return Err(StartError::IdentityMissing {
            log: layout.log.clone(),
            identity: layout.identity(),
        });
    }
    Ok(())
}

/// Founds an ensemble, with what ZooKeeper left here. Blocks.
pub(super) fn found(
    config: &Config,
    around: &Surroundings,
    claimed: &Claimed,
) -> Result<Identity, StartError> {
    let mut identity = Identity::found(node_id(config.my_id, FOUNDER), None);
    let theirs = their_dirs(config);
    if theirs.hold_a_zookeeper().map_err(io_at(&config.data_dir))? {
        let imported = import(config, around, &claimed.layout, &identity, &theirs)?;
        identity.imported = Some(imported);
    }
    settle(around, claimed, &identity)?;
    tracing::debug!(node = format_args!("{:#x}", identity.node_id), "founded");
    Ok(identity)
}

/// Makes an identity durable. From here on the directories have an owner. Blocks.
pub(super) fn settle(
    around: &Surroundings,
    claimed: &Claimed,
    identity: &Identity,
) -> Result<(), StartError> {
    identity.write(&*around.disk, &claimed.layout.identity())?;
    Ok(())
}

/// All of it, of a server that stands alone or was founded before. Blocks.
#[cfg(test)]
pub(super) fn prepare(config: &Config, around: &Surroundings) -> Result<Prepared, StartError> {
    let claimed = claim(config, around)?;
    let identity = match &claimed.identity {
        Some(identity) => identity.clone(),
        None => found(config, around, &claimed)?,
    };
    open(config, around, claimed, identity)
}

/// Takes note that the log of this member of an ensemble holds something from now on. Blocks.
pub(super) fn joined(config: &Config, around: &Surroundings) -> io::Result<()> {
    let mark = Layout::new(config).joined();
    match around.disk.open(&mark) {
        Ok(_) => Ok(()),
        Err(_) => write_file(&*around.disk, &mark, b""),
    }
}

/// Whether the data are those of a member of an ensemble.
pub(super) fn is_member(config: &Config, around: &Surroundings) -> bool {
    around.disk.open(&Layout::new(config).joined()).is_ok()
}

/// The last zxid of the ZooKeeper whose data lie here; -1 without any. Reads all of them. Blocks.
pub(super) fn history(config: &Config) -> Result<i64, StartError> {
    let theirs = their_dirs(config);
    if !theirs.hold_a_zookeeper().map_err(io_at(&config.data_dir))? {
        return Ok(-1);
    }
    Ok(read_zookeeper(config, &theirs)?.fingerprint.last_zxid)
}

fn their_dirs(config: &Config) -> ZooKeeperDirs {
    ZooKeeperDirs::new(&config.data_dir, config.data_log_dir.as_deref())
}

fn exists(around: &Surroundings, dir: &Path) -> Result<(), StartError> {
    match around.disk.list(dir) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StartError::NoDirectory {
            path: dir.to_owned(),
        }),
        Err(source) => Err(StartError::Io {
            path: dir.to_owned(),
            source,
        }),
    }
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Io { path, source }
}

/// Takes over what ZooKeeper left, as the first snapshot. Its zxids go on: the first epoch of
/// ours is above the last of theirs.
fn import(
    config: &Config,
    around: &Surroundings,
    layout: &Layout,
    identity: &Identity,
    theirs: &ZooKeeperDirs,
) -> Result<Fingerprint, StartError> {
    let import = read_zookeeper(config, theirs)?;
    let fingerprint = import.fingerprint.clone();
    let state = import.into_state(identity.cluster_key, LEVEL_MAX)?;
    Snapshots::found(around, &layout.data, identity.cluster_id, &state)
        .map_err(io_at(&layout.data))?;
    Ok(fingerprint)
}

fn read_zookeeper(config: &Config, theirs: &ZooKeeperDirs) -> Result<Import, StartError> {
    if let Some(pid) = theirs.running_process() {
        return Err(StartError::ZooKeeperRuns { pid });
    }
    let options = ImportOptions {
        check_digest: config.digest_enabled,
        trust_empty: config.snapshot_trust_empty,
        emulate_353_ttl: config.emulate_353_ttl,
        node_bytes_max: config.jute_max_buffer,
        ..ImportOptions::default()
    };
    Ok(zookeeper::read(theirs, &options)?)
}
