//! The order in which servers are dialled, and the pauses between the attempts.
//!
//! The list is shuffled, so that the clients of an ensemble spread over it, and walked round and
//! round. The first round does not pause: a client that starts, or that lost its server, wants
//! any other at once. Each further round starts after a pause that doubles, and pauses a little
//! between servers; both are drawn at random, so that clients that lost a server together do not
//! come back together. The scheme follows the Rust client `zookeeper-client`.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::HostPort;

/// What the pause before the second round grows from, for each server of the list.
const ROUND_PAUSE_PER_SERVER: Duration = Duration::from_millis(100);
/// The most that the pause before the second round is.
const FIRST_ROUND_PAUSE_MAX: Duration = Duration::from_secs(1);
/// What the pause grows by from server to server within a round.
const SERVER_PAUSE: Duration = Duration::from_millis(50);
/// The most that a pause within a round is.
const SERVER_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that did not last this long proves nothing about its server.
const LASTING: Duration = Duration::from_secs(1);

/// Which server to dial, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attempt {
    pub(crate) server: HostPort,
    /// How long to wait before it is dialled.
    pub(crate) pause: Duration,
    /// Every server was tried in vain since the last success, and the list starts over.
    pub(crate) new_cycle: bool,
}

/// The servers, and the place in their round.
#[derive(Debug)]
pub(crate) struct ServerList {
    servers: Vec<HostPort>,
    /// Of the server to hand out next.
    next: usize,
    /// Handed out since the last success.
    tried: usize,
    /// `tried` before the last success, in case that it does not last.
    tried_before_success: usize,
    pause_max: Duration,
    rng: StdRng,
}

impl ServerList {
    /// Shuffles `servers`. No pause will be longer than `pause_max`; the same `seed` gives the
    /// same order and pauses.
    ///
    /// # Panics
    /// If there is no server; a [`ConnectString`](super::ConnectString) always has one.
    pub(crate) fn new(servers: Vec<HostPort>, pause_max: Duration, seed: u64) -> ServerList {
        assert!(!servers.is_empty(), "a connect string has a server");
        let mut list = ServerList {
            servers,
            next: 0,
            tried: 0,
            tried_before_success: 0,
            pause_max,
            rng: StdRng::seed_from_u64(seed),
        };
        list.servers.shuffle(&mut list.rng);
        list
    }

    /// The next server to dial. Whoever gets it dials it after the pause, and says so if that
    /// succeeds; asking again means that it failed.
    pub(crate) fn next(&mut self) -> Attempt {
        let count = self.servers.len();
        let (round, place) = (self.tried / count, self.tried % count);
        let pause = self.pause(round, place);
        let server = self.servers.get(self.next).expect("`next` is in the list");
        let server = server.clone();
        self.next = (self.next + 1) % count;
        self.tried = self.tried.saturating_add(1);
        Attempt {
            server,
            pause,
            new_cycle: round > 0 && place == 0,
        }
    }

    /// The server handed out last is connected and the session stands: it is the first to be
    /// tried when the connection breaks, at once.
    pub(crate) fn success(&mut self) {
        if self.tried == 0 {
            return;
        }
        self.tried_before_success = self.tried;
        self.tried = 0;
        self.step_back();
    }

    /// The connection that `success` told of broke after `lasted`.
    ///
    /// One that broke within a second counts as a failed attempt after all: without this, a
    /// server that accepts sessions and drops them would be dialled at full speed.
    pub(crate) fn lost(&mut self, lasted: Duration) {
        if lasted < LASTING && self.tried == 0 && self.tried_before_success > 0 {
            self.tried = std::mem::take(&mut self.tried_before_success);
            self.next = (self.next + 1) % self.servers.len();
        }
    }

    /// Takes a new list; an empty one, or the same servers in another order, changes nothing.
    ///
    /// The server tried or connected last keeps its turn if it is in the new list, and `true`
    /// says that it is; the others are shuffled behind it. A new list starts without pauses, for
    /// its servers may never have been tried.
    pub(crate) fn replace(&mut self, servers: Vec<HostPort>) -> bool {
        let connected = self.tried == 0 && self.tried_before_success > 0;
        let last = match (connected, self.tried) {
            (true, _) => self.servers.get(self.next),
            (false, 0) => None,
            (false, _) => {
                let count = self.servers.len();
                self.servers.get((self.next + count - 1) % count)
            }
        };
        let kept = last.is_none_or(|last| servers.contains(last));
        if servers.is_empty() || same_servers(&self.servers, &servers) {
            return true;
        }
        let last = last.cloned();
        self.servers = servers;
        self.servers.shuffle(&mut self.rng);
        self.next = 0;
        self.tried = 0;
        let place = last.and_then(|last| self.servers.iter().position(|server| *server == last));
        match place {
            Some(place) => {
                self.servers.swap(0, place);
                if !connected {
                    // It has just failed, or is being dialled: the others go first.
                    self.next = 1 % self.servers.len();
                }
            }
            None => self.tried_before_success = 0,
        }
        kept
    }

    fn step_back(&mut self) {
        let count = self.servers.len();
        self.next = (self.next + count - 1) % count;
    }

    fn pause(&mut self, round: usize, place: usize) -> Duration {
        if round == 0 {
            return Duration::ZERO;
        }
        let factor = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let longest = match place {
            0 => {
                let first = ROUND_PAUSE_PER_SERVER
                    .saturating_mul(factor(self.servers.len()))
                    .min(FIRST_ROUND_PAUSE_MAX);
                let doublings = factor(round - 1).min(16);
                first.saturating_mul(1 << doublings).min(self.pause_max)
            }
            _ => SERVER_PAUSE
                .saturating_mul(factor(place))
                .min(SERVER_PAUSE_MAX)
                .min(self.pause_max),
        };
        // Never less than half: a round of quick refusals must not become a busy loop.
        self.rng.random_range(longest / 2..=longest)
    }
}

fn same_servers(ours: &[HostPort], theirs: &[HostPort]) -> bool {
    let within = |a: &[HostPort], b: &[HostPort]| a.iter().all(|server| b.contains(server));
    ours.len() == theirs.len() && within(ours, theirs) && within(theirs, ours)
}

#[cfg(test)]
mod tests;
