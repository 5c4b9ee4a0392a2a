//! Groups: who is a member, and who comes and goes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use quorate_client::{Client, FollowChildren, Result};
use tokio::sync::watch;

use super::{PersistentNode, Presence};
use crate::identity;

/// How members are named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum GroupLayout {
    /// Curator's `GroupMember`: `<id>`, with the payload.
    #[default]
    Curator,
    /// kazoo's `Party`: `<hex>__party__`, with the id as data; it has no payload.
    KazooParty,
    /// kazoo's `ShallowParty`: `<hex>-<id>`, so that a listing shows the ids. The payload is read
    /// here, and by kazoo ignored.
    KazooShallowParty,
}

const PARTY: &str = "__party__";

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its znode's name.
    pub name: String,
    /// Its payload.
    pub payload: Bytes,
    /// The transaction by which it came.
    pub czxid: i64,
}

/// What happened to a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A member is there that was not.
    Joined(Member),
    /// A member came again: it lost its session, or was started anew, since it was seen last.
    Rejoined(Member),
    /// A member is gone; as it was seen last.
    Left(Member),
}

/// A group of members that come and go.
///
/// | | |
/// | --- | --- |
/// | guarantee | a member is listed while its session lives; [`changes`](Group::changes) ends up with what is there |
/// | what can go wrong | two processes with one id: the later one takes the name over, see [`PersistentNode`] |
/// | znodes | `<path>/<id>`, ephemeral, or as the [layout](GroupLayout) says; `<path>` is a container |
/// | cost | join: as [`PersistentNode`]. Changes: one watch; a listing and a read of every member for each change |
/// | Curator, kazoo | `GroupMember`; `Party`, `ShallowParty` |
///
/// ```no_run
/// use futures::StreamExt as _;
/// use quorate_recipes::{Client, membership::Group};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let group = Group::new(&client, "/workers");
/// let membership = group.join("w1", "10.0.0.7");
/// membership.joined().await?;
/// let mut changes = group.changes();
/// while let Some(change) = changes.next().await {
///     println!("{:?}", change?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    path: String,
    layout: GroupLayout,
}

impl Group {
    /// The group at this path, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Group {
        Group::with_layout(client, path, GroupLayout::Curator)
    }

    /// The group at this path, in this layout.
    #[must_use]
    pub fn with_layout(client: &Client, path: &str, layout: GroupLayout) -> Group {
        Group {
            client: client.clone(),
            path: path.trim_end_matches('/').to_owned(),
            layout,
        }
    }

    /// Joins, until the membership is left or dropped: with the client's next session again.
    pub fn join(&self, id: &str, payload: impl Into<Bytes>) -> Membership {
        let name = match self.layout {
            GroupLayout::Curator => id.to_owned(),
            GroupLayout::KazooParty => format!("{}{PARTY}", identity::hex32()),
            GroupLayout::KazooShallowParty => format!("{}-{id}", identity::hex32()),
        };
        let data = match self.layout {
            GroupLayout::KazooParty => Bytes::copy_from_slice(id.as_bytes()),
            _ => payload.into(),
        };
        Membership {
            node: PersistentNode::builder(&self.client, &self.path_of(&name), data).start(),
            id: id.to_owned(),
        }
    }

    /// Who is a member now, in the order of their ids.
    ///
    /// One request, and one for each member.
    ///
    /// # Errors
    /// As the reads; a group that does not exist has no members.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let names = match self.client.children(&self.path).await {
            Ok((names, _)) => names,
            Err(error) if error.is_no_node() => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            members.extend(self.read(&name).await?);
        }
        members.sort_by(|a: &Member, b| (&a.id, &a.name).cmp(&(&b.id, &b.name)));
        Ok(members)
    }

    /// Who comes and goes, beginning with those who are there: each as [`Change::Joined`].
    ///
    /// Latest wins: who comes and goes between two looks may not be told.
    ///
    /// After each change all members are read again, one after the other: an id that came back
    /// with a new session shows only in its znode. A group of n costs n + 1 requests per change.
    ///
    /// # Errors
    /// The stream's last item, if the session ends for good, or something may not be read.
    ///
    /// # Cancel safety
    /// `next()` may be dropped at any time.
    #[must_use = "a stream does nothing until it is polled"]
    pub fn changes(&self) -> Changes {
        let follower = Follower {
            names: self.client.follow_children(&self.path),
            group: self.clone(),
            known: BTreeMap::new(),
            listed: None,
            waiting: VecDeque::new(),
            is_over: false,
        };
        Changes(
            stream::unfold(follower, |mut follower| async move {
                let change = follower.next().await?;
                Some((change, follower))
            })
            .boxed(),
        )
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// A member by its znode's name; `None` if it is gone, or no member of this layout.
    async fn read(&self, name: &str) -> Result<Option<Member>> {
        if self.layout == GroupLayout::KazooParty && !name.ends_with(PARTY) {
            return Ok(None);
        }
        let node = match self.client.get(self.path_of(name)).await {
            Ok(node) => node,
            Err(error) if error.is_no_node() => return Ok(None),
            Err(error) => return Err(error),
        };
        let (id, payload) = match self.layout {
            GroupLayout::Curator => (name.to_owned(), node.data),
            GroupLayout::KazooParty => {
                let id = String::from_utf8_lossy(&node.data).into_owned();
                (id, Bytes::new())
            }
            GroupLayout::KazooShallowParty => (shallow_id(name).to_owned(), node.data),
        };
        Ok(Some(Member {
            id,
            payload,
            name: name.to_owned(),
            czxid: node.stat.czxid,
        }))
    }
}

