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
    /// The server handed out last, listed or not.
    last: Option<HostPort>,
    /// Whether the server handed out last is connected.
    connected: bool,
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
            last: None,
            connected: false,
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
        self.last = Some(server.clone());
        self.connected = false;
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
        if self.connected {
            return;
        }
        self.connected = true;
        self.tried_before_success = std::mem::take(&mut self.tried);
        if let Some(place) = self.place_of_last() {
            self.next = place;
        }
    }

    /// The connection that `success` told of broke after `lasted`.
    ///
    /// One that broke within a second counts as a failed attempt after all: without this, a
    /// server that accepts sessions and drops them would be dialled at full speed.
    pub(crate) fn lost(&mut self, lasted: Duration) {
        if !self.connected {
            return;
        }
        self.connected = false;
        if lasted < LASTING {
            self.tried = self.tried_before_success;
            if let Some(place) = self.place_of_last() {
                self.next = (place + 1) % self.servers.len();
            }
        }
    }

    /// Every server, in the order of the round.
    pub(crate) fn all(&self) -> Vec<HostPort> {
        self.servers.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Makes a server the next to be tried, at once: the connection that stands is left for it,
    /// and `lost` says nothing about its server then.
    pub(crate) fn prefer(&mut self, server: &HostPort) {
        if let Some(place) = self.servers.iter().position(|known| known == server) {
            (self.next, self.tried, self.connected) = (place, 0, false);
        }
    }

    /// Takes a new list; an empty one, or the same servers in another order, changes nothing.
    ///
    /// The server connected last keeps its turn, one that is being dialled or has failed comes
    /// last, and the others are shuffled. A new list starts without pauses, for its servers may
    /// never have been tried. `false` says that the server handed out last is not in the list
    /// any more; whether to leave it is the caller's affair.
    pub(crate) fn replace(&mut self, servers: Vec<HostPort>) -> bool {
        if !servers.is_empty() && !same_servers(&self.servers, &servers) {
            let keeps_turn = self.tried == 0 && self.last.as_ref() == self.servers.get(self.next);
            self.servers = servers;
            self.servers.shuffle(&mut self.rng);
            (self.next, self.tried) = (0, 0);
            if let Some(place) = self.place_of_last() {
                self.servers.swap(0, place);
                self.next = usize::from(!keeps_turn) % self.servers.len();
            }
        }
        self.last.is_none() || self.place_of_last().is_some()
    }

    fn place_of_last(&self) -> Option<usize> {
        let last = self.last.as_ref()?;
        self.servers.iter().position(|server| server == last)
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
