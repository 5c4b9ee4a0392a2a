//! A value with what is wished for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::name::Wishes;

/// A value to put, and where it belongs in the queue.
///
/// ```
/// use quorate_recipes::queue::Item;
///
/// let urgent = Item::new("restart".to_owned()).priority(-10);
/// # let _ = urgent;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is not in the queue yet"]
pub struct Item<T> {
    pub(super) body: T,
    pub(super) wishes: Wishes,
}

impl<T> Item<T> {
    /// An item of no wishes.
    pub fn new(body: T) -> Item<T> {
        Item {
            body,
            wishes: Wishes::default(),
        }
    }

    /// Lower ones are taken first. In queues of priorities.
    pub fn priority(mut self, priority: i32) -> Item<T> {
        self.wishes.priority = Some(priority);
        self
    }

    /// Not to be taken before this time, by the consumer's clock. In queues of delays.
    pub fn due(mut self, time: SystemTime) -> Item<T> {
        self.wishes.due_ms = Some(ms(time));
        self
    }

    /// Not to be taken for this long, by our clock and the consumer's. In queues of delays.
    pub fn delay(mut self, delay: Duration) -> Item<T> {
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        self.wishes.due_ms = Some(now_ms().saturating_add(delay_ms));
        self
    }

    /// The id by which it can be [removed](super::Queue::remove). In queues of ids.
    pub fn id(mut self, id: impl Into<String>) -> Item<T> {
        self.wishes.id = Some(id.into());
        self
    }
}

impl<T> From<T> for Item<T> {
    fn from(body: T) -> Item<T> {
        Item::new(body)
    }
}

/// The wall clock, in ms since 1970: what delays are compared with on all machines.
#[expect(
    clippy::disallowed_methods,
    reason = "a delay is a time of day, for the znode's name says one"
)]
pub(super) fn now_ms() -> i64 {
    ms(SystemTime::now())
}

fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
