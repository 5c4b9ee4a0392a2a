//! The queue alone, without an engine behind it.

use std::borrow::Cow;

use futures::FutureExt as _;
use quorate_proto::{SessionId, Version};

use super::guests::Unwelcome;
use super::*;
use crate::tree::CallerBuf;
use crate::tree::txn::{Op, Origin, Txn};

fn push(queue: &ProposeQueue, seq: u64, bytes: usize) -> Result<(), Refused> {
    let caller = CallerBuf::new(&[], false);
    let data = vec![7; bytes];
    queue.push(&Proposal {
        origin: Origin {
            session: SessionId(1),
            attach: 1,
            seq,
        },
        caller: caller.as_caller(),
        txn: Txn::Op(Op::SetData {
            path: "/a".into(),
            data: Some(Cow::Owned(data)),
            version: Version::ANY,
            enforce_quota: false,
        }),
    })
}

fn next(queue: &ProposeQueue) -> Next {
    queue.next(queue.way(), |count| Header {
        wall_ms: 5,
        count,
        applied: None,
    })
}

/// Takes the next entry out: its flight, and the numbers of its requests.
fn sent(queue: &ProposeQueue) -> Option<(u64, Vec<u64>, usize)> {
    let (flight, body) = match next(queue) {
        Next::Send { flight, body } | Next::Resend { flight, body } => (flight, body),
        Next::Frame { .. } | Next::Turn | Next::Sleep | Next::End => return None,
    };
    let (header, mut rest) = Header::split(0, &body).unwrap();
    let seqs: Vec<u64> = (0..header.count)
        .map(|_| Proposal::decode(&mut rest).unwrap().origin.seq)
        .collect();
    assert!(rest.is_empty());
    Some((flight, seqs, body.len()))
}

#[test]
fn what_waits_leaves_as_one_entry_in_order() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    for seq in 1..=5 {
        push(&queue, seq, 10).unwrap();
    }
    let (_, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert!(sent(&queue).is_none());
}

#[test]
fn an_entry_holds_a_thousand_requests_at_most() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    for seq in 1..=2500 {
        push(&queue, seq, 10).unwrap();
    }
    let lens: Vec<usize> = (0..3).map(|_| sent(&queue).unwrap().1.len()).collect();
    assert_eq!(lens, [1000, 1000, 500]);
}

#[test]
fn a_request_over_the_limit_of_an_entry_travels_alone() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    push(&queue, 1, 10).unwrap();
    push(&queue, 2, 2 * ENTRY_BYTES_MAX).unwrap();
    push(&queue, 3, 10).unwrap();
    let entries: Vec<_> = (0..3).map(|_| sent(&queue).unwrap().1).collect();
    assert_eq!(entries, [vec![1], vec![2], vec![3]]);
}

#[test]
fn entries_stay_below_their_size_when_requests_do() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    for seq in 1..=40 {
        push(&queue, seq, 100_000).unwrap();
    }
    let mut seqs = Vec::new();
    while let Some((flight, entry, len)) = sent(&queue) {
        assert!(len <= ENTRY_BYTES_MAX, "{len}");
        seqs.extend(entry);
        queue.landed(flight, Landing::Applied);
    }
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    assert_eq!(queue.held_bytes(), 0, "all bytes were given back");
}

#[test]
fn a_full_queue_refuses_until_something_landed() {
    let queue = ProposeQueue::new(10_000);
    push(&queue, 1, 6_000).unwrap();
    let refused = push(&queue, 2, 6_000).unwrap_err();
    assert!(matches!(refused, Refused::Full { limit: 10_000, .. }));
    let (flight, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [1], "nothing of the refused one is left");
    assert!(push(&queue, 2, 6_000).is_err(), "what flies counts too");
    queue.landed(flight, Landing::Applied);
    push(&queue, 2, 6_000).unwrap();
}

/// The log refuses an entry that is too large, and openraft takes that for a broken disk.
#[test]
fn a_request_that_no_entry_can_hold_is_refused_and_leaves_nothing_behind() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX).with_request_limit(10_000);
    push(&queue, 1, 6_000).unwrap();
    let refused = push(&queue, 2, 12_000).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { limit: 10_000, .. }));
    push(&queue, 2, 6_000).unwrap();
    assert_eq!(sent(&queue).unwrap().1, [1, 2]);
}

