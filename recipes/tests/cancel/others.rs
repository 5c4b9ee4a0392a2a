//! Barriers and membership.

use std::time::Duration;

use futures::StreamExt as _;
use quorate_recipes::barrier::{Barrier, DoubleBarrier};
use quorate_recipes::membership::{
    Group, GroupLayout, NodeKind, Partitioner, PersistentNode, PersistentTtlNode,
};
use quorate_recipes::{Client, Layout};

use super::nothing;
use super::sweep::{Sweep, Weather};

const SHORT: Duration = Duration::from_millis(15);

#[tokio::test]
async fn barriers() {
    let sweep = Sweep::start().await;
    let gate = |zk: &Client| Barrier::new(zk, "/gate");
    let closed = async |zk: &Client| gate(zk).close().await;
    let opens = async |zk: &Client| {
        // A close that was on its way may come behind the first open.
        while !gate(zk).wait_within(SHORT).await? || gate(zk).is_closed().await? {
            gate(zk).open().await?;
        }
        Ok(())
    };
    let wait = async |zk: Client| gate(&zk).wait().await;
    sweep.run("wait", closed, wait, opens).await;
    let rest = async |zk: Client| {
        gate(&zk).wait_within(SHORT).await?;
        gate(&zk).open().await?;
        gate(&zk).close().await?;
        gate(&zk).is_closed().await.map(drop)
    };
    sweep.run("open and close", closed, rest, opens).await;

    for layout in [Layout::Curator, Layout::Kazoo] {
        let alone = |zk: &Client| DoubleBarrier::new(zk, "/one", 1).layout(layout);
        let next = async |zk: &Client| alone(zk).enter().await?.leave().await;
        for weather in [Weather::Calm, Weather::Cut] {
            let pass = async |zk: Client| alone(&zk).enter().await?.leave().await;
            sweep
                .run_in(weather, "enter and leave", nothing, pass, next)
                .await;
        }
        let two = |zk: &Client| DoubleBarrier::new(zk, "/two", 2).layout(layout);
        let waits = async |zk: Client| two(&zk).enter().await.map(drop);
        let within = async |zk: Client| {
            drop(two(&zk).enter_within(SHORT).await?);
            two(&zk).members().await.map(drop)
        };
        // Alone it meets nobody, and nobody who left counts.
        let alone = async |zk: &Client| {
            loop {
                match two(zk).enter_within(SHORT).await? {
                    None => return Ok(()),
                    Some(inside) => inside.leave().await?,
                }
            }
        };
        sweep.run("enter", nothing, waits, alone).await;
        sweep.run("enter within", nothing, within, alone).await;
    }
}

#[tokio::test]
async fn kept_nodes_and_groups() {
    let sweep = Sweep::start().await;
    let kinds = [
        NodeKind::Ephemeral,
        NodeKind::EphemeralSequential,
        NodeKind::Persistent,
        NodeKind::Container,
    ];
    for kind in kinds {
        // A persistent one that was dropped may be on its way still: each has a name of its own.
        for weather in [Weather::Calm, Weather::Cut] {
            let keep = async |zk: Client| {
                let node = PersistentNode::builder(&zk, "/kept/a", "x").kind(kind);
                let node = node.protected().start();
                node.placed().await?;
                node.close().await;
                Ok(())
            };
            let gone = async |zk: &Client| {
                while zk
                    .exists("/kept")
                    .await?
                    .is_some_and(|stat| stat.num_children > 0)
                {}
                Ok(())
            };
            let case = format!("{kind:?}");
            sweep.run_in(weather, &case, nothing, keep, gone).await;
        }
    }
    let touch = async |zk: Client| {
        let node = PersistentTtlNode::start(&zk, "/ttl", "", Duration::from_secs(60));
        node.touched().await.map(drop)
    };
    sweep.run("with a TTL", nothing, touch, nothing).await;
    let layouts = [
        GroupLayout::Curator,
        GroupLayout::KazooParty,
        GroupLayout::KazooShallowParty,
    ];
    for layout in layouts {
        let path = format!("/group-{layout:?}");
        let group = |zk: &Client| Group::with_layout(zk, &path, layout);
        let member = async |zk: Client| {
            let membership = group(&zk).join("id", "");
            membership.joined().await?;
            let mut changes = group(&zk).changes();
            drop(changes.next().await);
            group(&zk).members().await?;
            membership.leave().await;
            drop(changes.next().await);
            drop(changes.next().await);
            Ok(())
        };
        let alone = async |zk: &Client| {
            while !group(zk).members().await?.is_empty() {}
            Ok(())
        };
        sweep
            .run(&format!("{layout:?}"), nothing, member, alone)
            .await;
    }
}

#[tokio::test]
async fn partitions() {
    let sweep = Sweep::start().await;
    let all = async |zk: &Client| {
        let mut shares = Partitioner::join(zk, "/parts", ["a", "b"], "rival");
        // Both are ours in the end, whatever the other held.
        let (mut held, mut items) = (Vec::new(), std::collections::BTreeSet::new());
        while items.len() < 2 {
            let share = shares.next().await?.unwrap();
            items.insert(share.item().to_owned());
            held.push(share);
        }
        drop(held);
        shares.leave().await;
        Ok(())
    };
    for weather in [Weather::Calm, Weather::Cut] {
        let join = async |zk: Client| {
            let mut shares = Partitioner::join(&zk, "/parts", ["a", "b"], "victim");
            let share = shares.next().await?.unwrap();
            share.release().await?;
            let share = shares.next().await?.unwrap();
            shares.leave().await;
            share.revoked().await;
            Ok(())
        };
        sweep.run_in(weather, "join", nothing, join, all).await;
    }
}
