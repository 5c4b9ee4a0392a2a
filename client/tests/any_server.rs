//! The client's own promises, kept by any server that speaks the protocol.
//!
//! Without settings a server runs in this process. Other servers are named by the environment:
//!
//! - `QUORATE_TEST_SERVER`: its connect string. Each test works below a chroot of its own.
//! - `QUORATE_TEST_LACKS`: what it does not know, by operation and separated by blanks, such as
//!   `addWatch whoAmI`. The tests then want the refusal, and what takes the operation's place.
//! - `QUORATE_TEST_SASL`: `user:password` of one whom it knows by DIGEST-MD5.
//! - `QUORATE_TEST_TLS`: `host:port` where it speaks TLS, and `QUORATE_TEST_TLS_FILES`, the
//!   directory with `ca.pem`, `client.pem` and `client.key`.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod support;

use std::fmt::Debug;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures::{Stream, StreamExt};
use quorate_client::{
    Acl, Client, ClientBuilder, CreateOp, CreatorAllAcl, Credential, Error, ErrorCode, EventType,
    Gzip, Id, Notice, OpResult, Perms, ReadResult, Reason, SessionInfo, SessionState,
};
use quorate_server::testing::TestServer;
use support::proxy::Proxy;
use support::{builder, soon, state_is, status_is};

/// A server and a chroot on it that nobody else uses.
struct Place {
    servers: String,
    root: String,
    _server: Option<TestServer>,
}

impl Place {
    async fn new() -> Place {
        let (servers, server) = match std::env::var("QUORATE_TEST_SERVER") {
            Ok(servers) => (servers, None),
            Err(_) => {
                let server = TestServer::builder()
                    .config(|config| {
                        config.container_check_interval = Duration::from_millis(100);
                    })
                    .start()
                    .await;
                (server.connect_string(), Some(server))
            }
        };
        let root = format!("/test-{:016x}", rand::random::<u64>());
        let client = Client::connect(&*servers).await.unwrap();
        client.create(&root, "").await.unwrap();
        client.close().await.unwrap();
        Place {
            servers,
            root,
            _server: server,
        }
    }

    fn builder(&self) -> ClientBuilder {
        builder(&format!("{}{}", self.servers, self.root))
    }

    async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    fn addr(&self) -> SocketAddr {
        let first = self.servers.split(',').next().unwrap();
        first.to_socket_addrs().unwrap().next().unwrap()
    }

    /// A proxy in front of the server, and a client behind it.
    async fn behind_proxy(&self) -> (Proxy, Client) {
        let proxy = Proxy::start(self.addr()).await;
        let servers = format!("{}{}", proxy.connect_string(), self.root);
        // Long enough that a cut connection is no lost session, however slow the machine.
        let client = builder(&servers)
            .session_timeout(Duration::from_secs(20))
            .connect()
            .await
            .unwrap();
        (proxy, client)
    }

    /// Ends a session as a stranger may who has its password. The owner is not asked.
    async fn end(&self, session: SessionInfo) {
        let other = self.builder().resume(session).connect().await.unwrap();
        other.close().await.unwrap();
    }
}

async fn start() -> (Place, Client) {
    let place = Place::new().await;
    let client = place.client().await;
    (place, client)
}

fn lacks(operation: &str) -> bool {
    let lacks = std::env::var("QUORATE_TEST_LACKS").unwrap_or_default();
    lacks.split_whitespace().any(|lack| lack == operation)
}

/// The result, unless the server is known to lack the operation: then its refusal was seen.
fn known<T: Debug>(operation: &str, result: Result<T, Error>) -> Option<T> {
    match lacks(operation) {
        false => Some(result.unwrap()),
        true => {
            let error = result.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::Unimplemented), "{error}");
            None
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    soon(stream.next()).await.expect("the stream goes on")
}

/// The next events of a lasting watch, as kinds and paths.
async fn events<S: Stream<Item = Notice> + Unpin>(
    stream: &mut S,
    count: usize,
) -> Vec<(EventType, String)> {
    let mut events = Vec::new();
    while events.len() < count {
        match next(stream).await {
            Notice::Event(event) => events.push((event.kind, event.path)),
            other => panic!("{other:?} after {events:?}"),
        }
    }
    events
}

