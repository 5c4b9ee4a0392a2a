//! Servers that misbehave, and networks that do.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it"
)]

pub mod fake;
pub mod proxy;
pub mod requests;

use std::time::Duration;

use quorate_client::{Client, ClientBuilder, SessionState, Status};
use quorate_server::testing::TestServer;

/// Longer than anything here takes; a test that waits this long has failed.
pub const SOON: Duration = Duration::from_secs(20);

/// A server with short ticks, so that sessions end within the patience of a test.
pub async fn quick_server() -> TestServer {
    TestServer::builder()
        .config(|config| {
            config.tick_time = Duration::from_millis(100);
            config.min_session_timeout = Duration::from_millis(200);
            config.max_session_timeout = Duration::from_secs(60);
        })
        .start()
        .await
}

/// A client that does not wait long for anything.
pub fn builder(servers: &str) -> ClientBuilder {
    Client::builder(servers)
        .session_timeout(Duration::from_secs(2))
        .close_timeout(Duration::from_secs(2))
}

/// Waits until the status is as wished.
pub async fn status_is(client: &Client, wished: impl FnMut(&Status) -> bool) -> Status {
    let mut status = client.status();
    let found = tokio::time::timeout(SOON, status.wait_for(wished)).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("it stays {:?}", client.status().borrow()),
    }
}

pub async fn state_is(client: &Client, state: SessionState) -> Status {
    status_is(client, |status| status.state == state).await
}

/// Waits for a future that must not hang.
pub async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(SOON, future.into_future())
        .await
        .expect("it hangs")
}
