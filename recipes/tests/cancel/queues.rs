//! Queues, counters, ids and leases.

use std::time::Duration;

use futures::StreamExt as _;
use quorate_recipes::counter::{AtomicLong, CachedAtomic, SharedCount};
use quorate_recipes::ids::{
    BlockIds, IdSource as _, Names, SequentialIds, Slots, VersionIds, ZxidIds,
};
use quorate_recipes::lease::{Lease, MultiLease, TtlLease};
use quorate_recipes::lock::Mutex;
use quorate_recipes::queue::{Item, Job, Queue, QueueLayout, QueueOrder, Sharder};
use quorate_recipes::{Client, Result};

use super::nothing;
use super::sweep::{Sweep, Weather};

const SHORT: Duration = Duration::from_millis(15);
const HOUR: Duration = Duration::from_secs(3600);

type Make = fn(&Client) -> Queue<String>;

/// The next gets an item, and works the queue off.
async fn worked_off(queue: Queue<String>) -> Result<()> {
    queue.put("next".to_owned()).await?;
    acked(queue.take().await?).await?;
    while !queue.is_empty().await? {
        if let Some(job) = queue.take_within(Duration::from_millis(50)).await? {
            acked(job).await?;
        }
    }
    Ok(())
}

/// The item may be gone while we have it: a put that was dropped takes it out in the background.
async fn acked<T>(job: Job<T>) -> Result<()> {
    match job.ack().await {
        Err(error) if error.is_no_node() => Ok(()),
        done => done,
    }
}

#[tokio::test]
async fn takes_of_every_layout() {
    let sweep = Sweep::start().await;
    let queues: [(&str, Make); 4] = [
        ("fifo", |zk| Queue::new(zk, "/fifo")),
        ("counted", |zk| {
            Queue::new(zk, "/counted")
                .max_attempts(2)
                .dead_letter("/dead")
        }),
        ("locking", |zk| {
            Queue::new(zk, "/locking").layout(QueueLayout::KazooLocking)
        }),
        ("simple", |zk| {
            Queue::new(zk, "/simple").layout(QueueLayout::Simple)
        }),
    ];
    for (name, queue) in queues {
        let free = async |zk: &Client| worked_off(queue(zk)).await;
        let full = async |zk: &Client| queue(zk).put("item".to_owned()).await;
        let take = async |zk: Client| queue(&zk).take().await.map(drop);
        let what = |what: &str| format!("{name}: {what}");
        sweep.run(&what("take"), nothing, take, free).await;
        sweep.run(&what("take, full"), full, take, free).await;
        let ack = async |zk: Client| queue(&zk).take().await?.ack().await;
        sweep.run(&what("ack"), full, ack, free).await;
        let nack = async |zk: Client| queue(&zk).take().await?.nack().await;
        sweep.run(&what("nack"), full, nack, free).await;
    }
}

