//! The command line of `quorate bench`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// Measure a server of the ZooKeeper protocol.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) what: What,
}

/// What to measure.
#[derive(Subcommand, Debug)]
pub(super) enum What {
    /// Read data
    #[command(after_help = "Example:\n  quorate bench get -c 64 -d 16")]
    Get(Common),
    /// Replace data
    #[command(after_help = "Example:\n  quorate bench set -c 64 --size 1024 --duration 30s")]
    Set(Common),
    /// Create znodes
    #[command(after_help = "Example:\n  quorate bench create -c 64 -d 16")]
    Create(Common),
    /// Read and replace data
    #[command(after_help = "Example:\n  quorate bench mixed -c 64 -d 16 --read 80")]
    Mixed {
        #[command(flatten)]
        common: Common,
        /// Percentage of reads
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
        read: u8,
    },
    /// Create ephemeral znodes and delete them
    #[command(after_help = "Example:\n  quorate bench ephemeral -c 64")]
    Ephemeral(Common),
    /// Several sets in one transaction
    #[command(after_help = "Example:\n  quorate bench multi -c 16 -d 4 --ops 10")]
    Multi {
        #[command(flatten)]
        common: Common,
        /// Sets in each
        #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(9))]
        ops: NonZeroUsize,
    },
    /// List children
    #[command(after_help = "Example:\n  quorate bench children -c 16 --children 1000")]
    Children {
        #[command(flatten)]
        common: Common,
        /// How many there are
        #[arg(long, default_value_t = 100)]
        children: u32,
    },
    /// One set, told to a watch on every connection: the time to the last
    #[command(after_help = "Example:\n  quorate bench watch-fanout -c 1000")]
    WatchFanout(Common),
    /// A lock that is handed from one contender (a connection) to the next
    #[command(after_help = "Example:\n  quorate bench lock -c 64 --paths 64")]
    Lock {
        #[command(flatten)]
        common: Common,
        /// Locks that the contenders are spread over
        #[arg(long, default_value_t = NonZeroUsize::MIN)]
        paths: NonZeroUsize,
    },
    /// Open and close sessions, or open them and hold them idle
    #[command(after_help = "Example:\n  quorate bench session-storm -c 10000 --hold")]
    SessionStorm {
        #[command(flatten)]
        common: Common,
        /// Open one session per connection, at most `--depth` at a time, and hold them idle
        #[arg(long)]
        hold: bool,
    },
    /// Create so many znodes, a thousand to a parent
    #[command(after_help = "Example:\n  quorate bench fill -d 64 --count 100000")]
    Fill {
        #[command(flatten)]
        common: Common,
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
    },
    /// A server without state: the limit of this machine
    #[command(hide = true)]
    #[command(after_help = "Example:\n  quorate bench null-server --fsync /var/tmp/null")]
    NullServer(NullArgs),
}

/// What all presets share.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    /// The server, host:port; of an ensemble several, with commas: connections go to them in turn
    #[arg(short, long, env = "QUORATE_SERVER", default_value = "127.0.0.1:2181")]
    pub(super) server: String,
    /// Connections, each with a session
    #[arg(short, long, alias = "clients", default_value_t = NonZeroUsize::MIN)]
    pub(super) connections: NonZeroUsize,
    /// Requests outstanding on each connection [default: 1; 64 with --rate]
    #[arg(short, long)]
    pub(super) depth: Option<NonZeroU32>,
    /// Bytes of data
    #[arg(long, alias = "value", default_value_t = 100)]
    pub(super) size: usize,
    /// How long to measure
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// How long to run before that
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(super) warmup: Duration,
    /// Requests per second, all connections together, whether answers come or not; latency then
    /// counts from when a request should have left
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Znodes that are read and set
    #[arg(long, default_value_t = 1_000)]
    pub(super) keys: u64,
    /// Threads of the generator
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    pub(super) threads: NonZeroUsize,
    /// Session timeout to ask for
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) session_timeout: Duration,
    /// Write the figures here, as JSON
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    /// Where the znodes are made [default: a new one in the root]
    #[arg(long)]
    pub(super) base: Option<String>,
    /// Leave the znodes there
    #[arg(long)]
    pub(super) keep: bool,
    /// The server's process on this machine: its CPU time and memory are reported; of several,
    /// with commas, the sums
    #[arg(long, value_delimiter = ',')]
    pub(super) server_pid: Vec<u32>,
}

