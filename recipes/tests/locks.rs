//! Locks exclude, hand over in order, write the names that others read, and leave nothing behind.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helper functions of tests"
)]

#[path = "support/relay.rs"]
mod relay;

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_recipes::lock::{
    Member, MultiLock, Mutex, ReentrantMutex, RwLock, Semaphore, SemaphoreMutex, Upgrade, revoke,
};
use quorate_recipes::{Client, Layout, Lost};
use quorate_server::testing::TestServer;
use relay::Relay;
use tokio_util::task::TaskTracker;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

async fn names(client: &Client, path: &str) -> Vec<String> {
    match client.children(path).await {
        Ok((mut names, _)) => {
            names.sort();
            names
        }
        Err(error) if error.is_no_node() => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Until the directory has so many children.
async fn until(client: &Client, path: &str, count: usize) {
    let wait = async {
        while names(client, path).await.len() != count {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
    assert!(waited.is_ok(), "{path}: {:?}", names(client, path).await);
}

/// The name without its protection, which must have the form that the layout asks for.
fn bare(name: &str, layout: Layout) -> &str {
    match layout {
        Layout::Kazoo => {
            let (hex, rest) = name.split_at(32);
            assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
            rest
        }
        _ => {
            let rest = name.strip_prefix("_c_").expect(name);
            let (uuid, rest) = rest.split_at(36);
            let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{name}");
            rest.strip_prefix('-').expect(name)
        }
    }
}

#[tokio::test]
async fn a_mutex_is_handed_over_in_the_order_of_arrival_with_growing_tokens() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let lock = Mutex::new(&two, "/locks/a").data("two");
    let first = Mutex::new(&one, "/locks/a")
        .data("one")
        .acquire()
        .await
        .unwrap();
    assert!(lock.try_acquire().await.unwrap().is_none());
    let tasks = TaskTracker::new();
    let second = tasks.spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    until(&one, "/locks/a", 2).await;
    one.create("/locks/a/stranger", "").await.unwrap();
    let standing = lock.contenders().await.unwrap();
    assert_eq!(standing.holding.len(), 1);
    assert_eq!(standing.holding[0].data, "one");
    assert_eq!(Some(standing.holding[0].session), one.session_id());
    assert_eq!(standing.holding[0].token, first.token());
    assert!(standing.holding[0].since_ms > 0);
    assert_eq!(standing.waiting[0].data, "two");
    assert_eq!(standing.foreign, ["stranger"]);
    assert!(!second.is_finished());
    let token = first.token();
    first.release().await.unwrap();
    let second = second.await.unwrap();
    assert!(second.token() > token);
    second.verify().await.unwrap();
    second.release().await.unwrap();
    assert_eq!(names(&one, "/locks/a").await, ["stranger"]);
}

#[tokio::test]
async fn names_and_data_are_those_that_curator_and_kazoo_read() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let number = |n: u32| format!("{n:010}");

    for (layout, tag) in [(Layout::Curator, "lock-"), (Layout::Kazoo, "__lock__")] {
        let path = format!("/mutex/{layout:?}");
        let guard = Mutex::with_layout(&client, &path, layout)
            .acquire()
            .await
            .unwrap();
        let made = names(&client, &path).await;
        assert_eq!(bare(&made[0], layout), format!("{tag}{}", number(0)));
        assert_eq!(client.get(guard.path()).await.unwrap().data, "");
    }
    for (layout, read, write) in [
        (Layout::Curator, "__READ__", "__WRIT__"),
        (Layout::Kazoo, "__rlock__", "__lock__"),
    ] {
        let path = format!("/rw/{layout:?}");
        let lock = RwLock::with_layout(&client, &path, layout);
        let reading = lock.read().await.unwrap();
        let made = names(&client, &path).await;
        assert_eq!(bare(&made[0], layout), format!("{read}{}", number(0)));
        reading.release().await.unwrap();
        let writing = lock.write().await.unwrap();
        let made = names(&client, &path).await;
        assert_eq!(bare(&made[0], layout), format!("{write}{}", number(1)));
        let token = writing.token();
        let reading = writing.downgrade().await.unwrap();
        let made = names(&client, &path).await;
        assert_eq!(made.len(), 1);
        assert_eq!(bare(&made[0], layout), format!("{read}{}", number(1)));
        assert_eq!(reading.token(), token);
    }
    let _permits = Semaphore::new(&client, "/sem/c", 2)
        .acquire(1)
        .await
        .unwrap();
    assert_eq!(names(&client, "/sem/c").await, ["leases", "locks"]);
    let made = names(&client, "/sem/c/leases").await;
    assert_eq!(
        bare(&made[0], Layout::Curator),
        format!("lease-{}", number(0))
    );

    let kazoo = Semaphore::with_layout(&client, "/sem/k", 2, Layout::Kazoo).data("me");
    let permits = kazoo.acquire(1).await.unwrap();
    assert_eq!(client.get("/sem/k").await.unwrap().data, "2");
    let made = names(&client, "/sem/k").await;
    assert_eq!(bare(&made[0], Layout::Kazoo), "");
    let lease = format!("/sem/k/{}", made[0]);
    assert_eq!(client.get(&lease).await.unwrap().data, "me");
    assert!(client.exists("/sem/k-__lock__").await.unwrap().is_some());
    let other = Semaphore::with_layout(&client, "/sem/k", 3, Layout::Kazoo);
    assert!(
        other.acquire(1).await.is_err(),
        "kazoo refuses another maximum"
    );
    permits.release().await.unwrap();
    assert_eq!(names(&client, "/sem/k").await, Vec::<String>::new());
    until(&client, "/sem/k-__lock__", 0).await;
}

#[tokio::test]
async fn an_uncontended_mutex_costs_a_create_a_list_and_a_delete() {
    let server = TestServer::start().await;
    let relay = Relay::start(server.addr()).await;
    let client = Client::connect(relay.connect_string()).await.unwrap();
    let lock = Mutex::new(&client, "/locks/cost");
    lock.acquire().await.unwrap().release().await.unwrap();
    let before = relay.requests.load(Ordering::Relaxed);
    lock.acquire().await.unwrap().release().await.unwrap();
    assert_eq!(relay.requests.load(Ordering::Relaxed) - before, 3);
    let before = relay.requests.load(Ordering::Relaxed);
    let permits = Semaphore::new(&client, "/sem/cost", 1);
    permits.acquire(1).await.unwrap().release().await.unwrap();
    let first = relay.requests.load(Ordering::Relaxed) - before;
    permits.acquire(1).await.unwrap().release().await.unwrap();
    let again = relay.requests.load(Ordering::Relaxed) - before - first;
    // Its gate is a mutex; the count's watch is taken off, as no watch may stay behind.
    assert!(again <= 7, "{again} requests");

    // A free lock takes one round trip: both requests leave before either is answered.
    let before = relay.requests.load(Ordering::Relaxed);
    relay.swallow(true);
    let taking = TaskTracker::new().spawn(async move { lock.acquire().await });
    let sent = async {
        while relay.requests.load(Ordering::Relaxed) - before < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), sent)
        .await
        .unwrap();
    relay.swallow(false);
    taking.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn readers_share_writers_do_not_and_a_waiting_writer_stops_later_readers() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let (lock, rival) = (RwLock::new(&one, "/rw"), RwLock::new(&two, "/rw"));
    let first = lock.read().await.unwrap();
    let second = rival.read().await.unwrap();
    assert!(rival.try_write().await.unwrap().is_none());
    let tasks = TaskTracker::new();
    let writer = tasks.spawn({
        let rival = rival.clone();
        async move { rival.write().await.unwrap() }
    });
    until(&one, "/rw", 3).await;
    assert!(lock.try_read().await.unwrap().is_none(), "a writer waits");
    first.release().await.unwrap();
    second.release().await.unwrap();
    let writer = writer.await.unwrap();
    assert!(lock.try_read().await.unwrap().is_none());
    let later = tasks.spawn({
        let lock = lock.clone();
        async move { lock.write().await.unwrap() }
    });
    until(&one, "/rw", 2).await;
    // The token is the writer's: the one that waits has a larger one.
    let reading = writer.downgrade().await.unwrap();
    assert!(!later.is_finished());
    let standing = lock.contenders().await.unwrap();
    assert_eq!(
        (standing.holding[0].tag, standing.waiting[0].tag),
        ("__READ__", "__WRIT__")
    );
    let token = reading.token();
    reading.release().await.unwrap();
    let later = later.await.unwrap();
    assert!(later.token() > token);
    later.release().await.unwrap();
    until(&one, "/rw", 0).await;
}

#[tokio::test]
async fn an_upgrade_succeeds_alone_and_is_refused_beside_another_reader() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let (lock, rival) = (RwLock::new(&one, "/rw"), RwLock::new(&two, "/rw"));
    let (mine, theirs) = (lock.read().await.unwrap(), rival.read().await.unwrap());
    let (mine, theirs) = tokio::join!(mine.try_upgrade(), theirs.try_upgrade());
    let Upgrade::StillReading(mine) = mine.unwrap() else {
        panic!("two read");
    };
    let Upgrade::StillReading(theirs) = theirs.unwrap() else {
        panic!("two read");
    };
    theirs.release().await.unwrap();
    let token = mine.token();
    let Upgrade::Writing(mine) = mine.try_upgrade().await.unwrap() else {
        panic!("nobody else reads");
    };
    assert_eq!(mine.token(), token);
    assert!(rival.try_read().await.unwrap().is_none());
    mine.release().await.unwrap();
    until(&one, "/rw", 0).await;
}

