//! What clients were told, and whether an ensemble that keeps its promises can have said it.
//!
//! ZooKeeper tells the order of its writes by zxids, so nothing has to be searched for: the order
//! that was told must be a history of one machine, and must agree with the order in which calls
//! ended and began (linearizability of writes and of `sync` and read). Plain reads must not go
//! back within a session, and must show its own writes.

use std::collections::BTreeMap;
use std::fmt;

/// Nanoseconds since the run began.
pub(crate) type Time = u64;

/// What was asked, and what was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A register was set to a value that nobody else writes; told: version and mzxid.
    Set {
        key: String,
        value: String,
        told: Told<Version>,
    },
    /// A counter was raised by one if it still had `expected`; told: as for a set.
    Raise {
        key: String,
        expected: i32,
        told: Told<Version>,
    },
    /// A sequential znode was created under a parent; told: its name and czxid.
    Sequential {
        parent: String,
        mark: String,
        told: Told<(String, i64)>,
    },
    /// Two registers were set to one value in one transaction.
    Pair { value: String, told: Told<i64> },
    /// A register was read, behind a `sync` or not.
    Read {
        key: String,
        synced: bool,
        saw: (String, Version),
    },
}

/// What became of a write, as far as its client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told<T> {
    /// It is done.
    Done(T),
    /// It may be done, or not, or later.
    Unknown,
}

/// Where a znode stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) version: i32,
    pub(crate) mzxid: i64,
}

/// One call. Calls that surely had no effect are not noted.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) session: i64,
    pub(crate) began: Time,
    pub(crate) ended: Time,
    pub(crate) what: What,
}

/// What stands in the ensemble at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Final {
    /// Registers and counters.
    pub(crate) nodes: BTreeMap<String, (String, Version)>,
    /// Children of each parent, with their content and czxid.
    pub(crate) children: BTreeMap<String, BTreeMap<String, (String, i64)>>,
}

/// Why a history cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A write that was acknowledged is not there.
    Lost(String),
    /// Something was applied more often than it was asked for.
    Twice(String),
    /// Two orders that must agree do not.
    Order(String),
    /// A read showed what nobody wrote, or an older state than it had to.
    Stale(String),
    /// Half of a transaction.
    Half(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The registers that a pair sets.
pub(crate) const PAIR: [&str; 2] = ["/pair-a", "/pair-b"];

/// Judges a whole run.
pub(crate) fn check(calls: &[Call], last: &Final) -> Result<(), Violation> {
    real_time(calls)?;
    sessions(calls)?;
    registers(calls, last)?;
    counters(calls, last)?;
    sequentials(calls, last)?;
    pairs(calls, last)
}

fn zxid(call: &Call) -> Option<i64> {
    match &call.what {
        What::Set {
            told: Told::Done(at),
            ..
        }
        | What::Raise {
            told: Told::Done(at),
            ..
        } => Some(at.mzxid),
        What::Sequential {
            told: Told::Done((_, zxid)),
            ..
        }
        | What::Pair {
            told: Told::Done(zxid),
            ..
        } => Some(*zxid),
        _ => None,
    }
}

/// A write that ended before another began has the lower zxid.
fn real_time(calls: &[Call]) -> Result<(), Violation> {
    let mut ends: Vec<(Time, i64)> = Vec::new();
    let mut begins: Vec<(Time, i64)> = Vec::new();
    for call in calls {
        if let Some(zxid) = zxid(call) {
            ends.push((call.ended, zxid));
            begins.push((call.began, zxid));
        }
    }
    ends.sort_unstable();
    begins.sort_unstable();
    let mut ended = ends.iter().peekable();
    let mut newest = i64::MIN;
    for (began, zxid) in begins {
        while let Some((end, before)) = ended.peek()
            && *end < began
        {
            newest = newest.max(*before);
            ended.next();
        }
        if zxid < newest {
            let told = format!(
                "zxid {zxid:#x} was given to a write that began after the one of {newest:#x} had ended"
            );
            return Err(Violation::Order(told));
        }
    }
    let mut seen = BTreeMap::new();
    for call in calls {
        if let Some(zxid) = zxid(call)
            && let Some(other) = seen.insert(zxid, &call.what)
        {
            let told = format!("zxid {zxid:#x} was told for {other:?} and {:?}", call.what);
            return Err(Violation::Twice(told));
        }
    }
    Ok(())
}

/// Within a session: writes in the order of the calls, reads never behind what was shown before.
/// A session makes its calls one after the other.
fn sessions(calls: &[Call]) -> Result<(), Violation> {
    let mut by_session: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_session.entry(call.session).or_default().push(call);
    }
    for (session, mut calls) in by_session {
        calls.sort_by_key(|call| call.began);
        let mut written = i64::MIN;
        let mut shown: BTreeMap<&str, i64> = BTreeMap::new();
        for call in calls {
            if let Some(zxid) = zxid(call) {
                if zxid < written {
                    let told = format!("session {session:#x}: {zxid:#x} after {written:#x}");
                    return Err(Violation::Order(told));
                }
                written = zxid;
            }
            let at = match &call.what {
                What::Set {
                    key,
                    told: Told::Done(at),
                    ..
                }
                | What::Raise {
                    key,
                    told: Told::Done(at),
                    ..
                } => Some((key.as_str(), at.mzxid)),
                What::Read { key, saw, .. } => Some((key.as_str(), saw.1.mzxid)),
                _ => None,
            };
            if let Some((key, mzxid)) = at {
                let newest = shown.entry(key).or_insert(i64::MIN);
                if mzxid < *newest {
                    let told = format!(
                        "session {session:#x}: {key} went back from {newest:#x} to {mzxid:#x}"
                    );
                    return Err(Violation::Stale(told));
                }
                *newest = mzxid;
            }
        }
    }
    Ok(())
}