#[test]
fn only_so_many_entries_fly() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    let mut flights = Vec::new();
    for seq in 0.. {
        push(&queue, seq, 1).unwrap();
        match sent(&queue) {
            Some((flight, ..)) => flights.push(flight),
            None => break,
        }
    }
    assert_eq!(flights.len(), FLIGHTS_MAX);
    queue.landed(flights[0], Landing::Applied);
    assert!(sent(&queue).is_some());
}

/// Entries fly together; the engine refuses the first and takes the second, then it is back.
#[test]
fn refused_entries_leave_again_first_and_in_order() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    let flights: Vec<u64> = (1..=3)
        .map(|seq| {
            push(&queue, seq, 1).unwrap();
            sent(&queue).unwrap().0
        })
        .collect();
    push(&queue, 4, 1).unwrap();
    queue.landed(flights[0], Landing::Refused);
    assert!(sent(&queue).is_none(), "the others have not landed");
    queue.landed(flights[1], Landing::Applied);
    queue.landed(flights[2], Landing::Refused);
    let again = sent(&queue).unwrap();
    assert_eq!((again.0, again.1), (flights[0], vec![1]));
    assert!(sent(&queue).is_none(), "one at a time");
    queue.landed(flights[0], Landing::Refused);
    let again = sent(&queue).unwrap();
    assert_eq!(again.1, [1]);
    queue.landed(flights[0], Landing::Applied);
    let again = sent(&queue).unwrap();
    assert_eq!(again.1, [3]);
    queue.landed(flights[2], Landing::Applied);
    assert_eq!(sent(&queue).unwrap().1, [4]);
}

#[test]
fn a_closed_queue_lets_out_what_waits_and_ends() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    push(&queue, 1, 1).unwrap();
    queue.close(Unavailable::Stopping);
    assert_eq!(
        push(&queue, 2, 1),
        Err(Refused::Unavailable(Unavailable::Stopping))
    );
    let (flight, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [1]);
    assert!(matches!(next(&queue), Next::Sleep));
    queue.landed(flight, Landing::Applied);
    assert!(matches!(next(&queue), Next::End));
}

#[test]
fn a_lost_entry_ends_everything() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    push(&queue, 1, 1).unwrap();
    let (flight, ..) = sent(&queue).unwrap();
    push(&queue, 2, 1).unwrap();
    queue.landed(flight, Landing::Lost);
    assert!(matches!(next(&queue), Next::End));
    assert!(push(&queue, 3, 1).is_err());
    assert_eq!(queue.held_bytes(), 0);
}

/// The ring of recent entries counts bytes, so an entry must not keep much more alive.
#[test]
fn small_entries_stand_side_by_side_in_one_block() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    let mut bodies = Vec::new();
    for seq in 1..=3 {
        push(&queue, seq, 10).unwrap();
        match next(&queue) {
            Next::Send { body, .. } => bodies.push(body),
            other => panic!("{other:?}"),
        }
    }
    for pair in bodies.windows(2) {
        assert_eq!(pair[0].as_ptr_range().end, pair[1].as_ptr());
    }
}

fn is_woken(queue: &ProposeQueue) -> bool {
    queue.wake().now_or_never().is_some()
}

#[test]
fn while_pushes_are_gathered_the_first_one_does_not_wake_the_batcher() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    let gathering = Gathering::begin(&queue);
    assert!(matches!(next(&queue), Next::Sleep));
    push(&queue, 1, 10).unwrap();
    push(&queue, 2, 10).unwrap();
    assert!(queue.gather.notified().now_or_never().is_some());
    assert!(!is_woken(&queue));
    drop(gathering);
    assert!(is_woken(&queue), "whoever gathered has ended");
    let (_, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [1, 2]);
    assert!(sent(&queue).is_none());
    push(&queue, 3, 10).unwrap();
    assert!(is_woken(&queue));
}

/// At the end nobody may be left to pass it on.
#[test]
fn closing_wakes_the_batcher_though_pushes_are_gathered() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    let _gathering = Gathering::begin(&queue);
    assert!(matches!(next(&queue), Next::Sleep));
    push(&queue, 1, 10).unwrap();
    queue.close(Unavailable::Stopping);
    assert!(is_woken(&queue));
    assert!(sent(&queue).is_some());
}

#[tokio::test]
async fn what_was_gathered_reaches_the_batcher() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    let pushed_and_woken = async {
        assert!(matches!(next(&queue), Next::Sleep));
        push(&queue, 1, 10).unwrap();
        assert!(!is_woken(&queue), "others may push in the same turn");
        queue.wake().await;
    };
    tokio::select! {
        biased;
        () = queue.gather() => {}
        () = pushed_and_woken => {}
    }
    assert!(sent(&queue).is_some());
}

