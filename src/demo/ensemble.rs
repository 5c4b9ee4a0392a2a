//! Three servers in this process, each with a zoo.cfg of its own, to be killed and started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use quorate_server::config::zoo_cfg::{self, Environment};
use quorate_server::{Server, StartError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Outcome;

/// Between two looks at what somebody else has to do first.
const LOOK: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(1);
/// For how long a server that was killed may keep its port and its directory.
const TRIES: u32 = 500;

pub(super) struct Ensemble {
    members: Vec<Member>,
    _directory: TempDir,
}

struct Member {
    address: SocketAddr,
    file: PathBuf,
    server: Option<Server>,
}

impl Ensemble {
    /// Starts three servers, and returns when they serve.
    pub(super) async fn start() -> Outcome<Ensemble> {
        let directory = TempDir::new()?;
        let mut members = Vec::new();
        // Held together, so that they are three different ones.
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        }
        let addresses: Vec<SocketAddr> = held
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?;
        drop(held);
        // Peers and clients share a port. The second one has to be named and is not used.
        let lines: Vec<String> = (1..)
            .zip(&addresses)
            .map(|(id, address)| format!("server.{id}={address}:3888\n"))
            .collect();
        for (id, &address) in (1..).zip(&addresses) {
            let data = directory.path().join(format!("server-{id}"));
            std::fs::create_dir(&data)?;
            std::fs::write(data.join("myid"), format!("{id}\n"))?;
            let file = directory.path().join(format!("zoo-{id}.cfg"));
            let text = format!(
                "tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={}\nclientPort={}\n\
                 clientPortAddress=127.0.0.1\n{}",
                data.display(),
                address.port(),
                lines.concat()
            );
            std::fs::write(&file, text)?;
            members.push(Member {
                address,
                file,
                server: None,
            });
        }
        // An ensemble is founded when all are there.
        let starting = futures::future::try_join_all(members.iter().map(start));
        let servers = starting.await?;
        for (member, server) in members.iter_mut().zip(servers) {
            member.server = Some(server);
        }
        Ok(Ensemble {
            members,
            _directory: directory,
        })
    }

    pub(super) fn connect_string(&self) -> String {
        let addresses: Vec<_> = self.members.iter().map(|m| m.address.to_string()).collect();
        addresses.join(",")
    }

    /// The number of the server that leads, as soon as one does.
    pub(super) async fn leader(&self) -> usize {
        loop {
            for (id, member) in (1..).zip(&self.members) {
                if member.server.is_some()
                    && mode(member.address).await.as_deref() == Some("leader")
                {
                    return id;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Ends a server without a goodbye.
    pub(super) fn kill(&mut self, id: usize) {
        if let Some(member) = self.members.get_mut(id - 1) {
            member.server = None;
        }
    }

    /// Starts a server again on what is on its disk.
    pub(super) async fn start_again(&mut self, id: usize) -> Outcome {
        if let Some(member) = self.members.get_mut(id - 1) {
            member.server = Some(start(member).await?);
        }
        Ok(())
    }

    /// Starts what is not running.
    pub(super) async fn all_up(&mut self) -> Outcome {
        for id in 1..=self.members.len() {
            if self
                .members
                .get(id - 1)
                .is_some_and(|member| member.server.is_none())
            {
                self.start_again(id).await?;
            }
        }
        Ok(())
    }

    /// Stops all servers. The last ones may have no quorum any more to hand anything over to, and
    /// end as if they were killed.
    pub(super) async fn stop(self) {
        let servers = self.members.into_iter().filter_map(|member| member.server);
        let stopping = futures::future::join_all(servers.map(Server::stop));
        let _ = timeout(ANSWER, stopping).await;
    }
}

async fn start(member: &Member) -> Outcome<Server> {
    let mut tries = 0;
    loop {
        let parsed = zoo_cfg::load(&member.file, &Environment::default())?;
        match Server::start(parsed.config).await {
            Ok(server) => return Ok(server),
            // The threads of the one that was killed have not all ended yet.
            Err(
                StartError::Bind { .. } | StartError::BindPeers { .. } | StartError::Storage(_),
            ) if tries < TRIES => {
                tries += 1;
                sleep(LOOK).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a server says that it is; nothing while it does not answer.
async fn mode(address: SocketAddr) -> Option<String> {
    let ask = async {
        let mut socket = TcpStream::connect(address).await.ok()?;
        socket.write_all(b"srvr").await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let mode = answer
            .lines()
            .find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.to_owned())
    };
    timeout(ANSWER, ask).await.ok().flatten()
}
