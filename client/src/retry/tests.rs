use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const PAUSE: Duration = Duration::from_millis(10);

/// The pauses of one run whose attempts take no time.
fn pauses(policy: &dyn RetryPolicy, most: usize) -> Vec<Duration> {
    let mut run = policy.start();
    let mut elapsed = Duration::ZERO;
    let next = || {
        let pause = run.next_delay(elapsed)?;
        elapsed += pause;
        Some(pause)
    };
    std::iter::from_fn(next).take(most).collect()
}

#[test]
fn policies_with_a_count_give_up_after_it() {
    assert_eq!(pauses(&NoRetry, 9), [Duration::ZERO; 0]);
    assert_eq!(pauses(&RetryOnce::new(PAUSE), 9), [PAUSE]);
    assert_eq!(pauses(&RetryNTimes::new(3, PAUSE), 9), [PAUSE; 3]);
    assert_eq!(pauses(&RetryNTimes::new(0, PAUSE), 9), [Duration::ZERO; 0]);
    let exponential = ExponentialBackoff::new(PAUSE).max_retries(4);
    assert_eq!(pauses(&exponential, 9).len(), 4);
}

#[test]
fn forever_never_gives_up() {
    assert_eq!(pauses(&RetryForever::new(PAUSE), 10_000).len(), 10_000);
    assert_eq!(
        pauses(&ExponentialBackoff::new(PAUSE), 10_000).len(),
        10_000
    );
}

#[test]
fn no_attempt_starts_behind_the_time_limit() {
    let limit = Duration::from_millis(35);
    let until = RetryUntilElapsed::new(limit, PAUSE);
    let cut = Duration::from_millis(5);
    assert_eq!(pauses(&until, 9), [PAUSE, PAUSE, PAUSE, cut]);
    assert_eq!(until.start().next_delay(limit), None);
    assert_eq!(until.start().next_delay(Duration::MAX), None);
    let exponential = ExponentialBackoff::new(PAUSE).max_elapsed(limit);
    assert!(pauses(&exponential, 10_000).iter().sum::<Duration>() <= limit);
    assert_eq!(exponential.start().next_delay(limit), None);
}

#[test]
fn each_operation_counts_on_its_own() {
    let policy = RetryOnce::new(PAUSE);
    let (mut one, mut other) = (policy.start(), policy.start());
    assert_eq!(one.next_delay(PAUSE), Some(PAUSE));
    assert_eq!(one.next_delay(PAUSE), None);
    assert_eq!(other.next_delay(PAUSE), Some(PAUSE));
}

#[test]
fn policies_are_held_behind_pointers() {
    let policy: Arc<dyn RetryPolicy> = Arc::new(RetryOnce::new(PAUSE));
    let boxed: Box<dyn RetryPolicy> = Box::new(with_budget(policy, RetryBudget::new(1, 1)));
    assert_eq!(pauses(&boxed, 9), [PAUSE]);
}

#[test]
fn pauses_use_the_whole_range() {
    let base = Duration::from_millis(1_000);
    let policy = ExponentialBackoff::new(base).capped(base);
    let drawn = pauses(&policy, 1_000);
    assert!(drawn.iter().any(|&pause| pause < base / 10));
    assert!(drawn.iter().any(|&pause| pause > base / 10 * 9));
    assert!(drawn.iter().collect::<HashSet<_>>().len() > 900);
}

/// `min(cap, base × 2ⁿ)`.
fn bound(base: Duration, cap: Duration, retry: u32) -> Duration {
    let doubled = (0..retry).fold(base, |bound, _| bound.saturating_mul(2));
    doubled.min(cap)
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..1_000).prop_map(Duration::from_nanos),
        (0_u64..100_000).prop_map(Duration::from_micros),
        (0_u64..100_000).prop_map(Duration::from_millis),
    ]
}

proptest! {
    #[test]
    fn our_own_pauses_stay_within_the_bounds(base in durations(), cap in durations()) {
        let mut steps = builtin::Steps::new(base, cap);
        for retry in 0..40 {
            prop_assert!(steps.next() <= bound(base, cap, retry));
        }
    }

    #[cfg(feature = "backoff")]
    #[test]
    fn the_crates_pauses_stay_within_the_same_bounds(base in durations(), cap in durations()) {
        let mut steps = exponential::Steps::new(base, cap);
        for retry in 0..40 {
            prop_assert!(steps.next() <= bound(base, cap, retry));
        }
    }
}

/// Bounds that nothing comes near would hold, too.
#[test]
fn both_kinds_of_pauses_come_near_their_bounds() {
    let (base, cap) = (Duration::from_millis(100), Duration::from_millis(1_500));
    type Draw = Box<dyn FnMut() -> Duration>;
    type Make = fn(Duration, Duration) -> Draw;
    let kinds: &[Make] = &[
        |base, cap| {
            let mut steps = builtin::Steps::new(base, cap);
            Box::new(move || steps.next())
        },
        #[cfg(feature = "backoff")]
        |base, cap| {
            let mut steps = exponential::Steps::new(base, cap);
            Box::new(move || steps.next())
        },
    ];
    for make in kinds {
        let mut largest = [Duration::ZERO; 8];
        for _ in 0..500 {
            let mut draw = make(base, cap);
            for largest in &mut largest {
                *largest = draw().max(*largest);
            }
        }
        for (retry, largest) in (0..).zip(largest) {
            let bound = bound(base, cap, retry);
            assert!(
                largest > bound / 10 * 9 && largest <= bound,
                "{retry}: {largest:?}"
            );
        }
    }
}

#[test]
fn absurd_durations_do_not_overflow() {
    for (base, cap) in [
        (Duration::MAX, Duration::MAX),
        (Duration::ZERO, Duration::MAX),
        (Duration::MAX, Duration::ZERO),
    ] {
        let policy = ExponentialBackoff::new(base).capped(cap);
        let mut run = policy.start();
        for _ in 0..200 {
            assert!(run.next_delay(Duration::MAX).is_some());
        }
    }
}

#[test]
fn the_bound_is_sixty_seconds_or_the_base_unless_named() {
    let long = pauses(&ExponentialBackoff::new(Duration::from_secs(1)), 2_000);
    assert!(long.iter().all(|&pause| pause <= Duration::from_secs(60)));
    assert!(long.iter().any(|&pause| pause > Duration::from_secs(30)));
    let base = Duration::from_secs(600);
    let longer = pauses(&ExponentialBackoff::new(base), 200);
    assert!(longer.iter().any(|&pause| pause > base / 2));
}
