//! Carries a plan out, under the locks of exactly the shards that it changes.
//!
//! Nothing in here can fail. Each change is handed to the sink while its shards are locked, so
//! that no reader sees a change whose events are not queued yet.

use std::collections::HashSet;

use quorate_proto::{EventType, Zxid, path};

use super::ChangeSink;
use super::core::Core;
use super::node::{Family, Node, Owner, Parts};
use super::plan::Change;
use super::quota::{self, QuotaNode, Track};
use super::reap::Due;
use super::shard::Shard;
use super::store::{Place, Shared, WriteHeld};

/// Does it all, then tells the sink of it, change by change, then brings quotas up to date.
pub(super) fn commit(
    tree: &Shared,
    core: &mut Core,
    zxid: Zxid,
    changes: &[Change],
    sink: &mut dyn ChangeSink,
) {
    if changes.is_empty() {
        return;
    }
    let mut locked = Locked::lock(tree, core, zxid, changes);
    for change in changes {
        carry_out(tree, core, &mut locked, zxid, change, sink);
    }
    drop(locked);
    for change in changes {
        account(tree, core, zxid, change);
    }
    // Behind the rest: a usage that is counted now has everything else of this transaction in it.
    // So once is enough, and a multi that makes the same usage a thousand times does not walk
    // the tree as often.
    let mut counted = HashSet::new();
    for change in changes {
        if let Change::Create { node, .. } = change
            && let Some(QuotaNode::Stats(prefix)) = quota_node(node)
            && counted.insert(prefix)
        {
            recount(tree, core, zxid, prefix);
        }
    }
}

/// Write locks on some shards, taken in ascending order.
struct Locked<'t>(Vec<(usize, WriteHeld<'t, Shard>)>);

impl<'t> Locked<'t> {
    fn lock(tree: &'t Shared, core: &Core, zxid: Zxid, changes: &[Change]) -> Locked<'t> {
        let mut wanted = Vec::with_capacity(changes.len() * 2);
        for change in changes {
            match change {
                Change::Create { at, up, .. } | Change::Delete { at, up, .. } => {
                    wanted.push(at.shard());
                    wanted.push(up.shard());
                }
                Change::SetData { at, .. } | Change::SetAcl { at, .. } => wanted.push(at.shard()),
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        Locked(
            wanted
                .into_iter()
                .map(|at| (at, open(tree, core, zxid, at)))
                .collect(),
        )
    }

    fn shard(&mut self, place: Place) -> &mut Shard {
        let at = self
            .0
            .binary_search_by_key(&place.shard(), |(at, _)| *at)
            .ok();
        let found = at.and_then(|at| self.0.get_mut(at));
        &mut found.expect("the plan names every shard that it changes").1
    }
}

/// Locks a shard for writing: captures that have not been there yet take it as it is.
fn open<'t>(tree: &'t Shared, core: &Core, zxid: Zxid, at: usize) -> WriteHeld<'t, Shard> {
    let mut shard = tree.write_shard(at);
    for capture in &core.captures {
        capture.before_write(at, &shard, tree);
    }
    shard.zxid = zxid.0;
    shard
}

fn carry_out(
    tree: &Shared,
    core: &mut Core,
    locked: &mut Locked<'_>,
    zxid: Zxid,
    change: &Change,
    sink: &mut dyn ChangeSink,
) {
    let rehash = &|path: &[u8]| tree.hash(path);
    match change {
        Change::Create {
            at,
            node,
            up,
            parent,
        } => {
            let family = node.childless();
            let replaced = locked.shard(*at).put(at.hash(), node.clone(), rehash);
            debug_assert!(replaced.is_none(), "planned, so it was not there");
            core.totals.nodes += 1;
            core.totals.bytes += size(node);
            core.totals.digest = core.totals.digest.wrapping_add(node.digest(family));
            index(core, node, None, Some(family));

            let path = node.path();
            let home = locked.shard(*up).parent_mut(up.hash(), parent, rehash);
            let before = home.family();
            home.child_created(path::name(path), zxid.0);
            let after = home.family();
            retouch(core, parent, before, after);
            sink.change(zxid, EventType::NodeCreated, path, node.acl());
            tell_parent(sink, zxid, parent);
        }
        Change::Delete {
            at,
            node,
            up,
            parent,
        } => {
            let family = locked.shard(*at).family(at.hash(), node);
            locked.shard(*at).remove(at.hash(), node.path());
            core.totals.nodes -= 1;
            core.totals.bytes -= size(node);
            core.totals.digest = core.totals.digest.wrapping_sub(node.digest(family));
            index(core, node, Some(family), None);

            let path = node.path();
            let home = locked.shard(*up).parent_mut(up.hash(), parent, rehash);
            let before = home.family();
            home.child_deleted(path::name(path), zxid.0);
            let after = home.family();
            retouch(core, parent, before, after);
            sink.change(zxid, EventType::NodeDeleted, path, node.acl());
            tell_parent(sink, zxid, parent);
        }
        Change::SetData { at, before, after } => {
            replace(core, locked.shard(*at), *at, before, after, rehash);
            sink.change(zxid, EventType::NodeDataChanged, after.path(), after.acl());
        }
        Change::SetAcl { at, before, after } => {
            replace(core, locked.shard(*at), *at, before, after, rehash);
        }
    }
}

fn replace(
    core: &mut Core,
    shard: &mut Shard,
    at: Place,
    before: &Node,
    after: &Node,
    rehash: &dyn Fn(&[u8]) -> u64,
) {
    let family = shard.family(at.hash(), before);
    shard.put(at.hash(), after.clone(), rehash);
    let totals = &mut core.totals;
    totals.bytes = totals.bytes + size(after) - size(before);
    totals.digest = totals
        .digest
        .wrapping_sub(before.digest(family))
        .wrapping_add(after.digest(family));
    if !matches!(after.owner(), Owner::Nobody) {
        let due = (Due::of(before, family), Due::of(after, family));
        core.reap.update(after.path(), due.0, due.1);
    }
}

/// A parent's digest and reaping follow its family.
fn retouch(core: &mut Core, parent: &Node, before: Family, after: Family) {
    core.totals.digest = core
        .totals
        .digest
        .wrapping_sub(parent.digest(before))
        .wrapping_add(parent.digest(after));
    if !matches!(parent.owner(), Owner::Nobody) {
        let due = (Due::of(parent, before), Due::of(parent, after));
        core.reap.update(parent.path(), due.0, due.1);
    }
}

/// Keeps the indexes of what goes by itself.
fn index(core: &mut Core, node: &Node, before: Option<Family>, after: Option<Family>) {
    match node.owner() {
        Owner::Nobody => {}
        Owner::Session(session) if after.is_some() => core.ephemerals.insert(session, node.path()),
        Owner::Session(session) => core.ephemerals.remove(session, node.path()),
        Owner::Container | Owner::Ttl(_) => core.reap.update(
            node.path(),
            before.and_then(|family| Due::of(node, family)),
            after.and_then(|family| Due::of(node, family)),
        ),
    }
}

fn tell_parent(sink: &mut dyn ChangeSink, zxid: Zxid, parent: &Node) {
    sink.change(
        zxid,
        EventType::NodeChildrenChanged,
        parent.path(),
        parent.acl(),
    );
}

pub(super) fn size(node: &Node) -> u64 {
    (node.path_bytes().len() + node.data_len()) as u64
}

/// What the znode is to quotas. Looks at the bytes first: nearly all are nothing to them.
fn quota_node(node: &Node) -> Option<QuotaNode<'_>> {
    if node.path_bytes().starts_with(path::QUOTA.as_bytes()) {
        QuotaNode::at(node.path())
    } else {
        None
    }
}

