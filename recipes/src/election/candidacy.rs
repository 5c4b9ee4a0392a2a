//! What the latch and the selector share: a candidate's directory, its id, and who else is there.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use quorate_client::{Client, Result};

use super::{Leader, Observe};
use crate::contention::{Contender, Contention, Listing, Standing};
use crate::lock::LockGuard;
use crate::lock::mutex::predecessor;
use crate::naming::{Layout, Naming};

/// A candidate of one id in one directory.
#[derive(Clone, Debug)]
pub(super) struct Candidacy {
    pub(super) contention: Contention,
    id: Bytes,
}

impl Candidacy {
    /// `curators` is the tag of the names in Curator's layout; kazoo has one for all elections.
    pub(super) fn new(
        client: &Client,
        path: &str,
        id: impl Into<Bytes>,
        layout: Layout,
        curators: &'static str,
    ) -> Candidacy {
        let naming = match layout {
            Layout::Curator => Naming::new(layout, curators, &[]),
            Layout::Kazoo => Naming::new(layout, "__lock__", &[]),
        };
        Candidacy {
            contention: Contention::new(client, path, naming),
            id: id.into(),
        }
    }

    /// Queues, and waits until this candidate leads; notes when it has a place.
    pub(super) async fn win(&self, has_entered: &AtomicBool) -> Result<LockGuard> {
        let (contender, listing) = self.contention.enter_and_list(self.id.clone()).await?;
        has_entered.store(true, Ordering::Relaxed);
        lead_in_turn(contender, Some(listing)).await
    }

    /// As [`win`](Candidacy::win), for a candidate that this session has queued before, if it has.
    pub(super) async fn resume(&self) -> Result<Option<LockGuard>> {
        match self.contention.resume().await? {
            Some(contender) => lead_in_turn(contender, None).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn leader(&self) -> Result<Option<Leader>> {
        super::observe::leader(&self.contention).await
    }

    pub(super) fn observe(&self) -> Observe {
        Observe::new(self.contention.clone())
    }

    pub(super) async fn participants(&self) -> Result<Standing> {
        self.contention.standing(predecessor).await
    }
}

async fn lead_in_turn(contender: Contender, listing: Option<Listing>) -> Result<LockGuard> {
    contender.wait_from(listing, predecessor).await?;
    LockGuard::claim(contender).await
}
