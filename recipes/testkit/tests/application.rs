//! How an application is tested with the kit: an example to copy from.
//!
//! The application is a reporter: of all its processes the one that leads writes reports, each with
//! the token of its leadership, to a store that refuses older tokens.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_recipes::election::LeaderLatch;
use quorate_recipes::{Client, FencingToken};
use quorate_testkit::Kit;
use tokio::time::sleep;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

const SESSION: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

/// The store: what was written, and by whom.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Vec<(FencingToken, &'static str)>>>);

impl Store {
    /// Refuses whoever comes with a smaller token than one before.
    fn write(&self, token: FencingToken, name: &'static str) -> bool {
        let mut reports = self.0.lock();
        let is_old = reports.last().is_some_and(|(last, _)| token < *last);
        if !is_old {
            reports.push((token, name));
        }
        !is_old
    }

    fn names(&self) -> Vec<&'static str> {
        let reports = self.0.lock();
        let mut names: Vec<_> = reports.iter().map(|(_, name)| *name).collect();
        names.dedup();
        names
    }
}

/// The application: reports once a second while it leads, and stands again when it has lost.
async fn reporter(client: Client, store: Store, name: &'static str) {
    let latch = LeaderLatch::new(&client, "/reporter", name);
    loop {
        let Ok(leadership) = latch.campaign().await else {
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let report = async {
            loop {
                store.write(leadership.token(), name);
                sleep(Duration::from_secs(1)).await;
            }
        };
        let Err::<std::convert::Infallible, _>(_lost) = leadership.run(report).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_reports_when_the_leaders_session_has_ended_and_never_both() {
    let mut kit = Kit::start().await;
    let store = Store::default();
    let tasks = TaskTracker::new();
    let mut lines = Vec::new();
    let mut reporting = Vec::new();
    for name in ["one", "two"] {
        let line = kit.line().await;
        let client = line.client(SESSION).await.unwrap();
        let task = tasks.spawn(reporter(client, store.clone(), name));
        reporting.push(AbortOnDropHandle::new(task));
        kit.settle().await;
        lines.push(line);
    }
    kit.advance(MINUTE).await;
    assert_eq!(store.names(), ["one"]);
    assert_eq!(store.0.lock().len(), 61);

    // Nobody hears from the leader any more: it stops before the other begins.
    lines[0].silence();
    kit.advance(SESSION - Duration::from_secs(12)).await;
    assert_eq!(store.names(), ["one"]);
    kit.advance(MINUTE).await;
    assert_eq!(store.names(), ["one", "two"]);

    // It comes back, stands again, and leads when the other's session is ended by hand.
    lines[0].heal();
    kit.advance(MINUTE).await;
    assert_eq!(store.names(), ["one", "two"]);
    lines[1].cut();
    kit.advance(MINUTE).await;
    assert_eq!(store.names(), ["one", "two", "one"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_is_refused_by_the_store_and_stops_when_it_wakes() {
    let mut kit = Kit::start().await;
    let store = Store::default();
    let one = kit.process().await;
    let reports = store.clone();
    let mut first = one.start_running(async move |line| {
        let client = line.client(SESSION).await.unwrap();
        let latch = LeaderLatch::new(&client, "/reporter", "one");
        let leadership = latch.campaign().await.unwrap();
        assert!(reports.write(leadership.token(), "one"));
        // Does not look whether it still leads: that is what the token is for.
        sleep(Duration::from_secs(10)).await;
        let is_taken = reports.write(leadership.token(), "one, late");
        let lost = leadership.lost().await;
        (is_taken, lost.to_string())
    });
    kit.within(MINUTE, async {
        while store.names().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    one.pause().await;
    let client = kit.line().await.client(SESSION).await.unwrap();
    let latch = LeaderLatch::new(&client, "/reporter", "two");
    let leadership = kit.within(MINUTE, latch.campaign()).await;
    let leadership = leadership
        .expect("the session of one who stands still ends")
        .unwrap();
    assert!(store.write(leadership.token(), "two"));
    assert!(first.try_recv().is_err());

    one.resume();
    let (is_taken, lost) = kit.within(MINUTE, &mut first).await.unwrap().unwrap();
    assert!(
        !is_taken,
        "the store took a report of one who does not lead"
    );
    assert!(lost.contains("session"), "{lost}");
    assert_eq!(store.names(), ["one", "two"]);
}