#[tokio::test]
async fn a_semaphore_never_gives_more_than_its_maximum_and_follows_a_shared_one() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    one.create("/max", 3_i32.to_be_bytes().to_vec())
        .await
        .unwrap();
    let permits = Semaphore::with_shared_max(&one, "/sem", "/max");
    let rival = Semaphore::with_shared_max(&two, "/sem", "/max");
    let held = permits.acquire(2).await.unwrap();
    assert_eq!(held.count(), 2);
    assert!(rival.try_acquire(2).await.unwrap().is_none());
    assert!(
        rival
            .acquire_within(2, Duration::from_millis(50))
            .await
            .unwrap()
            .is_none()
    );
    until(&one, "/sem/leases", 2).await;
    let tasks = TaskTracker::new();
    let waiter = tasks.spawn(async move { rival.acquire(2).await.unwrap() });
    until(&one, "/sem/leases", 4).await;
    assert!(!waiter.is_finished());
    one.set("/max", 4_i32.to_be_bytes().to_vec()).await.unwrap();
    let more = waiter.await.unwrap();
    assert!(permits.acquire(0).await.is_err());
    held.release().await.unwrap();
    more.release().await.unwrap();
    until(&one, "/sem/leases", 0).await;
    until(&one, "/sem/locks", 0).await;
}

