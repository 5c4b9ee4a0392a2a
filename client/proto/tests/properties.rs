//! What holds for every record and for any bytes.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use quorate_proto::jute::{Reader, Writer};
use quorate_proto::multi::{MultiOp, MultiRead, MultiReadOp, MultiRequest, MultiResult};
use quorate_proto::path;
use quorate_proto::reply::ClientInfo;
use quorate_proto::request::{
    AuthPacket, Create, CreateTtl, PathVersion, PathWatch, Reconfig, SaslToken, SetData,
};
use quorate_proto::{
    AclRef, AddWatchMode, ConnectRequest, ConnectResponse, EventType, KeeperState, OpCode, Perms,
    Reply, ReplyHeader, Request, RequestHeader, ServerFrame, SessionId, SetWatches, SetWatches2,
    Stat, Version, WatcherEvent, WatcherType, Xid, Zxid, frame,
};

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof!["(/[a-z]{1,4}){1,3}", "\\PC{0,8}", Just(String::new())].prop_map(Cow::Owned)
}

fn texts() -> impl Strategy<Value = Vec<Cow<'static, str>>> {
    vec(text(), 0..4)
}

/// Bytes that live long enough for a record that borrows; tests are short.
fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..20).prop_map(|bytes| &*bytes.leak())
}

fn acl() -> impl Strategy<Value = Option<Vec<AclRef<'static>>>> {
    let entry = (any::<i32>(), option::of(text()), option::of(text()));
    option::of(vec(
        entry.prop_map(|(perms, scheme, id)| AclRef {
            perms: Perms(perms),
            scheme,
            id,
        }),
        0..4,
    ))
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(longs, ints)| {
        let [czxid, mzxid, ctime, mtime, ephemeral_owner, pzxid] = longs;
        let [version, cversion, aversion, data_length, num_children] = ints;
        Stat {
            czxid,
            mzxid,
            ctime,
            mtime,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
            pzxid,
        }
    })
}

fn create(flags: impl Strategy<Value = i32>) -> impl Strategy<Value = Create<'static>> {
    let parts = (text(), option::of(bytes()), acl(), flags);
    parts.prop_map(|(path, data, acl, flags)| Create {
        path,
        data,
        acl,
        flags,
    })
}

fn path_watch() -> impl Strategy<Value = PathWatch<'static>> {
    (text(), any::<bool>()).prop_map(|(path, watch)| PathWatch { path, watch })
}

fn path_version() -> impl Strategy<Value = PathVersion<'static>> {
    (text(), any::<i32>()).prop_map(|(path, version)| PathVersion {
        path,
        version: Version(version),
    })
}

fn set_data() -> impl Strategy<Value = SetData<'static>> {
    (text(), option::of(bytes()), any::<i32>()).prop_map(|(path, data, version)| SetData {
        path,
        data,
        version: Version(version),
    })
}

fn set_watches() -> impl Strategy<Value = SetWatches<'static>> {
    (any::<i64>(), texts(), texts(), texts()).prop_map(|(zxid, data, exist, child)| SetWatches {
        relative_zxid: Zxid(zxid),
        data,
        exist,
        child,
    })
}

fn watcher_type() -> impl Strategy<Value = WatcherType> {
    (1..=5).prop_map(|code| WatcherType::from_code(code).unwrap())
}

/// With what a multi insists on: a list, and flags of no TTL.
fn create_in_multi() -> impl Strategy<Value = Create<'static>> {
    create(0..=4).prop_map(|create| Create {
        acl: Some(create.acl.unwrap_or_default()),
        ..create
    })
}

fn multi_op() -> impl Strategy<Value = MultiOp<'static>> {
    prop_oneof![
        create_in_multi().prop_map(MultiOp::Create),
        create_in_multi().prop_map(MultiOp::Create2),
        create_in_multi().prop_map(MultiOp::CreateContainer),
        (create(0..=6), any::<i64>())
            .prop_map(|(create, ttl_ms)| MultiOp::CreateTtl(CreateTtl { create, ttl_ms })),
        path_version().prop_map(MultiOp::Delete),
        set_data().prop_map(MultiOp::SetData),
        path_version().prop_map(MultiOp::Check),
    ]
}

fn multi_read_op() -> impl Strategy<Value = MultiReadOp<'static>> {
    prop_oneof![
        path_watch().prop_map(MultiReadOp::GetData),
        path_watch().prop_map(MultiReadOp::GetChildren),
    ]
}