/// A write: its value, what was told of it, and the call.
type Write<'a> = (&'a str, &'a Told<Version>, &'a Call);

fn registers(calls: &[Call], last: &Final) -> Result<(), Violation> {
    let mut writes: BTreeMap<&str, Vec<Write<'_>>> = BTreeMap::new();
    for call in calls {
        if let What::Set { key, value, told } = &call.what {
            writes.entry(key).or_default().push((value, told, call));
        }
    }
    for (key, writes) in &writes {
        let Some((value, end)) = last.nodes.get(*key) else {
            return Err(Violation::Lost(format!("{key} is gone")));
        };
        let mut versions = BTreeMap::new();
        let mut acknowledged = 0;
        let mut unknown = 0;
        for (value, told, _) in writes {
            match told {
                Told::Done(at) => {
                    acknowledged += 1;
                    if let Some(other) = versions.insert(at.version, (*value, at.mzxid)) {
                        let told = format!(
                            "{key}: version {} is of {} and {value}",
                            at.version, other.0
                        );
                        return Err(Violation::Twice(told));
                    }
                }
                Told::Unknown => unknown += 1,
            }
        }
        // Versions grow by one with each write: acknowledged ones are all counted, and what is
        // more was asked for by somebody who was told nothing.
        if end.version < acknowledged {
            let told = format!(
                "{key}: {acknowledged} writes acknowledged, version {}",
                end.version
            );
            return Err(Violation::Lost(told));
        }
        if end.version > acknowledged + unknown {
            let told = format!(
                "{key}: {acknowledged} writes acknowledged, {unknown} unknown, version {}",
                end.version
            );
            return Err(Violation::Twice(told));
        }
        if let Some((&newest, &(written, _))) = versions.last_key_value() {
            if newest > end.version {
                let told = format!("{key}: version {newest} was told, {} is there", end.version);
                return Err(Violation::Lost(told));
            }
            if newest == end.version && written != value {
                let told = format!("{key}: {written} was told to be version {newest}, {value} is");
                return Err(Violation::Lost(told));
            }
        }
        let mut order: Vec<_> = versions.iter().collect();
        order.sort_by_key(|(_, (_, mzxid))| *mzxid);
        if order.windows(2).any(|pair| pair[0].0 > pair[1].0) {
            let told = format!("{key}: versions and zxids in different orders");
            return Err(Violation::Order(told));
        }
        reads(calls, key, writes, &versions)?;
    }
    Ok(())
}

