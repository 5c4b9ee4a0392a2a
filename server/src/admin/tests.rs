//! The words against the shapes that monitoring agents parse.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_proto::Zxid;

use super::view::{
    ConnectedSession, DirSizes, Leading, PeerRow, ProcessFacts, SessionRow, TreeFacts, WatchFacts,
    op_label,
};
use super::*;
use crate::config::Config;
use crate::metrics::Metrics;

/// A server that stands still, with one client and its lock.
struct Still {
    config: Config,
    metrics: Metrics,
    serving: bool,
    watches_per_session: usize,
    failure: Option<String>,
    ensemble: Option<EnsembleView>,
}

const SESSION: SessionId = SessionId(0x0100_0015_12f1_0000);

impl Still {
    fn new() -> Still {
        let metrics = Metrics::default();
        for latency in [1, 2, 4, 8, 12] {
            metrics.read_latency.record(latency);
        }
        metrics.packets_received.add(7);
        metrics.packets_sent.add(6);
        metrics.connections.set(2);
        Still {
            config: Config {
                data_dir: "/data".into(),
                tick_time: Duration::from_secs(2),
                ..Config::default()
            },
            metrics,
            serving: true,
            watches_per_session: 2,
            failure: None,
            ensemble: None,
        }
    }

    /// Server 2 of three and an observer.
    fn of_ensemble(duty: Duty) -> Still {
        let mut still = Still::new();
        let text = "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2889:3889\n\
                    server.3=c:2888:3888\nserver.4=d:2888:3888:observer";
        let dir = tempfile::tempdir().unwrap();
        let id = if matches!(duty, Duty::Observes { .. }) {
            4
        } else {
            2
        };
        std::fs::write(dir.path().join("myid"), id.to_string()).unwrap();
        let file = dir.path().join("zoo.cfg");
        let path = dir.path().display();
        std::fs::write(&file, format!("dataDir={path}\ntickTime=2000\n{text}\n")).unwrap();
        let parsed = crate::config::zoo_cfg::load(&file, &Default::default()).unwrap();
        still.config = Config {
            data_dir: "/data".into(),
            ..parsed.config
        };
        let ensemble = still.config.ensemble.as_ref().unwrap();
        still.ensemble = Some(EnsembleView {
            duty,
            quorum_size: 3,
            term: 7,
            committed: 41,
            applied: 40,
            members: ensemble.text(0),
            elections: crate::metrics::SummaryView {
                count: 1,
                sum: 230,
                min: 230,
                max: 230,
            },
        });
        still
    }

    fn leads() -> Still {
        let peer = |id, votes, synced, lag| PeerRow {
            id,
            votes,
            synced,
            lag,
        };
        Still::of_ensemble(Duty::Leads(Leading {
            uptime: Duration::from_secs(9),
            peers: vec![
                peer(1, true, true, Some(0)),
                peer(3, true, false, None),
                peer(4, false, true, Some(2)),
            ],
            pending: 1,
        }))
    }

    fn ask(&self, word: &str) -> String {
        self.ask_listed(word, &FourLetterWords::All)
    }

    fn ask_listed(&self, word: &str, whitelist: &FourLetterWords) -> String {
        let word = Word::from_bytes(word.as_bytes().try_into().unwrap()).unwrap();
        String::from_utf8(answer(word, self, whitelist)).unwrap()
    }
}

