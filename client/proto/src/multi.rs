//! Several operations in one request: `multi` writes, `multiRead` reads, and their results.
//!
//! Both are lists in which every element stands behind a header of nine bytes, and a header that
//! says so ends the list. Of a terminator nothing else is looked at, and of a request's header
//! only the type.

use std::borrow::Cow;

use crate::CreateMode;
use crate::Stat;
use crate::jute::{DecodeError, Reader, Writer};
use crate::op::OpCode;
use crate::request::{Create, CreateTtl, PathVersion, PathWatch, SetData};

/// The type of a result that is an error.
const ERROR: i32 = -1;

/// The header of an element; `None` ends the list.
fn read_header(r: &mut Reader<'_>) -> Result<Option<i32>, DecodeError> {
    let kind = r.i32("multi type")?;
    let done = r.bool("multi done")?;
    r.i32("multi err")?;
    Ok((!done).then_some(kind))
}

fn write_header(w: &mut Writer<'_>, kind: i32, done: bool, err: i32) {
    w.i32(kind);
    w.bool(done);
    w.i32(err);
}

fn not_allowed(kind: i32) -> DecodeError {
    DecodeError::BadValue {
        field: "multi type",
        value: kind.into(),
    }
}

/// The body of `multi`: all of them, or none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MultiRequest<'a> {
    /// In their order. Empty is legal.
    pub ops: Vec<MultiOp<'a>>,
}