/// What was read is what was written, and no older than it had to be.
fn reads(
    calls: &[Call],
    key: &str,
    writes: &[Write<'_>],
    versions: &BTreeMap<i32, (&str, i64)>,
) -> Result<(), Violation> {
    for call in calls {
        let What::Read {
            key: of,
            synced,
            saw: (value, at),
        } = &call.what
        else {
            continue;
        };
        if of != key {
            continue;
        }
        if let Some((written, mzxid)) = versions.get(&at.version) {
            if written != value || *mzxid != at.mzxid {
                let told = format!(
                    "{key}: version {} was told with {written}, read with {value}",
                    at.version
                );
                return Err(Violation::Stale(told));
            }
        } else if at.version > 0 && !writes.iter().any(|write| write.0 == value) {
            return Err(Violation::Stale(format!("{key}: nobody wrote {value}")));
        }
        for (_, told, write) in writes {
            let Told::Done(written) = told else { continue };
            // It cannot have seen what began after it ended, and with a sync before it must see
            // what ended before it began.
            if write.began > call.ended && written.version <= at.version {
                let told = format!(
                    "{key}: version {} was read before its write began",
                    at.version
                );
                return Err(Violation::Stale(told));
            }
            if *synced && write.ended < call.began && written.version > at.version {
                let told = format!(
                    "{key}: sync and read gave version {}, {} was acknowledged before",
                    at.version, written.version
                );
                return Err(Violation::Stale(told));
            }
        }
    }
    Ok(())
}

fn counters(calls: &[Call], last: &Final) -> Result<(), Violation> {
    let mut raises: BTreeMap<&str, (i32, i32)> = BTreeMap::new();
    for call in calls {
        if let What::Raise {
            key,
            expected,
            told,
        } = &call.what
        {
            let (done, unknown) = raises.entry(key).or_default();
            match told {
                Told::Done(at) if at.version != expected + 1 => {
                    let told = format!("{key}: raised {expected} and got {}", at.version);
                    return Err(Violation::Order(told));
                }
                Told::Done(_) => *done += 1,
                Told::Unknown => *unknown += 1,
            }
        }
    }
    for (key, (done, unknown)) in raises {
        let Some((value, at)) = last.nodes.get(key) else {
            return Err(Violation::Lost(format!("{key} is gone")));
        };
        let told = format!(
            "{key}: {done} raises acknowledged, {unknown} unknown, it is {value}, version {}",
            at.version
        );
        let Ok(value) = value.parse::<i32>() else {
            return Err(Violation::Stale(told));
        };
        if value != at.version {
            return Err(Violation::Half(told));
        }
        if value < done {
            return Err(Violation::Lost(told));
        }
        if value > done + unknown {
            return Err(Violation::Twice(told));
        }
    }
    Ok(())
}

fn sequentials(calls: &[Call], last: &Final) -> Result<(), Violation> {
    let nobody = BTreeMap::new();
    let mut asked: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for call in calls {
        if let What::Sequential { parent, mark, told } = &call.what {
            asked.insert((parent, mark), matches!(told, Told::Done(_)));
            let Told::Done((name, czxid)) = told else {
                continue;
            };
            let there = last.children.get(parent).unwrap_or(&nobody).get(name);
            match there {
                None => return Err(Violation::Lost(format!("{parent}/{name}, acknowledged"))),
                Some((content, at)) if content != mark || at != czxid => {
                    let told = format!(
                        "{parent}/{name} is {content}'s of {at:#x}, told was {mark} and {czxid:#x}"
                    );
                    return Err(Violation::Stale(told));
                }
                Some(_) => {}
            }
        }
    }
    for (parent, children) in &last.children {
        let mut marks: BTreeMap<&str, &str> = BTreeMap::new();
        let mut newest = i64::MIN;
        for (name, (mark, czxid)) in children {
            if let Some(other) = marks.insert(mark, name) {
                let told = format!("{parent}: {mark} is there as {other} and {name}");
                return Err(Violation::Twice(told));
            }
            if !asked.contains_key(&(parent.as_str(), mark.as_str())) {
                return Err(Violation::Twice(format!(
                    "{parent}/{name}: nobody asked for {mark}, or it was told that it did not happen"
                )));
            }
            if *czxid < newest {
                let told = format!("{parent}: {name} has a lower zxid than the one before");
                return Err(Violation::Order(told));
            }
            newest = *czxid;
        }
    }
    Ok(())
}

fn pairs(calls: &[Call], last: &Final) -> Result<(), Violation> {
    let done: Vec<(&str, i64)> = calls
        .iter()
        .filter_map(|call| match &call.what {
            What::Pair {
                value,
                told: Told::Done(zxid),
            } => Some((value.as_str(), *zxid)),
            _ => None,
        })
        .collect();
    let at = |key: &str| last.nodes.get(key);
    let (Some(a), Some(b)) = (at(PAIR[0]), at(PAIR[1])) else {
        return if done.is_empty() {
            Ok(())
        } else {
            Err(Violation::Lost("the pair is gone".into()))
        };
    };
    if a != b {
        return Err(Violation::Half(format!("{a:?} and {b:?}")));
    }
    if let Some((value, zxid)) = done.iter().max_by_key(|pair| pair.1) {
        if *zxid > a.1.mzxid {
            let told = format!(
                "the pair {value} of {zxid:#x}, it is {} of {:#x}",
                a.0, a.1.mzxid
            );
            return Err(Violation::Lost(told));
        }
        if *zxid == a.1.mzxid && *value != a.0 {
            return Err(Violation::Stale(format!(
                "the pair is {}, told was {value}",
                a.0
            )));
        }
    }
    if usize::try_from(a.1.version).is_ok_and(|version| version < done.len()) {
        return Err(Violation::Lost(format!(
            "{} pairs acknowledged, version {}",
            done.len(),
            a.1.version
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i32, mzxid: i64) -> Version {
        Version { version, mzxid }
    }

    fn call(session: i64, began: Time, ended: Time, what: What) -> Call {
        Call {
            session,
            began,
            ended,
            what,
        }
    }

    fn set(session: i64, began: Time, ended: Time, value: &str, version: i32, zxid: i64) -> Call {
        let told = Told::Done(at(version, zxid));
        let (key, value) = ("/r".into(), value.into());
        call(session, began, ended, What::Set { key, value, told })
    }

    fn read(session: i64, began: Time, ended: Time, value: &str, version: i32, zxid: i64) -> Call {
        let saw = (value.into(), at(version, zxid));
        let what = What::Read {
            key: "/r".into(),
            synced: true,
            saw,
        };
        call(session, began, ended, what)
    }

    fn end(value: &str, version: i32, mzxid: i64) -> Final {
        let mut last = Final::default();
        last.nodes
            .insert("/r".into(), (value.into(), at(version, mzxid)));
        last
    }

    #[test]
    fn a_history_of_one_machine_passes() {
        let calls = [
            set(1, 0, 10, "a", 1, 100),
            set(2, 5, 20, "b", 2, 101),
            read(3, 21, 30, "b", 2, 101),
        ];
        assert_eq!(check(&calls, &end("b", 2, 101)), Ok(()));
    }

    #[test]
    fn an_acknowledged_write_that_is_not_there_is_lost() {
        let calls = [set(1, 0, 10, "a", 1, 100), set(1, 11, 20, "b", 2, 101)];
        let found = check(&calls, &end("a", 1, 100)).unwrap_err();
        assert!(matches!(found, Violation::Lost(_)), "{found}");
        // The same number of writes, but another one's.
        let found = check(&calls, &end("x", 2, 102)).unwrap_err();
        assert!(matches!(found, Violation::Lost(_)), "{found}");
    }

    #[test]
    fn a_write_that_was_applied_twice_shows_in_the_version() {
        let calls = [set(1, 0, 10, "a", 1, 100)];
        let found = check(&calls, &end("a", 2, 101)).unwrap_err();
        assert!(matches!(found, Violation::Twice(_)), "{found}");
    }

    #[test]
    fn a_sync_that_shows_an_old_state_is_stale() {
        let calls = [
            set(1, 0, 10, "a", 1, 100),
            set(1, 11, 20, "b", 2, 101),
            read(2, 21, 30, "a", 1, 100),
        ];
        let found = check(&calls, &end("b", 2, 101)).unwrap_err();
        assert!(matches!(found, Violation::Stale(_)), "{found}");
    }

    #[test]
    fn zxids_that_contradict_time_are_an_order_that_cannot_be() {
        let calls = [set(1, 0, 10, "a", 2, 101), set(2, 11, 20, "b", 1, 100)];
        let found = check(&calls, &end("a", 2, 101)).unwrap_err();
        assert!(matches!(found, Violation::Order(_)), "{found}");
    }

    #[test]
    fn a_session_that_reads_backwards_is_found() {
        let plain = |began, value: &str, version, zxid| {
            let mut call = read(2, began, began + 1, value, version, zxid);
            if let What::Read { synced, .. } = &mut call.what {
                *synced = false;
            }
            call
        };
        let calls = [
            set(1, 0, 10, "a", 1, 100),
            set(1, 11, 20, "b", 2, 101),
            plain(21, "b", 2, 101),
            plain(23, "a", 1, 100),
        ];
        let found = check(&calls, &end("b", 2, 101)).unwrap_err();
        assert!(matches!(found, Violation::Stale(_)), "{found}");
    }

    #[test]
    fn a_sequential_znode_twice_or_never_is_found() {
        let what = What::Sequential {
            parent: "/s".into(),
            mark: "m1".into(),
            told: Told::Done(("n-0".into(), 100)),
        };
        let calls = [call(1, 0, 10, what)];
        let mut last = Final::default();
        let found = check(&calls, &last).unwrap_err();
        assert!(matches!(found, Violation::Lost(_)), "{found}");
        let children = last.children.entry("/s".into()).or_default();
        children.insert("n-0".into(), ("m1".into(), 100));
        assert_eq!(check(&calls, &last), Ok(()));
        let children = last.children.entry("/s".into()).or_default();
        children.insert("n-1".into(), ("m1".into(), 101));
        let found = check(&calls, &last).unwrap_err();
        assert!(matches!(found, Violation::Twice(_)), "{found}");
    }

    #[test]
    fn half_a_transaction_is_found() {
        let told = Told::Done(100);
        let calls = [call(
            1,
            0,
            10,
            What::Pair {
                value: "p".into(),
                told,
            },
        )];
        let mut last = Final::default();
        last.nodes.insert(PAIR[0].into(), ("p".into(), at(1, 100)));
        last.nodes.insert(PAIR[1].into(), ("".into(), at(0, 50)));
        let found = check(&calls, &last).unwrap_err();
        assert!(matches!(found, Violation::Half(_)), "{found}");
    }
}
