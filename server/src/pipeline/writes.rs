//! Writes: what this server's own settings say about them, and their way into the log.
//!
//! Flags, disabled types, ACL providers and the caller's identities are judged here, in
//! ZooKeeper's order of checks; whatever the tree says is judged at apply. A refusal does not skip
//! the log: it keeps its place and takes a zxid, as in ZooKeeper.

use std::borrow::Cow;

use quorate_proto::jute::{DecodeError, Reader};
use quorate_proto::multi::MultiOp;
use quorate_proto::request::{Create as CreateRequest, Request};
use quorate_proto::{AclRef, CreateMode, ErrorCode, OpCode, Version, path};

use super::Pipeline;
use super::acl::FixUp;
use super::line::{Ask, Line, Ran};
use crate::replication::{Refused, Unavailable};
use crate::sessions::InFlight;
use crate::tree::txn::{Create, CreateKind, Op, Origin, Proposal, Txn};

/// The TTL that creates without a TTL field imply.
const NO_TTL: i64 = -1;

impl Line {
    /// Sends a write on its way.
    pub(super) fn write(&mut self, ask: &Ask<'_>, body: &[u8]) -> Ran {
        let request = match Request::decode(ask.op, body) {
            Ok(request) => request,
            // Whatever ZooKeeper can read takes a zxid, and it reads a null path. A multi takes one
            // even if it cannot be read, unless it trips over a null ACL list on the way.
            Err(error) => {
                let takes_zxid = match error {
                    DecodeError::Null { field: "path" } => true,
                    DecodeError::Null { field: "acl" } => false,
                    _ => ask.op == OpCode::Multi,
                };
                let code = self
                    .pathless_create(ask.op, body)
                    .unwrap_or_else(|| Request::decode_error_code(ask.op, error));
                if takes_zxid {
                    return self.propose(ask, Txn::Op(Op::Refused { code }));
                }
                self.refuse(ask, code);
                return Ran::Yes;
            }
        };
        let fix_up = FixUp::new(ask.identities, &self.pipeline.rules);
        match self.pipeline.txn(request, &fix_up) {
            Ok(txn) => self.propose(ask, txn),
            Err(Unreadable) => {
                self.refuse(ask, ErrorCode::MarshallingError);
                Ran::Yes
            }
        }
    }

    /// The flags of a create are judged before its path, even if that is null.
    fn pathless_create(&self, op: OpCode, body: &[u8]) -> Option<ErrorCode> {
        let mut reader = Reader::new(body);
        if reader.string("path").ok()?.is_some() {
            return None;
        }
        let form = match op {
            OpCode::Create => CreateForm::Plain,
            OpCode::Create2 => CreateForm::WithStat,
            OpCode::CreateContainer => CreateForm::Container,
            OpCode::CreateTtl => CreateForm::Ttl(NO_TTL),
            _ => return None,
        };
        reader.buffer("data").ok()?;
        AclRef::read_list(&mut reader).ok()?;
        let flags = reader.i32("flags").ok()?;
        let form = match form {
            CreateForm::Ttl(_) => CreateForm::Ttl(reader.i64("ttl").ok()?),
            form => form,
        };
        form.kind(flags, self.pipeline.extended_types).err()
    }

    fn propose(&mut self, ask: &Ask<'_>, txn: Txn<'_>) -> Ran {
        let Some(attachment) = self.conn.attachment.get() else {
            self.refuse(ask, ErrorCode::SessionExpired);
            return Ran::Yes;
        };
        let seq = self.next_seq;
        let closes = matches!(txn, Txn::CloseSession);
        let origin = Origin {
            session: attachment.session,
            attach: attachment.attach,
            seq,
        };
        let proposal = Proposal {
            origin,
            caller: ask.identities.caller(),
            txn,
        };
        // Noted before it leaves: its outcome may come before the push returns.
        self.conn.outbox().sent_on(InFlight {
            seq,
            xid: ask.xid,
            op: ask.op,
            read_at: ask.read_at,
        });
        match self.pipeline.replication.queue().push(&proposal) {
            Ok(()) => {
                self.next_seq += 1;
                if closes {
                    self.end();
                }
                Ran::Yes
            }
            Err(Refused::Full { .. }) => {
                self.conn.outbox().take_back(seq);
                Ran::NotNow
            }
            Err(Refused::TooLarge { bytes, limit }) => {
                self.conn.outbox().take_back(seq);
                tracing::warn!(session = %attachment.session, bytes, limit, "write refused: too large for the log");
                self.refuse(ask, ErrorCode::MarshallingError);
                Ran::Yes
            }
            // Another server may take it: the client finds one.
            Err(Refused::Unavailable(Unavailable::NoLeader)) => {
                self.conn.outbox().take_back(seq);
                self.conn
                    .outbox()
                    .close(crate::sessions::CloseReason::OutcomeUnknown);
                Ran::Yes
            }
            Err(Refused::Unavailable(reason)) => {
                self.conn.outbox().take_back(seq);
                tracing::debug!(session = %attachment.session, %reason, "write refused");
                // Nothing happened, and nothing will: the one code that says just that.
                self.refuse(ask, ErrorCode::NotReadOnly);
                Ran::Yes
            }
        }
    }
}

