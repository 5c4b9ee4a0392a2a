//! Answers of the right shape to requests that nobody has carried out.

use quorate_proto::jute::{Reader, Writer};
use quorate_proto::{OpCode, Stat, Xid};

use bytes::BytesMut;

const DATA: usize = 100;
const CHILDREN: usize = 100;
/// Bytes of a request's header, and of a reply's.
const HEADER: usize = 8;
/// Length, xid, zxid, err.
const REPLY_PREFIX: usize = 20;

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    Read,
    /// Changes something: to be logged.
    Write,
    /// Ends the session, too.
    Close,
}

/// Bodies that are the same every time, made once.
#[derive(Debug)]
pub(super) struct Answers {
    stat: Vec<u8>,
    data_stat: Vec<u8>,
    children: Vec<u8>,
    children_stat: Vec<u8>,
    set_result: Vec<u8>,
}

impl Answers {
    pub(super) fn new() -> Answers {
        let stat = Stat {
            czxid: 1,
            mzxid: 1,
            ctime: 1,
            mtime: 1,
            data_length: i32::try_from(DATA).unwrap_or(0),
            pzxid: 1,
            ..Stat::default()
        };
        let written = |write: &dyn Fn(&mut Writer<'_>)| {
            let mut out = BytesMut::new();
            write(&mut Writer::new(&mut out));
            out.to_vec()
        };
        let names = || (0..CHILDREN).map(|i| format!("child-{i:06}"));
        Answers {
            stat: written(&|w| stat.encode(w)),
            data_stat: written(&|w| {
                w.buffer(Some(&[b'x'; DATA]));
                stat.encode(w);
            }),
            children: written(&|w| w.strings(names())),
            children_stat: written(&|w| {
                w.strings(names());
                stat.encode(w);
            }),
            set_result: written(&|w| {
                w.i32(OpCode::SetData.code());
                w.bool(false);
                w.i32(0);
                stat.encode(w);
            }),
        }
    }

    /// Appends the answer to a request. `None`: it has no header, or an opcode that is unknown.
    pub(super) fn answer(&self, payload: &[u8], zxid: i64, out: &mut Vec<u8>) -> Option<Effect> {
        let (header, body) = payload.split_at_checked(HEADER)?;
        let (xid, code) = header.split_first_chunk::<4>()?;
        let op = OpCode::from_code(i32::from_be_bytes(code.try_into().ok()?))?;
        let xid = match op {
            OpCode::Ping => Xid::PING.0,
            _ => i32::from_be_bytes(*xid),
        };
        let start = out.len();
        let mut prefix = [0; REPLY_PREFIX];
        prefix.get_mut(4..8)?.copy_from_slice(&xid.to_be_bytes());
        prefix.get_mut(8..16)?.copy_from_slice(&zxid.to_be_bytes());
        out.extend_from_slice(&prefix);
        match op {
            OpCode::GetData => out.extend_from_slice(&self.data_stat),
            OpCode::SetData | OpCode::Exists | OpCode::SetAcl => {
                out.extend_from_slice(&self.stat);
            }
            OpCode::GetChildren => out.extend_from_slice(&self.children),
            OpCode::GetChildren2 => out.extend_from_slice(&self.children_stat),
            OpCode::Create | OpCode::Sync => out.extend_from_slice(string(body)?),
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                out.extend_from_slice(string(body)?);
                out.extend_from_slice(&self.stat);
            }
            OpCode::Multi => self.multi(body, out)?,
            _ => {}
        }
        let len = i32::try_from(out.len() - start - 4).ok()?;
        out.get_mut(start..start + 4)?
            .copy_from_slice(&len.to_be_bytes());
        Some(match op {
            OpCode::CloseSession => Effect::Close,
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi => Effect::Write,
            _ => Effect::Read,
        })
    }

    /// A result for each operation: of creates the path, of sets the Stat.
    fn multi(&self, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut reader = Reader::new(body);
        loop {
            let kind = reader.i32("type").ok()?;
            let done = reader.bool("done").ok()?;
            reader.i32("err").ok()?;
            if done {
                // -1, done, -1.
                out.extend_from_slice(&[255, 255, 255, 255, 1, 255, 255, 255, 255]);
                return Some(());
            }
            let path = string(reader.rest())?;
            reader.take("path", path.len()).ok()?;
            match OpCode::from_code(kind)? {
                OpCode::SetData => {
                    reader.buffer("data").ok()?;
                    reader.i32("version").ok()?;
                    out.extend_from_slice(&self.set_result);
                }
                OpCode::Delete | OpCode::Check => {
                    reader.i32("version").ok()?;
                    out.extend_from_slice(&kind.to_be_bytes());
                    out.extend_from_slice(&[0; 5]);
                }
                OpCode::Create => {
                    reader.buffer("data").ok()?;
                    quorate_proto::AclRef::read_list(&mut reader).ok()?;
                    reader.i32("flags").ok()?;
                    out.extend_from_slice(&kind.to_be_bytes());
                    out.extend_from_slice(&[0; 5]);
                    out.extend_from_slice(path);
                }
                _ => return None,
            }
        }
    }
}

