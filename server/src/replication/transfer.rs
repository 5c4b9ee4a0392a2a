//! The state into a snapshot file, and out of one.

use std::io;

use quorate_proto::Zxid;

use crate::snapshot::zookeeper::Import;
use crate::snapshot::{
    Fault, FileFault, NodeStat, NodeView, SessionRecord, SnapshotMeta, SnapshotName, SnapshotStore,
    SnapshotVisitor,
};
use crate::tree::{Capture, LoadError, PersistedStat, SessionInfo, State, StateBuilder};

/// Which rules of apply this version knows, at most (R25).
pub(super) const LEVEL_MAX: u32 = 0;

/// Writes what was captured; on return the file is durable under its name.
pub(super) fn write(
    store: &SnapshotStore,
    mut capture: Capture,
    meta: &SnapshotMeta,
) -> io::Result<SnapshotName> {
    let mut writer = store.writer(meta)?;
    let content = (|| {
        for (id, session) in capture.sessions() {
            writer.session(&SessionRecord {
                id,
                timeout_ms: session.timeout_ms,
                attach: session.attach,
                last_seq: session.last_seq,
                owner: session.ticket,
                imported: session.imported,
            })?;
        }
        while let Some(section) = capture.next_section() {
            for node in section {
                writer.node(&NodeView {
                    path: node.path(),
                    data: node.data(),
                    acl: node.acl(),
                    stat: stored(node.stat()),
                })?;
            }
        }
        Ok(())
    })();
    // The capture holds on to every znode that was replaced since.
    drop(capture);
    if let Err(error) = content {
        // What was begun is cleared at the next start, should this fail too.
        let _ = writer.abandon();
        return Err(error);
    }
    let name = writer.finish()?;
    store.written(name);
    Ok(name)
}

/// Loads a state, and compares its digest with the recorded one.
pub(super) fn load(
    store: &SnapshotStore,
    name: SnapshotName,
) -> Result<(State, SnapshotMeta), FileFault> {
    let mut loader = Loader::default();
    let meta = store.load(name, &mut loader)?;
    let path = store.path(name);
    let state = loader.finish().map_err(|fault| fault.at(&path, 0))?;
    let found = state.tree().digest();
    if found != meta.digest {
        let expected = meta.digest;
        return Err(Fault::Digest { found, expected }.at(&path, 0));
    }
    Ok((state, meta))
}

/// The state that a ZooKeeper left.
pub(super) fn imported(import: &Import, cluster_key: [u8; 32]) -> Result<State, LoadError> {
    let mut builder = State::builder(cluster_key);
    builder.zxid(Zxid(import.report.last_zxid));
    for session in import.sessions() {
        builder.session(session.id, info(&session));
    }
    for node in import.nodes() {
        add(&builder, &node)?;
    }
    builder.recount_quotas();
    builder.finish()
}

#[derive(Default)]
struct Loader {
    builder: Option<StateBuilder>,
    refused: Option<LoadError>,
}

impl Loader {
    fn finish(self) -> Result<State, Fault> {
        let state = match (self.builder, self.refused) {
            (Some(builder), None) => builder.finish(),
            (_, Some(refused)) => Err(refused),
            (None, None) => return Err(Fault::Truncated),
        };
        state.map_err(|error| match error {
            LoadError::Orphan { path } => Fault::Orphan { path },
            _ => Fault::Malformed("a znode that cannot be"),
        })
    }
}

impl SnapshotVisitor for Loader {
    fn meta(&mut self, meta: &SnapshotMeta) -> Result<(), Fault> {
        let mut builder = State::builder(meta.cluster_key);
        builder.zxid(Zxid(meta.zxid));
        builder.level(meta.level);
        self.builder = Some(builder);
        Ok(())
    }

    fn session(&mut self, session: SessionRecord) {
        if let Some(builder) = &mut self.builder {
            builder.session(session.id, info(&session));
        }
    }

    fn node(&mut self, node: NodeView<'_>) {
        if let (Some(builder), None) = (&self.builder, &self.refused) {
            self.refused = add(builder, &node).err();
        }
    }
}

fn add(builder: &StateBuilder, node: &NodeView<'_>) -> Result<(), LoadError> {
    let path = if node.path.is_empty() { "/" } else { node.path };
    let acl = builder.acl(node.acl);
    builder.node(path, node.data, &acl, &kept(&node.stat))
}

fn info(session: &SessionRecord) -> SessionInfo {
    SessionInfo {
        timeout_ms: session.timeout_ms,
        attach: session.attach,
        last_seq: session.last_seq,
        ticket: session.owner,
        imported: session.imported,
    }
}

fn stored(stat: PersistedStat) -> NodeStat {
    NodeStat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        owner: stat.ephemeral_owner,
    }
}

fn kept(stat: &NodeStat) -> PersistedStat {
    PersistedStat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.owner,
    }
}
