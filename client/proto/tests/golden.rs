//! Bytes of a real ZooKeeper: what was sent decodes to the records that were meant and encodes
//! to the same bytes, and so does what it answered.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use bytes::BytesMut;
use quorate_proto::jute::Writer;
use quorate_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use quorate_proto::multi::{MultiOp, MultiResult};
use quorate_proto::reply::ClientInfo;
use quorate_proto::request::{PathWatch, SetData};
use quorate_proto::{
    AclRef, AddWatchMode, ConnectRequest, ConnectResponse, ErrorCode, EventType, OpCode, Perms,
    Reply, ReplyHeader, Request, RequestHeader, ServerFrame, Stat, Version, WatcherType, Xid, Zxid,
    frame,
};

const HANDSHAKE: &str = include_str!("golden/handshake.txt");
const OPERATIONS: &str = include_str!("golden/operations.txt");
const MULTI: &str = include_str!("golden/multi.txt");
const WATCHES: &str = include_str!("golden/watches.txt");
const ERRORS: &str = include_str!("golden/errors.txt");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Sent,
    Malformed,
    Odd,
    UnknownOp,
    Received,
    Closed,
}

/// One line of a capture; the frame is without its prefix.
struct Line {
    mark: Mark,
    payload: Vec<u8>,
}

struct Exchange {
    name: &'static str,
    lines: Vec<Line>,
}

fn exchanges(capture: &'static str) -> Vec<Exchange> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in capture.lines() {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').unwrap();
            let lines = Vec::new();
            exchanges.push(Exchange { name, lines });
            continue;
        }
        let mark = match line.chars().next() {
            Some('>') => Mark::Sent,
            Some('!') => Mark::Malformed,
            Some('~') => Mark::Odd,
            Some('?') => Mark::UnknownOp,
            Some('<') => Mark::Received,
            Some('x') => Mark::Closed,
            _ => continue,
        };
        let bytes = unhex(line[1..].trim());
        let payload = match mark {
            Mark::Closed => Vec::new(),
            _ => {
                let (payload, used) = frame::split(&bytes, FRAME_BYTES_MAX_DEFAULT)
                    .unwrap()
                    .unwrap();
                assert_eq!(used, bytes.len());
                payload.to_vec()
            }
        };
        exchanges
            .last_mut()
            .unwrap()
            .lines
            .push(Line { mark, payload });
    }
    assert!(exchanges.len() > 10);
    exchanges
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn find(capture: &'static str, name: &str) -> Exchange {
    let found = exchanges(capture).into_iter().find(|e| e.name == name);
    found.unwrap_or_else(|| panic!("no exchange [{name}]"))
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut Writer::new(&mut out));
    out.to_vec()
}

fn op_of(payload: &[u8]) -> (Xid, OpCode, &[u8]) {
    let (header, body) = RequestHeader::decode(payload).unwrap();
    (header.xid, OpCode::from_code(header.op).unwrap(), body)
}

/// The request at this place of an exchange.
fn request(exchange: &Exchange, index: usize) -> Request<'_> {
    let (_, op, body) = op_of(&exchange.lines[index].payload);
    Request::decode(op, body).unwrap()
}

/// The reply at this place of an exchange, to the request at that one.
fn reply(exchange: &Exchange, index: usize, request: usize) -> (ReplyHeader, Reply<'_>) {
    let (_, op, _) = op_of(&exchange.lines[request].payload);
    let (header, body) = ReplyHeader::decode(&exchange.lines[index].payload).unwrap();
    assert_eq!(header.err, 0);
    (header, Reply::decode(op, body).unwrap())
}