/// The request cannot be made a transaction of: it is refused without the log.
struct Unreadable;

impl Pipeline {
    fn txn<'a>(&self, request: Request<'a>, fix_up: &FixUp<'_>) -> Result<Txn<'a>, Unreadable> {
        let op = match request {
            Request::CloseSession => return Ok(Txn::CloseSession),
            Request::Multi(multi) => {
                let ops = multi.ops.into_iter().map(|op| self.multi_op(op, fix_up));
                return Ok(Txn::Multi(ops.collect()));
            }
            Request::Create(create) => self.create(create, CreateForm::Plain, fix_up),
            Request::Create2(create) => self.create(create, CreateForm::WithStat, fix_up),
            Request::CreateContainer(create) => self.create(create, CreateForm::Container, fix_up),
            Request::CreateTtl(ttl) => self.create(ttl.create, CreateForm::Ttl(ttl.ttl_ms), fix_up),
            Request::Delete(delete) => Op::Delete {
                path: delete.path,
                version: delete.version,
            },
            Request::SetData(set) => self.set_data(set.path, set.data, set.version),
            Request::SetAcl { path, acl, version } => {
                self.set_acl(path, acl.as_deref(), version, fix_up)
            }
            // ZooKeeper lets anybody pass by every ACL with it. It is a server's own operation.
            Request::DeleteContainer { .. } => Op::Refused {
                code: ErrorCode::NoAuth,
            },
            // A server of one has no ensemble to change.
            Request::Reconfig(_) if self.reconfig_enabled => Op::Refused {
                code: ErrorCode::Unimplemented,
            },
            Request::Reconfig(_) => Op::Refused {
                code: ErrorCode::ReconfigDisabled,
            },
            // Nothing else is routed here.
            _ => return Err(Unreadable),
        };
        Ok(Txn::Op(op))
    }

    fn multi_op<'a>(&self, op: MultiOp<'a>, fix_up: &FixUp<'_>) -> Op<'a> {
        let (create, form) = match op {
            MultiOp::Create(create) => (create, CreateForm::Plain),
            MultiOp::Create2(create) => (create, CreateForm::WithStat),
            MultiOp::CreateContainer(create) => (create, CreateForm::Container),
            MultiOp::CreateTtl(ttl) => (ttl.create, CreateForm::Ttl(ttl.ttl_ms)),
            MultiOp::Delete(delete) => {
                return Op::Delete {
                    path: delete.path,
                    version: delete.version,
                };
            }
            MultiOp::SetData(set) => return self.set_data(set.path, set.data, set.version),
            MultiOp::Check(check) => {
                return Op::Check {
                    path: check.path,
                    version: check.version,
                };
            }
        };
        let form = form.in_multi(create.flags);
        self.create(create, form, fix_up)
    }

    fn create<'a>(
        &self,
        create: CreateRequest<'a>,
        form: CreateForm,
        fix_up: &FixUp<'_>,
    ) -> Op<'a> {
        let kind = match form.kind(create.flags, self.extended_types) {
            Ok(kind) => kind,
            Err(code) => return Op::Refused { code },
        };
        if !create.path.contains('/') || create.path.contains('\0') {
            return Op::Refused {
                code: ErrorCode::BadArguments,
            };
        }
        match fix_up.list(create.acl.as_deref()) {
            Err(code) => Op::Refused { code },
            Ok(acl) => Op::Create(Create {
                path: create.path,
                data: create.data.map(Cow::Borrowed),
                acl,
                kind,
                sequential: CreateMode::from_flags(create.flags)
                    .is_some_and(CreateMode::is_sequential),
                enforce_quota: self.enforce_quota,
                with_stat: form != CreateForm::Plain,
            }),
        }
    }

    fn set_data<'a>(&self, path: Cow<'a, str>, data: Option<&'a [u8]>, version: Version) -> Op<'a> {
        let enforce_quota = self.enforce_quota;
        Op::SetData {
            path,
            data: data.map(Cow::Borrowed),
            version,
            enforce_quota,
        }
    }

    fn set_acl<'a>(
        &self,
        path: Cow<'a, str>,
        list: Option<&[AclRef<'_>]>,
        version: Version,
        fix_up: &FixUp<'_>,
    ) -> Op<'a> {
        // The path comes before the list, and the list before whether the znode exists.
        if path::validate(&path).is_err() {
            return Op::Refused {
                code: ErrorCode::BadArguments,
            };
        }
        match fix_up.list(list) {
            Err(code) => Op::Refused { code },
            Ok(acl) => Op::SetAcl { path, acl, version },
        }
    }
}

