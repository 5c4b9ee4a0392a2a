//! The state that a ZooKeeper left, as one of ours.

use quorate_proto::Zxid;

use crate::snapshot::SessionRecord;
use crate::snapshot::zookeeper::Import;
use crate::tree::{LoadError, State};

/// The next zxid is larger than any that a client has seen.
pub(super) fn imported(import: &Import, cluster_key: [u8; 32]) -> Result<State, LoadError> {
    let mut builder = State::builder(cluster_key);
    let of_epoch = import.report.epoch << 32;
    builder.zxid(Zxid(import.report.last_zxid.max(of_epoch)));
    for SessionRecord { id, session } in import.sessions() {
        builder.session(id, session);
    }
    for node in import.nodes() {
        let path = if node.path.is_empty() { "/" } else { node.path };
        let acl = builder.acl(node.acl);
        builder.node(path, node.data, &acl, &node.stat)?;
    }
    builder.finish()
}
