//! Shares of a set: each item is worked on by one member at a time.
//!
//! Who is to have an item follows from the members' names alone, so that all come to the same
//! result without talking. What makes it safe is a lock for each item, not the agreement: while
//! members disagree, or one is slow to give back, the new owner waits for the lock.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use quorate_client::{Client, Error, Result};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::group::shallow_id;
use super::{Group, GroupLayout, Membership};
use crate::fencing::FencingToken;
use crate::lock::{LockGuard, Mutex};
use crate::naming::Layout;
use crate::patience::over_sessions;

/// Divides a set of items among the members that are there.
///
/// | | |
/// | --- | --- |
/// | guarantee | no item is held twice, in the sense of [`LockGuard`]; once membership is stable each item gets to a member |
/// | what can go wrong | a member that keeps a share after [`revoked`](Share::revoked) keeps the next one waiting |
/// | znodes | `<path>/party/<hex>-<id>`, ephemeral; `<path>/locks/<item>/…` as a [`Mutex`] |
/// | cost | a listing for each change of the members; a lock for each item that changes hands. Watches: one on the members, one for each item that is waited for |
/// | Curator, kazoo | none; `SetPartitioner`, with [`Layout::Kazoo`] |
///
/// In our own layout an item goes to the member with the highest hash of both (rendezvous
/// hashing): when a member comes or goes only its items move. With [`Layout::Kazoo`] each takes
/// every n-th item as kazoo does, and again only what changed moves. Ids must differ.
///
/// ```no_run
/// use quorate_recipes::{Client, membership::Partitioner};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let mut shares = Partitioner::join(&client, "/shards", ["a", "b", "c"], "w1");
/// while let Some(share) = shares.next().await? {
///     // As a rule on a task of its own.
///     share.revoked().await;
///     share.release().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a dropped partitioner takes no part"]
pub struct Partitioner {
    shares: mpsc::Receiver<Result<Share>>,
    membership: Option<Membership>,
    _stop: DropGuard,
}

/// An item that is ours, until we give it back.
#[derive(Debug)]
#[must_use = "a dropped share is given back"]
pub struct Share {
    item: String,
    revoked: CancellationToken,
    guard: LockGuard,
    /// Closed with the share: that tells the partitioner.
    _out: mpsc::Sender<()>,
}

impl Share {
    /// The item.
    #[must_use]
    pub fn item(&self) -> &str {
        &self.item
    }

    /// The fencing token: larger than that of every holder of this item before.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.guard.token()
    }

    /// The lock that makes it ours.
    pub const fn guard(&self) -> &LockGuard {
        &self.guard
    }

    /// Resolves when the item should be given back: it is another's now, or the lock is lost.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn revoked(&self) {
        tokio::select! {
            () = self.revoked.cancelled() => {}
            _ = self.guard.lost() => {}
        }
    }

    /// Gives the item back, and waits until the next one can have it.
    ///
    /// # Errors
    /// If the outcome stays unknown; the release goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the release goes on in the background.
    pub async fn release(self) -> Result<()> {
        self.guard.release().await
    }
}

impl Partitioner {
    /// Takes part in dividing these items, in our own layout.
    ///
    /// All members must name the same items: those that only some name may stay without an owner.
    pub fn join<I: Into<String>>(
        client: &Client,
        path: &str,
        items: impl IntoIterator<Item = I>,
        id: &str,
    ) -> Partitioner {
        Partitioner::join_with_layout(client, path, items, id, Layout::Curator)
    }

