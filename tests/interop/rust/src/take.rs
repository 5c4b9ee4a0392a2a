//! What is held, consumed or followed until it is given back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use quorate_recipes::barrier::{Barrier, DoubleBarrier};
use quorate_recipes::client::Codec;
use quorate_recipes::counter::{Shared, Stored};
use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lock::{MultiLock, Mutex, RwLock, Semaphore, SemaphoreMutex};
use quorate_recipes::membership::{
    Group, GroupLayout, Partitioner, PersistentNode, PersistentTtlNode,
};
use quorate_recipes::queue::{Queue, QueueLayout, QueueOrder};
use quorate_recipes::{Client, Layout};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Held, Items, Peer, Result};

pub(crate) fn layout(name: &str) -> Layout {
    match name {
        "kazoo" => Layout::Kazoo,
        _ => Layout::Curator,
    }
}

pub(crate) fn group(client: &Client, path: &str, layout: &str) -> Group {
    let layout = match layout {
        "party" => GroupLayout::KazooParty,
        "shallow" => GroupLayout::KazooShallowParty,
        _ => GroupLayout::Curator,
    };
    Group::with_layout(client, path, layout)
}

/// A queue as the words say: `fifo`, `priority`, `delay` or `id`, and whose znodes.
pub(crate) fn queue(client: &Client, path: &str, layout: &str, order: &str) -> Queue<String> {
    let queue = Queue::new(client, path).order(match order {
        "priority" => QueueOrder::Priority,
        "delay" => QueueOrder::Delay,
        "id" => QueueOrder::Id,
        _ => QueueOrder::Fifo,
    });
    match layout {
        "once" => queue.at_most_once(),
        "simple" => queue.layout(QueueLayout::Simple),
        "kazoo" => queue.layout(QueueLayout::Kazoo),
        "locking" => queue.layout(QueueLayout::KazooLocking),
        _ => queue.locks(&format!("{path}-locks")),
    }
}

fn several(
    client: &Client,
    layout: Layout,
    id: &str,
    path: &str,
    more: &[&str],
) -> Result<MultiLock> {
    let paths = [path].into_iter().chain(more.iter().copied());
    let lock = |path| Mutex::with_layout(client, path, layout).data(id.to_owned());
    Ok(MultiLock::new(paths.map(|path| lock(path).into()))?)
}

impl Peer {
    /// Waits until it is held; `id` is what its znode says.
    pub(crate) async fn take(
        &self,
        id: &str,
        kind: &str,
        whose: &str,
        path: &str,
        rest: &[&str],
    ) -> Result<Held> {
        let client = &self.client;
        let (data, layout) = (id.to_owned(), layout(whose));
        let number = rest.first().and_then(|word| word.parse::<u32>().ok());
        let number = number.unwrap_or(1);
        Ok(match kind {
            "mutex" => {
                let lock = Mutex::with_layout(client, path, layout).data(data);
                let guard = lock.acquire().await?;
                Held::new(|| async { Ok(guard.release().await?) })
            }
            "revocable" => {
                let lock = Mutex::with_layout(client, path, layout).data(data);
                self.revocable(&lock).await?
            }
            "read" => {
                let lock = RwLock::with_layout(client, path, layout).data(data);
                let guard = lock.read().await?;
                Held::new(|| async { Ok(guard.release().await?) })
            }
            "write" => {
                let lock = RwLock::with_layout(client, path, layout).data(data);
                let guard = lock.write().await?;
                Held::new(|| async { Ok(guard.release().await?) })
            }
            "downgraded" => {
                let lock = RwLock::with_layout(client, path, layout).data(data);
                let guard = lock.write().await?.downgrade().await?;
                Held::new(|| async { Ok(guard.release().await?) })
            }
            "semaphore" => {
                let permits = Semaphore::with_layout(client, path, number, layout).data(data);
                let permit = permits.acquire(1).await?;
                Held::new(|| async { Ok(permit.release().await?) })
            }
            "shared-semaphore" => {
                let count = rest.first().ok_or("the count's path")?;
                let permits = Semaphore::with_shared_max(client, path, count).data(data);
                let permit = permits.acquire(1).await?;
                Held::new(|| async { Ok(permit.release().await?) })
            }
            "semaphore-mutex" => {
                let permit = SemaphoreMutex::new(client, path).acquire().await?;
                Held::new(|| async { Ok(permit.release().await?) })
            }
            "multi" => {
                let guard = several(client, layout, id, path, rest)?.acquire().await?;
                Held::new(|| async { Ok(guard.release().await?) })
            }
            "latch" => {
                let latch = LeaderLatch::with_layout(client, path, data, layout);
                let leadership = latch.campaign().await?;
                Held::new(|| async { Ok(leadership.resign().await?) })
            }
            "selector" => {
                self.selector(LeaderSelector::with_layout(client, path, data, layout))
                    .await?
            }
            "gate" => {
                Barrier::new(client, path).wait().await?;
                Held::new(|| async { Ok(()) })
            }
            "double" => {
                let members = usize::try_from(number)?;
                let barrier = DoubleBarrier::new(client, path, members);
                let inside = barrier.layout(layout).data(data).enter().await?;
                Held::new(|| async { Ok(inside.leave().await?) })
            }
            "member" => {
                let membership = group(client, path, whose).join(id, data);
                membership.joined().await?;
                Held::new(|| async {
                    membership.leave().await;
                    Ok(())
                })
            }
            "node" => {
                let node = PersistentNode::builder(client, path, data).start();
                node.placed().await?;
                Held::new(|| async {
                    node.close().await;
                    Ok(())
                })
            }
            "ttl" => {
                let ttl = Duration::from_millis(number.into());
                let node = PersistentTtlNode::start(client, path, data, ttl);
                node.touched().await?;
                Held::new(|| async {
                    drop(node);
                    Ok(())
                })
            }
            "partitioner" => self.partitioner(path, id, rest),
            "consume" => {
                let order = rest.first().copied().unwrap_or_default();
                self.consume(queue(client, path, whose, order))
            }
            "follow-count" => self.follow(Shared::open(client, path, 0_i32).await?, i32::to_string),
            "follow-value" => {
                let value = Shared::open(client, path, "".into()).await?;
                self.follow(value, |bytes: &_| String::decode(bytes).unwrap_or_default())
            }
            _ => return Err(format!("no {kind}").into()),
        })
    }