/// Which opcode of the create family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CreateForm {
    Plain,
    WithStat,
    Container,
    Ttl(i64),
}

impl CreateForm {
    /// Inside a multi ZooKeeper goes by the flags where it goes by the opcode outside.
    fn in_multi(self, flags: i32) -> CreateForm {
        match (self, CreateMode::from_flags(flags)) {
            (_, Some(CreateMode::Container)) => CreateForm::Container,
            (CreateForm::Ttl(_), Some(mode)) if !mode.is_ttl() => CreateForm::Plain,
            (form, _) => form,
        }
    }

    /// What the opcode makes of the flags. ZooKeeper's order: flags, disabled types, ttl.
    fn kind(self, flags: i32, extended_types: bool) -> Result<CreateKind, ErrorCode> {
        let mode = CreateMode::from_flags(flags).ok_or(ErrorCode::BadArguments)?;
        let ttl = if let CreateForm::Ttl(ttl) = self {
            ttl
        } else {
            NO_TTL
        };
        if mode.is_ttl() {
            if !extended_types {
                return Err(ErrorCode::Unimplemented);
            }
            if !quorate_proto::is_valid_ttl(ttl) {
                return Err(ErrorCode::BadArguments);
            }
            return Ok(CreateKind::Ttl(ttl));
        }
        match self {
            // ZooKeeper 3.9.5 lets one case pass, a ttl of -1, and dies of it.
            CreateForm::Ttl(_) => Err(ErrorCode::BadArguments),
            CreateForm::Container => Ok(CreateKind::Container),
            _ if mode.is_ephemeral() => Ok(CreateKind::Ephemeral),
            _ => Ok(CreateKind::Persistent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_MOST: i64 = (1 << 40) - 1;

    #[test]
    fn opcodes_and_flags_make_the_znodes_that_zookeeper_makes() {
        use CreateForm::{Container, Plain, Ttl, WithStat};
        let bad = Err(ErrorCode::BadArguments);
        for (form, flags, expected) in [
            (Plain, 0, Ok(CreateKind::Persistent)),
            (Plain, 1, Ok(CreateKind::Ephemeral)),
            (WithStat, 2, Ok(CreateKind::Persistent)),
            (WithStat, 3, Ok(CreateKind::Ephemeral)),
            (Plain, 4, Ok(CreateKind::Persistent)),
            (WithStat, 4, Ok(CreateKind::Persistent)),
            (Plain, 5, bad),
            (Container, 6, bad),
            (Container, 0, Ok(CreateKind::Container)),
            (Container, 1, Ok(CreateKind::Container)),
            (Container, 3, Ok(CreateKind::Container)),
            (Container, 4, Ok(CreateKind::Container)),
            (Ttl(1), 5, Ok(CreateKind::Ttl(1))),
            (Ttl(TTL_MOST), 6, Ok(CreateKind::Ttl(TTL_MOST))),
            (Ttl(TTL_MOST + 1), 5, bad),
            (Ttl(0), 5, bad),
            (Ttl(-1), 6, bad),
            (Ttl(5), 0, bad),
            (Ttl(0), 1, bad),
            (Ttl(-1), 0, bad),
            (Plain, 7, bad),
            (Plain, -1, bad),
        ] {
            assert_eq!(
                form.kind(flags, true),
                expected,
                "{form:?} with flags {flags}"
            );
        }
    }

    #[test]
    fn inside_a_multi_flags_say_what_the_opcode_says_outside() {
        use CreateForm::{Container, Plain, Ttl, WithStat};
        for (form, flags, expected) in [
            (Plain, 0, Plain),
            (WithStat, 3, WithStat),
            (Plain, 4, Container),
            (WithStat, 4, Container),
            (Container, 2, Container),
            (Ttl(-1), 0, Plain),
            (Ttl(5), 4, Container),
            (Ttl(0), 5, Ttl(0)),
            (Ttl(5), 9, Ttl(5)),
        ] {
            assert_eq!(
                form.in_multi(flags),
                expected,
                "{form:?} with flags {flags}"
            );
        }
    }

    #[test]
    fn disabled_ttl_types_are_unimplemented_before_their_ttl_is_looked_at() {
        let form = CreateForm::Ttl(0);
        assert_eq!(form.kind(5, false), Err(ErrorCode::Unimplemented));
        assert_eq!(
            CreateForm::Plain.kind(6, false),
            Err(ErrorCode::Unimplemented)
        );
        assert_eq!(
            CreateForm::Ttl(-1).kind(0, false),
            Err(ErrorCode::BadArguments)
        );
        assert_eq!(form.kind(9, false), Err(ErrorCode::BadArguments));
    }
}
