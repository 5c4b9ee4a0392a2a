//! `mntr`: every figure as `zk_<key>`, a tab, and the value.
//!
//! The keys are those of ZooKeeper 3.9.5 in the same role, plus `zk_fsync_threshold_exceed_count`,
//! which older agents read, and a few of our own that begin with `zk_quorate_`. Percentiles are
//! not recorded and print as 0.

use std::fmt::{Display, Write as _};

use crate::metrics::{Metrics, SummaryView};

use super::VERSION;
use super::mntr_keys::{COUNTERS, GAUGES, PERCENTILES, SUMMARIES};
use super::text::Decimal;
use super::view::{Duty, EnsembleView, ServerView};

pub(super) fn answer(view: &dyn ServerView) -> String {
    let metrics = view.metrics();
    let mut out = String::with_capacity(32 * 1024);
    put(&mut out, "version", VERSION);
    let ensemble = view.ensemble();
    let state = ensemble.as_ref().map_or("standalone", EnsembleView::word);
    put(&mut out, "server_state", state);
    if let Some(ensemble) = &ensemble {
        let peer_state = match ensemble.duty {
            Duty::Leads(_) => "leading - broadcast",
            Duty::Follows => "following - broadcast",
            Duty::Observes { .. } => "observing - broadcast",
        };
        put(&mut out, "peer_state", peer_state);
    }
    gauges(&mut out, view);
    if let Some(ensemble) = &ensemble {
        membership(&mut out, ensemble, metrics);
    }
    for name in COUNTERS {
        put(&mut out, name, counter(name, metrics));
    }
    put(
        &mut out,
        "fsync_threshold_exceed_count",
        metrics.fsync_threshold_exceeded.get(),
    );
    own(&mut out, view);
    for &name in SUMMARIES {
        let values = match &ensemble {
            Some(ensemble) if name == "election_time" => ensemble.elections,
            _ => series(name, metrics),
        };
        summary(&mut out, name, values);
    }
    for name in PERCENTILES {
        summary(&mut out, name, series(name, metrics));
        for rank in ["p50", "p95", "p99", "p999"] {
            put(&mut out, &format!("{rank}_{name}"), 0);
        }
    }
    out
}

/// Writing to a `String` cannot fail.
fn put(out: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(out, "zk_{key}\t{value}");
}

fn gauges(out: &mut String, view: &dyn ServerView) {
    let metrics = view.metrics();
    let tree = view.tree();
    let process = view.process();
    let latency = metrics.request_latency();
    let replies = metrics.response_size.view();
    // ZooKeeper says -1 until the first reply.
    let size = |bytes: u64| {
        if replies.count == 0 {
            -1
        } else {
            i64::try_from(bytes).unwrap_or(i64::MAX)
        }
    };
    let mut sessions = 0_u64;
    view.each_session(&mut |_| {
        sessions += 1;
        std::ops::ControlFlow::Continue(())
    });
    for &name in GAUGES {
        match name {
            "ephemerals_count" => put(out, name, tree.ephemerals),
            "num_alive_connections" => put(out, name, metrics.connections.get()),
            "avg_latency" => put(out, name, Decimal::average(latency.sum, latency.count)),
            "min_latency" => put(out, name, latency.min),
            "max_latency" => put(out, name, latency.max),
            "outstanding_requests" => put(out, name, metrics.outstanding.get()),
            "znode_count" => put(out, name, tree.znodes),
            "global_sessions" => put(out, name, sessions),
            "last_client_response_size" => {
                put(
                    out,
                    name,
                    size(metrics.last_response_bytes.get().unsigned_abs()),
                );
            }
            "min_client_response_size" => put(out, name, size(replies.min)),
            "max_client_response_size" => put(out, name, size(replies.max)),
            "packets_sent" => put(out, name, metrics.packets_sent.get()),
            "packets_received" => put(out, name, metrics.packets_received.get()),
            "connection_drop_probability" => put(out, name, "0.0"),
            "watch_count" => put(out, name, view.watches().total),
            "auth_failed_count" => put(out, name, metrics.auth_failed.get()),
            "open_file_descriptor_count" => put(out, name, process.open_files),
            "max_file_descriptor_count" => put(out, name, process.max_files),
            "approximate_data_size" => put(out, name, tree.approximate_data_size),
            "uptime" => put(out, name, view.uptime().as_millis()),
            _ => put(out, name, 0),
        }
    }
}

