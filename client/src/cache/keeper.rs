//! The task that keeps a cache up: it watches, marks what changed, and reads what is marked.
//!
//! Nothing is concluded from an event but that its path is to be read: an event may come before or
//! after the answer of a read that it concerns. A read that was sent behind the event shows what
//! the event told, or what came later.
//!
//! With a lasting watch, events may be missed only where it says so: then everything known is
//! read again, and what is listed and not known. With one-shot watches, for servers that have no
//! others, each state is read together with the watch of the next one, and the server catches up
//! on what happened while the connection was away.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::{BoxFuture, pending};
use futures::stream::FuturesUnordered;
use quorate_proto::{ErrorCode, EventType, Stat, path};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::store::{CacheEvent, CachedNode, Put, room_for};
use super::work::{Parts, Work};
use super::{Options, Scope, Shared, State};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::follow::{Pauses, look, may_pass};
use crate::ops::Node;
use crate::session::Status;
use crate::watch::{Notice, Watch, WatchStream, WatchedEvent};

/// Reads on their way at once.
const READS_MAX: usize = 64;

type Fired = (Arc<str>, Result<WatchedEvent>);

pub(super) struct Keeper {
    client: Client,
    options: Options,
    shared: Arc<Shared>,
    status: watch::Receiver<Status>,
    work: Work,
    reads: FuturesUnordered<BoxFuture<'static, Done>>,
    one_shots: FuturesUnordered<BoxFuture<'static, Fired>>,
    is_one_shot: bool,
    /// The connection was away, and what was missed is not known yet.
    is_unsure: bool,
    /// The connection is back, and one-shot watches may have more to tell.
    needs_probe: bool,
    /// Everything is being read again.
    is_walking: bool,
    /// No reads before.
    paused_until: Option<Instant>,
    pauses: Pauses,
    /// Something was left out since everything was read.
    left_out: bool,
    /// Worth another try with all that was left out, when the store is as small as this.
    refill_below: usize,
}

/// What a read brought.
enum Done {
    Probe(Result<()>),
    Path(Box<Read>),
}

/// What a read of a path brought, where it was asked for: `None` where there is no znode.
struct Read {
    path: Arc<str>,
    parts: Parts,
    node: Option<Found<CachedNode>>,
    children: Option<Found<(Vec<String>, Stat)>>,
    watches: Vec<Watch>,
}

type Found<T> = Result<Option<T>>;

impl Keeper {
    pub(super) fn new(client: &Client, options: Options, shared: Arc<Shared>) -> Keeper {
        Keeper {
            client: client.clone(),
            options,
            shared,
            status: client.status(),
            work: Work::default(),
            reads: FuturesUnordered::new(),
            one_shots: FuturesUnordered::new(),
            is_one_shot: false,
            is_unsure: false,
            needs_probe: false,
            is_walking: false,
            paused_until: None,
            pauses: Pauses::default(),
            left_out: false,
            refill_below: 0,
        }
    }

    /// Keeps the cache up until that cannot go on.
    pub(super) async fn run(mut self) {
        let mut has_read = false;
        let error = loop {
            let Err(error) = self.keep(has_read).await;
            if !may_pass(&self.client, &error) {
                break error;
            }
            tracing::debug!(root = %self.options.root, %error, "the cache starts again");
            has_read = true;
            self.stale();
            self.pauses.pause().await;
        };
        tracing::info!(root = %self.options.root, %error, "the cache is kept up no longer");
        self.stale();
        self.shared.tell(CacheEvent::Ended(error.clone()));
        self.shared.state.send_replace(State::Ended(error));
    }

    /// Watches and reads for as long as the watch stands.
    async fn keep(&mut self, has_read: bool) -> Result<std::convert::Infallible> {
        self.reads.clear();
        self.one_shots.clear();
        self.work = Work::default();
        if has_read {
            // Another session may be at a server that lags behind what is shown.
            self.client.sync(&self.options.root).await?;
        }
        let mut stream = self.arm().await?;
        self.is_one_shot = stream.is_none();
        self.is_unsure = false;
        self.needs_probe = false;
        self.paused_until = None;
        self.mark_all();
        self.look_at_status();
        loop {
            self.start_reads();
            self.settle();
            let paused_until = self.paused_until;
            tokio::select! {
                biased;
                notice = next_notice(&mut stream) => self.noticed(notice)?,
                Some((path, fired)) = self.one_shots.next() => self.fired(&path, fired)?,
                changed = self.status.changed() => match changed {
                    Ok(()) => self.look_at_status(),
                    Err(_) => return Err(self.gone(crate::Reason::Closed)),
                },
                Some(done) = self.reads.next() => self.take(done)?,
                () = sleep_until(paused_until.unwrap_or_else(Instant::now)),
                    if paused_until.is_some() => self.paused_until = None,
            }
        }
    }

