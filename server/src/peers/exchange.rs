//! `Peers`: calls servers, answers them, and hands each link to whoever serves its purpose.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hello::{Answer, BadHello, Hello, Member};
use super::net::{SharedNet, Stream};
use super::{Call, Caller, Handler, Link, Purpose, tcp};
use crate::config::{Ensemble, PeerAddress};

/// How long a call may take, dialling and greeting together. A lost first packet is sent again
/// after a second.
const CALL_MAX: Duration = Duration::from_millis(2500);
/// How long a caller may take for its greeting.
const HELLO_MAX: Duration = Duration::from_secs(3);
/// Callers that greet at the same time. More are closed: they call again.
const GREETING_MAX: usize = 128;
/// Links of one peer and purpose. One more takes the place of the oldest, which is most likely
/// left over from a machine or a way that is gone.
const LINKS_MAX: usize = 16;

/// The links of this server with the others of its configuration.
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    my_id: u8,
    book: BTreeMap<u8, Vec<PeerAddress>>,
    listen_everywhere: bool,
    net: SharedNet,
    runtime: Handle,
    member: Mutex<Option<Member>>,
    handlers: Mutex<HashMap<Purpose, Arc<dyn Handler>>>,
    greeting: Semaphore,
    links: Mutex<Links>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What ends the links that are being served, by peer and purpose, oldest first.
#[derive(Default)]
struct Links {
    next: u64,
    open: HashMap<(u8, Purpose), VecDeque<(u64, CancellationToken)>>,
}