impl ServerView for Still {
    fn config(&self) -> &Config {
        &self.config
    }
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    fn serving(&self) -> bool {
        self.serving
    }
    fn ensemble(&self) -> Option<EnsembleView> {
        self.ensemble.clone()
    }
    fn session_timeouts(&self) -> Vec<(SessionId, i32)> {
        vec![(SESSION, 20_000)]
    }
    fn uptime(&self) -> Duration {
        Duration::from_millis(6003)
    }
    fn client_addr(&self) -> Option<SocketAddr> {
        Some("127.0.0.1:32981".parse().unwrap())
    }
    fn tree(&self) -> TreeFacts {
        TreeFacts {
            zxid: Zxid(0x3),
            znodes: 7,
            ephemerals: 1,
            approximate_data_size: 53,
        }
    }
    fn each_connection(&self, visit: &mut dyn FnMut(&ConnectionRow) -> ControlFlow<()>) {
        let asking = ConnectionRow {
            peer: "127.0.0.1:41422".parse().unwrap(),
            interest_ops: 0,
            queued: 0,
            received: 1,
            sent: 0,
            expires_ms: 1_795_447_223_000,
            session: None,
        };
        let client = ConnectionRow {
            peer: "127.0.0.1:41354".parse().unwrap(),
            interest_ops: 1,
            received: 5,
            sent: 5,
            session: Some(ConnectedSession {
                id: SESSION,
                last_op: op_label(4),
                established_ms: 1_795_447_211_576,
                timeout_ms: 10_000,
                last_xid: 4,
                last_zxid: Zxid(3),
                last_reply_ms: 1_387_045,
                latency_last_ms: 1,
                latency_min_ms: 0,
                latency_avg_ms: 5,
                latency_max_ms: 12,
            }),
            ..asking.clone()
        };
        if visit(&asking).is_continue() {
            let _ = visit(&client);
        }
    }
    fn each_session(&self, visit: &mut dyn FnMut(&SessionRow) -> ControlFlow<()>) {
        let _ = visit(&SessionRow {
            id: SESSION,
            expires_ms: 1_795_447_221_576,
        });
    }
    fn ephemerals_of(&self, session: SessionId) -> Vec<Arc<str>> {
        assert_eq!(session, SESSION);
        vec!["/e1".into()]
    }
    fn watches(&self) -> WatchFacts {
        WatchFacts {
            connections: 1,
            paths: 2,
            total: 2,
        }
    }
    fn each_watch_by_session(&self, visit: &mut dyn FnMut(SessionId, &str) -> ControlFlow<()>) {
        for at in 0..self.watches_per_session {
            if visit(SESSION, &format!("/p{at}")).is_break() {
                return;
            }
        }
    }
    fn each_watch_by_path(&self, visit: &mut dyn FnMut(&str, SessionId) -> ControlFlow<()>) {
        let _ = visit("/p", SESSION);
        let _ = visit("/p", SessionId(2));
        let _ = visit("/q", SESSION);
    }
    fn digests(&self) -> Vec<(Zxid, u64)> {
        vec![(Zxid(0x80), 17), (Zxid(0x1_0000_0000), u64::MAX)]
    }
    fn dir_sizes(&self) -> DirSizes {
        DirSizes { data: 10, log: 20 }
    }
    fn disk_failure(&self) -> Option<String> {
        self.failure.clone()
    }
    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            open_files: 54,
            max_files: 20_000,
            host_name: "here".into(),
            ..ProcessFacts::default()
        }
    }
    fn reset_connection_stats(&self) {}
    fn reset_server_stats(&self) {
        self.metrics.packets_received.reset();
    }
}

/// The shapes of this and the tests below are those of a running ZooKeeper 3.9.5.
#[test]
fn srvr_has_zookeepers_shape() {
    let expected = format!(
        "Zookeeper version: {VERSION}\nLatency min/avg/max: 1/5.4/12\nReceived: 7\nSent: 6\n\
         Connections: 2\nOutstanding: 0\nZxid: 0x3\nMode: standalone\nNode count: 7\n"
    );
    assert_eq!(Still::new().ask("srvr"), expected);
}

#[test]
fn srvr_and_stat_tell_the_role_and_a_leader_the_sizes_of_its_proposals() {
    let leader = Still::leads();
    for word in ["srvr", "stat"] {
        let end = "Mode: leader\nNode count: 7\nProposal sizes last/min/max: -1/-1/-1\n";
        assert!(leader.ask(word).ends_with(end), "{word}");
    }
    leader.metrics.proposal_size.record(36);
    leader.metrics.proposal_size.record(89);
    leader.metrics.last_proposal_bytes.set(36);
    assert!(
        leader
            .ask("srvr")
            .ends_with("Proposal sizes last/min/max: 36/36/89\n")
    );
    let follower = Still::of_ensemble(Duty::Follows).ask("srvr");
    assert!(
        follower.ends_with("Mode: follower\nNode count: 7\n"),
        "{follower}"
    );
    let observer = Still::of_ensemble(Duty::Observes { leader: 2 }).ask("stat");
    assert!(
        observer.ends_with("Mode: observer\nNode count: 7\n"),
        "{observer}"
    );
}

