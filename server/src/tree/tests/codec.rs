//! Proposals survive their bytes, and bytes that are none are refused.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_proto::{Acl, ErrorCode, Id, Perms, SessionId, Version, Zxid};

use crate::tree::txn::{Create, CreateKind, Judgement, Op, Origin, Proposal, Ticket, Txn};
use crate::tree::{CallerBuf, CodecError};

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let entry = (any::<i32>(), "[a-z]{0,5}", ".{0,9}").prop_map(|(perms, scheme, id)| Acl {
        perms: Perms(perms),
        id: Id::new(scheme, id),
    });
    prop_oneof![Just(Acl::open_unsafe()), vec(entry, 0..4)]
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(vec(any::<u8>(), 0..40))
}

fn kind() -> impl Strategy<Value = CreateKind> {
    prop_oneof![
        Just(CreateKind::Persistent),
        Just(CreateKind::Ephemeral),
        Just(CreateKind::Container),
        any::<i64>().prop_map(CreateKind::Ttl),
    ]
}

fn op() -> impl Strategy<Value = Op<'static>> {
    let path = || ".{0,20}";
    prop_oneof![
        proptest::sample::select(ErrorCode::ALL).prop_map(|code| Op::Refused { code }),
        (path(), data(), acl(), kind(), any::<[bool; 3]>()).prop_map(
            |(path, data, acl, kind, [sequential, enforce_quota, with_stat])| {
                Op::Create(Create {
                    path: path.into(),
                    data: data.map(Into::into),
                    acl: acl.into(),
                    kind,
                    sequential,
                    enforce_quota,
                    with_stat,
                })
            }
        ),
        (path(), any::<i32>()).prop_map(|(path, version)| Op::Delete {
            path: path.into(),
            version: Version(version),
        }),
        (path(), data(), any::<i32>(), any::<bool>()).prop_map(
            |(path, data, version, enforce_quota)| Op::SetData {
                path: path.into(),
                data: data.map(Into::into),
                version: Version(version),
                enforce_quota,
            }
        ),
        (path(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Op::SetAcl {
            path: path.into(),
            acl: acl.into(),
            version: Version(version),
        }),
        (path(), any::<i32>()).prop_map(|(path, version)| Op::Check {
            path: path.into(),
            version: Version(version),
        }),
    ]
}

fn txn() -> impl Strategy<Value = Txn<'static>> {
    let ticket = || {
        any::<(u8, u64, u64)>().prop_map(|(server, boot, count)| Ticket {
            server,
            boot,
            count,
        })
    };
    prop_oneof![
        op().prop_map(Txn::Op),
        vec(op(), 0..6).prop_map(Txn::Multi),
        (ticket(), any::<i32>())
            .prop_map(|(ticket, timeout_ms)| Txn::OpenSession { ticket, timeout_ms }),
        (ticket(), any::<i64>(), any::<i32>()).prop_map(|(ticket, session, timeout_ms)| {
            Txn::Attach {
                ticket,
                session: SessionId(session),
                timeout_ms,
            }
        }),
        Just(Txn::CloseSession),
        any::<(i64, u32, u64, u64)>().prop_map(|(session, attach, seq, term)| {
            Txn::ExpireSession {
                session: SessionId(session),
                judged: Judgement { attach, seq, term },
            }
        }),
        (".{0,20}", any::<(i64, i64)>()).prop_map(|(path, (czxid, mzxid))| Txn::Reap {
            path: path.into(),
            czxid: Zxid(czxid),
            mzxid: Zxid(mzxid),
        }),
    ]
}

fn encoded(origin: (i64, u32, u64), ids: &[(String, String)], txn: &Txn<'_>) -> BytesMut {
    let ids: Vec<Id> = ids.iter().map(|(scheme, id)| Id::new(scheme, id)).collect();
    let caller = CallerBuf::new(&ids, false);
    let mut out = BytesMut::new();
    Proposal {
        origin: Origin {
            session: SessionId(origin.0),
            attach: origin.1,
            seq: origin.2,
        },
        caller: caller.as_caller(),
        txn: txn.clone(),
    }
    .encode(&mut out);
    out
}

proptest! {
    #[test]
    fn proposals_survive_their_bytes(
        txns in vec((txn(), any::<(i64, u32, u64)>(), vec(("[a-z]{1,4}", ".{0,6}"), 0..3)), 1..4),
    ) {
        let mut log = BytesMut::new();
        for (txn, origin, ids) in &txns {
            log.extend_from_slice(&encoded(*origin, ids, txn));
        }
        let mut rest = &log[..];
        for (txn, origin, ids) in &txns {
            let back = Proposal::decode(&mut rest).unwrap();
            prop_assert_eq!(&back.txn, txn);
            let back_origin = (back.origin.session.0, back.origin.attach, back.origin.seq);
            prop_assert_eq!(back_origin, *origin);
            let back_ids: Vec<_> = back
                .caller
                .ids()
                .map(|(scheme, id)| (scheme.to_owned(), id.to_owned()))
                .collect();
            prop_assert_eq!(&back_ids, ids);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_record_that_is_cut_off_is_refused(txn in txn(), cut in any::<prop::sample::Index>()) {
        let record = encoded((1, 2, 3), &[], &txn);
        let cut = &record[..cut.index(record.len())];
        let mut rest = cut;
        prop_assert!(Proposal::decode(&mut rest).is_err());
        prop_assert_eq!(rest.len(), cut.len(), "nothing is taken");
        // Cut inside, with a length that fits again.
        if let Some((_, body)) = cut.split_first_chunk::<4>() {
            let mut lied = BytesMut::from(&u32::try_from(body.len()).unwrap().to_be_bytes()[..]);
            lied.extend_from_slice(body);
            prop_assert!(Proposal::decode(&mut &lied[..]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        txn in txn(),
        noise in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        random in vec(any::<u8>(), 0..60),
    ) {
        let _ = Proposal::decode(&mut &random[..]);
        let mut record = encoded((1, 2, 3), &[], &txn);
        for (at, byte) in noise {
            let at = at.index(record.len());
            record[at] = byte;
        }
        let _ = Proposal::decode(&mut &record[..]);
    }
}

#[test]
fn a_record_may_not_be_longer_than_its_transaction() {
    let mut record = encoded((1, 2, 3), &[], &Txn::CloseSession);
    record.extend_from_slice(&[0]);
    let len = u32::try_from(record.len() - 4).unwrap();
    record[..4].copy_from_slice(&len.to_be_bytes());
    let result = Proposal::decode(&mut &record[..]);
    assert_eq!(result, Err(CodecError::TooLong { count: 1 }));
}

#[test]
fn declared_counts_are_not_believed() {
    let mut record = encoded((1, 2, 3), &[], &Txn::Multi(vec![]));
    let len = record.len();
    record[len - 4..].copy_from_slice(&u32::MAX.to_be_bytes());
    let result = Proposal::decode(&mut &record[..]);
    assert_eq!(result, Err(CodecError::Truncated { field: "multi" }));
}
