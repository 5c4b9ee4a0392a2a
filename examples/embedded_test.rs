//! How to test an application: a real server in the test's process, and time in the test's hands.
//!
//! `cargo run --example embedded_test`
//!
//! The application writes a report while it holds a lock. The test lets its connection fall silent in
//! the middle, and shows that it stops before another process can get the lock. That takes half a
//! minute, of which nobody has to wait for a second. In a test of your own `main` is a function under
//! `#[tokio::test(start_paused = true)]`, and what is printed here is asserted.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

use std::error::Error;
use std::time::Duration;

use quorate_recipes::lock::Mutex;
use quorate_recipes::{Client, Result};
use quorate_testkit::Kit;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const SESSION: Duration = Duration::from_secs(30);

/// The application: a page a second, for as long as it holds the lock. Says how it ended.
async fn write_report(client: Client, pages: watch::Sender<u32>) -> Result<String> {
    let guard = Mutex::new(&client, "/report").acquire().await?;
    let writing = async {
        loop {
            pages.send_modify(|pages| *pages += 1);
            sleep(Duration::from_secs(1)).await;
        }
    };
    match guard.run::<()>(writing).await {
        Err(lost) => Ok(lost.to_string()),
        Ok(()) => Ok("the report is complete".to_owned()),
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the wall's clock, to compare")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let wall = std::time::Instant::now();
    let mut kit = Kit::start().await;
    let began = Instant::now();

    // Each process of the application has a line of its own to the server.
    let line = kit.line().await;
    let (pages, written) = watch::channel(0);
    let mut application = JoinSet::new();
    application.spawn(write_report(line.client(SESSION).await?, pages));
    kit.advance(Duration::from_secs(10)).await;
    let before = *written.borrow();
    println!("after 10 s the application has written {before} pages");

    let client = kit.line().await.client(SESSION).await?;
    let lock = Mutex::new(&client, "/report");
    if lock.try_acquire().await?.is_none() {
        println!("nobody else can have the lock");
    }

    line.silence();
    println!("its connection falls silent: no error, and no answers either");
    // Waits for the lock, and lets as much time pass as that takes: a minute at most.
    let minute = Duration::from_secs(60);
    let guard = kit.within(minute, lock.acquire()).await;
    let guard = guard.ok_or("the lock must become free within a minute")??;
    let waited = began.elapsed().as_secs_f64();
    println!("another process has the lock after {waited:.1} s");

    let ended = application.try_join_next();
    let ended = ended.ok_or("it must have stopped before another could begin")???;
    println!("the application had stopped before, and said: {ended}");
    let after = *written.borrow();
    kit.advance(minute).await;
    if *written.borrow() != after {
        return Err("it wrote without the lock".into());
    }
    println!("no page was written without the lock: {after} pages, and {after} a minute later");
    kit.within(minute, guard.release())
        .await
        .ok_or("the lock is released")??;

    let (test, wall) = (began.elapsed().as_secs_f64(), wall.elapsed().as_secs_f64());
    println!("by the test's clock that took {test:.0} s, by the wall's {wall:.1} s");
    Ok(())
}