fn end_session(queue: &ProposeQueue, session: i64) -> Result<(), Refused> {
    let caller = CallerBuf::new(&[], true);
    queue.push(&Proposal {
        origin: Origin::default(),
        caller: caller.as_caller(),
        txn: Txn::ExpireSession {
            session: SessionId(session),
            judged: crate::tree::txn::Judgement {
                attach: 1,
                seq: u64::MAX,
                term: 0,
            },
        },
    })
}

const LEADS: Way = Way::Engine { term: Some(3) };
const FOLLOWS: Way = Way::Link { leader: 2, term: 4 };

/// Takes the next frame out: its number, and the numbers of its requests.
fn framed(queue: &ProposeQueue) -> Option<(u64, Vec<u64>)> {
    let Next::Frame {
        number,
        count,
        requests,
    } = next(queue)
    else {
        return None;
    };
    let mut rest = &*requests;
    let seqs = (0..count).map(|_| Proposal::decode(&mut rest).unwrap().origin.seq);
    let seqs = seqs.collect();
    assert!(rest.is_empty());
    Some((number, seqs))
}

#[test]
fn what_the_leader_did_not_take_leaves_again_in_order_before_anything_younger() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    queue.turn(FOLLOWS);
    for seq in 1..=3 {
        push(&queue, seq, 1).unwrap();
        assert_eq!(framed(&queue).unwrap().1, [seq]);
    }
    queue.taken(0);
    push(&queue, 4, 1).unwrap();
    queue.turn(Way::Link { leader: 1, term: 5 });
    let again: Vec<_> = (0..3).map(|_| framed(&queue).unwrap().1).collect();
    assert_eq!(again, [vec![2], vec![3], vec![4]]);
    queue.link_lost();
    queue.turn(Way::Engine { term: Some(6) });
    let (flight, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [2]);
    assert!(sent(&queue).is_none(), "the engine takes them one by one");
    queue.landed(flight, Landing::Applied);
    assert_eq!(sent(&queue).unwrap().1, [3]);
}

#[test]
fn a_follower_has_only_so_many_frames_untaken() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    queue.turn(FOLLOWS);
    for seq in 1..=9 {
        push(&queue, seq, 1).unwrap();
        framed(&queue);
    }
    assert_eq!(queue.inner.lock().flights.len(), FLIGHTS_MAX);
    queue.taken(1);
    assert_eq!(framed(&queue).unwrap().1, [5, 6, 7, 8, 9]);
}

/// They may be committed yet, and younger ones must not overtake them.
#[test]
fn nothing_goes_to_the_new_leader_before_the_own_engine_let_go() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    queue.turn(LEADS);
    push(&queue, 1, 1).unwrap();
    let (flight, ..) = sent(&queue).unwrap();
    push(&queue, 2, 1).unwrap();
    queue.turn(FOLLOWS);
    assert!(matches!(next(&queue), Next::Sleep));
    queue.landed(flight, Landing::Refused);
    assert!(is_woken(&queue));
    assert_eq!(framed(&queue).unwrap().1, [1]);
    assert_eq!(framed(&queue).unwrap().1, [2]);
}

/// The next leader gives every session its full time: it must not find old sentences in its log.
#[test]
fn what_a_leader_judged_is_forgotten_with_its_leadership() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    queue.turn(LEADS);
    push(&queue, 1, 1).unwrap();
    end_session(&queue, 7).unwrap();
    let (mixed, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [1, 0]);
    end_session(&queue, 8).unwrap();
    let (alone, ..) = sent(&queue).unwrap();
    end_session(&queue, 9).unwrap();
    push(&queue, 2, 1).unwrap();

    queue.turn(Way::Engine { term: Some(5) });
    queue.landed(mixed, Landing::Refused);
    queue.landed(alone, Landing::Refused);
    let (again, seqs, _) = sent(&queue).unwrap();
    assert_eq!((again, seqs), (mixed, vec![1]));
    queue.landed(again, Landing::Applied);
    let (last, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [2]);
    queue.landed(last, Landing::Applied);
    assert_eq!(queue.held_bytes(), 0, "all bytes were given back");

    queue.turn(FOLLOWS);
    let refused = Err(Refused::Unavailable(Unavailable::NoLeader));
    assert_eq!(end_session(&queue, 7), refused);
}

