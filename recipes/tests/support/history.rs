//! What a guarded resource saw, and whether that may be.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_recipes::FencingToken;
use quorate_recipes::client::SessionId;
use tokio::time::Instant;

/// A hold may begin this long after its session was killed. Its turn comes from a listing that the
/// server answered while the session lived, because afterwards no listing shows the znode; what
/// remains is the way of that reply to a task that runs, connected or not.
/// Time in which the process, or what carries its packets, stands still does not count.
pub(crate) const BEGINS_WITHIN: Duration = Duration::from_millis(50);
/// For a holder that has to be scheduled before it can let go.
const LETS_GO_WITHIN: Duration = Duration::from_millis(50);
/// How long a process that stood still may go on believing: until its tasks had their turn.
const WAKES_WITHIN: Duration = Duration::from_millis(50);

/// Somebody held it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) holder: usize,
    pub(crate) session: SessionId,
    pub(crate) token: i64,
    /// Of the resource's capacity.
    pub(crate) weight: usize,
    pub(crate) start: Instant,
    pub(crate) end: Option<Instant>,
}

/// A session was ended by force, which no client can know beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) session: SessionId,
    /// From then on others may hold what it held.
    pub(crate) asked: Instant,
    /// From then on the server confirms nothing to it: its connection is closed.
    pub(crate) done: Instant,
    /// A client that hears nothing at all lets go when its trust lapses: this long after `done`
    /// at most. One whose connection is closed hears it when it dials again, which may be later
    /// than that: connections that are cut again and again are dialled after growing pauses.
    pub(crate) timeout: Duration,
}

/// A process stood still: nothing in it could look, let alone let go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    /// `None`: what carries the packets of all.
    pub(crate) process: Option<usize>,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// A write at the guarded resource, which takes no smaller token after a larger one.
#[derive(Clone, Copy, Debug)]
struct Write {
    hold: usize,
    time: Instant,
    is_taken: bool,
}

/// All that happened to one resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    holds: Arc<Mutex<Vec<Hold>>>,
    kills: Arc<Mutex<Vec<Kill>>>,
    stalls: Arc<Mutex<Vec<Stall>>>,
    writes: Arc<Mutex<(i64, Vec<Write>)>>,
}

/// Ends its hold when it is dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    history: History,
    index: usize,
}

impl Holding {
    /// Writes to the guarded resource: false if one with a larger token was there before.
    pub(crate) fn write(&self) -> bool {
        let token = self.history.holds.lock()[self.index].token;
        let mut writes = self.history.writes.lock();
        let is_taken = token >= writes.0;
        writes.0 = writes.0.max(token);
        writes.1.push(Write {
            hold: self.index,
            time: Instant::now(),
            is_taken,
        });
        is_taken
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut holds = self.history.holds.lock();
        holds[self.index].end = Some(Instant::now());
    }
}

impl History {
    pub(crate) fn enter(
        &self,
        holder: usize,
        session: SessionId,
        token: FencingToken,
        weight: usize,
    ) -> Holding {
        let index = self.held(Hold {
            holder,
            session,
            token: token.value(),
            weight,
            start: Instant::now(),
            end: None,
        });
        Holding {
            history: self.clone(),
            index,
        }
    }

    /// Notes a hold, which must not begin before those that were noted already.
    pub(crate) fn held(&self, hold: Hold) -> usize {
        let mut holds = self.holds.lock();
        holds.push(hold);
        holds.len() - 1
    }

    pub(crate) fn killed(&self, kill: Kill) {
        self.kills.lock().push(kill);
    }

    pub(crate) fn stalled(&self, stall: Stall) {
        self.stalls.lock().push(stall);
    }

    /// Writes that the resource did not take.
    pub(crate) fn refused(&self) -> usize {
        let writes = self.writes.lock();
        writes.1.iter().filter(|write| !write.is_taken).count()
    }

    /// Whoever holds now, the latest of several.
    pub(crate) fn holder(&self) -> Option<usize> {
        let holds = self.holds.lock();
        let held = holds.iter().rev().find(|hold| hold.end.is_none());
        held.map(|hold| hold.holder)
    }

    pub(crate) fn holds_of(&self, holder: usize) -> usize {
        let holds = self.holds.lock();
        holds.iter().filter(|hold| hold.holder == holder).count()
    }

    /// How many holds there were, and how many of them went on after their session was killed.
    pub(crate) fn excused(&self) -> (usize, usize) {
        let story = self.story();
        let excused = story.holds.iter().filter(|hold| story.is_excused(hold));
        (story.holds.len(), excused.count())
    }

    fn story(&self) -> Story {
        Story {
            holds: self.holds.lock().clone(),
            kills: self.kills.lock().clone(),
            stalls: self.stalls.lock().clone(),
            writes: self.writes.lock().1.clone(),
        }
    }

    /// All that is wrong with what was seen of a resource of this capacity, and the kills with it.
    /// Whoever takes all of it holds it alone, and must come with a larger token than all who did
    /// so before.
    pub(crate) fn faults(&self, capacity: usize) -> Vec<String> {
        let story = self.story();
        let mut faults = story.held_after_the_end();
        faults.append(&mut story.held_by_too_many(capacity));
        faults.append(&mut story.tokens_out_of_order(capacity));
        faults.append(&mut story.refused_without_cause());
        faults.append(&mut story.excused_too_often());
        if !faults.is_empty() {
            faults.extend(story.kills.iter().map(|kill| story.tell_kill(kill)));
        }
        faults
    }
}

struct Story {
    holds: Vec<Hold>,
    kills: Vec<Kill>,
    stalls: Vec<Stall>,
    writes: Vec<Write>,
}

