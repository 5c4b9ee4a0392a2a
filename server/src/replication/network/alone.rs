//! The network of a server that stands alone.
//!
//! A single voter has nobody to talk to, and openraft never asks it to. Should it do so
//! nevertheless, it hears that the peer cannot be reached, and tries again later.

use std::future::Future;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::replication::snapshots::SnapshotFile;
use crate::replication::types::{Types, Vote};

/// Makes a [`Nobody`] of every peer.
pub(in crate::replication) struct NoPeers;

/// A peer that cannot be reached.
pub(in crate::replication) struct Nobody {
    target: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("server {target:#x} cannot be reached: this server stands alone")]
struct StandsAlone {
    target: u64,
}

impl Nobody {
    fn unreachable(&self) -> Unreachable<Types> {
        Unreachable::new(&StandsAlone {
            target: self.target,
        })
    }
}

impl RaftNetworkFactory<Types> for NoPeers {
    type Network = Nobody;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Nobody {
        Nobody { target }
    }
}

impl RaftNetworkV2<Types> for Nobody {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    /// The default grants, which would let an isolated server elect itself.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: openraft::alias::SnapshotOf<Types, SnapshotFile>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(self.unreachable().into())
    }
}
