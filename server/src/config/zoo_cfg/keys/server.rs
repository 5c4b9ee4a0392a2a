//! Keys of the server itself: where it listens, where it stores, how long sessions live.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::zoo_cfg::draft::Draft;
use crate::config::zoo_cfg::suggest::nearest;
use crate::config::zoo_cfg::values::{
    BadValue, at_least_0, interval, millis, millis_or_off, number, strict_bool,
};
use crate::config::{Config, FourLetterWords};

use super::{Key, applied};

pub(super) const KEYS: &[Key] = &[
    applied(
        "tickTime",
        "3000",
        "milliseconds; the base unit of session limits and of expiry",
        |d, v| set(&mut d.config.tick_time, millis(v, 1)),
        |c| ms(c.tick_time),
    )
    .file(),
    applied(
        "dataDir",
        "",
        "where snapshots and the identity of the server are kept; required",
        |d, v| {
            if v.is_empty() {
                return Err(BadValue("is empty".into()));
            }
            d.data_dir_given = true;
            d.config.data_dir = PathBuf::from(v);
            Ok(())
        },
        |c| c.data_dir.display().to_string(),
    )
    .file(),
    applied(
        "dataLogDir",
        "dataDir",
        "where the log is kept; a device of its own makes writes faster",
        |d, v| {
            d.config.data_log_dir = (!v.is_empty()).then(|| PathBuf::from(v));
            Ok(())
        },
        |c| c.data_log_dir.as_ref().unwrap_or(&c.data_dir).display().to_string(),
    )
    .file(),
    applied(
        "clientPort",
        "",
        "the port for clients; without it, and without one in the server line, nobody can connect",
        |d, v| set(&mut d.client_port, number(v, 0, u16::MAX).map(Some)),
        |c| c.client_addr.map_or_else(String::new, |addr| addr.port().to_string()),
    )
    .file(),
    applied(
        "clientPortAddress",
        "0.0.0.0",
        "the address for clients; default all (IPv4) interfaces, `::` for both families",
        |d, v| {
            d.client_host = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
        |c| c.client_addr.map_or_else(String::new, |addr| addr.ip().to_string()),
    )
    .file(),
    applied(
        "clientPortListenBacklog",
        "-1",
        "connections waiting to be accepted; -1 = the system's default",
        |d, v| {
            let backlog = number::<i64>(v, i64::from(i32::MIN), i64::from(i32::MAX))?;
            d.config.listen_backlog = u32::try_from(backlog).ok().filter(|&n| n > 0);
            Ok(())
        },
        |c| c.listen_backlog.map_or_else(|| "-1".into(), |n| n.to_string()),
    )
    .file(),
    applied(
        "maxClientCnxns",
        "60",
        "connections from one address; 0 = unlimited",
        |d, v| set(&mut d.config.max_client_cnxns, at_least_0(v)),
        |c| c.max_client_cnxns.to_string(),
    )
    .file(),
    applied(
        "maxCnxns",
        "0",
        "connections in all; 0 = unlimited",
        |d, v| set(&mut d.config.max_cnxns, at_least_0(v)),
        |c| c.max_cnxns.to_string(),
    ),
    applied(
        "minSessionTimeout",
        "2 ticks",
        "milliseconds; shorter timeouts that clients ask for are raised to it; -1 = default",
        |d, v| set(&mut d.min_session_ms, session_limit(v)),
        |c| ms(c.min_session_timeout),
    )
    .file(),
    applied(
        "maxSessionTimeout",
        "20 ticks",
        "milliseconds; longer timeouts are lowered to it; -1 = default",
        |d, v| set(&mut d.max_session_ms, session_limit(v)),
        |c| ms(c.max_session_timeout),
    )
    .file(),
    applied(
        "autopurge.snapRetainCount",
        "3",
        "snapshots to keep; less than 3 becomes 3",
        |d, v| {
            let count = number::<usize>(v, 0, 1_000_000)?;
            if count < 3 {
                d.warn("fewer than 3 snapshots are never kept: 3 it is");
            }
            d.config.snap_retain_count = count.max(3);
            Ok(())
        },
        |c| c.snap_retain_count.to_string(),
    )
    .file(),
    applied(
        "autopurge.purgeInterval",
        "0",
        "hours, or a number with ms, s, m, h, d, between purges of old snapshots and logs; 0 = never",
        |d, v| set(&mut d.config.purge_interval, interval(v)),
        |c| c.purge_interval.map_or_else(|| "0".into(), |t| format!("{}ms", t.as_millis())),
    )
    .file(),
    applied(
        "snapCount",
        "100000",
        "transactions between snapshots; the real trigger is random between half and all of it",
        |d, v| {
            let count = number::<i64>(v, i64::from(i32::MIN), i64::from(i32::MAX))?;
            d.config.snap_count = u64::try_from(count).unwrap_or(0).max(2);
            Ok(())
        },
        |c| c.snap_count.to_string(),
    ),
    applied(
        "snapSizeLimitInKb",
        "4194304",
        "log kilobytes between snapshots; 0 or less = off",
        |d, v| {
            let kb = number::<i64>(v, i64::MIN, i64::MAX / 1024)?;
            d.config.snap_size_limit = u64::try_from(kb).unwrap_or(0) * 1024;
            Ok(())
        },
        |c| (c.snap_size_limit / 1024).to_string(),
    ),
    applied(
        "fsync.warningthresholdms",
        "1000",
        "milliseconds; a slower log sync is warned about and counted",
        |d, v| set(&mut d.config.fsync_warning, millis(v, 0)),
        |c| ms(c.fsync_warning),
    ),
    applied(
        "forceSync",
        "yes",
        "`no` acknowledges writes before they are on disk; a power failure then loses them",
        |d, v| {
            d.config.force_sync = v != "no";
            if !d.config.force_sync {
                d.warn("writes are acknowledged before they are on disk: a power failure loses them");
            }
            Ok(())
        },
        |c| if c.force_sync { "yes" } else { "no" }.into(),
    ),
    applied(
        "snapshot.trust.empty",
        "false",
        "read a ZooKeeper dataDir that has a log and no snapshot",
        |d, v| lenient(d, v, |c| &mut c.snapshot_trust_empty),
        |c| c.snapshot_trust_empty.to_string(),
    ),
    applied(
        "digest.enabled",
        "true",
        "keep and check ZooKeeper's digest of the tree",
        |d, v| lenient(d, v, |c| &mut c.digest_enabled),
        |c| c.digest_enabled.to_string(),
    ),
    applied(
        "datadir.autocreate",
        "true",
        "make missing data directories; `false`: a missing one is exit code 3",
        |d, v| lenient(d, v, |c| &mut c.data_dir_autocreate),
        |c| c.data_dir_autocreate.to_string(),
    ),
    applied(
        "emulate353TTLNodes",
        "false",
        "read TTLs of an imported dataDir as ZooKeeper 3.5.3 wrote them",
        |d, v| lenient(d, v, |c| &mut c.emulate_353_ttl),
        |c| c.emulate_353_ttl.to_string(),
    ),
    applied(
        "extendedTypesEnabled",
        "false",
        "TTL znodes; on by default here, `false` refuses them as ZooKeeper does",
        |d, v| lenient(d, v, |c| &mut c.extended_types),
        |c| c.extended_types.to_string(),
    ),
    applied(
        "znode.container.checkIntervalMs",
        "60000",
        "milliseconds between searches for empty containers and stale TTL znodes",
        |d, v| set(&mut d.config.container_check_interval, millis(v, 1)),
        |c| ms(c.container_check_interval),
    )
    .bare(),
    applied(
        "znode.container.maxPerMinute",
        "10000",
        "most deletions per minute by that search",
        |d, v| set(&mut d.config.container_max_per_minute, number(v, 1, i32::MAX.unsigned_abs())),
        |c| c.container_max_per_minute.to_string(),
    )
    .bare(),
    applied(
        "znode.container.maxNeverUsedIntervalMs",
        "0",
        "milliseconds after which a container that never had a child goes; 0 = never",
        |d, v| set(&mut d.config.container_max_never_used, millis_or_off(v)),
        |c| c.container_max_never_used.map_or_else(|| "0".into(), ms),
    )
    .bare(),
    applied(
        "enforceQuota",
        "false",
        "refuse what exceeds a hard quota",
        |d, v| lenient(d, v, |c| &mut c.enforce_quota),
        |c| c.enforce_quota.to_string(),
    ),
    applied(
        "reconfigEnabled",
        "false",
        "whether `reconfig` is answered as disabled or as not possible yet",
        |d, v| set(&mut d.config.reconfig_enabled, strict_bool(v)),
        |c| c.reconfig_enabled.to_string(),
    )
    .file(),
    applied(
        "4lw.commands.whitelist",
        "srvr",
        "four-letter words that are answered, comma separated, `*` = all; `srvr` always is",
        whitelist,
        |c| match &c.four_letter_words {
            FourLetterWords::All => "*".into(),
            FourLetterWords::Listed(words) => words.join(","),
        },
    ),
    applied(
        "readonlymode.enabled",
        "false",
        "lets `isro` be asked; a server without a quorum does not serve yet, not even to readers",
        |d, v| {
            d.read_only_mode = d.lenient_bool(v);
            Ok(())
        },
        |c| match &c.four_letter_words {
            FourLetterWords::Listed(words) => words.iter().any(|word| word == "isro").to_string(),
            FourLetterWords::All => "true".into(),
        },
    )
    .bare(),
];

pub(super) fn set<T>(field: &mut T, value: Result<T, BadValue>) -> Result<(), BadValue> {
    *field = value?;
    Ok(())
}

fn lenient(
    draft: &mut Draft,
    value: &str,
    field: fn(&mut Config) -> &mut bool,
) -> Result<(), BadValue> {
    *field(&mut draft.config) = draft.lenient_bool(value);
    Ok(())
}

pub(super) fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

/// `None` for -1, which asks for the default.
fn session_limit(value: &str) -> Result<Option<u64>, BadValue> {
    let ms = number::<i64>(value, -1, i64::from(i32::MAX))?;
    Ok(u64::try_from(ms).ok())
}

fn whitelist(draft: &mut Draft, value: &str) -> Result<(), BadValue> {
    const KNOWN: [&str; 18] = [
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok",
        "srst", "srvr", "stat", "stmk", "wchc", "wchp", "wchs",
    ];
    let mut listed = Vec::new();
    for word in value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        if word == "*" {
            draft.config.four_letter_words = FourLetterWords::All;
            return Ok(());
        }
        if !KNOWN.contains(&word) {
            let meant = nearest(word, KNOWN)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            draft.warn(format!("`{word}` is not a four-letter word{meant}"));
        }
        if !listed.iter().any(|known| known == word) {
            listed.push(word.to_owned());
        }
    }
    if !listed.iter().any(|word| word == "srvr") {
        listed.push("srvr".into());
    }
    draft.config.four_letter_words = FourLetterWords::Listed(listed);
    Ok(())
}
