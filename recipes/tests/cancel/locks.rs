//! Locks and elections.

use std::future::pending;
use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt as _;
use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lock::{
    Member, MultiLock, Mutex, ReentrantMutex, RwLock, Semaphore, SemaphoreMutex, Upgrade, revoke,
};
use quorate_recipes::{Client, Contention, Layout, Naming, Result};

use super::nothing;
use super::sweep::{Sweep, Weather};

const SHORT: Duration = Duration::from_millis(15);
const LONG: Duration = Duration::from_secs(60);

async fn mutex(client: &Client) -> Result<quorate_recipes::lock::LockGuard> {
    Mutex::new(client, "/m").acquire().await
}

async fn mutex_is_free(client: &Client) -> Result<()> {
    mutex(client).await?.release().await
}

#[tokio::test]
async fn mutexes() {
    let sweep = Sweep::start().await;
    for weather in [Weather::Calm, Weather::Cut] {
        let acquire = async |zk: Client| mutex(&zk).await.map(drop);
        sweep
            .run_in(weather, "acquire", nothing, acquire, mutex_is_free)
            .await;
        sweep
            .run_in(weather, "wait to acquire", mutex, acquire, mutex_is_free)
            .await;
    }
    let within = async |zk: Client| Mutex::new(&zk, "/m").acquire_within(SHORT).await.map(drop);
    sweep
        .run("within, free", nothing, within, mutex_is_free)
        .await;
    sweep
        .run("within, held", mutex, within, mutex_is_free)
        .await;
    let within = async |zk: Client| Mutex::new(&zk, "/m").acquire_within(LONG).await.map(drop);
    sweep.run("within long", mutex, within, mutex_is_free).await;
    let attempt = async |zk: Client| Mutex::new(&zk, "/m").try_acquire().await.map(drop);
    sweep
        .run("try, free", nothing, attempt, mutex_is_free)
        .await;
    sweep.run("try, held", mutex, attempt, mutex_is_free).await;
    let look = async |zk: Client| Mutex::new(&zk, "/m").contenders().await.map(drop);
    sweep.run("contenders", mutex, look, mutex_is_free).await;
    let kazoo = |zk: &Client| Mutex::with_layout(zk, "/k", Layout::Kazoo);
    sweep
        .run(
            "kazoo",
            async |zk: &Client| kazoo(zk).acquire().await,
            async |zk| kazoo(&zk).acquire().await.map(drop),
            async |zk| kazoo(zk).acquire().await?.release().await,
        )
        .await;
}

#[tokio::test]
async fn what_is_done_with_a_guard() {
    let sweep = Sweep::start().await;
    let release = async |zk: Client| mutex(&zk).await?.release().await;
    for weather in [Weather::Calm, Weather::Cut] {
        sweep
            .run_in(weather, "release", nothing, release, mutex_is_free)
            .await;
    }
    let lost = async |zk: Client| {
        mutex(&zk).await?.lost().await;
        Ok(())
    };
    sweep.run("lost", nothing, lost, mutex_is_free).await;
    let revoked = async |zk: Client| mutex(&zk).await?.revoke_requested().await;
    sweep
        .run("revoke_requested", nothing, revoked, mutex_is_free)
        .await;
    let run = async |zk: Client| {
        let guard = mutex(&zk).await?;
        guard.run(zk.get("/m").send()).await.unwrap().map(drop)
    };
    sweep.run("run", nothing, run, mutex_is_free).await;
    let verify = async |zk: Client| mutex(&zk).await?.verify().await;
    sweep.run("verify", nothing, verify, mutex_is_free).await;
    let ask = async |zk: Client| {
        let guard = mutex(&zk).await?;
        revoke(&zk, guard.path()).await
    };
    sweep.run("revoke", nothing, ask, mutex_is_free).await;
    let naming = || Naming::new(Layout::Curator, "lock-", &[]);
    let steps = async |zk: Client| {
        let contender = Contention::new(&zk, "/m", naming()).enter("").await?;
        contender.wait(|_, own| own.checked_sub(1)).await?;
        contender.prove().await?;
        contender.leave().await
    };
    sweep
        .run("enter, free", nothing, steps, mutex_is_free)
        .await;
    sweep.run("enter, held", mutex, steps, mutex_is_free).await;
    let resume = async |zk: Client| {
        let guard = mutex(&zk).await?;
        let again = Contention::new(&zk, "/m", naming()).resume().await?;
        drop(again);
        guard.release().await
    };
    sweep.run("resume", nothing, resume, mutex_is_free).await;
}