/// What a member of an ensemble shows besides. `followers` is the old name of `learners`, which
/// some agents still ask for.
fn membership(out: &mut String, ensemble: &EnsembleView, metrics: &Metrics) {
    put(out, "quorum_size", ensemble.quorum_size);
    match &ensemble.duty {
        Duty::Leads(leading) => {
            put(out, "leader_uptime", leading.uptime.as_millis());
            put(out, "learners", leading.connected());
            put(out, "followers", leading.connected());
            put(out, "synced_followers", leading.synced(true));
            put(out, "synced_observers", leading.synced(false));
            put(out, "synced_non_voting_followers", 0);
            put(out, "pending_syncs", leading.pending);
            for (rank, size) in ["last", "min", "max"].iter().zip(proposal_sizes(metrics)) {
                put(out, &format!("{rank}_proposal_size"), size);
            }
            for peer in &leading.peers {
                let lag = peer
                    .lag
                    .map_or(-1, |lag| i64::try_from(lag).unwrap_or(i64::MAX));
                put(out, &format!("quorate_peer_{}_lag", peer.id), lag);
                let synced = u8::from(peer.synced);
                put(out, &format!("quorate_peer_{}_synced", peer.id), synced);
            }
        }
        Duty::Follows => {}
        Duty::Observes { leader } => put(out, "observer_master_id", leader),
    }
    put(out, "quorate_term", ensemble.term);
    put(out, "quorate_committed_index", ensemble.committed);
    put(out, "quorate_applied_index", ensemble.applied);
}

/// Bytes of the last, the least and the largest proposal; -1 before the first.
pub(super) fn proposal_sizes(metrics: &Metrics) -> [i64; 3] {
    let sizes = metrics.proposal_size.view();
    if sizes.count == 0 {
        return [-1; 3];
    }
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    [
        metrics.last_proposal_bytes.get(),
        signed(sizes.min),
        signed(sizes.max),
    ]
}

fn counter(name: &str, metrics: &Metrics) -> u64 {
    match name {
        "throttled_ops" => metrics.throttled_ops.get(),
        "connection_rejected" => metrics.connections_rejected.get(),
        "connection_drop_count" => metrics.connections_dropped.get(),
        "connection_request_count" => metrics.connection_requests.get(),
        "connection_revalidate_count" => metrics.revalidations.get(),
        "sessionless_connections_expired" => metrics.sessionless_expired.get(),
        "stale_sessions_expired" => metrics.sessions_expired.get(),
        "bytes_received_count" => metrics.bytes_received.get(),
        "response_bytes" => metrics.response_bytes.get(),
        "large_requests_rejected" => metrics.large_requests_rejected.get(),
        "proposal_count" => metrics.proposals.get(),
        "commit_count" => metrics.commits.get(),
        "digest_mismatches_count" => metrics.digest_mismatches.get(),
        _ => 0,
    }
}

fn series(name: &str, metrics: &Metrics) -> SummaryView {
    match name {
        "fsynctime" => metrics.fsync_ms.view(),
        "snapshottime" => metrics.snapshot_ms.view(),
        "startup_snap_load_time" => metrics.startup_load_ms.view(),
        "sync_processor_batch_size" => metrics.batch_size.view(),
        "readlatency" => metrics.read_latency.view(),
        "updatelatency" => metrics.update_latency.view(),
        _ => SummaryView::default(),
    }
}

fn summary(out: &mut String, name: &str, values: SummaryView) {
    put(
        out,
        &format!("avg_{name}"),
        Decimal::average(values.sum, values.count),
    );
    put(out, &format!("min_{name}"), values.min);
    put(out, &format!("max_{name}"), values.max);
    put(out, &format!("cnt_{name}"), values.count);
    put(out, &format!("sum_{name}"), values.sum);
}

fn own(out: &mut String, view: &dyn ServerView) {
    let metrics = view.metrics();
    put(out, "quorate_snapshots", metrics.snapshots.get());
    put(out, "quorate_watch_events", metrics.watch_events.get());
    put(
        out,
        "quorate_slow_clients_closed",
        metrics.slow_clients_closed.get(),
    );
    put(out, "quorate_quota_exceeded", metrics.quota_exceeded.get());
    let failure = view.disk_failure();
    put(out, "quorate_disk_failed", u8::from(failure.is_some()));
    if let Some(cause) = failure {
        // Agents split at tabs and newlines, and take one word or the whole line for the value.
        let cause = cause.replace(|c: char| c.is_control(), " ");
        put(out, "quorate_disk_failure_cause", cause);
    }
}
