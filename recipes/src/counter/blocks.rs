//! Numbers from blocks: one write for many.

use std::ops::Range;
use std::sync::Arc;

use quorate_client::{Outcome, Result};
use tokio::sync::Mutex;

use super::atomic::AtomicLong;

/// Hands out the numbers of a counter from blocks that it reserves.
///
/// | | |
/// | --- | --- |
/// | guarantee | no number twice, over all who share the counter, for as long as the counter's znode lives |
/// | what can go wrong | gaps: a process that ends, or a lost answer, leaves the rest of a block unused. Numbers of several processes are not in the order of time |
/// | znodes | the counter's |
/// | cost | a read and a write per block |
/// | Curator, kazoo | `CachedAtomicLong`; none |
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
pub struct CachedAtomic {
    counter: AtomicLong,
    block: i64,
    left: Arc<Mutex<Range<i64>>>,
}

impl CachedAtomic {
    /// Takes this many numbers at a time from the counter, one at least.
    #[must_use]
    pub fn new(counter: AtomicLong, block: u32) -> CachedAtomic {
        CachedAtomic {
            counter,
            block: i64::from(block.max(1)),
            left: Arc::new(Mutex::new(0..0)),
        }
    }

    /// The next number.
    ///
    /// # Errors
    /// As [`Atomic::add`](super::Atomic::add), but for unknown outcomes: another block is taken
    /// then.
    ///
    /// # Cancel safety
    /// May be dropped at any time; a block may then stay unused.
    pub async fn next(&self) -> Result<i64> {
        let mut left = self.left.lock().await;
        loop {
            if let Some(number) = left.next() {
                return Ok(number);
            }
            *left = match self.counter.add(&self.block).await {
                Ok(change) => change.before..change.after,
                // Whether it was reserved or not, nobody will use it.
                Err(error) if error.outcome() == Outcome::Unknown && !error.is_session_lost() => {
                    continue;
                }
                Err(error) => return Err(error),
            };
        }
    }
}
