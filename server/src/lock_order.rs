//! The one order in which locks are taken (R7): the apply gate, tree shards ascending, a shard of
//! the watch table, an outbox.
//!
//! Two tasks that take two locks in two orders wait for each other for ever, on some day under
//! load. A debug build, and so every test, checks the order at each lock instead and panics at
//! the line that breaks it. A release build has nothing of this: no field, no branch.
//!
//! Not for every lock: those that are taken alone, or only around an outbox, have no rank.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A lock's place. Whoever holds one takes only later ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    /// The apply gate. The one lock that its holder may take again, shared.
    Gate,
    /// A shard of the tree, by its number.
    Shard(usize),
    /// A shard of the watch table.
    Watches,
    /// What a connection is about to be sent. Nothing is taken under it.
    Outbox,
}

/// A lock's guard that remembers its rank for as long as it lives.
///
/// Declared in this order, so that the lock is free before its rank is.
pub(crate) struct Ordered<G> {
    guard: G,
    _held: Held,
}

impl<G> Ordered<G> {
    /// Takes a lock of this rank with `lock`.
    ///
    /// # Panics
    /// In a debug build, if this thread holds a lock that comes later.
    pub(crate) fn lock(rank: Rank, lock: impl FnOnce() -> G) -> Ordered<G> {
        let held = Held::note(rank);
        Ordered {
            guard: lock(),
            _held: held,
        }
    }
}

impl<G: Deref> Deref for Ordered<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Ordered<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

/// A rank in this thread's list; stays on its thread, as the guard beside it does.
struct Held {
    #[cfg(debug_assertions)]
    rank: Rank,
    _here: PhantomData<*const ()>,
}

#[cfg(debug_assertions)]
thread_local! {
    static HELD: std::cell::RefCell<Vec<Rank>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Held {
    #[cfg(debug_assertions)]
    fn note(rank: Rank) -> Held {
        HELD.with_borrow_mut(|held| {
            for &other in held.iter() {
                let again = other == Rank::Gate && rank == Rank::Gate;
                assert!(other < rank || again, "{rank:?} is taken under {other:?}");
            }
            held.push(rank);
        });
        Held {
            rank,
            _here: PhantomData,
        }
    }

    #[cfg(not(debug_assertions))]
    fn note(_: Rank) -> Held {
        Held { _here: PhantomData }
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|rank| *rank == self.rank) {
                held.swap_remove(at);
            }
        });
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    /// Takes locks of these ranks, one under the other.
    fn nested(ranks: &[Rank]) {
        let _held: Vec<_> = ranks
            .iter()
            .map(|&rank| Ordered::lock(rank, || &()))
            .collect();
    }

    #[test]
    fn the_order_may_be_walked_down() {
        use Rank::{Gate, Outbox, Shard, Watches};
        nested(&[Gate, Gate, Shard(3), Shard(9), Watches, Outbox]);
        nested(&[Shard(9), Outbox]);
        nested(&[Gate]);
    }

    #[test]
    fn every_step_back_panics() {
        use Rank::{Gate, Outbox, Shard, Watches};
        let wrong = [
            [Shard(0), Gate],
            [Shard(9), Shard(3)],
            [Shard(9), Shard(9)],
            [Watches, Shard(0)],
            [Watches, Watches],
            [Outbox, Watches],
            [Outbox, Outbox],
            [Outbox, Gate],
        ];
        for ranks in wrong {
            let walked = std::panic::catch_unwind(|| nested(&ranks));
            assert!(walked.is_err(), "{ranks:?} passed");
        }
        // What unwinds gives its rank back.
        nested(&[Gate, Outbox]);
    }
}
