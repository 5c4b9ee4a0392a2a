//! Sessions that are opened and closed, one after the other on each connection's place.

use quorate_proto::EventType;

use crate::bench::drive::Workload;
use crate::bench::error::BenchError;
use crate::bench::net::{ConnId, Handler, Net};
use crate::bench::record::Recorder;

/// The workload. The time to open counts from `connect` to the server's answer.
pub(in crate::bench) struct Storm {
    recorder: Recorder,
    at_once: usize,
    alive: usize,
}

impl Storm {
    pub(in crate::bench) const SERIES: &'static [&'static str] = &["open"];

    pub(in crate::bench) const fn new(recorder: Recorder, at_once: usize) -> Storm {
        Storm {
            recorder,
            at_once,
            alive: 0,
        }
    }
}

impl Handler for Storm {
    fn opened(&mut self, net: &mut Net, conn: ConnId, started: u64) -> Result<(), BenchError> {
        let now = net.clock().now();
        self.recorder.record(0, started, now, 0);
        net.close(conn)
    }

    fn closed(&mut self, net: &mut Net) -> Result<(), BenchError> {
        self.alive -= 1;
        if net.clock().now() < self.recorder.end() {
            self.alive += 1;
            net.connect()?;
        }
        Ok(())
    }

    fn event(&mut self, _: &mut Net, _: ConnId, _: EventType, _: u64) -> Result<(), BenchError> {
        Ok(())
    }
}

impl Workload for Storm {
    fn begin(&mut self, net: &mut Net, _: u64) -> Result<(), BenchError> {
        for _ in 0..self.at_once {
            self.alive += 1;
            net.connect()?;
        }
        Ok(())
    }

    fn finished(&self, now: u64) -> bool {
        now >= self.recorder.end() && self.alive == 0
    }

    fn give_up(&mut self) {
        let started = self.recorder.window().start;
        for _ in 0..self.alive {
            self.recorder.lost(0, started);
        }
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn into_recorder(self) -> Recorder {
        self.recorder
    }
}