impl Common {
    pub(super) fn depth(&self) -> usize {
        let depth = self
            .depth
            .map_or(if self.rate.is_some() { 64 } else { 1 }, NonZeroU32::get);
        usize::try_from(depth).unwrap_or(usize::MAX)
    }
}

/// Options of the null server.
#[derive(Args, Debug)]
pub(super) struct NullArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(super) listen: SocketAddr,
    /// Write what changes to a file in this directory, and sync it before the answer
    #[arg(long)]
    pub(super) fsync: Option<PathBuf>,
}

/// What to do, with the parameters of it alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Preset {
    Get,
    Set,
    Create,
    Mixed { read: u8 },
    Ephemeral,
    Multi { ops: usize },
    Children { children: u32 },
    WatchFanout,
    Lock { paths: usize },
    SessionStorm { hold: bool },
    Fill { count: u64 },
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) preset: Preset,
    pub(super) common: Common,
}

impl What {
    /// The null server is none; its caller has seen to that.
    pub(super) fn plan(self) -> Plan {
        let (preset, common) = match self {
            What::Get(common) => (Preset::Get, common),
            What::Set(common) => (Preset::Set, common),
            What::Create(common) => (Preset::Create, common),
            What::Mixed { common, read } => (Preset::Mixed { read }, common),
            What::Ephemeral(common) => (Preset::Ephemeral, common),
            What::Multi { common, ops } => (Preset::Multi { ops: ops.get() }, common),
            What::Children { common, children } => (Preset::Children { children }, common),
            What::WatchFanout(common) => (Preset::WatchFanout, common),
            What::Lock { common, paths } => (Preset::Lock { paths: paths.get() }, common),
            What::SessionStorm { common, hold } => (Preset::SessionStorm { hold }, common),
            What::Fill { common, count } => (Preset::Fill { count }, common),
            What::NullServer(_) => unreachable!("the null server is started before"),
        };
        Plan { preset, common }
    }
}

impl Preset {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Preset::Get => "get",
            Preset::Set => "set",
            Preset::Create => "create",
            Preset::Mixed { .. } => "mixed",
            Preset::Ephemeral => "ephemeral",
            Preset::Multi { .. } => "multi",
            Preset::Children { .. } => "children",
            Preset::WatchFanout => "watch-fanout",
            Preset::Lock { .. } => "lock",
            Preset::SessionStorm { hold: false } => "session-storm",
            Preset::SessionStorm { hold: true } => "session-hold",
            Preset::Fill { .. } => "fill",
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("no unit of time: `{unit}` (ms, s, m and h are)")),
    };
    let number: f64 = number.trim().parse().map_err(|_| "no number".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(line: &str) -> Result<Plan, clap::Error> {
        Cli::try_parse_from(std::iter::once("bench").chain(line.split(' ')))
            .map(|cli| cli.bench.what.plan())
    }

    #[test]
    fn durations_have_units_and_seconds_need_none() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "s", "5x", "-1s", "1e300h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_closed_loop_has_one_request_outstanding_unless_told() {
        assert_eq!(plan("get").unwrap().common.depth(), 1);
        assert_eq!(plan("get --depth 16").unwrap().common.depth(), 16);
        assert_eq!(plan("get --rate 2000").unwrap().common.depth(), 64);
        assert_eq!(plan("get --rate 2000 -d 4").unwrap().common.depth(), 4);
    }

    #[test]
    fn presets_take_their_own_parameters() {
        let plan_of = |line: &str| plan(line).unwrap().preset;
        assert_eq!(plan_of("mixed"), Preset::Mixed { read: 90 });
        assert_eq!(plan_of("mixed --read 50"), Preset::Mixed { read: 50 });
        assert_eq!(plan_of("multi"), Preset::Multi { ops: 10 });
        assert_eq!(plan_of("lock --paths 64"), Preset::Lock { paths: 64 });
        assert_eq!(
            plan_of("session-storm --hold"),
            Preset::SessionStorm { hold: true }
        );
        assert!(plan("get --read 50").is_err());
    }

    #[test]
    fn numbers_that_make_no_run_are_refused() {
        for line in [
            "get --connections 0",
            "get --depth 0",
            "get --rate 0",
            "get --rate nan",
            "get --threads 0",
            "mixed --read 101",
            "lock --paths 0",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }

    #[test]
    fn clients_and_value_are_other_names() {
        let common = plan("mixed --clients 64 --value 128").unwrap().common;
        assert_eq!((common.connections.get(), common.size), (64, 128));
    }
}