/// The id in a name of kazoo's `ShallowParty`; a name of another kind is its own id.
pub(super) fn shallow_id(name: &str) -> &str {
    match name.split_once('-') {
        Some((hex, id)) if identity::is_hex32(hex) => id,
        _ => name,
    }
}

/// A membership that is kept, until it is left or dropped.
#[derive(Debug)]
#[must_use = "a dropped membership is left"]
pub struct Membership {
    node: PersistentNode,
    id: String,
}

impl Membership {
    /// Our id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until we are a member, and gives our znode's path.
    ///
    /// # Errors
    /// What keeps us from ever being one.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn joined(&self) -> Result<String> {
        self.node.placed().await
    }

    /// How our membership stands; after a lost session it says how often we have rejoined.
    #[must_use]
    pub fn presence(&self) -> watch::Receiver<Presence> {
        self.node.presence()
    }

    /// Publishes another payload. In the layout of kazoo's `Party` the data is the id: leave it.
    pub fn set_payload(&self, payload: impl Into<Bytes>) {
        self.node.set_data(payload);
    }

    /// Leaves, and waits until that is done.
    ///
    /// # Cancel safety
    /// We leave in the background when the future is dropped.
    pub async fn leave(self) {
        self.node.close().await;
    }
}

/// The changes of a group; see [`Group::changes`].
#[must_use = "a stream does nothing until it is polled"]
pub struct Changes(BoxStream<'static, Result<Change>>);

impl Stream for Changes {
    type Item = Result<Change>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}

struct Follower {
    group: Group,
    names: FollowChildren,
    /// By the znode's name.
    known: BTreeMap<String, Member>,
    /// A listing that was not compared yet: reading may be interrupted.
    listed: Option<Vec<String>>,
    waiting: VecDeque<Change>,
    is_over: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Change>> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Some(Ok(change));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.look().await {
                self.is_over = true;
                return Some(Err(error));
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        if self.listed.is_none() {
            let Some(children) = self.names.next().await else {
                self.is_over = true;
                return Ok(());
            };
            self.listed = Some(children?.map(|children| children.names).unwrap_or_default());
        }
        let names = self.listed.clone().unwrap_or_default();
        let mut now = BTreeMap::new();
        for name in names {
            loop {
                match self.group.read(&name).await {
                    Ok(member) => {
                        now.extend(member.map(|member| (name, member)));
                        break;
                    }
                    Err(error) => {
                        crate::patience::over_sessions(&self.group.client, error).await?;
                    }
                }
            }
        }
        self.listed = None;
        for (name, member) in &self.known {
            if !now.contains_key(name) {
                self.waiting.push_back(Change::Left(member.clone()));
            }
        }
        for (name, member) in &now {
            match self.known.get(name) {
                None => self.waiting.push_back(Change::Joined(member.clone())),
                Some(known) if known.czxid != member.czxid => {
                    self.waiting.push_back(Change::Rejoined(member.clone()));
                }
                Some(_) => {}
            }
        }
        self.known = now;
        Ok(())
    }
}