/// Follows an exchange and holds each of its lines against our codec.
fn check(exchange: &Exchange) {
    let name = exchange.name;
    let mut pending: Option<(Mark, Xid, Option<OpCode>, &[u8])> = None;
    for Line { mark, payload } in &exchange.lines {
        match mark {
            Mark::Sent | Mark::Odd => {
                let (xid, op, body) = op_of(payload);
                let request = Request::decode(op, body).unwrap_or_else(|e| panic!("[{name}]: {e}"));
                assert_eq!(request.op(), op, "[{name}]");
                let mut again = BytesMut::new();
                request.write_frame(&mut again, xid).unwrap();
                assert_eq!(
                    again[4..] == payload[..],
                    *mark == Mark::Sent,
                    "[{name}] encodes to {again:02x?}"
                );
                pending = Some((*mark, xid, Some(op), body));
            }
            Mark::Malformed => {
                let Ok((header, body)) = RequestHeader::decode(payload) else {
                    pending = None;
                    continue;
                };
                let op = OpCode::from_code(header.op).unwrap();
                assert!(Request::decode(op, body).is_err(), "[{name}] decodes");
                pending = Some((*mark, header.xid, Some(op), body));
            }
            Mark::UnknownOp => {
                let (header, body) = RequestHeader::decode(payload).unwrap();
                assert_eq!(OpCode::from_code(header.op), None, "[{name}]");
                pending = Some((*mark, header.xid, None, body));
            }
            Mark::Received => match ServerFrame::decode(payload).unwrap() {
                ServerFrame::Event(zxid, event) => {
                    let header = ReplyHeader {
                        xid: Xid::NOTIFICATION,
                        zxid,
                        err: 0,
                    };
                    let again = written(|w| {
                        header.encode(w);
                        event.encode(w);
                    });
                    assert_eq!(&again, payload, "[{name}]");
                }
                ServerFrame::Reply(header, body) => {
                    let (mark, xid, op, request) = pending.take().unwrap();
                    let xid = match op {
                        Some(OpCode::Ping) => Xid::PING,
                        _ => xid,
                    };
                    assert_eq!(header.xid, xid, "[{name}]");
                    check_reply(name, (mark, op, request), header, body, payload);
                }
            },
            Mark::Closed => {}
        }
    }
}

fn check_reply(
    name: &str,
    (mark, op, request): (Mark, Option<OpCode>, &[u8]),
    header: ReplyHeader,
    body: &[u8],
    payload: &[u8],
) {
    let code = ErrorCode::from_code(header.err);
    match (mark, op) {
        (Mark::UnknownOp, _) => assert_eq!(code, Some(ErrorCode::Unimplemented), "[{name}]"),
        (Mark::Malformed, Some(op)) => {
            let error = Request::decode(op, request).unwrap_err();
            assert_eq!(
                code,
                Some(Request::decode_error_code(op, error)),
                "[{name}]"
            );
        }
        (_, Some(op)) if header.err == 0 => {
            let reply = Reply::decode(op, body).unwrap_or_else(|e| panic!("[{name}]: {e}"));
            let again = written(|w| {
                header.encode(w);
                reply.encode(w);
            });
            assert_eq!(&again, payload, "[{name}]: {reply:?}");
        }
        _ => assert!(
            code.is_some() && body.is_empty(),
            "[{name}]: {}",
            header.err
        ),
    }
}

#[test]
fn handshakes_of_zookeeper_decode_and_encode_to_the_same_bytes() {
    for exchange in exchanges(HANDSHAKE) {
        let name = exchange.name;
        for Line { mark, payload } in &exchange.lines {
            let decoded = ConnectRequest::decode(payload);
            match mark {
                Mark::Sent => {
                    let again = written(|w| decoded.unwrap().encode(w));
                    assert_eq!(&again, payload, "[{name}]");
                }
                Mark::Odd => assert!(decoded.is_ok(), "[{name}]"),
                Mark::Malformed => assert!(decoded.is_err(), "[{name}]"),
                Mark::Received => {
                    let response = ConnectResponse::decode(payload).unwrap();
                    assert_eq!(&written(|w| response.encode(w)), payload, "[{name}]");
                }
                Mark::UnknownOp => panic!("[{name}]: a handshake has no opcode"),
                Mark::Closed => {}
            }
        }
    }
}

#[test]
fn the_answer_has_the_read_only_byte_if_the_request_had_it() {
    for exchange in exchanges(HANDSHAKE) {
        let [request, response, ..] = &exchange.lines[..] else {
            continue;
        };
        if response.mark == Mark::Received {
            let request = ConnectRequest::decode(&request.payload).unwrap();
            let response = ConnectResponse::decode(&response.payload).unwrap();
            assert_eq!(
                request.read_only.is_some(),
                response.read_only.is_some(),
                "[{}]",
                exchange.name
            );
        }
    }
}

#[test]
fn a_refused_session_is_answered_with_zeros() {
    for name in ["unknown session", "known session, wrong password"] {
        let exchange = find(HANDSHAKE, name);
        let response = ConnectResponse::decode(&exchange.lines[1].payload);
        assert_eq!(response, Ok(ConnectResponse::refused(Some(false))));
    }
}

