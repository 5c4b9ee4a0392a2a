//! The task that owns the socket: dial, speak, listen, and say what became of the session.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::{Either, pending};
use quorate_proto::jute::DecodeError;
use quorate_proto::request::{AuthPacket, PathVersion};
use quorate_proto::{
    ErrorCode, OpCode, ReplyHeader, Request, SetWatches, SetWatches2, Version, WatcherEvent,
    WatcherType, Xid, Zxid, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::dial::Connected;
use super::ending::{End, Next};
use super::link::{Link, Open, proof_of};
use super::reach::{find_writable, no_time_to_close, until};
use super::trust::{Proof, Rule, Trust};
use super::watches::{OneShot, Table, Watches};
use super::{Arm, Response, Session, SessionInfo, SessionState, Slot};
use crate::error::Reason;
use crate::hosts::{HostPort, ServerList};
use crate::metrics;
use crate::transport::Socket;

/// How sessions of Quorate are known, by the first bytes of their password.
const QUORATE_MARK: &[u8] = &quorate_proto::limits::QUORATE_MARK;
/// Bytes collected before they are written.
const WRITE_CHUNK: usize = 64 * 1024;
/// What is read at once.
const READ_CHUNK: usize = 64 * 1024;
/// Path text in one `setWatches`, below the smallest frame limit that servers have.
const SET_WATCHES_BYTES: usize = quorate_proto::limits::SET_WATCHES_BYTES_MAX;
/// The longest pause before a dial.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// A znode that nobody has: deleting it is a write that changes nothing and is yet committed.
const NO_SUCH_ZNODE: &str = "/quorate-proof-of-session";

/// Starts the task of a session.
pub(crate) fn spawn(session: &Arc<Session>, tracker: &TaskTracker) {
    let driver = Driver {
        servers: ServerList::new(session.settings.servers.clone(), PAUSE_MAX, rand::random()),
        watches: Watches::default(),
        attached: session.settings.resume,
        trust: None,
        last_zxid: session
            .settings
            .resume
            .map_or(Zxid::ZERO, |info| info.last_zxid),
        watched_zxid: Zxid::ZERO,
        asks_for_servers: true,
        dials_failed: 0,
        close_by: None,
        is_over: false,
        shared: Arc::clone(session),
    };
    tracker.spawn(driver.run());
}

pub(super) struct Driver {
    pub(super) shared: Arc<Session>,
    pub(super) servers: ServerList,
    pub(super) watches: Watches,
    /// The session to attach to; `None` to open one.
    pub(super) attached: Option<SessionInfo>,
    pub(super) trust: Option<Trust>,
    pub(super) last_zxid: Zxid,
    /// Up to where every armed watch has told what it saw. Behind `last_zxid` while `setWatches` is
    /// not answered: another reply may say more, and a connection that ends then must not make us
    /// skip what the lists would have told.
    pub(super) watched_zxid: Zxid,
    /// The provider is to be asked before the next dial.
    pub(super) asks_for_servers: bool,
    /// Since the provider was asked.
    pub(super) dials_failed: usize,
    /// Until when a close may take, once it is known.
    pub(super) close_by: Option<Instant>,
    /// Everybody has been told that it is over.
    pub(super) is_over: bool,
}

/// Where a connection's bytes are.
pub(super) struct Wire {
    pub(super) link: Link,
    input: BytesMut,
    out: BytesMut,
    pub(super) server: Arc<str>,
    info: SessionInfo,
    generation: u64,
    is_read_only: bool,
    /// Answers to `setWatches` that are still to come.
    watches_resuming: usize,
    /// Removals of lasting watches that are not answered yet.
    taking_off: VecDeque<(Xid, Arc<str>)>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let end = match self.connect().await {
                Ok(connected) => self.serve(connected).await,
                Err(end) => end,
            };
            let is_closing = self.shared.queue.lock().is_closed;
            match end.next(self.shared.settings.new_session_on_loss, is_closing) {
                Next::Suspend(why) => self.suspended(why),
                Next::Renew(reason) => self.lost(reason),
                Next::Stop(state, reason) => {
                    self.over(state, reason);
                    return;
                }
            }
        }
    }

    /// Speaks and listens until the connection ends.
    async fn serve(&mut self, connected: Connected) -> End {
        let Connected {
            socket,
            input,
            server,
            info,
            is_read_only,
            asked,
            next_xid,
        } = connected;
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        let generation = shared.queue.lock().generation;
        let mut wire = Wire {
            link: Link::new(info.timeout, next_xid, now),
            input,
            out: BytesMut::with_capacity(4096),
            server,
            info,
            generation,
            is_read_only,
            watches_resuming: 0,
            taking_off: VecDeque::new(),
        };
        let attached = self.attach(&mut wire, asked, now).await;
        let end = match attached {
            Ok(()) => self.converse(&mut wire, socket).await,
            Err(end) => end,
        };
        self.fail_open(&mut wire, &end);
        self.servers.lost(now.elapsed());
        end
    }

    /// Speaks and listens on a connection that has the session.
    async fn converse(&mut self, wire: &mut Wire, socket: Socket) -> End {
        let shared = Arc::clone(&self.shared);
        let is_read_only = wire.is_read_only;
        let search = if is_read_only {
            let servers = self.servers.all();
            Either::Left(Box::pin(find_writable(Arc::clone(&shared), servers)))
        } else {
            Either::Right(pending::<HostPort>())
        };
        tokio::pin!(search);

        let (mut reader, mut writer) = tokio::io::split(socket);
        loop {
            if shared.abort.load(Ordering::Relaxed) {
                return End::Closed(Reason::Closed);
            }
            let now = Instant::now();
            self.take_off_watches(wire, now);
            self.fill_out(wire, now);
            let deadline = self.speak_on_time(wire, now);
            let close_by = self.close_by();
            // A server without a quorum proves nothing: the session ends under its eyes.
            let give_up_at = self.give_up_at().filter(|_| is_read_only);
            wire.input.reserve(READ_CHUNK);
            tokio::select! {
                biased;
                read = reader.read_buf(&mut wire.input) => match read {
                    Ok(0) => return End::Disconnected("the server closed the connection".to_owned()),
                    Ok(_) => if let Some(end) = self.take_in(wire) { return end },
                    Err(error) => return End::Disconnected(error.to_string()),
                },
                written = writer.write_buf(&mut wire.out), if !wire.out.is_empty() => {
                    match written {
                        Ok(0) => return End::Disconnected("nothing can be written".to_owned()),
                        Ok(_) => {}
                        Err(error) => return End::Disconnected(error.to_string()),
                    }
                    // TLS keeps what it was given until it is flushed or written to again.
                    if wire.out.is_empty() && let Err(error) = writer.flush().await {
                        return End::Disconnected(error.to_string());
                    }
                }
                () = shared.wake.notified() => {
                    let new_servers = shared.new_servers.lock().take();
                    if let Some(servers) = new_servers && !self.servers.replace(servers) {
                        return End::Disconnected(format!("{} is no server of ours any more", wire.server));
                    }
                }
                found = &mut search => {
                    self.servers.prefer(&found);
                    return End::Disconnected(format!("{found} takes writes again"));
                }
                () = until(give_up_at) => {
                    return End::Lost(Reason::SessionGivenUp(self.session_id()));
                }
                () = until(close_by) => return no_time_to_close(),
                () = sleep_until(deadline) => {
                    if wire.link.is_silent(Instant::now()) {
                        return End::Disconnected("the server says nothing".to_owned());
                    }
                }
            }
        }
    }

    /// The session is ours at this server: says so, and arms again what was armed.
    async fn attach(&mut self, wire: &mut Wire, asked: Instant, now: Instant) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let info = &wire.info;
        if !wire.is_read_only {
            let rule = match info.password.starts_with(QUORATE_MARK) {
                true => Rule::LeaderConfirmed,
                false => Rule::CommittedWrites,
            };
            let is_same = self.attached.is_some_and(|attached| attached.id == info.id);
            let trust = match self.trust.take() {
                Some(trust) if is_same && trust.rule() == rule => trust.renewed(info.timeout),
                _ => Trust::new(rule, info.timeout),
            };
            let trust = self.trust.insert(trust);
            trust.answered(Proof::Attach, asked, now);
            shared.set_trusted_until(trust.until());
            self.attached = Some(*info);
            *shared.info.lock() = Some(SessionInfo {
                last_zxid: self.last_zxid,
                ..*info
            });
        }
        self.send_credentials(wire, now).await?;
        self.resume_watches(wire);
        self.repeat_close(wire, now);
        metrics::connected();
        let state = match wire.is_read_only {
            true => SessionState::ReadOnly,
            false => SessionState::Connected,
        };
        tracing::info!(session = %info_id(wire), server = %wire.server, timeout = ?wire.info.timeout, "{state:?}");
        shared.status.send_modify(|status| {
            status.state = state;
            status.session = Some(wire.info.id);
            status.generation = wire.generation;
            status.server = Arc::clone(&wire.server);
            status.reason = None;
        });
        Ok(())
    }

    /// A close whose answer was lost with the last connection is asked for again.
    fn repeat_close(&self, wire: &mut Wire, now: Instant) {
        let queue = self.shared.queue.lock();
        let is_queued = queue
            .requests
            .back()
            .is_some_and(|queued| queued.submission.op == OpCode::CloseSession);
        if !queue.is_closed || is_queued {
            return;
        }
        let xid = wire.link.take_xid();
        if Request::CloseSession
            .write_frame(&mut wire.out, xid)
            .is_ok()
        {
            wire.link.opened_own(xid, OpCode::CloseSession, now);
        }
    }

    async fn send_credentials(&self, wire: &mut Wire, now: Instant) -> Result<(), End> {
        let provider = self.shared.settings.auth.clone();
        let mut credentials = match provider {
            None => Vec::new(),
            Some(provider) => match timeout(wire.info.timeout / 3, provider.credentials()).await {
                Ok(Ok(credentials)) => credentials,
                Ok(Err(error)) => {
                    return Err(End::Disconnected(format!("no credentials: {error}")));
                }
                Err(_) => return Err(End::Disconnected("no credentials in time".to_owned())),
            },
        };
        credentials.extend_from_slice(&self.shared.queue.lock().credentials);
        for credential in &credentials {
            let packet = Request::Auth(AuthPacket {
                kind: 0,
                scheme: Some(credential.scheme().into()),
                auth: Some(credential.auth()),
            });
            if packet.write_frame(&mut wire.out, Xid::AUTH).is_ok() {
                wire.link.opened_own(Xid::AUTH, OpCode::Auth, now);
            }
        }
        Ok(())
    }

    /// Arms on this connection what the session had armed on the last.
    fn resume_watches(&mut self, wire: &mut Wire) {
        let lists = self.watches.lists();
        let since = self.watched_zxid;
        self.watches.resuming(since);
        let mut chunks = Chunks::new(since);
        for path in &lists.data {
            chunks.add(path, |lists| &mut lists.one_shot.data);
        }
        for path in &lists.exist {
            chunks.add(path, |lists| &mut lists.one_shot.exist);
        }
        for path in &lists.child {
            chunks.add(path, |lists| &mut lists.one_shot.child);
        }
        for path in &lists.persistent {
            chunks.add(path, |lists| &mut lists.persistent);
        }
        for path in &lists.recursive {
            chunks.add(path, |lists| &mut lists.persistent_recursive);
        }
        for lists in chunks.finish() {
            let is_plain = lists.persistent.is_empty() && lists.persistent_recursive.is_empty();
            let request = match is_plain {
                true => Request::SetWatches(lists.one_shot),
                false => Request::SetWatches2(lists),
            };
            if request.write_frame(&mut wire.out, Xid::SET_WATCHES).is_ok() {
                wire.watches_resuming += 1;
            }
        }
        if wire.watches_resuming == 0 {
            self.watches.resumed();
        }
    }

    /// Moves requests from the queue to the wire, as many as are worth one write.
    fn fill_out(&mut self, wire: &mut Wire, now: Instant) {
        if wire.out.len() >= WRITE_CHUNK {
            return;
        }
        let mut queue = self.shared.queue.lock();
        while wire.out.len() < WRITE_CHUNK {
            let Some(queued) = queue.pop() else {
                return;
            };
            if !queued.slot.as_ref().is_none_or(Slot::begin) {
                self.shared.answered(1);
                continue;
            }
            let op = queued.submission.op;
            let xid = match op {
                OpCode::Auth => Xid::AUTH,
                _ => wire.link.take_xid(),
            };
            if let Some(arm) = &queued.submission.arm {
                let (path, table, _) = arm.place();
                self.watches.arming(path, table);
            }
            let at = wire.out.len() + frame::PREFIX_LEN;
            wire.out.extend_from_slice(&queued.submission.frame);
            if let Some(number) = wire.out.get_mut(at..at + 4) {
                number.copy_from_slice(&xid.0.to_be_bytes());
            }
            wire.link.opened(xid, queued, now);
        }
        // More waits: come back when this much is written.
        if !queue.requests.is_empty() {
            self.shared.wake.notify_one();
        }
    }

    /// Takes watches off the server that nobody waits for any more.
    fn take_off_watches(&mut self, wire: &mut Wire, now: Instant) {
        let unwatch = std::mem::take(&mut self.shared.queue.lock().unwatch);
        for (path, table, id) in unwatch {
            self.watches.forget(&path, table, id);
            if self.watches.release(&path, table) {
                self.take_off(wire, &path, kind_of(table), now);
            }
        }
        self.shared.set_watches_held(self.watches.len());
    }

    fn take_off(&self, wire: &mut Wire, path: &Arc<str>, kind: WatcherType, now: Instant) {
        let request = Request::RemoveWatches {
            path: (&**path).into(),
            kind,
        };
        let xid = wire.link.take_xid();
        if request.write_frame(&mut wire.out, xid).is_ok() {
            wire.link.opened_own(xid, OpCode::RemoveWatches, now);
            if matches!(
                kind,
                WatcherType::Persistent | WatcherType::PersistentRecursive
            ) {
                wire.taking_off.push_back((xid, Arc::clone(path)));
            }
        }
    }

    /// The answer to the removal of a lasting watch. ZooKeeper before 3.9 takes those off only
    /// together with whatever else stands at the path.
    fn taken_off(&mut self, wire: &mut Wire, xid: Xid, err: i32, now: Instant) {
        let is_next = wire
            .taking_off
            .front()
            .is_some_and(|(next, _)| *next == xid);
        let Some((_, path)) = wire.taking_off.pop_front_if(|_| is_next) else {
            return;
        };
        // Another watch is needed there: the one that nobody needs stays with it.
        if err == ErrorCode::MarshallingError.code() && !self.watches.stands_at(&path) {
            self.take_off(wire, &path, WatcherType::Any, now);
        }
    }

    /// Pings, and proves the session, when it is time to; says when to come back.
    fn speak_on_time(&mut self, wire: &mut Wire, now: Instant) -> Instant {
        if now >= wire.link.ping_at() && Request::Ping.write_frame(&mut wire.out, Xid::PING).is_ok()
        {
            wire.link.pinged(now);
        }
        let mut next = wire.link.ping_at().min(wire.link.silent_at());
        let needs_writes = self
            .trust
            .as_ref()
            .is_some_and(|trust| trust.rule() == Rule::CommittedWrites)
            && self.shared.trust_holders.load(Ordering::Relaxed) > 0
            && !wire.is_read_only;
        if needs_writes {
            if now >= wire.link.proof_at() {
                let proof = PathVersion {
                    path: NO_SUCH_ZNODE.into(),
                    version: Version(0),
                };
                let xid = wire.link.take_xid();
                if Request::Delete(proof)
                    .write_frame(&mut wire.out, xid)
                    .is_ok()
                {
                    wire.link.opened_own(xid, OpCode::Delete, now);
                }
            }
            next = next.min(wire.link.proof_at());
        }
        next
    }

    /// Handles every whole frame that has arrived.
    fn take_in(&mut self, wire: &mut Wire) -> Option<End> {
        let now = Instant::now();
        wire.link.heard(now);
        let limit = self.shared.settings.reply_bytes_max;
        loop {
            let len = match frame::split(&wire.input, limit) {
                Ok(Some((_, len))) => len,
                Ok(None) => break,
                Err(error) => return Some(End::Disconnected(error.to_string())),
            };
            let mut payload = wire.input.split_to(len).freeze();
            payload.advance(frame::PREFIX_LEN);
            let Ok((header, _)) = ReplyHeader::decode(&payload) else {
                return Some(End::Disconnected(
                    "the server sent a reply without a header".to_owned(),
                ));
            };
            payload.advance(ReplyHeader::ENCODED_LEN);
            if let Some(end) = self.take_reply(wire, header, payload, now) {
                return Some(end);
            }
        }
        if let Some(trust) = &self.trust {
            self.shared.set_trusted_until(trust.until());
        }
        None
    }

    fn take_reply(
        &mut self,
        wire: &mut Wire,
        header: ReplyHeader,
        body: Bytes,
        now: Instant,
    ) -> Option<End> {
        if header.xid == Xid::NOTIFICATION {
            return self.take_event(wire, header, &body);
        }
        match header.xid {
            Xid::PING => {
                if let Some(sent) = wire.link.ping_answered() {
                    self.proven(wire, Proof::Contact, sent, now);
                }
                return None;
            }
            // Another server may be newer: without an error nobody would be told.
            Xid::SET_WATCHES if header.err != 0 => {
                let text = format!("the server refused to take up watches ({})", header.err);
                return Some(End::Disconnected(text));
            }
            Xid::SET_WATCHES => {
                wire.watches_resuming = wire.watches_resuming.saturating_sub(1);
                if wire.watches_resuming == 0 {
                    self.watches.resumed();
                    self.watched_zxid = self.last_zxid;
                }
                return None;
            }
            _ => {}
        }
        // Only from replies to requests, which come behind the events of what they have seen. Two
        // events of one transaction may be cut apart, and the second would then be behind what we
        // claim to have seen.
        if header.zxid > self.last_zxid {
            self.last_zxid = header.zxid;
        }
        if wire.watches_resuming == 0 {
            self.watched_zxid = self.last_zxid;
        }
        let Some(open) = wire.link.answered(header.xid) else {
            let text = format!(
                "the server answered request {}, which is not its turn",
                header.xid
            );
            return Some(End::Disconnected(text));
        };
        if wire.link.has_overtaken_pings(&open) {
            let text = "the server answers requests and no pings".to_owned();
            return Some(End::Disconnected(text));
        }
        if is_judged(header) {
            self.proven(wire, proof_of(open.op), open.sent, now);
        }
        self.answer(wire, open, header, body, now)
    }

    fn answer(
        &mut self,
        wire: &mut Wire,
        open: Open,
        header: ReplyHeader,
        body: Bytes,
        now: Instant,
    ) -> Option<End> {
        if let Some(arm) = open.arm {
            self.arm(wire, arm, header.err, open.slot.as_ref(), now);
        }
        let is_refused_auth = open.op == OpCode::Auth && header.err != 0;
        let is_closed = open.op == OpCode::CloseSession;
        if open.op == OpCode::RemoveWatches && open.slot.is_none() {
            self.taken_off(wire, header.xid, header.err, now);
        }
        if let Some(slot) = open.slot {
            self.shared.answered(1);
            slot.fill(Ok(Response {
                xid: header.xid,
                zxid: header.zxid,
                err: header.err,
                body,
                server: Arc::clone(&wire.server),
                session: wire.info.id,
                generation: wire.generation,
            }));
        }
        if is_refused_auth {
            let text = format!("by {}", wire.server);
            return Some(End::Closed(Reason::AuthFailed(text)));
        }
        is_closed.then_some(End::Closed(Reason::Closed))
    }

    /// The reply to a request that asked for a watch: arms it, if the server did.
    fn arm(
        &mut self,
        wire: &mut Wire,
        arm: Arm,
        err: i32,
        slot: Option<&super::Slot>,
        now: Instant,
    ) {
        let is_missing = err == ErrorCode::NoNode.code();
        let is_wanted = slot.is_some_and(|slot| !slot.is_abandoned()) && arm.is_wanted();
        let (path, table, _) = arm.place();
        let path = Arc::clone(path);
        self.watches.settled(&path, table);
        let is_armed = match arm {
            Arm::Once {
                path,
                id,
                table,
                fire,
                exists,
            } => {
                let list = match (table, is_missing) {
                    (Table::Child, _) => OneShot::Child,
                    (_, true) => OneShot::Exist,
                    (_, false) => OneShot::Data,
                };
                let is_armed = err == 0 || (exists && is_missing);
                if is_armed && is_wanted {
                    self.watches.armed_once(&path, id, list, fire);
                }
                is_armed
            }
            Arm::Lasting {
                path,
                id,
                mode,
                queue,
            } => {
                if err == 0 && is_wanted {
                    self.watches.armed(&path, id, mode, queue);
                }
                err == 0
            }
        };
        if is_armed && !is_wanted {
            self.watches.armed_for_nobody(&path, table);
        }
        if self.watches.release(&path, table) {
            self.take_off(wire, &path, kind_of(table), now);
        }
    }

    fn take_event(&mut self, wire: &Wire, header: ReplyHeader, body: &[u8]) -> Option<End> {
        match WatcherEvent::decode(body) {
            Ok(event) => {
                let zxid = (header.zxid > Zxid::ZERO).then_some(header.zxid);
                self.watches
                    .fire(event.event, &event.path, zxid, self.last_zxid);
                None
            }
            Err(error @ DecodeError::BadValue { .. }) => {
                tracing::warn!(%error, server = %wire.server, "an event of an unknown kind is skipped");
                None
            }
            Err(error) => Some(End::Disconnected(format!(
                "an event that cannot be read: {error}"
            ))),
        }
    }

    fn proven(&mut self, wire: &Wire, proof: Proof, sent: Instant, now: Instant) {
        if wire.is_read_only {
            return;
        }
        if let Some(trust) = &mut self.trust {
            trust.answered(proof, sent, now);
        }
    }
}

