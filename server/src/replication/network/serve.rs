//! The other side: requests of peers, handed to openraft.

use std::sync::Arc;

use bytes::BytesMut;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::raft::{StreamAppendError, StreamAppendResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::codec::{self, Append, Reply, Request};
use crate::peers::{Caller, Handler, Link, LinkReader, LinkWriter};
use crate::replication::types::{Fatal, Raft, Types};

/// Bytes of requests of one link that were read and not answered. More are not read.
const BUDGET: usize = 64 * 1024 * 1024;
/// How many such requests.
const PIPELINE: usize = 64;

/// Serves [`Purpose::Raft`](crate::peers::Purpose::Raft).
pub(in crate::replication) struct RaftHandler {
    raft: Raft,
    node: u64,
    gone: watch::Sender<Option<u64>>,
}

impl RaftHandler {
    /// Serves the requests of peers to `node`, which is this server.
    pub(in crate::replication) fn new(raft: Raft, node: u64) -> RaftHandler {
        RaftHandler {
            raft,
            node,
            gone: watch::Sender::new(None),
        }
    }

    /// Changes whenever a link from a node ends, with the node: it may have ended itself.
    #[cfg(test)]
    pub(in crate::replication) fn gone(&self) -> watch::Receiver<Option<u64>> {
        self.gone.subscribe()
    }
}

impl Handler for RaftHandler {
    fn handle(&self, caller: Caller, link: Link) -> BoxFuture<'static, ()> {
        let (raft, node, gone) = (self.raft.clone(), self.node, self.gone.clone());
        Box::pin(async move {
            let over = serve(raft, node, caller, link).await;
            tracing::debug!(peer = caller.server, over, "a link of a peer is over");
            gone.send_replace(Some(caller.node));
        })
    }
}

type Appended = Result<StreamAppendResult<Types>, Fatal>;

/// What the answering half does, in the order of the requests.
enum Turn {
    /// A stream of appends begins; the one before is at its end.
    Begin(BoxStream<'static, Appended>),
    /// The next answer of the stream belongs to this request.
    Append(u64, OwnedSemaphorePermit),
    /// This is the answer.
    Answer(BytesMut),
}

async fn serve(raft: Raft, node: u64, caller: Caller, link: Link) -> String {
    let Link {
        mut reader,
        mut writer,
    } = link;
    let opened = match reader.recv().await {
        Ok(Some(frame)) => codec::opened(frame).map_err(|error| error.to_string()),
        _ => return "before it began".into(),
    };
    let opened = opened.and_then(|meant| {
        if meant == node {
            Ok(())
        } else {
            Err(format!("this is node {node:#x}, not node {meant:#x}"))
        }
    });
    if let Err(words) = opened {
        let refusal = Reply::Refused(words.clone()).encode(0);
        // Whether it arrives or not, the link is over.
        let _ = writer.send(&refusal).await;
        return words;
    }
    let (turns, to_answer) = mpsc::channel(PIPELINE);
    let requests = Requests {
        raft,
        caller,
        turns,
        stream: None,
        budget: Arc::new(Semaphore::new(BUDGET)),
    };
    tokio::select! {
        over = requests.run(&mut reader) => over,
        over = answers(to_answer, &mut writer) => over,
    }
}

/// The reading half.
struct Requests {
    raft: Raft,
    caller: Caller,
    turns: mpsc::Sender<Turn>,
    /// The stream of appends that is open, and where it takes them.
    stream: Option<(u64, mpsc::Sender<Append>)>,
    budget: Arc<Semaphore>,
}

impl Requests {
    async fn run(mut self, reader: &mut LinkReader) -> String {
        loop {
            let frame = match reader.recv().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return "the peer closed it".into(),
                Err(error) => return error.to_string(),
            };
            let cost = u32::try_from(frame.len().min(BUDGET)).unwrap_or(u32::MAX);
            let Ok(permit) = self.budget.clone().acquire_many_owned(cost).await else {
                return "no budget".into();
            };
            let (id, request) = match Request::decode(frame) {
                Ok(request) => request,
                Err(error) => return error.to_string(),
            };
            if request.sender() != self.caller.node {
                return format!("it speaks for node {:#x}", request.sender());
            }
            if let Err(over) = self.obey(id, request, permit).await {
                return over;
            }
        }
    }

