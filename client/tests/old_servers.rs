//! Watches on servers older than ours, played by the test: what they do not know, they refuse.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_client::{Client, ErrorCode, SessionId, Stat, WatcherType, Zxid};
use quorate_proto::{
    ConnectRequest, ConnectResponse, OpCode, Request, RequestHeader, Xid, frame, limits, reply,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What the server was asked, and what it refuses.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Before 3.6.
    refuses_add_watch: bool,
    /// Before 3.9.
    refuses_lasting_types: bool,
    removed: Vec<(String, WatcherType)>,
    /// Paths of each `setWatches`, and the bytes of its frame.
    resumed: Vec<(usize, usize)>,
    /// From where each went on.
    resumed_from: Vec<Zxid>,
    /// Ends the connection behind the first answer to a `setWatches`, with news in its header.
    breaks_in_between: bool,
    /// Connections that were made; a change of `cut` ends the last.
    connections: usize,
    cut: usize,
    /// Data of znodes.
    znodes: HashMap<String, &'static str>,
}

struct OldServer {
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
    _tasks: JoinSet<()>,
}

impl OldServer {
    async fn start(seen: Seen) -> OldServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(watch::Sender::new(seen));
        let shared = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                shared.send_modify(|seen| seen.connections += 1);
                let mut cuts = shared.subscribe();
                let cut = cuts.borrow_and_update().cut;
                tokio::select! {
                    () = serve(socket, &shared) => {}
                    _ = cuts.wait_for(|seen| seen.cut != cut) => {}
                }
            }
        });
        OldServer {
            address,
            seen,
            _tasks: tasks,
        }
    }

    async fn client(&self) -> Client {
        let client = Client::builder(self.address.to_string()).max_waiting(200_000);
        client.connect().await.unwrap()
    }

    async fn until(&self, is_so: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let seen = timeout(Duration::from_secs(60), seen.wait_for(is_so));
        seen.await.expect("in time").unwrap().clone()
    }
}

async fn serve(mut socket: TcpStream, seen: &watch::Sender<Seen>) {
    let mut input = BytesMut::new();
    let mut out = BytesMut::new();
    let mut is_open = false;
    loop {
        while let Some((_, len)) = frame::split(&input, usize::MAX).unwrap() {
            let whole = input.split_to(len);
            let payload = whole.get(frame::PREFIX_LEN..).unwrap();
            if is_open {
                if !answer(payload, seen, &mut out) {
                    // All that was answered, and no word more. What still comes is read: a reset
                    // would take the answer away.
                    socket.write_all(&out).await.unwrap();
                    socket.shutdown().await.unwrap();
                    let mut rest = Vec::new();
                    drop(socket.read_to_end(&mut rest).await);
                    return;
                }
                continue;
            }
            is_open = true;
            let request = ConnectRequest::decode(payload).unwrap();
            let response = ConnectResponse {
                timeout_ms: request.timeout_ms,
                session: SessionId(1),
                password: [7; 16],
                read_only: request.read_only.map(|_| false),
            };
            response.write_frame(&mut out);
        }
        if socket.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        match socket.read_buf(&mut input).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

/// Whether the connection goes on.
fn answer(payload: &[u8], seen: &watch::Sender<Seen>, out: &mut BytesMut) -> bool {
    let (header, body) = RequestHeader::decode(payload).unwrap();
    let (xid, zxid) = (header.xid, Zxid(5));
    let op = OpCode::from_code(header.op).unwrap();
    match Request::decode(op, body).unwrap() {
        Request::AddWatch { .. } if seen.borrow().refuses_add_watch => {
            reply::error(out, xid, zxid, ErrorCode::Unimplemented);
        }
        Request::AddWatch { .. } => {
            reply::frame(out, xid, zxid, 0, reply::add_watch);
        }
        Request::RemoveWatches { path, kind } => {
            let is_lasting = !matches!(
                kind,
                WatcherType::Children | WatcherType::Data | WatcherType::Any
            );
            let is_refused = is_lasting && seen.borrow().refuses_lasting_types;
            seen.send_modify(|seen| seen.removed.push((path.into_owned(), kind)));
            match is_refused {
                true => reply::error(out, xid, zxid, ErrorCode::MarshallingError),
                false => reply::empty(out, xid, zxid),
            }
        }
        Request::SetWatches(lists) => {
            let paths = lists.data.len() + lists.exist.len() + lists.child.len();
            seen.send_modify(|seen| {
                seen.resumed.push((paths, payload.len()));
                seen.resumed_from.push(lists.relative_zxid);
            });
            let news = Zxid(100);
            reply::empty(out, Xid::SET_WATCHES, news);
            if seen.borrow().breaks_in_between && seen.borrow().resumed.len() == 1 {
                return false;
            }
        }
        Request::GetData(request) => match seen.borrow().znodes.get(&*request.path) {
            Some(data) => reply::frame(out, xid, zxid, 0, |w| {
                reply::data_stat(w, Some(data.as_bytes()), &Stat::default());
            }),
            None => reply::error(out, xid, zxid, ErrorCode::NoNode),
        },
        Request::GetChildren2(_) => {
            reply::frame(out, xid, zxid, 0, |w| {
                reply::children_stat(w, [""; 0], &Stat::default());
            });
        }
        Request::Exists(_) => reply::error(out, xid, zxid, ErrorCode::NoNode),
        _ => reply::empty(out, xid, zxid),
    }
    true
}

#[tokio::test]
async fn a_server_without_lasting_watches_is_named_as_the_cause_and_caches_do_without() {
    let server = OldServer::start(Seen {
        refuses_add_watch: true,
        znodes: HashMap::from([("/a".to_owned(), "data")]),
        ..Seen::default()
    })
    .await;
    let client = server.client().await;
    let error = client.watch("/a").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Unimplemented));
    assert!(error.to_string().contains("does not know"), "{error}");
    let cache = client.tree_cache("/a").start().unwrap();
    cache.synced().await.unwrap();
    assert_eq!(cache.get("/a").unwrap().data.as_deref(), Some(&b"data"[..]));
    assert_eq!(client.watches(), 2);
}