fn simple_request() -> impl Strategy<Value = Request<'static>> {
    prop_oneof![
        Just(Request::CloseSession),
        Just(Request::Ping),
        Just(Request::WhoAmI),
        path_version().prop_map(Request::Delete),
        path_version().prop_map(Request::Check),
        path_watch().prop_map(Request::Exists),
        path_watch().prop_map(Request::GetData),
        path_watch().prop_map(Request::GetChildren),
        path_watch().prop_map(Request::GetChildren2),
        set_data().prop_map(Request::SetData),
        text().prop_map(|path| Request::GetAcl { path }),
        text().prop_map(|path| Request::DeleteContainer { path }),
        text().prop_map(|path| Request::GetAllChildrenNumber { path }),
        option::of(text()).prop_map(|path| Request::Sync { path }),
        option::of(text()).prop_map(|prefix| Request::GetEphemerals { prefix }),
    ]
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let reconfig = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        any::<i64>(),
    );
    prop_oneof![
        10 => simple_request(),
        1 => create(any::<i32>()).prop_map(Request::Create),
        1 => create(any::<i32>()).prop_map(Request::Create2),
        1 => create(any::<i32>()).prop_map(Request::CreateContainer),
        1 => (create(any::<i32>()), any::<i64>())
            .prop_map(|(create, ttl_ms)| Request::CreateTtl(CreateTtl { create, ttl_ms })),
        1 => (text(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl {
            path,
            acl,
            version: Version(version),
        }),
        1 => vec(multi_op(), 0..5).prop_map(|ops| Request::Multi(MultiRequest { ops })),
        1 => vec(multi_read_op(), 0..5).prop_map(|ops| Request::MultiRead(MultiRead { ops })),
        1 => reconfig.prop_map(|(joining, leaving, new_members, config_id)| {
            Request::Reconfig(Reconfig { joining, leaving, new_members, config_id })
        }),
        1 => (text(), watcher_type())
            .prop_map(|(path, kind)| Request::CheckWatches { path, kind }),
        1 => (text(), watcher_type())
            .prop_map(|(path, kind)| Request::RemoveWatches { path, kind }),
        1 => (any::<i32>(), option::of(text()), option::of(bytes()))
            .prop_map(|(kind, scheme, auth)| Request::Auth(AuthPacket { kind, scheme, auth })),
        1 => option::of(bytes()).prop_map(|token| Request::Sasl(SaslToken(token))),
        1 => set_watches().prop_map(Request::SetWatches),
        1 => (set_watches(), texts(), texts()).prop_map(|(one_shot, persistent, recursive)| {
            Request::SetWatches2(SetWatches2 {
                one_shot,
                persistent,
                persistent_recursive: recursive,
            })
        }),
        1 => (text(), 0..=1).prop_map(|(path, mode)| Request::AddWatch {
            path,
            mode: AddWatchMode::from_code(mode).unwrap(),
        }),
    ]
}

fn multi_result() -> impl Strategy<Value = MultiResult<'static>> {
    prop_oneof![
        text().prop_map(|path| MultiResult::Create { path }),
        (text(), stat()).prop_map(|(path, stat)| MultiResult::Create2 { path, stat }),
        Just(MultiResult::Delete),
        stat().prop_map(MultiResult::SetData),
        Just(MultiResult::Check),
        texts().prop_map(MultiResult::GetChildren),
        (option::of(bytes()), stat()).prop_map(|(data, stat)| MultiResult::GetData { data, stat }),
        any::<i32>().prop_map(MultiResult::Error),
    ]
}

fn client_info() -> impl Strategy<Value = ClientInfo<'static>> {
    (text(), text()).prop_map(|(scheme, user)| ClientInfo { scheme, user })
}

/// A reply, and an opcode that it can answer.
fn reply() -> impl Strategy<Value = (OpCode, Reply<'static>)> {
    prop_oneof![
        Just((OpCode::Delete, Reply::Empty)),
        text().prop_map(|path| (OpCode::Create, Reply::Path(path))),
        option::of(text()).prop_map(|path| (OpCode::Sync, Reply::Sync(path))),
        (text(), stat()).prop_map(|(path, stat)| (OpCode::Create2, Reply::PathStat(path, stat))),
        stat().prop_map(|stat| (OpCode::Exists, Reply::Stat(stat))),
        (option::of(bytes()), stat())
            .prop_map(|(data, stat)| (OpCode::GetData, Reply::DataStat(data, stat))),
        (acl(), stat()).prop_map(|(acl, stat)| {
            (
                OpCode::GetAcl,
                Reply::AclStat(acl.unwrap_or_default(), stat),
            )
        }),
        texts().prop_map(|names| (OpCode::GetChildren, Reply::Children(names))),
        (texts(), stat())
            .prop_map(|(names, stat)| (OpCode::GetChildren2, Reply::ChildrenStat(names, stat))),
        any::<i32>().prop_map(|n| (OpCode::GetAllChildrenNumber, Reply::TotalNumber(n))),
        any::<i32>().prop_map(|err| (OpCode::AddWatch, Reply::AddWatch(err))),
        option::of(bytes()).prop_map(|token| (OpCode::Sasl, Reply::Sasl(SaslToken(token)))),
        vec(client_info(), 0..4).prop_map(|infos| (OpCode::WhoAmI, Reply::WhoAmI(infos))),
        vec(multi_result(), 0..5).prop_map(|results| (OpCode::Multi, Reply::Multi(results))),
    ]
}

