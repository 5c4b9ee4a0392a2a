//! A client of a state, for tests: it numbers its writes and writes down what it is told.

use std::borrow::Cow;

use quorate_proto::{Acl, ErrorCode, EventType, Id, Perms, SessionId, Stat, Version, Zxid};

use crate::tree::txn::{
    Create, CreateKind, Op, OpResult, Origin, Outcome, Proposal, Ticket, Txn, Verdict,
};
use crate::tree::{CallerBuf, ChangeSink, State};

/// Writes events down.
#[derive(Default, Debug, PartialEq, Clone)]
pub(super) struct Events(pub(super) Vec<(EventType, String)>);

impl ChangeSink for Events {
    fn change(&mut self, _: Zxid, event: EventType, path: &str, _: &[Acl]) {
        self.0.push((event, path.to_owned()));
    }
}

/// A state with one session.
pub(super) struct World {
    pub(super) state: State,
    pub(super) session: SessionId,
    pub(super) attach: u32,
    pub(super) seq: u64,
    pub(super) now_ms: i64,
    pub(super) caller: CallerBuf,
    /// Since they were last taken.
    pub(super) events: Events,
    tickets: u64,
}

impl World {
    pub(super) fn new() -> World {
        World::of(State::new([7; 32]))
    }

    pub(super) fn of(state: State) -> World {
        let mut world = World {
            state,
            session: SessionId::NONE,
            attach: 1,
            seq: 0,
            now_ms: 1000,
            caller: CallerBuf::new(&[], false),
            events: Events::default(),
            tickets: 0,
        };
        world.session = world.open();
        world
    }

    /// The same client, of another state.
    pub(super) fn moved_to(self, state: State) -> World {
        World { state, ..self }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket {
            server: 1,
            boot: 99,
            count: self.tickets,
        }
    }

    pub(super) fn open(&mut self) -> SessionId {
        let ticket = self.ticket();
        let txn = Txn::OpenSession {
            ticket,
            timeout_ms: 4000,
        };
        match self.raw(Origin::default(), txn) {
            Verdict::Opened { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn raw(&mut self, origin: Origin, txn: Txn<'_>) -> Verdict {
        let caller = self.caller.clone();
        let proposal = Proposal {
            origin,
            caller: caller.as_caller(),
            txn,
        };
        self.state.apply(self.now_ms, &proposal, &mut self.events)
    }

    pub(super) fn next(&mut self) -> Origin {
        self.seq += 1;
        Origin {
            session: self.session,
            attach: self.attach,
            seq: self.seq,
        }
    }

    pub(super) fn write(&mut self, txn: Txn<'_>) -> Verdict {
        let origin = self.next();
        self.raw(origin, txn)
    }

    pub(super) fn op(&mut self, op: Op<'_>) -> Result<OpResult, ErrorCode> {
        match self.write(Txn::Op(op)) {
            Verdict::Judged {
                outcome: Outcome::Done(result),
                ..
            } => Ok(result),
            Verdict::Judged {
                outcome: Outcome::Failed(code),
                ..
            } => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn multi(&mut self, ops: Vec<Op<'_>>) -> Result<Vec<OpResult>, (usize, ErrorCode)> {
        match self.write(Txn::Multi(ops)) {
            Verdict::Judged {
                outcome: Outcome::MultiDone(results),
                ..
            } => Ok(results),
            Verdict::Judged {
                outcome: Outcome::MultiFailed { index, code },
                ..
            } => Err((index, code)),
            other => panic!("{other:?}"),
        }
    }

    /// The path that was made.
    pub(super) fn create(&mut self, path: &str) -> Result<String, ErrorCode> {
        self.created(create(path))
    }

    pub(super) fn sequential(&mut self, path: &str) -> Result<String, ErrorCode> {
        self.created(sequential(path))
    }

    pub(super) fn created(&mut self, op: Op<'_>) -> Result<String, ErrorCode> {
        match self.op(op)? {
            OpResult::Created { path, .. } => Ok(path.to_string()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn changed(&mut self, op: Op<'_>) -> Result<Stat, ErrorCode> {
        match self.op(op)? {
            OpResult::Changed { stat } => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn stat(&self, path: &str) -> Option<Stat> {
        self.state.tree().read(path).node().map(|node| node.stat())
    }

    pub(super) fn data(&self, path: &str) -> Option<Vec<u8>> {
        let guard = self.state.tree().read(path);
        guard.node()?.data().map(<[u8]>::to_vec)
    }

    pub(super) fn text(&self, path: &str) -> String {
        String::from_utf8(self.data(path).expect("exists, and is not null")).unwrap()
    }

    pub(super) fn children(&self, path: &str) -> Vec<String> {
        let guard = self.state.tree().read(path);
        let node = guard.node().expect("exists");
        node.children().map(str::to_owned).collect()
    }

    pub(super) fn events(&mut self) -> Vec<(EventType, String)> {
        std::mem::take(&mut self.events.0)
    }

    pub(super) fn become_caller(&mut self, ids: &[(&str, &str)]) {
        let ids: Vec<Id> = ids
            .iter()
            .map(|&(scheme, id)| Id::new(scheme, id))
            .collect();
        self.caller = CallerBuf::new(&ids, false);
    }

    pub(super) fn zxid(&self) -> i64 {
        self.state.applied_zxid().0
    }
}

pub(super) fn create_with<'a>(
    path: &'a str,
    kind: CreateKind,
    data: Option<&'a [u8]>,
) -> Create<'a> {
    Create {
        path: path.into(),
        data: data.map(Cow::Borrowed),
        acl: Acl::open_unsafe().into(),
        kind,
        sequential: false,
        enforce_quota: false,
        with_stat: true,
    }
}

pub(super) fn create(path: &str) -> Op<'_> {
    Op::Create(create_with(path, CreateKind::Persistent, Some(b"data")))
}

pub(super) fn ephemeral(path: &str) -> Op<'_> {
    Op::Create(create_with(path, CreateKind::Ephemeral, None))
}

pub(super) fn container(path: &str) -> Op<'_> {
    Op::Create(create_with(path, CreateKind::Container, None))
}

pub(super) fn ttl(path: &str, ms: i64) -> Op<'_> {
    Op::Create(create_with(path, CreateKind::Ttl(ms), None))
}

pub(super) fn sequential(path: &str) -> Op<'_> {
    Op::Create(Create {
        sequential: true,
        ..create_with(path, CreateKind::Persistent, Some(b""))
    })
}

pub(super) fn protected<'a>(path: &'a str, acl: &'a [Acl]) -> Op<'a> {
    Op::Create(Create {
        acl: acl.into(),
        ..create_with(path, CreateKind::Persistent, Some(b""))
    })
}

pub(super) fn delete(path: &str, version: i32) -> Op<'_> {
    Op::Delete {
        path: path.into(),
        version: Version(version),
    }
}

pub(super) fn set<'a>(path: &'a str, data: &'a str, version: i32) -> Op<'a> {
    Op::SetData {
        path: path.into(),
        data: Some(data.as_bytes().into()),
        version: Version(version),
        enforce_quota: false,
    }
}

pub(super) fn set_acl<'a>(path: &'a str, acl: &'a [Acl], version: i32) -> Op<'a> {
    Op::SetAcl {
        path: path.into(),
        acl: acl.into(),
        version: Version(version),
    }
}

pub(super) fn check(path: &str, version: i32) -> Op<'_> {
    Op::Check {
        path: path.into(),
        version: Version(version),
    }
}

pub(super) fn only(perms: Perms) -> Vec<Acl> {
    vec![Acl {
        perms,
        id: Id::anyone(),
    }]
}
