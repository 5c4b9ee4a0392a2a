//! A limit for the retries of many operations together.
//!
//! When an ensemble loses its leader, every waiting operation fails at the same moment; each of
//! them backs off politely, and their sum still storms the new leader. The budget is a bucket of
//! tokens that fills at a steady rate; a retry takes one, and waits for it if there is none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng as _;
use tokio::time::Instant;

use super::{RetryPolicy, RetryRun};

/// The longest that a retry waits for its token. Behind that no place is kept in the line, so
/// the rate can be exceeded, but evenly.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A rate that the retries of many operations share. Clones share it, too.
///
/// It slows down and never gives up: that is for the policy to decide. Use one for everything
/// that talks to the same ensemble.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::{ExponentialBackoff, RetryBudget, with_budget};
///
/// // 200 retries at once, and 100 more each second.
/// let budget = RetryBudget::new(100, 200);
/// let policy = with_budget(ExponentialBackoff::new(Duration::from_millis(50)), budget);
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    bucket: Arc<Mutex<Bucket>>,
}

struct Bucket {
    /// What one token takes to appear.
    interval: Duration,
    /// What a full bucket takes to fill from empty, but for one token.
    tolerance: Duration,
    /// When the bucket is full; in the past if it is full now, `None` as long as nobody drew.
    /// One instant says it all, so nothing has to run in the background.
    full_at: Option<Instant>,
}

impl RetryBudget {
    /// At most `burst` retries at once, and `per_second` on average. Zero counts as one.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> RetryBudget {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let bucket = Bucket {
            interval,
            tolerance: interval.saturating_mul(burst.max(1) - 1),
            full_at: None,
        };
        RetryBudget {
            bucket: Arc::new(Mutex::new(bucket)),
        }
    }

    /// Takes a token; how long until it is there.
    fn draw(&self) -> Duration {
        self.bucket.lock().draw(Instant::now())
    }
}

impl Bucket {
    fn draw(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        let wait = (full_at - now).saturating_sub(self.tolerance);
        if wait > WAIT_MAX {
            return rand::rng().random_range(WAIT_MAX / 2..=WAIT_MAX);
        }
        self.full_at = Some(full_at + self.interval);
        wait
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = self.bucket.lock();
        f.debug_struct("RetryBudget")
            .field("interval", &bucket.interval)
            .field("tolerance", &bucket.tolerance)
            .finish_non_exhaustive()
    }
}

/// A policy whose retries take tokens of a shared budget. Made by [`with_budget`].
#[derive(Clone, Debug)]
pub struct Budgeted<P> {
    policy: P,
    budget: RetryBudget,
}

/// Lets a policy's retries wait for the tokens of a budget: the pause is the longer of what the
/// policy and the budget ask for.
pub fn with_budget<P: RetryPolicy>(policy: P, budget: RetryBudget) -> Budgeted<P> {
    Budgeted { policy, budget }
}

impl<P: RetryPolicy> RetryPolicy for Budgeted<P> {
    fn start(&self) -> Box<dyn RetryRun> {
        Box::new(BudgetedRun {
            run: self.policy.start(),
            budget: self.budget.clone(),
        })
    }
}

struct BudgetedRun {
    run: Box<dyn RetryRun>,
    budget: RetryBudget,
}

impl RetryRun for BudgetedRun {
    fn next_delay(&mut self, elapsed: Duration) -> Option<Duration> {
        let delay = self.run.next_delay(elapsed)?;
        Some(delay.max(self.budget.draw()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{RetryForever, RetryNTimes};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn draws(budget: &RetryBudget, count: usize) -> Vec<Duration> {
        (0..count).map(|_| budget.draw()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_burst_goes_at_once_and_the_rest_at_the_rate() {
        let budget = RetryBudget::new(10, 3);
        let waits = draws(&budget, 6);
        assert_eq!(waits, [ms(0), ms(0), ms(0), ms(100), ms(200), ms(300)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bucket_fills_with_time_and_holds_no_more_than_the_burst() {
        let budget = RetryBudget::new(10, 3);
        draws(&budget, 3);
        tokio::time::advance(ms(100)).await;
        assert_eq!(draws(&budget, 2), [ms(0), ms(100)]);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(draws(&budget, 4), [ms(0), ms(0), ms(0), ms(100)]);
    }

    #[tokio::test(start_paused = true)]
    async fn clones_and_operations_share_the_bucket() {
        let budget = RetryBudget::new(10, 1);
        let policy = with_budget(RetryForever::new(ms(20)), budget.clone());
        let (mut one, mut other) = (policy.start(), policy.start());
        assert_eq!(
            one.next_delay(ms(0)),
            Some(ms(20)),
            "the policy's pause is longer"
        );
        assert_eq!(other.next_delay(ms(0)), Some(ms(100)));
        assert_eq!(budget.draw(), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_takes_no_token() {
        let budget = RetryBudget::new(10, 1);
        let mut run = with_budget(RetryNTimes::new(0, ms(0)), budget.clone()).start();
        assert_eq!(run.next_delay(ms(0)), None);
        assert_eq!(budget.draw(), ms(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_waits_long_and_is_never_refused() {
        let budget = RetryBudget::new(100, 100);
        let waits = draws(&budget, 100_000);
        assert!(waits.iter().all(|&wait| wait <= WAIT_MAX));
        let spread = |wait: &&Duration| **wait >= WAIT_MAX / 2;
        assert!(waits.iter().filter(spread).count() > 90_000);
        // Whoever came too late to be counted owes nothing: soon everything is as before.
        tokio::time::advance(WAIT_MAX + ms(1_100)).await;
        assert_eq!(budget.draw(), ms(0));
    }

    #[test]
    fn odd_rates_are_taken_for_something_sensible() {
        let never = RetryBudget::new(0, 0);
        assert_eq!(never.draw(), ms(0));
        assert!(never.draw() > ms(900));
        let huge = RetryBudget::new(u32::MAX, u32::MAX);
        assert!(draws(&huge, 1_000).iter().all(Duration::is_zero));
    }
}