impl Story {
    /// How long the holder's process, or what carries its packets, stood still in this time.
    fn still(&self, holder: usize, from: Instant, to: Instant) -> Duration {
        let of_it = |stall: &&Stall| stall.process.is_none_or(|process| process == holder);
        let within = |stall: &Stall| {
            stall
                .to
                .min(to)
                .saturating_duration_since(stall.from.max(from))
        };
        self.stalls.iter().filter(of_it).map(within).sum()
    }

    /// Whether the holder stood still at that time, or had no turn since.
    fn is_still(&self, holder: usize, time: Instant) -> bool {
        self.stalls.iter().any(|stall| {
            stall.process == Some(holder) && stall.from <= time && time <= stall.to + WAKES_WITHIN
        })
    }

    fn refused_without_cause(&self) -> Vec<String> {
        let refused = self.writes.iter().filter(|write| !write.is_taken);
        let without_cause = refused.filter(|write| {
            let hold = &self.holds[write.hold];
            let is_killed = self
                .kill_of(hold)
                .is_some_and(|kill| kill.asked <= write.time);
            !is_killed && !self.is_still(hold.holder, write.time)
        });
        let tell = |write: &Write| format!("refused: {}", self.tell(&self.holds[write.hold]));
        without_cause.map(tell).collect()
    }

    fn kill_of(&self, hold: &Hold) -> Option<&Kill> {
        self.kills.iter().find(|kill| kill.session == hold.session)
    }

    /// Whether it went on when others might hold it too.
    fn is_excused(&self, hold: &Hold) -> bool {
        self.kill_of(hold)
            .is_some_and(|kill| hold.end.is_none_or(|end| end > kill.asked))
    }

    /// Whether it began when others might hold it already: only the token tells then.
    fn is_late(&self, hold: &Hold) -> bool {
        self.kill_of(hold)
            .is_some_and(|kill| hold.start > kill.asked)
            || self.is_still(hold.holder, hold.start)
    }

    /// Whether nobody else might hold it at that time.
    fn excludes_at(&self, hold: &Hold, time: Instant) -> bool {
        let is_killed = self.kill_of(hold).is_some_and(|kill| kill.asked <= time);
        let is_held = hold.start <= time && hold.end.is_none_or(|end| end > time);
        is_held && !is_killed && !self.is_still(hold.holder, time)
    }

    fn held_after_the_end(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for hold in &self.holds {
            let Some(kill) = self.kill_of(hold) else {
                continue;
            };
            let still = |to| self.still(hold.holder, kill.asked, to);
            if hold.start > kill.done + BEGINS_WITHIN + still(hold.start) {
                faults.push(format!("began after its end: {}", self.tell(hold)));
            }
            let lets_go_by = kill.done + kill.timeout + LETS_GO_WITHIN;
            if hold.end.is_none_or(|end| end > lets_go_by + still(end)) {
                faults.push(format!("never heard of its end: {}", self.tell(hold)));
            }
        }
        faults
    }

    fn held_by_too_many(&self, capacity: usize) -> Vec<String> {
        let mut faults = Vec::new();
        for hold in &self.holds {
            let at_once: Vec<&Hold> = self
                .holds
                .iter()
                .filter(|other| self.excludes_at(other, hold.start))
                .collect();
            // One that is late is judged by its token.
            let is_late = self.is_late(hold);
            if !is_late && at_once.iter().map(|other| other.weight).sum::<usize>() > capacity {
                let told: Vec<String> = at_once.iter().map(|hold| self.tell(hold)).collect();
                faults.push(format!("more than {capacity} at a time: {told:?}"));
            }
        }
        faults
    }

    fn tokens_out_of_order(&self, capacity: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let (late, alone): (Vec<&Hold>, Vec<&Hold>) = self
            .holds
            .iter()
            .filter(|hold| hold.weight == capacity)
            .partition(|hold| self.is_late(hold));
        for pair in alone.windows(2) {
            if let [before, after] = pair
                && before.token >= after.token
            {
                let (before, after) = (self.tell(before), self.tell(after));
                faults.push(format!("the token did not grow: {before}, {after}"));
            }
        }
        // Whoever is late has a smaller token than all who came after its session was killed, and
        // a larger one than all who held before.
        for hold in late {
            let Some(kill) = self.kill_of(hold) else {
                continue;
            };
            for other in &alone {
                let is_ordered = match other.start > kill.asked {
                    true => other.token > hold.token,
                    false => other.token < hold.token,
                };
                if !is_ordered {
                    let (hold, other) = (self.tell(hold), self.tell(other));
                    faults.push(format!("the token does not tell: {hold}, {other}"));
                }
            }
        }
        faults
    }

    fn excused_too_often(&self) -> Vec<String> {
        let excused = self.holds.iter().filter(|hold| self.is_excused(hold));
        let (excused, all) = (excused.count(), self.holds.len());
        match excused > 1 && excused * 3 > all {
            true => vec![format!("{excused} of {all} holds are excused")],
            false => Vec::new(),
        }
    }

    fn tell(&self, hold: &Hold) -> String {
        let end = hold.end.map(|end| self.since_first(end));
        let (start, killed) = (self.since_first(hold.start), self.kill_of(hold).is_some());
        format!(
            "{} in {} with {}, weight {}, {start:?} to {end:?}, killed: {killed}",
            hold.holder, hold.session, hold.token, hold.weight
        )
    }

    fn tell_kill(&self, kill: &Kill) -> String {
        let (asked, done) = (self.since_first(kill.asked), self.since_first(kill.done));
        format!("(killed: {}, {asked:?} to {done:?})", kill.session)
    }

    fn since_first(&self, time: Instant) -> Duration {
        let first = self.holds.first().map_or(time, |hold| hold.start);
        time.saturating_duration_since(first)
    }
}
