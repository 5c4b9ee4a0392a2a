//! The records of ZooKeeper's transaction log.

use std::borrow::Cow;

use quorate_proto::Acl;

use super::super::fault::Fault;
use super::jute::Fields;

/// Bytes of a [`TxnDigest`].
const DIGEST_BYTES: usize = 12;
/// The only digest version whose rule we know.
pub(super) const DIGEST_VERSION: i32 = 2;

/// Who did it and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TxnHeader {
    pub(super) session: i64,
    pub(super) cxid: i32,
    pub(super) zxid: i64,
    pub(super) time_ms: i64,
    pub(super) code: i32,
}

/// The digest of the tree after a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TxnDigest {
    pub(super) version: i32,
    pub(super) tree: i64,
}

/// A create of any kind.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct LoggedCreate<'a> {
    pub(super) path: Cow<'a, str>,
    pub(super) data: Option<&'a [u8]>,
    pub(super) acl: Vec<Acl>,
    /// The parent's creation count after this; -1 in old logs: one more than before.
    pub(super) parent_cversion: i32,
    pub(super) kind: LoggedKind,
}

/// What kind of znode a create makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LoggedKind {
    Persistent,
    Ephemeral,
    Container,
    Ttl(i64),
}

/// What a transaction does.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum LoggedTxn<'a> {
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession {
        deleted: Vec<Cow<'a, str>>,
    },
    Error {
        code: i32,
    },
    Create(LoggedCreate<'a>),
    Delete {
        path: Cow<'a, str>,
    },
    SetData {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    SetAcl {
        path: Cow<'a, str>,
        acl: Vec<Acl>,
        version: i32,
    },
    Check {
        path: Cow<'a, str>,
        version: i32,
    },
    Multi(Vec<(i32, LoggedTxn<'a>)>),
}

/// One record of a log.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct LoggedRecord<'a> {
    pub(super) header: TxnHeader,
    pub(super) txn: LoggedTxn<'a>,
    pub(super) digest: Option<TxnDigest>,
}

impl<'a> LoggedRecord<'a> {
    /// Decodes the payload of one record.
    pub(super) fn decode(payload: &'a [u8]) -> Result<LoggedRecord<'a>, Fault> {
        let mut fields = Fields::new(payload);
        let header = TxnHeader {
            session: fields.long()?,
            cxid: fields.int()?,
            zxid: fields.long()?,
            time_ms: fields.long()?,
            code: fields.int()?,
        };
        let txn = match header.code {
            -11 => close_session(&mut fields)?,
            code => body(code, &mut fields, Nesting::Top)?,
        };
        let digest = match fields.remaining() {
            0 => None,
            DIGEST_BYTES => Some(TxnDigest {
                version: fields.int()?,
                tree: fields.long()?,
            }),
            _ => return Err(Fault::Malformed("bytes behind the end of the transaction")),
        };
        Ok(LoggedRecord {
            header,
            txn,
            digest,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Top,
    InMulti,
}

fn body<'a>(code: i32, fields: &mut Fields<'a>, nesting: Nesting) -> Result<LoggedTxn<'a>, Fault> {
    Ok(match (code, nesting) {
        (-10, Nesting::Top) => LoggedTxn::CreateSession {
            timeout_ms: fields.int()?,
        },
        (-1, _) => LoggedTxn::Error {
            code: fields.int()?,
        },
        (1 | 15 | 19 | 21, _) => LoggedTxn::Create(create(code, fields)?),
        (2 | 20, _) => LoggedTxn::Delete {
            path: fields.string("a path")?,
        },
        (5 | 16, _) => LoggedTxn::SetData {
            path: fields.string("a path")?,
            data: fields.buffer("data")?,
            version: fields.int()?,
        },
        (7, _) => LoggedTxn::SetAcl {
            path: fields.string("a path")?,
            acl: fields.acl()?,
            version: fields.int()?,
        },
        (13, Nesting::InMulti) => LoggedTxn::Check {
            path: fields.string("a path")?,
            version: fields.int()?,
        },
        (14, Nesting::Top) => multi(fields)?,
        _ => return Err(Fault::UnknownTxn(code)),
    })
}

fn create<'a>(code: i32, fields: &mut Fields<'a>) -> Result<LoggedCreate<'a>, Fault> {
    let path = fields.string("a path")?;
    let data = fields.buffer("data")?;
    let acl = fields.acl()?;
    let ephemeral = matches!(code, 1 | 15) && fields.boolean()?;
    // Logs of the first releases end here.
    let parent_cversion = if code == 1 && fields.remaining() == 0 {
        -1
    } else {
        fields.int()?
    };
    let kind = match code {
        19 => LoggedKind::Container,
        21 => LoggedKind::Ttl(fields.long()?),
        _ if ephemeral => LoggedKind::Ephemeral,
        _ => LoggedKind::Persistent,
    };
    Ok(LoggedCreate {
        path,
        data,
        acl,
        parent_cversion,
        kind,
    })
}

/// The list of deleted paths is missing where `closeSessionTxn.enabled` is off and in old logs,
/// and a digest may follow all the same: take the list only if it fits.
fn close_session<'a>(fields: &mut Fields<'a>) -> Result<LoggedTxn<'a>, Fault> {
    let mut listed = *fields;
    match paths(&mut listed) {
        Ok(deleted) if matches!(listed.remaining(), 0 | DIGEST_BYTES) => {
            *fields = listed;
            Ok(LoggedTxn::CloseSession { deleted })
        }
        _ if matches!(fields.remaining(), 0 | DIGEST_BYTES) => Ok(LoggedTxn::CloseSession {
            deleted: Vec::new(),
        }),
        Ok(_) => Err(Fault::Malformed("bytes behind the end of the transaction")),
        Err(fault) => Err(fault),
    }
}

fn paths<'a>(fields: &mut Fields<'a>) -> Result<Vec<Cow<'a, str>>, Fault> {
    let count = fields.count("the deleted paths", 4)?;
    (0..count).map(|_| fields.string("a path")).collect()
}

fn multi<'a>(fields: &mut Fields<'a>) -> Result<LoggedTxn<'a>, Fault> {
    let count = fields.count("a multi", 8)?;
    let mut txns = Vec::with_capacity(count);
    for _ in 0..count {
        let code = fields.int()?;
        let bytes = fields.buffer("a multi's element")?.unwrap_or_default();
        let mut element = Fields::new(bytes);
        txns.push((code, body(code, &mut element, Nesting::InMulti)?));
    }
    Ok(LoggedTxn::Multi(txns))
}
