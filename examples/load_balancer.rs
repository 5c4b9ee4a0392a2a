//! HTTP backends that come, leave and die, and a front end that knows who is there.
//!
//! `cargo run --example load_balancer [-- CONNECT_STRING]`
//!
//! Backends join a group, with their address and weight. The front end follows it and gives each its
//! share. One backend leaves in order, one dies, while clients go on asking: no request fails.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;
#[path = "common/http.rs"]
mod http;
#[path = "common/relay.rs"]
mod relay;
#[path = "common/shares.rs"]
mod shares;

use std::collections::BTreeMap;

use quorate_client::Client;
use quorate_recipes::membership::{Group, Membership};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use common::{Outcome, Place, connect, say};
use relay::Cable;
use shares::Shares;

const GROUP: &str = "/examples/backends";
const CLIENTS: usize = 4;

struct Backend {
    _client: Client,
    cable: Cable,
    membership: Membership,
    stop: oneshot::Sender<()>,
    serving: JoinSet<()>,
}

impl Backend {
    /// Serves first, and joins then: nobody is sent to a backend that does not listen.
    async fn start(servers: &str, name: &'static str, weight: i64) -> Outcome<Backend> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let payload = format!("{} {weight}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel();
        let mut serving = JoinSet::new();
        let answer = move || async move { Some(name.to_owned()) };
        serving.spawn(http::serve(listener, answer, stopped));
        let cable = Cable::to(servers).await?;
        let client = cable.client().await?;
        let membership = Group::new(&client, GROUP).join(name, payload.clone());
        membership.joined().await?;
        say(name, format!("listens and joins: {payload}"));
        Ok(Backend {
            _client: client,
            cable,
            membership,
            stop,
            serving,
        })
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    let servers = place.connect_string();
    let observer = connect(servers).await?;
    let shares = Shares::default();
    let mut front = JoinSet::new();
    front.spawn(shares.clone().follow(Group::new(&observer, GROUP)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let pick = shares.clone();
    let answer = move || pick.clone().ask();
    front.spawn(http::serve(listener, answer, std::future::pending::<()>()));

    let mut north = Backend::start(servers, "north", 3).await?;
    let mut east = Backend::start(servers, "east", 1).await?;
    let south = Backend::start(servers, "south", 1).await?;
    shares.until(|names| names.len() == 3).await?;
    let mut answers = BTreeMap::new();
    for _ in 0..50 {
        *answers.entry(http::get(&address).await?).or_insert(0) += 1;
    }
    say(
        "frontend",
        format!("50 requests by weights 3, 1, 1: {answers:?}"),
    );

    let (over, is_over) = watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(load(address.clone(), is_over.clone()));
    }
    shares.answered(100).await?;
    let text = "leaves: first the group, then, when nobody is sent there, its port";
    say("north", text);
    north.membership.leave().await;
    shares.until(|names| !names.contains("north")).await?;
    let _ = north.stop.send(());
    while north.serving.join_next().await.is_some() {}
    shares.answered(100).await?;
    let again = shares.again();
    let text = format!("north is gone; {again} requests had to be asked again");
    say("frontend", text);

    let began = Instant::now();
    say("east", "dies: its port and its connection are gone at once");
    east.serving.shutdown().await;
    drop(east.cable);
    shares.until(|names| !names.contains("east")).await?;
    let seconds = began.elapsed().as_secs_f64();
    say(
        "frontend",
        format!("east is gone after {seconds:.1} s, when its session ended"),
    );

    over.send_replace(true);
    let (mut asked, mut failed) = (0, 0);
    while let Some(counted) = clients.join_next().await {
        let counted = counted?;
        (asked, failed) = (asked + counted.0, failed + counted.1);
    }
    let again = shares.again();
    say(
        "example",
        format!("{asked} requests, {again} of them asked again elsewhere, {failed} failed"),
    );
    south.membership.leave().await;
    observer.close().await?;
    place.leave().await
}

/// Asks until told to stop. How many requests, and how many failed.
async fn load(address: String, is_over: watch::Receiver<bool>) -> (u32, u32) {
    let (mut asked, mut failed) = (0, 0);
    while !*is_over.borrow() {
        asked += 1;
        if http::get(&address).await.is_err() {
            failed += 1;
        }
        // The pace of a client that has something else to do, too.
        sleep(Duration::from_millis(5)).await;
    }
    (asked, failed)
}