#[test]
fn conf_of_a_member_ends_with_the_members_and_no_newline() {
    let expected = "serverId=2\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3889\n\
        quorumPort=2889\npeerType=0\nmembership: \nserver.1=a:2888:3888:participant\n\
        server.2=b:2889:3889:participant\nserver.3=c:2888:3888:participant\n\
        server.4=d:2888:3888:observer\nversion=0";
    assert!(Still::leads().ask("conf").ends_with(expected));
    let observer = Still::of_ensemble(Duty::Observes { leader: 2 }).ask("conf");
    assert!(observer.contains("\nquorumPort=2888\npeerType=1\nmembership: \n"));
}

/// Only the leader knows when a session ends.
#[test]
fn dump_of_a_follower_lists_sessions_with_their_timeouts() {
    let dump = Still::of_ensemble(Duty::Follows).ask("dump");
    assert!(dump.starts_with(
        "Global Sessions(1):\n0x100001512f10000\t20000ms\nephemeral nodes dump:\n\
         Sessions with Ephemerals (1):\n0x100001512f10000:\n\t/e1\nConnections dump:\n"
    ));
    assert!(
        Still::leads()
            .ask("dump")
            .starts_with("SessionTracker dump:\n")
    );
}

#[test]
fn mntr_tells_the_role_and_a_leader_who_follows_it() {
    let has = |still: &Still, lines: &[&str]| {
        let answer = still.ask("mntr");
        for line in lines {
            assert!(answer.lines().any(|have| have == *line), "{line}: {answer}");
        }
    };
    let everybody = [
        "zk_quorum_size\t3",
        "zk_quorate_term\t7",
        "zk_quorate_committed_index\t41",
        "zk_quorate_applied_index\t40",
        "zk_cnt_election_time\t1",
        "zk_sum_election_time\t230",
    ];
    let leader = [
        "zk_server_state\tleader",
        "zk_peer_state\tleading - broadcast",
        "zk_leader_uptime\t9000",
        "zk_learners\t2",
        "zk_followers\t2",
        "zk_synced_followers\t1",
        "zk_synced_observers\t1",
        "zk_synced_non_voting_followers\t0",
        "zk_pending_syncs\t1",
        "zk_last_proposal_size\t-1",
        "zk_quorate_peer_1_lag\t0",
        "zk_quorate_peer_3_lag\t-1",
        "zk_quorate_peer_3_synced\t0",
        "zk_quorate_peer_4_lag\t2",
    ];
    has(
        &Still::leads(),
        &[everybody.as_slice(), leader.as_slice()].concat(),
    );
    let follower = Still::of_ensemble(Duty::Follows);
    has(&follower, &everybody);
    has(
        &follower,
        &[
            "zk_server_state\tfollower",
            "zk_peer_state\tfollowing - broadcast",
        ],
    );
    assert!(!follower.ask("mntr").contains("zk_synced_followers"));
    has(
        &Still::of_ensemble(Duty::Observes { leader: 2 }),
        &[
            "zk_server_state\tobserver",
            "zk_peer_state\tobserving - broadcast",
            "zk_observer_master_id\t2",
        ],
    );
    let standalone = Still::new().ask("mntr");
    assert!(!standalone.contains("zk_quorum_size") && !standalone.contains("peer_state"));
}

#[test]
fn stat_lists_clients_between_version_and_figures() {
    let expected = format!(
        "Zookeeper version: {VERSION}\nClients:\n \
         /127.0.0.1:41422[0](queued=0,recved=1,sent=0)\n \
         /127.0.0.1:41354[1](queued=0,recved=5,sent=5)\n\nLatency min/avg/max: 1/5.4/12\n\
         Received: 7\nSent: 6\nConnections: 2\nOutstanding: 0\nZxid: 0x3\nMode: standalone\n\
         Node count: 7\n"
    );
    assert_eq!(Still::new().ask("stat"), expected);
}