#[tokio::test]
async fn what_is_created_can_be_read_changed_and_deleted() {
    let (_place, client) = start().await;
    let created = client.create("/a", "one").await.unwrap();
    assert_eq!(created.path, "/a");
    let node = client.get("/a").await.unwrap();
    assert_eq!(node.text(), Ok("one"));
    assert_eq!(node.stat, created.stat);
    let stat = client.set("/a", "two").version(0).await.unwrap();
    assert_eq!((stat.version, stat.data_length), (1, 3));
    assert!(
        client
            .set("/a", "x")
            .version(0)
            .await
            .unwrap_err()
            .is_bad_version()
    );
    assert_eq!(client.exists("/a").await.unwrap(), Some(stat));
    assert!(client.create("/a", "").await.unwrap_err().is_node_exists());
    client.create("/a/b", "").await.unwrap();
    let (names, stat) = client.children("/a").await.unwrap();
    assert_eq!((names, stat.num_children), (vec!["b".to_owned()], 1));
    assert!(client.delete("/a").await.unwrap_err().is_not_empty());
    assert!(client.create("/x/y", "").await.unwrap_err().is_no_node());
    assert!(
        client
            .delete("/a/b")
            .version(7)
            .await
            .unwrap_err()
            .is_bad_version()
    );
    client.delete("/a/b").version(0).await.unwrap();
    client.delete("/a").await.unwrap();
    assert_eq!(client.exists("/a").await.unwrap(), None);
    client.sync("/a").await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn whole_subtrees_are_made_and_deleted() {
    let (_place, client) = start().await;
    client.create("/a/b/c/d", "x").parents().await.unwrap();
    client.ensure_path("/a/b/e/f").await.unwrap();
    client.ensure_containers("/a/g").await.unwrap();
    if let Some(count) = known("getAllChildrenNumber", client.count_descendants("/a").await) {
        assert_eq!(count, 6);
    }
    client.delete_recursive("/a").await.unwrap();
    assert_eq!(client.exists("/a").await.unwrap(), None);
}

#[tokio::test]
async fn data_and_requests_may_be_large_up_to_the_limit() {
    let (_place, client) = start().await;
    let large = vec![7_u8; 1_000_000];
    client.create("/large", large.clone()).await.unwrap();
    assert_eq!(client.get("/large").await.unwrap().data, large);
    let error = client.set("/large", vec![7_u8; 1 << 20]).await.unwrap_err();
    assert!(matches!(error, Error::BadArgument { .. }), "{error}");
    client.create("/empty", "").await.unwrap();
    assert!(client.get("/empty").await.unwrap().data.is_empty());
    let text = "zip ".repeat(1000);
    client
        .create("/packed", text.clone())
        .compressed(Gzip)
        .await
        .unwrap();
    assert!(client.get("/packed").await.unwrap().data.len() < 200);
    let node = client.get("/packed").decompressed(Gzip).await.unwrap();
    assert_eq!(node.text(), Ok(text.as_str()));
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_carried_out_in_the_order_of_the_calls() {
    let (_place, client) = start().await;
    client.create("/a", "").await.unwrap();
    let calls: Vec<_> = (0..1000)
        .map(|n| client.set("/a", n.to_string()).send())
        .collect();
    for (n, call) in calls.into_iter().enumerate().rev() {
        assert_eq!(
            soon(call).await.unwrap().version,
            i32::try_from(n).unwrap() + 1
        );
    }
    assert_eq!(client.get("/a").await.unwrap().text(), Ok("999"));
}

#[tokio::test]
async fn sequential_znodes_are_numbered_and_ephemerals_go_with_the_session() {
    let (place, client) = start().await;
    for n in 0..3 {
        let created = client.create("/s-", "").sequential().await.unwrap();
        assert_eq!(created.path, format!("/s-{n:010}"));
    }
    let member = client
        .create("/members/m-", "")
        .ephemeral()
        .sequential()
        .protected()
        .container_parents()
        .await
        .unwrap();
    assert!(member.path.starts_with("/members/_c_"), "{}", member.path);
    let session = client.session_id().unwrap();
    assert_eq!(member.stat.ephemeral_owner, session.0);
    if let Some(mine) = known("getEphemerals", client.ephemerals("/").await) {
        assert_eq!(mine, [member.path.as_str()]);
    }
    let error = client
        .create(format!("{}/x", member.path), "")
        .await
        .unwrap_err();
    assert_eq!(
        error.code(),
        Some(ErrorCode::NoChildrenForEphemerals),
        "{error}"
    );
    let other = place.client().await;
    let (stat, gone) = other.exists(&member.path).watch().await.unwrap();
    assert!(stat.is_some());
    client.close().await.unwrap();
    assert_eq!(soon(gone).await.unwrap().kind, EventType::NodeDeleted);
}

#[tokio::test]
async fn containers_and_ttl_znodes_go_when_they_are_empty() {
    let (_place, client) = start().await;
    client.create("/c", "").container().await.unwrap();
    client.create("/c/child", "").await.unwrap();
    let (_, container_gone) = client.exists("/c").watch().await.unwrap();
    let ttl = Duration::from_millis(50);
    let made = client.create("/t", "").ttl(ttl).await;
    let ttl_gone = match known("createTTL", made) {
        Some(_) => Some(client.exists("/t").watch().await.unwrap()),
        None => None,
    };
    client.delete("/c/child").await.unwrap();
    soon(container_gone).await.unwrap();
    if let Some((Some(_), gone)) = ttl_gone {
        soon(gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_multi_happens_as_a_whole_or_not_at_all() {
    let (_place, client) = start().await;
    client.create("/old", "").await.unwrap();
    let results = client
        .multi()
        .create("/new", "1")
        .set("/new", "2")
        .check("/new", 1)
        .delete("/old")
        .create_with(CreateOp::new("/s-", "").ephemeral().sequential())
        .await
        .unwrap();
    let [
        OpResult::Created(created),
        OpResult::Set(stat),
        OpResult::Checked,
        OpResult::Deleted,
        OpResult::Created(last),
    ] = &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!((created.path.as_str(), stat.version), ("/new", 1));
    assert!(last.path.starts_with("/s-0"), "{}", last.path);
    let error = client
        .multi()
        .create("/b", "")
        .delete_version("/missing", 3)
        .create("/c", "")
        .await
        .unwrap_err();
    assert_eq!(error.failed_op(), Some(1));
    assert_eq!(
        (error.code(), error.path()),
        (Some(ErrorCode::NoNode), "/missing")
    );
    assert_eq!(client.exists("/b").await.unwrap(), None);
    let read = client
        .read_multi()
        .get("/new")
        .children("/")
        .get("/missing")
        .await;
    if let Some(read) = known("multiRead", read) {
        assert!(matches!(&read[0], Ok(ReadResult::Node(node)) if node.text() == Ok("2")));
        assert!(matches!(&read[1], Ok(ReadResult::Children(names)) if names.len() == 2));
        assert!(read[2].as_ref().unwrap_err().is_no_node());
    }
}

#[tokio::test]
async fn an_acl_is_read_and_replaced_and_kept() {
    let (_place, client) = start().await;
    client.create("/a", "").await.unwrap();
    let (acl, stat) = client.get_acl("/a").await.unwrap();
    assert_eq!((acl, stat.aversion), (Acl::open_unsafe(), 0));
    let stat = client
        .set_acl("/a", Acl::read_unsafe())
        .version(0)
        .await
        .unwrap();
    assert_eq!(stat.aversion, 1);
    let error = client.set("/a", "x").await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    let error = client.create("/b", "").acl(Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidAcl));
}

#[tokio::test]
async fn a_digest_is_shown_on_every_connection() {
    let place = Place::new().await;
    let proxy = Proxy::start(place.addr()).await;
    let owner = builder(&format!("{}{}", proxy.connect_string(), place.root))
        .session_timeout(Duration::from_secs(20))
        .digest("bob", "secret")
        .acl_provider(CreatorAllAcl)
        .connect()
        .await
        .unwrap();
    owner.create("/mine", "x").await.unwrap();
    owner
        .add_auth(Credential::digest("eve", "apple"))
        .await
        .unwrap();
    if let Some(who) = known("whoAmI", owner.who_am_i().await) {
        for user in ["bob", "eve"] {
            assert!(
                who.iter()
                    .any(|id| id.scheme == "digest" && id.user == user),
                "{who:?}"
            );
        }
    }
    proxy.cut();
    status_is(&owner, |status| status.state != SessionState::Connected).await;
    assert_eq!(owner.get("/mine").await.unwrap().text(), Ok("x"));
    let stranger = place.client().await;
    let error = stranger.get("/mine").await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
}

#[tokio::test]
async fn paths_and_events_are_told_below_the_chroot() {
    let (place, client) = start().await;
    let whole = builder(&place.servers).connect().await.unwrap();
    client.create("/app/x", "1").parents().await.unwrap();
    let app = client.chroot("/app").unwrap();
    assert_eq!(app.get("/x").await.unwrap().text(), Ok("1"));
    assert_eq!(app.children("/").await.unwrap().0, ["x"]);
    let full = format!("{}/app/x", place.root);
    assert_eq!(whole.get(&full).await.unwrap().text(), Ok("1"));
    let (_, watch) = app.get("/x").watch().await.unwrap();
    whole.set(&full, "2").await.unwrap();
    assert_eq!(soon(watch).await.unwrap().path, "/x");
    let error = app.get("/y").await.unwrap_err();
    assert_eq!(error.path(), "/y");
}

#[tokio::test]
async fn a_one_shot_watch_tells_of_the_next_change() {
    let (_place, client) = start().await;
    let (stat, created) = client.exists("/a").watch().await.unwrap();
    assert_eq!(stat, None);
    let (_, _, children) = client.children("/").watch().await.unwrap();
    client.create("/a", "").await.unwrap();
    assert_eq!(soon(created).await.unwrap().kind, EventType::NodeCreated);
    let event = soon(children).await.unwrap();
    assert_eq!(
        (event.kind, event.path.as_str()),
        (EventType::NodeChildrenChanged, "/")
    );
    let (_, changed) = client.get("/a").watch().await.unwrap();
    let (_, also_changed) = client.exists("/a").watch().await.unwrap();
    client.set("/a", "1").await.unwrap();
    for watch in [changed, also_changed] {
        assert_eq!(soon(watch).await.unwrap().kind, EventType::NodeDataChanged);
    }
    let (_, deleted) = client.get("/a").watch().await.unwrap();
    let (_, _, parent_deleted) = client.children("/a").watch().await.unwrap();
    client.delete("/a").await.unwrap();
    assert_eq!(soon(deleted).await.unwrap().kind, EventType::NodeDeleted);
    assert_eq!(
        soon(parent_deleted).await.unwrap().kind,
        EventType::NodeDeleted
    );
}

#[tokio::test]
async fn a_dropped_watch_is_taken_off_the_server() {
    let (_place, client) = start().await;
    client.create("/a", "").await.unwrap();
    let (_, watch) = client.get("/a").watch().await.unwrap();
    let (_, kept) = client.get("/a").watch().await.unwrap();
    drop(watch);
    client.set("/a", "1").await.unwrap();
    soon(kept).await.unwrap();
    let (_, watch) = client.get("/a").watch().await.unwrap();
    drop(watch);
    // The removal leaves with this, and its answer comes before.
    client.sync("/").await.unwrap();
    client.sync("/").await.unwrap();
    assert_eq!(client.watches(), 0);
    client.set("/a", "2").await.unwrap();
    assert_eq!(client.state(), SessionState::Connected);
}

#[tokio::test]
async fn a_persistent_watch_tells_of_every_change() {
    let (_place, client) = start().await;
    let Some(mut stream) = known("addWatch", client.watch("/a").await) else {
        // The connection has survived the unknown operation.
        assert_eq!(client.exists("/a").await.unwrap(), None);
        return;
    };
    for value in ["1", "2"] {
        client.create("/a", value).await.unwrap();
        client.set("/a", "x").await.unwrap();
        client.create("/a/b", "").await.unwrap();
        client.delete("/a/b").await.unwrap();
        client.delete("/a").await.unwrap();
        use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
        let kinds = [
            NodeCreated,
            NodeDataChanged,
            NodeChildrenChanged,
            NodeChildrenChanged,
            NodeDeleted,
        ];
        let expected = kinds.map(|kind| (kind, "/a".to_owned()));
        assert_eq!(events(&mut stream, 5).await, expected);
    }
}

#[tokio::test]
async fn a_recursive_watch_tells_of_all_below_it() {
    let (_place, client) = start().await;
    let Some(mut stream) = known("addWatch", client.watch_recursive("/a").await) else {
        return;
    };
    client.create("/a/b/c", "").parents().await.unwrap();
    client.set("/a/b", "x").await.unwrap();
    client.delete("/a/b/c").await.unwrap();
    let told = events(&mut stream, 5).await;
    let expected = [
        (EventType::NodeCreated, "/a"),
        (EventType::NodeCreated, "/a/b"),
        (EventType::NodeCreated, "/a/b/c"),
        (EventType::NodeDataChanged, "/a/b"),
        (EventType::NodeDeleted, "/a/b/c"),
    ];
    assert_eq!(told, expected.map(|(kind, path)| (kind, path.to_owned())));
    drop(stream);
    client.sync("/").await.unwrap();
    client.sync("/").await.unwrap();
    assert_eq!(client.watches(), 0);
}

#[tokio::test]
async fn followers_need_no_lasting_watches() {
    let (_place, client) = start().await;
    let mut states = client.follow("/a");
    assert_eq!(next(&mut states).await, Ok(None));
    client.create("/a", "0").await.unwrap();
    assert_eq!(next(&mut states).await.unwrap().unwrap().text(), Ok("0"));
    for n in 1..=10 {
        client.set("/a", n.to_string()).await.unwrap();
    }
    // The latest wins; those between may be seen.
    while next(&mut states).await.unwrap().unwrap().text() != Ok("10") {}
    let mut children = client.follow_children("/a");
    assert!(next(&mut children).await.unwrap().unwrap().names.is_empty());
    client.create("/a/b", "").await.unwrap();
    assert_eq!(next(&mut children).await.unwrap().unwrap().names, ["b"]);
    client.delete_recursive("/a").await.unwrap();
    assert_eq!(next(&mut states).await, Ok(None));
    while next(&mut children).await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_cut_connection_keeps_the_session_its_ephemerals_and_its_watches() {
    let place = Place::new().await;
    let (proxy, client) = place.behind_proxy().await;
    let other = place.client().await;
    client.create("/e", "").ephemeral().await.unwrap();
    client.create("/a", "0").await.unwrap();
    let session = client.session_id();
    let (_, unchanged) = client.get("/e").watch().await.unwrap();
    let (_, missed) = client.get("/a").watch().await.unwrap();
    let (_, missing) = client.exists("/new").watch().await.unwrap();
    let lasting = known("addWatch", client.watch_recursive("/").await);
    let mut followed = client.follow("/a");
    assert_eq!(next(&mut followed).await.unwrap().unwrap().text(), Ok("0"));
    // While nobody is connected, and nobody can.
    proxy.set(support::proxy::Weather {
        refuses: true,
        ..Default::default()
    });
    proxy.cut();
    state_is(&client, SessionState::Suspended).await;
    let waiting = client.set("/waits", "").send();
    other.set("/a", "1").await.unwrap();
    other.create("/new", "").await.unwrap();
    other.create("/waits", "").await.unwrap();
    proxy.set(support::proxy::Weather::default());
    soon(client.connected()).await.unwrap();
    assert_eq!(client.session_id(), session);
    assert_eq!(soon(missed).await.unwrap().kind, EventType::NodeDataChanged);
    assert_eq!(soon(missing).await.unwrap().kind, EventType::NodeCreated);
    assert_eq!(next(&mut followed).await.unwrap().unwrap().text(), Ok("1"));
    assert_eq!(soon(waiting).await.unwrap().version, 1);
    if let Some(mut lasting) = lasting {
        assert!(matches!(next(&mut lasting).await, Notice::Gap { .. }));
        other.set("/new", "x").await.unwrap();
        while !matches!(&next(&mut lasting).await, Notice::Event(event) if event.path == "/new") {}
    }
    assert!(client.exists("/e").await.unwrap().is_some());
    other.delete("/e").await.unwrap();
    assert_eq!(soon(unchanged).await.unwrap().kind, EventType::NodeDeleted);
}

#[tokio::test]
async fn thousands_of_watches_are_taken_up_again_after_a_cut() {
    let place = Place::new().await;
    let (proxy, client) = place.behind_proxy().await;
    // More path text than fits into one frame.
    let name = "x".repeat(200);
    let paths: Vec<_> = (0..6000).map(|n| format!("/{n:05}-{name}")).collect();
    let calls: Vec<_> = paths
        .iter()
        .map(|path| client.exists(path).watch())
        .collect();
    let mut watches = Vec::new();
    for call in calls {
        watches.push(soon(call).await.unwrap().1);
    }
    proxy.cut();
    status_is(&client, |status| status.state != SessionState::Connected).await;
    soon(client.connected()).await.unwrap();
    for index in [5999, 3000, 0] {
        client.create(&paths[index], "").await.unwrap();
        let event = soon(watches.remove(index)).await.unwrap();
        assert_eq!(
            (event.kind, &event.path),
            (EventType::NodeCreated, &paths[index])
        );
    }
    assert_eq!(client.watches(), 5997);
}

#[tokio::test]
async fn a_session_that_is_ended_elsewhere_is_lost_and_everybody_is_told() {
    let (place, client) = start().await;
    client.create("/e", "").ephemeral().await.unwrap();
    let (_, watch) = client.get("/e").watch().await.unwrap();
    let lasting = known("addWatch", client.watch("/e").await);
    let lost = client.clone();
    let lost = tokio::spawn(async move { lost.lost().await });
    place.end(client.session_info().unwrap()).await;
    let reason = soon(lost).await.unwrap();
    assert!(matches!(reason, Reason::SessionExpired(_)), "{reason}");
    assert_eq!(client.trusted_until(), None);
    let error = match soon(watch).await {
        Err(error) => error,
        // Told of the deletion before the connection went.
        Ok(event) => {
            assert_eq!(event.kind, EventType::NodeDeleted);
            client.get("/e").await.unwrap_err()
        }
    };
    assert!(error.is_session_lost(), "{error}");
    if let Some(mut lasting) = lasting {
        while !matches!(next(&mut lasting).await, Notice::Lost(_)) {}
        assert_eq!(lasting.next().await, None);
    }
    let error = client.create("/e2", "").await.unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    assert_eq!(place.client().await.exists("/e").await.unwrap(), None);
}

#[tokio::test]
async fn a_new_session_follows_a_lost_one_where_it_is_wanted() {
    let place = Place::new().await;
    let client = place
        .builder()
        .new_session_on_loss(true)
        .connect()
        .await
        .unwrap();
    client.create("/a", "0").await.unwrap();
    let mut followed = client.follow("/a");
    assert_eq!(next(&mut followed).await.unwrap().unwrap().text(), Ok("0"));
    let pinned = client.pinned();
    let first = client.session_info().unwrap();
    place.end(first).await;
    soon(pinned.lost()).await;
    status_is(&client, |status| {
        status.generation > 1 && status.state.is_connected()
    })
    .await;
    assert_ne!(client.session_id(), Some(first.id));
    client.set("/a", "1").await.unwrap();
    assert_eq!(next(&mut followed).await.unwrap().unwrap().text(), Ok("1"));
    assert!(pinned.get("/a").await.unwrap_err().is_session_lost());
}

#[tokio::test]
async fn a_session_is_taken_up_by_whoever_has_its_password() {
    let (place, client) = start().await;
    client.create("/e", "").ephemeral().await.unwrap();
    let session = client.detach().unwrap();
    let heir = place.builder().resume(session).connect().await.unwrap();
    assert_eq!(heir.session_id(), Some(session.id));
    assert_eq!(
        heir.exists("/e").await.unwrap().unwrap().ephemeral_owner,
        session.id.0
    );
    heir.close().await.unwrap();
    let error = place.builder().resume(session).connect().await.unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    let mut wrong = session;
    wrong.password = [1; 16];
    let error = place.builder().resume(wrong).connect().await.unwrap_err();
    assert!(error.is_session_lost(), "{error}");
}

#[tokio::test]
async fn trust_is_held_while_a_quorum_answers() {
    let (_place, client) = start().await;
    let lease = client.hold_trust();
    let first = client.trusted_until().unwrap();
    // Proven again without a call of ours.
    let mut now = first;
    let mut status = client.status();
    let later = async {
        while now <= first {
            drop(tokio::time::timeout(Duration::from_millis(20), status.changed()).await);
            now = client.trusted_until().unwrap();
        }
    };
    soon(later).await;
    drop(lease);
    assert_eq!(client.state(), SessionState::Connected);
}

#[tokio::test]
async fn the_ensembles_configuration_can_be_read() {
    let place = Place::new().await;
    let client = Client::connect(&*place.servers).await.unwrap();
    let config = client.config().await.unwrap();
    println!("{config:?}");
}

#[tokio::test]
async fn sasl_is_spoken_before_anything_else() {
    let Ok(user) = std::env::var("QUORATE_TEST_SASL") else {
        eprintln!("left out: QUORATE_TEST_SASL names nobody");
        return;
    };
    let (user, password) = user.split_once(':').unwrap();
    let place = Place::new().await;
    let proxy = Proxy::start(place.addr()).await;
    let owner = builder(&format!("{}{}", proxy.connect_string(), place.root))
        .session_timeout(Duration::from_secs(20))
        .sasl_digest_md5(user, password)
        .connect()
        .await
        .unwrap();
    let only_mine = vec![Acl {
        perms: Perms::ALL,
        id: Id::new("sasl", user),
    }];
    owner.create("/mine", "x").acl(only_mine).await.unwrap();
    assert_eq!(owner.get("/mine").await.unwrap().text(), Ok("x"));
    proxy.cut();
    status_is(&owner, |status| status.state != SessionState::Connected).await;
    assert_eq!(owner.get("/mine").await.unwrap().text(), Ok("x"));
    let stranger = place.client().await;
    assert!(matches!(
        stranger.get("/mine").await.unwrap_err(),
        Error::NotAllowed { .. }
    ));
    let wrong = place
        .builder()
        .sasl_digest_md5(user, "wrong")
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(wrong.reason(), Reason::AuthFailed(_)), "{wrong}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_spoken_and_both_sides_show_who_they_are() {
    let Ok(secure) = std::env::var("QUORATE_TEST_TLS") else {
        eprintln!("left out: QUORATE_TEST_TLS names no address");
        return;
    };
    let place = Place::new().await;
    let files = std::path::PathBuf::from(std::env::var("QUORATE_TEST_TLS_FILES").unwrap());
    let trusting = || quorate_client::TlsOptions::new().ca_file(files.join("ca.pem"));
    let shown = || trusting().client_files(files.join("client.pem"), files.join("client.key"));
    let to = secure.to_socket_addrs().unwrap().next().unwrap();
    let proxy = Proxy::start(to).await;
    let servers = format!("{}{}", proxy.connect_string(), place.root);
    let client = builder(&servers)
        .session_timeout(Duration::from_secs(20))
        .tls(shown())
        .connect()
        .await
        .unwrap();
    let large = vec![7_u8; 1_000_000];
    client.create("/a", large.clone()).await.unwrap();
    let (node, watch) = client.get("/a").watch().await.unwrap();
    assert_eq!(node.data, large);
    proxy.cut();
    status_is(&client, |status| status.state != SessionState::Connected).await;
    place.client().await.set("/a", "x").await.unwrap();
    assert_eq!(soon(watch).await.unwrap().kind, EventType::NodeDataChanged);
    if known("whoAmI", client.who_am_i().await)
        .is_some_and(|who| !who.iter().any(|id| id.scheme == "x509"))
    {
        panic!("the certificate counts for nothing");
    }
    let nameless = builder(&secure)
        .connect_timeout(Duration::from_secs(1))
        .tls(trusting())
        .connect()
        .await;
    assert!(nameless.is_err());
    let plain = builder(&secure)
        .connect_timeout(Duration::from_secs(1))
        .connect()
        .await;
    assert!(plain.is_err());
}
