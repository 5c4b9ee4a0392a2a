//! What must hold in every schedule: as things happen, and in the end.

use std::collections::BTreeSet;
use std::hash::{Hash as _, Hasher as _};

use quorate_proto::SessionId;

use super::{CLIENTS, Outcome, World};
use crate::simulation::client::{COUNTERS, EPHEMERALS, LOCK, PARENTS, REGISTERS};
use crate::simulation::history::{self, Final, PAIR, Version};
use crate::tree::State;

impl World {
    pub(super) fn applied(&mut self, at: usize, index: usize, digest: u64) {
        (at, index, digest).hash(&mut self.trace);
        // Entry 0 is there from the beginning.
        match self.digests.get(index - 1) {
            Some(&known) if known != digest => {
                self.broken(format!("server {at} differs behind entry {index}"));
            }
            Some(_) => {}
            None => self.digests.push(digest),
        }
    }

    /// The end of a session is applied somewhere.
    pub(super) fn expired(&mut self, session: SessionId) {
        let now = self.now();
        if *self.over.entry(session).or_insert(now) < now {
            return;
        }
        for number in 0..CLIENTS {
            if self.clients[number].session == Some(session) {
                self.believes(number, "its end is applied");
            }
        }
    }

    /// Whether this client believes in a session that is over.
    pub(super) fn believes(&mut self, number: usize, what: &str) {
        let now = self.now();
        let client = &self.clients[number];
        let over = client.session.and_then(|session| self.over.get(&session));
        if let Some(&over) = over
            && let Some(until) = client.believes_until()
            && now < until
        {
            self.broken(format!(
                "{what}: at {now} client {number} believes until {until}, its session was over at {over}"
            ));
        }
    }

    /// A client has the lock: nobody else may believe that it has it.
    pub(super) fn locked(&mut self, number: usize) {
        let now = self.now();
        // Whoever stood still reads old answers, and knows that they are.
        let until = self.clients[number].believes_until();
        if until.is_none_or(|until| until <= now) {
            return;
        }
        self.outcome.locks += 1;
        for other in (0..CLIENTS).filter(|&other| other != number) {
            let client = &self.clients[other];
            let until = client.believes_until().filter(|until| now < *until);
            if let Some(until) = until.filter(|_| client.locked) {
                self.broken(format!(
                    "at {now} client {number} has the lock, client {other} has it until {until}"
                ));
            }
        }
    }

    pub(super) fn finish(mut self) -> Outcome {
        let last = self.last_commit();
        self.outcome.entries = last;
        self.outcome.expired = self.over.len();
        let mut digests = BTreeSet::new();
        for at in 0..self.servers.len() {
            let Some(life) = &self.servers[at].life else {
                self.broken(format!("server {at} did not come back"));
                continue;
            };
            let (next, state) = (life.next, life.state.clone());
            if next != last + 1 {
                self.broken(format!("server {at} applied {next} of {last} entries"));
            }
            let told = (state.applied_zxid(), state.tree().digest());
            digests.insert(told);
            if let Some(what) = orphan(&state) {
                self.broken(format!("server {at}: {what}"));
            }
        }
        if digests.len() > 1 {
            self.broken(format!("servers differ in the end: {digests:?}"));
        }
        let mut calls = Vec::new();
        for client in &mut self.clients {
            if !client.is_idle() {
                let number = client.number;
                let what = format!("client {number} has no answer: {}", client.waits_for());
                self.outcome.broken.get_or_insert(what);
            }
            self.outcome.proofs += client.answers;
            calls.append(&mut client.calls);
        }
        self.outcome.calls = calls.len();
        if let Some(life) = &self.servers[0].life
            && let Err(violation) = history::check(&calls, &last_of(&life.state))
        {
            self.broken(violation.to_string());
        }
        self.outcome.trace = self.trace.finish();
        self.outcome
    }
}

/// An ephemeral without a session.
fn orphan(state: &State) -> Option<String> {
    let owner = |path: &str| {
        let guard = state.tree().read(path);
        guard.node().map(|node| node.stat().ephemeral_owner)
    };
    let names = children(state, EPHEMERALS);
    let paths = names.into_iter().map(|name| format!("{EPHEMERALS}/{name}"));
    for path in paths.chain([LOCK.to_owned()]) {
        if let Some(session) = owner(&path)
            && state.session(SessionId(session)).is_none()
        {
            return Some(format!("{path} is of session {session:#x}, which is over"));
        }
    }
    None
}

fn children(state: &State, path: &str) -> Vec<String> {
    let guard = state.tree().read(path);
    let node = guard.node();
    let names = node.iter().flat_map(|node| node.children());
    names.map(|name| name.to_string()).collect()
}

/// What stands in the tree.
fn last_of(state: &State) -> Final {
    let look = |path: &str| {
        let guard = state.tree().read(path);
        let node = guard.node().expect("it was created first");
        let value = String::from_utf8_lossy(node.data().unwrap_or_default()).into_owned();
        (value, node.stat())
    };
    let mut last = Final::default();
    for path in REGISTERS.iter().chain(&COUNTERS).chain(&PAIR) {
        let (value, stat) = look(path);
        let at = Version {
            version: stat.version,
            mzxid: stat.mzxid,
        };
        last.nodes.insert((*path).to_owned(), (value, at));
    }
    for parent in PARENTS {
        let names = children(state, parent).into_iter();
        let found = names.map(|name| {
            let (mark, stat) = look(&format!("{parent}/{name}"));
            (name, (mark, stat.czxid))
        });
        last.children.insert(parent.to_owned(), found.collect());
    }
    last
}
