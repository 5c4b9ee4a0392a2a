//! A configuration while it is being read: what single keys said, before they are put together.
//!
//! Keys of the table write here, in any order; [`super::finish`] judges the whole. No I/O.

use std::time::Duration;

use crate::config::{Config, ConnectionThrottle, RequestThrottle};

use super::server_line::Role;
use crate::config::FirstBoot;

/// What the keys read so far have said.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) data_dir_given: bool,
    pub(super) client_port: Option<u16>,
    pub(super) client_host: Option<String>,
    pub(super) min_session_ms: Option<u64>,
    pub(super) max_session_ms: Option<u64>,
    /// As written; the server line decides.
    pub(super) peer_type: Option<Role>,
    pub(super) ensemble: EnsembleDraft,
    pub(super) standalone_enabled: bool,
    pub(super) multi_address: bool,
    pub(super) dynamic_file: Option<String>,
    pub(super) read_only_mode: bool,
    pub(super) jaas_file: Option<String>,
    pub(super) jaas_section: String,
    pub(super) sasl_super_password: Option<String>,
    pub(super) require_sasl: bool,
    pub(super) enforce_auth: bool,
    pub(super) enforce_schemes: Vec<String>,
    pub(super) ensemble_provider: bool,
    pub(super) connection_throttle: ConnectionThrottle,
    pub(super) request_throttle: RequestThrottle,
    /// What the key at hand wants to have said as a warning; taken after each key.
    pub(super) warnings: Vec<String>,
}

/// What only an ensemble asks for; `None` = the default.
#[derive(Debug, Default)]
pub(super) struct EnsembleDraft {
    pub(super) init_ticks: Option<u32>,
    pub(super) sync_ticks: Option<u32>,
    pub(super) listen_everywhere: bool,
    pub(super) heartbeat_ms: Option<u64>,
    pub(super) election_min_ms: Option<u64>,
    pub(super) election_max_ms: Option<u64>,
    pub(super) linearizable_reads: bool,
    pub(super) leader_is_aloof: bool,
    pub(super) first_boot: Option<FirstBoot>,
    /// How many `group.N` there are.
    pub(super) groups: usize,
    /// All `weight.N`.
    pub(super) weights: Vec<u64>,
}

impl Draft {
    pub(super) fn new() -> Draft {
        Draft {
            // What a file leaves out gets ZooKeeper's default, and `clientPort` has none.
            config: Config {
                client_addr: None,
                ..Config::default()
            },
            data_dir_given: false,
            client_port: None,
            client_host: None,
            min_session_ms: None,
            max_session_ms: None,
            peer_type: None,
            ensemble: EnsembleDraft::default(),
            standalone_enabled: true,
            multi_address: false,
            dynamic_file: None,
            read_only_mode: false,
            jaas_file: None,
            jaas_section: "Server".into(),
            sasl_super_password: None,
            require_sasl: false,
            enforce_auth: false,
            enforce_schemes: Vec::new(),
            ensemble_provider: false,
            connection_throttle: ConnectionThrottle::default(),
            request_throttle: RequestThrottle {
                max_requests: 0,
                stall_time: Duration::from_millis(100),
                drop_stale: true,
            },
            warnings: Vec::new(),
        }
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// A switch that ZooKeeper reads with `Boolean.parseBoolean`: all but `true` is false.
    pub(super) fn lenient_bool(&mut self, value: &str) -> bool {
        let on = value.eq_ignore_ascii_case("true");
        if !on && !value.eq_ignore_ascii_case("false") {
            self.warn(format!(
                "`{value}` is neither true nor false: taken as false, as Apache ZooKeeper does"
            ));
        }
        on
    }
}
