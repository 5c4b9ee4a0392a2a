//! The double barrier: all begin together, and none goes on before all are done.
//!
//! The go signal is the znode `ready`: that it exists, or that it was seen to come. It is watched
//! before our own znode is made, so that no member whose arrival completes the round can create it
//! unseen. The event is kept: a member that looks late, when the fast ones have left and `ready` is
//! gone again, is let in all the same. A wake-up alone lets nobody through.
//!
//! Whoever arrives last sees all the others in its listing, because it lists after it arrived. So
//! nobody watches the directory while waiting, and each arrival wakes nobody.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Context, Error, EventType, Reason, Result, SessionId, Watch};
use tokio::time::timeout;

use crate::identity;
use crate::naming::Layout;
use crate::patience::within_the_session;

const READY: &str = "ready";

/// A meeting of a number of members: they enter together, and leave together.
///
/// | | |
/// | --- | --- |
/// | guarantee | none is inside before so many have come; none has left before all are done or gone |
/// | what can go wrong | more than that number may enter: those who come while a round is on join it. A member whose connection was away all the time that a kazoo member had `ready` in existence waits on, for kazoo takes it away when it begins to leave |
/// | znodes | `<path>/<uuid>`, ephemeral, one for each member; `<path>/ready`, persistent, while a round is on; `<path>` is a container |
/// | cost | enter: watch `ready`, create, list, wait; the last one creates `ready`. Leave: list, and one watch each time that the one waited for has gone |
/// | Curator, kazoo | `DistributedDoubleBarrier`; `DoubleBarrier`. All meet on one path |
///
/// A `ready` that stands alone is left over from members that died: who comes next takes it away.
///
/// ```no_run
/// use quorate_recipes::{Client, barrier::DoubleBarrier};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let barrier = DoubleBarrier::new(&client, "/barriers/load", 8);
/// let inside = barrier.enter().await?;
/// // ... the work that all eight do at the same time ...
/// inside.leave().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    client: Client,
    path: String,
    members: usize,
    layout: Layout,
    data: Bytes,
}

/// A member that has entered, and not left.
///
/// Dropped, it leaves without waiting for the others.
#[derive(Debug)]
#[must_use = "a dropped member leaves the barrier"]
pub struct Inside {
    place: Place,
}

impl DoubleBarrier {
    /// A barrier at this path for so many members. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, members: usize) -> DoubleBarrier {
        DoubleBarrier {
            client: client.clone(),
            path: path.trim_end_matches('/').to_owned(),
            members: members.max(1),
            layout: Layout::Curator,
            data: Bytes::new(),
        }
    }

    /// Whose names the members' znodes have. All layouts meet.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> DoubleBarrier {
        self.layout = layout;
        self
    }

    /// What our znode carries, for those who look at who has come.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> DoubleBarrier {
        self.data = data.into();
        self
    }

    /// Enters: waits until all members have come, or `ready` says that they have.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if the session ends while waiting, or our znode was deleted by
    /// somebody; others if a znode cannot be made.
    ///
    /// # Cancel safety
    /// May be dropped at any time: our znode is deleted in the background.
    pub async fn enter(&self) -> Result<Inside> {
        let mut place = Place::new(self);
        let (joined, mut ready) = place.watch_ready().await?;
        place.arrive(self.data.clone()).await?;
        loop {
            let (members, is_on) = place.list().await?;
            // The round that was on before we came is still being left by somebody (kazoo takes
            // `ready` away first), who would wait for us. If nobody of it is here, it is over.
            let is_joined = members.iter().any(|name| joined.contains(name));
            if is_on || is_joined {
                return Ok(Inside { place });
            }
            // Before the count: those who were fast may have left already.
            if ready.has_come(&place).await? {
                return Ok(Inside { place });
            }
            if !members.contains(&place.name) {
                return Err(place.gone());
            }
            if members.len() >= self.members {
                place.create_ready().await?;
                return Ok(Inside { place });
            }
            if ready.comes(&place).await? {
                return Ok(Inside { place });
            }
        }
    }

    /// As [`enter`](DoubleBarrier::enter), for this long at most; `None` if not all came.
    ///
    /// # Errors
    /// As [`enter`](DoubleBarrier::enter).
    ///
    /// # Cancel safety
    /// As [`enter`](DoubleBarrier::enter).
    pub async fn enter_within(&self, time: Duration) -> Result<Option<Inside>> {
        match timeout(time, self.enter()).await {
            Ok(inside) => inside.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The names of the members that are there, and whether a round is on.
    ///
    /// # Errors
    /// As the listing; a barrier that does not exist has no members.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn members(&self) -> Result<(Vec<String>, bool)> {
        list(&self.client, &self.path).await
    }
}

