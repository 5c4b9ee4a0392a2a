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
//!
//! **It gets on under lost connections.** Each step is one request that may be repeated, and a step
//! that was answered is not undone by what comes after it: the place is kept, a watch is set again.
//! So all that a contender needs is, again and again, a connection that lasts for one request and
//! its answer, while its session lives. A session that ends between two connections takes its
//! place along; sessions shorter than the client's pauses between dials can starve.

mod contender;
mod standing;

use bytes::Bytes;
use quorate_client::{Call, Client, Create, Created, Result, Stat};

use crate::naming::{self, Layout, Naming};

pub use contender::Contender;
pub use standing::{Contestant, Standing};

/// A listing that is on its way.
pub(crate) type Listing = Call<(Vec<String>, Stat)>;

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

    /// How contenders are named.
    #[must_use]
    pub const fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The same directory, seen through another client.
    pub(crate) fn in_session_of(&self, client: &Client) -> Contention {
        Contention {
            client: client.clone(),
            ..self.clone()
        }
    }

    /// A contender in the session of another, under a name without a number, which is yet to be
    /// made.
    pub(crate) fn plain(&self, session: &Contender, name: &str) -> Contender {
        let path = self.path_of(name);
        session.beside_in(self.in_session_of(session.client()), path)
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
        let created = self.creation(&client, data.into()).await?;
        Ok(self.entered(client, created))
    }

    /// Enters, and lists the directory in the same breath: the second request leaves behind the
    /// first, so its answer shows our znode unless the first had to be repeated.
    ///
    /// For those who look at once. As [`enter`](Contention::enter) otherwise.
    pub(crate) async fn enter_and_list(&self, data: Bytes) -> Result<(Contender, Listing)> {
        let client = self.client.pinned();
        let create = self.creation(&client, data).send();
        let listing = client.children(&self.directory).send();
        let created = create.await?;
        Ok((self.entered(client, created), listing))
    }

    /// `client` is pinned to the session that is to own the znode.
    fn creation(&self, client: &Client, data: Bytes) -> Create {
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
        match self.naming.layout() {
            Layout::Kazoo => create.protected_as_kazoo(),
            Layout::Curator => create.protected(),
        }
    }

    fn entered(&self, client: Client, created: Created) -> Contender {
        let contention = Contention {
            client,
            ..self.clone()
        };
        Contender::new(contention, created.path, created.stat)
    }

    /// Takes up a znode that this session made before: in an earlier process, whose session this
    /// client has resumed. The first in order, if there are several.
    ///
    /// A listing, and one read for each contender in front.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time: nothing is taken up then, and nothing is deleted.
    pub async fn resume(&self) -> Result<Option<Contender>> {
        let contention = Contention {
            client: self.client.pinned(),
            ..self.clone()
        };
        let (entries, _) = contention.entries().await?;
        for entry in entries
            .iter()
            .filter(|entry| entry.tag == self.naming.tag())
        {
            let path = contention.path_of(&entry.name);
            let node = match contention.client.get(&path).await {
                Ok(node) => node,
                Err(error) if error.is_no_node() => continue,
                Err(error) => return Err(error),
            };
            let owner = contention.client.session_id().map(|session| session.0);
            if owner == Some(node.stat.ephemeral_owner) {
                return Ok(Some(Contender::new(contention, path, node.stat)));
            }
        }
        Ok(None)
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

    /// The names, with what they mean here, in their order.
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
        let has_wrapped = naming::has_wrapped(entries.iter().map(|entry| entry.sequence));
        // Names make the order of equal numbers the same for all.
        entries.sort_by(|a, b| {
            naming::rank(a.sequence, has_wrapped)
                .cmp(&naming::rank(b.sequence, has_wrapped))
                .then_with(|| a.name.cmp(&b.name))
        });
        (entries, foreign)
    }
}
