//! Processes that wait for each other.
//!
//! `cargo run --example barrier [-- CONNECT_STRING]`
//!
//! Four workers wait at a closed gate until it is opened. Then they meet: none begins before all have
//! come, none goes on before all are done.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use quorate_recipes::barrier::{Barrier, DoubleBarrier};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use common::{Outcome, Place, connect, say};

const GATE: &str = "/examples/gate";
const MEETING: &str = "/examples/meeting";
const WORKERS: [&str; 4] = ["anna", "bert", "cleo", "dora"];

/// What has happened so far, in all workers.
#[derive(Default)]
struct Seen {
    passed: AtomicUsize,
    come: AtomicUsize,
    done: AtomicUsize,
}

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    let client = connect(place.connect_string()).await?;
    let gate = Barrier::new(&client, GATE);
    gate.close().await?;
    say("example", "closed the gate");

    let seen = Arc::new(Seen::default());
    let (arrive, mut arrived) = mpsc::channel(WORKERS.len());
    let mut workers = JoinSet::new();
    for name in WORKERS {
        let servers = place.connect_string().to_owned();
        workers.spawn(work(servers, name, seen.clone(), arrive.clone()));
    }
    for _ in WORKERS {
        arrived.recv().await.ok_or("a worker did not come")?;
    }
    if seen.passed.load(SeqCst) != 0 {
        return Err("somebody went through a closed gate".into());
    }
    gate.open().await?;
    say("example", "opened the gate");

    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    say(
        "example",
        "none began before all 4 had come, none went on before all 4 were done",
    );
    client.close().await?;
    place.leave().await
}

async fn work(
    servers: String,
    name: &'static str,
    seen: Arc<Seen>,
    arrive: mpsc::Sender<()>,
) -> Outcome {
    let client = connect(&servers).await?;
    let gate = Barrier::new(&client, GATE);
    say(name, "waits at the gate");
    arrive.send(()).await?;
    gate.wait().await?;
    seen.passed.fetch_add(1, SeqCst);

    let meeting = DoubleBarrier::new(&client, MEETING, WORKERS.len()).data(name);
    seen.come.fetch_add(1, SeqCst);
    let inside = meeting.enter().await?;
    let come = seen.come.load(SeqCst);
    say(name, format!("begins: {come} of 4 have come"));
    if come != WORKERS.len() {
        return Err("began before all had come".into());
    }
    // ... here all four work at the same time ...
    seen.done.fetch_add(1, SeqCst);
    inside.leave().await?;
    let done = seen.done.load(SeqCst);
    say(name, format!("goes on: {done} of 4 are done"));
    if done != WORKERS.len() {
        return Err("went on before all were done".into());
    }
    client.close().await?;
    Ok(())
}
