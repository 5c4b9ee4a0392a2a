//! Who is first in a directory of ephemeral sequential znodes: the block under locks, elections
//! and semaphores.
//!
//! ```text
//! Contention ── enter ──► Contender ── wait ──► its turn ── (kept as a guard) ──► gone
//!                             │ dropped, in any state: deleted in the background
//! ```
//!
//! **Safe**, because a contender belongs to the session that made it and works in that session
//! alone: what a later session of the same client does cannot be mistaken for it, and a listing
//! that shows our znode was answered while our session lived. **Fair**, because the order is the
//! server's. **Quiet**, because each waits for the deletion of one other znode.

use bytes::Bytes;
use quorate_client::{Client, Context, Error, Reason, Result, SessionId, Watch};

use crate::fencing::FencingToken;
use crate::naming::{Layout, Naming};

/// A directory that contenders enter.
#[derive(Clone, Debug)]
pub struct Contention {
    client: Client,
    directory: String,
    naming: Naming,
}

/// A child of the directory that takes part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The tag that it carries.
    pub tag: &'static str,
    /// Its number.
    pub sequence: i32,
}

/// What a listing says: the contenders in their order, where we are, and who does not take part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// All who take part, the first first.
    pub entries: Vec<Entry>,
    /// Our index among them.
    pub own: usize,
    /// Children that are no contenders of this kind: they exclude nobody here.
    pub foreign: Vec<String>,
}

impl Contention {
    /// A directory on which nothing has been done yet. It is made when the first enters.
    #[must_use]
    pub fn new(client: &Client, directory: &str, naming: Naming) -> Contention {
        Contention {
            client: client.clone(),
            directory: directory.to_owned(),
            naming,
        }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Enters: makes our znode, with this data, behind all who entered before.
    ///
    /// One request, two more if the directory does not exist.
    ///
    /// # Errors
    /// Whatever keeps the znode from being made. After an unknown outcome our znode is looked for,
    /// and deleted in the background if it turns up too late.
    ///
    /// # Cancel safety
    /// May be dropped at any time: a znode that was or will be made is deleted in the background.
    pub async fn enter(&self, data: impl Into<Bytes>) -> Result<Contender> {
        let client = self.client.pinned();
        let prefix = format!(
            "{}/{}",
            self.directory.trim_end_matches('/'),
            self.naming.tag()
        );
        let create = client
            .create(&prefix, data)
            .ephemeral()
            .sequential()
            .container_parents();
        let created = match self.naming.layout() {
            Layout::Kazoo => create.protected_as_kazoo(),
            Layout::Curator => create.protected(),
        }
        .await?;
        Ok(Contender {
            session: SessionId(created.stat.ephemeral_owner),
            token: FencingToken::from(created.stat.czxid),
            contention: Contention {
                client,
                ..self.clone()
            },
            path: created.path,
            is_ours: true,
        })
    }

    /// Lists who takes part, the first first, and who does not.
    ///
    /// # Errors
    /// As the listing; a directory that does not exist is empty.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn entries(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        match self.client.children(&self.directory).await {
            Ok((names, _)) => Ok(self.sort(names)),
            Err(error) if error.is_no_node() => Ok((Vec::new(), Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// The full path of a child.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.directory.trim_end_matches('/'))
    }

    fn sort(&self, names: Vec<String>) -> (Vec<Entry>, Vec<String>) {
        let mut entries = Vec::with_capacity(names.len());
        let mut foreign = Vec::new();
        for name in names {
            let parsed = self
                .naming
                .parse(&name)
                .map(|(tag, sequence)| (tag, sequence.number()));
            match parsed {
                Some((tag, sequence)) => entries.push(Entry {
                    tag,
                    sequence,
                    name,
                }),
                None => foreign.push(name),
            }
        }
        // By distance, as `Sequence`; names make the order of equal numbers the same for all.
        entries.sort_by(|a, b| {
            0.cmp(&b.sequence.wrapping_sub(a.sequence))
                .then_with(|| a.name.cmp(&b.name))
        });
        (entries, foreign)
    }
}

/// Our znode in the directory. Dropping it deletes the znode in the background.
#[derive(Debug)]
#[must_use = "a dropped contender leaves the directory"]
pub struct Contender {
    /// With a client that works in our session and no other.
    contention: Contention,
    session: SessionId,
    token: FencingToken,
    path: String,
    /// Nobody has deleted it yet on our behalf.
    is_ours: bool,
}

impl Contender {
    /// Our znode's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Our znode's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The number that orders us against all who hold before or after us.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// The session that owns our znode.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// A client that works in our session and in no other.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.contention.client
    }

    /// Lists the directory and finds our place. One request.
    ///
    /// # Errors
    /// [`Error::SessionGone`] with [`Reason::NotOurs`] if our znode is gone: somebody deleted it.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn place(&self) -> Result<Place> {
        let (entries, foreign) = self.contention.entries().await?;
        let own = entries.iter().position(|entry| entry.name == self.name());
        match own {
            Some(own) => Ok(Place {
                entries,
                own,
                foreign,
            }),
            None => Err(self.gone()),
        }
    }

