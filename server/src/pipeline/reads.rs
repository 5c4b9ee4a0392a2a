//! Reads, on the connection's own task, from the local tree.
//!
//! A read locks one shard, takes what it needs, arms its watch, and queues its reply before it
//! lets go of the shard: see `sessions::outbox` for why that is the whole of R3. The zxid of the
//! reply is the largest of what this connection was told before, what was applied when the read
//! began, and the shard's own last (R4). Reads of several shards hold the apply gate (R5).

use bytes::BytesMut;
use quorate_proto::jute::Writer;
use quorate_proto::multi::MultiReadOp;
use quorate_proto::path::CONFIG;
use quorate_proto::request::Request;
use quorate_proto::{AclRef, ErrorCode, Perms, Stat, Zxid, reply};

use super::line::{Ask, Line};
use crate::tree::NodeRef;
use crate::watches::Modes;

impl Line {
    /// Runs a request that is neither a write nor a sync.
    pub(super) fn read(&mut self, ask: &Ask<'_>, request: &Request<'_>) {
        match request {
            Request::Exists(r) if r.path.contains('\0') => {
                self.fail(ask, self.applied(), ErrorCode::BadArguments);
            }
            Request::Exists(r) => {
                let watch = Watch {
                    modes: r.watch.then_some(Modes::DATA),
                    missing_too: true,
                };
                let config = self.config_text(&r.path);
                self.node(ask, &r.path, watch, Perms::READ, |w, node| {
                    reply::stat(w, &shown(node, config.as_deref()).1);
                });
            }
            Request::GetData(r) => {
                let watch = Watch {
                    modes: r.watch.then_some(Modes::DATA),
                    missing_too: false,
                };
                let config = self.config_text(&r.path);
                self.node(ask, &r.path, watch, Perms::READ, |w, node| {
                    let (data, stat) = shown(node, config.as_deref());
                    reply::data_stat(w, data, &stat);
                });
            }
            Request::GetChildren(r) => {
                let watch = Watch {
                    modes: r.watch.then_some(Modes::CHILD),
                    missing_too: false,
                };
                self.node(ask, &r.path, watch, Perms::READ, |w, node| {
                    write_children(w, node);
                });
            }
            Request::GetChildren2(r) => {
                let watch = Watch {
                    modes: r.watch.then_some(Modes::CHILD),
                    missing_too: false,
                };
                self.node(ask, &r.path, watch, Perms::READ, |w, node| {
                    write_children(w, node);
                    reply::stat(w, &node.stat());
                });
            }
            Request::GetAcl { path } => self.get_acl(ask, path),
            Request::GetAllChildrenNumber { path } => self.descendants(ask, path),
            Request::GetEphemerals { prefix } => self.ephemerals(ask, prefix.as_deref()),
            Request::MultiRead(multi) => self.multi_read(ask, &multi.ops),
            Request::WhoAmI => self.who_am_i(ask),
            Request::SetWatches(_)
            | Request::SetWatches2(_)
            | Request::AddWatch { .. }
            | Request::CheckWatches { .. }
            | Request::RemoveWatches { .. } => self.watch_op(ask, request),
            // Everything else was routed before, or is the server's own.
            _ => self.fail(ask, self.applied(), ErrorCode::MarshallingError),
        }
    }

    /// What stands in for the data of `path`: the members of the ensemble are in nobody's write.
    fn config_text(&self, path: &str) -> Option<String> {
        if path == CONFIG {
            self.pipeline.members_text()
        } else {
            None
        }
    }

    /// The zxid applied when a read begins.
    pub(super) fn applied(&self) -> Zxid {
        self.pipeline.state.applied_zxid()
    }

