//! A switchboard in place of the network: links by pipe, and the engine's messages by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkV2};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::peers::{Call, Caller, Handler, Link, Purpose};
use crate::replication::links::Links;
use crate::replication::snapshots::SnapshotFile;
use crate::replication::types::{Raft, Types, Vote, server_of};

/// All servers, and what is between them.
#[derive(Clone, Default)]
pub(in crate::replication) struct Board(Arc<Mutex<Slots>>);

#[derive(Default)]
struct Slots {
    up: BTreeMap<u8, Slot>,
    /// Pairs that do not hear each other.
    cut: BTreeSet<(u8, u8)>,
}

struct Slot {
    node: u64,
    handlers: BTreeMap<u8, Arc<dyn Handler>>,
    raft: Option<(u64, Raft)>,
    life: CancellationToken,
}

impl Board {
    /// A process begins.
    pub(super) fn boot(&self, server: u8) -> Arc<Seat> {
        let slot = Slot {
            node: 0,
            handlers: BTreeMap::new(),
            raft: None,
            life: CancellationToken::new(),
        };
        self.0.lock().up.insert(server, slot);
        Arc::new(Seat {
            board: self.clone(),
            me: server,
        })
    }

    /// A process ends: its links break, and dialling it is refused.
    pub(super) fn kill(&self, server: u8) {
        let slot = self.0.lock().up.remove(&server);
        if let Some(slot) = slot {
            slot.life.cancel();
        }
    }

    /// Two servers stop hearing each other; what was open breaks only for who asks.
    pub(super) fn cut(&self, one: u8, other: u8) {
        let cut = &mut self.0.lock().cut;
        cut.extend([(one, other), (other, one)]);
    }

    pub(super) fn heal(&self) {
        self.0.lock().cut.clear();
    }
}

/// One server's end of the board.
pub(super) struct Seat {
    board: Board,
    me: u8,
}

impl Call for Seat {
    fn call(&self, server: u8, purpose: Purpose) -> BoxFuture<'static, io::Result<Link>> {
        let slots = self.board.0.lock();
        if slots.cut.contains(&(self.me, server)) {
            return Box::pin(std::future::pending());
        }
        let (Some(from), Some(to)) = (slots.up.get(&self.me), slots.up.get(&server)) else {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        };
        let Some(handler) = to.handlers.get(&(purpose as u8)).cloned() else {
            return Box::pin(async { Err(io::ErrorKind::PermissionDenied.into()) });
        };
        let caller = Caller {
            server: self.me,
            node: from.node,
        };
        let (one, other) = Link::pair();
        let (here, there) = (from.life.clone(), to.life.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = handler.handle(caller, other) => {}
                () = here.cancelled() => {}
                () = there.cancelled() => {}
            }
        });
        Box::pin(async move { Ok(one) })
    }
}

impl Links for Seat {
    fn identify(&self, _cluster: [u8; 16], node: u64) {
        if let Some(slot) = self.board.0.lock().up.get_mut(&self.me) {
            slot.node = node;
        }
    }

    fn serve(&self, purpose: Purpose, handler: Arc<dyn Handler>) {
        if let Some(slot) = self.board.0.lock().up.get_mut(&self.me) {
            slot.handlers.insert(purpose as u8, handler);
        }
    }

    fn wires(&self) -> Option<Wires> {
        Some(Wires {
            board: self.board.clone(),
            me: self.me,
        })
    }
}

/// The engine's messages of one server.
#[derive(Clone)]
pub(in crate::replication) struct Wires {
    board: Board,
    me: u8,
}

impl Wires {
    pub(in crate::replication) fn add(&self, node: u64, raft: Raft) {
        if let Some(slot) = self.board.0.lock().up.get_mut(&self.me) {
            slot.raft = Some((node, raft));
        }
    }

    pub(in crate::replication) fn wire(&self, target: u64) -> Wire {
        Wire {
            wires: self.clone(),
            target,
        }
    }
}

/// The engine's messages to one other.
pub(in crate::replication) struct Wire {
    wires: Wires,
    target: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("not there")]
struct NotThere;

impl Wire {
    fn raft(&self) -> Result<Raft, Unreachable<Types>> {
        let slots = self.wires.board.0.lock();
        let to = server_of(self.target);
        let raft = slots.up.get(&to).and_then(|slot| slot.raft.clone());
        raft.filter(|_| slots.up.contains_key(&self.wires.me))
            .filter(|_| !slots.cut.contains(&(self.wires.me, to)))
            .filter(|(node, _)| *node == self.target)
            .map(|(_, raft)| raft)
            .ok_or_else(|| Unreachable::new(&NotThere))
    }
}

fn failed<E: std::error::Error + 'static>(error: E) -> Unreachable<Types> {
    Unreachable::new(&error)
}

impl RaftNetworkV2<Types> for Wire {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.raft()?.append_entries(rpc).await.map_err(failed)?;
        // Cut meanwhile: the answer is lost.
        self.raft()?;
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.raft()?.vote(rpc).await.map_err(failed)?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.raft()?.pre_vote(rpc).await.map_err(failed)?)
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: openraft::alias::SnapshotOf<Types, SnapshotFile>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(failed(NotThere).into())
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let raft = self.raft()?;
        Ok(raft.handle_transfer_leader(rpc).await.map_err(failed)?)
    }
}
