//! A client that writes without a pause and keeps a journal.
//!
//! Each round writes under a znode of its own, `/r<round>-<worker>`, so that what has to be
//! looked at afterwards stays small. Sequential znodes go into a parent that all workers share.

use std::collections::VecDeque;

use bytes::BytesMut;
use quorate_proto::multi::{MultiOp, MultiRequest};
use quorate_proto::request::{Create, PathVersion, PathWatch, SetData};
use quorate_proto::{AclRef, CreateMode, OpCode, Perms, Reply, Request, Version, Xid};
use quorate_server::testing::wire::{Frame, Response, WireClient};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use crate::journal::{Ack, Journal, Op, World, Znode};

/// One connection and what it does next.
pub(crate) struct Worker {
    client: WireClient,
    pub(crate) journal: Journal,
    root: String,
    shared: String,
    rng: StdRng,
    made: u32,
    /// Plain znodes that may still be deleted.
    deletable: Vec<String>,
    /// Sequential znodes that were acknowledged.
    numbered: VecDeque<(String, String)>,
    window: usize,
}

impl Worker {
    /// A worker that writes below `root` and numbers znodes that begin with `shared`.
    pub(crate) fn new(client: WireClient, root: String, shared: String, seed: u64) -> Worker {
        let mut rng = StdRng::seed_from_u64(seed);
        Worker {
            client,
            journal: Journal::default(),
            root,
            shared,
            window: rng.random_range(1..=64),
            rng,
            made: 0,
            deletable: Vec::new(),
            numbered: VecDeque::new(),
        }
    }

    /// Keeps at most this many requests under way; else 1 to 64, as the seed says.
    pub(crate) fn window(mut self, window: usize) -> Worker {
        self.window = window;
        self
    }

    /// Writes until the connection ends, or `most` requests are acknowledged. Counts
    /// acknowledgements in `acked`.
    pub(crate) async fn run(mut self, most: usize, acked: watch::Sender<usize>) -> Worker {
        let mut out = BytesMut::new();
        let (mut checked, mut last_zxid) = (0, 0);
        loop {
            while self.journal.ops.len() < most.min(checked + self.window) {
                let op = self.next_op();
                let xid = i32::try_from(self.journal.ops.len() + 1).unwrap();
                encode(&op, &self.shared, Xid(xid), &mut out);
                self.journal.ops.push(op);
            }
            if checked == self.journal.ops.len() {
                return self;
            }
            if !out.is_empty() {
                self.client.send_raw(&out.split()).await;
            }
            let response = match self.client.next().await {
                Some(Frame::Reply(response)) => response,
                Some(Frame::Event(event)) => panic!("nobody asked for {event:?}"),
                None => return self,
            };
            let op = self.journal.ops[checked].clone();
            let ack = acknowledged(&op, &response);
            let xid = response.header.xid.0;
            assert_eq!(usize::try_from(xid).unwrap(), checked + 1, "out of order");
            assert!(ack.zxid > last_zxid, "zxids rise: {op:?}");
            last_zxid = ack.zxid;
            if let (Op::Number { data }, Some(number)) = (&op, ack.number) {
                let path = format!("{}{number:010}", self.shared);
                self.numbered.push_back((data.clone(), path));
            }
            self.journal.acks.push(ack);
            checked += 1;
            acked.send_modify(|acked| *acked += 1);
        }
    }

    /// Ends the load without a kill: the connection, for whoever looks at the outcome.
    pub(crate) fn into_client(self) -> (WireClient, Journal) {
        (self.client, self.journal)
    }

    fn name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{}/{kind}{}", self.root, self.made)
    }

    fn create(&mut self, kind: &str, owner: i64) -> Op {
        let path = self.name(kind);
        let data = format!("data of {path}");
        Op::Create { path, data, owner }
    }

    fn set_root(&mut self) -> Op {
        let data = self.name("value");
        let path = self.root.clone();
        Op::Set { path, data }
    }

    fn next_op(&mut self) -> Op {
        if self.journal.ops.is_empty() {
            return Op::Create {
                path: self.root.clone(),
                data: String::new(),
                owner: 0,
            };
        }
        match self.rng.random_range(0..100) {
            0..30 => {
                let op = self.create("n", 0);
                if let Op::Create { path, .. } = &op {
                    self.deletable.push(path.clone());
                }
                op
            }
            30..50 => self.set_root(),
            50..60 if !self.deletable.is_empty() => {
                let at = self.rng.random_range(0..self.deletable.len());
                let path = self.deletable.swap_remove(at);
                Op::Delete { path }
            }
            60..75 => {
                let (first, last) = (self.create("m", 0), self.create("m", 0));
                Op::Multi(vec![first, self.set_root(), last])
            }
            75..85 => {
                let session = self.client.session();
                self.create("e", session.0)
            }
            85..92 if !self.numbered.is_empty() => {
                let (data, path) = self.numbered.pop_back().unwrap();
                Op::Forget { data, path }
            }
            _ => Op::Number {
                data: self.name("s"),
            },
        }
    }
}