fn op() -> impl Strategy<Value = OpCode> {
    prop::sample::select(OpCode::ALL)
}

/// Arbitrary bytes, and a valid record with a few of them changed, which get much further.
fn spoilt_body() -> impl Strategy<Value = (OpCode, Vec<u8>)> {
    let spoilt = (
        request(),
        vec((any::<usize>(), any::<u8>()), 0..4),
        any::<usize>(),
    )
        .prop_map(|(request, changes, end)| {
            let mut body = written(|w| request.encode(w));
            for (at, byte) in changes {
                let len = body.len().max(1);
                if let Some(slot) = body.get_mut(at % len) {
                    *slot = byte;
                }
            }
            body.truncate(end % (body.len() + 20));
            (request.op(), body)
        });
    prop_oneof![spoilt, (op(), vec(any::<u8>(), 0..200))]
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut Writer::new(&mut out));
    out.to_vec()
}

/// The heap memory that the lists of a decoded request stand in.
fn list_bytes(request: &Request<'_>) -> usize {
    fn size<T>(list: &Vec<T>) -> usize {
        list.capacity() * size_of::<T>()
    }
    let acl_size = |acl: &Option<Vec<AclRef<'_>>>| acl.as_ref().map_or(0, size);
    let one_shot = |w: &SetWatches<'_>| size(&w.data) + size(&w.exist) + size(&w.child);
    match request {
        Request::Create(create) | Request::Create2(create) | Request::CreateContainer(create) => {
            acl_size(&create.acl)
        }
        Request::CreateTtl(ttl) => acl_size(&ttl.create.acl),
        Request::SetAcl { acl, .. } => acl_size(acl),
        Request::SetWatches(watches) => one_shot(watches),
        Request::SetWatches2(watches) => {
            one_shot(&watches.one_shot)
                + size(&watches.persistent)
                + size(&watches.persistent_recursive)
        }
        Request::MultiRead(multi) => size(&multi.ops),
        Request::Multi(multi) => {
            let acls = multi.ops.iter().map(|op| match op {
                MultiOp::Create(c) | MultiOp::Create2(c) | MultiOp::CreateContainer(c) => {
                    acl_size(&c.acl)
                }
                MultiOp::CreateTtl(ttl) => acl_size(&ttl.create.acl),
                MultiOp::Delete(_) | MultiOp::SetData(_) | MultiOp::Check(_) => 0,
            });
            size(&multi.ops) + acls.sum::<usize>()
        }
        _ => 0,
    }
}

