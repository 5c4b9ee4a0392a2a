//! What all examples share: a server where none is named, clients of it, and lines that tell who speaks.

use std::error::Error;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use quorate_client::Client;
use quorate_server::{Config, Server};
use tempfile::TempDir;
use tokio::time::Instant;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long a session lives without a word. A server of ours grants it; others may ask for more.
const SESSION: Duration = Duration::from_secs(3);

static BEGAN: OnceLock<Instant> = OnceLock::new();

/// The servers that an example talks to.
pub(crate) struct Place {
    connect_string: String,
    own: Option<(Server, TempDir)>,
}

impl Place {
    /// Those that the first argument names; or one of our own, in this process, with its data in a
    /// temporary directory.
    pub(crate) async fn find() -> Outcome<Place> {
        BEGAN.get_or_init(Instant::now);
        if let Some(connect_string) = std::env::args().nth(1) {
            say("example", format!("using the servers {connect_string}"));
            let own = None;
            return Ok(Place {
                connect_string,
                own,
            });
        }
        let directory = TempDir::new()?;
        let mut config = Config::default();
        config.client_addr = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.data_dir = directory.path().to_owned();
        // So that sessions may be short: nobody wants to wait for half a minute here.
        config.tick_time = Duration::from_millis(100);
        config.min_session_timeout = SESSION;
        let server = Server::start(config).await?;
        let address = server.client_addr().ok_or("the server has an address")?;
        let text = format!("no servers named: started one of our own at {address}");
        say("example", text);
        Ok(Place {
            connect_string: address.to_string(),
            own: Some((server, directory)),
        })
    }

    /// What a client needs to know to connect.
    pub(crate) fn connect_string(&self) -> &str {
        &self.connect_string
    }

    /// Stops the server, if it is ours.
    pub(crate) async fn leave(self) -> Outcome {
        if let Some((server, _directory)) = self.own {
            server.stop().await;
        }
        Ok(())
    }
}

/// A client with a session of its own, as each process of an application has one.
pub(crate) async fn connect(servers: &str) -> Outcome<Client> {
    let client = Client::builder(servers).session_timeout(SESSION);
    Ok(client.connect().await?)
}

/// Prints a line: when, who, what.
pub(crate) fn say(who: &str, what: impl Display) {
    let time = BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64();
    println!("{time:6.2} s  {who:<9} {what}");
}
