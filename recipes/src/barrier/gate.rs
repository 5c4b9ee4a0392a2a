//! The barrier: a gate that all wait at until somebody opens it.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Result};
use tokio::time::timeout;

use crate::patience::over_sessions;

/// A gate: closed while its znode exists.
///
/// | | |
/// | --- | --- |
/// | guarantee | a wait ends only after the gate was seen open; every opening ends all waits |
/// | what can go wrong | a gate that is open for a moment may be missed: who must not miss it watches what it protects |
/// | znodes | `<path>` itself, persistent: it outlives whoever closed it |
/// | cost | close, open: one request. Wait: one request and one watch; all wake at the opening |
/// | Curator, kazoo | `DistributedBarrier`; `Barrier`. All meet on one path |
///
/// ```no_run
/// use quorate_recipes::{Client, barrier::Barrier};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let gate = Barrier::new(&client, "/gates/import");
/// gate.close().await?;
/// // ... elsewhere: `gate.wait().await?` ...
/// gate.open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    path: String,
    data: Bytes,
}

impl Barrier {
    /// A gate at this path. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Barrier {
        Barrier {
            client: client.clone(),
            path: path.to_owned(),
            data: Bytes::new(),
        }
    }

    /// What the znode carries. Nobody reads it but people.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Barrier {
        self.data = data.into();
        self
    }

    /// Closes the gate. `false` if it was closed already.
    ///
    /// # Errors
    /// If the znode cannot be made, or nobody knows whether it was.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the gate is closed or not.
    pub async fn close(&self) -> Result<bool> {
        let create = self
            .client
            .create(&self.path, self.data.clone())
            .container_parents()
            .idempotent();
        match create.await {
            Ok(_) => Ok(true),
            Err(error) if error.is_node_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens the gate: all waits end. `false` if it was open already.
    ///
    /// # Errors
    /// If the znode cannot be deleted, or nobody knows whether it was.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the gate is open or not.
    pub async fn open(&self) -> Result<bool> {
        match self.client.delete(&self.path).idempotent().await {
            Ok(()) => Ok(true),
            Err(error) if error.is_no_node() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the gate is closed now.
    ///
    /// # Errors
    /// As the read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn is_closed(&self) -> Result<bool> {
        Ok(self.client.exists(&self.path).await?.is_some())
    }

    /// Waits until the gate is open, over lost connections, and over lost sessions if the client
    /// opens new ones.
    ///
    /// # Errors
    /// If the client is closed or its session lost for good; if the znode may not be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait(&self) -> Result<()> {
        loop {
            // By getData: it arms no watch if the gate is open.
            let closed = match self.client.get(&self.path).watch().await {
                Ok((_, watch)) => watch.await.map(drop),
                Err(error) if error.is_no_node() => return Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = closed {
                over_sessions(&self.client, error).await?;
            }
        }
    }

    /// As [`wait`](Barrier::wait), for this long at most: whether it was open by then.
    ///
    /// # Errors
    /// As [`wait`](Barrier::wait).
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait_within(&self, time: Duration) -> Result<bool> {
        match timeout(time, self.wait()).await {
            Ok(opened) => opened.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}
