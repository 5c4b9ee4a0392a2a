//! The four ways to count.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use quorate_client::{Client, Error, Outcome, Result, Stat};
use tokio::sync::Mutex;

use super::{IdSource, UniqueId};

/// What stands in front of a protected name; only its length matters.
const PROTECTION: &str = "_c_00000000-0000-0000-0000-000000000000-";

/// Numbers of sequential znodes.
///
/// | | |
/// | --- | --- |
/// | guarantee | unique, also when the directory was reaped or deleted in between, and over the 32-bit counter's end; in the order of time within an incarnation |
/// | what can go wrong | gaps; foreign children use up numbers, too |
/// | znodes | `<directory>/_c_<uuid>-<prefix><number>`, ephemeral, for a moment; the directory is a container |
/// | cost | a create, a read, and a delete in the background. No watches |
/// | Curator, kazoo | a `create()` of `EPHEMERAL_SEQUENTIAL`; a `create(sequence=True)` |
///
/// The number alone comes again when the directory is made anew. That the directory counted that
/// existed before our znode and still exists is seen by its `czxid`, read after the create.
#[derive(Clone, Debug)]
pub struct SequentialIds {
    client: Client,
    directory: String,
    prefix: String,
}

impl SequentialIds {
    /// Numbers of this directory. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, directory: &str) -> SequentialIds {
        SequentialIds {
            client: client.clone(),
            directory: directory.trim_end_matches('/').to_owned(),
            prefix: "id-".to_owned(),
        }
    }

    /// What stands in front of the number in the znodes' names, and in [`next_name`]: `id-` if
    /// nothing else is said.
    ///
    /// [`next_name`]: SequentialIds::next_name
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> SequentialIds {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// A name that nobody else has: the prefix, which directory, and the number.
    ///
    /// # Errors
    /// As [`next_id`](IdSource::next_id).
    ///
    /// # Cancel safety
    /// May be dropped at any time; a number may be skipped then.
    pub async fn next_name(&self) -> Result<String> {
        Ok(format!("{}{}", self.prefix, self.next_id().await?))
    }

    /// One number; `None` if it cannot be told which directory counted.
    async fn count(&self) -> Result<Option<UniqueId>> {
        let path = format!("{}/{}", self.directory, self.prefix);
        let create = self.client.create(&path, Bytes::new());
        let create = create.ephemeral().sequential().container_parents();
        // Found again by its mark, when its answer is lost and nobody waits for it any more.
        let created = create.protected().await?;
        self.client.delete(&created.path).in_background();
        let behind = path.len() + PROTECTION.len();
        let digits = created.path.get(behind..).unwrap_or_default();
        let Ok(number) = digits.parse::<i32>() else {
            return Ok(None);
        };
        // The server answers no read of ours with a state from before our own write.
        let directory = self.client.exists(&self.directory).await?;
        Ok(directory
            .filter(|directory| directory.czxid < created.stat.czxid)
            .map(|directory| UniqueId {
                incarnation: directory.czxid,
                // Behind the largest number comes the smallest negative one.
                number: i64::from(u32::from_ne_bytes(number.to_ne_bytes())),
            }))
    }
}

#[async_trait]
impl IdSource for SequentialIds {
    async fn next_id(&self) -> Result<UniqueId> {
        loop {
            // Where the directory was made anew in between, the number may be another's.
            if let Some(id) = until_heard(&self.client, || self.count()).await? {
                return Ok(id);
            }
        }
    }
}

/// Versions of one znode: a write gives the next number.
///
/// | | |
/// | --- | --- |
/// | guarantee | unique, also when the znode was deleted in between; dense, in the order of time |
/// | what can go wrong | gaps after lost answers; others that write to the znode use up numbers |
/// | znodes | `<path>`, persistent, without data |
/// | cost | a write. No watches |
/// | Curator, kazoo | none; Kafka's `/brokers/seqid` |
#[derive(Clone, Debug)]
pub struct VersionIds {
    client: Client,
    path: String,
}