/// Within one leadership the judge remembers what it asked for, and does not ask again.
#[test]
fn a_refused_judgement_is_tried_again_in_the_same_leadership() {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    queue.turn(LEADS);
    end_session(&queue, 7).unwrap();
    let (flight, ..) = sent(&queue).unwrap();
    queue.landed(flight, Landing::Refused);
    assert_eq!(sent(&queue).unwrap().0, flight);
}

fn requests(seqs: &[u64]) -> Bytes {
    let queue = ProposeQueue::new(QUEUE_BYTES_MAX);
    queue.turn(FOLLOWS);
    for &seq in seqs {
        push(&queue, seq, 1).unwrap();
    }
    match next(&queue) {
        Next::Frame { requests, .. } => requests,
        other => panic!("{other:?}"),
    }
}

fn guest(queue: &Arc<ProposeQueue>) -> Guest {
    Guest::admit(queue, 3)
}

#[test]
fn forwarded_requests_join_the_own_ones_and_their_guest_hears_of_it() {
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    queue.turn(LEADS);
    let guest = guest(&queue);
    let mut news = guest.news();
    push(&queue, 1, 1).unwrap();
    guest.push(40, 2, requests(&[100, 101])).unwrap();
    guest.push(41, 1, requests(&[102])).unwrap();
    let (flight, seqs, _) = sent(&queue).unwrap();
    assert_eq!(seqs, [1, 100, 101, 102]);
    assert_eq!(news.next().now_or_never(), None);
    queue.landed(flight, Landing::Applied);
    assert_eq!(news.next().now_or_never(), Some(Some(41)));
    assert_eq!(news.next().now_or_never(), None, "it was told");
    assert_eq!(queue.held_bytes(), 0);
}

#[test]
fn a_refused_entry_leaves_again_without_its_guests_and_they_hear_of_it() {
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    queue.turn(LEADS);
    let (one, other) = (guest(&queue), guest(&queue));
    let mut news = [one.news(), other.news()];
    push(&queue, 1, 1).unwrap();
    one.push(40, 1, requests(&[100])).unwrap();
    let (mixed, ..) = sent(&queue).unwrap();
    one.push(41, 1, requests(&[101])).unwrap();
    let (foreign, ..) = sent(&queue).unwrap();
    one.push(42, 1, requests(&[102])).unwrap();
    other.push(7, 1, requests(&[200])).unwrap();
    queue.landed(mixed, Landing::Refused);
    queue.landed(foreign, Landing::Refused);
    let again = sent(&queue).unwrap();
    assert_eq!((again.0, again.1), (mixed, vec![1]));
    queue.landed(mixed, Landing::Applied);
    assert_eq!(
        sent(&queue).unwrap().1,
        [200],
        "nothing of the refused guest"
    );
    assert_eq!(news[0].next().now_or_never(), Some(None));
    assert_eq!(news[1].next().now_or_never(), None);
    let late = one.push(43, 1, requests(&[103]));
    assert_eq!(late, Err(Unwelcome::Refused));
}

#[test]
fn a_full_own_entry_does_not_starve_guests() {
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    queue.turn(LEADS);
    let guest = guest(&queue);
    for seq in 1..=3000 {
        push(&queue, seq, 1).unwrap();
    }
    guest.push(1, 1, requests(&[5000])).unwrap();
    let entries: Vec<_> = (0..3).map(|_| sent(&queue).unwrap().1).collect();
    assert_eq!(entries[0].len(), 1000);
    assert_eq!(entries[1], [5000]);
    assert_eq!(entries[2].len(), 1000);
}

#[test]
fn a_guest_holds_bounded_memory() {
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    queue.turn(LEADS);
    let guest = guest(&queue);
    let max = u64::try_from(FLIGHTS_MAX).unwrap();
    for number in 1..=max {
        guest.push(number, 1, requests(&[number])).unwrap();
    }
    let beyond = guest.push(max + 1, 1, requests(&[9]));
    assert!(matches!(beyond, Err(Unwelcome::TooMuch { .. })));
    let repeated = guest.push(max, 1, requests(&[9]));
    assert!(matches!(repeated, Err(Unwelcome::OutOfOrder { .. })));
    drop(guest);
    assert!(
        matches!(next(&queue), Next::Sleep),
        "its frames went with it"
    );
}

#[test]
fn the_end_of_a_leadership_ends_its_guests() {
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    queue.turn(LEADS);
    let guest = guest(&queue);
    guest.push(1, 1, requests(&[100])).unwrap();
    queue.turn(Way::Engine { term: Some(4) });
    assert!(matches!(next(&queue), Next::Sleep));
    assert_eq!(guest.news().next().now_or_never(), Some(None));
}