/// One write of a `multi`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiOp<'a> {
    /// `create`.
    Create(Create<'a>),
    /// `create2`.
    Create2(Create<'a>),
    /// `createContainer`.
    CreateContainer(Create<'a>),
    /// `createTTL`.
    CreateTtl(CreateTtl<'a>),
    /// `delete`.
    Delete(PathVersion<'a>),
    /// `setData`.
    SetData(SetData<'a>),
    /// `check`.
    Check(PathVersion<'a>),
}

impl<'a> MultiRequest<'a> {
    /// Flags that are no mode, or that of a TTL, make the whole request malformed, unlike those of
    /// a single create; so does a null ACL list.
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<MultiRequest<'a>, DecodeError> {
        let mut ops = Vec::new();
        while let Some(kind) = read_header(r)? {
            ops.push(match OpCode::from_code(kind) {
                Some(OpCode::Create) => MultiOp::Create(with_mode(Create::read(r)?)?),
                Some(OpCode::Create2) => MultiOp::Create2(with_mode(Create::read(r)?)?),
                Some(OpCode::CreateContainer) => {
                    MultiOp::CreateContainer(with_mode(Create::read(r)?)?)
                }
                // Alone of the family it may have any flags: they are that operation's error.
                Some(OpCode::CreateTtl) => MultiOp::CreateTtl(CreateTtl::read(r)?),
                Some(OpCode::Delete) => MultiOp::Delete(PathVersion::read(r)?),
                Some(OpCode::SetData) => MultiOp::SetData(SetData::read(r)?),
                Some(OpCode::Check) => MultiOp::Check(PathVersion::read(r)?),
                _ => return Err(not_allowed(kind)),
            });
        }
        Ok(MultiRequest { ops })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        for op in &self.ops {
            write_header(w, op.op().code(), false, -1);
            op.encode(w);
        }
        write_header(w, ERROR, true, -1);
    }
}

/// What ZooKeeper needs to make an operation of a create, but for one with a TTL.
fn with_mode(create: Create<'_>) -> Result<Create<'_>, DecodeError> {
    // In this order: what comes first says whether the request takes a zxid.
    match CreateMode::from_flags(create.flags) {
        Some(_) if create.acl.is_none() => Err(DecodeError::Null { field: "acl" }),
        Some(mode) if !mode.is_ttl() => Ok(create),
        _ => Err(DecodeError::BadValue {
            field: "flags",
            value: create.flags.into(),
        }),
    }
}

impl MultiOp<'_> {
    /// The opcode.
    #[must_use]
    pub const fn op(&self) -> OpCode {
        match self {
            MultiOp::Create(_) => OpCode::Create,
            MultiOp::Create2(_) => OpCode::Create2,
            MultiOp::CreateContainer(_) => OpCode::CreateContainer,
            MultiOp::CreateTtl(_) => OpCode::CreateTtl,
            MultiOp::Delete(_) => OpCode::Delete,
            MultiOp::SetData(_) => OpCode::SetData,
            MultiOp::Check(_) => OpCode::Check,
        }
    }

    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            MultiOp::Create(create)
            | MultiOp::Create2(create)
            | MultiOp::CreateContainer(create) => create.encode(w),
            MultiOp::CreateTtl(create) => create.encode(w),
            MultiOp::Delete(record) | MultiOp::Check(record) => record.encode(w),
            MultiOp::SetData(set) => set.encode(w),
        }
    }
}

/// The body of `multiRead`: each on its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MultiRead<'a> {
    /// In their order. Empty is legal.
    pub ops: Vec<MultiReadOp<'a>>,
}

/// One read of a `multiRead`. Its watch flag has no effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiReadOp<'a> {
    /// `getData`.
    GetData(PathWatch<'a>),
    /// `getChildren`.
    GetChildren(PathWatch<'a>),
}

impl<'a> MultiRead<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<MultiRead<'a>, DecodeError> {
        let mut ops = Vec::new();
        while let Some(kind) = read_header(r)? {
            ops.push(match OpCode::from_code(kind) {
                Some(OpCode::GetData) => MultiReadOp::GetData(PathWatch::read(r)?),
                Some(OpCode::GetChildren) => MultiReadOp::GetChildren(PathWatch::read(r)?),
                _ => return Err(not_allowed(kind)),
            });
        }
        Ok(MultiRead { ops })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        for op in &self.ops {
            let (op, record) = match op {
                MultiReadOp::GetData(record) => (OpCode::GetData, record),
                MultiReadOp::GetChildren(record) => (OpCode::GetChildren, record),
            };
            write_header(w, op.code(), false, -1);
            record.encode(w);
        }
        write_header(w, ERROR, true, -1);
    }
}

/// One result of a `multi` or `multiRead`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiResult<'a> {
    /// `create` took effect.
    Create {
        /// The full path.
        path: Cow<'a, str>,
    },
    /// One of the other creates did. They all answer as `create2`.
    Create2 {
        /// The full path.
        path: Cow<'a, str>,
        /// As of this operation.
        stat: Stat,
    },
    /// `delete` took effect.
    Delete,
    /// `setData` did.
    SetData(
        /// As of this operation.
        Stat,
    ),
    /// The version was as expected.
    Check,
    /// What `getChildren` found.
    GetChildren(
        /// Names, in no promised order.
        Vec<Cow<'a, str>>,
    ),
    /// What `getData` found.
    GetData {
        /// `None` is null.
        data: Option<&'a [u8]>,
        /// Of the same moment.
        stat: Stat,
    },
    /// No effect: the operation's own error, or 0 in front of the one that failed, or
    /// `RuntimeInconsistency` behind it.
    Error(
        /// 0 or an [`ErrorCode`](crate::ErrorCode).
        i32,
    ),
}

impl<'a> MultiResult<'a> {
    /// Reads the body of a reply.
    ///
    /// # Errors
    /// `BadValue` for a type that is no result; the others as everywhere.
    pub fn read_list(r: &mut Reader<'a>) -> Result<Vec<MultiResult<'a>>, DecodeError> {
        let mut results = Vec::new();
        while let Some(kind) = read_header(r)? {
            if kind == ERROR {
                results.push(MultiResult::Error(r.i32("err")?));
                continue;
            }
            results.push(match OpCode::from_code(kind) {
                Some(OpCode::Create) => MultiResult::Create {
                    path: r.required_string("path")?,
                },
                Some(OpCode::Create2) => MultiResult::Create2 {
                    path: r.required_string("path")?,
                    stat: Stat::read(r)?,
                },
                Some(OpCode::Delete) => MultiResult::Delete,
                Some(OpCode::SetData) => MultiResult::SetData(Stat::read(r)?),
                Some(OpCode::Check) => MultiResult::Check,
                Some(OpCode::GetChildren) => {
                    MultiResult::GetChildren(r.required_strings("children")?)
                }
                Some(OpCode::GetData) => MultiResult::GetData {
                    data: r.buffer("data")?,
                    stat: Stat::read(r)?,
                },
                _ => return Err(not_allowed(kind)),
            });
        }
        Ok(results)
    }

    /// Writes the body of a reply.
    pub fn encode_list(results: &[MultiResult<'_>], w: &mut Writer<'_>) {
        let mut w = ResultWriter::new(w);
        for result in results {
            match result {
                MultiResult::Create { path } => w.create(path),
                MultiResult::Create2 { path, stat } => w.create2(path, stat),
                MultiResult::Delete => w.delete(),
                MultiResult::SetData(stat) => w.set_data(stat),
                MultiResult::Check => w.check(),
                MultiResult::GetChildren(names) => w.children(names),
                MultiResult::GetData { data, stat } => w.data(*data, stat),
                MultiResult::Error(code) => w.error(*code),
            }
        }
        w.finish();
    }
}

/// Writes results one by one, from wherever they are; [`ResultWriter::finish`] ends the list.
#[derive(Debug)]
#[must_use = "a list without its end is no list"]
pub struct ResultWriter<'w, 'b> {
    writer: &'w mut Writer<'b>,
}

impl<'w, 'b> ResultWriter<'w, 'b> {
    /// Starts a list.
    pub fn new(writer: &'w mut Writer<'b>) -> ResultWriter<'w, 'b> {
        ResultWriter { writer }
    }

    fn ok(&mut self, op: OpCode) -> &mut Writer<'b> {
        write_header(self.writer, op.code(), false, 0);
        self.writer
    }

    /// `create` took effect.
    pub fn create(&mut self, path: &str) {
        self.ok(OpCode::Create).string(path);
    }

    /// `create2`, `createContainer` or `createTTL` did.
    pub fn create2(&mut self, path: &str, stat: &Stat) {
        let w = self.ok(OpCode::Create2);
        w.string(path);
        stat.encode(w);
    }

    /// `delete` did.
    pub fn delete(&mut self) {
        self.ok(OpCode::Delete);
    }

    /// `setData` did.
    pub fn set_data(&mut self, stat: &Stat) {
        stat.encode(self.ok(OpCode::SetData));
    }

    /// The version was as expected.
    pub fn check(&mut self) {
        self.ok(OpCode::Check);
    }

    /// What `getChildren` found.
    pub fn children<T: AsRef<str>>(&mut self, names: impl IntoIterator<Item = T>) {
        self.ok(OpCode::GetChildren).strings(names);
    }

    /// What `getData` found.
    pub fn data(&mut self, data: Option<&[u8]>, stat: &Stat) {
        let w = self.ok(OpCode::GetData);
        w.buffer(data);
        stat.encode(w);
    }

    /// No effect; 0 is legal, see [`MultiResult::Error`].
    pub fn error(&mut self, code: i32) {
        write_header(self.writer, ERROR, false, code);
        self.writer.i32(code);
    }

    /// The end of the list.
    pub fn finish(self) {
        write_header(self.writer, ERROR, true, -1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::Version;

    fn decode(body: &[u8]) -> Result<MultiRequest<'_>, DecodeError> {
        MultiRequest::read(&mut Reader::new(body))
    }

    fn body(write: impl FnOnce(&mut Writer<'_>)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut Writer::new(&mut out));
        out
    }

    fn delete(path: &str) -> PathVersion<'_> {
        PathVersion {
            path: path.into(),
            version: Version::ANY,
        }
    }

    #[test]
    fn only_done_ends_the_list() {
        let bytes = body(|w| {
            write_header(w, OpCode::Delete.code(), false, 77);
            delete("/a").encode(w);
            write_header(w, 42, true, 42);
        });
        assert_eq!(decode(&bytes).unwrap().ops, [MultiOp::Delete(delete("/a"))]);
    }

    #[test]
    fn an_operation_that_is_no_write_makes_it_malformed() {
        for kind in [3, 4, 6, 7, 8, 12, 14, 20, 22, 999, -1, 0] {
            let bytes = body(|w| {
                write_header(w, kind, false, -1);
                delete("/a").encode(w);
                write_header(w, -1, true, -1);
            });
            assert_eq!(decode(&bytes), Err(not_allowed(kind)));
        }
    }

    #[test]
    fn a_read_among_reads_must_be_one_of_two() {
        for kind in [1, 2, 3, 5, 12, 13] {
            let bytes = body(|w| {
                write_header(w, kind, false, -1);
                delete("/a").encode(w);
                write_header(w, -1, true, -1);
            });
            assert_eq!(
                MultiRead::read(&mut Reader::new(&bytes)),
                Err(not_allowed(kind))
            );
        }
    }

    #[test]
    fn a_null_acl_list_makes_it_malformed_but_for_create_ttl() {
        let create = Create {
            path: "/a".into(),
            data: None,
            acl: None,
            flags: 0,
        };
        let encoded = |op| body(|w| MultiRequest { ops: vec![op] }.encode(w));
        let null = Err(DecodeError::Null { field: "acl" });
        assert_eq!(decode(&encoded(MultiOp::Create(create.clone()))), null);
        let ttl = MultiOp::CreateTtl(CreateTtl { create, ttl_ms: 1 });
        let bytes = encoded(ttl.clone());
        assert_eq!(decode(&bytes), Ok(MultiRequest { ops: vec![ttl] }));
    }

    #[test]
    fn flags_that_are_no_mode_make_it_malformed_but_for_create_ttl() {
        for flags in [-1, 5, 6, 7, 8] {
            let create = Create {
                path: "/a".into(),
                data: None,
                acl: Some(Vec::new()),
                flags,
            };
            let encoded = |op| body(|w| MultiRequest { ops: vec![op] }.encode(w));
            for op in [
                MultiOp::Create(create.clone()),
                MultiOp::Create2(create.clone()),
                MultiOp::CreateContainer(create.clone()),
            ] {
                let expected = DecodeError::BadValue {
                    field: "flags",
                    value: flags.into(),
                };
                assert_eq!(decode(&encoded(op)), Err(expected));
            }
            // Seen on ZooKeeper 3.9.5: here they are the operation's own error.
            let ttl = MultiOp::CreateTtl(CreateTtl { create, ttl_ms: 1 });
            let bytes = encoded(ttl.clone());
            assert_eq!(decode(&bytes), Ok(MultiRequest { ops: vec![ttl] }));
        }
    }

    #[test]
    fn a_list_without_its_terminator_is_malformed() {
        let ops = vec![MultiOp::Delete(delete("/a")), MultiOp::Check(delete("/b"))];
        let whole = body(|w| MultiRequest { ops }.encode(w));
        assert!(decode(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "{end}");
        }
    }
}
