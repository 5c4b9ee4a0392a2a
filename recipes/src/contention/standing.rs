//! Who holds, who waits and who does not belong here, for people and dashboards.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use quorate_client::{Result, SessionId};

use super::{Contention, Entry};
use crate::fencing::FencingToken;

/// Reads that are under way at once.
const READS_MAX: usize = 64;

/// One who holds or waits.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Contestant {
    /// The znode's name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// The tag that it carries: readers and writers of one lock differ in it.
    pub tag: &'static str,
    /// What it says about itself.
    pub data: Bytes,
    /// The session that owns it.
    pub session: SessionId,
    /// Since when it has been there, in milliseconds since 1970 by the server's clock.
    pub since_ms: i64,
    /// Its znode's `czxid`. A lock that was downgraded keeps an older token, which nobody else
    /// can read.
    pub token: FencingToken,
}

/// All who are in a directory at one time, as nearly as reads one after another can tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Standing {
    /// Those who hold, the first first.
    pub holding: Vec<Contestant>,
    /// Those who wait, the next first.
    pub waiting: Vec<Contestant>,
    /// Children that another layout or another hand has made. They exclude nobody here, and
    /// nobody here touches them.
    pub foreign: Vec<String>,
}

impl Contention {
    /// Who holds, who waits and who does not belong here. `blocker` is the rule of
    /// [`Contender::wait`](super::Contender::wait): whoever has none holds.
    ///
    /// A listing, and one read for each contender.
    ///
    /// # Errors
    /// If the directory or one in it cannot be read; those that leave meanwhile are left out.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn standing(
        &self,
        blocker: impl Fn(&[Entry], usize) -> Option<usize>,
    ) -> Result<Standing> {
        let (entries, foreign) = self.entries().await?;
        // By value: a closure over references would keep the future from being `Send`.
        let reads = entries.clone().into_iter().map(|entry| self.read(entry));
        let read: Vec<Option<Contestant>> = futures::stream::iter(reads)
            .buffered(READS_MAX)
            .try_collect()
            .await?;
        let mut standing = Standing {
            foreign,
            ..Standing::default()
        };
        for (index, contestant) in read.into_iter().enumerate() {
            let Some(contestant) = contestant else {
                continue;
            };
            match blocker(&entries, index) {
                None => standing.holding.push(contestant),
                Some(_) => standing.waiting.push(contestant),
            }
        }
        Ok(standing)
    }

    /// What a contender's znode says; `None` if it has left meanwhile.
    async fn read(&self, entry: Entry) -> Result<Option<Contestant>> {
        let path = self.path_of(&entry.name);
        match self.client().get(&path).await {
            Ok(node) => Ok(Some(Contestant {
                name: entry.name,
                path,
                tag: entry.tag,
                data: node.data,
                session: SessionId(node.stat.ephemeral_owner),
                since_ms: node.stat.ctime,
                token: FencingToken::from(node.stat.czxid),
            })),
            Err(error) if error.is_no_node() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_client::Client;

    use crate::election::LeaderLatch;
    use crate::lock::{Mutex, RwLock, Semaphore};

    /// Compiles, or not: nothing is run.
    #[test]
    fn who_stands_where_can_be_asked_in_a_task_of_its_own() {
        fn is_send(_: impl Send) {}
        let _ = |client: &Client| {
            is_send(Mutex::new(client, "/a").contenders());
            is_send(RwLock::new(client, "/a").contenders());
            is_send(Semaphore::new(client, "/a", 1).contenders());
            is_send(LeaderLatch::new(client, "/a", "").participants());
        };
    }
}