/// The string at the front, with its length.
fn string(body: &[u8]) -> Option<&[u8]> {
    let (len, _) = body.split_first_chunk::<4>()?;
    let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
    body.get(..4 + len)
}

#[cfg(test)]
mod tests {
    use quorate_proto::multi::{MultiOp, MultiRequest};
    use quorate_proto::request::{PathVersion, PathWatch, SetData};
    use quorate_proto::{Reply, ReplyHeader, Request, Version, frame};

    use super::*;
    use crate::bench::admin;

    /// The answer, decoded as the answer to that opcode.
    fn check(request: &Request<'_>, effect: Effect, judge: impl FnOnce(Reply<'_>)) {
        let mut sent = BytesMut::new();
        request.write_frame(&mut sent, Xid(9)).unwrap();
        let (payload, _) = frame::split(&sent, 1 << 20).unwrap().unwrap();
        let mut out = Vec::new();
        let found = Answers::new().answer(payload, 77, &mut out);
        assert_eq!(found, Some(effect), "{request:?}");
        let (payload, used) = frame::split(&out, 1 << 20).unwrap().unwrap();
        assert_eq!(used, out.len());
        let (header, body) = ReplyHeader::decode(payload).unwrap();
        assert_eq!((header.zxid.0, header.err), (77, 0));
        judge(Reply::decode(request.op(), body).unwrap());
    }

    #[test]
    fn every_answer_has_the_shape_of_its_opcode() {
        let at = || PathWatch {
            path: "/a".into(),
            watch: false,
        };
        let path = || PathVersion {
            path: "/a".into(),
            version: Version::ANY,
        };
        check(&Request::GetData(at()), Effect::Read, |reply| {
            assert!(matches!(reply, Reply::DataStat(Some(data), _) if data.len() == DATA));
        });
        check(&Request::GetChildren2(at()), Effect::Read, |reply| {
            assert!(matches!(reply, Reply::ChildrenStat(names, _) if names.len() == CHILDREN));
        });
        check(&admin::create("/a", b"x", 0), Effect::Write, |reply| {
            assert_eq!(reply, Reply::Path("/a".into()));
        });
        check(&Request::Delete(path()), Effect::Write, |reply| {
            assert_eq!(reply, Reply::Empty);
        });
        check(&Request::CloseSession, Effect::Close, |reply| {
            assert_eq!(reply, Reply::Empty);
        });
        let set = MultiOp::SetData(SetData {
            path: "/a".into(),
            data: Some(b"x"),
            version: Version::ANY,
        });
        let ops = vec![set, MultiOp::Delete(path())];
        check(
            &Request::Multi(MultiRequest { ops }),
            Effect::Write,
            |reply| {
                assert!(matches!(reply, Reply::Multi(results) if results.len() == 2));
            },
        );
    }

    #[test]
    fn what_is_no_request_has_no_answer() {
        let mut out = Vec::new();
        for payload in [&b""[..], &[0; 7], &[0; 8], &[0, 0, 0, 1, 0, 0, 0, 99]] {
            assert_eq!(Answers::new().answer(payload, 1, &mut out), None);
        }
    }
}