    /// As [`join`](Partitioner::join), with the locks and the division of this layout.
    pub fn join_with_layout<I: Into<String>>(
        client: &Client,
        path: &str,
        items: impl IntoIterator<Item = I>,
        id: &str,
        layout: Layout,
    ) -> Partitioner {
        let path = path.trim_end_matches('/');
        let party = format!("{path}/party");
        let group = Group::with_layout(client, &party, GroupLayout::KazooShallowParty);
        let items: BTreeSet<String> = items.into_iter().map(Into::into).collect();
        let (tell, shares) = mpsc::channel(items.len().max(1));
        let divider = Divider {
            client: client.clone(),
            locks: format!("{path}/locks"),
            party,
            id: id.to_owned(),
            items,
            layout,
            target: BTreeSet::new(),
            held: BTreeMap::new(),
            claims: BTreeMap::new(),
            tell,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        TaskTracker::new().spawn(async move { stopped.run_until_cancelled(divider.run()).await });
        Partitioner {
            shares,
            membership: Some(group.join(id, "")),
            _stop: stop.drop_guard(),
        }
    }

    /// Waits for the next share; `None` after the partitioner ended.
    ///
    /// # Errors
    /// What ended it: as a rule that the client's session is lost for good.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Share>> {
        self.shares.recv().await.transpose()
    }

    /// Takes part no more, and waits until that is known. Shares that are out stay ours until they
    /// are given back.
    ///
    /// # Cancel safety
    /// It goes on in the background when the future is dropped.
    pub async fn leave(mut self) {
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
        }
    }
}

/// An item's lock, or why there is none; or that a share of it was given back.
enum Happened {
    Locked(String, LockGuard),
    Failed(Error),
    Withdrawn,
    GivenBack(String),
}

struct Divider {
    client: Client,
    party: String,
    locks: String,
    id: String,
    items: BTreeSet<String>,
    layout: Layout,
    /// The items that are to be ours.
    target: BTreeSet<String>,
    /// The shares that are out, and how they are asked back.
    held: BTreeMap<String, CancellationToken>,
    /// The items whose lock we wait for, and how we stop waiting.
    claims: BTreeMap<String, CancellationToken>,
    tell: mpsc::Sender<Result<Share>>,
}

type Pending = FuturesUnordered<BoxFuture<'static, Happened>>;

impl Divider {
    async fn run(mut self) {
        if let Err(error) = self.divide().await {
            // Nobody listens if the partitioner is gone.
            let _ = self.tell.send(Err(error)).await;
        }
    }

    async fn divide(&mut self) -> Result<()> {
        let mut members = self.client.follow_children(&self.party);
        let mut pending = Pending::new();
        loop {
            tokio::select! {
                listed = members.next() => match listed {
                    Some(listed) => {
                        let names = listed?.map(|listed| listed.names).unwrap_or_default();
                        self.target = shares(&names, &self.id, &self.items, self.layout);
                        self.ask_back();
                    }
                    None => return Ok(()),
                },
                Some(happened) = pending.next() => match happened {
                    Happened::Locked(item, guard) => self.hand_out(item, guard, &pending),
                    Happened::GivenBack(item) => drop(self.held.remove(&item)),
                    Happened::Withdrawn => {}
                    Happened::Failed(error) => return Err(error),
                },
            }
            self.claim(&pending);
        }
    }

    /// Asks back, and stops to wait for, what is not to be ours any more.
    fn ask_back(&mut self) {
        let target = &self.target;
        for (_, revoked) in self.held.iter().filter(|(item, _)| !target.contains(*item)) {
            revoked.cancel();
        }
        self.claims.retain(|item, waiting| {
            let is_ours = target.contains(item);
            if !is_ours {
                waiting.cancel();
            }
            is_ours
        });
    }

    /// Waits for the locks of what is to be ours, and neither held nor waited for.
    fn claim(&mut self, pending: &Pending) {
        for item in &self.target {
            if self.held.contains_key(item) || self.claims.contains_key(item) {
                continue;
            }
            let waiting = CancellationToken::new();
            self.claims.insert(item.clone(), waiting.clone());
            let client = self.client.clone();
            let path = format!("{}/{item}", self.locks);
            let (item, layout) = (item.clone(), self.layout);
            let locked = async move {
                loop {
                    match Mutex::with_layout(&client, &path, layout).acquire().await {
                        Ok(guard) => return Happened::Locked(item, guard),
                        Err(error) => {
                            if let Err(error) = over_sessions(&client, error).await {
                                return Happened::Failed(error);
                            }
                        }
                    }
                }
            };
            pending.push(Box::pin(async move {
                match waiting.run_until_cancelled(locked).await {
                    Some(happened) => happened,
                    None => Happened::Withdrawn,
                }
            }));
        }
    }

