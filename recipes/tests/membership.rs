//! What is kept comes back, groups say who is there, and no item has two owners.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use quorate_recipes::membership::{
    Change, Group, GroupLayout, NodeKind, Partitioner, PersistentNode, PersistentTtlNode, Presence,
};
use quorate_recipes::{Client, Layout};
use quorate_server::testing::TestServer;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Longer than anything here takes; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    timeout(SOON, future.into_future()).await.expect("it hangs")
}

/// A client that goes on with another session when one is lost.
async fn client(server: &TestServer) -> Client {
    let builder = Client::builder(server.connect_string()).new_session_on_loss(true);
    builder.connect().await.unwrap()
}

async fn expire(server: &TestServer, client: &Client) {
    let session = client.session_id().unwrap();
    server.expire_session(session).await.unwrap();
}

#[tokio::test]
async fn a_kept_znode_comes_back_after_a_deletion_and_after_a_lost_session() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let node = PersistentNode::builder(&one, "/kept/a", "one").start();
    assert_eq!(soon(node.placed()).await.unwrap(), "/kept/a");
    let first = two.get("/kept/a").await.unwrap();
    assert_eq!(first.stat.ephemeral_owner, one.session_id().unwrap().0);

    let mut presence = node.presence();
    two.delete("/kept/a").await.unwrap();
    let again = |count: u64| move |now: &Presence| matches!(now, Presence::Present { rejoined, .. } if *rejoined == count);
    soon(presence.wait_for(again(1))).await.unwrap();
    expire(&server, &one).await;
    soon(presence.wait_for(again(2))).await.unwrap();
    let back = two.get("/kept/a").await.unwrap();
    assert_eq!(back.stat.ephemeral_owner, one.session_id().unwrap().0);
    assert_ne!(back.stat.ephemeral_owner, first.stat.ephemeral_owner);

    node.set_data("two");
    soon(async {
        let mut states = two.follow("/kept/a");
        while let Some(state) = states.next().await {
            if state.unwrap().is_some_and(|node| node.data == "two") {
                return;
            }
        }
    })
    .await;
    soon(node.close()).await;
    assert!(two.exists("/kept/a").await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_dead_process_left_is_replaced_and_who_is_replaced_waits() {
    let server = TestServer::start().await;
    let (dead, one, two) = (
        client(&server).await,
        client(&server).await,
        client(&server).await,
    );
    dead.create("/a", "dead").ephemeral().await.unwrap();
    let first = PersistentNode::builder(&one, "/a", "one").start();
    soon(first.placed()).await.unwrap();
    assert_eq!(&two.get("/a").await.unwrap().data[..], b"one");

    let second = PersistentNode::builder(&two, "/a", "two").start();
    let mut presence = first.presence();
    let by = two.session_id().unwrap();
    soon(presence.wait_for(|now| *now == Presence::TakenOver { by }))
        .await
        .unwrap();
    soon(second.placed()).await.unwrap();
    assert_eq!(&dead.get("/a").await.unwrap().data[..], b"two");
    soon(second.close()).await;
    soon(presence.wait_for(|now| matches!(now, Presence::Present { .. })))
        .await
        .unwrap();
    assert_eq!(&two.get("/a").await.unwrap().data[..], b"one");
}

#[tokio::test]
async fn every_kind_is_placed_once_and_a_number_is_kept() {
    let server = TestServer::start().await;
    let one = client(&server).await;
    let kinds = [
        NodeKind::Persistent,
        NodeKind::PersistentSequential,
        NodeKind::EphemeralSequential,
        NodeKind::Container,
    ];
    for kind in kinds {
        let node = PersistentNode::builder(&one, "/kinds/n-", "x")
            .kind(kind)
            .protected()
            .start();
        let path = soon(node.placed()).await.unwrap();
        assert!(path.starts_with("/kinds/_c_"), "{path}");
        let mut presence = node.presence();
        one.delete(&path).await.unwrap();
        let is_back = |now: &Presence| matches!(now, Presence::Present { path: same, rejoined: 1, .. } if *same == path);
        soon(presence.wait_for(is_back)).await.unwrap();
        soon(node.close()).await;
        let (names, _) = one.children("/kinds").await.unwrap_or_default();
        assert_eq!(names, Vec::<String>::new(), "{kind:?}");
    }
}

#[tokio::test]
async fn other_data_is_written_over_only_if_that_was_asked_for() {
    let server = TestServer::start().await;
    let one = client(&server).await;
    let node = PersistentNode::builder(&one, "/a", "ours")
        .restore_data()
        .start();
    soon(node.placed()).await.unwrap();
    one.set("/a", "theirs").await.unwrap();
    let mut states = one.follow("/a");
    soon(async {
        while let Some(state) = states.next().await {
            if state.unwrap().is_some_and(|node| node.data == "ours") {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_ttl_node_has_a_child_that_is_touched() {
    let server = TestServer::start().await;
    let one = client(&server).await;
    let node = PersistentTtlNode::start(&one, "/ttl/a", "data", Duration::from_millis(40));
    assert!(soon(node.touched()).await.unwrap() >= 1);
    let mut states = one.follow("/ttl/a/touch");
    soon(async {
        while let Some(state) = states.next().await {
            let node = state.unwrap().unwrap();
            assert_eq!(&node.data[..], b"");
            if node.stat.version > 1 {
                return;
            }
        }
    })
    .await;
    assert_eq!(&one.get("/ttl/a").await.unwrap().data[..], b"data");
}

#[tokio::test]
async fn members_join_rejoin_after_a_lost_session_and_leave_in_every_layout() {
    let server = TestServer::start().await;
    let layouts = [
        GroupLayout::Curator,
        GroupLayout::KazooParty,
        GroupLayout::KazooShallowParty,
    ];
    for (n, layout) in layouts.into_iter().enumerate() {
        let (one, two) = (client(&server).await, client(&server).await);
        let path = format!("/groups/{n}");
        let group = Group::with_layout(&two, &path, layout);
        let mut changes = group.changes();
        let joined = Group::with_layout(&one, &path, layout).join("w1", "payload");
        let place = soon(joined.joined()).await.unwrap();
        let name = place.rsplit('/').next().unwrap();
        match layout {
            GroupLayout::Curator => assert_eq!(name, "w1"),
            GroupLayout::KazooParty => {
                assert_eq!((name.len(), &name[32..]), (41, "__party__"));
                assert_eq!(&two.get(&place).await.unwrap().data[..], b"w1");
            }
            _ => assert_eq!((name.len(), &name[32..]), (35, "-w1")),
        }
        let Some(Ok(Change::Joined(member))) = soon(changes.next()).await else {
            panic!("nobody joined");
        };
        assert_eq!(member.id, "w1");
        assert_eq!(group.members().await.unwrap(), [member]);

        let mut presence = joined.presence();
        expire(&server, &one).await;
        let is_back = |now: &Presence| matches!(now, Presence::Present { rejoined: 1, .. });
        soon(presence.wait_for(is_back)).await.unwrap();
        // It is told as one change or as two, as the listings fell.
        loop {
            match soon(changes.next()).await.unwrap().unwrap() {
                Change::Left(_) => {}
                Change::Joined(member) | Change::Rejoined(member) => {
                    assert_eq!(member.id, "w1");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        soon(joined.leave()).await;
        let Some(Ok(Change::Left(_))) = soon(changes.next()).await else {
            panic!("nobody left");
        };
    }
}

/// Who holds what, and whether two ever held one item.
#[derive(Clone, Default)]
struct History(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    owners: BTreeMap<String, (usize, i64)>,
    tokens: BTreeMap<String, i64>,
    moves: usize,
}

impl History {
    fn take(&self, item: &str, by: usize, token: i64) {
        let mut held = self.0.lock().unwrap();
        let before = held.owners.insert(item.to_owned(), (by, token));
        assert_eq!(before, None, "{item} is held twice");
        let last = held.tokens.insert(item.to_owned(), token);
        assert!(last.is_none_or(|last| last < token), "{item}'s token fell");
        held.moves += 1;
    }

    fn give_back(&self, item: &str, by: usize, token: i64) {
        let mut held = self.0.lock().unwrap();
        if held.owners.get(item) == Some(&(by, token)) {
            held.owners.remove(item);
        }
    }

    /// A session is about to be ended by hand, long before its timeout: its client cannot know of
    /// it before the others do.
    fn void(&self, by: usize) {
        self.0
            .lock()
            .unwrap()
            .owners
            .retain(|_, owner| owner.0 != by);
    }

    /// Waits until all items are held, by so many members.
    async fn settles(&self, items: usize, members: usize) {
        soon(async {
            loop {
                {
                    let held = self.0.lock().unwrap();
                    let by: BTreeSet<usize> = held.owners.values().map(|owner| owner.0).collect();
                    if held.owners.len() == items && by.len() == members {
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn no_item_is_held_twice_and_none_is_without_an_owner_when_membership_settles() {
    let server = TestServer::start().await;
    let items: Vec<String> = (0..12).map(|n| format!("item-{n}")).collect();
    for layout in [Layout::Curator, Layout::Kazoo] {
        let path = format!("/parts-{layout:?}");
        let history = History::default();
        let tasks = TaskTracker::new();
        let mut members = Vec::new();
        for n in 0..3 {
            let client = client(&server).await;
            let id = format!("w{n}");
            let mut shares =
                Partitioner::join_with_layout(&client, &path, items.clone(), &id, layout);
            let progress = history.clone();
            let (history, own) = (history.clone(), tasks.clone());
            let working = tasks.spawn(async move {
                while let Ok(Some(share)) = shares.next().await {
                    history.take(share.item(), n, share.token().value());
                    let history = history.clone();
                    own.spawn(async move {
                        share.revoked().await;
                        history.give_back(share.item(), n, share.token().value());
                        share.release().await
                    });
                }
            });
            members.push((client, working));
            progress.settles(12, n + 1).await;
        }
        // A lost session: the member comes back, and all items are held again.
        history.void(1);
        expire(&server, &members[1].0).await;
        history.settles(12, 3).await;
        // One leaves for good, with its session.
        let (gone, working) = members.remove(0);
        working.abort();
        history.void(0);
        gone.close().await.unwrap();
        history.settles(12, 2).await;
        let moves = history.0.lock().unwrap().moves;
        assert!(moves < 12 * 6, "{moves} moves");
    }
}