#[test]
fn operations_decode_and_encode_to_the_same_bytes() {
    exchanges(OPERATIONS).iter().for_each(check);
}

#[test]
fn multis_decode_and_encode_to_the_same_bytes() {
    exchanges(MULTI).iter().for_each(check);
}

#[test]
fn watches_and_events_decode_and_encode_to_the_same_bytes() {
    exchanges(WATCHES).iter().for_each(check);
}

#[test]
fn what_zookeeper_refuses_to_read_we_refuse_with_the_same_code() {
    exchanges(ERRORS).iter().for_each(check);
}

#[test]
fn every_opcode_was_captured() {
    let mut missing: Vec<OpCode> = OpCode::ALL.to_vec();
    for capture in [OPERATIONS, MULTI, WATCHES, ERRORS] {
        for exchange in exchanges(capture) {
            for line in &exchange.lines {
                if matches!(line.mark, Mark::Sent | Mark::Malformed)
                    && let Ok((header, _)) = RequestHeader::decode(&line.payload)
                {
                    missing.retain(|op| op.code() != header.op);
                }
            }
        }
    }
    // A real server obeys this one, from anybody; ours must not, and nobody else sends it.
    assert_eq!(missing, [OpCode::DeleteContainer]);
}

#[test]
fn requests_say_what_was_meant() {
    let open = AclRef {
        perms: Perms::ALL,
        scheme: Some("world".into()),
        id: Some("anyone".into()),
    };
    let exchange = find(OPERATIONS, "create with null data");
    let Request::Create(create) = request(&exchange, 0) else {
        panic!("no create");
    };
    assert_eq!(create.path, "/golden/null");
    assert_eq!((create.data, create.flags), (None, 0));
    assert_eq!(create.acl, Some(vec![open]));

    let exchange = find(OPERATIONS, "create with empty data");
    assert!(matches!(request(&exchange, 0), Request::Create(c) if c.data == Some(b"")));

    let exchange = find(OPERATIONS, "create for auth, null id");
    let Request::Create(create) = request(&exchange, 0) else {
        panic!("no create");
    };
    let acl = create.acl.unwrap();
    assert_eq!(
        (acl[0].scheme.as_deref(), &acl[0].id),
        (Some("auth"), &None)
    );

    let exchange = find(OPERATIONS, "createTTL sequential, longest");
    let Request::CreateTtl(create) = request(&exchange, 0) else {
        panic!("no createTTL");
    };
    assert_eq!((create.create.flags, create.ttl_ms), (6, 0xff_ffff_ffff));

    let exchange = find(OPERATIONS, "setData");
    let set = SetData {
        path: "/golden/a".into(),
        data: Some(b"abcd"),
        version: Version(0),
    };
    assert_eq!(request(&exchange, 0), Request::SetData(set));

    let exchange = find(OPERATIONS, "getData, watch byte 7");
    let get = PathWatch {
        path: "/golden/empty".into(),
        watch: true,
    };
    assert_eq!(request(&exchange, 0), Request::GetData(get));

    let exchange = find(OPERATIONS, "sync, null");
    assert_eq!(request(&exchange, 0), Request::Sync { path: None });

    let exchange = find(OPERATIONS, "addWatch recursive");
    assert_eq!(
        request(&exchange, 0),
        Request::AddWatch {
            path: "/golden/w".into(),
            mode: AddWatchMode::PersistentRecursive,
        }
    );
    let exchange = find(WATCHES, "removeWatches data");
    assert!(matches!(
        request(&exchange, 4),
        Request::RemoveWatches {
            kind: WatcherType::Data,
            ..
        }
    ));

    let exchange = find(
        WATCHES,
        "setWatches2: persistent ones catch up with nothing",
    );
    let Request::SetWatches2(watches) = request(&exchange, 0) else {
        panic!("no setWatches2");
    };
    assert_eq!(watches.one_shot.relative_zxid, Zxid(1));
    assert_eq!(watches.one_shot.data, ["/golden/w"]);
    assert_eq!(watches.one_shot.exist, ["/golden/w/gone"]);
    assert!(watches.one_shot.child.is_empty());
    assert_eq!(watches.persistent, ["/golden/w", "/golden/w/gone"]);
    assert_eq!(watches.persistent_recursive, ["/golden"]);

    let exchange = find(MULTI, "every write, all succeed");
    let Request::Multi(multi) = request(&exchange, 0) else {
        panic!("no multi");
    };
    let ops: Vec<OpCode> = multi.ops.iter().map(MultiOp::op).collect();
    assert_eq!(
        ops,
        [
            OpCode::Create,
            OpCode::Create2,
            OpCode::CreateContainer,
            OpCode::CreateTtl,
            OpCode::Create,
            OpCode::SetData,
            OpCode::Check,
            OpCode::Delete,
        ]
    );
}

