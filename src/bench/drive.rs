//! One thread of the generator: opens its connections, runs a workload, closes its sessions.

use std::time::Duration;

use super::clock::nanos;
use super::error::BenchError;
use super::net::{ConnId, Handler, Net};
use super::record::{Recorder, Series};

/// How long requests of the window may take before they count as lost.
const DRAIN: Duration = Duration::from_secs(10);
/// How long opening may go without a single session.
const OPENING_PATIENCE: Duration = Duration::from_secs(30);
/// How long closing may take; sessions that are left expire.
const CLOSING_PATIENCE: Duration = Duration::from_secs(10);
/// The longest sleep: how often progress is told.
const TURN: Duration = Duration::from_millis(100);

/// What a thread does between opening its sessions and closing them.
pub(super) trait Workload: Handler {
    /// All sessions are open, the first requests may go.
    fn begin(&mut self, net: &mut Net, now: u64) -> Result<(), BenchError>;
    /// Sends what is due by the clock, and says when there will be more.
    fn tick(&mut self, net: &mut Net, now: u64) -> Result<u64, BenchError> {
        let _ = (net, now);
        Ok(u64::MAX)
    }
    /// Whether nothing is outstanding and nothing will be sent any more.
    fn finished(&self, now: u64) -> bool;
    /// Counts what is still outstanding as lost.
    fn give_up(&mut self);
    fn recorder(&mut self) -> &mut Recorder;
    fn into_recorder(self) -> Recorder;
}

/// Runs a workload to its end.
pub(super) fn drive<W: Workload>(net: &mut Net, mut workload: W) -> Result<Recorder, BenchError> {
    let clock = net.clock();
    workload.begin(net, clock.now())?;
    loop {
        let now = clock.now();
        let due = workload.tick(net, now)?;
        workload.recorder().publish();
        if workload.finished(now) {
            break;
        }
        if now > workload.recorder().end().saturating_add(nanos(DRAIN)) {
            workload.give_up();
            break;
        }
        net.turn(due.min(now + nanos(TURN)), &mut workload)?;
    }
    Ok(workload.into_recorder())
}

/// What opening the sessions took.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) conns: Vec<ConnId>,
    pub(super) elapsed_ns: u64,
    /// From `connect` to the server's answer, each.
    pub(super) series: Series,
}

/// Opens `count` sessions, at most `in_flight` at a time.
pub(super) fn open_all(
    net: &mut Net,
    count: usize,
    in_flight: usize,
) -> Result<Opened, BenchError> {
    struct Opening {
        open: usize,
        series: Series,
    }
    impl Handler for Opening {
        fn opened(&mut self, net: &mut Net, _: ConnId, started: u64) -> Result<(), BenchError> {
            self.open += 1;
            let took = net.clock().now().saturating_sub(started);
            self.series.latencies.saturating_record(took);
            Ok(())
        }
    }
    let clock = net.clock();
    let begun = clock.now();
    let mut opening = Opening {
        open: 0,
        series: Series::new("open"),
    };
    let (mut last, mut last_at) = (0, begun);
    while opening.open < count {
        while net.len() < count.min(opening.open + in_flight) {
            net.connect()?;
        }
        net.turn(clock.now() + nanos(TURN), &mut opening)?;
        if opening.open > last {
            (last, last_at) = (opening.open, clock.now());
        } else if clock.now() - last_at > nanos(OPENING_PATIENCE) {
            return Err(BenchError::TooSlow {
                missing: count - opening.open,
                waited_s: OPENING_PATIENCE.as_secs(),
            });
        }
    }
    Ok(Opened {
        conns: net.open_conns(),
        elapsed_ns: clock.now() - begun,
        series: opening.series,
    })
}

/// Holds the sessions, idle but for their pings.
pub(super) fn hold(net: &mut Net, until: u64) -> Result<(), BenchError> {
    struct Idle;
    impl Handler for Idle {}
    while net.clock().now() < until {
        let turn = net.clock().now() + nanos(TURN);
        net.turn(until.min(turn), &mut Idle)?;
    }
    Ok(())
}

/// Ends every session.
pub(super) fn close_all(net: &mut Net) -> Result<(), BenchError> {
    struct Closing;
    impl Handler for Closing {}
    for conn in net.open_conns() {
        net.close(conn)?;
    }
    let deadline = net.clock().now() + nanos(CLOSING_PATIENCE);
    while net.len() > 0 && net.clock().now() < deadline {
        net.turn(deadline, &mut Closing)?;
    }
    Ok(())
}