proptest! {
    #[test]
    fn every_request_decodes_to_itself(request in request(), xid: i32, behind in vec(any::<u8>(), 0..4)) {
        let mut out = BytesMut::new();
        request.write_frame(&mut out, Xid(xid)).unwrap();
        let (payload, used) = frame::split(&out, out.len()).unwrap().unwrap();
        prop_assert_eq!(used, out.len());
        let (header, body) = RequestHeader::decode(payload).unwrap();
        prop_assert_eq!(header, RequestHeader { xid: Xid(xid), op: request.op().code() });
        let body = [body, &behind].concat();
        prop_assert_eq!(Request::decode(request.op(), &body).unwrap(), request);
    }

    #[test]
    fn every_reply_decodes_to_itself((op, reply) in reply(), behind in vec(any::<u8>(), 0..4)) {
        let mut body = written(|w| reply.encode(w));
        body.extend(behind);
        prop_assert_eq!(Reply::decode(op, &body).unwrap(), reply);
    }

    #[test]
    fn every_header_and_event_decodes_to_itself(
        xid: i32, zxid: i64, err: i32, event in 1..=4, path in text(),
    ) {
        let header = ReplyHeader { xid: Xid(xid), zxid: Zxid(zxid), err };
        let bytes = written(|w| header.encode(w));
        prop_assert_eq!(ReplyHeader::decode(&bytes), Ok((header, &b""[..])));
        let event = WatcherEvent {
            event: EventType::from_code(event).unwrap(),
            state: KeeperState::SyncConnected,
            path,
        };
        let bytes = written(|w| event.encode(w));
        prop_assert_eq!(WatcherEvent::decode(&bytes), Ok(event));
    }

    #[test]
    fn every_handshake_decodes_to_itself(
        version: i32, zxid: i64, timeout_ms: i32, session: i64,
        password in option::of(bytes()), given: [u8; 16], read_only: Option<bool>,
    ) {
        let request = ConnectRequest {
            protocol_version: version,
            last_zxid_seen: Zxid(zxid),
            timeout_ms,
            session: SessionId(session),
            password,
            read_only,
        };
        let bytes = written(|w| request.encode(w));
        prop_assert_eq!(ConnectRequest::decode(&bytes), Ok(request));
        let session = SessionId(session);
        let response = ConnectResponse { timeout_ms, session, password: given, read_only };
        prop_assert_eq!(ConnectResponse::decode(&written(|w| response.encode(w))), Ok(response));
    }

    #[test]
    fn no_bytes_make_a_request_decoder_panic((op, body) in spoilt_body()) {
        if let Ok(request) = Request::decode(op, &body) {
            // Text that was not UTF-8 changes once, and then no more.
            let again = written(|w| request.encode(w));
            prop_assert_eq!(Request::decode(op, &again), Ok(request));
        }
    }

    #[test]
    fn a_request_takes_memory_in_proportion_to_its_bytes((op, body) in spoilt_body()) {
        if let Ok(request) = Request::decode(op, &body) {
            // A growing list doubles, and starts with room for four.
            let bound = 16 * body.len() + 4 * size_of::<MultiOp<'_>>();
            prop_assert!(list_bytes(&request) <= bound, "{} > {bound}", list_bytes(&request));
        }
    }

    #[test]
    fn no_bytes_make_another_decoder_panic(
        bytes in vec(any::<u8>(), 0..200), op in op(), limit in 0..300_usize,
    ) {
        let _ = frame::split(&bytes, limit);
        let _ = ConnectRequest::decode(&bytes);
        let _ = ConnectResponse::decode(&bytes);
        let _ = RequestHeader::decode(&bytes);
        let _ = ServerFrame::decode(&bytes);
        let _ = Reply::decode(op, &bytes);
        let _ = WatcherEvent::decode(&bytes);
    }

    #[test]
    fn no_spoilt_reply_makes_the_decoder_panic(
        (op, reply) in reply(), at: usize, byte: u8, other in op(),
    ) {
        let mut body = written(|w| reply.encode(w));
        let len = body.len().max(1);
        if let Some(slot) = body.get_mut(at % len) {
            *slot = byte;
        }
        let _ = Reply::decode(op, &body);
        let _ = Reply::decode(other, &body);
    }

    #[test]
    fn a_vector_is_never_longer_than_its_bytes_allow(count: i32, bytes in vec(any::<u8>(), 0..100)) {
        let input = [&count.to_be_bytes()[..], &bytes].concat();
        if let Ok(Some(list)) = Reader::new(&input).vector("list", 4, |r| r.i32("element")) {
            prop_assert!(list.capacity() * 4 <= bytes.len());
        }
    }

    #[test]
    fn any_text_is_a_path_or_is_not(text in "[/.a\\x00-\\x20\u{7e}-\u{a1}\u{d7f0}-\u{f8ff}\u{f900}-\u{10ffff}]{0,6}|\\PC{0,8}") {
        prop_assert_eq!(path::validate(&text).is_ok(), is_path_by_the_book(&text));
        if path::validate(&text).is_ok()
            && let Some(parent) = path::parent(&text)
        {
            prop_assert!(path::validate(parent).is_ok());
            let slash = if parent == path::ROOT { "" } else { "/" };
            prop_assert_eq!(format!("{parent}{slash}{}", path::name(&text)), text);
        }
    }
}

/// ZooKeeper's rules once more, unit of UTF-16 by unit, as it reads them itself.
fn is_path_by_the_book(text: &str) -> bool {
    let units: Vec<u16> = text.encode_utf16().collect();
    let forbidden = |u: u16| {
        u <= 0x1f || (0x7f..=0x9f).contains(&u) || (0xd800..=0xf8ff).contains(&u) || u >= 0xfff0
    };
    if units == [u16::from(b'/')] {
        return true;
    }
    units.first() == Some(&u16::from(b'/'))
        && !units.iter().any(|&unit| forbidden(unit))
        && units
            .split(|&unit| unit == u16::from(b'/'))
            .skip(1)
            .all(|part| {
                let dots = part.iter().filter(|&&unit| unit == u16::from(b'.')).count();
                let relative = (1..=2).contains(&part.len()) && dots == part.len();
                !part.is_empty() && !relative
            })
}