#[test]
fn replies_say_what_was_found() {
    let exchange = find(OPERATIONS, "ping with an ordinary xid");
    assert_eq!(reply(&exchange, 1, 0).0.xid, Xid::PING);

    let exchange = find(OPERATIONS, "getData, null");
    let (_, Reply::DataStat(data, stat)) = reply(&exchange, 1, 0) else {
        panic!("no data");
    };
    assert_eq!((data, stat.data_length), (None, 0));

    let exchange = find(OPERATIONS, "exists, ephemeral");
    let (_, Reply::Stat(stat)) = reply(&exchange, 1, 0) else {
        panic!("no stat");
    };
    assert_ne!(stat.ephemeral_owner, 0);
    assert_eq!(stat.czxid, stat.pzxid);

    for name in ["exists, ttl", "exists, container"] {
        let exchange = find(OPERATIONS, name);
        let (
            _,
            Reply::Stat(Stat {
                ephemeral_owner, ..
            }),
        ) = reply(&exchange, 1, 0)
        else {
            panic!("no stat");
        };
        assert_eq!(ephemeral_owner, 0, "{name}");
    }

    let exchange = find(OPERATIONS, "addWatch persistent");
    assert_eq!(reply(&exchange, 1, 0).1, Reply::AddWatch(0));

    let exchange = find(OPERATIONS, "whoAmI");
    let (_, Reply::WhoAmI(infos)) = reply(&exchange, 1, 0) else {
        panic!("no identities");
    };
    let digest = ClientInfo {
        scheme: "digest".into(),
        user: "u".into(),
    };
    assert_eq!(infos.len(), 3);
    assert!(infos.contains(&digest));

    let exchange = find(MULTI, "one in the middle fails");
    let results = [0, -103, -2, -2].map(MultiResult::Error);
    assert_eq!(reply(&exchange, 1, 0).1, Reply::Multi(results.into()));

    let exchange = find(MULTI, "multiRead");
    let (_, Reply::Multi(results)) = reply(&exchange, 1, 0) else {
        panic!("no results");
    };
    assert!(matches!(
        &results[0],
        MultiResult::GetData {
            data: Some(b"yy"),
            ..
        }
    ));
    assert!(matches!(&results[1], MultiResult::GetChildren(names) if names.len() == 3));
    assert_eq!(results[2..4], [-101, -101].map(MultiResult::Error));
    assert!(matches!(
        &results[4],
        MultiResult::GetData { data: None, .. }
    ));
}

#[test]
fn an_own_write_is_notified_before_it_is_answered() {
    let exchange = find(WATCHES, "data watch, own write: event, then reply");
    let ServerFrame::Event(zxid, event) = ServerFrame::decode(&exchange.lines[3].payload).unwrap()
    else {
        panic!("no event");
    };
    assert_eq!(event.event, EventType::NodeDataChanged);
    assert_eq!(event.path, "/golden/w");
    assert_eq!(reply(&exchange, 4, 2).0.zxid, zxid);
}

#[test]
fn catch_up_events_carry_no_zxid() {
    let exchange = find(WATCHES, "setWatches catches up");
    let events: Vec<_> = exchange
        .lines
        .iter()
        .filter(|line| line.mark == Mark::Received)
        .filter_map(|line| match ServerFrame::decode(&line.payload).unwrap() {
            ServerFrame::Event(zxid, event) => Some((zxid, event.event)),
            ServerFrame::Reply(..) => None,
        })
        .collect();
    let kinds = [
        EventType::NodeDataChanged,
        EventType::NodeDeleted,
        EventType::NodeCreated,
        EventType::NodeChildrenChanged,
        EventType::NodeDeleted,
    ];
    assert_eq!(events, kinds.map(|kind| (Zxid::NONE, kind)));
}
