//! The latch: whoever leads keeps leading until it lets go or its session ends.

use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Result};

use super::candidacy::Candidacy;
use super::{Leader, Observe};
use crate::contention::Standing;
use crate::lock::LockGuard;
use crate::lock::mutex::within;
use crate::naming::Layout;

/// An election that is won for good: the leader leads until it resigns or its session ends.
///
/// | | |
/// | --- | --- |
/// | guarantee | one leader at a time, in the order of arrival; [`LockGuard::lost`] resolves before the next leads |
/// | what can go wrong | a leader that stands still, and does not look: compare [tokens](LockGuard::token) |
/// | znodes | `<path>/_c_<uuid>-latch-<number>`, ephemeral, with the candidate's id; `<path>` is a container |
/// | cost | no other candidate: create and list, in one round trip. Waiting: one watch; a listing when the one in front leaves |
/// | Curator, kazoo | `LeaderLatch`; `Election` with [`Layout::Kazoo`] |
///
/// ```no_run
/// use quorate_recipes::{Client, election::LeaderLatch};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let latch = LeaderLatch::new(&client, "/leader", "host-7:8080");
/// let leadership = latch.campaign().await?;
/// println!("leading as {}, until {}", leadership.token(), leadership.lost().await);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LeaderLatch {
    candidacy: Candidacy,
}

impl LeaderLatch {
    /// A candidate of this id, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, id: impl Into<Bytes>) -> LeaderLatch {
        LeaderLatch::with_layout(client, path, id, Layout::Curator)
    }

    /// A candidate of this id, in the layout of its rivals.
    #[must_use]
    pub fn with_layout(
        client: &Client,
        path: &str,
        id: impl Into<Bytes>,
        layout: Layout,
    ) -> LeaderLatch {
        LeaderLatch {
            candidacy: Candidacy::new(client, path, id, layout, "latch-"),
        }
    }

    /// Waits until this candidate leads.
    ///
    /// # Errors
    /// [`Error::SessionGone`](quorate_client::Error::SessionGone) if the session ends while
    /// waiting: campaign again then. Others if our znode cannot be made.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the candidacy is given up in the background.
    pub async fn campaign(&self) -> Result<Leadership> {
        self.candidacy
            .win(&AtomicBool::new(false))
            .await
            .map(Leadership)
    }

    /// As [`campaign`](LeaderLatch::campaign), for this long at most; `None` if another led.
    ///
    /// # Errors
    /// As [`campaign`](LeaderLatch::campaign); [`Reason::TimedOut`](quorate_client::Reason::TimedOut)
    /// if we could not even stand for it.
    ///
    /// # Cancel safety
    /// As [`campaign`](LeaderLatch::campaign).
    pub async fn campaign_within(&self, time: Duration) -> Result<Option<Leadership>> {
        let has_entered = AtomicBool::new(false);
        let campaign = self.candidacy.win(&has_entered);
        let path = self.candidacy.contention.directory();
        let won = within(time, &has_entered, path, campaign).await?;
        Ok(won.map(Leadership))
    }

    /// Goes on with a candidacy or a leadership that an earlier process left with
    /// [`Client::detach`], in the session that this client has
    /// [resumed](quorate_client::ClientBuilder::resume). Its place in line and its token stay.
    /// `None` if that session has no candidate here.
    ///
    /// A listing, one read for each candidate in front, and then as
    /// [`campaign`](LeaderLatch::campaign).
    ///
    /// # Errors
    /// As [`campaign`](LeaderLatch::campaign).
    ///
    /// # Cancel safety
    /// May be dropped at any time: a candidacy that was found is given up in the background.
    pub async fn resume(&self) -> Result<Option<Leadership>> {
        Ok(self.candidacy.resume().await?.map(Leadership))
    }

    /// Who leads now.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        self.candidacy.leader().await
    }

    /// Who leads, and every change of it.
    pub fn observe(&self) -> Observe {
        self.candidacy.observe()
    }

    /// Who leads and who would, the next first, with their ids.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn participants(&self) -> Result<Standing> {
        self.candidacy.participants().await
    }
}

/// Leads until it resigns or is dropped, or until the session ends.
#[derive(Debug)]
#[must_use = "a dropped leadership is given up"]
pub struct Leadership(LockGuard);

impl Deref for Leadership {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.0
    }
}

impl Leadership {
    /// Tells those who observe something other than our id: where the leader listens, how far it
    /// is. One request. The token stays.
    ///
    /// # Errors
    /// [`Error::is_no_node`](quorate_client::Error::is_no_node) or
    /// [`Error::SessionGone`](quorate_client::Error::SessionGone) if we do not lead any more.
    ///
    /// # Cancel safety
    /// May be dropped at any time: it is told, or it is not.
    pub async fn proclaim(&self, data: impl Into<Bytes>) -> Result<()> {
        let set = self.0.client().set(self.0.path(), data);
        set.idempotent().await.map(drop)
    }

    /// Lets the next candidate lead, and waits until it may.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// As [`LockGuard::release`].
    pub async fn resign(self) -> Result<()> {
        self.0.release().await
    }
}
