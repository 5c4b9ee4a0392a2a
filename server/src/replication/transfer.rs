//! What another program, or another version, left into a state of ours.

use quorate_proto::Zxid;

use crate::snapshot::zookeeper::Import;
use crate::tree::{LoadError, State};

/// Which rules of apply this version knows, at most (R25).
pub(super) const LEVEL_MAX: u32 = 0;

/// The state that a ZooKeeper left.
pub(super) fn imported(import: &Import, cluster_key: [u8; 32]) -> Result<State, LoadError> {
    let mut builder = State::builder(cluster_key);
    builder.zxid(Zxid(import.report.last_zxid));
    for record in import.sessions() {
        builder.session(record.id, record.session);
    }
    for node in import.nodes() {
        let path = if node.path.is_empty() { "/" } else { node.path };
        let acl = builder.acl(node.acl);
        builder.node(path, node.data, &acl, &node.stat)?;
    }
    builder.recount_quotas();
    builder.finish()
}
