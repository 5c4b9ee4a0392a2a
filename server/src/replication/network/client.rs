//! Our side of Raft's requests, as openraft wants it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::codec::{Append, Reply, Request};
use super::lane::{Awaited, Lane, News, NoAnswer};
use super::snapshot;
use crate::peers::Call;
use crate::replication::snapshots::{SnapshotFile, Snapshots};
use crate::replication::types::{LogId, Types, Vote};

/// Requests of one stream that are under way.
const PIPELINE: usize = 64;
/// An append that is not acknowledged for so long costs the link. A disk may stall, but a network
/// that lost a packet for good recovers with a new connection only.
const APPEND_PATIENCE: Duration = Duration::from_secs(2);
/// The same for heartbeats and votes, which wait for no entry.
const BEAT_PATIENCE: Duration = Duration::from_secs(1);

type Rpc<T> = Result<T, RPCError<Types>>;

/// What a link carries. Entries never stand in front of heartbeats and votes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Load {
    Entries,
    Beats,
}

/// Makes the clients that openraft asks for, over links that they share.
pub(in crate::replication) struct Network {
    call: Arc<dyn Call>,
    snapshots: Arc<Snapshots>,
    lanes: HashMap<(u64, Load), Arc<Lane>>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Network {
    /// The network over `call`. Its tasks end when openraft drops it.
    pub(in crate::replication) fn new(
        call: Arc<dyn Call>,
        snapshots: Arc<Snapshots>,
        tasks: TaskTracker,
        runtime: Handle,
    ) -> Network {
        Network {
            call,
            snapshots,
            lanes: HashMap::new(),
            tasks,
            runtime,
        }
    }

    fn lane(&mut self, target: u64, load: Load) -> Arc<Lane> {
        let place = match self.lanes.entry((target, load)) {
            Place::Occupied(lane) => return lane.get().clone(),
            Place::Vacant(place) => place,
        };
        let (patience, news) = match load {
            Load::Entries => (APPEND_PATIENCE, News::Silent),
            Load::Beats => (BEAT_PATIENCE, News::Here),
        };
        let (lane, driver) = Lane::new(self.call.clone(), target, patience, news);
        self.tasks.spawn_on(driver, &self.runtime);
        place.insert(Arc::new(lane)).clone()
    }

    fn client(&mut self, target: u64, load: Load) -> Client {
        Client {
            target,
            load,
            entries: self.lane(target, load),
            beats: self.lane(target, Load::Beats),
            call: self.call.clone(),
            snapshots: self.snapshots.clone(),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Client {
        self.client(target, Load::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &BasicNode) -> Client {
        self.client(target, Load::Beats)
    }
}

/// What openraft talks to one peer through.
pub(in crate::replication) struct Client {
    target: u64,
    load: Load,
    entries: Arc<Lane>,
    beats: Arc<Lane>,
    call: Arc<dyn Call>,
    snapshots: Arc<Snapshots>,
}

impl Client {
    /// Asks over the link of heartbeats, within openraft's time.
    async fn ask(&self, request: Request, option: &RPCOption) -> Rpc<Reply> {
        let asked = async { self.beats.send(request).await.await };
        match tokio::time::timeout(option.soft_ttl(), asked).await {
            Ok(answered) => answered.map_err(no_answer),
            Err(_) => Err(network(format!(
                "node {:#x} did not answer within {:?}",
                self.target,
                option.soft_ttl()
            ))),
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Types>> {
        match self.ask(Request::Beat(rpc), &option).await? {
            Reply::Appended => Ok(AppendEntriesResponse::Success),
            Reply::Conflict => Ok(AppendEntriesResponse::Conflict),
            Reply::HigherVote(vote) => Ok(AppendEntriesResponse::HigherVote(vote)),
            other => Err(unexpected(&other)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let lane = self.entries.clone();
        let request: Box<dyn Fn(Append) -> Request + Send> = match self.load {
            Load::Entries => {
                let stream = lane.stream();
                Box::new(move |rpc| Request::Append { stream, rpc })
            }
            Load::Beats => Box::new(Request::Beat),
        };
        Box::pin(async move {
            let appends: BoxStream<'s, _> = Box::pin(Appends::new(lane, request, input));
            Ok(appends)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<Types>> {
        match self.ask(Request::Vote(rpc), &option).await? {
            Reply::Voted(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<Types>> {
        match self.ask(Request::PreVote(rpc), &option).await? {
            Reply::Voted(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let meta = snapshot.meta;
        let send = snapshot::send(
            &*self.call,
            &self.snapshots,
            self.target,
            vote,
            &meta,
            &snapshot.snapshot,
        );
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            // Never an error that is retried at once: a transfer is large.
            sent = send => sent.map(SnapshotResponse::new).map_err(|error| {
                let error = format!("snapshot to node {:#x}: {error}", self.target);
                StreamingError::Unreachable(Unreachable::from_string(error))
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<Types>> {
        match self.ask(Request::Transfer(req), &option).await? {
            Reply::Transferred(outcome) => Ok(outcome),
            other => Err(unexpected(&other)),
        }
    }
}

fn no_answer(error: NoAnswer) -> RPCError<Types> {
    match error {
        NoAnswer::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        NoAnswer::Broken { .. } => RPCError::Network(NetworkError::new(&error)),
    }
}

fn network(words: String) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(words))
}

fn unexpected(reply: &Reply) -> RPCError<Types> {
    network(format!("an answer to another question: {reply:?}"))
}

/// An append under way: what it builds upon, what it ends with, and its answer to come.
type UnderWay = (Option<LogId>, Option<LogId>, Awaited);

/// The answers to a stream of appends, in order. Polling them sends the appends: up to
/// [`PIPELINE`] are under way. An error is the last item.
struct Appends {
    sending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    sent: mpsc::Receiver<UnderWay>,
    oldest: Option<UnderWay>,
    over: bool,
}

impl Appends {
    fn new(
        lane: Arc<Lane>,
        request: Box<dyn Fn(Append) -> Request + Send>,
        mut input: impl Stream<Item = Append> + Send + Unpin + 'static,
    ) -> Appends {
        let (under_way, sent) = mpsc::channel(PIPELINE);
        let sending = async move {
            // Room first: what is taken from openraft is sent.
            while let Ok(room) = under_way.reserve().await
                && let Some(rpc) = input.next().await
            {
                let prev = rpc.prev_log_id;
                let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
                let awaited = lane.send(request(rpc)).await;
                room.send((prev, last, awaited));
            }
        };
        Appends {
            sending: Some(Box::pin(sending)),
            sent,
            oldest: None,
            over: false,
        }
    }
}

impl Stream for Appends {
    type Item = Rpc<StreamAppendResult<Types>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(sending) = &mut this.sending
            && sending.as_mut().poll(cx).is_ready()
        {
            this.sending = None;
        }
        if this.oldest.is_none() {
            this.oldest = ready!(this.sent.poll_recv(cx));
        }
        let Some((prev, last, answer)) = &mut this.oldest else {
            this.over = true;
            return Poll::Ready(None);
        };
        let answer = ready!(Pin::new(answer).poll(cx));
        let item = match (answer, *prev) {
            (Ok(Reply::Appended), _) => Ok(Ok(*last)),
            (Ok(Reply::Conflict), Some(prev)) => Ok(Err(StreamAppendError::Conflict(prev))),
            (Ok(Reply::HigherVote(vote)), _) => Ok(Err(StreamAppendError::HigherVote(vote))),
            (Ok(other), _) => Err(unexpected(&other)),
            (Err(error), _) => Err(no_answer(error)),
        };
        this.oldest = None;
        this.over = !matches!(item, Ok(Ok(_)));
        if this.over {
            this.sending = None;
        }
        Poll::Ready(Some(item))
    }
}
