//! The selector: a body that runs while we lead.

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use quorate_client::{Client, Result};
use tokio::sync::Notify;

use super::candidacy::Candidacy;
use super::observe::go_on_after;
use super::{Leader, Observe};
use crate::contention::Standing;
use crate::lock::LockGuard;
use crate::lost::Lost;
use crate::naming::Layout;

/// An election whose leader does something while it leads, and queues again when it has led.
///
/// | | |
/// | --- | --- |
/// | guarantee | one body at a time over all processes, as far as bodies stop at an `.await`: a body is stopped before the next leads |
/// | what can go wrong | a body that does not come to an `.await`: compare [tokens](LockGuard::token) |
/// | znodes | `<path>/_c_<uuid>-lock-<number>`, ephemeral, with the candidate's id: those of a [`Mutex`](crate::lock::Mutex), which it excludes |
/// | cost | as a mutex, plus one read and one watch while it leads |
/// | Curator, kazoo | `LeaderSelector`; `Election` with [`Layout::Kazoo`] |
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use quorate_recipes::{Client, election::LeaderSelector};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let selector = LeaderSelector::new(&client, "/leader", "host-7");
/// let reports = selector
///     .lead(|term| async move {
///         // ... what only one may do; each term has a larger token ...
///         println!("term {}", term.token());
///         ControlFlow::Break(1) // or `Continue`: let others lead, and queue again
///     })
///     .await?;
/// # let _: i32 = reports;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LeaderSelector {
    candidacy: Candidacy,
    steps_down: Arc<Notify>,
}

/// A time of leading. It is over when the body ends, whoever still has a clone of this.
#[derive(Clone, Debug)]
pub struct Term(Arc<LockGuard>);

impl Deref for Term {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.0
    }
}

impl LeaderSelector {
    /// A candidate of this id, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, id: impl Into<Bytes>) -> LeaderSelector {
        LeaderSelector::with_layout(client, path, id, Layout::Curator)
    }

    /// A candidate of this id, in the layout of its rivals.
    #[must_use]
    pub fn with_layout(
        client: &Client,
        path: &str,
        id: impl Into<Bytes>,
        layout: Layout,
    ) -> LeaderSelector {
        LeaderSelector {
            candidacy: Candidacy::new(client, path, id, layout, "lock-"),
            steps_down: Arc::default(),
        }
    }

    /// Runs `body` whenever this candidate leads, until it answers [`ControlFlow::Break`].
    ///
    /// With [`ControlFlow::Continue`] it queues again behind all others. When leadership is lost
    /// the body is dropped at its `.await`, before another leads, and the candidate queues again:
    /// in the next session, if the client
    /// [opens new ones](quorate_client::ClientBuilder::new_session_on_loss). The body runs in the
    /// task that awaits this, so a second one cannot start before the first is gone; what the body
    /// spawns is its own to stop.
    ///
    /// # Errors
    /// [`Error::SessionGone`](quorate_client::Error::SessionGone) when the client is closed, or its
    /// session is lost and it opens no other; others if our znode cannot be made.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the body is dropped, and the leadership or the candidacy given
    /// up in the background.
    pub async fn lead<T, Body, Running>(&self, mut body: Body) -> Result<T>
    where
        Body: FnMut(Term) -> Running,
        Running: Future<Output = ControlFlow<T>>,
    {
        loop {
            let guard = match self.candidacy.win(&AtomicBool::new(false)).await {
                Ok(guard) => Released(Arc::new(guard)),
                Err(error) => {
                    go_on_after(&self.candidacy.contention, error).await?;
                    continue;
                }
            };
            let steps_down = self.steps_down.notified();
            let term = Term(Arc::clone(&guard.0));
            let done = reign(guard.0.lost(), steps_down, || body(term)).await;
            // The body is gone by now. After a loss nobody need wait for the znode to go.
            match done {
                None => drop(guard),
                Some(flow) => {
                    // An unknown outcome is settled in the background.
                    drop(guard.0.resign().await);
                    if let ControlFlow::Break(result) = flow {
                        return Ok(result);
                    }
                }
            }
        }
    }

    /// Ends the body that runs now in this handle or its clones, if one does: others may lead, and
    /// this candidate queues again.
    ///
    /// Source: Curator `interruptLeadership`.
    pub fn step_down(&self) {
        self.steps_down.notify_waiters();
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

/// Runs a body until it is done, or stepped down from, or leadership is lost: `None`. What is lost
/// by now is lost before the body is even called.
async fn reign<T, Running>(
    lost: impl Future<Output = Lost>,
    steps_down: impl Future<Output = ()>,
    body: impl FnOnce() -> Running,
) -> Option<ControlFlow<T>>
where
    Running: Future<Output = ControlFlow<T>>,
{
    // Called no sooner than it is polled, which is after `lost` has been.
    let running = async { body().await };
    tokio::select! {
        biased;
        _lost = lost => None,
        () = steps_down => Some(ControlFlow::Continue(())),
        done = running => Some(done),
    }
}

/// Gives the leadership up when it is dropped, whoever still has a term.
struct Released(Arc<LockGuard>);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn no_body_begins_once_leadership_is_lost_or_stepped_down_from() {
        let mut begun = 0;
        let mut body = || {
            begun += 1;
            ready(ControlFlow::Break(()))
        };
        let lost = reign(ready(Lost::NotTrusted), pending(), &mut body).await;
        assert_eq!(lost, None);
        let stepped_down = reign(pending(), ready(()), &mut body).await;
        assert_eq!(stepped_down, Some(ControlFlow::Continue(())));
        assert_eq!(begun, 0);
    }
}
