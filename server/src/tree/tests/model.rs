//! A second tree, as plain as can be: one sorted map, scans for everything, a copy for every
//! multi. Random transactions must make both the same.

use std::collections::BTreeMap;

use quorate_proto::{Acl, ErrorCode, EventType, Id, Perms, SessionId, Stat, Version};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::support::*;
use crate::tree::State;
use crate::tree::txn::{Create, CreateKind, Op, OpResult, Origin, Outcome, Txn, Verdict};

#[derive(Clone, PartialEq, Debug)]
struct Znode {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    creations: i32,
    stat: Stat,
    kind: CreateKind,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Model {
    znodes: BTreeMap<String, Znode>,
    events: Vec<(EventType, String)>,
}

#[derive(Clone, PartialEq, Debug)]
enum Done {
    Created(String, Stat),
    Changed(Stat),
    Nothing,
}

struct Request {
    session: i64,
    ids: Vec<(&'static str, &'static str)>,
    zxid: i64,
    time_ms: i64,
}

fn parent_of(path: &str) -> String {
    match path.rfind('/').unwrap() {
        0 => "/".to_owned(),
        at => path[..at].to_owned(),
    }
}

fn is_path(path: &str) -> bool {
    path == "/"
        || (path.starts_with('/')
            && path[1..]
                .split('/')
                .all(|name| !["", ".", ".."].contains(&name))
            && !path.chars().any(|c| c < ' '))
}

impl Model {
    pub(super) fn new() -> Model {
        let mut model = Model::default();
        for (path, acl, aversion) in [
            ("/", Acl::open_unsafe(), 0),
            ("/zookeeper", Acl::open_unsafe(), 0),
            ("/zookeeper/quota", Acl::open_unsafe(), 0),
            ("/zookeeper/config", Acl::read_unsafe(), -1),
        ] {
            let stat = Stat {
                aversion,
                ..Stat::default()
            };
            let znode = Znode {
                data: Some(vec![]),
                acl,
                creations: 0,
                stat,
                kind: CreateKind::Persistent,
            };
            model.znodes.insert(path.to_owned(), znode);
        }
        model
    }

    fn children(&self, path: &str) -> Vec<String> {
        let all = self.znodes.keys().filter(|other| *other != "/");
        all.filter(|other| parent_of(other) == path)
            .cloned()
            .collect()
    }

    fn stat(&self, path: &str) -> Stat {
        let znode = &self.znodes[path];
        let children = i32::try_from(self.children(path).len()).unwrap();
        Stat {
            data_length: i32::try_from(znode.data.as_ref().map_or(0, Vec::len)).unwrap(),
            num_children: children,
            cversion: znode.creations * 2 - children,
            ..znode.stat
        }
    }

