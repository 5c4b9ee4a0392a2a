//! The task that owns the socket: one loop over all that may happen on a connection.
//!
//! Job: reach a server, converse with it, end. Each of these has a file: `reach` and `attach`,
//! `speak` and `listen`, `ending`. Not here: what is said, and what it means.
//!
//! Invariant: what has arrived is read before time is judged.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::{Either, pending};
use futures::poll;
use quorate_proto::{Xid, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::dial::Connected;
use super::ending::{End, Next};
use super::link::Link;
use super::reach::{find_writable, no_time_to_close, until};
use super::trust::Trust;
use super::watches::Watches;
use super::{Failure, Response, Session, SessionInfo, Slot};
use crate::error::Reason;
use crate::hosts::{HostPort, ServerList};
use crate::transport::Socket;

/// What is read at once.
pub(super) const READ_CHUNK: usize = 64 * 1024;
/// With less room than this, more is made before a read.
const READ_LEFT_MIN: usize = 4 * 1024;
/// The longest pause before a dial.
const PAUSE_MAX: Duration = Duration::from_secs(3);

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
        untrusted_in_a_row: 0,
        close_by: None,
        to_answer: Vec::new(),
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
    /// Dials, one after the other, that failed for want of trust.
    pub(super) untrusted_in_a_row: usize,
    /// Until when a close may take, once it is known.
    pub(super) close_by: Option<Instant>,
    /// What is answered once the status says why.
    pub(super) to_answer: Vec<(Slot, Result<Response, Failure>)>,
    /// Everybody has been told that it is over.
    pub(super) is_over: bool,
}

/// Where a connection's bytes are.
pub(super) struct Wire {
    pub(super) link: Link,
    pub(super) input: BytesMut,
    pub(super) out: BytesMut,
    pub(super) server: Arc<str>,
    pub(super) info: SessionInfo,
    pub(super) generation: u64,
    pub(super) is_read_only: bool,
    /// Answers to `setWatches` that are still to come.
    pub(super) watches_resuming: usize,
    /// Events of kinds that nobody here knows.
    pub(super) events_skipped: u64,
    /// Removals of lasting watches that are not answered yet.
    pub(super) taking_off: VecDeque<(Xid, Arc<str>)>,
}

/// What the socket did.
enum Moved {
    In(std::io::Result<usize>),
    Out(std::io::Result<usize>),
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
            events_skipped: 0,
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
        // One timer for the connection: deadlines move on with every reply, and a timer that goes
        // off too early is set again at less cost than one that is made anew for every reply.
        let alarm = sleep_until(Instant::now());
        tokio::pin!(alarm);
        loop {
            if shared.abort.load(Ordering::Relaxed) {
                return End::Closed(Reason::Closed);
            }
            let now = Instant::now();
            self.take_off_watches(wire, now);
            self.fill_out(wire, now);
            let deadline = self.speak_on_time(wire, now);
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            let close_by = self.close_by();
            // A server without a quorum proves nothing: the session ends under its eyes.
            let give_up_at = self.give_up_at().filter(|_| is_read_only);
            // A server that never stops talking keeps the socket readable and the timers waiting.
            if wire.link.is_silent(now) {
                return End::Disconnected("the server says nothing".to_owned());
            }
            if close_by.is_some_and(|at| at <= now) {
                return no_time_to_close();
            }
            if give_up_at.is_some_and(|at| at <= now) {
                return End::Lost(Reason::SessionGivenUp(self.session_id()));
            }
            // Replies that somebody still holds keep the buffer: what is left of it is used up first.
            if wire.input.capacity() - wire.input.len() < READ_LEFT_MIN {
                wire.input.reserve(READ_CHUNK);
            }
            // Nearly always there is room, and one round less until there is an answer to wait for.
            if !wire.out.is_empty()
                && let Poll::Ready(written) = poll!(pin!(writer.write_buf(&mut wire.out)))
                && let Some(end) = not_written(written)
            {
                return end;
            }
            // What TLS keeps back is flushed by the next read. Waiting for that here would end only
            // when a server reads.
            let moved = async {
                tokio::select! {
                    read = reader.read_buf(&mut wire.input) => Moved::In(read),
                    written = writer.write_buf(&mut wire.out), if !wire.out.is_empty() => {
                        Moved::Out(written)
                    }
                }
            };
            tokio::select! {
                biased;
                moved = moved => match moved {
                    Moved::In(Ok(0)) => {
                        return End::Disconnected("the server closed the connection".to_owned());
                    }
                    Moved::In(Ok(_)) => if let Some(end) = self.take_in(wire) { return end },
                    Moved::In(Err(error)) => return End::Disconnected(error.to_string()),
                    Moved::Out(written) => if let Some(end) = not_written(written) { return end },
                },
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
                () = &mut alarm => {}
            }
        }
    }
}

/// How a write ends the connection, if it does.
fn not_written(written: std::io::Result<usize>) -> Option<End> {
    match written {
        Ok(0) => Some(End::Disconnected("nothing can be written".to_owned())),
        Ok(_) => None,
        Err(error) => Some(End::Disconnected(error.to_string())),
    }
}
