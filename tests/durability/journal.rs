//! What one client asked for, what it was told, and whether what is there agrees.
//!
//! The promise: requests of one connection take effect in their order, each wholly or not at all,
//! and those that were acknowledged have taken effect. So what a crash leaves must be what a
//! prefix of the requests gives, no shorter than what was acknowledged. [`Journal::judge`] looks
//! for that prefix in what was observed: data, versions, owners, counts of children, zxids. Only
//! this client writes where it writes, except for the numbered znodes, whose parent all share.

use std::collections::BTreeMap;
use std::fmt;

/// A change that a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A znode; `owner` is 0 or, for an ephemeral one, the session.
    Create {
        path: String,
        data: String,
        owner: i64,
    },
    Set {
        path: String,
        data: String,
    },
    Delete {
        path: String,
    },
    /// A sequential znode in the shared parent, known by its data.
    Number {
        data: String,
    },
    /// The end of one of them.
    Forget {
        data: String,
        path: String,
    },
    /// All of them or none.
    Multi(Vec<Op>),
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) zxid: i64,
    /// The number that a sequential znode got.
    pub(crate) number: Option<i32>,
}

/// A znode, as a client sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Znode {
    pub(crate) data: String,
    pub(crate) version: i32,
    pub(crate) cversion: i32,
    pub(crate) owner: i64,
    /// `None` in an expectation: not acknowledged, so unknown.
    pub(crate) czxid: Option<i64>,
    pub(crate) mzxid: Option<i64>,
}

/// What one client wrote, as it is or should be.
#[derive(Clone, Default, Debug)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<String, Znode>,
    /// The numbered znodes, by data. `None` in an expectation: not acknowledged.
    pub(crate) numbers: BTreeMap<String, Option<i32>>,
}

/// The requests of one client in their order; the first `acks.len()` of them are acknowledged.
#[derive(Clone, Default, Debug)]
pub(crate) struct Journal {
    pub(crate) ops: Vec<Op>,
    pub(crate) acks: Vec<Ack>,
}

/// How the promise was broken.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// An acknowledged request has no effect.
    Lost { request: usize, op: String },
    /// A request has an effect and an earlier one has none.
    Order { missing: usize, present: usize },
    /// Some operations of a multi have an effect, and some have none.
    HalfMulti { request: usize },
    /// Something else is there than any prefix gives; compared with what was acknowledged.
    Different { what: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl World {
    fn apply(&mut self, op: &Op, ack: Option<Ack>) {
        let zxid = ack.map(|ack| ack.zxid);
        match op {
            Op::Create { path, data, owner } => {
                self.count_child(path);
                let node = Znode {
                    data: data.clone(),
                    version: 0,
                    cversion: 0,
                    owner: *owner,
                    czxid: zxid,
                    mzxid: zxid,
                };
                self.nodes.insert(path.clone(), node);
            }
            Op::Set { path, data } => {
                let node = self.nodes.get_mut(path).expect("set after its creation");
                node.data.clone_from(data);
                node.version += 1;
                node.mzxid = zxid;
            }
            Op::Delete { path } => {
                self.nodes.remove(path);
                self.count_child(path);
            }
            Op::Number { data } => {
                let number = ack.and_then(|ack| ack.number);
                self.numbers.insert(data.clone(), number);
            }
            Op::Forget { data, .. } => {
                self.numbers.remove(data);
            }
            Op::Multi(ops) => ops.iter().for_each(|op| self.apply(op, ack)),
        }
    }

    fn count_child(&mut self, path: &str) {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.cversion += 1;
        }
    }

    /// The first difference between this expectation and what is there.
    fn difference(&self, there: &World) -> Option<String> {
        for (path, node) in &self.nodes {
            let Some(found) = there.nodes.get(path) else {
                return Some(format!("{path} is missing"));
            };
            let mut expected = node.clone();
            expected.czxid = expected.czxid.or(found.czxid);
            expected.mzxid = expected.mzxid.or(found.mzxid);
            if *found != expected {
                return Some(format!("{path} is {found:?} instead of {expected:?}"));
            }
        }
        for (data, number) in &self.numbers {
            match there.numbers.get(data) {
                None => return Some(format!("number of {data} is missing")),
                Some(found) if number.is_some() && found != number => {
                    return Some(format!("number of {data} is {found:?}, was {number:?}"));
                }
                Some(_) => {}
            }
        }
        let more = |path: &&String| !self.nodes.contains_key(*path);
        if let Some(path) = there.nodes.keys().find(more) {
            return Some(format!("{path} is there and should not"));
        }
        let more = |data: &&String| !self.numbers.contains_key(*data);
        let data = there.numbers.keys().find(more)?;
        Some(format!("number of {data} is there and should not"))
    }
}