impl Inside {
    /// Our znode's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.place.own
    }

    /// A client that works in the session that is inside, and in no other.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.place.client
    }

    /// Resolves when the session is over: to the others we have left then.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Reason {
        self.place.client.lost().await
    }

    /// Leaves: waits until all members are done or gone.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if the session ends while waiting: we have left then, and nobody
    /// knows of the others.
    ///
    /// # Cancel safety
    /// May be dropped at any time: we leave in the background, and do not wait for the others.
    pub async fn leave(mut self) -> Result<()> {
        let place = &mut self.place;
        loop {
            let (members, is_on) = place.list().await?;
            let is_here = place.is_here && members.contains(&place.name);
            // Sorted, as all of them do it: the lowest stays to the end and waits for the highest.
            let (Some(lowest), Some(highest)) = (members.first(), members.last()) else {
                // The last to leave takes `ready` along; if it died, we do.
                if is_on {
                    place.delete_ready().await?;
                }
                return Ok(());
            };
            if is_here && members.len() == 1 {
                place.leave_last().await?;
                return Ok(());
            }
            if is_here && *lowest == place.name {
                place.deletion_of(highest).await?;
            } else {
                let lowest = lowest.clone();
                if is_here {
                    place.leave().await?;
                }
                place.deletion_of(&lowest).await?;
            }
        }
    }
}

/// What was seen of `ready`.
#[derive(Debug)]
struct Ready(Watch);

impl Ready {
    /// Whether it has come by now.
    async fn has_come(&mut self, place: &Place) -> Result<bool> {
        match futures::poll!(&mut self.0) {
            std::task::Poll::Ready(event) => self.judge(place, event).await,
            std::task::Poll::Pending => Ok(false),
        }
    }

    /// Waits for news of it: whether it has come.
    async fn comes(&mut self, place: &Place) -> Result<bool> {
        let event = (&mut self.0).await;
        self.judge(place, event).await
    }

    async fn judge(
        &mut self,
        place: &Place,
        event: Result<quorate_client::WatchedEvent>,
    ) -> Result<bool> {
        if event?.kind == EventType::NodeCreated {
            return Ok(true);
        }
        // No other event lets anybody in, and the watch is used up.
        let (exists, watch) = place.exists(&place.ready).await?;
        self.0 = watch;
        Ok(exists)
    }
}

/// Our place in the barrier. Dropped, it is given up in the background.
#[derive(Debug)]
struct Place {
    /// Works in one session only.
    client: Client,
    directory: String,
    ready: String,
    name: String,
    own: String,
    /// Our znode was or may be made, and nobody has deleted it on our behalf.
    is_here: bool,
}

impl Place {
    fn new(barrier: &DoubleBarrier) -> Place {
        let name = match barrier.layout {
            Layout::Curator => identity::uuid(),
            Layout::Kazoo => identity::hex32(),
        };
        Place {
            client: barrier.client.pinned(),
            directory: barrier.path.clone(),
            ready: format!("{}/{READY}", barrier.path),
            own: format!("{}/{name}", barrier.path),
            name,
            is_here: false,
        }
    }

