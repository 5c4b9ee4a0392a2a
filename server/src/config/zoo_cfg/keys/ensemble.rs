//! Keys of an ensemble: who belongs to it, how long servers wait for each other, elections.
//!
//! Those that begin with `quorate.` are ours: ZooKeeper ignores them, so a file that has them
//! still runs there.

use std::time::Duration;

use crate::config::zoo_cfg::server_line::Role;
use crate::config::zoo_cfg::values::{BadValue, number, strict_bool};
use crate::config::{Config, Ensemble, FirstBoot};

use super::server::{ms, set};
use super::{Key, applied, checked, noted};

pub(super) const KEYS: &[Key] = &[
    applied(
        "initLimit",
        "",
        "ticks that a server may take to reach the leader and its state; default 10",
        |d, v| set(&mut d.ensemble.init_ticks, ticks(v)),
        |c| of(c, 10, |e| in_ticks(e.init_limit, c)),
    )
    .file()
    .ensemble(),
    applied(
        "syncLimit",
        "",
        "ticks without news of the leader after which a server closes its clients; default 5. \
         At most one tick and half of `minSessionTimeout`, and an election begins much earlier",
        |d, v| set(&mut d.ensemble.sync_ticks, ticks(v)),
        |c| of(c, 5, |e| in_ticks(e.sync_limit, c)),
    )
    .file()
    .ensemble(),
    checked(
        "peerType",
        "participant",
        "without effect: the role in the server line decides",
        |d, v| {
            d.peer_type = Some(if v.eq_ignore_ascii_case("observer") {
                Role::Observer
            } else if v.eq_ignore_ascii_case("participant") {
                Role::Participant
            } else {
                return Err(BadValue(format!("unrecognised peer type `{v}`")));
            });
            Ok(())
        },
    )
    .file(),
    checked(
        "standaloneEnabled",
        "true",
        "one participant runs standalone; `false` with one server line makes an ensemble of one",
        |d, v| set(&mut d.standalone_enabled, strict_bool(v)),
    )
    .file(),
    checked(
        "dynamicConfigFile",
        "",
        "the file that the server lines are read from",
        |d, v| {
            d.dynamic_file = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
    )
    .file(),
    checked(
        "multiAddress.enabled",
        "false",
        "allows several addresses, separated by `|`, in a server line",
        |d, v| set(&mut d.multi_address, strict_bool(v)),
    )
    .file(),
    noted(
        "multiAddress.*",
        "",
        "the addresses of a server are tried in turn, each time that one is dialled",
    )
    .file(),
    applied(
        "quorumListenOnAllIPs",
        "false",
        "listen for peers on all interfaces, and not on the addresses of the own server line",
        |d, v| set(&mut d.ensemble.listen_everywhere, strict_bool(v)),
        |c| of(c, false, |e| e.listen_everywhere),
    )
    .file()
    .ensemble(),
    applied(
        "quorate.heartbeatMs",
        "50",
        "milliseconds between two heartbeats of the leader",
        |d, v| set(&mut d.ensemble.heartbeat_ms, time(v)),
        |c| of(c, "50".into(), |e| ms(e.heartbeat)),
    )
    .file()
    .ensemble(),
    applied(
        "quorate.electionTimeoutMinMs",
        "150",
        "milliseconds without a heartbeat after which an election may begin; at least twice \
         `quorate.heartbeatMs`",
        |d, v| set(&mut d.ensemble.election_min_ms, time(v)),
        |c| of(c, "150".into(), |e| ms(e.election_min)),
    )
    .file()
    .ensemble(),
    applied(
        "quorate.electionTimeoutMaxMs",
        "300",
        "milliseconds after which it begins at the latest; a server draws between the two. Also \
         how long servers stay loyal to a leader that has just been heard",
        |d, v| set(&mut d.ensemble.election_max_ms, time(v)),
        |c| of(c, "300".into(), |e| ms(e.election_max)),
    )
    .file()
    .ensemble(),
    applied(
        "quorate.linearizableReads",
        "false",
        "a quorum proves of each read that it is current, for a round trip to the leader; a session \
         chooses for itself with the auth scheme `quorate`, credentials `read=linearizable` or \
         `read=local`",
        |d, v| set(&mut d.ensemble.linearizable_reads, strict_bool(v)),
        |c| of(c, false, |e| e.linearizable_reads),
    )
    .file()
    .ensemble(),
    applied(
        "quorate.firstBoot",
        "all",
        "how many participants must be there, empty, before one of them founds the ensemble: \
         `all`, or `majority` as in ZooKeeper, where one wiped server and one that was never \
         started may begin without the data of the third",
        |d, v| {
            d.ensemble.first_boot = Some(match v {
                "all" => FirstBoot::All,
                "majority" => FirstBoot::Majority,
                _ => return Err(BadValue(format!("`{v}` is neither `all` nor `majority`"))),
            });
            Ok(())
        },
        |c| of(c, "all".into(), |e| word(e.first_boot)),
    )
    .file()
    .ensemble(),
    checked(
        "group.*",
        "",
        "one group is a plain majority; several are refused in an ensemble",
        |d, _| {
            d.ensemble.groups += 1;
            Ok(())
        },
    )
    .file(),
    checked(
        "weight.*",
        "1",
        "every participant has one vote; different weights are refused in an ensemble",
        |d, v| {
            d.ensemble.weights.push(number(v, 0, u64::MAX)?);
            Ok(())
        },
    )
    .file(),
    checked(
        "connectToLearnerMasterLimit",
        "initLimit",
        "`initLimit` bounds the way to the leader and its state",
        |_, v| ticks(v).map(drop),
    )
    .file(),
    applied(
        "leaderServes",
        "yes",
        "`no`: a leader of several servers takes no clients, and sends its own to the others",
        |d, v| {
            d.ensemble.leader_is_aloof = match v {
                "yes" => false,
                "no" => true,
                _ => return Err(BadValue(format!("`{v}` is neither `yes` nor `no`"))),
            };
            Ok(())
        },
        |c| {
            let serves = c.ensemble.as_ref().is_none_or(|e| e.leader_serves);
            (if serves { "yes" } else { "no" }).to_owned()
        },
    )
    .ensemble(),
    noted(
        "observerMasterPort",
        "0",
        "observers follow the leader itself",
    )
    .file(),
    checked(
        "syncEnabled",
        "true",
        "observers always keep a log and snapshots of their own",
        |_, v| strict_bool(v).map(drop),
    )
    .file(),
    noted(
        "tcpKeepAlive",
        "false",
        "a dead link between servers is noticed by its heartbeats",
    ),
    noted("cnxTimeout", "5000", NO_ELECTION_PORT),
    noted("quorumCnxnTimeoutMs", "-1", NO_ELECTION_PORT),
    noted("electionPortBindRetry", "3", NO_ELECTION_PORT),
    noted(
        "observer.*",
        "",
        "servers connect to each other again by themselves, at once and then less and less often",
    ),
];

const NO_ELECTION_PORT: &str =
    "the second port of a server line is not used: elections run over the first";

/// The default on a server that stands alone.
fn of<T: ToString>(config: &Config, default: T, show: impl FnOnce(&Ensemble) -> T) -> String {
    config.ensemble.as_ref().map_or(default, show).to_string()
}

fn in_ticks(time: Duration, config: &Config) -> u128 {
    time.as_millis() / config.tick_time.as_millis().max(1)
}

/// 0, which ZooKeeper takes for "not set", is the default.
fn ticks(value: &str) -> Result<Option<u32>, BadValue> {
    let ticks = number::<u32>(value, 0, 1_000_000)?;
    Ok((ticks > 0).then_some(ticks))
}

fn time(value: &str) -> Result<Option<u64>, BadValue> {
    number(value, 1, 3_600_000).map(Some)
}

fn word(first_boot: FirstBoot) -> String {
    match first_boot {
        FirstBoot::All => "all",
        FirstBoot::Majority => "majority",
    }
    .to_owned()
}