    /// `None` where the server knows one-shot watches only.
    async fn arm(&mut self) -> Result<Option<WatchStream>> {
        if self.options.one_shot_only {
            return Ok(None);
        }
        let root = &self.options.root;
        let armed = match self.options.scope {
            Scope::Node => self.client.watch(root),
            Scope::Children | Scope::Tree => self.client.watch_recursive(root),
        };
        match armed.await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.code() == Some(ErrorCode::Unimplemented) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn noticed(&mut self, notice: Option<Notice>) -> Result<()> {
        match notice {
            Some(Notice::Event(event)) => {
                if event.kind != EventType::NodeChildrenChanged {
                    self.changed(&event.path.into(), Parts::NODE);
                }
                Ok(())
            }
            Some(Notice::Gap { .. }) => {
                self.is_unsure = false;
                if !self.options.forget_gaps {
                    self.stale();
                    // Not all clients of a server that came back at the same time.
                    let pause = self.options.jitter.mul_f64(rand::random());
                    self.paused_until = Some(Instant::now() + pause);
                    self.mark_all();
                }
                Ok(())
            }
            Some(Notice::Lost(reason)) => Err(self.gone(reason)),
            None => Err(self.gone(crate::Reason::Closed)),
        }
    }

    fn gone(&self, reason: crate::Reason) -> Error {
        let context = crate::Context {
            op: "watch",
            path: self.options.root.to_string(),
            ..crate::Context::default()
        };
        Error::SessionGone {
            reason,
            outcome: crate::Outcome::DidNotHappen,
            context: Box::new(context),
        }
    }

    fn fired(&mut self, path: &Arc<str>, fired: Result<WatchedEvent>) -> Result<()> {
        let parts = match fired?.kind {
            EventType::NodeDataChanged => Parts::NODE,
            EventType::NodeChildrenChanged => Parts::CHILDREN,
            EventType::NodeCreated | EventType::NodeDeleted => Parts::ALL,
        };
        self.changed(path, parts);
        Ok(())
    }

    /// Something happened at a path, or may have.
    fn changed(&mut self, path: &Arc<str>, parts: Parts) {
        let Some(parts) = self.options.parts_of(path, parts) else {
            return;
        };
        let is_known = self.shared.inner.lock().store.nodes.contains_key(path);
        self.mark(path, parts, is_known);
    }

    fn mark(&mut self, path: &Arc<str>, parts: Parts, is_known: bool) {
        let needed = self.work.bytes() + room_for(path);
        let is_root = **path == *self.options.root;
        if !is_known && !is_root && !self.shared.inner.lock().store.has_room(needed) {
            self.leave_out(path);
            return;
        }
        self.work.mark(path, parts);
    }

    fn mark_all(&mut self) {
        self.left_out = false;
        self.is_walking = true;
        let known = Arc::clone(&self.shared.inner.lock().store.nodes);
        let root = Arc::clone(&self.options.root);
        for path in known.keys().chain([&root]) {
            if let Some(parts) = self.options.parts_of(path, Parts::ALL) {
                self.work.mark(path, parts);
            }
        }
    }

    fn look_at_status(&mut self) {
        let is_connected = self.status.borrow_and_update().state.is_connected();
        if !is_connected {
            self.is_unsure = true;
            self.stale();
        } else if self.is_unsure && self.is_one_shot {
            self.needs_probe = true;
        }
    }

    /// What the server has to tell of the watches that it took up again comes before the answer.
    fn probe(&mut self) {
        let exists = self.client.exists(&self.options.root).send();
        let probe = async move { Done::Probe(exists.await.map(|_| ())) };
        self.reads.push(Box::pin(probe));
    }

    fn start_reads(&mut self) {
        if self.paused_until.is_some() {
            return;
        }
        if std::mem::take(&mut self.needs_probe) {
            self.probe();
        }
        while self.work.reading() < READS_MAX {
            let Some((path, parts)) = self.work.next() else {
                return;
            };
            let read = match self.is_one_shot {
                true => self.read_and_watch(path, parts),
                false => self.read(path, parts),
            };
            self.reads.push(read);
        }
    }

    fn read(&self, path: Arc<str>, parts: Parts) -> BoxFuture<'static, Done> {
        // Both requests leave now, one behind the other.
        let data = (parts.node && !self.options.names_only).then(|| self.client.get(&path).send());
        let stat =
            (parts.node && self.options.names_only).then(|| self.client.exists(&path).send());
        let children = parts.children.then(|| self.client.children(&path).send());
        Box::pin(async move {
            let node = match (data, stat) {
                (Some(data), _) => Some(found(data.await.map(cached))),
                (None, Some(stat)) => Some(stat.await.map(|stat| stat.map(named))),
                (None, None) => None,
            };
            let children = match children {
                Some(children) => Some(found(children.await)),
                None => None,
            };
            Done::Path(Box::new(Read {
                path,
                parts,
                node,
                children,
                watches: Vec::new(),
            }))
        })
    }

