//! kazoo's leases.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_client::{Client, Context, Error, Reason, Result};

use super::json::Holding;
use crate::lock::Mutex;
use crate::naming::Layout;

/// A right that one holder has until a time, whatever becomes of its session.
///
/// | | |
/// | --- | --- |
/// | guarantee | one holder at a time, as far as the clocks of all who take part agree |
/// | what can go wrong | clocks that differ by more than the margin that the holder leaves before the end; nothing tells the holder that the time is over |
/// | znodes | `<path>/lease_holder`, persistent, JSON; `<path>/<hex>__lock__<number>`, ephemeral, for a moment |
/// | cost | a lock cycle, a read and a transaction. No watches, but the lock's while others are at it |
/// | Curator, kazoo | none; `NonBlockingLease` |
///
/// ```no_run
/// use std::time::Duration;
/// use quorate_recipes::{Client, lease::Lease};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let lease = Lease::new(&client, "/leases/nightly", "host-a");
/// if lease.obtain(Duration::from_secs(3600)).await? {
///     println!("the night is ours");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lease {
    client: Client,
    path: String,
    holder: String,
}

impl Lease {
    /// The lease at this path, for this holder. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, holder: &str) -> Lease {
        Lease {
            client: client.clone(),
            path: path.trim_end_matches('/').to_owned(),
            holder: holder.to_owned(),
        }
    }

    /// Takes the lease from now on for this long, or renews it; false if another has it.
    ///
    /// # Errors
    /// As a write's: after an unknown outcome it may be called again. [`Reason::Codec`] if what is
    /// there is no lease.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn obtain(&self, time: Duration) -> Result<bool> {
        let lock = Mutex::with_layout(&self.client, &self.path, Layout::Kazoo);
        let guard = lock.acquire().await?;
        let path = format!("{}/lease_holder", self.path);
        let is_there = match guard.client().get(&path).await {
            Ok(node) => {
                let Some(holding) = Holding::read(&node.data) else {
                    let reason = Reason::Codec("this is no lease of version 1".to_owned());
                    return Err(Error::did_not_happen(reason, Context::of("lease", &path)));
                };
                if holding.holder != self.holder && holding.end > now() {
                    guard.release().await?;
                    return Ok(false);
                }
                true
            }
            Err(error) if error.is_no_node() => false,
            Err(error) => return Err(error),
        };
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let holding = Holding {
            holder: self.holder.clone(),
            // The last second that kazoo's four digits of year can say.
            end: now().saturating_add(seconds).min(253_402_300_799),
        };
        // Only while we hold the lock: kazoo's two separate writes are not so careful.
        let multi = guard.multi();
        let multi = if is_there { multi.delete(&path) } else { multi };
        multi.create(&path, holding.write()).await?;
        guard.release().await?;
        Ok(true)
    }
}

/// Several leases of which a holder takes any one.
///
/// | | |
/// | --- | --- |
/// | guarantee | at most `count` holders at a time, as [`Lease`] |
/// | what can go wrong | as [`Lease`] |
/// | znodes | `<path>/<n>/lease_holder` and what [`Lease`] makes there |
/// | cost | as [`Lease`], for each that is tried |
/// | Curator, kazoo | none; `MultiNonBlockingLease` |
#[derive(Clone, Debug)]
pub struct MultiLease {
    leases: Vec<Lease>,
}

impl MultiLease {
    /// The leases below this path, for this holder. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, holder: &str, count: usize) -> MultiLease {
        let path = path.trim_end_matches('/');
        let lease = |n: usize| Lease::new(client, &format!("{path}/{n}"), holder);
        MultiLease {
            leases: (0..count).map(lease).collect(),
        }
    }

    /// Takes the first lease that nobody else has, or renews it; `None` if others have all.
    ///
    /// # Errors
    /// As [`Lease::obtain`].
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn obtain(&self, time: Duration) -> Result<Option<usize>> {
        for (n, lease) in self.leases.iter().enumerate() {
            if lease.obtain(time).await? {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the layout says a time of day, for all machines"
)]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
