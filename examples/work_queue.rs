//! Producers, competing workers, and one worker that dies at work.
//!
//! `cargo run --example work_queue [-- CONNECT_STRING]`
//!
//! Twenty orders are put into a queue. Carl takes one, and his connection is cut while he works. The
//! server gives his order back, another does it. Carl comes back from the dead and writes his result:
//! the store refuses it, because it has seen a newer token. Nothing is lost, nothing is done twice.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;
#[path = "common/relay.rs"]
mod relay;
#[path = "common/store.rs"]
mod store;

use quorate_client::Client;
use quorate_recipes::queue::Queue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use common::{Outcome, Place, connect, say};
use relay::Cable;
use store::Store;

const QUEUE: &str = "/examples/orders";
const ORDERS: usize = 20;

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    let store = Store::default();

    // Carl comes first, so that he surely has work in hand when his connection dies.
    let cable = Cable::to(place.connect_string()).await?;
    let (took, has_taken) = oneshot::channel();
    let (wake, is_woken) = oneshot::channel();
    let mut carl = JoinSet::new();
    let client = cable.client().await?;
    carl.spawn(die_at_work(client, store.clone(), took, is_woken));

    let servers = place.connect_string();
    tokio::try_join!(produce(servers, "shop"), produce(servers, "phone"))?;
    has_taken.await?;
    say("example", "cuts carl's connection while he works");
    drop(cable);

    let (done, mut finished) = mpsc::channel(ORDERS);
    let mut working = JoinSet::new();
    for name in ["anna", "bert"] {
        working.spawn(work(servers.to_owned(), name, store.clone(), done.clone()));
    }
    for count in 1..=ORDERS {
        tokio::select! {
            _ = finished.recv() => {}
            // A worker ends only when something is wrong.
            Some(ended) = working.join_next() => ended??,
        }
        if count == ORDERS - 1 {
            say(
                "example",
                "19 of 20 are done; carl's comes back when the server gives him up",
            );
        }
    }

    // All is done. Only now does carl go on, as a process would that stood still.
    let _ = wake.send(());
    while let Some(ended) = carl.join_next().await {
        ended??;
    }
    let results = store.writes();
    let once = results.iter().filter(|writes| **writes == 1).count();
    let client = connect(servers).await?;
    let left = Queue::<String>::new(&client, QUEUE).len().await?;
    let text = format!(
        "{} orders done, {once} of them exactly once, {left} left",
        results.len()
    );
    say("example", text);
    client.close().await?;
    place.leave().await
}

async fn produce(servers: &str, producer: &str) -> Outcome {
    let client = connect(servers).await?;
    for number in 1..=ORDERS / 2 {
        Queue::<String>::new(&client, QUEUE)
            .put(format!("{producer}-{number}"))
            .await?;
    }
    say(
        producer,
        format!("put {} orders into the queue", ORDERS / 2),
    );
    client.close().await?;
    Ok(())
}

async fn work(
    servers: String,
    name: &'static str,
    store: Store,
    done: mpsc::Sender<String>,
) -> Outcome {
    let client = connect(&servers).await?;
    let queue = Queue::<String>::new(&client, QUEUE);
    loop {
        let job = queue.take().await?;
        let (order, token) = (job.body.clone(), job.token().ok_or("a queue with tokens")?);
        if store.write(&order, token) {
            say(name, format!("does {order} (token {token})"));
        }
        // Deletes the order, if it is still ours.
        job.ack().await?;
        done.send(order).await?;
    }
}

async fn die_at_work(
    client: Client,
    store: Store,
    took: oneshot::Sender<()>,
    woken: oneshot::Receiver<()>,
) -> Outcome {
    let job = Queue::<String>::new(&client, QUEUE).take().await?;
    let (order, token) = (job.body.clone(), job.token().ok_or("a queue with tokens")?);
    say("carl", format!("begins with {order} (token {token})"));
    let _ = took.send(());
    let lost = job.lost().await;
    say(
        "carl",
        format!("could know that {order} is not his any more: {lost}"),
    );
    woken.await?;
    say(
        "carl",
        format!("writes {order} all the same, with his old token {token}"),
    );
    match store.write(&order, token) {
        false => say(
            "store",
            format!("refused carl's {order}: it has a newer token"),
        ),
        true => return Err("the store took an order twice".into()),
    }
    Ok(())
}