fn open<'a>(path: &'a str, data: &'a str, mode: CreateMode) -> Create<'a> {
    Create {
        path: path.into(),
        data: Some(data.as_bytes()),
        acl: Some(vec![AclRef {
            perms: Perms::ALL,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags: mode.flags(),
    }
}

fn create<'a>(path: &'a str, data: &'a str, owner: i64) -> Create<'a> {
    let mode = match owner {
        0 => CreateMode::Persistent,
        _ => CreateMode::Ephemeral,
    };
    open(path, data, mode)
}

fn set<'a>(path: &'a str, data: &'a str) -> SetData<'a> {
    SetData {
        path: path.into(),
        data: Some(data.as_bytes()),
        version: Version(-1),
    }
}

fn delete(path: &str) -> PathVersion<'_> {
    PathVersion {
        path: path.into(),
        version: Version(-1),
    }
}

fn in_multi(op: &Op) -> MultiOp<'_> {
    match op {
        Op::Create { path, data, owner } => MultiOp::Create(create(path, data, *owner)),
        Op::Set { path, data } => MultiOp::SetData(set(path, data)),
        other => unreachable!("no multi is made of {other:?}"),
    }
}

fn encode(op: &Op, shared: &str, xid: Xid, out: &mut BytesMut) {
    let request = match op {
        Op::Create { path, data, owner } => Request::Create(create(path, data, *owner)),
        Op::Set { path, data } => Request::SetData(set(path, data)),
        Op::Delete { path } | Op::Forget { path, .. } => Request::Delete(delete(path)),
        Op::Number { data } => {
            Request::Create(open(shared, data, CreateMode::PersistentSequential))
        }
        Op::Multi(ops) => Request::Multi(MultiRequest {
            ops: ops.iter().map(in_multi).collect(),
        }),
    };
    request.write_frame(out, xid).unwrap();
}

/// Every request is made to succeed; one that does not is a fault of the server's.
fn acknowledged(op: &Op, response: &Response) -> Ack {
    assert_eq!(response.header.err, 0, "{op:?}: {response:?}");
    let number = match op {
        Op::Number { .. } => match response.result(OpCode::Create) {
            Ok(Reply::Path(path)) => Some(number_of(&path)),
            other => panic!("{op:?}: {other:?}"),
        },
        _ => None,
    };
    Ack {
        zxid: response.header.zxid.0,
        number,
    }
}

/// The ten digits at the end of a sequential znode's name.
pub(crate) fn number_of(path: &str) -> i32 {
    path[path.len() - 10..].parse().unwrap()
}

/// What is there of `root` and its children; the numbered znodes are somebody else's to add.
pub(crate) async fn observe(client: &mut WireClient, root: &str) -> World {
    let mut world = World::default();
    if client.exists(root, false).await.is_err() {
        return world;
    }
    let mut paths = vec![root.to_owned()];
    let names = client.get_children(root, false).await.unwrap();
    paths.extend(names.iter().map(|name| format!("{root}/{name}")));
    for (path, (data, stat)) in read_all(client, &paths).await {
        let node = Znode {
            data,
            version: stat.version,
            cversion: stat.cversion,
            owner: stat.ephemeral_owner,
            czxid: Some(stat.czxid),
            mzxid: Some(stat.mzxid),
        };
        world.nodes.insert(path, node);
    }
    world
}

/// Reads many znodes in one go; all must be there.
pub(crate) async fn read_all(
    client: &mut WireClient,
    paths: &[String],
) -> Vec<(String, (String, quorate_proto::Stat))> {
    let mut found = Vec::new();
    for chunk in paths.chunks(500) {
        let mut out = BytesMut::new();
        for path in chunk {
            let path = path.as_str().into();
            let request = Request::GetData(PathWatch { path, watch: false });
            request.write_frame(&mut out, Xid(1)).unwrap();
        }
        client.send_raw(&out).await;
        for path in chunk {
            match client.reply().await.result(OpCode::GetData) {
                Ok(Reply::DataStat(data, stat)) => {
                    let data = String::from_utf8(data.unwrap_or_default().to_vec()).unwrap();
                    found.push((path.clone(), (data, stat)));
                }
                other => panic!("{path}: {other:?}"),
            }
        }
    }
    found
}