    /// Queues the reply to a read that saw the state at `seen`.
    pub(super) fn reply(&self, ask: &Ask<'_>, seen: Zxid, body: impl FnOnce(&mut Writer<'_>)) {
        let zxid = {
            let mut outbox = self.conn.outbox();
            let zxid = outbox.tell(seen);
            outbox.queue(|out| reply::frame(out, ask.xid, zxid, 0, body));
            zxid
        };
        self.note_read(ask, zxid);
    }

    /// Queues an error.
    pub(super) fn fail(&self, ask: &Ask<'_>, seen: Zxid, code: ErrorCode) {
        let zxid = {
            let mut outbox = self.conn.outbox();
            let zxid = outbox.tell(seen);
            outbox.queue(|out| reply::error(out, ask.xid, zxid, code));
            zxid
        };
        self.note_read(ask, zxid);
    }

    /// Reads one znode: missing before forbidden, and a watch only where ZooKeeper leaves one.
    fn node(
        &self,
        ask: &Ask<'_>,
        path: &str,
        watch: Watch,
        perms: Perms,
        body: impl FnOnce(&mut Writer<'_>, &NodeRef<'_>),
    ) {
        let applied = self.applied();
        let guard = self.pipeline.state.tree().read(path);
        let seen = applied.max(guard.shard_zxid());
        let node = guard.node().ok_or(ErrorCode::NoNode).and_then(|node| {
            let allowed = ask.identities.caller().allows(node.acl(), perms);
            if allowed {
                Ok(node)
            } else {
                Err(ErrorCode::NoAuth)
            }
        });
        let arms = match &node {
            Ok(_) => true,
            Err(code) => watch.missing_too && *code == ErrorCode::NoNode,
        };
        if arms && let Some(modes) = watch.modes {
            self.pipeline
                .sessions
                .watches
                .add(self.conn.id, path, modes);
        }
        match node {
            Ok(node) => self.reply(ask, seen, |w| body(w, &node)),
            Err(code) => self.fail(ask, seen, code),
        }
    }

    fn get_acl(&self, ask: &Ask<'_>, path: &str) {
        let caller = ask.identities.caller();
        let watch = Watch {
            modes: None,
            missing_too: false,
        };
        self.node(ask, path, watch, Perms::READ | Perms::ADMIN, |w, node| {
            // Hashes are for those who could replace them.
            let whole = caller.allows(node.acl(), Perms::ADMIN);
            let entries = node.acl().iter().map(|acl| AclRef {
                perms: acl.perms,
                scheme: Some(acl.id.scheme.as_str().into()),
                id: Some(match acl.id.id.split_once(':') {
                    Some((user, _)) if !whole && acl.id.scheme == "digest" => {
                        format!("{user}:x").into()
                    }
                    _ => acl.id.id.as_str().into(),
                }),
            });
            reply::acl_stat(w, entries.collect::<Vec<_>>(), &node.stat());
        });
    }

    fn descendants(&self, ask: &Ask<'_>, path: &str) {
        let tree = self.pipeline.state.tree();
        let _gate = tree.gate();
        let applied = self.applied();
        let allowed = match tree.read(path).node() {
            None => Err(ErrorCode::NoNode),
            Some(node) if ask.identities.caller().allows(node.acl(), Perms::READ) => Ok(()),
            Some(_) => Err(ErrorCode::NoAuth),
        };
        let counted = allowed.and_then(|()| tree.descendants(path).ok_or(ErrorCode::NoNode));
        match counted {
            Ok(count) => {
                // By its other name the root is one of those below it, as in ZooKeeper.
                let count = count.saturating_add(u32::from(path.is_empty()));
                let count = i32::try_from(count).unwrap_or(i32::MAX);
                self.reply(ask, applied, |w| reply::total_number(w, count));
            }
            Err(code) => self.fail(ask, applied, code),
        }
    }

    /// This session's ephemerals whose path begins with the text; no text means all.
    fn ephemerals(&self, ask: &Ask<'_>, prefix: Option<&str>) {
        let prefix = prefix
            .map(str::trim)
            .filter(|p| !p.is_empty() && *p != "/")
            .unwrap_or("");
        let _gate = self.pipeline.state.tree().gate();
        let applied = self.applied();
        let mut paths = self.pipeline.state.ephemerals_of(self.conn.session());
        paths.retain(|path| path.starts_with(prefix));
        paths.sort_unstable();
        self.reply(ask, applied, |w| {
            reply::children(w, paths.iter().map(|path| &**path))
        });
    }

    /// Each read on its own, all of one zxid. The watch bytes are ignored, as in ZooKeeper.
    fn multi_read(&self, ask: &Ask<'_>, ops: &[MultiReadOp<'_>]) {
        let tree = self.pipeline.state.tree();
        let _gate = tree.gate();
        let applied = self.applied();
        // Written beside the outbox: no shard is taken under it (R7).
        let mut body = BytesMut::new();
        let mut w = Writer::new(&mut body);
        let mut room = MULTI_READ_BYTES_MAX;
        {
            let mut results = reply::ResultWriter::new(&mut w);
            for op in ops {
                let (MultiReadOp::GetData(read) | MultiReadOp::GetChildren(read)) = op;
                let guard = tree.read(&read.path);
                let cost = guard.node().map_or(0, |node| cost(op, &node));
                let Some(left) = room.checked_sub(cost) else {
                    return self.fail(ask, applied, ErrorCode::MarshallingError);
                };
                room = left;
                match (guard.node(), op) {
                    (None, _) => results.error(ErrorCode::NoNode.code()),
                    (Some(node), _) if !ask.identities.caller().allows(node.acl(), Perms::READ) => {
                        results.error(ErrorCode::NoAuth.code());
                    }
                    (Some(node), MultiReadOp::GetData(read)) => {
                        let config = self.config_text(&read.path);
                        let (data, stat) = shown(&node, config.as_deref());
                        results.data(data, &stat);
                    }
                    (Some(node), MultiReadOp::GetChildren(_)) => results.children(node.children()),
                }
            }
            results.finish();
        }
        if w.overflowed() {
            return self.fail(ask, applied, ErrorCode::MarshallingError);
        }
        self.reply(ask, applied, |w| w.raw(&body));
    }

    fn who_am_i(&self, ask: &Ask<'_>) {
        let shown = ask.identities.ids().iter().map(|id| {
            let user = match id.scheme.as_str() {
                "digest" => id.id.split(':').next().unwrap_or_default(),
                _ => id.id.as_str(),
            };
            (id.scheme.as_str(), user)
        });
        self.reply(ask, self.applied(), |w| {
            reply::who_am_i(w, shown.collect::<Vec<_>>())
        });
    }
}

