//! The replicated state, into a snapshot and out of one.

use std::io;
use std::path::Path;

use bytes::Bytes;
use quorate_proto::{Acl, Zxid};

use super::fault::{Fault, FileFault};
use super::load::{SnapshotVisitor, by_all};
use super::record::{NodeView, SessionRecord, SnapshotMeta};
use super::store::{SnapshotName, SnapshotStore};
use super::write::SnapshotWriter;
use crate::tree::{AclHandle, Capture, PersistedStat, State, StateBuilder};

/// What a capture does not know of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CapturedAt {
    /// The cluster's id.
    pub(crate) cluster_id: [u8; 16],
    /// Term and index of the last entry that was applied; `None` before the first.
    pub(crate) last_log: Option<(u64, u64)>,
    /// The membership in force.
    pub(crate) membership: Bytes,
}

/// A state, and what was stored with it.
pub(crate) struct LoadedState {
    /// The state.
    pub(crate) state: State,
    /// What was stored with it.
    pub(crate) meta: SnapshotMeta,
}

impl SnapshotStore {
    /// Writes a capture to a file and returns once that is durable. Takes as long as the disk
    /// does: for a thread of its own, while transactions are applied.
    ///
    /// # Errors
    /// If the disk fails. The snapshots there were are untouched then.
    pub(crate) fn write(&self, mut capture: Capture, at: CapturedAt) -> io::Result<SnapshotName> {
        let meta = SnapshotMeta {
            cluster_id: at.cluster_id,
            cluster_key: capture.cluster_key(),
            level: capture.level(),
            zxid: capture.zxid().0,
            last_log: at.last_log,
            membership: at.membership,
            digest: capture.digest(),
        };
        let mut writer = self.writer(&meta)?;
        if let Err(error) = write_capture(&mut writer, &mut capture) {
            // The disk has failed, so this may fail too; the next start clears it.
            let _ = writer.abandon();
            return Err(error);
        }
        drop(capture);
        let name = writer.finish()?;
        self.written(name);
        Ok(name)
    }

    /// The state of one snapshot.
    ///
    /// With `check_digest` a tree that is not the one that was captured counts as damage.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn load_state(
        &self,
        name: SnapshotName,
        check_digest: bool,
    ) -> Result<LoadedState, FileFault> {
        self.load_file(&self.path(name), State::builder([0; 32]), check_digest)
    }

    /// The same, into a builder of the caller's choice.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn load_into(
        &self,
        name: SnapshotName,
        builder: StateBuilder,
        check_digest: bool,
    ) -> Result<LoadedState, FileFault> {
        self.load_file(&self.path(name), builder, check_digest)
    }

    /// The same of any file, into a builder of the caller's choice.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn load_file(
        &self,
        path: &Path,
        builder: StateBuilder,
        check_digest: bool,
    ) -> Result<LoadedState, FileFault> {
        let mut visitor = Building { builder };
        let meta = self.load(path, &mut visitor)?;
        let fault = |fault: Fault| fault.at(path, 0);
        let state = visitor
            .builder
            .finish_by(&by_all)
            .map_err(|error| fault(Fault::tree(error)))?;
        let (found, expected) = (state.tree().digest(), meta.digest);
        if check_digest && found != expected {
            return Err(fault(Fault::Digest { found, expected }));
        }
        Ok(LoadedState { state, meta })
    }
}

fn write_capture(writer: &mut SnapshotWriter, capture: &mut Capture) -> io::Result<()> {
    for (id, session) in capture.sessions() {
        writer.session(&SessionRecord { id, session })?;
    }
    while let Some(section) = capture.next_section() {
        for node in &section {
            writer.node(&NodeView {
                path: node.path(),
                data: node.data(),
                acl: node.acl(),
                stat: node.stat(),
            })?;
        }
    }
    Ok(())
}

struct Building {
    builder: StateBuilder,
}

impl SnapshotVisitor for Building {
    type Acl = AclHandle;

    fn meta(&mut self, meta: &SnapshotMeta) -> Result<(), Fault> {
        self.builder.cluster_key(meta.cluster_key);
        self.builder.level(meta.level);
        self.builder.zxid(Zxid(meta.zxid));
        Ok(())
    }

    fn session(&mut self, session: SessionRecord) -> Result<(), Fault> {
        self.builder.session(session.id, session.session);
        Ok(())
    }

    fn acl(&self, acl: Vec<Acl>) -> AclHandle {
        self.builder.acl(&acl)
    }

    fn node(
        &self,
        path: &str,
        data: Option<&[u8]>,
        acl: &AclHandle,
        stat: &PersistedStat,
    ) -> Result<(), Fault> {
        self.builder
            .node(path, data, acl, stat)
            .map_err(Fault::tree)
    }
}