#[test]
fn cons_tells_the_session_and_ends_with_an_empty_line() {
    let expected = " /127.0.0.1:41422[0](queued=0,recved=1,sent=0)\n \
        /127.0.0.1:41354[1](queued=0,recved=5,sent=5,sid=0x100001512f10000,lop=GETD,\
        est=1795447211576,to=10000,lcxid=0x4,lzxid=0x3,lresp=1387045,llat=1,minlat=0,avglat=5,\
        maxlat=12)\n\n";
    assert_eq!(Still::new().ask("cons"), expected);
}

#[test]
fn conf_has_the_keys_of_a_standalone_server() {
    let expected = "clientPort=32981\nsecureClientPort=-1\ndataDir=/data\ndataDirSize=10\n\
        dataLogDir=/data\ndataLogSize=20\ntickTime=2000\nmaxClientCnxns=60\n\
        minSessionTimeout=6000\nmaxSessionTimeout=60000\nclientPortListenBacklog=-1\nserverId=1\n";
    assert_eq!(Still::new().ask("conf"), expected);
}

#[test]
fn dump_groups_by_the_tick_of_expiry() {
    let expected = "SessionTracker dump:\nSession Sets (1)/(1):\n\
        1 expire at Mon Nov 23 15:20:22 UTC 2026:\n\t0x100001512f10000\nephemeral nodes dump:\n\
        Sessions with Ephemerals (1):\n0x100001512f10000:\n\t/e1\nConnections dump:\n\
        Connections Sets (1)/(2):\n2 expire at Mon Nov 23 15:20:24 UTC 2026:\n\
        \tip: /127.0.0.1:41422 sessionId: 0x0\n\
        \tip: /127.0.0.1:41354 sessionId: 0x100001512f10000\n";
    assert_eq!(Still::new().ask("dump"), expected);
}

