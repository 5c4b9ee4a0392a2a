//! A lock that one of several processes has at a time.
//!
//! `cargo run --example lock`: three workers take turns. Nothing else has to run.
//!
//! `cargo run --example lock -- 127.0.0.1:2181 anna`, in two shells with two names: each waits for
//! the lock and holds it until Enter is pressed. Kill the one that holds it, and see the other get
//! it when the server gives up the dead one's session.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;

use quorate_client::Client;
use quorate_recipes::lock::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use common::{Outcome, Place, connect, say};

const LOCK: &str = "/examples/lock";
/// What the lock protects: a number that is read, changed and written in three steps.
const COUNT: &str = "/examples/count";
const ROUNDS: u32 = 3;

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    match std::env::args().nth(2) {
        Some(name) => hold_until_enter(&place, &name).await?,
        None => take_turns(&place).await?,
    }
    place.leave().await
}

/// Three workers, each with a session of its own, as if they were three processes.
async fn take_turns(place: &Place) -> Outcome {
    let client = connect(place.connect_string()).await?;
    if client.exists(COUNT).await?.is_none() {
        client.create(COUNT, "0").parents().await?;
    }
    let before = count(&client).await?;
    let mut workers = JoinSet::new();
    for name in ["anna", "bert", "cleo"] {
        workers.spawn(work(place.connect_string().to_owned(), name));
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let added = count(&client).await? - before;
    say(
        "example",
        format!("{added} of 9 additions are there: nobody came in between"),
    );
    client.close().await?;
    Ok(())
}

async fn work(servers: String, name: &'static str) -> Outcome {
    let client = connect(&servers).await?;
    let lock = Mutex::new(&client, LOCK).data(name);
    for _ in 0..ROUNDS {
        // Whoever came first gets it first. Waiting costs one watch.
        let guard = lock.acquire().await?;
        let now = count(&client).await? + 1;
        let token = guard.token();
        say(name, format!("has the lock (token {token}): writes {now}"));
        // Stopped at once if the lock should be lost, as by a connection that dies.
        guard
            .run(client.set(COUNT, now.to_string()).send())
            .await??;
        guard.release().await?;
    }
    client.close().await?;
    Ok(())
}

async fn count(client: &Client) -> Outcome<u32> {
    let node = client.get(COUNT).await?;
    Ok(std::str::from_utf8(&node.data)?.parse()?)
}

/// One process of several: start this in two shells.
async fn hold_until_enter(place: &Place, name: &str) -> Outcome {
    let client = connect(place.connect_string()).await?;
    let lock = Mutex::new(&client, LOCK).data(name.to_owned());
    for other in lock.contenders().await?.holding {
        let holder = String::from_utf8_lossy(&other.data).into_owned();
        say(name, format!("{holder} holds the lock: I wait"));
    }
    let guard = lock.acquire().await?;
    let token = guard.token();
    say(
        name,
        format!("I hold the lock (token {token}). Press Enter to release it"),
    );
    match guard.run(enter()).await {
        Ok(()) => guard.release().await?,
        Err(lost) => return Err(lost.into()),
    }
    say(name, "released the lock");
    client.close().await?;
    Ok(())
}

/// Waits for Enter, or for the end of the input.
async fn enter() {
    let (pressed, is_pressed) = oneshot::channel();
    // A thread of its own: nobody has to wait for it when the lock is lost.
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        pressed.send(())
    });
    let _ = is_pressed.await;
}