    fn hand_out(&mut self, item: String, guard: LockGuard, pending: &Pending) {
        self.claims.remove(&item);
        if !self.target.contains(&item) {
            // It moved on while the answer was on its way: the dropped guard releases it.
            return;
        }
        let (out, mut back) = mpsc::channel(1);
        let revoked = CancellationToken::new();
        let share = Share {
            item: item.clone(),
            revoked: revoked.clone(),
            guard,
            _out: out,
        };
        // There is room for each item once; if not, the share is given back at once.
        drop(self.tell.try_send(Ok(share)));
        self.held.insert(item.clone(), revoked);
        pending.push(Box::pin(async move {
            back.recv().await;
            Happened::GivenBack(item)
        }));
    }
}

/// The items that a member of this id is to have, among members of these names.
fn shares(
    names: &[String],
    id: &str,
    items: &BTreeSet<String>,
    layout: Layout,
) -> BTreeSet<String> {
    let members: BTreeSet<&str> = names.iter().map(|name| shallow_id(name)).collect();
    let Some(own) = members.iter().position(|member| *member == id) else {
        return BTreeSet::new();
    };
    let is_ours = |at: usize, item: &str| match layout {
        Layout::Kazoo => at % members.len() == own,
        _ => {
            let best = members
                .iter()
                .max_by_key(|member| (score(member, item), **member));
            best.is_some_and(|best| *best == id)
        }
    };
    let ours = items.iter().enumerate();
    ours.filter(|(at, item)| is_ours(*at, item))
        .map(|(_, item)| item.clone())
        .collect()
}

/// The weight of a member for an item: FNV-1a of 64 bits over the member's id, a zero byte and the
/// item, mixed as in the last step of SplitMix64. All members must agree on it: it never changes.
fn score(member: &str, item: &str) -> u64 {
    let bytes = member.bytes().chain([0]).chain(item.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: impl IntoIterator<Item = impl Into<String>>) -> BTreeSet<String> {
        items.into_iter().map(Into::into).collect()
    }

    #[test]
    fn each_item_has_one_owner_and_only_the_newcomers_items_move() {
        let items = set((0..300).map(|n| format!("item-{n}")));
        let name = |id: usize| format!("{:032x}-w{id}", id * 7);
        let names: Vec<String> = (0..4).map(name).collect();
        let divide = |names: &[String], layout| -> Vec<BTreeSet<String>> {
            let ids = names.iter().map(|name| shallow_id(name));
            ids.map(|id| shares(names, id, &items, layout)).collect()
        };
        for layout in [Layout::Curator, Layout::Kazoo] {
            let all = divide(&names, layout);
            assert_eq!(all.iter().map(BTreeSet::len).sum::<usize>(), 300);
            assert_eq!(all.iter().flatten().collect::<BTreeSet<_>>().len(), 300);
            assert!(all.iter().all(|share| share.len() > 40), "{layout:?}");
        }
        let (before, after) = (
            divide(&names[..3], Layout::Curator),
            divide(&names, Layout::Curator),
        );
        for (before, after) in before.iter().zip(&after) {
            assert!(after.is_subset(before));
        }
    }

    #[test]
    fn kazoos_division_takes_every_nth_item_from_ones_own_place() {
        let items = set(["a", "b", "c", "d", "e"]);
        let hex = "0".repeat(32);
        let names = [format!("{hex}-w2"), format!("{hex}-w1")];
        let share = |id| shares(&names, id, &items, Layout::Kazoo);
        assert_eq!(share("w1"), set(["a", "c", "e"]));
        assert_eq!(share("w2"), set(["b", "d"]));
        assert_eq!(share("w3"), BTreeSet::new());
    }
}
