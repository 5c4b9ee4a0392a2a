//! The cable between one client and its servers, to be pulled.

use quorate_client::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::common::{Outcome, connect};

/// Carries bytes between a client and a server. Dropped, it is cut: nobody says goodbye.
pub(crate) struct Cable {
    /// Where it begins, and the chroot.
    connect_string: String,
    _carrying: JoinSet<()>,
}

impl Cable {
    /// A cable to whichever of these servers answers.
    pub(crate) async fn to(servers: &str) -> Outcome<Cable> {
        let (hosts, chroot) = match servers.find('/') {
            Some(at) => servers.split_at(at),
            None => (servers, ""),
        };
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let connect_string = format!("{}{chroot}", listener.local_addr()?);
        let mut carrying = JoinSet::new();
        carrying.spawn(accept(listener, hosts));
        Ok(Cable {
            connect_string,
            _carrying: carrying,
        })
    }

    /// A client at the end of it.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        connect(&self.connect_string).await
    }
}

async fn accept(listener: TcpListener, hosts: Vec<String>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(carry(client, hosts.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, hosts: Vec<String>) {
    for host in hosts {
        if let Ok(mut server) = TcpStream::connect(&host).await {
            // An end of either side is the end of both, whatever its reason.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
