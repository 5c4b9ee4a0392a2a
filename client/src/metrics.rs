//! What a client counts, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! With the feature `metrics` these go to whatever recorder the program has installed; without
//! it, or without a recorder, they cost nothing. Names and labels are kept from release to
//! release; no label holds a path, a session or anything else without bound.
//!
//! | name | kind | labels | counts |
//! | --- | --- | --- | --- |
//! | `quorate_client_requests_total` | counter | `op`, `outcome` | operations that ended, repetitions counted as one |
//! | `quorate_client_request_seconds` | histogram | `op` | from the call to the result |
//! | `quorate_client_connections_total` | counter | | connections that got a session |
//! | `quorate_client_connections_lost_total` | counter | | those that broke, and the session may have lived |
//! | `quorate_client_sessions_lost_total` | counter | `reason` | sessions that ended without being closed |
//! | `quorate_client_waiting` | gauge | | requests without an answer, sent or not |
//! | `quorate_client_watches` | gauge | | watches armed |
//!
//! `op` is ZooKeeper's name of the operation: `getData`, `create`… `outcome` is `ok`,
//! `did_not_happen`, `happened`, `unknown`, `session_gone`, `not_allowed` or `bad_argument`, as the
//! variants of [`Error`]. `reason` is `expired` (the server said so), `given_up` (no server could
//! confirm it in time) or `other`. Gauges are sums over the clients of the process.

use tokio::time::Instant;

use crate::error::{Error, Reason};

/// An operation ended.
pub(crate) fn operation_ended(op: &'static str, error: Option<&Error>, started: Instant) {
    #[cfg(feature = "metrics")]
    {
        let outcome = error.map_or("ok", outcome);
        ::metrics::counter!("quorate_client_requests_total", "op" => op, "outcome" => outcome)
            .increment(1);
        ::metrics::histogram!("quorate_client_request_seconds", "op" => op)
            .record(started.elapsed());
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (op, error, started);
}

#[cfg(feature = "metrics")]
const fn outcome(error: &Error) -> &'static str {
    match error {
        Error::DidNotHappen { .. } => "did_not_happen",
        Error::Happened { .. } => "happened",
        Error::Unknown { .. } => "unknown",
        Error::SessionGone { .. } => "session_gone",
        Error::NotAllowed { .. } => "not_allowed",
        Error::BadArgument { .. } => "bad_argument",
    }
}

/// A connection has a session.
pub(crate) fn connected() {
    #[cfg(feature = "metrics")]
    ::metrics::counter!("quorate_client_connections_total").increment(1);
}

/// A connection broke.
pub(crate) fn connection_lost() {
    #[cfg(feature = "metrics")]
    ::metrics::counter!("quorate_client_connections_lost_total").increment(1);
}

/// A session ended that nobody had closed.
pub(crate) fn session_lost(reason: &Reason) {
    #[cfg(feature = "metrics")]
    {
        let reason = match reason {
            Reason::SessionExpired(_) => "expired",
            Reason::SessionGivenUp(_) => "given_up",
            _ => "other",
        };
        ::metrics::counter!("quorate_client_sessions_lost_total", "reason" => reason).increment(1);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = reason;
}

/// So many more requests wait.
pub(crate) fn waiting_grew(by: usize) {
    gauge_grew("quorate_client_waiting", 0, by);
}

/// So many fewer requests wait.
pub(crate) fn waiting_shrank(by: usize) {
    gauge_grew("quorate_client_waiting", by, 0);
}

/// The number of a client's watches changed.
pub(crate) fn watches_changed(before: usize, now: usize) {
    gauge_grew("quorate_client_watches", before, now);
}

#[cfg_attr(
    feature = "metrics",
    expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")
)]
fn gauge_grew(name: &'static str, before: usize, now: usize) {
    #[cfg(feature = "metrics")]
    if before != now {
        ::metrics::gauge!(name).increment(now as f64 - before as f64);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (name, before, now);
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::sync::Arc;

    use ::metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use parking_lot::Mutex;
    use quorate_proto::SessionId;

    use super::*;
    use crate::error::Context;

    /// Writes down what is counted.
    #[derive(Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    struct Line(String, Arc<Mutex<Vec<String>>>);

    impl CounterFn for Line {
        fn increment(&self, by: u64) {
            self.1.lock().push(format!("{} +{by}", self.0));
        }

        fn absolute(&self, value: u64) {
            self.1.lock().push(format!("{} ={value}", self.0));
        }
    }

    impl Recorder for Written {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let line = format!("{}{{{}}}", key.name(), labels.join(","));
            Counter::from_arc(Arc::new(Line(line, Arc::clone(&self.0))))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn operations_are_counted_by_their_outcome() {
        let recorder = Written::default();
        let unknown = Error::unknown(Reason::TimedOut, Context::default());
        ::metrics::with_local_recorder(&recorder, || {
            operation_ended("getData", None, Instant::now());
            operation_ended("setData", Some(&unknown), Instant::now());
            session_lost(&Reason::SessionGivenUp(SessionId(1)));
        });
        let written = recorder.0.lock();
        let expected = [
            "quorate_client_requests_total{op=getData,outcome=ok} +1",
            "quorate_client_requests_total{op=setData,outcome=unknown} +1",
            "quorate_client_sessions_lost_total{reason=given_up} +1",
        ];
        assert_eq!(*written, expected);
    }
}
