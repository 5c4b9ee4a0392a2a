//! Keys that bound what clients may ask for: sizes, rates, waiting times.

use std::time::Duration;

use crate::config::zoo_cfg::draft::Draft;
use crate::config::zoo_cfg::values::{BadValue, at_least_0, millis, millis_or_off, number, share};
use crate::config::{Config, ConnectionThrottle, RequestThrottle};

use super::{Key, applied, noted};

const INT_MAX: u32 = i32::MAX.unsigned_abs();

pub(super) const KEYS: &[Key] = &[
    applied(
        "jute.maxbuffer",
        "1048575",
        "bytes; a longer request frame closes the connection",
        |d, v| {
            let bytes = number::<u32>(v, 1024, INT_MAX)?;
            d.config.jute_max_buffer = usize::try_from(bytes).unwrap_or(usize::MAX);
            Ok(())
        },
        |c| c.jute_max_buffer.to_string(),
    )
    .bare(),
    noted(
        "jute.maxbuffer.extrasize",
        "jute.maxbuffer",
        "every size limit on the way is derived from the largest request",
    )
    .bare(),
    applied(
        "nio.sessionlessCnxnTimeout",
        "10000",
        "milliseconds that a socket may take to send its connect request",
        |d, v| set(&mut d.config.sessionless_timeout, millis(v, 1)),
        |c| ms(c.sessionless_timeout),
    ),
    applied(
        "globalOutstandingLimit",
        "1000",
        "requests in process above which connections that have some are not read",
        |d, v| {
            set(
                &mut d.config.global_outstanding_limit,
                number(v, 1, INT_MAX),
            )
        },
        |c| c.global_outstanding_limit.to_string(),
    ),
    applied(
        "largeRequestThreshold",
        "-1",
        "bytes; larger requests share a budget; -1 = off",
        |d, v| {
            let bytes = number::<i64>(v, -1, i64::from(i32::MAX))?;
            d.config.large_request_threshold =
                usize::try_from(bytes).ok().filter(|&bytes| bytes > 0);
            Ok(())
        },
        |c| {
            c.large_request_threshold
                .map_or_else(|| "-1".into(), |n| n.to_string())
        },
    ),
    applied(
        "largeRequestMaxBytes",
        "104857600",
        "that budget, in bytes",
        |d, v| {
            let bytes = number::<u32>(v, 1, INT_MAX)?;
            d.config.large_request_max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            Ok(())
        },
        |c| c.large_request_max_bytes.to_string(),
    ),
    applied(
        "clientTcpKeepAlive",
        "false",
        "TCP keep-alive on client sockets",
        |d, v| {
            d.config.tcp_keep_alive = d.lenient_bool(v);
            Ok(())
        },
        |c| c.tcp_keep_alive.to_string(),
    ),
    applied(
        "throttled_op_wait_time",
        "0",
        "milliseconds; a request that waited longer is answered -127 and not executed; 0 = off",
        |d, v| set(&mut d.config.throttled_op_wait, millis_or_off(v)),
        |c| c.throttled_op_wait.map_or_else(|| "0".into(), ms),
    ),
    applied(
        "connection_throttle_tokens",
        "0",
        "connect requests that may come at once; 0 = no throttle",
        |d, v| set(&mut d.connection_throttle.tokens, at_least_0(v)),
        |c| connection(c, |t| t.tokens.to_string()),
    ),
    applied(
        "connection_throttle_fill_time",
        "1",
        "milliseconds between refills of that bucket",
        |d, v| set(&mut d.connection_throttle.fill_time, millis(v, 1)),
        |c| connection(c, |t| ms(t.fill_time)),
    ),
    applied(
        "connection_throttle_fill_count",
        "1",
        "tokens per refill",
        |d, v| set(&mut d.connection_throttle.fill_count, number(v, 1, INT_MAX)),
        |c| connection(c, |t| t.fill_count.to_string()),
    ),
    applied(
        "connection_throttle_freeze_time",
        "-1",
        "milliseconds between changes of the drop probability; -1 = nothing is dropped by chance",
        |d, v| {
            let ms = number::<i64>(v, -1, i64::from(i32::MAX))?;
            d.connection_throttle.freeze_time = u64::try_from(ms).ok().map(Duration::from_millis);
            Ok(())
        },
        |c| connection(c, |t| t.freeze_time.map_or_else(|| "-1".into(), ms)),
    ),
    applied(
        "connection_throttle_drop_increase",
        "0.02",
        "how much the drop probability grows while the bucket is empty",
        |d, v| set(&mut d.connection_throttle.drop_increase, share(v)),
        |c| connection(c, |t| t.drop_increase.to_string()),
    ),
    applied(
        "connection_throttle_drop_decrease",
        "0.002",
        "how much it shrinks while the bucket is filled",
        |d, v| set(&mut d.connection_throttle.drop_decrease, share(v)),
        |c| connection(c, |t| t.drop_decrease.to_string()),
    ),
    applied(
        "connection_throttle_decrease_ratio",
        "0",
        "share of the bucket that counts as filled",
        |d, v| set(&mut d.connection_throttle.decrease_ratio, share(v)),
        |c| connection(c, |t| t.decrease_ratio.to_string()),
    ),
    applied(
        "connection_throttle_weight_enabled",
        "false",
        "a new session costs 3 tokens and a renewal 2",
        |d, v| {
            d.connection_throttle.weighted = d.lenient_bool(v);
            Ok(())
        },
        |c| connection(c, |t| t.weighted.to_string()),
    ),
    noted(
        "connection_throttle_global_session_weight",
        "3",
        "the weights are fixed: 3 for a new session, 2 for a renewal",
    ),
    noted(
        "connection_throttle_renew_session_weight",
        "2",
        "the weights are fixed: 3 for a new session, 2 for a renewal",
    ),
    noted(
        "connection_throttle_local_session_weight",
        "1",
        "there are no local sessions: every server knows every session",
    ),
    applied(
        "request_throttle_max_requests",
        "0",
        "requests in process above which the pipeline stalls; 0 = no throttle",
        |d, v| set(&mut d.request_throttle.max_requests, at_least_0(v)),
        |c| request(c, |t| t.max_requests.to_string()),
    ),
    applied(
        "request_throttle_stall_time",
        "100",
        "milliseconds of one stall",
        |d, v| set(&mut d.request_throttle.stall_time, millis(v, 1)),
        |c| request(c, |t| ms(t.stall_time)),
    ),
    applied(
        "request_throttle_drop_stale",
        "true",
        "drop waiting requests whose connection is gone",
        |d, v| {
            d.request_throttle.drop_stale = d.lenient_bool(v);
            Ok(())
        },
        |c| request(c, |t| t.drop_stale.to_string()),
    ),
    noted(
        "request_stale_connection_check",
        "true",
        "a request is stale when its connection is gone; `request_throttle_drop_stale` decides",
    ),
    noted(
        "request_stale_latency_check",
        "false",
        "requests do not get stale by age; `throttled_op_wait_time` bounds their waiting",
    ),
    noted(
        "request_throttler.shutdownTimeout",
        "10000",
        "at shutdown every accepted request is finished or its connection closed",
    ),
];

fn set<T>(field: &mut T, value: Result<T, BadValue>) -> Result<(), BadValue> {
    *field = value?;
    Ok(())
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

fn connection(config: &Config, show: fn(&ConnectionThrottle) -> String) -> String {
    config
        .connection_throttle
        .as_ref()
        .map_or_else(|| "off".into(), show)
}

fn request(config: &Config, show: fn(&RequestThrottle) -> String) -> String {
    config
        .request_throttle
        .as_ref()
        .map_or_else(|| "off".into(), show)
}

/// A throttle without tokens or without a limit is off.
pub(in crate::config::zoo_cfg) fn join_throttles(draft: &mut Draft) {
    let connection = draft.connection_throttle.clone();
    draft.config.connection_throttle = (connection.tokens > 0).then_some(connection);
    let request = draft.request_throttle.clone();
    draft.config.request_throttle = (request.max_requests > 0).then_some(request);
}