/// What the results of one multiRead may hold, in bytes. A small request can ask thousands of
/// times for the largest znode there is.
const MULTI_READ_BYTES_MAX: usize = 64 << 20;

/// What one read of a multiRead brings to the reply, about.
fn cost(op: &MultiReadOp<'_>, node: &NodeRef<'_>) -> usize {
    match op {
        MultiReadOp::GetData(_) => node.data().map_or(0, <[u8]>::len),
        MultiReadOp::GetChildren(_) => node.children().map(str::len).sum(),
    }
}

/// Data and Stat of a znode as clients see them, with what stands in for data that it has not.
fn shown<'a>(node: &'a NodeRef<'_>, instead: Option<&'a str>) -> (Option<&'a [u8]>, Stat) {
    let mut stat = node.stat();
    match instead {
        Some(text) if node.data().is_none_or(<[u8]>::is_empty) => {
            stat.data_length = i32::try_from(text.len()).unwrap_or(i32::MAX);
            (Some(text.as_bytes()), stat)
        }
        _ => (node.data(), stat),
    }
}

/// The watch that a read may leave.
struct Watch {
    modes: Option<Modes>,
    /// On a missing znode too: the exist watch.
    missing_too: bool,
}

fn write_children(w: &mut Writer<'_>, node: &NodeRef<'_>) {
    reply::children(w, node.children());
}
