//! One queue spread over several znodes, so that no listing grows too long.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, select_all};
use parking_lot::Mutex as PlainMutex;
use quorate_client::{Client, Codec, Result};
use rand::{Rng, RngCore};

use super::{Item, Job, Queue};
use crate::lock::Mutex;

/// Spreads puts over queues below one znode, and adds queues as they fill up.
///
/// | | |
/// | --- | --- |
/// | guarantee | each shard's, and none over shards: order holds in one shard only |
/// | what can go wrong | sizes are as old as the last [`check`](Sharder::check): a shard may grow beyond the threshold until then |
/// | znodes | `<path>/queue-<uuid>`, persistent, each a queue; `<path>-locks/…`, `<path>-waiters/…` per shard; `<path>-leader/…` while a shard is added |
/// | cost | a put's; a check: a listing, and a read per shard. Watches: as the queues |
/// | Curator, kazoo | `QueueSharder`; none |
///
/// ```no_run
/// use quorate_recipes::{Client, queue::Sharder};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let queue = Sharder::<String>::open(&client, "/queues/mails", |shard| shard.max_attempts(3));
/// queue.check().await?;
/// queue.put("hello".to_owned()).await
/// # }
/// ```
pub struct Sharder<T> {
    client: Client,
    path: String,
    threshold: usize,
    max_shards: usize,
    configure: Arc<dyn Fn(Queue<T>) -> Queue<T> + Send + Sync>,
    shards: PlainMutex<BTreeMap<String, Shard<T>>>,
}

#[derive(Debug)]
struct Shard<T> {
    queue: Queue<T>,
    /// Until it is at the threshold, and again when it is at half of it.
    is_preferred: bool,
}

impl<T> fmt::Debug for Sharder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sharder({})", self.path)
    }
}

impl<T: Codec + Send + 'static> Sharder<T> {
    /// The shards below this path, each set up by `configure`. Nothing is sent yet, and nothing is
    /// known before the first [`check`](Sharder::check).
    #[must_use]
    pub fn open(
        client: &Client,
        path: &str,
        configure: impl Fn(Queue<T>) -> Queue<T> + Send + Sync + 'static,
    ) -> Sharder<T> {
        Sharder {
            client: client.clone(),
            path: path.trim_end_matches('/').to_owned(),
            threshold: 10_000,
            max_shards: 10,
            configure: Arc::new(configure),
            shards: PlainMutex::default(),
        }
    }

    /// From how many items on a shard gets no more, if others have less: 10 000 if nothing else is
    /// said.
    #[must_use]
    pub fn threshold(mut self, items: usize) -> Sharder<T> {
        self.threshold = items.max(1);
        self
    }

    /// How many shards are made at most: 10 if nothing else is said.
    #[must_use]
    pub fn max_shards(mut self, shards: usize) -> Sharder<T> {
        self.max_shards = shards.max(1);
        self
    }

    /// Learns of the shards and their sizes, and adds one if one is too full. To be called now and
    /// then: Curator does every 30 s. Gives the number of shards.
    ///
    /// # Errors
    /// As reads and creates do.
    ///
    /// # Cancel safety
    /// May be dropped at any time; a shard may be added.
    pub async fn check(&self) -> Result<usize> {
        let mut names = self.names().await?;
        let mut is_full = names.is_empty();
        for name in &names {
            let queue = self.learn(name);
            let items = queue.len().await?;
            is_full |= items >= self.threshold;
            if let Some(shard) = self.shards.lock().get_mut(name) {
                shard.is_preferred = match shard.is_preferred {
                    true => items < self.threshold,
                    false => items <= self.threshold / 2,
                };
            }
        }
        if is_full && names.len() < self.max_shards {
            let lock = Mutex::new(&self.client, &format!("{}-leader", self.path));
            let guard = match names.is_empty() {
                // Without a shard nobody can go on.
                true => Some(lock.acquire().await?),
                false => lock.try_acquire().await?,
            };
            if let Some(guard) = guard {
                let current = self.names().await?;
                if current.len() <= names.len() && current.len() < self.max_shards {
                    let path = format!("{}/{}", self.path, new_name());
                    guard.client().create(&path, "").parents().await?;
                }
                guard.release().await?;
            }
            names = self.names().await?;
            for name in &names {
                self.learn(name);
            }
        }
        Ok(names.len())
    }

    /// Puts an item into one of the shards that are not too full, or into any if all are.
    ///
    /// # Errors
    /// As [`Queue::put`].
    ///
    /// # Cancel safety
    /// As [`Queue::put`].
    pub async fn put(&self, item: impl Into<Item<T>>) -> Result<()> {
        loop {
            if let Some(queue) = self.pick() {
                return queue.put(item).await.map(drop);
            }
            self.check().await?;
        }
    }

    /// The jobs of all shards that are known now.
    pub fn consume(&self) -> BoxStream<'static, Result<Job<T>>> {
        let queues: Vec<Queue<T>> = self.queues(|_| true);
        select_all(queues.into_iter().map(|queue| queue.consume())).boxed()
    }

    fn pick(&self) -> Option<Queue<T>> {
        let mut queues = self.queues(|shard| shard.is_preferred);
        if queues.is_empty() {
            queues = self.queues(|_| true);
        }
        if queues.is_empty() {
            return None;
        }
        let at = rand::rng().random_range(0..queues.len());
        Some(queues.swap_remove(at))
    }

    fn queues(&self, is_wanted: impl Fn(&Shard<T>) -> bool) -> Vec<Queue<T>> {
        let shards = self.shards.lock();
        let wanted = shards.values().filter(|shard| is_wanted(shard));
        wanted.map(|shard| shard.queue.clone()).collect()
    }

    fn learn(&self, name: &str) -> Queue<T> {
        let mut shards = self.shards.lock();
        let shard = shards.entry(name.to_owned()).or_insert_with(|| {
            let queue = Queue::new(&self.client, &format!("{}/{name}", self.path));
            // Beside the shards, where nobody takes them for shards.
            let queue = queue.change(|settings| {
                settings.locks = format!("{}-locks/{name}", self.path);
                settings.waiters = format!("{}-waiters/{name}", self.path);
            });
            Shard {
                queue: (self.configure)(queue),
                is_preferred: true,
            }
        });
        shard.queue.clone()
    }

    async fn names(&self) -> Result<Vec<String>> {
        match self.client.children(&self.path).await {
            Ok((names, _)) => {
                let is_shard = |name: &String| name.starts_with("queue-");
                Ok(names.into_iter().filter(is_shard).collect())
            }
            Err(error) if error.is_no_node() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// As Curator names a shard: by a random UUID.
fn new_name() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let mut name = "queue-".to_owned();
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            name.push('-');
        }
        name.push(digit);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_named_by_a_random_uuid() {
        let name = new_name();
        let groups: Vec<usize> = name.split('-').skip(1).map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(name.as_bytes()[20], b'4');
        assert!(b"89ab".contains(&name.as_bytes()[25]));
    }
}