impl Journal {
    /// How many requests have taken effect, if that is a prefix with all that was acknowledged.
    pub(crate) fn judge(&self, there: &World) -> Result<usize, Fault> {
        let mut world = World::default();
        let acked = self.acks.len();
        for (op, ack) in self.ops.iter().zip(&self.acks) {
            world.apply(op, Some(*ack));
        }
        let Some(what) = world.difference(there) else {
            return Ok(acked);
        };
        for (at, op) in self.ops.iter().enumerate().skip(acked) {
            world.apply(op, None);
            if world.difference(there).is_none() {
                return Ok(at + 1);
            }
        }
        let lost = |fits: usize| Fault::Lost {
            request: fits,
            op: format!("{:?}", self.ops[fits]),
        };
        let fits = |requests: &usize| self.settled(*requests).difference(there).is_none();
        match (0..acked).find(fits) {
            Some(requests) => Err(lost(requests)),
            None => Err(self.name_the_fault(there, what)),
        }
    }

    /// What a prefix of the requests gives: the expectation from now on.
    pub(crate) fn settled(&self, requests: usize) -> World {
        let mut world = World::default();
        for (at, op) in self.ops.iter().take(requests).enumerate() {
            world.apply(op, self.acks.get(at).copied());
        }
        world
    }

    /// Looks for each request's own effect, as far as it can be told from later ones.
    fn name_the_fault(&self, there: &World, what: String) -> Fault {
        let mut sets = BTreeMap::new();
        let mut missing = None;
        let mut order = None;
        for (request, op) in self.ops.iter().enumerate() {
            let mut seen = Vec::new();
            self.effects(op, there, &mut sets, &mut seen);
            match (seen.contains(&true), seen.contains(&false)) {
                (true, true) => return Fault::HalfMulti { request },
                (false, true) => missing = missing.or(Some(request)),
                (true, false) => {
                    let pair = missing.map(|missing| (missing, request));
                    order = order.or(pair);
                }
                (false, false) => {}
            }
        }
        match (missing, order) {
            (Some(request), _) if request < self.acks.len() => Fault::Lost {
                request,
                op: format!("{:?}", self.ops[request]),
            },
            (_, Some((missing, present))) => Fault::Order { missing, present },
            _ => Fault::Different { what },
        }
    }

