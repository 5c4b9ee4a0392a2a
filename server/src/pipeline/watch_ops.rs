//! Requests about watches alone: add, check, remove, and setting them again after a reconnect.

use bytes::BytesMut;
use quorate_proto::request::Request;
use quorate_proto::{AddWatchMode, ErrorCode, EventType, SetWatches, WatcherType, Zxid, reply};

use super::line::{Ask, Line};
use crate::watches::Modes;

impl Line {
    pub(super) fn watch_op(&self, ask: &Ask<'_>, request: &Request<'_>) {
        match request {
            Request::AddWatch { path, mode } => self.add_watch(ask, path, *mode),
            Request::CheckWatches { path, kind } => {
                let held = self
                    .pipeline
                    .sessions
                    .watches
                    .holds(self.conn.id, path, modes(*kind));
                self.found(ask, held);
            }
            Request::RemoveWatches { path, kind } => {
                // No change is being delivered meanwhile: behind the reply no event comes.
                let _gate = self.pipeline.state.tree().gate();
                let held = self
                    .pipeline
                    .sessions
                    .watches
                    .remove(self.conn.id, path, modes(*kind));
                self.found(ask, held);
            }
            Request::SetWatches(lists) => self.set_watches(ask, lists, &[], &[]),
            Request::SetWatches2(lists) => self.set_watches(
                ask,
                &lists.one_shot,
                &lists.persistent,
                &lists.persistent_recursive,
            ),
            _ => self.fail(ask, self.applied(), ErrorCode::MarshallingError),
        }
    }

    /// Needs no znode and no permission; what is delivered is filtered instead. The reply is queued
    /// under the lock that keeps changes out, so no event of the watch stands before it.
    fn add_watch(&self, ask: &Ask<'_>, path: &str, mode: AddWatchMode) {
        let (tree, watches) = (self.pipeline.state.tree(), &self.pipeline.sessions.watches);
        match mode {
            AddWatchMode::Persistent => {
                let applied = self.applied();
                let guard = tree.read(path);
                watches.add(self.conn.id, path, Modes::PERSISTENT);
                self.reply(ask, applied.max(guard.shard_zxid()), reply::add_watch);
            }
            AddWatchMode::PersistentRecursive => {
                let _gate = tree.gate();
                watches.add(self.conn.id, path, Modes::RECURSIVE);
                self.reply(ask, self.applied(), reply::add_watch);
            }
        }
    }

    fn found(&self, ask: &Ask<'_>, held: bool) {
        if held {
            self.reply(ask, self.applied(), |_| ());
        } else {
            self.fail(ask, self.applied(), ErrorCode::NoWatcher);
        }
    }

    /// Path by path, each under its own shard: what changed since is told now, what did not is
    /// armed, and nothing falls between (R15). One lock over all of it would stop writes while
    /// thousands of clients come back.
    fn set_watches(
        &self,
        ask: &Ask<'_>,
        lists: &SetWatches<'_>,
        persistent: &[std::borrow::Cow<'_, str>],
        recursive: &[std::borrow::Cow<'_, str>],
    ) {
        let since = lists.relative_zxid;
        for path in &lists.data {
            self.catch_up(path, Modes::DATA, |node| match node {
                None => Some(EventType::NodeDeleted),
                Some((mzxid, _)) => (mzxid > since).then_some(EventType::NodeDataChanged),
            });
        }
        for path in &lists.exist {
            self.catch_up(path, Modes::DATA, |node| {
                node.map(|_| EventType::NodeCreated)
            });
        }
        for path in &lists.child {
            self.catch_up(path, Modes::CHILD, |node| match node {
                None => Some(EventType::NodeDeleted),
                Some((_, pzxid)) => (pzxid > since).then_some(EventType::NodeChildrenChanged),
            });
        }
        for path in persistent {
            self.catch_up(path, Modes::PERSISTENT, |_| None);
        }
        for path in recursive {
            let _gate = self.pipeline.state.tree().gate();
            self.pipeline
                .sessions
                .watches
                .add(self.conn.id, path, Modes::RECURSIVE);
        }
        self.reply(ask, self.applied(), |_| ());
    }

    /// Tells at once what `missed` says of the znode's mzxid and pzxid, or arms the watch.
    fn catch_up(
        &self,
        path: &str,
        modes: Modes,
        missed: impl FnOnce(Option<(Zxid, Zxid)>) -> Option<EventType>,
    ) {
        let guard = self.pipeline.state.tree().read(path);
        let node = guard.node().map(|node| {
            let stat = node.stat();
            (Zxid(stat.mzxid), Zxid(stat.pzxid))
        });
        match missed(node) {
            Some(event) => {
                let mut frame = BytesMut::new();
                reply::notification(&mut frame, Zxid::NONE, event, path);
                self.conn.outbox().queue_event(&frame);
            }
            None => self
                .pipeline
                .sessions
                .watches
                .add(self.conn.id, path, modes),
        }
    }
}

/// The modes that a watcher type names.
fn modes(kind: WatcherType) -> Modes {
    match kind {
        WatcherType::Children => Modes::CHILD,
        WatcherType::Data => Modes::DATA,
        WatcherType::Any => Modes::ANY,
        WatcherType::Persistent => Modes::PERSISTENT,
        WatcherType::PersistentRecursive => Modes::RECURSIVE,
    }
}