#[tokio::test]
async fn many_locks_are_taken_in_one_order_and_given_back_on_failure() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let multi = |client: &Client| {
        let members: [Member; 3] = [
            SemaphoreMutex::new(client, "/m/c").into(),
            Mutex::new(client, "/m/a").into(),
            Member::Write(RwLock::new(client, "/m/b")),
        ];
        MultiLock::new(members).unwrap()
    };
    let blocker = Mutex::new(&two, "/m/a").acquire().await.unwrap();
    let given_up = multi(&one).acquire_within(Duration::from_millis(50)).await;
    assert!(given_up.unwrap().is_none());
    blocker.release().await.unwrap();
    let held = multi(&one).acquire().await.unwrap();
    assert_eq!(held.guards().count(), 3);
    held.release().await.unwrap();
    for path in ["/m/a", "/m/b", "/m/c/leases", "/m/c/locks"] {
        until(&one, path, 0).await;
    }
    let twice: [Member; 2] = [
        Mutex::new(&one, "/m/a").into(),
        Mutex::new(&two, "/m/a").into(),
    ];
    assert!(MultiLock::new(twice).is_err());
}

#[tokio::test]
async fn an_owner_takes_its_lock_again_and_the_last_guard_frees_it() {
    let server = TestServer::start().await;
    let one = client(&server).await;
    let lock = ReentrantMutex::new(Mutex::new(&one, "/re"));
    let outer = lock.acquire("job").await.unwrap();
    let inner = lock.acquire("job").await.unwrap();
    assert_eq!(outer.token(), inner.token());
    assert!(lock.mutex().try_acquire().await.unwrap().is_none());
    outer.release().await.unwrap();
    assert_eq!(names(&one, "/re").await.len(), 1);
    inner.release().await.unwrap();
    assert_eq!(names(&one, "/re").await.len(), 0);
    let other = lock.acquire("another job").await.unwrap();
    other.release().await.unwrap();
}