#[tokio::test]
async fn the_other_calls_of_a_queue() {
    let sweep = Sweep::start().await;
    let queue = |zk: &Client| Queue::<String>::new(zk, "/q");
    let free = async |zk: &Client| worked_off(queue(zk)).await;
    let full = async |zk: &Client| queue(zk).put("item".to_owned()).await;
    let cut = async |zk: Client| queue(&zk).take().await?.ack().await;
    sweep.run_in(Weather::Cut, "take", full, cut, free).await;
    sweep
        .run_in(Weather::Cut, "take, empty", nothing, cut, free)
        .await;
    let release = async |zk: Client| queue(&zk).take().await?.release().await;
    sweep.run("release", full, release, free).await;
    let lost = async |zk: Client| {
        queue(&zk).take().await?.lost().await;
        Ok(())
    };
    sweep.run("lost", full, lost, free).await;
    let many = async |zk: Client| queue(&zk).take_many(2).await.map(drop);
    sweep.run("take many", full, many, free).await;
    let within = async |zk: Client| queue(&zk).take_within(SHORT).await.map(drop);
    sweep.run("take within", nothing, within, free).await;
    let consume = async |zk: Client| {
        let mut jobs = queue(&zk).consume();
        drop(jobs.next().await);
        drop(jobs.next().await);
        Ok(())
    };
    sweep.run("consume", full, consume, free).await;
    let put = async |zk: Client| {
        queue(&zk).put("one".to_owned()).await?;
        queue(&zk)
            .put_all(["two".to_owned(), "three".to_owned()])
            .await?;
        let together = ["four".to_owned(), "five".to_owned()];
        queue(&zk).put_together(together).await.map(drop)
    };
    sweep.run("put", nothing, put, free).await;
    let bounded = async |zk: Client| {
        queue(&zk)
            .max_items(1)
            .put("two".to_owned())
            .await
            .map(drop)
    };
    sweep.run("put, full", full, bounded, free).await;
    let named = |zk: &Client| Queue::<String>::new(zk, "/named").order(QueueOrder::Id);
    let one = async |zk: &Client| named(zk).put(Item::new("x".to_owned()).id("a")).await;
    let remove = async |zk: Client| named(&zk).remove("a").await.map(drop);
    let gone = async |zk: &Client| {
        named(zk).remove("a").await?;
        named(zk).len().await.map(drop)
    };
    sweep.run("remove", one, remove, gone).await;

    let sharded = |zk: &Client| {
        Sharder::<String>::open(zk, "/sharded", |shard| shard)
            .threshold(1)
            .max_shards(2)
    };
    let sharding = async |zk: Client| {
        sharded(&zk).put("x".to_owned()).await?;
        sharded(&zk).check().await?;
        drop(sharded(&zk).consume().next().await);
        Ok(())
    };
    let taken = async |zk: &Client| {
        let shards = sharded(zk);
        shards.put("y".to_owned()).await?;
        let mut jobs = shards.consume();
        loop {
            let job = jobs.next().await.unwrap()?;
            let is_last = job.body == "y";
            acked(job).await?;
            if is_last {
                return Ok(());
            }
        }
    };
    sweep.run("shards", nothing, sharding, taken).await;
}

#[tokio::test]
async fn counters_and_values() {
    let sweep = Sweep::start().await;
    let counter = |zk: &Client| {
        let lock = Mutex::new(zk, "/counter-lock");
        // No try without the lock, so that each goes through it.
        AtomicLong::new(zk, "/counter")
            .tries(0)
            .promoted(lock, HOUR)
    };
    let locked = async |zk: &Client| Mutex::new(zk, "/counter-lock").acquire().await;
    let counts = async |zk: &Client| counter(zk).increment().await.map(drop);
    let count = async |zk: Client| counter(&zk).increment().await.map(drop);
    sweep.run("by lock", nothing, count, counts).await;
    sweep.run("by lock, held", locked, count, counts).await;
    let marked = |zk: &Client| AtomicLong::new(zk, "/marked").settled_by("/marks");
    let counts = async |zk: &Client| marked(zk).increment().await.map(drop);
    let count = async |zk: Client| {
        let counter = marked(&zk);
        counter.initialize(&3).await?;
        counter.decrement().await?;
        let now = counter.get().await?;
        counter.compare_and_set(&now, &7).await?;
        counter.force_set(&now).await
    };
    sweep.run("marked", nothing, count, counts).await;
    let cached = async |zk: Client| {
        let cached = CachedAtomic::new(AtomicLong::new(&zk, "/cached"), 2);
        for _ in 0..3 {
            cached.next().await?;
        }
        Ok(())
    };
    let counts = async |zk: &Client| {
        let cached = CachedAtomic::new(AtomicLong::new(zk, "/cached"), 2);
        cached.next().await.map(drop)
    };
    sweep.run("cached", nothing, cached, counts).await;
    let shared = async |zk: Client| {
        let count = SharedCount::open(&zk, "/shared", 7).await?;
        let mut changes = count.changes();
        drop(changes.next().await);
        count.set(8).await?;
        let seen = count.get();
        count.try_set(&seen, 9).await?;
        drop(changes.next().await);
        drop(changes.next().await);
        Ok(())
    };
    let counts = async |zk: &Client| SharedCount::open(zk, "/shared", 7).await?.set(7).await;
    sweep.run("shared", nothing, shared, counts).await;
}

