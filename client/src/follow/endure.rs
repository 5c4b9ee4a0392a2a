//! Reading on for as long as that makes sense: what ends a follower or a cache, and how long it
//! pauses before it tries again.

use std::time::Duration;

use tokio::time::sleep;

use crate::client::Client;
use crate::error::{Error, Reason};
use crate::session::SessionState;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whether reads will work again after this error, without anybody's help.
pub(crate) fn may_pass(client: &Client, error: &Error) -> bool {
    if matches!(error.reason(), Reason::Closed) {
        return false;
    }
    match error {
        Error::SessionGone { .. } => {
            client.outlives_sessions() && client.state() != SessionState::Closed
        }
        Error::DidNotHappen { .. } => error.is_retryable(),
        Error::Unknown { .. } => true,
        _ => false,
    }
}

/// Growing, jittered pauses.
#[derive(Debug, Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let longest = (PAUSE_MIN * (1 << self.0.min(7))).min(PAUSE_MAX);
        self.0 = self.0.saturating_add(1);
        longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    pub(crate) async fn pause(&mut self) {
        sleep(self.next()).await;
    }
}
