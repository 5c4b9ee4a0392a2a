//! Names that belong to one owner at a time.

use bytes::Bytes;
use quorate_client::{Client, Context, Error, Reason, Result};

use crate::fencing::FencingToken;
use crate::hold::Hold;

/// A registry of names, each of which one process owns at a time.
///
/// | | |
/// | --- | --- |
/// | guarantee | one owner per name; [tokens](Claim::token) grow from owner to owner |
/// | what can go wrong | an owner that stands still past its session, and does not look: compare tokens |
/// | znodes | `<directory>/<name>`, ephemeral; the directory is a container |
/// | cost | a create, a delete; a watch per waiter |
/// | Curator, kazoo | `PersistentNode` without its return; none |
///
/// ```no_run
/// use quorate_recipes::{Client, ids::Names};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let names = Names::new(&client, "/shards");
/// match names.try_claim("shard-7", "host-a").await? {
///     Some(claim) => println!("ours since {}", claim.token()),
///     None => println!("{:?} has it", names.owner("shard-7").await?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Names {
    client: Client,
    directory: String,
}

impl Names {
    /// The registry in this directory. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, directory: &str) -> Names {
        Names {
            client: client.clone(),
            directory: directory.trim_end_matches('/').to_owned(),
        }
    }

    /// Takes a name, and says who has it; `None` if another has.
    ///
    /// # Errors
    /// As a create's; [`Error::BadArgument`] for a name that is no single part of a path.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the name is given back in the background.
    pub async fn try_claim(&self, name: &str, owner: impl Into<Bytes>) -> Result<Option<Claim>> {
        let path = self.path_of(name)?;
        let (hold, _) = Hold::take(&self.client, &path, owner.into(), None).await?;
        Ok(hold.map(|hold| Claim { hold }))
    }

    /// Waits until the name is free, and takes it. Those who wait for one name are all woken when
    /// it is free; a [`Mutex`](crate::lock::Mutex) is fairer.
    ///
    /// # Errors
    /// As [`try_claim`](Names::try_claim).
    ///
    /// # Cancel safety
    /// As [`try_claim`](Names::try_claim).
    pub async fn claim(&self, name: &str, owner: impl Into<Bytes>) -> Result<Claim> {
        let (path, owner) = (self.path_of(name)?, owner.into());
        loop {
            if let Some(claim) = self.try_claim(name, owner.clone()).await? {
                return Ok(claim);
            }
            match self.client.get(&path).watch().await {
                Ok((_, watch)) => drop(watch.await?),
                Err(error) if error.is_no_node() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the owner said of itself; `None` if nobody has the name.
    ///
    /// # Errors
    /// As a read's.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn owner(&self, name: &str) -> Result<Option<Bytes>> {
        match self.client.get(&self.path_of(name)?).await {
            Ok(node) => Ok(Some(node.data)),
            Err(error) if error.is_no_node() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All names that somebody has, sorted.
    ///
    /// # Errors
    /// As a listing's.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn taken(&self) -> Result<Vec<String>> {
        match self.client.children(&self.directory).await {
            Ok((mut names, _)) => {
                names.sort_unstable();
                Ok(names)
            }
            Err(error) if error.is_no_node() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn path_of(&self, name: &str) -> Result<String> {
        if name.is_empty() || name.contains('/') {
            let text = format!("{name:?} is no name of a child");
            let context = Context::of("claim", &self.directory);
            return Err(Error::bad_argument(Reason::Option(text), context));
        }
        Ok(format!("{}/{name}", self.directory))
    }
}

/// A name that is ours. Dropping it gives the name back in the background.
#[derive(Debug)]
#[must_use = "a dropped claim gives the name back"]
pub struct Claim {
    hold: Hold,
}

impl Claim {
    /// The znode that stands for the name.
    #[must_use]
    pub fn path(&self) -> &str {
        self.hold.path()
    }

    /// Larger than that of every owner before.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.hold.token()
    }

    /// Operations that happen all together, and only while the name is ours.
    pub fn multi(&self) -> quorate_client::Multi {
        self.hold.client().multi().check(self.hold.path(), -1)
    }

    /// Whether the name is ours still, as the connected server knows it.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if it is not.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn verify(&self) -> Result<()> {
        self.hold.verify().await
    }

    /// Gives the name back, and waits until it is free.
    ///
    /// # Errors
    /// If the outcome stays unknown; the release goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the release goes on in the background.
    pub async fn release(self) -> Result<()> {
        self.hold.release().await
    }
}
