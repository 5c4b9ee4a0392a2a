//! Names and numbers that nobody else has.
//!
//! `cargo run --example naming [-- CONNECT_STRING]`
//!
//! Three processes draw order numbers at the same time; each gets a worker number, the lowest that is
//! free; and a name has one owner, until that one's connection dies.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;
#[path = "common/relay.rs"]
mod relay;

use std::collections::BTreeSet;

use quorate_client::Client;
use quorate_recipes::ids::{Names, SequentialIds, Slots};
use tokio::task::JoinSet;

use common::{Outcome, Place, connect, say};
use relay::Cable;

const EACH: usize = 5;

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    let servers = place.connect_string();
    let [north, south] = [connect(servers).await?, connect(servers).await?];
    let cable = Cable::to(servers).await?;
    let east = cable.client().await?;

    order_numbers([("north", &north), ("south", &south), ("east", &east)]).await?;
    worker_numbers(&north, &south).await?;
    one_owner(&north, &east, cable).await?;

    north.close().await?;
    south.close().await?;
    place.leave().await
}

/// Ids that come once, over all processes, and stay unique when the counter is deleted.
async fn order_numbers(processes: [(&'static str, &Client); 3]) -> Outcome {
    let mut drawing = JoinSet::new();
    for (name, client) in processes {
        let ids = SequentialIds::new(client, "/examples/ids").prefix("order-");
        drawing.spawn(async move {
            let mut drawn = Vec::new();
            for _ in 0..EACH {
                drawn.push(ids.next_name().await?);
            }
            say(name, format!("drew {}", drawn.join(", ")));
            Outcome::Ok(drawn)
        });
    }
    let mut different = BTreeSet::new();
    while let Some(drawn) = drawing.join_next().await {
        different.extend(drawn??);
    }
    let text = format!("{} order numbers, all different", different.len());
    say("example", text);
    Ok(())
}

/// Small numbers for as long as a process lives, as for the worker part of ids made locally.
async fn worker_numbers(north: &Client, south: &Client) -> Outcome {
    let nobody = "the slots are not free: does another run use them?";
    let (at_north, at_south) = (
        Slots::new(north, "/examples/workers", 2),
        Slots::new(south, "/examples/workers", 2),
    );
    let first = at_north.take("north").await?.ok_or(nobody)?;
    say("north", format!("is worker {}", first.number()));
    let second = at_south.take("south").await?.ok_or(nobody)?;
    say("south", format!("is worker {}", second.number()));
    if at_south.take("west").await?.is_none() {
        say("west", "gets no number: both are taken");
    }
    first.release().await?;
    let third = at_south.take("west").await?.ok_or(nobody)?;
    let text = format!("is worker {}, which north gave back", third.number());
    say("west", text);
    second.release().await?;
    third.release().await?;
    Ok(())
}

/// A name goes to whoever asks first. When that one dies it goes to the next.
async fn one_owner(north: &Client, east: &Client, cable: Cable) -> Outcome {
    let owned = Names::new(east, "/examples/names")
        .try_claim("printer", "east")
        .await?;
    let owned = owned.ok_or("the name is taken: does another run use it?")?;
    say("east", "is called `printer` from now on");
    let names = Names::new(north, "/examples/names");
    if names.try_claim("printer", "north").await?.is_none() {
        let owner = names.owner("printer").await?.unwrap_or_default();
        let owner = String::from_utf8_lossy(&owner).into_owned();
        say(
            "north",
            format!("cannot be `printer`: {owner} is, so I wait"),
        );
    }
    say("example", "cuts east's connection");
    drop(cable);
    let claim = names.claim("printer", "north").await?;
    say("north", "is called `printer` now: the server gave east up");
    claim.release().await?;
    drop(owned);
    Ok(())
}