    /// Watches `ready`, and names the members of the round that is on already.
    async fn watch_ready(&self) -> Result<(Vec<String>, Ready)> {
        loop {
            let (exists, watch) = self.exists(&self.ready).await?;
            if !exists {
                return Ok((Vec::new(), Ready(watch)));
            }
            let (members, is_on) = self.list().await?;
            if !members.is_empty() {
                return Ok((members, Ready(watch)));
            }
            // Left over from a round whose members died. Those of the next round that have come
            // meanwhile have watched it before they came: to them it has come, if it goes now.
            if is_on {
                self.delete_ready().await?;
            }
        }
    }

    async fn arrive(&mut self, data: Bytes) -> Result<()> {
        // Before the request: the future may be dropped while it is on its way.
        self.is_here = true;
        let create = self
            .client
            .create(&self.own, data)
            .ephemeral()
            .idempotent()
            .container_parents();
        match create.await {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn create_ready(&self) -> Result<()> {
        loop {
            let error = match self.client.create(&self.ready, "").idempotent().await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_node_exists() => return Ok(()),
                // Our own znode is below it: it cannot be missing while we are here.
                Err(error) if error.is_no_node() => return Err(self.gone()),
                Err(error) => error,
            };
            within_the_session(&self.client, error).await?;
        }
    }

    async fn delete_ready(&self) -> Result<()> {
        self.delete(&self.ready).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.client.delete(path).guaranteed().await {
            Err(error) if error.is_no_node() => Ok(()),
            result => result,
        }
    }

    async fn leave(&mut self) -> Result<()> {
        let delete = self.client.delete(&self.own).guaranteed().send();
        // From here on the guaranteed delete answers for it.
        self.is_here = false;
        match delete.await {
            Err(error) if error.is_no_node() => Ok(()),
            result => result,
        }
    }

    /// Leaves as the last one, and takes `ready` along in the same instant: a later deletion could
    /// hit that of the next round.
    async fn leave_last(&mut self) -> Result<()> {
        let both = self.client.multi().delete(&self.own).delete(&self.ready);
        match both.await {
            Ok(_) => {
                self.is_here = false;
                Ok(())
            }
            // Somebody has taken `ready` away already, or the outcome is unknown: what remains is
            // that we leave.
            Err(_) => self.leave().await,
        }
    }

    async fn list(&self) -> Result<(Vec<String>, bool)> {
        loop {
            match list(&self.client, &self.directory).await {
                Ok(listed) => return Ok(listed),
                Err(error) => within_the_session(&self.client, error).await?,
            }
        }
    }

    async fn exists(&self, path: &str) -> Result<(bool, Watch)> {
        loop {
            match self.client.exists(path).watch().await {
                Ok((stat, watch)) => return Ok((stat.is_some(), watch)),
                Err(error) => within_the_session(&self.client, error).await?,
            }
        }
    }

    /// Waits until something happened to a member, as a rule that it left.
    async fn deletion_of(&self, name: &str) -> Result<()> {
        let path = format!("{}/{name}", self.directory);
        let changed = match self.client.get(&path).watch().await {
            Ok((_, watch)) => watch.await.map(drop),
            Err(error) if error.is_no_node() => Ok(()),
            Err(error) => Err(error),
        };
        match changed {
            Ok(()) => Ok(()),
            Err(error) => within_the_session(&self.client, error).await,
        }
    }

    fn gone(&self) -> Error {
        let owner = self.client.session_id().unwrap_or(SessionId(0));
        let text = format!("{} of session {owner} is no longer there", self.own);
        Error::session_gone(Reason::NotOurs(text), Context::of("enter", &self.directory))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_here {
            self.client.delete(&self.own).in_background();
        }
    }
}

/// The members in the order of their names, and whether `ready` is there.
async fn list(client: &Client, path: &str) -> Result<(Vec<String>, bool)> {
    let mut names = match client.children(path).await {
        Ok((names, _)) => names,
        Err(error) if error.is_no_node() => Vec::new(),
        Err(error) => return Err(error),
    };
    let all = names.len();
    names.retain(|name| name != READY);
    let is_on = names.len() < all;
    names.sort_unstable();
    Ok((names, is_on))
}
