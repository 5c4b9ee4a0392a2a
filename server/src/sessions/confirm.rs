//! Who confirms that a session lives, and how long this server may go without that.

use std::time::Duration;

use futures::future::BoxFuture;
use quorate_proto::SessionId;

use crate::config::Config;

/// No leader confirmed anything: there is none, it was not reached, or it is not sure of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no leader confirms the sessions")]
pub(crate) struct Unconfirmed;

/// The way to the leader's judgement, wherever it sits.
///
/// Replication answers this: it knows who leads, and under which lease.
pub(crate) trait Confirm: Send + Sync + 'static {
    /// Whether this server judges the sessions itself, right now: it leads, has applied the first
    /// entry of its term, has started the deadlines over since the last gap in its lease
    /// ([`Judge::start_over`](crate::replication::Judge::start_over)), and the lease is valid at
    /// this moment. What was touched here before the call is then confirmed.
    ///
    /// Asked for each ping: it must not wait and should not lock.
    fn confirms_alone(&self) -> bool;

    /// Has the leader renew these sessions, after it has received their list; returns those that
    /// it does not confirm. The list may be empty: the answer still shows that there is a leader.
    ///
    /// Dropped, the future leaves nothing behind; the leader may or may not have renewed.
    fn confirm(
        &self,
        sessions: Vec<SessionId>,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, Unconfirmed>>;
}

/// The times by which a server of an ensemble keeps its clients from trusting it for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// D of R17: without a confirmed report for longer than this, the clients are closed.
    pub(crate) silence: Duration,
    /// The longest lease of a leader: what a new one grants on top of every timeout (R18).
    pub(crate) lease: Duration,
}

impl Bounds {
    /// Those of a configured ensemble; `None` for a server that stands alone.
    pub(crate) fn of(config: &Config) -> Option<Bounds> {
        let ensemble = config.ensemble.as_ref()?;
        let silence = config
            .tick_time
            .min(ensemble.sync_limit)
            .min(config.min_session_timeout / 2);
        Some(Bounds {
            silence: silence.max(Duration::from_millis(1)),
            lease: ensemble.election_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ensemble, Role};

    #[test]
    fn a_server_that_stands_alone_needs_nobody_to_confirm() {
        assert_eq!(Bounds::of(&Config::default()), None);
    }

    #[test]
    fn the_clients_are_closed_well_within_the_shortest_timeout() {
        let mut config = Config::default();
        let ensemble = Ensemble::new(Vec::new(), Role::Participant, config.tick_time);
        config.ensemble = Some(ensemble);
        let silence = |config: &Config| Bounds::of(config).map(|bounds| bounds.silence);
        assert_eq!(silence(&config), Some(Duration::from_secs(3)), "a tick");
        config.min_session_timeout = Duration::from_secs(4);
        assert_eq!(silence(&config), Some(Duration::from_secs(2)), "half of it");
        if let Some(ensemble) = &mut config.ensemble {
            ensemble.sync_limit = Duration::from_secs(1);
        }
        assert_eq!(silence(&config), Some(Duration::from_secs(1)), "syncLimit");
    }
}
