//! The file that many tutorials show: three servers on three addresses, each with its peer port
//! equal to its client port, one of them an observer. ZooKeeper cannot run it once a server whose
//! ports are equal is elected; here one listener serves both protocols.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set up its world should fail, and has a clock of its own"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use quorate_server::testing::wire::WireClient;
use tempfile::TempDir;

/// How long anything may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    id: u8,
    addr: SocketAddr,
    dir: TempDir,
    process: Option<Child>,
}

impl Member {
    fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let config = self.dir.path().join("zoo.cfg");
        let child = support::quorate()
            .arg("server")
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What `srvr` says it is; nothing while it does not answer.
    fn mode(&self) -> Option<String> {
        let mut socket = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        socket.write_all(b"srvr").ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.to_owned())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks until it is so.
fn until(members: &[Member], what: &str, is: impl Fn(&[Member]) -> bool) {
    let began = Instant::now();
    while !is(members) {
        if began.elapsed() > PATIENCE {
            let said: Vec<_> = members
                .iter()
                .map(|m| format!("server {}, {:?}:\n{}", m.id, m.mode(), m.said()))
                .collect();
            panic!("not in {PATIENCE:?}: {what}\n{}", said.join("\n"));
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn roles(members: &[Member]) -> bool {
    let modes: Vec<_> = members.iter().map(Member::mode).collect();
    let count = |mode: &str| modes.iter().flatten().filter(|m| *m == mode).count();
    let observer = modes
        .first()
        .is_some_and(|m| m.as_deref() == Some("observer"));
    observer && count("leader") == 1 && count("follower") == 1
}

#[tokio::test]
async fn the_tutorials_file_elects_serves_and_survives_a_kill_of_each() {
    // One port that is free on all three addresses.
    let port = loop {
        let first = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 1), 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others = [2, 3].map(|n| TcpListener::bind((Ipv4Addr::new(127, 0, 0, n), port)));
        if others.iter().all(Result::is_ok) {
            break port;
        }
    };
    let mut members: Vec<Member> = (1..=3)
        .map(|id| {
            let dir = TempDir::new().unwrap();
            let data = dir.path().join("data");
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("myid"), format!("{id}\n")).unwrap();
            let peer_type = if id == 1 { "peerType=observer\n" } else { "" };
            let file = format!(
                "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={port}\n\
                 clientPortAddress=127.0.0.{id}\n4lw.commands.whitelist=*\n{peer_type}\
                 server.1=127.0.0.1:{port}:3181:observer\n\
                 server.2=127.0.0.2:{port}:3181\n\
                 server.3=127.0.0.3:{port}:3181\n",
                data.display()
            );
            std::fs::write(dir.path().join("zoo.cfg"), file).unwrap();
            let addr = SocketAddr::from(([127, 0, 0, id], port));
            Member {
                id,
                addr,
                dir,
                process: None,
            }
        })
        .collect();
    for member in &mut members {
        member.start();
    }
    until(&members, "an observer, a leader and a follower", roles);
    for (at, member) in members.iter().enumerate() {
        let mut client = WireClient::open(member.addr).await;
        let path = format!("/of-{at}");
        client.create(&path, b"").await.unwrap();
        client.close_session().await.unwrap();
    }
    for victim in 0..members.len() {
        members[victim].kill();
        members[victim].start();
        until(&members, "the same three roles after a kill", roles);
        let mut client = WireClient::open(members[victim].addr).await;
        for at in 0..members.len() {
            let there = client.exists(&format!("/of-{at}"), false).await;
            assert!(there.is_ok(), "/of-{at} on server {}", members[victim].id);
        }
        client.close_session().await.unwrap();
    }
}
