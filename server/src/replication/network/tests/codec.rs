//! Frames return as sent, and whatever else comes is refused without a panic.

use bytes::{BufMut, Bytes};
use openraft::raft::{TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::{EntryPayload, Membership};
use proptest::prelude::*;

use super::*;
use crate::replication::network::codec::{self, Append, Malformed, Reply, Request};
use crate::replication::types::{Entry, Vote, log_id};

fn append() -> Append {
    let voters = BTreeSet::from([1, 2]);
    let nodes = BTreeMap::from([(1, BasicNode::new("a")), (2, BasicNode::new("b"))]);
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Body(Bytes::from_static(b"\x01requests"))),
        EntryPayload::Membership(Membership::new(vec![voters], nodes).unwrap()),
    ];
    let entries = payloads.into_iter().zip(8..).map(|(payload, index)| Entry {
        log_id: log_id(3, index),
        payload,
    });
    Append {
        vote: Vote::new_committed(4, 9),
        prev_log_id: Some(log_id(2, 7)),
        entries: entries.collect(),
        leader_commit: Some(log_id(2, 6)),
    }
}

fn requests() -> Vec<Request> {
    let mut asked = VoteRequest::new(Vote::new(5, 9), Some(log_id(4, 20)));
    asked.leadership_transfer = true;
    let nothing = Append {
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
        ..append()
    };
    vec![
        Request::Append {
            stream: 77,
            rpc: append(),
        },
        Request::Beat(nothing),
        Request::Vote(asked),
        Request::PreVote(VoteRequest::new(Vote::new(5, 9), None)),
        Request::Transfer(TransferLeaderRequest::new(
            Vote::new_committed(5, 9),
            3,
            Some(log_id(4, 2)),
        )),
    ]
}

fn replies() -> Vec<Reply> {
    let (vote, other) = (Vote::new(5, 9), Vote::new_committed(6, 1));
    vec![
        Reply::Appended,
        Reply::Conflict,
        Reply::Discarded,
        Reply::HigherVote(other),
        Reply::Voted(VoteResponse::new(vote, Some(log_id(1, 2)), true)),
        Reply::Voted(VoteResponse::new(vote, None, false)),
        Reply::Transferred(Ok(())),
        Reply::Transferred(Err(TransferLeaderError::VoteChanged {
            expected: vote,
            actual: other,
        })),
        Reply::Transferred(Err(TransferLeaderError::LogNotFlushed {
            expected: Some(log_id(1, 2)),
            actual: None,
        })),
        Reply::Refused("because".into()),
    ]
}

fn frame(request: Request, id: u64) -> Bytes {
    let mut frame = request.encode();
    codec::set_id(&mut frame, id);
    frame.freeze()
}

#[test]
fn requests_return_as_sent() {
    for (request, again) in requests().into_iter().zip(requests()) {
        let (id, read) = Request::decode(frame(request, 42)).unwrap();
        assert_eq!(id, 42);
        assert_eq!(format!("{read:?}"), format!("{again:?}"));
        assert_eq!(read.sender(), 9);
    }
}

#[test]
fn replies_return_as_sent() {
    for reply in replies() {
        let sent = reply.encode(42).freeze();
        assert_eq!(Reply::decode(sent).unwrap(), (42, reply));
    }
    assert_eq!(codec::opened(codec::open(77).freeze()).unwrap(), 77);
}

#[test]
fn cut_and_lengthened_frames_are_refused() {
    for request in requests() {
        let whole = frame(request, 1);
        for len in 0..whole.len() {
            assert!(Request::decode(whole.slice(..len)).is_err(), "{len}");
        }
        let longer: Bytes = [&whole[..], b"x"].concat().into();
        assert!(Request::decode(longer).is_err());
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut newer = codec::open(1);
    newer[1] = 9;
    let error = codec::opened(newer.freeze()).unwrap_err();
    assert_eq!(error, Malformed::Format(9));
}

/// What openraft takes for granted of a leader is not taken for granted here.
#[test]
fn a_leader_that_contradicts_itself_is_refused() {
    let spoilt = |spoil: &dyn Fn(&mut Append)| {
        let mut rpc = append();
        spoil(&mut rpc);
        Request::decode(frame(Request::Beat(rpc), 1))
    };
    assert!(spoilt(&|_| ()).is_ok());
    let refused: [&dyn Fn(&mut Append); 4] = [
        // Nobody elected it.
        &|rpc| rpc.vote = Vote::new(4, 9),
        // An entry of a later term than its own, or of an earlier one than those before.
        &|rpc| rpc.vote = Vote::new_committed(2, 9),
        &|rpc| rpc.entries[2].log_id = log_id(1, 10),
        &|rpc| rpc.prev_log_id = Some(log_id(2, u64::MAX)),
    ];
    for spoil in refused {
        assert!(matches!(spoilt(spoil), Err(Malformed::Nonsense(_))));
    }
}

/// A count or a length alone reserves nothing.
#[test]
fn a_large_count_is_refused_before_anything_is_reserved() {
    let rpc = Append {
        entries: Vec::new(),
        ..append()
    };
    let mut frame = Request::Beat(rpc).encode();
    let at = frame.len() - 4;
    frame.truncate(at);
    frame.put_u32(u32::MAX);
    frame.put_slice(&[0; 100]);
    let error = Request::decode(frame.freeze()).unwrap_err();
    assert_eq!(error, Malformed::Length);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = Request::decode(bytes.clone());
        let _ = Reply::decode(bytes.clone());
        let _ = codec::opened(bytes);
    }

    #[test]
    fn any_change_of_a_frame_is_judged_without_a_panic(
        which in 0usize..5,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = frame(requests().swap_remove(which), 1).to_vec();
        for (at, with) in flips {
            let len = bytes.len();
            bytes[at.index(len)] = with;
        }
        let _ = Request::decode(bytes.into());
    }
}
