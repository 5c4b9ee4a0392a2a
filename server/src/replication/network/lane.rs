//! One link to one peer, made when it is needed and again when it breaks, for requests that are
//! answered in order.
//!
//! The link belongs to a task of its own: whoever gives up waiting breaks no frame. Requests that
//! were under way when the link broke fail; none is sent twice. A peer that answers nothing is
//! given up after a while, so that no request waits for ever.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::codec::{self, Reply, Request};
use crate::peers::{Call, Link, LinkReader, LinkWriter, Purpose};

/// Requests that wait to be written. Few: they are whole batches of entries.
const QUEUE: usize = 4;
/// After a call that failed, the next is made no sooner: a peer that is down is not called a
/// thousand times a second.
const HOLD: Duration = Duration::from_millis(50);
/// A link without a request for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Why a request has no answer. It may have been obeyed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The peer cannot be reached.
    #[error("node {target:#x} cannot be reached: {cause}")]
    Unreachable { target: u64, cause: Arc<str> },
    /// The link broke.
    #[error("the link to node {target:#x} broke: {cause}")]
    Broken { target: u64, cause: Arc<str> },
}

type Answer = oneshot::Sender<Result<Reply, NoAnswer>>;

/// The way to a peer. Ends, with its task and link, when dropped.
pub(super) struct Lane {
    target: u64,
    requests: mpsc::Sender<(BytesMut, Answer)>,
    streams: AtomicU64,
}

/// An answer to come.
pub(super) struct Awaited {
    target: u64,
    answer: oneshot::Receiver<Result<Reply, NoAnswer>>,
}

impl Lane {
    /// A lane to `target`, and the task that drives it. A request that is not answered within
    /// `patience` costs the link. `news` says who tells of a peer that is away.
    pub(super) fn new(
        call: Arc<dyn Call>,
        target: u64,
        patience: Duration,
        news: News,
    ) -> (Lane, impl Future<Output = ()> + Send + 'static) {
        let (requests, waiting) = mpsc::channel(QUEUE);
        let driver = Driver {
            call,
            target,
            patience,
            waiting,
            next: 1,
            news,
        };
        let lane = Lane {
            target,
            requests,
            streams: AtomicU64::new(1),
        };
        (lane, driver.run())
    }

    /// A number for a stream of requests.
    pub(super) fn stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request as soon as there is room in front of it.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the request is sent, or it is not.
    pub(super) async fn send(&self, request: Request) -> Awaited {
        let (answer, awaited) = oneshot::channel();
        // If it fails the answer is dropped, and the waiter learns of it.
        let _ = self.requests.send((request.encode(), answer)).await;
        Awaited {
            target: self.target,
            answer: awaited,
        }
    }
}

impl Future for Awaited {
    type Output = Result<Reply, NoAnswer>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let target = self.target;
        std::pin::Pin::new(&mut self.answer)
            .poll(cx)
            .map(|answered| {
                answered.unwrap_or_else(|_| {
                    Err(NoAnswer::Broken {
                        target,
                        cause: "it ended".into(),
                    })
                })
            })
    }
}

/// Requests that were written and have no answer yet, oldest first.
type Pending = Mutex<VecDeque<(u64, Answer)>>;

struct Driver {
    call: Arc<dyn Call>,
    target: u64,
    patience: Duration,
    waiting: mpsc::Receiver<(BytesMut, Answer)>,
    next: u64,
    news: News,
}

/// Whether the operator hears when the peer goes away and comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// It does: the peer is there as far as was told.
    Here,
    /// It was told that the peer is away.
    Away,
    /// Another lane to the same peer tells.
    Silent,
}