    fn effects<'a>(
        &self,
        op: &'a Op,
        there: &World,
        sets: &mut BTreeMap<&'a str, i32>,
        seen: &mut Vec<bool>,
    ) {
        let deleted = |wanted: &str| {
            let deletes = |op: &Op| matches!(op, Op::Delete { path } if path == wanted);
            self.ops.iter().any(deletes)
        };
        let forgotten = |wanted: &str| {
            let forgets = |op: &Op| matches!(op, Op::Forget { data, .. } if data == wanted);
            self.ops.iter().any(forgets)
        };
        match op {
            Op::Create { path, .. } if deleted(path) => {}
            Op::Create { path, .. } => seen.push(there.nodes.contains_key(path)),
            Op::Set { path, .. } => {
                let times = sets.entry(path).or_insert(0);
                *times += 1;
                if !deleted(path) {
                    let node = there.nodes.get(path);
                    seen.push(node.is_some_and(|node| node.version >= *times));
                }
            }
            // Gone may also mean that it never came.
            Op::Delete { path } => {
                if there.nodes.contains_key(path) {
                    seen.push(false);
                }
            }
            Op::Number { data } if forgotten(data) => {}
            Op::Number { data } => seen.push(there.numbers.contains_key(data)),
            Op::Forget { data, .. } => {
                if there.numbers.contains_key(data) {
                    seen.push(false);
                }
            }
            Op::Multi(ops) => {
                for op in ops {
                    self.effects(op, there, sets, seen);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &str) -> Op {
        Op::Create {
            path: path.into(),
            data: path.into(),
            owner: 0,
        }
    }

    fn set(path: &str, data: &str) -> Op {
        let (path, data) = (path.into(), data.into());
        Op::Set { path, data }
    }

    /// Six requests; the first `acked` are acknowledged with zxids from 101 on.
    fn journal(acked: usize) -> Journal {
        let ops = vec![
            create("/a"),
            create("/a/b"),
            set("/a", "1"),
            Op::Number { data: "n".into() },
            Op::Multi(vec![create("/a/c"), set("/a", "2"), create("/a/d")]),
            Op::Delete {
                path: "/a/b".into(),
            },
        ];
        let ack = |n: usize| Ack {
            zxid: 101 + i64::try_from(n).unwrap(),
            number: (n == 3).then_some(7),
        };
        Journal {
            ops,
            acks: (0..acked).map(ack).collect(),
        }
    }

    /// What is there after so many of them.
    fn there(requests: usize) -> World {
        journal(6).settled(requests)
    }

    #[test]
    fn every_prefix_with_what_was_acknowledged_is_accepted() {
        for acked in 0..=6 {
            for done in acked..=6 {
                assert_eq!(journal(acked).judge(&there(done)), Ok(done));
            }
        }
    }

    #[test]
    fn a_shorter_prefix_is_a_loss() {
        for acked in 1..=6 {
            for done in 0..acked {
                let fault = journal(acked).judge(&there(done)).unwrap_err();
                let lost = matches!(fault, Fault::Lost { request, .. } if request == done);
                assert!(lost, "{done} of {acked}: {fault}");
            }
        }
    }

    #[test]
    fn an_acknowledgement_that_never_was_is_found() {
        let mut journal = journal(3);
        journal.ops.insert(3, create("/a/fabricated"));
        journal.acks.push(Ack {
            zxid: 104,
            number: None,
        });
        let fault = journal.judge(&there(3)).unwrap_err();
        assert!(matches!(fault, Fault::Lost { request: 3, .. }), "{fault}");
    }

    #[test]
    fn a_later_request_without_an_earlier_one_is_found() {
        let mut world = there(4);
        world.numbers.clear();
        world
            .nodes
            .insert("/a/c".into(), there(5).nodes["/a/c"].clone());
        world
            .nodes
            .insert("/a/d".into(), there(5).nodes["/a/d"].clone());
        world
            .nodes
            .insert("/a".into(), there(5).nodes["/a"].clone());
        assert_eq!(
            journal(3).judge(&world),
            Err(Fault::Order {
                missing: 3,
                present: 4
            })
        );
    }

    #[test]
    fn half_a_multi_is_found() {
        for missing in ["/a/c", "/a/d"] {
            let mut world = there(5);
            world.nodes.remove(missing);
            assert_eq!(
                journal(4).judge(&world),
                Err(Fault::HalfMulti { request: 4 })
            );
        }
    }

    #[test]
    fn wrong_data_versions_owners_zxids_and_numbers_are_found() {
        let breaks: [fn(&mut World); 6] = [
            |world| world.nodes.get_mut("/a").unwrap().data = "x".into(),
            |world| world.nodes.get_mut("/a").unwrap().version += 1,
            |world| world.nodes.get_mut("/a").unwrap().cversion += 1,
            |world| world.nodes.get_mut("/a/c").unwrap().owner = 9,
            |world| world.nodes.get_mut("/a/c").unwrap().czxid = Some(99),
            |world| *world.numbers.get_mut("n").unwrap() = Some(8),
        ];
        for (at, break_it) in breaks.into_iter().enumerate() {
            let mut world = there(6);
            break_it(&mut world);
            let fault = journal(6).judge(&world).unwrap_err();
            assert!(matches!(fault, Fault::Different { .. }), "{at}: {fault}");
        }
    }
}