#[test]
fn small_words_end_as_zookeepers_do() {
    let server = Still::new();
    for (word, text) in [
        ("ruok", "imok"),
        ("isro", "rw"),
        ("gtmk", "306"),
        ("stmk", "0"),
        ("crst", "Connection stats reset.\n"),
        ("dirs", "datadir_size: 10\nlogdir_size: 20\n"),
        ("hash", "80: 17\n100000000: 18446744073709551615\n"),
        ("wchs", "1 connections watching 2 paths\nTotal watches:2\n"),
        ("wchc", "0x100001512f10000\n\t/p0\n\t/p1\n\n"),
        (
            "wchp",
            "/p\n\t0x100001512f10000\n\t0x2\n/q\n\t0x100001512f10000\n\n",
        ),
        ("srst", "Server stats reset.\n"),
    ] {
        assert_eq!(server.ask(word), text, "{word}");
    }
    assert!(
        server.ask("srvr").contains("Received: 0\n"),
        "srst has reset it"
    );
    let mask = Word::Stmk { mask: 0 }.with_argument([0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(answer(mask, &server, &FourLetterWords::All), b"5");
    assert_eq!(
        answer(Word::TelnetClose, &server, &FourLetterWords::All),
        b""
    );
}

#[test]
fn words_off_the_list_get_the_sentence_and_srvr_never_does() {
    let server = Still::new();
    let none = FourLetterWords::Listed(Vec::new());
    assert_eq!(
        server.ask_listed("ruok", &none),
        "ruok is not executed because it is not in the whitelist.\n"
    );
    assert_eq!(
        server.ask_listed("stmk", &none),
        "stmk is not executed because it is not in the whitelist.\n"
    );
    assert!(
        server
            .ask_listed("srvr", &none)
            .starts_with("Zookeeper version")
    );
    let one = FourLetterWords::Listed(vec!["ruok".into()]);
    assert_eq!(server.ask_listed("ruok", &one), "imok");
    assert!(
        server
            .ask_listed("mntr", &one)
            .contains("not in the whitelist")
    );
}

#[test]
fn a_server_that_is_not_serving_says_so_where_zookeeper_does() {
    let server = Still {
        serving: false,
        ..Still::new()
    };
    for word in [
        "srvr", "stat", "mntr", "conf", "cons", "crst", "srst", "dirs", "dump", "wchs", "wchc",
        "wchp", "hash",
    ] {
        assert_eq!(server.ask(word), NOT_SERVING, "{word}");
    }
    assert_eq!(server.ask("ruok"), "imok");
    assert_eq!(server.ask("isro"), "null");
    assert_eq!(server.ask("gtmk"), "306");
    assert!(server.ask("envi").starts_with("Environment:\n"));
}

#[test]
fn mntr_has_every_key_of_zookeeper_and_one_value_each() {
    let answer = Still::new().ask("mntr");
    let mut seen = HashSet::new();
    for line in answer.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        assert!(seen.insert(key), "{key} stands twice");
        assert!(!value.is_empty() && !value.contains('\t'), "{line}");
    }
    let wanted = include_str!("golden/mntr-3.9.5-standalone.txt");
    let missing: Vec<_> = wanted.lines().filter(|key| !seen.contains(key)).collect();
    assert_eq!(missing, Vec::<&str>::new());
    let own: Vec<_> = seen
        .into_iter()
        .filter(|key| !wanted.lines().any(|known| known == *key))
        .filter(|key| !key.starts_with("zk_quorate_"))
        .collect();
    assert_eq!(own, ["zk_fsync_threshold_exceed_count"]);
}

#[test]
fn mntr_tells_the_figures() {
    let server = Still::new();
    server.metrics.fsync_ms.record(3);
    server.metrics.fsync_ms.record(4);
    let answer = server.ask("mntr");
    for line in [
        "zk_server_state\tstandalone",
        "zk_avg_latency\t5.4",
        "zk_znode_count\t7",
        "zk_watch_count\t2",
        "zk_global_sessions\t1",
        "zk_uptime\t6003",
        "zk_max_client_response_size\t-1",
        "zk_open_file_descriptor_count\t54",
        "zk_avg_fsynctime\t3.5",
        "zk_sum_fsynctime\t7",
        "zk_quorate_disk_failed\t0",
    ] {
        assert!(answer.lines().any(|have| have == line), "{line}");
    }
    assert!(!answer.contains("failure_cause"));
}

/// Telegraf refuses a whole answer for one line that is not `zk_<word><blank><word…>`.
#[test]
fn mntr_lines_satisfy_the_strictest_agent_even_when_the_disk_fails() {
    let server = Still {
        failure: Some("write of log-1:\tno space left\non device".into()),
        ..Still::new()
    };
    let answer = server.ask("mntr");
    let word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    for line in answer.lines() {
        let rest = line.strip_prefix("zk_").unwrap();
        let key_end = rest.find(|c| !word(c)).unwrap();
        let value = rest[key_end..].trim_start();
        assert!(key_end > 0 && value.starts_with(word), "{line}");
    }
    assert!(answer.contains("zk_quorate_disk_failed\t1\n"));
    assert!(answer.contains("_cause\twrite of log-1: no space left on device\n"));
}

#[test]
fn the_version_line_is_parsed_by_those_who_parse_it() {
    // Metricbeat: `Zookeeper version: (.*)-(.*), built on (.*)`.
    let line = Still::new().ask("srvr").lines().next().unwrap().to_owned();
    let (version, date) = line
        .strip_prefix("Zookeeper version: ")
        .and_then(|rest| rest.split_once(", built on "))
        .unwrap();
    assert!(version.rsplit_once('-').is_some());
    assert_eq!(date.len(), "2026-02-11 20:18 UTC".len());
    // Datadog: `(\d+\.\d+\.\d+)`; kazoo: the same, in a line of `envi`.
    let front = version.split('-').next().unwrap();
    let numbers: Vec<u32> = front.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(
        numbers.as_slice() >= [3, 4, 0].as_slice(),
        "Datadog asks for mntr from 3.4 on"
    );
    let envi = Still::new().ask("envi");
    let line = envi
        .lines()
        .find(|line| line.starts_with("zookeeper.version="))
        .unwrap();
    assert!(line.starts_with("zookeeper.version=3.9.5"));
    assert!(envi.contains("\nhost.name=here\n"));
}

#[test]
fn a_million_watches_make_a_bounded_answer() {
    let server = Still {
        watches_per_session: 1_000_000,
        ..Still::new()
    };
    let answer = server.ask("wchc");
    assert!(answer.len() < 5 * 1024 * 1024);
    assert!(answer.ends_with("... the rest is left out\n\n"));
}