    fn read_and_watch(&self, path: Arc<str>, parts: Parts) -> BoxFuture<'static, Done> {
        let client = self.client.clone();
        let names_only = self.options.names_only;
        let is_root = *path == *self.options.root;
        Box::pin(async move {
            let mut watches = Vec::new();
            let mut keep = |watch| watches.push(watch);
            let node = match parts.node {
                false => None,
                // What is missing is watched only where nothing else will tell of it.
                true => Some(match (names_only, is_root) {
                    (true, _) => client.exists(&path).watch().await.map(|(stat, watch)| {
                        if stat.is_some() || is_root {
                            keep(watch);
                        }
                        stat.map(named)
                    }),
                    (false, true) => look(&client, &path, || client.get(&path).watch())
                        .await
                        .map(|(node, watch)| {
                            keep(watch);
                            node.map(cached)
                        }),
                    (false, false) => {
                        found(client.get(&path).watch().await.map(|(node, watch)| {
                            keep(watch);
                            cached(node)
                        }))
                    }
                }),
            };
            let children = match parts.children {
                false => None,
                true => Some(found(client.children(&path).watch().await.map(
                    |(names, stat, watch)| {
                        keep(watch);
                        (names, stat)
                    },
                ))),
            };
            Done::Path(Box::new(Read {
                path,
                parts,
                node,
                children,
                watches,
            }))
        })
    }

    fn take(&mut self, done: Done) -> Result<()> {
        let read = match done {
            Done::Probe(Ok(())) => {
                self.is_unsure = !self.status.borrow().state.is_connected();
                return Ok(());
            }
            Done::Probe(Err(error)) => {
                self.needs_probe = self.may_go_on(&error);
                return match self.needs_probe {
                    true => Ok(()),
                    false => Err(error),
                };
            }
            Done::Path(read) => *read,
        };
        let Read {
            path,
            parts,
            node,
            children,
            watches,
        } = read;
        self.work.done(&path);
        for watch in watches {
            let path = Arc::clone(&path);
            self.one_shots
                .push(Box::pin(async move { (path, watch.await) }));
        }
        let lists = matches!(children, Some(Ok(Some(_))));
        if let Some(node) = node {
            self.take_node(&path, node, lists)?;
        }
        match children {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some((names, stat)))) => {
                self.take_children(&path, names, stat);
                Ok(())
            }
            Some(Err(error)) => self.failed(&path, parts, error),
        }
    }

    fn take_node(&mut self, path: &Arc<str>, node: Found<CachedNode>, lists: bool) -> Result<()> {
        let node = match node {
            Ok(Some(node)) => node,
            Ok(None) => {
                self.remove(path);
                return Ok(());
            }
            Err(error) => return self.failed(path, Parts::NODE, error),
        };
        let put = self.shared.inner.lock().store.put(path, node);
        let mut is_new = false;
        match put {
            Put::Same => {}
            Put::Changed(event) => {
                is_new = matches!(event, CacheEvent::Created { .. });
                self.shared.tell(event);
            }
            Put::Replaced(deleted, created) => {
                is_new = true;
                self.shared.tell(deleted);
                self.shared.tell(created);
            }
            Put::Older => {
                self.work.mark(path, Parts::NODE);
                self.pause();
                return Ok(());
            }
            Put::NoRoom(event) => {
                event.into_iter().for_each(|event| self.shared.tell(event));
                self.leave_out(path);
            }
        }
        self.pauses.reset();
        // With a lasting watch each child tells of itself, but for those that came in a gap: an event
        // may show us their parent before the walk has come to it.
        if is_new && !lists && (self.is_one_shot || self.is_walking) {
            self.changed(path, Parts::CHILDREN);
        }
        Ok(())
    }

    fn remove(&mut self, path: &Arc<str>) {
        let (event, below) = {
            let store = &mut self.shared.inner.lock().store;
            (store.remove(path), store.below(path))
        };
        event.into_iter().for_each(|event| self.shared.tell(event));
        // What is still shown below has gone before, or was made again since.
        for path in below {
            self.changed(&path, Parts::ALL);
        }
    }

    fn take_children(&mut self, parent: &Arc<str>, mut names: Vec<String>, stat: Stat) {
        names.sort_unstable();
        let shown = {
            let mut inner = self.shared.inner.lock();
            inner.store.saw(stat.pzxid);
            drop(inner);
            self.shared.snapshot()
        };
        for name in &names {
            let path: Arc<str> = match &**parent {
                path::ROOT => format!("/{name}").into(),
                parent => format!("{parent}/{name}").into(),
            };
            // A read of it that is on its way may have found nothing.
            let is_known = shown.nodes.contains_key(&path);
            if is_known && !self.work.is_marked(&path) {
                continue;
            }
            if let Some(parts) = self.options.parts_of(&path, Parts::ALL) {
                self.mark(&path, parts, is_known);
            }
        }
        for (name, _) in shown.children(parent) {
            if names.binary_search_by(|n| (**n).cmp(name)).is_err() {
                let path = match &**parent {
                    path::ROOT => format!("/{name}"),
                    parent => format!("{parent}/{name}"),
                };
                self.changed(&path.into(), Parts::NODE);
            }
        }
    }

    /// A read failed: again later, or never.
    fn failed(&mut self, path: &Arc<str>, parts: Parts, error: Error) -> Result<()> {
        if matches!(error, Error::NotAllowed { .. }) {
            let event = self.shared.inner.lock().store.remove(path);
            event.into_iter().for_each(|event| self.shared.tell(event));
            self.leave_out(path);
            return Ok(());
        }
        if !self.may_go_on(&error) {
            return Err(error);
        }
        self.work.mark(path, parts);
        Ok(())
    }

    /// Whether the same watch stands on after this error; pauses then.
    fn may_go_on(&mut self, error: &Error) -> bool {
        let goes_on = !error.is_session_lost() && may_pass(&self.client, error);
        if goes_on {
            self.pause();
        }
        goes_on
    }

    fn pause(&mut self) {
        self.paused_until = Some(Instant::now() + self.pauses.next());
    }

    fn leave_out(&mut self, path: &Arc<str>) {
        self.left_out = true;
        let was_complete = std::mem::replace(&mut self.shared.inner.lock().is_complete, false);
        if was_complete {
            let path = Arc::clone(path);
            self.shared.tell(CacheEvent::Incomplete { path });
        }
    }

    /// Says so when everything is read.
    fn settle(&mut self) {
        let is_connected = self.status.borrow().state.is_connected();
        if !self.work.is_empty() || self.is_unsure || !is_connected {
            return;
        }
        if self.left_out {
            let bytes = self.shared.inner.lock().store.bytes();
            if bytes < self.refill_below {
                self.one_shots.clear();
                self.refill_below = 0;
                self.mark_all();
                self.start_reads();
                return;
            }
            self.refill_below = self.refill_below.max(bytes / 4 * 3);
        }
        self.is_walking = false;
        let is_news = {
            let mut inner = self.shared.inner.lock();
            let is_whole_again = !inner.is_complete && !self.left_out;
            inner.is_complete = !self.left_out;
            inner.stale_since.take().is_some() || is_whole_again
        };
        if is_news {
            self.shared.tell(CacheEvent::Synced);
            self.shared.state.send_replace(State::Synced);
        }
    }

    fn stale(&mut self) {
        let mut inner = self.shared.inner.lock();
        if inner.stale_since.is_some() {
            return;
        }
        inner.stale_since = Some(Instant::now());
        drop(inner);
        self.shared.tell(CacheEvent::Stale);
        self.shared.state.send_replace(State::Stale);
    }
}

/// Nothing where there is no stream.
async fn next_notice(stream: &mut Option<WatchStream>) -> Option<Notice> {
    match stream {
        Some(stream) => stream.next().await,
        None => pending().await,
    }
}

fn cached(node: Node) -> CachedNode {
    CachedNode {
        data: Some(node.data),
        stat: node.stat,
    }
}

const fn named(stat: Stat) -> CachedNode {
    CachedNode { data: None, stat }
}

fn found<T>(read: Result<T>) -> Found<T> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) => Err(error),
    }
}