#[tokio::test]
async fn read_write_locks() {
    let sweep = Sweep::start().await;
    let lock = |zk: &Client| RwLock::new(zk, "/rw");
    let free = async |zk: &Client| lock(zk).write().await?.release().await;
    let reading = async |zk: &Client| lock(zk).read().await;
    let writing = async |zk: &Client| lock(zk).write().await;
    let read = async |zk: Client| lock(&zk).read().await.map(drop);
    let write = async |zk: Client| lock(&zk).write().await.map(drop);
    sweep.run("read", nothing, read, free).await;
    sweep.run("read, written", writing, read, free).await;
    sweep.run("write", nothing, write, free).await;
    sweep.run("write, read", reading, write, free).await;
    let within = async |zk: Client| {
        drop(lock(&zk).read_within(SHORT).await?);
        lock(&zk).write_within(SHORT).await.map(drop)
    };
    sweep.run("within, written", writing, within, free).await;
    let attempt = async |zk: Client| {
        drop(lock(&zk).try_read().await?);
        drop(lock(&zk).try_write().await?);
        lock(&zk).contenders().await.map(drop)
    };
    sweep.run("try", nothing, attempt, free).await;
    sweep.run("try, written", writing, attempt, free).await;
    for weather in [Weather::Calm, Weather::Cut] {
        let downgrade = async |zk: Client| {
            let reading = lock(&zk).write().await?.downgrade().await?;
            reading.release().await
        };
        sweep
            .run_in(weather, "downgrade", nothing, downgrade, free)
            .await;
        let upgrade = async |zk: Client| match lock(&zk).read().await?.try_upgrade().await? {
            Upgrade::Writing(guard) => guard.release().await,
            Upgrade::StillReading(guard) => guard.release().await,
            _ => Ok(()),
        };
        sweep
            .run_in(weather, "upgrade", nothing, upgrade, free)
            .await;
        sweep
            .run_in(weather, "upgrade, read", reading, upgrade, free)
            .await;
    }
}

#[tokio::test]
async fn semaphores() {
    let sweep = Sweep::start().await;
    let permits = |zk: &Client| Semaphore::new(zk, "/s", 2);
    let free = async |zk: &Client| permits(zk).acquire(2).await?.release().await;
    let held = async |zk: &Client| permits(zk).acquire(1).await;
    for weather in [Weather::Calm, Weather::Cut] {
        let acquire = async |zk: Client| permits(&zk).acquire(2).await?.release().await;
        sweep
            .run_in(weather, "acquire", nothing, acquire, free)
            .await;
        sweep
            .run_in(weather, "acquire, held", held, acquire, free)
            .await;
    }
    let within = async |zk: Client| permits(&zk).acquire_within(2, SHORT).await.map(drop);
    sweep.run("within, held", held, within, free).await;
    let attempt = async |zk: Client| {
        drop(permits(&zk).try_acquire(2).await?);
        permits(&zk).contenders().await.map(drop)
    };
    sweep.run("try", nothing, attempt, free).await;
    sweep.run("try, held", held, attempt, free).await;
    let lost = async |zk: Client| {
        permits(&zk).acquire(2).await?.lost().await;
        Ok(())
    };
    sweep.run("lost", nothing, lost, free).await;

    let kazoo = |zk: &Client| Semaphore::with_layout(zk, "/k", 1, Layout::Kazoo);
    let held = async |zk: &Client| kazoo(zk).acquire(1).await;
    let acquire = async |zk: Client| kazoo(&zk).acquire(1).await.map(drop);
    let free = async |zk: &Client| kazoo(zk).acquire(1).await?.release().await;
    sweep.run("kazoo", nothing, acquire, free).await;
    sweep.run("kazoo, held", held, acquire, free).await;

    let rival = sweep.rival();
    rival
        .create("/max", 1_i32.to_be_bytes().to_vec())
        .await
        .unwrap();
    let shared = |zk: &Client| Semaphore::with_shared_max(zk, "/x", "/max");
    let held = async |zk: &Client| shared(zk).acquire(1).await;
    let acquire = async |zk: Client| shared(&zk).acquire(1).await.map(drop);
    let free = async |zk: &Client| shared(zk).acquire(1).await?.release().await;
    sweep.run("shared maximum", held, acquire, free).await;

    let one = |zk: &Client| SemaphoreMutex::new(zk, "/one");
    let held = async |zk: &Client| one(zk).acquire().await;
    let acquire = async |zk: Client| one(&zk).acquire().await.map(drop);
    let attempt = async |zk: Client| {
        drop(one(&zk).try_acquire().await?);
        one(&zk).acquire_within(SHORT).await.map(drop)
    };
    let free = async |zk: &Client| one(zk).acquire().await?.release().await;
    sweep.run("semaphore mutex", held, acquire, free).await;
    sweep.run("semaphore mutex, try", held, attempt, free).await;
}

