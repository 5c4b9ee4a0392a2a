//! Leases that the server ends.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Error, Result};

/// A right that one holder has until it has not renewed it for a time, by the server's clock.
///
/// | | |
/// | --- | --- |
/// | guarantee | one holder at a time; no two clocks need agree. It never ends early |
/// | what can go wrong | the server looks for what is over only now and then (every 60 s if nothing else is said), so it may end late; a holder that stands still does not notice the end |
/// | znodes | `<path>`, with a TTL; its parents are containers |
/// | cost | a create or a write; a read if another has it. No watches |
/// | Curator, kazoo | none (`PersistentTtlNode` keeps one alive); none |
///
/// The server must have TTLs on (`extendedTypesEnabled`), or the calls fail with `Unimplemented`.
///
/// ```no_run
/// use std::time::Duration;
/// use quorate_recipes::{Client, lease::TtlLease};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let lease = TtlLease::new(&client, "/leases/import", "host-a", Duration::from_secs(300));
/// println!("ours: {}", lease.obtain().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TtlLease {
    client: Client,
    path: String,
    holder: Bytes,
    time: Duration,
}

impl TtlLease {
    /// The lease at this path, for this holder, of this time. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, holder: impl Into<Bytes>, time: Duration) -> TtlLease {
        TtlLease {
            client: client.clone(),
            path: path.to_owned(),
            holder: holder.into(),
            time,
        }
    }

    /// Takes the lease, or renews it; false if another has it.
    ///
    /// # Errors
    /// As a create's; after an unknown outcome it may be called again.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn obtain(&self) -> Result<bool> {
        loop {
            let create = self.client.create(&self.path, self.holder.clone());
            match create.ttl(self.time).container_parents().await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_node_exists() => {}
                Err(error) => return Err(error),
            }
            let node = match self.client.get(&self.path).await {
                Ok(node) => node,
                Err(error) if error.is_no_node() => continue,
                Err(error) => return Err(error),
            };
            if node.data != self.holder {
                return Ok(false);
            }
            // A write starts the time anew, if nobody else has it by now.
            let set = self.client.set(&self.path, self.holder.clone());
            match set.version(node.stat.version).await {
                Ok(_) => return Ok(true),
                Err(error) if is_race(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the lease back; false if it was not ours.
    ///
    /// # Errors
    /// As a delete's.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn release(&self) -> Result<bool> {
        let node = match self.client.get(&self.path).await {
            Ok(node) if node.data == self.holder => node,
            Ok(_) => return Ok(false),
            Err(error) if error.is_no_node() => return Ok(false),
            Err(error) => return Err(error),
        };
        match self
            .client
            .delete(&self.path)
            .version(node.stat.version)
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if is_race(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_race(error: &Error) -> bool {
    error.is_bad_version() || error.is_no_node()
}