impl Peers {
    /// The peers of server `my_id`. Everything runs on `runtime`.
    pub(crate) fn new(my_id: u8, ensemble: &Ensemble, net: SharedNet, runtime: Handle) -> Peers {
        let lines = ensemble.servers.iter();
        Peers {
            inner: Arc::new(Inner {
                my_id,
                book: lines
                    .map(|line| (line.id, line.addresses.clone()))
                    .collect(),
                listen_everywhere: ensemble.listen_everywhere,
                net,
                runtime,
                member: Mutex::new(None),
                handlers: Mutex::default(),
                greeting: Semaphore::new(GREETING_MAX),
                links: Mutex::default(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// From now on links of this purpose go to `handler`; before, they are refused.
    pub(crate) fn serve(&self, purpose: Purpose, handler: Arc<dyn Handler>) {
        self.inner.handlers.lock().insert(purpose, handler);
    }

    /// This server belongs to an ensemble now. Before, only links for [`Purpose::Boot`] are made.
    pub(crate) fn become_member(&self, cluster: [u8; 16], node: u64) {
        *self.inner.member.lock() = Some(Member { cluster, node });
    }

    /// Listens on all addresses of this server, but not where the listener for clients at
    /// `clients` hears the peers as well and hands them to [`Peers::adopt`].
    ///
    /// # Errors
    /// An address cannot be bound; the message names it.
    pub(crate) async fn listen(&self, clients: Option<SocketAddr>) -> io::Result<()> {
        let inner = &self.inner;
        let everywhere = inner.listen_everywhere;
        let mut ports = Vec::new();
        for at in inner.book.get(&inner.my_id).into_iter().flatten() {
            if let Some(clients) = clients
                && tcp::shares_port(at, everywhere, clients).await
            {
                tracing::info!(port = at.quorum_port, "clients and peers share a port");
                continue;
            }
            if everywhere && ports.contains(&at.quorum_port) {
                continue;
            }
            ports.push(at.quorum_port);
            let calls = inner.net.listen(at, everywhere).await?;
            let accepting = inner.clone().accept(calls);
            inner.tasks.spawn_on(accepting, &inner.runtime);
        }
        Ok(())
    }

    /// Takes over a connection that began as a link between servers does; `read` was read of it.
    pub(crate) fn adopt(&self, stream: Stream, read: BytesMut) {
        self.inner.clone().answer(stream, read);
    }

    /// As [`Peers::adopt`], for a connection that another runtime accepted.
    pub(crate) fn adopt_tcp(&self, stream: std::net::TcpStream, read: BytesMut) {
        let adopted = {
            let _here = self.inner.runtime.enter();
            TcpStream::from_std(stream).and_then(|stream| tcp::tune(&stream).map(|()| stream))
        };
        match adopted {
            Ok(stream) => self.adopt(Box::new(stream), read),
            Err(error) => tracing::warn!(%error, "a peer cannot be taken over"),
        }
    }

    /// Ends all links, and waits for their handlers.
    pub(crate) async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

impl Call for Peers {
    fn call(&self, server: u8, purpose: Purpose) -> BoxFuture<'static, io::Result<Link>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let call = tokio::time::timeout(CALL_MAX, inner.call(server, purpose));
            tokio::select! {
                called = call => called.unwrap_or_else(|_| {
                    let (host, waited) = (inner.whereabouts(server), CALL_MAX.as_millis());
                    Err(error(
                        io::ErrorKind::TimedOut,
                        format!("{host} does not answer within {waited} ms"),
                    ))
                }),
                () = inner.stop.cancelled() => {
                    Err(error(io::ErrorKind::Interrupted, "this server stops".into()))
                }
            }
        })
    }
}

impl Inner {
    async fn call(&self, server: u8, purpose: Purpose) -> io::Result<Link> {
        let member = *self.member.lock();
        if member.is_none() && purpose != Purpose::Boot {
            return Err(error(
                io::ErrorKind::NotConnected,
                "this server is no member of an ensemble yet".into(),
            ));
        }
        let mut stream = self.dial(server).await?;
        let hello = Hello {
            purpose,
            from: self.my_id,
            to: server,
            member,
        };
        let answer = hello.say(&mut stream).await?;
        if let Some(words) = answer.refused {
            return Err(error(
                io::ErrorKind::PermissionDenied,
                format!("server {server} refused: {words}"),
            ));
        }
        if answer.from != server {
            return Err(error(
                io::ErrorKind::InvalidData,
                format!(
                    "server {} answered in place of server {server}",
                    answer.from
                ),
            ));
        }
        if let (Some(mine), Some(theirs)) = (member, answer.member)
            && mine.cluster != theirs.cluster
        {
            return Err(error(
                io::ErrorKind::InvalidData,
                format!("server {server} belongs to another ensemble"),
            ));
        }
        Ok(Link::new(stream, BytesMut::new()))
    }

    /// Dials all addresses of a server at once; the first that answers is taken.
    async fn dial(&self, server: u8) -> io::Result<Stream> {
        let Some(addresses) = self.book.get(&server) else {
            return Err(error(
                io::ErrorKind::NotFound,
                format!("server {server} is not in the configuration of this server"),
            ));
        };
        let dial = |at| self.net.dial(at);
        let mut dials: FuturesUnordered<_> = addresses.iter().map(dial).collect();
        let mut errors = Vec::new();
        while let Some(dialled) = dials.next().await {
            match dialled {
                Ok(stream) => return Ok(stream),
                Err(error) => errors.push(error),
            }
        }
        let host = self.whereabouts(server);
        let worst = tcp::worst(errors, &host);
        Err(error(worst.kind(), format!("{host}: {worst}")))
    }

    /// A server and where it is dialled, for messages.
    fn whereabouts(&self, server: u8) -> String {
        let addresses = self.book.get(&server).into_iter().flatten();
        let addresses: Vec<String> = addresses
            .map(|at| format!("{}:{}", at.host, at.quorum_port))
            .collect();
        format!("server {server} at {}", addresses.join(" or "))
    }

    async fn accept(self: Arc<Self>, mut calls: BoxStream<'static, io::Result<Stream>>) {
        loop {
            let call = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                call = calls.next() => call,
            };
            match call {
                Some(Ok(stream)) => self.clone().answer(stream, BytesMut::new()),
                Some(Err(error)) => tracing::warn!(%error, "cannot accept a peer"),
                None => return,
            }
        }
    }

    fn answer(self: Arc<Self>, stream: Stream, read: BytesMut) {
        if self.stop.is_cancelled() {
            return;
        }
        let (tasks, runtime) = (self.tasks.clone(), self.runtime.clone());
        tasks.spawn_on(
            async move {
                let stop = self.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.greet_and_serve(stream, read) => {}
                }
            },
            &runtime,
        );
    }

    async fn greet_and_serve(self: Arc<Self>, stream: Stream, read: BytesMut) {
        let greeted = {
            let Ok(_place) = self.greeting.try_acquire() else {
                tracing::warn!("too many peers greet at once: one is closed");
                return;
            };
            tokio::time::timeout(HELLO_MAX, self.greet(stream, read)).await
        };
        let Ok(Some((hello, handler, link))) = greeted else {
            return;
        };
        let caller = Caller {
            server: hello.from,
            node: hello.member.map_or(0, |member| member.node),
        };
        let (id, evicted) = self.enter(caller.server, hello.purpose);
        tokio::select! {
            () = evicted.cancelled() => {}
            () = handler.handle(caller, link) => {}
        }
        self.leave(caller.server, hello.purpose, id);
    }

    /// From the first byte to a link, or to a refusal.
    async fn greet(
        &self,
        mut stream: Stream,
        mut read: BytesMut,
    ) -> Option<(Hello, Arc<dyn Handler>, Link)> {
        let hello = Hello::read(&mut stream, &mut read).await.ok()?;
        let member = *self.member.lock();
        let judged = match hello {
            Err(BadHello::Foreign) => return None,
            Err(bad) => Err(bad.to_string()),
            Ok(hello) => self.judge(&hello, member).map(|handler| (hello, handler)),
        };
        let answer = Answer {
            from: self.my_id,
            member,
            refused: judged.as_ref().err().cloned(),
        };
        answer.say(&mut stream).await.ok()?;
        match judged {
            Ok((hello, handler)) => Some((hello, handler, Link::new(stream, read))),
            Err(words) => {
                tracing::warn!(reason = words, "a peer was refused");
                // Closing with bytes unread would take the words away from it.
                let _ = stream.shutdown().await;
                let mut rest = stream.take(4096);
                let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
                None
            }
        }
    }

    /// Whether this caller may have this link, and who serves it.
    fn judge(&self, hello: &Hello, member: Option<Member>) -> Result<Arc<dyn Handler>, String> {
        let (me, from) = (self.my_id, hello.from);
        if hello.to != me {
            return Err(format!(
                "this is server {me}, not server {}: the addresses of the server lines are mixed up",
                hello.to
            ));
        }
        if from == me {
            return Err(format!("there are two servers with number {me}"));
        }
        if !self.book.contains_key(&from) {
            return Err(format!(
                "server {from} is not in the configuration of server {me}"
            ));
        }
        if let Some(theirs) = hello.member
            && theirs.node >> 32 != u64::from(from)
        {
            return Err(format!(
                "server {from} shows the id of server {}",
                theirs.node >> 32
            ));
        }
        match (member, hello.member) {
            (Some(mine), Some(theirs)) if mine.cluster != theirs.cluster => {
                return Err(format!("server {me} belongs to another ensemble"));
            }
            (Some(_), Some(_)) => {}
            _ if hello.purpose == Purpose::Boot => {}
            (None, _) => return Err(format!("server {me} is no member of an ensemble yet")),
            (_, None) => return Err(format!("server {from} is no member of an ensemble yet")),
        }
        let handlers = self.handlers.lock();
        let handler = handlers.get(&hello.purpose).cloned();
        handler.ok_or_else(|| format!("server {me} is starting: not ready for {:?}", hello.purpose))
    }

    /// Takes note of a new link; what ends it.
    fn enter(&self, server: u8, purpose: Purpose) -> (u64, CancellationToken) {
        let mut links = self.links.lock();
        links.next += 1;
        let (id, evicted) = (links.next, self.stop.child_token());
        let open = links.open.entry((server, purpose)).or_default();
        open.push_back((id, evicted.clone()));
        if open.len() > LINKS_MAX
            && let Some((_, oldest)) = open.pop_front()
        {
            tracing::debug!(
                peer = server,
                ?purpose,
                "the oldest of too many links is closed"
            );
            oldest.cancel();
        }
        (id, evicted)
    }

    fn leave(&self, server: u8, purpose: Purpose, id: u64) {
        let mut links = self.links.lock();
        if let Some(open) = links.open.get_mut(&(server, purpose)) {
            open.retain(|link| link.0 != id);
            if open.is_empty() {
                links.open.remove(&(server, purpose));
            }
        }
    }
}

fn error(kind: io::ErrorKind, message: String) -> io::Error {
    io::Error::new(kind, message)
}