impl VersionIds {
    /// Versions of the znode at this path. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> VersionIds {
        VersionIds {
            client: client.clone(),
            path: path.to_owned(),
        }
    }
}

#[async_trait]
impl IdSource for VersionIds {
    async fn next_id(&self) -> Result<UniqueId> {
        let stat = until_heard(&self.client, || write(&self.client, &self.path)).await?;
        Ok(UniqueId {
            incarnation: stat.czxid,
            number: i64::from(u32::from_ne_bytes(stat.version.to_ne_bytes())),
        })
    }
}

/// zxids of writes: one number for each, and it never comes again while the ensemble keeps its data.
///
/// | | |
/// | --- | --- |
/// | guarantee | unique, in the order of time, over all that use zxids |
/// | what can go wrong | gaps: every write in the ensemble uses up a number |
/// | znodes | `<path>`, persistent, without data |
/// | cost | a write. No watches |
/// | Curator, kazoo | none |
#[derive(Clone, Debug)]
pub struct ZxidIds {
    client: Client,
    path: String,
}

impl ZxidIds {
    /// zxids of writes to this path. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> ZxidIds {
        ZxidIds {
            client: client.clone(),
            path: path.to_owned(),
        }
    }
}

#[async_trait]
impl IdSource for ZxidIds {
    async fn next_id(&self) -> Result<UniqueId> {
        let stat = until_heard(&self.client, || write(&self.client, &self.path)).await?;
        Ok(UniqueId {
            incarnation: 0,
            number: stat.mzxid,
        })
    }
}

/// Versions of one znode, many for one write: each version stands for a block of numbers.
///
/// | | |
/// | --- | --- |
/// | guarantee | unique, also when the znode was deleted in between |
/// | what can go wrong | gaps: a process that ends leaves the rest of its block; all sources of one path need blocks of one size |
/// | znodes | `<path>`, persistent, without data |
/// | cost | a write per block. No watches |
/// | Curator, kazoo | as `CachedAtomicLong`, which counts again when its znode is deleted |
#[derive(Clone, Debug)]
pub struct BlockIds {
    versions: VersionIds,
    block: i64,
    /// The incarnation, and what is left of the block.
    left: Arc<Mutex<(i64, Range<i64>)>>,
}

impl BlockIds {
    /// Blocks of this size, one at least, counted by the znode at this path. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, block: u32) -> BlockIds {
        BlockIds {
            versions: VersionIds::new(client, path),
            block: i64::from(block.max(1)),
            left: Arc::new(Mutex::new((0, 0..0))),
        }
    }
}

#[async_trait]
impl IdSource for BlockIds {
    async fn next_id(&self) -> Result<UniqueId> {
        let mut left = self.left.lock().await;
        loop {
            let incarnation = left.0;
            if let Some(number) = left.1.next() {
                return Ok(UniqueId {
                    incarnation,
                    number,
                });
            }
            let block = self.versions.next_id().await?;
            // 32 bits of version times 32 bits of block fit, but for the sign.
            let first = block.number.saturating_mul(self.block);
            *left = (block.incarnation, first..first.saturating_add(self.block));
        }
    }
}

/// Writes to the znode; makes it if there is none.
async fn write(client: &Client, path: &str) -> Result<Stat> {
    loop {
        match client.set(path, Bytes::new()).await {
            Err(error) if error.is_no_node() => {}
            result => return result,
        }
        match client.create(path, Bytes::new()).container_parents().await {
            Ok(created) => return Ok(created.stat),
            Err(error) if error.is_node_exists() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Counts again when an answer was lost: nobody will use that number.
async fn until_heard<T, F: Future<Output = Result<T>>>(
    client: &Client,
    count: impl Fn() -> F,
) -> Result<T> {
    loop {
        match count().await {
            Err(error) if was_lost(&error) => client.connected().await?,
            result => return result,
        }
    }
}

fn was_lost(error: &Error) -> bool {
    error.outcome() == Outcome::Unknown && !error.is_session_lost()
}
