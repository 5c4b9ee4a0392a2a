//! The lock of ZooKeeper's recipes, handed on as fast as it goes: every connection is a
//! contender that takes the lock, gives it back at once, and queues again.
//!
//! A contender creates an ephemeral sequential znode and lists the lock's children. If its own is
//! the first it holds the lock; else it watches the one before its own and lists again when
//! that is gone. The watch is left by `getData`, which leaves none on a znode that is missing.

use quorate_proto::jute::Reader;
use quorate_proto::request::{PathVersion, PathWatch};
use quorate_proto::{ErrorCode, EventType, Request, Version};

use crate::bench::admin;
use crate::bench::drive::Workload;
use crate::bench::error::BenchError;
use crate::bench::net::{Answer, ConnId, Handler, Net};
use crate::bench::record::Recorder;
use crate::bench::template::Template;

const CREATE: u32 = 0;
const LIST: u32 = 1;
const WATCH: u32 = 2;
const DELETE: u32 = 3;

const HAND_OFF: usize = 0;
const ACQUIRE: usize = 1;

const EPHEMERAL_SEQUENTIAL: i32 = 3;
/// Digits of a sequential znode's number.
const DIGITS: usize = 10;

struct Contender {
    lock: u64,
    sequence: u64,
    waiting_since: u64,
}

/// The workload.
pub(in crate::bench) struct Lock {
    recorder: Recorder,
    create: Template,
    list: Template,
    watch: Template,
    delete: Template,
    /// By connection id.
    contenders: Vec<Contender>,
    conns: Vec<ConnId>,
    /// By lock: when its holder began to give it back.
    released_at: Vec<Option<u64>>,
    outstanding: usize,
}

impl Lock {
    /// Only a hand-off by someone else counts: with one contender there is none.
    pub(in crate::bench) const SERIES: &'static [&'static str] = &["hand-off", "acquire"];

    pub(in crate::bench) fn new(
        recorder: Recorder,
        base: &str,
        paths: usize,
        conns: Vec<ConnId>,
    ) -> Result<Lock, BenchError> {
        let lock = format!("{base}/lock-######");
        let contender = format!("{lock}/c-##########");
        let at = |path: &str, watch| PathWatch {
            path: path.to_owned().into(),
            watch,
        };
        let slots = conns.iter().max().map_or(0, |max| max + 1);
        let paths = paths.max(1);
        let contenders = (0..slots).map(|slot| Contender {
            lock: u64::try_from(slot % paths).unwrap_or(0),
            sequence: 0,
            waiting_since: 0,
        });
        let new = format!("{lock}/c-");
        Ok(Lock {
            recorder,
            create: Template::new(&admin::create(&new, &[], EPHEMERAL_SEQUENTIAL))?,
            list: Template::new(&Request::GetChildren(at(&lock, false)))?,
            watch: Template::new(&Request::GetData(at(&contender, true)))?,
            delete: Template::new(&Request::Delete(PathVersion {
                path: contender.as_str().into(),
                version: Version::ANY,
            }))?,
            contenders: contenders.collect(),
            conns,
            released_at: vec![None; paths],
            outstanding: 0,
        })
    }

    fn queue_up(&mut self, net: &mut Net, conn: ConnId, now: u64) {
        let Some(contender) = self.contenders.get_mut(conn) else {
            return;
        };
        contender.waiting_since = now;
        self.outstanding += 1;
        net.send(conn, &self.create, &[contender.lock], CREATE, now);
    }

    fn list(&mut self, net: &mut Net, conn: ConnId, now: u64) {
        if let Some(contender) = self.contenders.get(conn) {
            net.send(conn, &self.list, &[contender.lock], LIST, now);
        }
    }

    /// Holds the lock and gives it back, or waits for the contender before.
    fn listed(&mut self, net: &mut Net, answer: &Answer<'_>) -> Result<(), BenchError> {
        let Some(contender) = self.contenders.get(answer.conn) else {
            return Ok(());
        };
        let before = predecessor(answer.body, contender.sequence)?;
        let numbers = [contender.lock, before.unwrap_or(contender.sequence)];
        if before.is_some() {
            net.send(answer.conn, &self.watch, &numbers, WATCH, answer.now);
            return Ok(());
        }
        let now = answer.now;
        self.recorder
            .record(ACQUIRE, contender.waiting_since, now, 0);
        let lock = usize::try_from(contender.lock).unwrap_or(0);
        if let Some(released_at) = self.released_at.get_mut(lock)
            && let Some(released) = released_at.replace(now)
        {
            self.recorder.record(HAND_OFF, released, now, 0);
        }
        net.send(answer.conn, &self.delete, &numbers, DELETE, now);
        Ok(())
    }
}