#[tokio::test]
async fn locks_made_of_locks() {
    let sweep = Sweep::start().await;
    let owned = |zk: &Client| ReentrantMutex::new(Mutex::new(zk, "/m"));
    let again = async |zk: Client| {
        let lock = owned(&zk);
        let outer = lock.acquire("owner").await?;
        lock.acquire("owner").await?.release().await?;
        outer.release().await
    };
    sweep.run("re-entrant", nothing, again, mutex_is_free).await;
    sweep
        .run("re-entrant, held", mutex, again, mutex_is_free)
        .await;
    // Two tasks of one owner, of which the one that acquires for both is dropped.
    let both = async |zk: Client| {
        let lock = owned(&zk);
        let (one, two) = tokio::join!(lock.acquire("owner"), lock.acquire("owner"));
        drop((one?, two?));
        Ok(())
    };
    sweep
        .run("re-entrant, both", mutex, both, mutex_is_free)
        .await;

    let multi = |zk: &Client| {
        let members: [Member; 3] = [
            Mutex::new(zk, "/multi/a").into(),
            Member::Write(RwLock::new(zk, "/multi/b")),
            SemaphoreMutex::new(zk, "/multi/c").into(),
        ];
        MultiLock::new(members).unwrap()
    };
    let free = async |zk: &Client| multi(zk).acquire().await?.release().await;
    let acquire = async |zk: Client| multi(&zk).acquire().await?.release().await;
    let held = async |zk: &Client| RwLock::new(zk, "/multi/b").read().await;
    sweep.run("multi", nothing, acquire, free).await;
    sweep.run("multi, held", held, acquire, free).await;
    let within = async |zk: Client| multi(&zk).acquire_within(SHORT).await.map(drop);
    sweep.run("multi within, held", held, within, free).await;
    let lost = async |zk: Client| {
        multi(&zk).acquire().await?.lost().await;
        Ok(())
    };
    sweep.run("multi lost", nothing, lost, free).await;
}

#[tokio::test]
async fn elections() {
    let sweep = Sweep::start().await;
    let latch = |zk: &Client| LeaderLatch::new(zk, "/l", "id");
    let leading = async |zk: &Client| latch(zk).campaign().await;
    let free = async |zk: &Client| latch(zk).campaign().await?.resign().await;
    for weather in [Weather::Calm, Weather::Cut] {
        let campaign = async |zk: Client| latch(&zk).campaign().await.map(drop);
        sweep
            .run_in(weather, "campaign", nothing, campaign, free)
            .await;
        sweep
            .run_in(weather, "campaign, led", leading, campaign, free)
            .await;
    }
    let whole = async |zk: Client| {
        let Some(leadership) = latch(&zk).campaign_within(SHORT).await? else {
            return Ok(());
        };
        leadership.proclaim("told").await?;
        drop(latch(&zk).resume().await?);
        leadership.resign().await
    };
    sweep.run("resign", nothing, whole, free).await;
    sweep.run("resign, led", leading, whole, free).await;
    let look = async |zk: Client| {
        drop(latch(&zk).leader().await?);
        latch(&zk).participants().await.map(drop)
    };
    sweep.run("leader", leading, look, free).await;
    let observe = async |zk: Client| {
        let mut seen = latch(&zk).observe();
        drop(seen.next().await);
        drop(seen.next().await);
        Ok(())
    };
    sweep.run("observe", nothing, observe, free).await;
    sweep.run("observe, led", leading, observe, free).await;

    let selector = |zk: &Client| LeaderSelector::new(zk, "/m", "id");
    for weather in [Weather::Calm, Weather::Cut] {
        let lead = async |zk: Client| {
            let selector = selector(&zk);
            selector.lead(|_| async { ControlFlow::Break(()) }).await
        };
        sweep
            .run_in(weather, "lead", nothing, lead, mutex_is_free)
            .await;
        sweep
            .run_in(weather, "lead, led", mutex, lead, mutex_is_free)
            .await;
    }
    let lead = async |zk: Client| selector(&zk).lead(|_| pending::<ControlFlow<()>>()).await;
    sweep.run("lead on", nothing, lead, mutex_is_free).await;
}