/// Whether a reply shows that the request was taken to the leader and judged there.
///
/// A refusal counts only if it is one that only the state of the tree can give, and if it has a
/// place in the order of transactions: others are made by the server that was asked.
fn is_judged(header: ReplyHeader) -> bool {
    use ErrorCode::{BadVersion, NoAuth, NoChildrenForEphemerals, NoNode, NodeExists, NotEmpty};
    let judged = [
        NoNode,
        NodeExists,
        BadVersion,
        NotEmpty,
        NoChildrenForEphemerals,
        NoAuth,
    ];
    header.err == 0
        || (header.zxid > Zxid::ZERO
            && ErrorCode::from_code(header.err).is_some_and(|code| judged.contains(&code)))
}

/// How a watch is taken off by itself.
const fn kind_of(table: Table) -> WatcherType {
    match table {
        Table::Data => WatcherType::Data,
        Table::Child => WatcherType::Children,
        Table::Persistent => WatcherType::Persistent,
        Table::Recursive => WatcherType::PersistentRecursive,
    }
}

fn info_id(wire: &Wire) -> quorate_proto::SessionId {
    wire.info.id
}

/// Paths for `setWatches`, split so that each frame is one that every server reads.
struct Chunks<'a> {
    since: Zxid,
    full: Vec<SetWatches2<'a>>,
    bytes: usize,
}

impl<'a> Chunks<'a> {
    fn new(since: Zxid) -> Chunks<'a> {
        Chunks {
            since,
            full: Vec::new(),
            bytes: SET_WATCHES_BYTES,
        }
    }

    fn add(
        &mut self,
        path: &'a str,
        list: for<'l> fn(&'l mut SetWatches2<'a>) -> &'l mut Vec<Cow<'a, str>>,
    ) {
        if self.bytes >= SET_WATCHES_BYTES {
            self.bytes = 0;
            self.full.push(SetWatches2 {
                one_shot: SetWatches {
                    relative_zxid: self.since,
                    data: Vec::new(),
                    exist: Vec::new(),
                    child: Vec::new(),
                },
                persistent: Vec::new(),
                persistent_recursive: Vec::new(),
            });
        }
        self.bytes += path.len() + 4;
        if let Some(last) = self.full.last_mut() {
            list(last).push(path.into());
        }
    }

    fn finish(self) -> Vec<SetWatches2<'a>> {
        self.full
    }
}