impl News {
    /// A call came to this end: one line for each change, not one for each call.
    fn tell(&mut self, peer: u64, failed: Option<&io::Error>) {
        match (*self, failed) {
            // This server is about to end: nothing is known of the peer.
            (_, Some(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            (News::Here, Some(error)) => {
                *self = News::Away;
                tracing::warn!(
                    peer, %error,
                    "a server of the ensemble is away: see that it runs, and that its server \
                     line is right; it is called until it answers"
                );
            }
            (News::Away, None) => {
                *self = News::Here;
                tracing::info!(peer, "a server of the ensemble is back");
            }
            (News::Here, None) | (News::Away, Some(_)) | (News::Silent, _) => {}
        }
    }
}

impl Driver {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            if first.1.is_closed() {
                continue;
            }
            let opened = self.open().await;
            self.news.tell(self.target >> 32, opened.as_ref().err());
            match opened {
                Ok(link) => {
                    let cause = self.drive(link, first).await;
                    tracing::debug!(
                        target = format_args!("{:#x}", self.target),
                        cause,
                        "link over"
                    );
                    let error = NoAnswer::Broken {
                        target: self.target,
                        cause: cause.into(),
                    };
                    // They would arrive behind a gap.
                    while let Ok((_, answer)) = self.waiting.try_recv() {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
                Err(error) => {
                    let error = NoAnswer::Unreachable {
                        target: self.target,
                        cause: error.to_string().into(),
                    };
                    let _ = first.1.send(Err(error.clone()));
                    self.hold(&error).await;
                }
            }
        }
    }

    /// Fails whatever comes, for a moment.
    async fn hold(&mut self, error: &NoAnswer) {
        let held = async {
            while let Some((_, answer)) = self.waiting.recv().await {
                let _ = answer.send(Err(error.clone()));
            }
        };
        let _ = timeout(HOLD, held).await;
    }

    async fn open(&self) -> io::Result<Link> {
        let server = u8::try_from(self.target >> 32).map_err(io::Error::other)?;
        let mut link = self.call.call(server, Purpose::Raft).await?;
        link.writer.feed(&codec::open(self.target)).await?;
        Ok(link)
    }

    /// Serves requests over a link until it ends; why it did.
    async fn drive(&mut self, link: Link, first: (BytesMut, Answer)) -> String {
        let Link {
            mut reader,
            mut writer,
        } = link;
        let pending = Pending::default();
        let patience = self.patience;
        let ended = tokio::select! {
            ended = self.write(&mut writer, &pending, first) => ended,
            ended = read(&mut reader, &pending) => ended,
            ended = watch(&pending, patience) => ended,
        };
        let cause = match ended {
            Ok(cause) => cause.to_owned(),
            Err(error) => error.to_string(),
        };
        let error = NoAnswer::Broken {
            target: self.target,
            cause: cause.as_str().into(),
        };
        for (_, answer) in pending.into_inner() {
            let _ = answer.send(Err(error.clone()));
        }
        cause
    }

    async fn write(
        &mut self,
        writer: &mut LinkWriter,
        pending: &Pending,
        first: (BytesMut, Answer),
    ) -> io::Result<&'static str> {
        let mut request = Some(first);
        loop {
            let (mut frame, answer) = match request.take() {
                Some(request) => request,
                None => match self.waiting.try_recv() {
                    Ok(request) => request,
                    Err(_) => {
                        writer.flush().await?;
                        match timeout(IDLE, self.waiting.recv()).await {
                            Ok(Some(request)) => request,
                            Ok(None) => return Ok("nobody needs it any more"),
                            Err(_) if pending.lock().is_empty() => return Ok("it was idle"),
                            Err(_) => continue,
                        }
                    }
                },
            };
            if answer.is_closed() {
                continue;
            }
            codec::set_id(&mut frame, self.next);
            pending.lock().push_back((self.next, answer));
            self.next += 1;
            writer.feed(&frame).await?;
        }
    }
}

async fn read(reader: &mut LinkReader, pending: &Pending) -> io::Result<&'static str> {
    let invalid = |error: codec::Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    while let Some(frame) = reader.recv().await? {
        let (id, reply) = Reply::decode(frame).map_err(invalid)?;
        if let Reply::Refused(words) = reply {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        let oldest = pending.lock().pop_front();
        match oldest {
            Some((asked, answer)) if asked == id => {
                // Who gave up waiting does not mind.
                let _ = answer.send(Ok(reply));
            }
            _ => {
                return Err(invalid(codec::Malformed::Nonsense(
                    "an answer out of order",
                )));
            }
        }
    }
    Ok("the peer closed it")
}

/// Returns when the oldest request was not answered for too long.
async fn watch(pending: &Pending, patience: Duration) -> io::Result<&'static str> {
    let oldest = || pending.lock().front().map(|oldest| oldest.0);
    let mut seen = oldest();
    let mut times = 0;
    loop {
        tokio::time::sleep(patience / 4).await;
        let now = oldest();
        if now.is_none() || now != seen {
            (seen, times) = (now, 0);
            continue;
        }
        times += 1;
        if times == 4 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not answer",
            ));
        }
    }
}