#[tokio::test]
async fn a_holder_hears_that_it_is_asked_to_let_go() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let guard = Mutex::new(&one, "/revocable").acquire().await.unwrap();
    let standing = Mutex::new(&two, "/revocable").contenders().await.unwrap();
    let (asked, told) = tokio::join!(
        revoke(&two, &standing.holding[0].path),
        guard.revoke_requested(),
    );
    asked.unwrap();
    told.unwrap();
    assert_eq!(two.get(guard.path()).await.unwrap().data, "__REVOKE__");
}

#[tokio::test]
async fn a_holder_learns_of_a_lost_session_and_of_a_deleted_znode() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let guard = Mutex::new(&one, "/lost").acquire().await.unwrap();
    let waiter = Mutex::new(&two, "/lost");
    let (_, lost) = tokio::join!(two.delete(guard.path()), guard.lost());
    assert_eq!(lost, Lost::Deleted);
    let guard = waiter.acquire().await.unwrap();
    let (_, lost) = tokio::join!(server.expire_session(guard.session()), guard.lost());
    assert!(
        matches!(lost, Lost::Session(_) | Lost::NotTrusted),
        "{lost}"
    );
    // A waiter hears as well, and does not wait for another connection.
    let three = client(&server).await;
    let _held = Mutex::new(&one, "/lost").acquire().await.unwrap();
    let lock = Mutex::new(&three, "/lost");
    let (waited, _) = tokio::join!(lock.acquire(), async {
        until(&one, "/lost", 2).await;
        server
            .expire_session(three.session_id().unwrap())
            .await
            .unwrap();
    });
    assert!(waited.unwrap_err().is_session_lost());
}

#[tokio::test]
async fn a_semaphore_mutex_is_held_by_one_and_stands_in_curators_two_directories() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let (lock, rival) = (
        SemaphoreMutex::new(&one, "/sm"),
        SemaphoreMutex::new(&two, "/sm"),
    );
    let held = lock.acquire().await.unwrap();
    assert_eq!(names(&one, "/sm").await, ["leases", "locks"]);
    let leases = names(&one, "/sm/leases").await;
    assert_eq!(bare(&leases[0], Layout::Curator), "lease-0000000000");
    assert!(rival.try_acquire().await.unwrap().is_none());
    let waited = rival.acquire_within(Duration::from_millis(50)).await;
    assert!(waited.unwrap().is_none());
    let standing = rival.contenders().await.unwrap();
    assert_eq!(Some(standing.holding[0].session), one.session_id());
    let token = held.token();
    let (released, next) = tokio::join!(held.release(), rival.acquire());
    released.unwrap();
    let next = next.unwrap();
    assert!(next.token() > token);
    let (_, lost) = tokio::join!(
        server.expire_session(two.session_id().unwrap()),
        next.lost()
    );
    assert!(
        matches!(lost, Lost::Session(_) | Lost::NotTrusted),
        "{lost}"
    );
    until(&one, "/sm/leases", 0).await;
    until(&one, "/sm/locks", 0).await;
}

/// go-zookeeper writes its UUID without dashes: `_c_<hex>-lock-<number>`.
#[tokio::test]
async fn a_mutex_and_a_lock_of_go_zookeeper_exclude_each_other() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let lock = Mutex::new(&one, "/go");
    lock.acquire().await.unwrap().release().await.unwrap();
    let name = format!("/go/_c_{}-lock-", "0af3".repeat(8));
    let theirs = two.create(&name, "").ephemeral().sequential();
    let theirs = theirs.await.unwrap().path;
    assert!(lock.try_acquire().await.unwrap().is_none());
    let standing = lock.contenders().await.unwrap();
    assert_eq!(standing.holding[0].path, theirs);
    assert_eq!(standing.foreign, Vec::<String>::new());
    let (deleted, guard) = tokio::join!(two.delete(&theirs), lock.acquire());
    deleted.unwrap();
    // Whoever comes behind us sees us first, as it reads what stands behind the last dash.
    let behind = two.create(&name, "").ephemeral().sequential();
    let behind = behind.await.unwrap().path;
    let number = |path: &str| -> u32 { path.rsplit('-').next().unwrap().parse().unwrap() };
    assert!(number(guard.unwrap().path()) < number(&behind));
}