/// Follows a change with its quota: silently, in no version, zxid or watch.
fn account(tree: &Shared, core: &mut Core, zxid: Zxid, change: &Change) {
    let (node, count, bytes) = match change {
        Change::Create { node, .. } => {
            if let Some(QuotaNode::Limits(prefix)) = quota_node(node) {
                core.quotas.add(prefix);
            }
            (node, 1, data_len(node))
        }
        Change::Delete { node, .. } => {
            if let Some(QuotaNode::Limits(prefix)) = quota_node(node) {
                core.quotas.remove(prefix);
            }
            (node, -1, -data_len(node))
        }
        Change::SetData { before, after, .. } => (after, 0, data_len(after) - data_len(before)),
        Change::SetAcl { .. } => return,
    };
    if core.quotas.is_empty() {
        return;
    }
    let Some(prefix) = core.quotas.of(node.path()) else {
        return;
    };
    if (count, bytes) != (0, 0) {
        rewrite(tree, core, zxid, &quota::stats_path(prefix), |usage| {
            let mut usage = usage.ok()?;
            usage.add(count, bytes);
            Some(usage)
        });
    }
}

/// Stores the usage of a prefix, counted anew.
pub(super) fn recount(tree: &Shared, core: &mut Core, zxid: Zxid, prefix: &str) {
    let (mut count, mut bytes) = (0, 0);
    let mut open = vec![prefix.to_owned()];
    while let Some(path) = open.pop() {
        let place = tree.place(&path);
        let shard = tree.read_shard(place.shard());
        let Some(node) = shard.node(place.hash(), &path) else {
            continue;
        };
        count += 1;
        bytes += data_len(node);
        if let Some(parent) = shard.parent(place.hash(), path.as_bytes()) {
            let path = path.trim_end_matches('/');
            open.extend(parent.names().iter().map(|name| format!("{path}/{name}")));
        }
    }
    rewrite(tree, core, zxid, &quota::stats_path(prefix), |_| {
        Some(Track::of_usage(count, bytes))
    });
}

fn rewrite(
    tree: &Shared,
    core: &mut Core,
    zxid: Zxid,
    path: &str,
    edit: impl FnOnce(Result<Track, quota::Garbage>) -> Option<Track>,
) {
    let place = tree.place(path);
    let Some((before, _)) = tree.look(place, path) else {
        return;
    };
    // A usage that a client has overwritten with something else stays as it is.
    let Some(usage) = edit(Track::parse(before.data())) else {
        return;
    };
    let text = usage.text();
    let parts = Parts {
        data: Some(text.as_bytes()),
        ..before.parts()
    };
    let after = Node::pack(&parts, &mut core.scratch);
    let mut shard = open(tree, core, zxid, place.shard());
    let rehash = &|path: &[u8]| tree.hash(path);
    replace(core, &mut shard, place, &before, &after, rehash);
}

fn data_len(node: &Node) -> i64 {
    i64::try_from(node.data_len()).unwrap_or(i64::MAX)
}