impl Handler for Lock {
    fn answered(&mut self, net: &mut Net, answer: &Answer<'_>) -> Result<(), BenchError> {
        let gone = answer.tag == WATCH && answer.err == ErrorCode::NoNode.code();
        if answer.err != 0 && !gone {
            self.recorder
                .record(ACQUIRE, answer.started, answer.now, answer.err);
            self.outstanding -= 1;
            return Ok(());
        }
        match answer.tag {
            CREATE => {
                let created = Reader::new(answer.body).required_string("path")?;
                if let Some(contender) = self.contenders.get_mut(answer.conn) {
                    contender.sequence = sequence(&created);
                }
                self.list(net, answer.conn, answer.now);
            }
            LIST => self.listed(net, answer)?,
            WATCH if gone => self.list(net, answer.conn, answer.now),
            WATCH => {}
            _ => {
                self.outstanding -= 1;
                if answer.now < self.recorder.end() {
                    self.queue_up(net, answer.conn, answer.now);
                }
            }
        }
        Ok(())
    }

    fn event(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        _: EventType,
        now: u64,
    ) -> Result<(), BenchError> {
        self.list(net, conn, now);
        Ok(())
    }
}

impl Workload for Lock {
    fn begin(&mut self, net: &mut Net, now: u64) -> Result<(), BenchError> {
        for conn in self.conns.clone() {
            self.queue_up(net, conn, now);
        }
        Ok(())
    }

    fn finished(&self, now: u64) -> bool {
        now >= self.recorder.end() && self.outstanding == 0
    }

    fn give_up(&mut self) {
        let started = self.recorder.window().start;
        for _ in 0..self.outstanding {
            self.recorder.lost(ACQUIRE, started);
        }
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn into_recorder(self) -> Recorder {
        self.recorder
    }
}

fn sequence(path: &str) -> u64 {
    let digits = path.len().saturating_sub(DIGITS);
    path.get(digits..)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// The number right below `own` in an answer to `getChildren`.
fn predecessor(body: &[u8], own: u64) -> Result<Option<u64>, BenchError> {
    let mut reader = Reader::new(body);
    let mut before = None;
    for _ in 0..reader.i32("children")? {
        let other = sequence(&reader.required_string("child")?);
        if other < own {
            before = before.max(Some(other));
        }
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quorate_proto::jute::Writer;
    use quorate_proto::reply;

    use super::*;

    fn names(numbers: &[u64]) -> BytesMut {
        let mut out = BytesMut::new();
        let names = numbers.iter().map(|number| format!("c-{number:010}"));
        reply::children(&mut Writer::new(&mut out), names);
        out
    }

    #[test]
    fn a_contender_waits_for_the_nearest_before_it() {
        let body = names(&[12, 3, 7, 40]);
        assert_eq!(predecessor(&body, 12).unwrap(), Some(7));
        assert_eq!(predecessor(&body, 3).unwrap(), None, "it holds the lock");
    }

    #[test]
    fn a_torn_answer_is_an_error() {
        let body = names(&[1, 2]);
        assert!(predecessor(&body[..body.len() - 1], 5).is_err());
    }
}
