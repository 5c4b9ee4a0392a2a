//! What a guarded resource saw, and whether that may be.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_recipes::FencingToken;
use quorate_recipes::client::SessionId;
use tokio::time::Instant;

/// Within this time a holder must hear that its session was ended by force.
const HEARS_WITHIN: Duration = Duration::from_secs(5);

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

/// All that happened to one resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    holds: Arc<Mutex<Vec<Hold>>>,
    /// Sessions that were ended by force, which no client can know beforehand.
    killed: Arc<Mutex<Vec<(SessionId, Instant)>>>,
}

/// Ends its hold when it is dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    history: History,
    index: usize,
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
        let mut holds = self.holds.lock();
        holds.push(Hold {
            holder,
            session,
            token: token.value(),
            weight,
            start: Instant::now(),
            end: None,
        });
        Holding {
            history: self.clone(),
            index: holds.len() - 1,
        }
    }

    pub(crate) fn killed(&self, session: SessionId) {
        self.killed.lock().push((session, Instant::now()));
    }

    pub(crate) fn holds_of(&self, holder: usize) -> usize {
        let holds = self.holds.lock();
        holds.iter().filter(|hold| hold.holder == holder).count()
    }

    /// All that is wrong with what was seen of a resource of this capacity. Whoever takes all of
    /// it holds it alone, and must come with a larger token than all who did so before.
    pub(crate) fn faults(&self, capacity: usize) -> Vec<String> {
        let holds = self.holds.lock().clone();
        let killed = self.killed.lock().clone();
        let mut faults = Vec::new();
        let far = Instant::now() + Duration::from_secs(3600);
        // When a hold was over for others, and when its holder knew. Who was killed an instant ago
        // may still enter: only the token tells.
        let ends = |hold: &Hold| {
            let known = hold.end.unwrap_or(far);
            let by_force = killed
                .iter()
                .filter(|(session, _)| *session == hold.session)
                .map(|(_, at)| *at)
                .min();
            (by_force.unwrap_or(known).min(known), by_force, known)
        };
        for hold in &holds {
            let (_, by_force, known) = ends(hold);
            if by_force.is_some_and(|at| known > at + HEARS_WITHIN) {
                faults.push(format!("never heard of its end: {hold:?}"));
            }
            let others: Vec<&Hold> = holds
                .iter()
                .filter(|other| other.start <= hold.start && ends(other).0 > hold.start)
                .collect();
            if others.iter().map(|other| other.weight).sum::<usize>() > capacity {
                faults.push(format!("more than {capacity} at a time: {others:?}"));
            }
        }
        let alone: Vec<&Hold> = holds
            .iter()
            .filter(|hold| hold.weight == capacity)
            .collect();
        for pair in alone.windows(2) {
            if let [before, after] = pair
                && before.token >= after.token
            {
                faults.push(format!("the token did not grow: {before:?}, {after:?}"));
            }
        }
        faults
    }
}
