//! One set, told to many: every connection but the first leaves a watch on one znode, the first
//! sets it, and the round ends with the last event and the setter's answer.

use quorate_proto::request::{PathWatch, SetData};
use quorate_proto::{EventType, Request, Version};

use crate::bench::drive::Workload;
use crate::bench::error::BenchError;
use crate::bench::net::{Answer, ConnId, Handler, Net};
use crate::bench::record::Recorder;
use crate::bench::template::Template;

const ARM: u32 = 0;
const SET: u32 = 1;

const TO_LAST: usize = 0;
const TO_EACH: usize = 1;
const TO_SETTER: usize = 2;

/// The workload.
pub(in crate::bench) struct Fanout {
    recorder: Recorder,
    arm: Template,
    set: Template,
    setter: ConnId,
    watchers: Vec<ConnId>,
    to_arm: usize,
    to_hear: usize,
    set_at: u64,
    set_outstanding: bool,
}

impl Fanout {
    pub(in crate::bench) const SERIES: &'static [&'static str] = &["to the last", "to each", "set"];

    pub(in crate::bench) fn new(
        recorder: Recorder,
        path: &str,
        size: usize,
        mut conns: Vec<ConnId>,
    ) -> Result<Fanout, BenchError> {
        let setter = conns.pop().unwrap_or_default();
        Ok(Fanout {
            recorder,
            arm: Template::new(&Request::GetData(PathWatch {
                path: path.into(),
                watch: true,
            }))?,
            set: Template::new(&Request::SetData(SetData {
                path: path.into(),
                data: Some(&vec![b'x'; size]),
                version: Version::ANY,
            }))?,
            setter,
            watchers: conns,
            to_arm: 0,
            to_hear: 0,
            set_at: 0,
            set_outstanding: false,
        })
    }

    fn arm(&mut self, net: &mut Net, now: u64) {
        self.to_arm = self.watchers.len();
        for &watcher in &self.watchers {
            net.send(watcher, &self.arm, &[], ARM, now);
        }
    }

    fn next_round(&mut self, net: &mut Net, now: u64) {
        if self.to_hear == 0 && !self.set_outstanding && now < self.recorder.end() {
            self.arm(net, now);
        }
    }
}

impl Handler for Fanout {
    fn answered(&mut self, net: &mut Net, answer: &Answer<'_>) -> Result<(), BenchError> {
        if answer.tag == SET {
            self.set_outstanding = false;
            self.recorder
                .record(TO_SETTER, answer.started, answer.now, answer.err);
            self.next_round(net, answer.now);
            return Ok(());
        }
        self.to_arm -= 1;
        if self.to_arm == 0 {
            // Now, not when the answer was read: that may be a thousand answers ago.
            self.set_at = net.clock().now();
            self.to_hear = self.watchers.len();
            self.set_outstanding = true;
            net.send(self.setter, &self.set, &[], SET, self.set_at);
        }
        Ok(())
    }

    fn event(
        &mut self,
        net: &mut Net,
        _: ConnId,
        _: EventType,
        now: u64,
    ) -> Result<(), BenchError> {
        self.recorder.record(TO_EACH, self.set_at, now, 0);
        self.to_hear = self.to_hear.saturating_sub(1);
        if self.to_hear == 0 {
            self.recorder.record(TO_LAST, self.set_at, now, 0);
            self.next_round(net, now);
        }
        Ok(())
    }
}

impl Workload for Fanout {
    fn begin(&mut self, net: &mut Net, now: u64) -> Result<(), BenchError> {
        self.arm(net, now);
        Ok(())
    }

    fn finished(&self, now: u64) -> bool {
        let outstanding = self.to_arm > 0 || self.to_hear > 0 || self.set_outstanding;
        now >= self.recorder.end() && !outstanding
    }

    fn give_up(&mut self) {
        self.recorder.lost(TO_LAST, self.set_at);
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn into_recorder(self) -> Recorder {
        self.recorder
    }
}