#[tokio::test]
async fn ids_and_names() {
    let sweep = Sweep::start().await;
    for weather in [Weather::Calm, Weather::Cut] {
        let ids = async |zk: Client| SequentialIds::new(&zk, "/ids").next_name().await.map(drop);
        let next = async |zk: &Client| SequentialIds::new(zk, "/ids").next_id().await.map(drop);
        sweep
            .run_in(weather, "sequential", nothing, ids, next)
            .await;
    }
    let ids = async |zk: Client| {
        VersionIds::new(&zk, "/v").next_id().await?;
        ZxidIds::new(&zk, "/z").next_id().await?;
        BlockIds::new(&zk, "/b", 2).next_id().await.map(drop)
    };
    let next = async |zk: &Client| BlockIds::new(zk, "/b", 2).next_id().await.map(drop);
    sweep.run("ids", nothing, ids, next).await;

    let names = |zk: &Client| Names::new(zk, "/names");
    let taken = async |zk: &Client| names(zk).claim("a", "rival").await;
    let free = async |zk: &Client| names(zk).claim("a", "rival").await?.release().await;
    for weather in [Weather::Calm, Weather::Cut] {
        let claim = async |zk: Client| {
            let claim = names(&zk).claim("a", "victim").await?;
            claim.verify().await?;
            claim.release().await
        };
        sweep.run_in(weather, "claim", nothing, claim, free).await;
        sweep
            .run_in(weather, "claim, taken", taken, claim, free)
            .await;
    }
    let attempt = async |zk: Client| {
        drop(names(&zk).try_claim("a", "victim").await?);
        names(&zk).owner("a").await?;
        names(&zk).taken().await.map(drop)
    };
    sweep.run("try to claim", taken, attempt, free).await;
    let slot = async |zk: Client| match Slots::new(&zk, "/slots", 1).take("victim").await? {
        Some(slot) => slot.release().await,
        None => Ok(()),
    };
    let free = async |zk: &Client| {
        while Slots::new(zk, "/slots", 1).take("rival").await?.is_none() {}
        Ok(())
    };
    sweep.run("slots", nothing, slot, free).await;
}

/// What is leased stays leased: that is what a lease is. The next hears so, and waits for nobody.
#[tokio::test]
async fn leases() {
    let sweep = Sweep::start().await;
    let lease = async |zk: Client| {
        Lease::new(&zk, "/lease", "victim").obtain(HOUR).await?;
        let leases = MultiLease::new(&zk, "/leases", "victim", 2);
        leases.obtain(HOUR).await.map(drop)
    };
    let hears = async |zk: &Client| {
        Lease::new(zk, "/lease", "rival").obtain(HOUR).await?;
        MultiLease::new(zk, "/leases", "rival", 2)
            .obtain(HOUR)
            .await
            .map(drop)
    };
    let expired = async |zk: &Client| {
        for path in ["/lease/lease_holder", "/leases/0/lease_holder"] {
            match zk.delete(path).await {
                Err(error) if !error.is_no_node() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    sweep.run("kazoo's", expired, lease, hears).await;
    let lease = async |zk: Client| {
        let lease = TtlLease::new(&zk, "/ttl", "victim", HOUR);
        lease.obtain().await?;
        lease.obtain().await?;
        lease.release().await.map(drop)
    };
    let hears = async |zk: &Client| {
        TtlLease::new(zk, "/ttl", "rival", HOUR)
            .obtain()
            .await
            .map(drop)
    };
    sweep.run("with a TTL", nothing, lease, hears).await;
}
