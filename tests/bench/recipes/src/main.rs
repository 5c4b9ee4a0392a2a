//! One cell of the comparison of recipes, with `quorate-recipes`, against a server that runs
//! already. Prints one line of JSON. Its siblings do the same with Curator and kazoo.
//!
//! ```text
//! quorate-bench-recipes CELL COUNT SERVER [multi]
//! ```
//!
//! | cell | what is counted |
//! | --- | --- |
//! | `cycle` | one contender takes a lock and gives it back |
//! | `handoff` | the same lock taken by [`CONTENDERS`] in turn, each with a session of its own |
//! | `queue` | an item that is put by one of [`PRODUCERS`], taken by one of [`CONSUMERS`] and done |
//! | `queue-once` | the same in a queue that takes at most once |
//!
//! The runtime has one thread, or as many as there are cores with `multi`. The CPU time is the whole process's between the first and the last that is counted.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{try_join, try_join_all};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use quorate_recipes::Client;
use quorate_recipes::lock::Mutex;
use quorate_recipes::queue::Queue;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Who contends for one lock.
const CONTENDERS: usize = 8;
/// Who puts, each with so many puts on their way.
const PRODUCERS: usize = 2;
const OUTSTANDING: usize = 32;
/// Who takes, one item at a time.
const CONSUMERS: usize = 4;
/// Bytes of an item.
const ITEM: usize = 100;

/// When something was, by the wall clock and in CPU time of this process.
#[derive(Clone, Copy)]
struct Moment(Instant, Duration);

impl Moment {
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "it grows from 0"
    )]
    fn now() -> Moment {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Moment(
            Instant::now(),
            Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn report(self, until: Moment, count: usize) {
        let seconds = (until.0 - self.0).as_secs_f64();
        let cpu = (until.1 - self.1).as_secs_f64();
        println!(
            "{{\"per_s\": {:.1}, \"cpu_us\": {:.1}}}",
            count as f64 / seconds,
            cpu * 1e6 / count as f64
        );
    }
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut builder = match arguments.len() {
        4 if arguments.pop().as_deref() == Some("multi") => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        // On a task, where applications use locks.
        let mut running = JoinSet::new();
        running.spawn(run(arguments));
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(())
    })
}

async fn run(arguments: Vec<String>) -> Result<()> {
    let [cell, count, server] = &arguments[..] else {
        return Err("CELL COUNT SERVER".into());
    };
    let count = count.parse()?;
    match cell.as_str() {
        "cycle" => cycle(server, count).await,
        "handoff" => handoff(server, count).await,
        "queue" => queue(server, count, false).await,
        "queue-once" => queue(server, count, true).await,
        _ => Err(format!("no cell {cell}").into()),
    }
}

/// A path for this run alone.
fn path(name: &str) -> String {
    format!("/bench-{}-{name}", std::process::id())
}

async fn cycle(server: &str, count: usize) -> Result<()> {
    let client = Client::connect(server).await?;
    let lock = Mutex::new(&client, &path("cycle"));
    let mut began = Moment::now();
    for number in 0..count + count / 4 {
        if number == count / 4 {
            began = Moment::now();
        }
        lock.acquire().await?.release().await?;
    }
    began.report(Moment::now(), count);
    Ok(client.close().await?)
}

async fn handoff(server: &str, count: usize) -> Result<()> {
    let held = Arc::new(AtomicUsize::new(0));
    let mut contenders = JoinSet::new();
    for _ in 0..CONTENDERS {
        let client = Client::connect(server).await?;
        let held = Arc::clone(&held);
        contenders.spawn(async move {
            let lock = Mutex::new(&client, &path("handoff"));
            let (first, last) = (count / 4, count / 4 + count);
            let (mut began, mut ended) = (None, None);
            loop {
                let guard = lock.acquire().await?;
                let number = held.fetch_add(1, Ordering::Relaxed);
                began = (number == first).then(Moment::now).or(began);
                ended = (number == last).then(Moment::now).or(ended);
                guard.release().await?;
                if number >= last {
                    client.close().await?;
                    return Result::Ok((began, ended));
                }
            }
        });
    }
    let (mut began, mut ended) = (None, None);
    while let Some(done) = contenders.join_next().await {
        let (first, last) = done??;
        began = began.or(first);
        ended = ended.or(last);
    }
    let (began, ended) = (began.ok_or("no begin")?, ended.ok_or("no end")?);
    began.report(ended, count);
    Ok(())
}

async fn queue(server: &str, count: usize, is_at_most_once: bool) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..PRODUCERS + CONSUMERS {
        clients.push(Client::connect(server).await?);
    }
    let mut began = Moment::now();
    for (name, count) in [("warm-up", count / 8 * 2), ("queue", count)] {
        let path = path(name);
        let queues = clients.iter().map(|client| {
            let queue = Queue::<String>::new(client, &path);
            if is_at_most_once {
                queue.at_most_once()
            } else {
                queue
            }
        });
        let mut queues: Vec<Queue<String>> = queues.collect();
        let consumers = queues.split_off(PRODUCERS);
        began = Moment::now();
        let (left, done) = (AtomicUsize::new(count), Notify::new());
        let (_, _) = try_join(
            try_join_all(queues.iter().map(|queue| produce(queue, count))),
            try_join_all(consumers.iter().map(|queue| consume(queue, &left, &done))),
        )
        .await?;
    }
    began.report(Moment::now(), count);
    Ok(())
}

async fn produce(queue: &Queue<String>, count: usize) -> Result<()> {
    let puts = (0..count / PRODUCERS).map(|_| queue.put("x".repeat(ITEM)));
    let puts = stream::iter(puts).buffer_unordered(OUTSTANDING);
    Ok(puts.try_for_each(|_| std::future::ready(Ok(()))).await?)
}

async fn consume(queue: &Queue<String>, left: &AtomicUsize, done: &Notify) -> Result<()> {
    while left.load(Ordering::Relaxed) > 0 {
        // Only given up when nothing is left: what is taken at most once may be lost with a take.
        let job = tokio::select! {
            job = queue.take() => job?,
            () = done.notified() => continue,
        };
        job.ack().await?;
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            (0..CONSUMERS).for_each(|_| done.notify_one());
            done.notify_waiters();
        }
    }
    Ok(())
}
