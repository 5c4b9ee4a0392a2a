//! The first words on a new connection: the session is ours here, who we are, what we watch.
//!
//! Job: what the handshake proved, credentials, watches armed again, a close that was not
//! answered. Not here: the handshake itself (`dial`), which watches there are (`watches`).
//!
//! Invariant: nothing of a caller leaves before what is written here: requests rely on identities
//! and watches that the connection must have first.

use std::borrow::Cow;
use std::sync::Arc;

use quorate_proto::request::AuthPacket;
use quorate_proto::{OpCode, Request, SetWatches, SetWatches2, Xid, Zxid};
use tokio::time::{Instant, timeout};

use super::ending::End;
use super::task::{Driver, Wire};
use super::trust::{Proof, Rule, Trust};
use super::{SessionInfo, SessionState};
use crate::metrics;

/// How sessions of Quorate are known, by the first bytes of their password.
const QUORATE_MARK: &[u8] = &quorate_proto::limits::QUORATE_MARK;
/// Path text in one `setWatches`, below the smallest frame limit that servers have.
const SET_WATCHES_BYTES: usize = quorate_proto::limits::SET_WATCHES_BYTES_MAX;

impl Driver {
    /// The session is ours at this server: says so, and arms again what was armed.
    pub(super) async fn attach(
        &mut self,
        wire: &mut Wire,
        asked: Instant,
        now: Instant,
    ) -> Result<(), End> {
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
            let proof = match self.attached {
                Some(_) => Proof::Reattached,
                None => Proof::Opened,
            };
            trust.answered(proof, asked, now);
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
        // What was noted while others were waited for: it is looked at once more.
        shared.wake.notify_one();
        metrics::connected();
        let state = match wire.is_read_only {
            true => SessionState::ReadOnly,
            false => SessionState::Connected,
        };
        tracing::info!(session = %wire.info.id, server = %wire.server, timeout = ?wire.info.timeout, "{state:?}");
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

    async fn send_credentials(&mut self, wire: &mut Wire, now: Instant) -> Result<(), End> {
        let provider = self.shared.settings.auth.clone();
        let mut credentials = match provider {
            None => Vec::new(),
            Some(provider) => {
                let time = wire.info.timeout / 3;
                let asked = async move { timeout(time, provider.credentials()).await };
                match self.unless_ended(asked).await? {
                    Ok(Ok(credentials)) => credentials,
                    Ok(Err(error)) => {
                        return Err(End::Disconnected(format!("no credentials: {error}")));
                    }
                    Err(_) => return Err(End::Disconnected("no credentials in time".to_owned())),
                }
            }
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