    /// Gives itself back when it is asked to.
    async fn revocable(&self, lock: &Mutex) -> Result<Held> {
        let guard = lock.acquire().await?;
        let items = Items::default();
        let seen = Arc::clone(&items);
        self.tasks.spawn(async move {
            if guard.revoke_requested().await.is_ok() {
                seen.lock().push("revoked".to_owned());
                drop(guard.release().await);
            }
        });
        Ok(Held::with(items, || async { Ok(()) }))
    }

    async fn selector(&self, selector: LeaderSelector) -> Result<Held> {
        let (leads, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (body_leads, body_stop) = (Arc::clone(&leads), Arc::clone(&stop));
        let mut leading = self.tasks.spawn(async move {
            selector
                .lead(|_| {
                    let (leads, stop) = (Arc::clone(&body_leads), Arc::clone(&body_stop));
                    async move {
                        leads.notify_one();
                        stop.notified().await;
                        ControlFlow::Break(())
                    }
                })
                .await
        });
        tokio::select! {
            () = leads.notified() => {}
            ended = &mut leading => ended??,
        }
        Ok(Held::new(|| async move {
            stop.notify_one();
            Ok(leading.await??)
        }))
    }

    fn partitioner(&self, path: &str, id: &str, items: &[&str]) -> Held {
        let items = items.iter().map(|&item| item.to_owned());
        let mut shares =
            Partitioner::join_with_layout(&self.client, path, items, id, Layout::Kazoo);
        let (seen, stop) = (Items::default(), CancellationToken::new());
        let (tasks, ours, stopped) = (self.tasks.clone(), Arc::clone(&seen), stop.clone());
        let working = self.tasks.spawn(async move {
            loop {
                let share = tokio::select! {
                    share = shares.next() => share,
                    () = stopped.cancelled() => break,
                };
                let Ok(Some(share)) = share else { break };
                ours.lock().push(share.item().to_owned());
                let (ours, stopped) = (Arc::clone(&ours), stopped.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = share.revoked() => {}
                        () = stopped.cancelled() => {}
                    }
                    ours.lock().retain(|item| item != share.item());
                    drop(share.release().await);
                });
            }
            shares.leave().await;
        });
        Held::with(seen, || async move {
            stop.cancel();
            Ok(working.await?)
        })
    }

    fn consume(&self, queue: Queue<String>) -> Held {
        let (seen, stop) = (Items::default(), CancellationToken::new());
        let (items, stopped) = (Arc::clone(&seen), stop.clone());
        let consuming = self.tasks.spawn(async move {
            loop {
                // Stopped when all is consumed: what is taken at most once may be lost with a take.
                let job = tokio::select! {
                    job = queue.take() => job?,
                    () = stopped.cancelled() => return Ok(()),
                };
                items.lock().push(job.body.clone());
                job.ack().await?;
            }
        });
        Held::with(seen, || async move {
            stop.cancel();
            consuming.await?
        })
    }

    fn follow<V: Stored>(
        &self,
        value: Shared<V>,
        show: impl Fn(&V) -> String + Send + 'static,
    ) -> Held {
        let (seen, stop) = (Items::default(), CancellationToken::new());
        let (items, stopped) = (Arc::clone(&seen), stop.clone());
        self.tasks
            .spawn(stopped.run_until_cancelled_owned(async move {
                let mut changes = value.changes();
                while let Some(Ok(current)) = changes.next().await {
                    items.lock().push(show(&current.value));
                }
            }));
        Held::with(seen, || async move {
            stop.cancel();
            Ok(())
        })
    }
}
