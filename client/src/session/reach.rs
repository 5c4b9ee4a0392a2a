//! From no connection to one: which server to dial, for how long, and when to stop trying.
//!
//! Job: dial servers in turn until one has our session, or a new one; ask where the servers are;
//! find one that takes writes. Not here: the order and the pauses (`hosts`), the handshake
//! (`dial`), what is said on a connection (`task`).
//!
//! Invariants: the session is given up when its trust ends, whatever a dial is waiting for; a
//! client that is told to close has a limited time to reach a server and do so.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::pending;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dial::{self, Connected, DialError};
use super::ending::End;
use super::task::Driver;
use super::trust::Trust;
use super::{Session, SessionState, Slot};
use crate::error::Reason;
use crate::hosts::{ConnectString, HostPort};

/// A dial that takes longer is given up, however long the session timeout is.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// A dial is given this long, however short the session timeout is.
const DIAL_MIN: Duration = Duration::from_millis(250);

impl Driver {
    /// Dials servers until one gives us our session, or a new one.
    pub(super) async fn connect(&mut self) -> Result<Connected, End> {
        let shared = Arc::clone(&self.shared);
        loop {
            if std::mem::take(&mut self.asks_for_servers) {
                self.ask_for_servers().await?;
            }
            let new_servers = shared.new_servers.lock().take();
            if let Some(servers) = new_servers {
                self.servers.replace(servers);
            }
            self.drop_withdrawn();
            let attempt = self.servers.next();
            let dial_time = self.dial_time();
            let attached = self.attached;
            let last_zxid = self.last_zxid;
            let settings = Arc::clone(&shared);
            let dialled = async move {
                sleep(attempt.pause).await;
                let settings = &settings.settings;
                let dial = dial::dial(settings, &attempt.server, attached.as_ref(), last_zxid);
                match timeout(dial_time, dial).await {
                    Ok(result) => result,
                    Err(_) => {
                        let text = format!("{}: no answer in time", attempt.server);
                        Err(DialError::Failed(text))
                    }
                }
            };
            match self.unless_ended(dialled).await? {
                Ok(connected) => {
                    self.servers.success();
                    return Ok(connected);
                }
                Err(DialError::Expired) => {
                    self.servers.success();
                    return Err(End::Lost(Reason::SessionExpired(self.session_id())));
                }
                Err(DialError::AuthFailed(text)) => {
                    return Err(End::Closed(Reason::AuthFailed(text)));
                }
                Err(DialError::Failed(text)) => self.dial_failed(text, false),
                Err(DialError::Untrusted(text)) => self.dial_failed(text, true),
            }
        }
    }

    fn dial_failed(&mut self, text: String, is_untrusted: bool) {
        tracing::debug!(error = %text, "no connection");
        self.dials_failed += 1;
        self.untrusted_in_a_row = match is_untrusted {
            true => self.untrusted_in_a_row + 1,
            false => 0,
        };
        // The provider is asked before each round but the first, which it began.
        if self.dials_failed >= self.servers.len() {
            self.dials_failed = 0;
            self.asks_for_servers = true;
        }
        let reason = match self.untrusted_in_a_row >= self.servers.len() {
            true => Reason::Tls(text),
            false => Reason::NoServer(text),
        };
        self.shared.status.send_if_modified(|status| {
            // What ended the last session is worth more than why there is no next.
            let tells = status.state != SessionState::Lost;
            if tells {
                status.reason = Some(reason);
            }
            tells
        });
    }

    /// Waits for something, unless the client or its session ends first.
    pub(super) async fn unless_ended<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, End> {
        let shared = Arc::clone(&self.shared);
        tokio::pin!(future);
        loop {
            if shared.abort.load(Ordering::Relaxed) {
                return Err(End::Closed(Reason::Closed));
            }
            let close_by = self.close_by();
            if close_by.is_some() && self.attached.is_none() {
                // There is nothing to close.
                return Err(End::Closed(Reason::Closed));
            }
            self.forget_watches();
            tokio::select! {
                biased;
                () = until(self.give_up_at()) => {
                    return Err(End::Lost(Reason::SessionGivenUp(self.session_id())));
                }
                () = until(close_by) => return Err(no_time_to_close()),
                result = &mut future => return Ok(result),
                () = shared.wake.notified() => {}
            }
        }
    }

    /// Asks the provider, if there is one, for the servers.
    async fn ask_for_servers(&mut self) -> Result<(), End> {
        let Some(provider) = self.shared.settings.ensemble.clone() else {
            return Ok(());
        };
        let time = self.dial_time();
        let asked = async move { timeout(time, provider.connect_string()).await };
        let answer = self.unless_ended(asked).await?;
        let parsed = match answer {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(text)) => ConnectString::parse(&text).map_err(|error| error.to_string()),
        };
        match parsed {
            Ok(parsed) => {
                self.servers.replace(parsed.servers);
            }
            Err(error) => {
                tracing::warn!(%error, "the ensemble provider names no servers, going on with those known");
            }
        }
        Ok(())
    }

    /// Until when a close that was asked for may take.
    pub(super) fn close_by(&mut self) -> Option<Instant> {
        if self.close_by.is_none() && self.shared.queue.lock().is_closed {
            self.close_by = Some(Instant::now() + self.shared.settings.close_timeout);
        }
        self.close_by
    }

    /// One server gets a share of the time that is left, so that the others get theirs.
    fn dial_time(&self) -> Duration {
        let left = match self.give_up_at() {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => self
                .attached
                .map_or(self.shared.settings.session_timeout, |info| info.timeout),
        };
        let servers = u32::try_from(self.servers.len().max(2)).unwrap_or(u32::MAX);
        (left / servers).clamp(DIAL_MIN, DIAL_MAX)
    }

    /// When the session is given up if it is out of contact until then.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.attached?;
        self.trust.as_ref().and_then(Trust::give_up_at)
    }

    /// Forgets requests whose callers went away before they left.
    fn drop_withdrawn(&self) {
        let mut queue = self.shared.queue.lock();
        let dropped =
            queue.take_out(|queued| !queued.slot.as_ref().is_some_and(Slot::is_abandoned));
        drop(queue);
        self.shared.answered(dropped.len());
    }

    /// Forgets watches that nobody waits for any more: no server holds them now.
    fn forget_watches(&mut self) {
        let unwatch = std::mem::take(&mut self.shared.queue.lock().unwatch);
        for (path, table, id) in unwatch {
            self.watches.forget(&path, table, id);
            // On no server: there is nothing to take off.
            self.watches.release(&path, table);
        }
    }
}

/// The time for a close has passed without an answer: the session ends by its timeout.
pub(super) fn no_time_to_close() -> End {
    let why = "no server confirmed the close in time";
    End::Closed(Reason::ConnectionLost(why.to_owned()))
}

/// Ready at that time; never without one.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Asks the servers in turn until one says that it takes writes.
pub(super) async fn find_writable(shared: Arc<Session>, servers: Vec<HostPort>) -> HostPort {
    let mut pause = Duration::from_secs(1);
    loop {
        for server in &servers {
            sleep(pause / 2 + pause.mul_f64(rand::random::<f64>() / 2.0)).await;
            let asked = timeout(DIAL_MAX, dial::takes_writes(&shared.settings, server)).await;
            if matches!(asked, Ok(Ok(true))) {
                return server.clone();
            }
        }
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}
