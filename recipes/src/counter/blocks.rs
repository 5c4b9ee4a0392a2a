//! Numbers from blocks: one write for many.

use std::sync::Arc;

use quorate_client::{Outcome, Result};
use tokio::sync::Mutex;

use super::atomic::Atomic;
use super::stored::Addable;

/// Blocks of a 4-byte counter: [`CachedAtomic`].
pub type CachedAtomicInteger = CachedAtomic<i32>;
/// Blocks of an 8-byte counter: [`CachedAtomic`].
pub type CachedAtomicLong = CachedAtomic<i64>;

/// Hands out the numbers of a counter from blocks that it reserves.
///
/// | | |
/// | --- | --- |
/// | guarantee | no number twice, over all who share the counter, for as long as the counter's znode lives |
/// | what can go wrong | gaps: a process that ends, or a lost answer, leaves the rest of a block unused. Numbers of several processes are not in the order of time |
/// | znodes | the counter's |
/// | cost | a read and a write per block, and nothing in between. No watches |
/// | Curator, kazoo | `CachedAtomicInteger`, `CachedAtomicLong`; none |
///
/// ```no_run
/// use quorate_recipes::{Client, counter::{AtomicLong, CachedAtomic}};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let orders = CachedAtomic::new(AtomicLong::new(&client, "/ids/orders"), 1_000);
/// let number = orders.next().await?;
/// # let _ = number;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CachedAtomic<V = i64> {
    counter: Atomic<V>,
    block: V,
    /// The next number of the block, and the one behind it.
    left: Arc<Mutex<Option<(V, V)>>>,
}

impl<V: Addable + PartialOrd> CachedAtomic<V> {
    /// Takes this many numbers at a time from the counter, one at least.
    #[must_use]
    pub fn new(counter: Atomic<V>, block: V) -> CachedAtomic<V> {
        CachedAtomic {
            counter,
            block: if block < V::one() { V::one() } else { block },
            left: Arc::default(),
        }
    }

    /// The next number.
    ///
    /// # Errors
    /// As [`Atomic::add`], but for unknown outcomes: another block is taken then.
    ///
    /// # Cancel safety
    /// May be dropped at any time; a block may then stay unused.
    pub async fn next(&self) -> Result<V> {
        let mut left = self.left.lock().await;
        loop {
            if let Some((number, end)) = left.take() {
                // A number whose next one the type cannot hold is the last of its block.
                *left = match number.plus(&V::one()) {
                    Some(next) if next < end => Some((next, end)),
                    _ => None,
                };
                return Ok(number);
            }
            match self.counter.add(&self.block).await {
                Ok(change) => *left = Some((change.before, change.after)),
                // Whether it was reserved or not, nobody will use it.
                Err(error) if error.outcome() == Outcome::Unknown && !error.is_session_lost() => {}
                Err(error) => return Err(error),
            }
        }
    }
}