#[tokio::test]
async fn a_lasting_watch_that_cannot_be_taken_off_by_itself_goes_with_all_at_its_path() {
    let server = OldServer::start(Seen {
        refuses_lasting_types: true,
        ..Seen::default()
    })
    .await;
    let client = server.client().await;
    drop(client.watch_recursive("/a").await.unwrap());
    let seen = server.until(|seen| seen.removed.len() == 2).await;
    assert_eq!(
        seen.removed,
        [
            ("/a".to_owned(), WatcherType::PersistentRecursive),
            ("/a".to_owned(), WatcherType::Any)
        ]
    );
}

#[tokio::test]
async fn it_stays_where_another_watch_is_needed_at_its_path() {
    let server = OldServer::start(Seen {
        refuses_lasting_types: true,
        ..Seen::default()
    })
    .await;
    let client = server.client().await;
    let (_, needed) = client.exists("/a").watch().await.unwrap();
    drop(client.watch("/a").await.unwrap());
    server.until(|seen| seen.removed.len() == 1).await;
    // Whatever the client made of the refusal has left before this is answered.
    client.exists("/b").await.unwrap();
    client.exists("/b").await.unwrap();
    assert_eq!(server.until(|_| true).await.removed.len(), 1);
    drop(needed);
    let seen = server.until(|seen| seen.removed.len() == 2).await;
    assert_eq!(seen.removed.last().unwrap().1, WatcherType::Data);
}

/// Arms watches of missing znodes.
async fn hold(client: &Client, count: usize) -> Vec<quorate_client::Watch> {
    let calls: FuturesUnordered<_> = (0..count)
        .map(|n| {
            let path = format!("/services/worker-{n:08}");
            client.exists(&path).watch()
        })
        .collect();
    let watches: Vec<_> = calls.map(|armed| armed.unwrap().1).collect().await;
    assert_eq!(client.watches(), count);
    watches
}

#[tokio::test]
async fn a_hundred_thousand_watches_are_taken_up_again_in_frames_that_every_server_reads() {
    const COUNT: usize = 100_000;
    let server = OldServer::start(Seen::default()).await;
    let client = server.client().await;
    let watches = hold(&client, COUNT).await;
    server.seen.send_modify(|seen| seen.cut += 1);
    let total = |seen: &Seen| seen.resumed.iter().map(|(paths, _)| paths).sum::<usize>();
    let seen = server.until(|seen| total(seen) >= COUNT).await;
    assert_eq!((total(&seen), seen.connections), (COUNT, 2));
    let limit = limits::FRAME_BYTES_MAX_DEFAULT;
    assert!(seen.resumed.iter().all(|(_, bytes)| *bytes < limit));
    client.exists("/").await.unwrap();
    assert_eq!(client.watches(), COUNT);
    drop(watches);
    server.until(|seen| seen.removed.len() == COUNT).await;
    client.exists("/").await.unwrap();
    assert_eq!(client.watches(), 0);
}

#[tokio::test]
async fn a_connection_that_ends_between_two_lists_makes_no_change_be_skipped() {
    let server = OldServer::start(Seen {
        breaks_in_between: true,
        ..Seen::default()
    })
    .await;
    let client = server.client().await;
    let watches = hold(&client, 10_000).await;
    server.seen.send_modify(|seen| seen.cut += 1);
    let seen = server.until(|seen| seen.connections == 3).await;
    let before = seen.resumed_from.len();
    let seen = server
        .until(|seen| seen.resumed_from.len() > before + 1)
        .await;
    // The first answer said 100, and the second list had not been looked at.
    assert_eq!(seen.resumed_from.iter().max(), Some(&Zxid(5)));
    drop(watches);
}

#[tokio::test]
#[ignore = "measures this process's memory, which the other tests share"]
async fn a_watch_takes_less_than_a_kilobyte() {
    const COUNT: usize = 100_000;
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let server = OldServer::start(Seen::default()).await;
    let client = server.client().await;
    // In small steps, so that requests on their way do not count.
    let before = resident();
    let mut watches = Vec::with_capacity(COUNT);
    for n in 0..COUNT {
        let path = format!("/services/worker-{n:08}");
        watches.push(client.exists(&path).watch().await.unwrap().1);
    }
    let each = (resident() - before) / COUNT;
    println!("{each} bytes for each watch, of a path of 25 bytes");
    assert!(each < 1024, "{each} bytes");
    drop(watches);
}
