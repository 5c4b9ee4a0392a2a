//! Who is there: members come, leave, and die.
//!
//! `cargo run --example group_membership [-- CONNECT_STRING]`
//!
//! An observer follows a group. Bert says goodbye and is gone at once; cleo's connection is cut, and
//! she is gone when the server gives her session up.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

mod common;
#[path = "common/relay.rs"]
mod relay;

use futures::StreamExt as _;
use quorate_recipes::membership::{Change, Changes, Group};

use common::{Outcome, Place, connect, say};
use relay::Cable;

const GROUP: &str = "/examples/group";

#[tokio::main]
async fn main() -> Outcome {
    let place = Place::find().await?;
    let observer = connect(place.connect_string()).await?;
    let group = Group::new(&observer, GROUP);
    let mut changes = group.changes();

    let anna = connect(place.connect_string()).await?;
    let bert = connect(place.connect_string()).await?;
    let cable = Cable::to(place.connect_string()).await?;
    let cleo = cable.client().await?;
    let anna = Group::new(&anna, GROUP).join("anna", "10.0.0.1:80");
    until(&mut changes, "anna", Is::There).await?;
    let bert = Group::new(&bert, GROUP).join("bert", "10.0.0.2:80");
    until(&mut changes, "bert", Is::There).await?;
    let cleo = Group::new(&cleo, GROUP).join("cleo", "10.0.0.3:80");
    until(&mut changes, "cleo", Is::There).await?;

    say("bert", "says goodbye");
    bert.leave().await;
    until(&mut changes, "bert", Is::Gone).await?;

    say("example", "cuts cleo's connection");
    drop(cable);
    until(&mut changes, "cleo", Is::Gone).await?;

    let members = group.members().await?;
    let left: Vec<_> = members.iter().map(|member| member.id.as_str()).collect();
    say("example", format!("still there: {}", left.join(", ")));
    anna.leave().await;
    drop(cleo);
    observer.close().await?;
    place.leave().await
}

#[derive(PartialEq)]
enum Is {
    There,
    Gone,
}

/// Tells of all changes, until this one.
async fn until(changes: &mut Changes, id: &str, is: Is) -> Outcome {
    while let Some(change) = changes.next().await {
        let (member, now) = match change? {
            Change::Left(member) => (member, Is::Gone),
            Change::Joined(member) | Change::Rejoined(member) => (member, Is::There),
            _ => continue,
        };
        let payload = String::from_utf8_lossy(&member.payload).into_owned();
        match now {
            Is::There => say("observer", format!("{} is there, at {payload}", member.id)),
            Is::Gone => say("observer", format!("{} is gone", member.id)),
        }
        if member.id == id && now == is {
            return Ok(());
        }
    }
    Err("the group cannot be followed any more".into())
}