    /// Waits until it is our turn: until `blocker` finds none among the entries that we must wait
    /// for. It gets all entries and our index, and gives the index of the one whose deletion can
    /// let us proceed.
    ///
    /// A listing and one watch for each time that somebody in front of us leaves.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the session ends, or our znode was deleted by somebody.
    ///
    /// # Cancel safety
    /// May be dropped and called again: our place is kept.
    pub async fn wait(&self, blocker: impl Fn(&[Entry], usize) -> Option<usize>) -> Result<Place> {
        loop {
            let place = match self.place().await {
                Ok(place) => place,
                Err(error) if self.may_go_on(&error) => {
                    self.client().connected().await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(ahead) = blocker(&place.entries, place.own) else {
                return Ok(place);
            };
            let Some(ahead) = place.entries.get(ahead) else {
                return Ok(place);
            };
            let path = self.contention.path_of(&ahead.name);
            // By getData: it arms no watch if the znode is already gone.
            match self.client().get(&path).watch().await {
                Ok((_, watch)) => drop(watch.await?),
                Err(error) if error.is_no_node() => {}
                Err(error) if self.may_go_on(&error) => self.client().connected().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether an error of a read only means that the connection is away.
    fn may_go_on(&self, error: &Error) -> bool {
        error.is_retryable() || matches!(error, Error::Unknown { .. })
    }

    /// A watch on our own znode: fires when somebody deletes it, or writes to it.
    ///
    /// # Errors
    /// [`Error::SessionGone`] with [`Reason::NotOurs`] if it is gone already, or another's.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn watch_own(&self) -> Result<(quorate_client::Node, Watch)> {
        match self.client().get(&self.path).watch().await {
            Ok((node, watch)) if node.stat.ephemeral_owner == self.session.0 => Ok((node, watch)),
            Ok(_) => Err(self.gone()),
            Err(error) if error.is_no_node() => Err(self.gone()),
            Err(error) => Err(error),
        }
    }

    fn gone(&self) -> Error {
        let text = format!("{} is no longer there, or no longer ours", self.path);
        Error::session_gone(
            Reason::NotOurs(text),
            Context::of("contend", &self.contention.directory),
        )
    }

    /// Leaves the directory, and waits until it is done.
    ///
    /// # Errors
    /// If the outcome stays unknown; the deletion goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the deletion goes on in the background.
    pub async fn leave(mut self) -> Result<()> {
        let delete = self.client().delete(&self.path).guaranteed().send();
        // From here on the guaranteed delete answers for it.
        self.is_ours = false;
        match delete.await {
            Err(error) if error.is_no_node() => Ok(()),
            result => result,
        }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if self.is_ours {
            self.client().delete(&self.path).in_background();
        }
    }
}
