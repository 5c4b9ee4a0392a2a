//! A TTL znode that is kept alive, and goes some time after its owner.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Error, Result};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::patience::over_sessions;

/// Keeps a TTL znode alive by a child that it touches twice in each TTL.
///
/// It outlives the session, and goes when its owner has been silent for the TTL, child first.
///
/// | | |
/// | --- | --- |
/// | guarantee | it is there for at least a TTL after its owner's last touch |
/// | what can go wrong | a server with TTLs switched off: [`touched`](PersistentTtlNode::touched) fails with `Unimplemented` |
/// | znodes | `<path>` and `<path>/touch`, both with the TTL; parents are containers |
/// | cost | one write every half TTL, and a watch on the znode that is kept |
/// | Curator, kazoo | `PersistentTtlNode`; none |
///
/// ```no_run
/// use std::time::Duration;
/// use quorate_recipes::{Client, membership::PersistentTtlNode};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let node = PersistentTtlNode::start(&client, "/seen/w1", "", Duration::from_secs(60));
/// node.touched().await?;
/// // Dropped, it stays for up to two TTLs.
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a dropped node is not touched any more"]
pub struct PersistentTtlNode {
    touched: watch::Receiver<Option<Result<u64>>>,
    _stop: DropGuard,
}

const TOUCH: &str = "touch";

impl PersistentTtlNode {
    /// Begins to keep it, on a task of the Tokio runtime that this is called on.
    pub fn start(
        client: &Client,
        path: &str,
        data: impl Into<Bytes>,
        ttl: Duration,
    ) -> PersistentTtlNode {
        let (tell, touched) = watch::channel(None);
        let stop = CancellationToken::new();
        let keeper = Keeper {
            client: client.clone(),
            touch: format!("{}/{TOUCH}", path.trim_end_matches('/')),
            path: path.to_owned(),
            data: data.into(),
            ttl,
            tell,
        };
        let stopped = stop.clone();
        TaskTracker::new().spawn(async move { stopped.run_until_cancelled(keeper.run()).await });
        PersistentTtlNode {
            touched,
            _stop: stop.drop_guard(),
        }
    }

    /// Waits for the first touch, and says how many there were.
    ///
    /// # Errors
    /// What keeps it from ever being there.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn touched(&self) -> Result<u64> {
        let mut touched = self.touched.clone();
        let first = touched.wait_for(Option::is_some).await;
        match first.ok().and_then(|touched| touched.clone()) {
            Some(touched) => touched,
            None => Ok(0),
        }
    }
}

struct Keeper {
    client: Client,
    path: String,
    touch: String,
    data: Bytes,
    ttl: Duration,
    tell: watch::Sender<Option<Result<u64>>>,
}

impl Keeper {
    async fn run(self) {
        let mut touches = 0;
        let mut is_placed = false;
        loop {
            let result = match is_placed {
                true => self.touch().await,
                false => self.place().await,
            };
            let error: Error = match result {
                Ok(()) => {
                    is_placed = true;
                    touches += 1;
                    self.tell.send_replace(Some(Ok(touches)));
                    sleep(self.ttl / 2).await;
                    continue;
                }
                // It was reaped: we were away for too long.
                Err(error) if is_placed && error.is_no_node() => {
                    is_placed = false;
                    continue;
                }
                Err(error) => error,
            };
            if let Err(error) = over_sessions(&self.client, error).await {
                self.tell.send_replace(Some(Err(error)));
                return;
            }
        }
    }

    async fn touch(&self) -> Result<()> {
        self.client.set(&self.touch, "").await.map(drop)
    }

    /// Makes both, or takes over what is there.
    async fn place(&self) -> Result<()> {
        let client = &self.client;
        let create = client.create(&self.path, self.data.clone());
        match create.ttl(self.ttl).container_parents().idempotent().await {
            Ok(_) => {}
            Err(error) if error.is_node_exists() => {
                client.set(&self.path, self.data.clone()).await?;
            }
            Err(error) => return Err(error),
        }
        match client.create(&self.touch, "").ttl(self.ttl).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_node_exists() => self.touch().await,
            Err(error) => Err(error),
        }
    }
}
