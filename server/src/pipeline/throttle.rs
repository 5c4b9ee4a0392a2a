//! The token bucket in front of connect requests. Source: ZooKeeper's `BlueThrottle`.
//!
//! Pure: the caller brings the time and a random number.

use std::time::Duration;

use crate::config::ConnectionThrottle;

/// Tokens, and with a freeze time a drop probability that follows how scarce they are.
#[derive(Debug)]
pub(super) struct Throttle {
    config: ConnectionThrottle,
    tokens: u32,
    filled_at: Duration,
    drop_probability: f64,
    frozen_at: Duration,
}

/// How much a connect request takes when requests are weighed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Weight {
    /// A new session.
    New = 3,
    /// A session that comes back.
    Renewal = 2,
}

impl Throttle {
    pub(super) fn new(config: ConnectionThrottle, now: Duration) -> Throttle {
        Throttle {
            tokens: config.tokens,
            config,
            filled_at: now,
            drop_probability: 0.0,
            frozen_at: now,
        }
    }

    /// Whether a connect request may pass. `random` is drawn from 0..1.
    pub(super) fn admits(&mut self, weight: Weight, now: Duration, random: f64) -> bool {
        self.fill(now);
        let wanted = if self.config.weighted {
            weight as u32
        } else {
            1
        };
        if let Some(freeze) = self.config.freeze_time {
            if now.saturating_sub(self.frozen_at) > freeze {
                self.adjust();
                self.frozen_at = now;
            }
            if random < self.drop_probability {
                return false;
            }
        }
        match self.tokens.checked_sub(wanted) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self, now: Duration) {
        let every = self.config.fill_time.max(Duration::from_millis(1));
        let passed = now.saturating_sub(self.filled_at).as_nanos() / every.as_nanos();
        if passed == 0 {
            return;
        }
        let filled = passed.saturating_mul(u128::from(self.config.fill_count));
        let tokens = u128::from(self.tokens).saturating_add(filled);
        self.tokens = u32::try_from(tokens)
            .unwrap_or(u32::MAX)
            .min(self.config.tokens);
        self.filled_at = now;
    }

    fn adjust(&mut self) {
        let enough = f64::from(self.config.tokens) * self.config.decrease_ratio;
        if self.tokens == 0 {
            self.drop_probability = (self.drop_probability + self.config.drop_increase).min(1.0);
        } else if f64::from(self.tokens) >= enough {
            self.drop_probability = (self.drop_probability - self.config.drop_decrease).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ConnectionThrottle {
        ConnectionThrottle {
            tokens: 6,
            fill_time: Duration::from_millis(10),
            fill_count: 2,
            freeze_time: None,
            drop_increase: 0.5,
            drop_decrease: 0.25,
            decrease_ratio: 0.0,
            weighted: false,
        }
    }

    const T0: Duration = Duration::ZERO;

    #[test]
    fn a_bucket_admits_its_tokens_and_then_what_comes_in() {
        let mut throttle = Throttle::new(config(), T0);
        let admitted = (0..10)
            .filter(|_| throttle.admits(Weight::New, T0, 0.9))
            .count();
        assert_eq!(admitted, 6);
        let later = Duration::from_millis(10);
        let admitted = (0..10)
            .filter(|_| throttle.admits(Weight::New, later, 0.9))
            .count();
        assert_eq!(admitted, 2);
    }

    #[test]
    fn weighed_requests_take_three_tokens_or_two() {
        let mut throttle = Throttle::new(
            ConnectionThrottle {
                weighted: true,
                ..config()
            },
            T0,
        );
        assert!(throttle.admits(Weight::New, T0, 0.9));
        assert!(throttle.admits(Weight::Renewal, T0, 0.9));
        assert!(
            !throttle.admits(Weight::Renewal, T0, 0.9),
            "one token is left"
        );
    }

    #[test]
    fn the_drop_probability_rises_while_the_bucket_is_empty_and_falls_after() {
        let freeze_time = Some(Duration::from_millis(1));
        let mut throttle = Throttle::new(
            ConnectionThrottle {
                freeze_time,
                fill_time: Duration::from_secs(1),
                ..config()
            },
            T0,
        );
        for _ in 0..6 {
            assert!(throttle.admits(Weight::New, T0, 0.9));
        }
        assert!(!throttle.admits(Weight::New, Duration::from_millis(2), 0.9));
        assert!((throttle.drop_probability - 0.5).abs() < 1e-9);
        let refilled = Duration::from_secs(9);
        assert!(
            !throttle.admits(Weight::New, refilled, 0.2),
            "dropped by chance"
        );
        assert!(throttle.admits(Weight::New, refilled, 0.9));
        assert!((throttle.drop_probability - 0.25).abs() < 1e-9);
    }
}
