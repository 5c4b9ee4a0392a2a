//! The server, in a runtime of its own, whose timers run in real time while its clock stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_client::SessionId;
use quorate_server::testing::{TestServer, TestServerBuilder};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

/// What is done to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Restart,
    Kill,
    Stop,
    /// Removes what is due of containers and TTL znodes.
    Reap,
    /// Ends the sessions that are over.
    ExpireOverdue,
    /// Ends one that is not.
    Expire(SessionId),
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    server: Arc<Mutex<TestServer>>,
    runtime: Option<Runtime>,
}

impl Host {
    pub(crate) async fn start(builder: TestServerBuilder) -> Host {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("testkit-server")
            .enable_all()
            .build()
            .expect("a runtime starts");
        let starting = runtime.spawn(builder.manual_time().start());
        let server = starting.await.expect("a server starts");
        Host {
            address: server.addr(),
            server: Arc::new(Mutex::new(server)),
            runtime: Some(runtime),
        }
    }

    /// Lets time pass on the server's clock.
    pub(crate) async fn pass(&self, time: Duration) {
        self.server.lock().await.advance(time);
    }

    /// True if something has changed.
    pub(crate) async fn has(&self, deed: Deed) -> bool {
        let server = Arc::clone(&self.server);
        let work = async move {
            let mut server = server.lock().await;
            match deed {
                Deed::Restart => server.restart().await,
                Deed::Kill => server.kill().await,
                Deed::Stop => server.stop().await,
                Deed::Reap => return server.reap().await > 0,
                Deed::ExpireOverdue => return !server.expire_overdue().await.is_empty(),
                Deed::Expire(session) => return server.expire_session(session).await.is_ok(),
            }
            true
        };
        let runtime = self.runtime.as_ref().expect("taken by drop alone");
        runtime.spawn(work).await.expect("the server obeys")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be dropped where it could block, and this may be an async function.
            runtime.shutdown_background();
        }
    }
}