    async fn obey(
        &mut self,
        id: u64,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("openraft: {error}");
        let answer = match request {
            Request::Append { stream, rpc } => return self.append(id, stream, rpc, permit).await,
            Request::Beat(rpc) => {
                let answered = self.raft.append_entries(rpc).await;
                use openraft::raft::AppendEntriesResponse as Response;
                match answered.map_err(|error| failed(&error))? {
                    Response::Success => Reply::Appended,
                    Response::Conflict => Reply::Conflict,
                    Response::HigherVote(vote) => Reply::HigherVote(vote),
                    Response::PartialSuccess(_) => Reply::Discarded,
                }
            }
            Request::Vote(rpc) => {
                let answered = self.raft.vote(rpc).await;
                Reply::Voted(answered.map_err(|error| failed(&error))?)
            }
            Request::PreVote(rpc) => {
                let answered = self.raft.pre_vote(rpc).await;
                Reply::Voted(answered.map_err(|error| failed(&error))?)
            }
            Request::Transfer(rpc) => {
                let answered = self.raft.handle_transfer_leader(rpc).await;
                Reply::Transferred(answered.map_err(|error| failed(&error))?)
            }
        };
        self.turn(Turn::Answer(answer.encode(id))).await
    }

    async fn append(
        &mut self,
        id: u64,
        stream: u64,
        rpc: Append,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), String> {
        let appends = match &self.stream {
            Some((open, appends)) if *open == stream => appends.clone(),
            _ => {
                let (appends, taken) = mpsc::channel(1);
                let taken = futures::stream::unfold(taken, |mut taken| async {
                    let rpc = taken.recv().await?;
                    Some((rpc, taken))
                });
                let answers = self.raft.stream_append(taken);
                self.turn(Turn::Begin(answers.boxed())).await?;
                self.stream = Some((stream, appends.clone()));
                appends
            }
        };
        self.turn(Turn::Append(id, permit)).await?;
        // A stream that ended with an error takes no more, and the answer says so.
        let _ = appends.send(rpc).await;
        Ok(())
    }

    async fn turn(&self, turn: Turn) -> Result<(), String> {
        let sent = self.turns.send(turn).await;
        sent.map_err(|_| "nobody answers".to_owned())
    }
}

/// The answering half.
async fn answers(mut turns: mpsc::Receiver<Turn>, writer: &mut LinkWriter) -> String {
    let mut stream: Option<BoxStream<'static, Appended>> = None;
    loop {
        let turn = match turns.try_recv() {
            Ok(turn) => turn,
            Err(_) => {
                if let Err(error) = writer.flush().await {
                    return error.to_string();
                }
                match turns.recv().await {
                    Some(turn) => turn,
                    None => return "it was read to its end".into(),
                }
            }
        };
        let answer = match turn {
            Turn::Begin(answers) => {
                stream = Some(answers);
                continue;
            }
            Turn::Answer(answer) => answer,
            Turn::Append(id, _permit) => {
                let reply = match &mut stream {
                    Some(answers) => match next(answers, writer).await {
                        Ok(Some(Ok(Ok(_)))) => Reply::Appended,
                        Ok(Some(Ok(Err(StreamAppendError::Conflict(_))))) => Reply::Conflict,
                        Ok(Some(Ok(Err(StreamAppendError::HigherVote(vote))))) => {
                            Reply::HigherVote(vote)
                        }
                        Ok(Some(Err(fatal))) => return format!("openraft: {fatal}"),
                        Ok(None) => Reply::Discarded,
                        Err(error) => return error,
                    },
                    None => Reply::Discarded,
                };
                if reply != Reply::Appended {
                    stream = None;
                }
                reply.encode(id)
            }
        };
        if let Err(error) = writer.feed(&answer).await {
            return error.to_string();
        }
    }
}

/// The next answer of a stream. What is queued leaves before we wait for it.
async fn next(
    answers: &mut BoxStream<'static, Appended>,
    writer: &mut LinkWriter,
) -> Result<Option<Appended>, String> {
    use futures::FutureExt as _;
    if let Some(answer) = answers.next().now_or_never() {
        return Ok(answer);
    }
    writer.flush().await.map_err(|error| error.to_string())?;
    Ok(answers.next().await)
}