    fn may(&self, path: &str, perms: Perms, request: &Request) -> Result<(), ErrorCode> {
        let matches = |entry: &Acl| {
            entry.perms.0 & perms.0 != 0
                && (entry.id == Id::anyone()
                    || request.ids.iter().any(|(s, i)| entry.id == Id::new(*s, *i)))
        };
        let is_super = request.ids.iter().any(|(scheme, _)| *scheme == "super");
        if is_super || self.znodes[path].acl.iter().any(matches) {
            Ok(())
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    fn existing(&self, path: &str) -> Result<(), ErrorCode> {
        if self.znodes.contains_key(path) {
            Ok(())
        } else {
            Err(ErrorCode::NoNode)
        }
    }

    fn child_changed(&mut self, path: &str, request: &Request, created: bool) {
        let parent = parent_of(path);
        let znode = self.znodes.get_mut(&parent).unwrap();
        znode.creations += i32::from(created);
        znode.stat.pzxid = request.zxid;
        self.events.push((EventType::NodeChildrenChanged, parent));
    }

    fn remove(&mut self, path: &str, request: &Request) {
        self.znodes.remove(path).unwrap();
        self.events.push((EventType::NodeDeleted, path.to_owned()));
        self.child_changed(path, request, false);
    }

    fn op(&mut self, op: &Op<'_>, request: &Request) -> Result<Done, ErrorCode> {
        match op {
            Op::Refused { code } => Err(*code),
            Op::Create(create) => self.create(create, request),
            Op::Delete { path, version } => {
                let special = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
                if !path.contains('/') || special.contains(&&**path) {
                    return Err(ErrorCode::BadArguments);
                }
                let parent = parent_of(path);
                self.existing(&parent)?;
                self.may(&parent, Perms::DELETE, request)?;
                self.existing(path)?;
                expect(*version, self.znodes[&**path].stat.version)?;
                if !self.children(path).is_empty() {
                    return Err(ErrorCode::NotEmpty);
                }
                self.remove(path, request);
                Ok(Done::Nothing)
            }
            Op::SetData {
                path,
                data,
                version,
                ..
            } => {
                self.found(path, Perms::WRITE, request)?;
                let znode = self.znodes.get_mut(&**path).unwrap();
                expect(*version, znode.stat.version)?;
                znode.data = data.as_deref().map(<[u8]>::to_vec);
                znode.stat.version += 1;
                znode.stat.mzxid = request.zxid;
                znode.stat.mtime = request.time_ms;
                self.events
                    .push((EventType::NodeDataChanged, path.to_string()));
                Ok(Done::Changed(self.stat(path)))
            }
            Op::SetAcl { path, acl, version } => {
                self.found(path, Perms::ADMIN, request)?;
                let znode = self.znodes.get_mut(&**path).unwrap();
                expect(*version, znode.stat.aversion)?;
                znode.acl = acl.to_vec();
                znode.stat.aversion += 1;
                Ok(Done::Changed(self.stat(path)))
            }
            Op::Check { path, version } => {
                self.found(path, Perms::READ, request)?;
                expect(*version, self.znodes[&**path].stat.version)?;
                Ok(Done::Nothing)
            }
        }
    }

    fn found(&self, path: &str, perms: Perms, request: &Request) -> Result<(), ErrorCode> {
        if !is_path(path) {
            return Err(ErrorCode::BadArguments);
        }
        self.existing(path)?;
        self.may(path, perms, request)
    }

    fn create(&mut self, create: &Create<'_>, request: &Request) -> Result<Done, ErrorCode> {
        if !create.path.contains('/') {
            return Err(ErrorCode::BadArguments);
        }
        let parent = parent_of(&create.path);
        self.existing(&parent)?;
        self.may(&parent, Perms::CREATE, request)?;
        let mut path = create.path.to_string();
        if create.sequential {
            path += &format!("{:010}", self.znodes[&parent].creations);
        }
        if !is_path(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.znodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if self.znodes[&parent].kind == CreateKind::Ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let stat = Stat {
            czxid: request.zxid,
            mzxid: request.zxid,
            pzxid: request.zxid,
            ctime: request.time_ms,
            mtime: request.time_ms,
            ephemeral_owner: match create.kind {
                CreateKind::Ephemeral => request.session,
                CreateKind::Persistent | CreateKind::Container | CreateKind::Ttl(_) => 0,
            },
            ..Stat::default()
        };
        let znode = Znode {
            data: create.data.as_deref().map(<[u8]>::to_vec),
            acl: create.acl.to_vec(),
            creations: 0,
            stat,
            kind: create.kind,
        };
        self.znodes.insert(path.clone(), znode);
        self.events.push((EventType::NodeCreated, path.clone()));
        self.child_changed(&path, request, true);
        let stat = self.stat(&path);
        Ok(Done::Created(path, stat))
    }

    fn close(&mut self, session: i64, request: &Request) {
        let owned = |znode: &Znode| znode.stat.ephemeral_owner == session;
        let paths: Vec<String> = self
            .znodes
            .iter()
            .filter(|(_, znode)| owned(znode))
            .map(|(path, _)| path.clone())
            .collect();
        for path in paths {
            self.remove(&path, request);
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let counted = self
            .znodes
            .iter()
            .filter(|(path, _)| !path.starts_with("/zookeeper/"));
        counted
            .map(|(path, znode)| {
                let owner = match znode.kind {
                    CreateKind::Persistent | CreateKind::Ephemeral => znode.stat.ephemeral_owner,
                    CreateKind::Container => i64::MIN,
                    CreateKind::Ttl(ms) => (0xFF << 56) | ms,
                };
                let mut bytes = if path == "/" {
                    vec![]
                } else {
                    path.clone().into_bytes()
                };
                bytes.extend(znode.data.iter().flatten());
                let stat = &znode.stat;
                for long in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
                    bytes.extend(long.to_be_bytes());
                }
                for int in [stat.version, znode.creations, stat.aversion] {
                    bytes.extend(int.to_be_bytes());
                }
                bytes.extend(owner.to_be_bytes());
                u64::from(crc32fast::hash(&bytes))
            })
            .sum()
    }

    /// Compares everything that a client could see.
    pub(super) fn assert_same(&self, state: &State) {
        let tree = state.tree();
        assert_eq!(tree.node_count(), self.znodes.len() as u64);
        assert_eq!(tree.digest(), self.digest());
        let bytes: usize = self
            .znodes
            .iter()
            .map(|(path, znode)| path.len() + znode.data.as_ref().map_or(0, Vec::len))
            .sum();
        assert_eq!(tree.approximate_data_size(), bytes as u64);
        let ephemerals = self
            .znodes
            .values()
            .filter(|z| z.kind == CreateKind::Ephemeral);
        assert_eq!(tree.ephemeral_count(), ephemerals.count() as u64);
        for (path, znode) in &self.znodes {
            let guard = tree.read(path);
            let node = guard.node().unwrap_or_else(|| panic!("{path} is missing"));
            assert_eq!(node.stat(), self.stat(path), "{path}");
            assert_eq!(node.data(), znode.data.as_deref(), "{path}");
            assert_eq!(node.acl(), znode.acl, "{path}");
            let names: Vec<String> = self
                .children(path)
                .iter()
                .map(|child| child.rsplit_once('/').unwrap().1.to_owned())
                .collect();
            assert!(
                node.children().eq(names.iter().map(String::as_str)),
                "{path}"
            );
            assert!(guard.shard_zxid() <= state.applied_zxid());
        }
        let mut due: Vec<&String> = self
            .znodes
            .iter()
            .filter(|(path, znode)| {
                matches!(znode.kind, CreateKind::Container | CreateKind::Ttl(_))
                    && self.children(path).is_empty()
            })
            .map(|(path, _)| path)
            .collect();
        let found = tree.reap_candidates(i64::MAX, Some(0), usize::MAX);
        let mut found: Vec<&str> = found.iter().map(|(path, ..)| &**path).collect();
        found.sort_unstable();
        due.sort_unstable();
        assert_eq!(found, due);
    }
}

fn expect(version: Version, actual: i32) -> Result<(), ErrorCode> {
    if version.0 == -1 || version.0 == actual {
        Ok(())
    } else {
        Err(ErrorCode::BadVersion)
    }
}

fn result_of(result: OpResult) -> Done {
    match result {
        OpResult::Created { path, stat } => Done::Created(path.to_string(), stat),
        OpResult::Changed { stat } => Done::Changed(stat),
        OpResult::Deleted | OpResult::Checked => Done::Nothing,
    }
}

/// Draws transactions over few names, so that they meet.
pub(super) struct Draw(pub(super) StdRng);

impl Draw {
    pub(super) fn seeded(offset: u64) -> Draw {
        let seed: u64 = match std::env::var("QUORATE_SEED") {
            Ok(seed) => seed.parse().expect("a number"),
            Err(_) => rand::random(),
        };
        println!("QUORATE_SEED={seed}");
        Draw(StdRng::seed_from_u64(seed.wrapping_add(offset)))
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        if self.0.random_ratio(1, 30) {
            let odd = [
                "/",
                "",
                "//",
                "/a/",
                "b",
                "/zookeeper",
                "/zookeeper/config",
                "/a/../b",
            ];
            return odd.choose(&mut self.0).unwrap().to_string();
        }
        for _ in 0..self.0.random_range(1..4) {
            path += "/";
            path += ["a", "b", "cc", "é"].choose(&mut self.0).unwrap();
        }
        path
    }

    fn version(&mut self) -> Version {
        Version(*[-1, -1, -1, 0, 1, 2].choose(&mut self.0).unwrap())
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        let len = self.0.random_range(0..50);
        self.0.random_ratio(5, 6).then(|| vec![len; len.into()])
    }

    fn acl(&mut self) -> Vec<Acl> {
        let acl = |perms, scheme, id| Acl {
            perms,
            id: Id::new(scheme, id),
        };
        match self.0.random_range(0..10) {
            0 => vec![acl(Perms::ALL, "digest", "bob:x")],
            1 => vec![
                acl(Perms::READ | Perms::CREATE, "world", "anyone"),
                acl(Perms::ALL, "digest", "eve:y"),
            ],
            _ => Acl::open_unsafe(),
        }
    }

    pub(super) fn op(&mut self) -> Op<'static> {
        let path = self.path().into();
        match self.0.random_range(0..100) {
            0..45 => {
                let kind = match self.0.random_range(0..10) {
                    0..2 => CreateKind::Ephemeral,
                    2 => CreateKind::Container,
                    3 => CreateKind::Ttl(self.0.random_range(1..100)),
                    _ => CreateKind::Persistent,
                };
                Op::Create(Create {
                    path,
                    data: self.data().map(Into::into),
                    acl: self.acl().into(),
                    kind,
                    sequential: self.0.random_ratio(1, 5),
                    enforce_quota: false,
                    with_stat: false,
                })
            }
            45..65 => Op::Delete {
                path,
                version: self.version(),
            },
            65..85 => Op::SetData {
                path,
                data: self.data().map(Into::into),
                version: self.version(),
                enforce_quota: false,
            },
            85..90 => Op::SetAcl {
                path,
                acl: self.acl().into(),
                version: self.version(),
            },
            90..98 => Op::Check {
                path,
                version: self.version(),
            },
            _ => Op::Refused {
                code: ErrorCode::InvalidAcl,
            },
        }
    }

    pub(super) fn caller(&mut self) -> Vec<(&'static str, &'static str)> {
        match self.0.random_range(0..8) {
            0 => vec![],
            1..4 => vec![("ip", "127.0.0.1"), ("digest", "bob:x")],
            4 => vec![("digest", "eve:y")],
            _ => vec![("super", "")],
        }
    }
}

#[test]
fn random_transactions_make_tree_and_model_the_same() {
    for round in 0..6 {
        let mut draw = Draw::seeded(round);
        let mut world = World::new();
        let mut model = Model::new();
        for step in 0..1500 {
            step_both(&mut draw, &mut world, &mut model);
            if step % 50 == 0 {
                model.assert_same(&world.state);
            }
        }
        model.assert_same(&world.state);
    }
}

/// One transaction on both, compared.
pub(super) fn step_both(draw: &mut Draw, world: &mut World, model: &mut Model) {
    world.now_ms += draw.0.random_range(-3..10);
    let ids = draw.caller();
    world.become_caller(&ids);
    let request = Request {
        session: world.session.0,
        ids,
        zxid: world.zxid() + 1,
        time_ms: world.now_ms,
    };
    world.events();
    model.events.clear();
    match draw.0.random_range(0..20) {
        0 => {
            let verdict = world.write(Txn::CloseSession);
            assert!(matches!(verdict, Verdict::Closed { .. }));
            model.close(request.session, &request);
            assert_eq!(world.events(), std::mem::take(&mut model.events));
            (world.session, world.seq, world.attach) = (world.open(), 0, 1);
        }
        1 => {
            // Two sessions take turns.
            let sessions = world.state.sessions();
            let (other, info) = *sessions.choose(&mut draw.0).unwrap();
            (world.session, world.seq) = (other, info.last_seq);
            if sessions.len() < 3 {
                (world.session, world.seq) = (world.open(), 0);
            }
        }
        2 => {
            let tree = world.state.tree();
            if let Some((path, czxid, mzxid)) = tree.reap_candidates(i64::MAX, Some(0), 1).pop() {
                let txn = Txn::Reap {
                    path: path.to_string().into(),
                    czxid,
                    mzxid,
                };
                let verdict = world.raw(Origin::default(), txn);
                assert!(matches!(verdict, Verdict::Judged { .. }), "{verdict:?}");
                model.remove(&path, &request);
            }
        }
        3..8 => {
            let ops: Vec<Op<'static>> = (0..draw.0.random_range(0..6)).map(|_| draw.op()).collect();
            let mut trial = model.clone();
            let mut expected = Ok(vec![]);
            for (index, op) in ops.iter().enumerate() {
                match (trial.op(op, &request), &mut expected) {
                    (Ok(done), Ok(results)) => results.push(done),
                    (Err(code), _) => {
                        expected = Err((index, code));
                        break;
                    }
                    (_, Err(_)) => unreachable!("stopped there"),
                }
            }
            if expected.is_ok() {
                *model = trial;
            }
            let shown = format!("{ops:?}");
            let found = world.multi(ops);
            let found = found.map(|results| results.into_iter().map(result_of).collect());
            assert_eq!(found, expected, "{shown}");
        }
        _ => {
            let op = draw.op();
            let expected = model.op(&op, &request);
            let shown = format!("{op:?}");
            assert_eq!(world.op(op).map(result_of), expected, "{shown}");
        }
    }
    assert_eq!(world.events(), model.events);
}

#[test]
fn the_same_log_makes_the_same_verdicts_and_digest_on_every_server() {
    let mut draw = Draw::seeded(100);
    let (first, second) = (State::new([1; 32]), State::new([1; 32]));
    let mut session = SessionId::NONE;
    let mut seq = 0;
    for step in 0..3000 {
        let caller = crate::tree::CallerBuf::new(&[Id::new("super", "")], false);
        let txn = match step % 500 {
            0 => Txn::OpenSession {
                ticket: crate::tree::txn::Ticket {
                    server: 3,
                    boot: 1,
                    count: step,
                },
                timeout_ms: 1,
            },
            499 => Txn::CloseSession,
            _ if draw.0.random_ratio(1, 4) => Txn::Multi((0..4).map(|_| draw.op()).collect()),
            _ => Txn::Op(draw.op()),
        };
        seq += 1;
        let proposal = crate::tree::txn::Proposal {
            origin: Origin {
                session,
                attach: 1,
                seq,
            },
            caller: caller.as_caller(),
            txn,
        };
        let (mut told_first, mut told_second) = (Events::default(), Events::default());
        let verdict = first.apply(step.cast_signed(), &proposal, &mut told_first);
        assert_eq!(
            verdict,
            second.apply(step.cast_signed(), &proposal, &mut told_second)
        );
        assert_eq!(told_first, told_second);
        assert_eq!(first.tree().digest(), second.tree().digest());
        if let Verdict::Opened { session: id, .. } = verdict {
            (session, seq) = (id, 0);
        }
        let failed = matches!(
            verdict,
            Verdict::Judged {
                outcome: Outcome::Failed(_) | Outcome::MultiFailed { .. },
                ..
            }
        );
        assert!(!failed || told_first.0.is_empty());
    }
}
