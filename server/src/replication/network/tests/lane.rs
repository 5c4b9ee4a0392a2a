//! A lane against a peer that is played by hand.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::raft::VoteRequest;
use tokio::sync::mpsc;

use super::*;
use crate::peers::Link;
use crate::replication::network::codec::{self, Reply, Request};
use crate::replication::network::lane::{Lane, News, NoAnswer};
use crate::replication::types::Vote;

/// Each call takes the next of these.
struct Script(Mutex<mpsc::Receiver<io::Result<Link>>>);

impl Call for Script {
    fn call(&self, server: u8, _purpose: Purpose) -> BoxFuture<'static, io::Result<Link>> {
        assert_eq!(server, 2);
        let next = self.0.lock().try_recv();
        Box::pin(async move { next.unwrap_or_else(|_| Err(io::ErrorKind::NotFound.into())) })
    }
}

/// A lane to node 2, and where its links come from.
fn lane() -> (Arc<Lane>, mpsc::Sender<io::Result<Link>>, TaskTracker) {
    let (links, script) = mpsc::channel(8);
    let script = Arc::new(Script(Mutex::new(script)));
    let (lane, driver) = Lane::new(script, node_id(2, 1), Duration::from_secs(1), News::Silent);
    let tasks = TaskTracker::new();
    tasks.spawn(driver);
    (Arc::new(lane), links, tasks)
}

fn ask() -> Request {
    Request::Vote(VoteRequest::new(Vote::new(1, 1), None))
}

/// Reads the open frame.
async fn opened(link: &mut Link) {
    let frame = link.reader.recv().await.unwrap().unwrap();
    assert_eq!(codec::opened(frame).unwrap(), node_id(2, 1));
}

async fn heard(link: &mut Link) -> u64 {
    let frame: Bytes = link.reader.recv().await.unwrap().unwrap();
    Request::decode(frame).unwrap().0
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_requests_and_a_break_fails_those_under_way() {
    let (lane, links, _tasks) = lane();
    let (mine, mut theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let first = lane.send(ask()).await;
    let second = lane.send(ask()).await;
    opened(&mut theirs).await;
    let id = heard(&mut theirs).await;
    let answer = Reply::Conflict.encode(id);
    theirs.writer.send(&answer).await.unwrap();
    assert_eq!(first.await.unwrap(), Reply::Conflict);
    heard(&mut theirs).await;
    drop(theirs);
    assert!(matches!(second.await, Err(NoAnswer::Broken { .. })));

    let (mine, mut theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let third = lane.send(ask()).await;
    opened(&mut theirs).await;
    let id = heard(&mut theirs).await;
    let answer = Reply::Appended.encode(id);
    theirs.writer.send(&answer).await.unwrap();
    assert_eq!(third.await.unwrap(), Reply::Appended, "over a new link");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_request_breaks_the_link() {
    let (lane, links, _tasks) = lane();
    let (mine, mut theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let asked = lane.send(ask()).await;
    opened(&mut theirs).await;
    let id = heard(&mut theirs).await;
    let answer = Reply::Appended.encode(id + 1);
    theirs.writer.send(&answer).await.unwrap();
    assert!(matches!(asked.await, Err(NoAnswer::Broken { .. })));
}

/// A cut network closes nothing: only time tells.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let (lane, links, _tasks) = lane();
    let (mine, mut theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let began = tokio::time::Instant::now();
    let asked = lane.send(ask()).await;
    opened(&mut theirs).await;
    assert!(matches!(asked.await, Err(NoAnswer::Broken { .. })));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(2),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_down_is_named_and_not_called_at_once_again() {
    let (lane, links, _tasks) = lane();
    links
        .send(Err(io::ErrorKind::ConnectionRefused.into()))
        .await
        .unwrap();
    links
        .send(Err(io::ErrorKind::HostUnreachable.into()))
        .await
        .unwrap();
    for _ in 0..3 {
        let error = lane.send(ask()).await.await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = lane.send(ask()).await.await.unwrap_err();
    assert!(error.to_string().contains("unreachable"), "{error}");
}

/// What a peer does not read waits in the lane and in front of it, not in memory.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_stops_the_senders() {
    let (lane, links, _tasks) = lane();
    let (mine, theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let large = || {
        let entry = crate::replication::types::Entry {
            log_id: crate::replication::types::log_id(1, 0),
            payload: openraft::EntryPayload::Normal(Body(vec![1; 1 << 20].into())),
        };
        Request::Beat(codec::Append {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: vec![entry],
            leader_commit: None,
        })
    };
    let mut sent = Vec::new();
    let sending = async {
        for _ in 0..100 {
            sent.push(lane.send(large()).await);
        }
    };
    let waited = tokio::time::timeout(Duration::from_millis(500), sending).await;
    assert!(waited.is_err());
    assert!(sent.len() < 10, "{} went in", sent.len());
    drop(theirs);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_hears_why() {
    let (lane, links, _tasks) = lane();
    let (mine, mut theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let asked = lane.send(ask()).await;
    opened(&mut theirs).await;
    let refusal = Reply::Refused("this is node 0x3".into()).encode(0);
    theirs.writer.send(&refusal).await.unwrap();
    let error = asked.await.unwrap_err();
    assert!(error.to_string().contains("this is node 0x3"), "{error}");
}

/// Nothing runs on for a lane that nobody has.
#[tokio::test(start_paused = true)]
async fn a_dropped_lane_ends_its_task_and_link() {
    let (lane, links, tasks) = lane();
    let (mine, mut theirs) = Link::pair();
    links.send(Ok(mine)).await.unwrap();
    let asked = lane.send(ask()).await;
    opened(&mut theirs).await;
    drop((lane, asked));
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait())
        .await
        .unwrap();
}
