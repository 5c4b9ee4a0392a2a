//! What passes by itself, and what does not.
//!
//! Job: tell whether a read, or a write that may be repeated, is worth another attempt, and wait
//! until one can be made. Not here: what to repeat.

use std::time::Duration;

use quorate_client::{Client, Error, Result};

/// So that an error that comes at once again and again does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns when another attempt may do better, in the same session: for pinned handles.
///
/// # Errors
/// The error, if it stays as it is; or what ended the session meanwhile.
pub(crate) async fn within_the_session(client: &Client, error: Error) -> Result<()> {
    if !is_passing(&error) {
        return Err(error);
    }
    tokio::time::sleep(PAUSE).await;
    client.connected().await
}

/// As [`within_the_session`], over the end of sessions: for handles that are not pinned.
///
/// # Errors
/// The error, if it stays as it is; or what ended the client meanwhile.
pub(crate) async fn over_sessions(client: &Client, error: Error) -> Result<()> {
    if !is_passing(&error) && !error.is_session_lost() {
        return Err(error);
    }
    tokio::time::sleep(PAUSE).await;
    // Fails if there will be no other session.
    client.connected().await
}

fn is_passing(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::Unknown { .. })
}
