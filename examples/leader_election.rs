//! Active and standby: one master works, others wait to take over.
//!
//! `cargo run --example leader_election [-- CONNECT_STRING]`
//!
//! Three candidates stand for election. The connection of the first master is cut: it notices, stops
//! working, and another takes over. That one resigns: the third takes over at once. At the end the
//! first one writes late, as a process would that stood still meanwhile, and is refused.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;
#[path = "common/relay.rs"]
mod relay;
#[path = "common/store.rs"]
mod store;

use std::collections::HashMap;
use std::sync::Arc;

use quorate_recipes::FencingToken;
use quorate_recipes::election::LeaderLatch;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use common::{Outcome, Place, say};
use relay::Cable;
use store::Store;

const ELECTION: &str = "/examples/master";

/// Who leads from now on.
struct Leads {
    name: &'static str,
    token: FencingToken,
}

struct Candidate {
    cable: Cable,
    resign: Arc<Notify>,
}

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    let store = Store::default();
    let (report, mut reports) = mpsc::channel(16);
    let (mut candidates, mut running) = (HashMap::new(), JoinSet::new());
    for name in ["north", "east", "south"] {
        let cable = Cable::to(place.connect_string()).await?;
        let resign = Arc::new(Notify::new());
        let client = cable.client().await?;
        let latch = LeaderLatch::new(&client, ELECTION, name);
        let stand = stand(name, latch, store.clone(), resign.clone(), report.clone());
        running.spawn(stand);
        candidates.insert(name, Candidate { cable, resign });
    }

    let first = reports.recv().await.ok_or("nobody leads")?;
    let cut = candidates.remove(first.name).ok_or("a stranger leads")?;
    let name = first.name;
    say(
        "example",
        format!("cuts {name}'s connection, without a goodbye"),
    );
    drop(cut.cable);

    let second = reports.recv().await.ok_or("nobody took over")?;
    say(
        "example",
        format!("failover: {} took over from {name}", second.name),
    );
    let resigning = candidates.get(second.name).ok_or("a stranger leads")?;
    resigning.resign.notify_one();

    let third = reports.recv().await.ok_or("nobody took over")?;
    say(
        "example",
        format!("handover: {} took over from {}", third.name, second.name),
    );
    if !(first.token < second.token && second.token < third.token) {
        return Err("tokens must grow from master to master".into());
    }

    say(
        name,
        format!("wakes up late and writes with its token {}", first.token),
    );
    match store.write("report", first.token) {
        false => say(
            "store",
            format!("refused {name}: a newer master has written"),
        ),
        true => return Err("the store took an old master's write".into()),
    }
    let last = candidates.get(third.name).ok_or("a stranger leads")?;
    last.resign.notify_one();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let writes: usize = store.writes().iter().sum();
    let text = "masters, one after the other; tokens grew, the late write was refused";
    say("example", format!("{writes} {text}"));
    place.leave().await
}

/// Stands for election, works while it leads, and says what happens.
async fn stand(
    name: &'static str,
    latch: LeaderLatch,
    store: Store,
    resign: Arc<Notify>,
    report: mpsc::Sender<Leads>,
) -> Outcome {
    say(name, "stands for election");
    let leadership = latch.campaign().await?;
    let token = leadership.token();
    if !store.write("report", token) {
        return Err("the store refused the master".into());
    }
    say(
        name,
        format!("is master with token {token}, and writes to the store"),
    );
    report.send(Leads { name, token }).await?;
    // The body runs for as long as nobody else can lead, and is stopped when that ends.
    match leadership.run(resign.notified()).await {
        Ok(()) => {
            say(name, "resigns");
            leadership.resign().await?;
        }
        Err(lost) => say(name, format!("stops working: {lost}")),
    }
    Ok(())
}
