//! Many one-shot watches held by one client: what each costs it, and a reconnect with all of them.

use std::time::Instant;

use futures::StreamExt;
use quorate_client::{Client, SessionState};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{Cell, Result, cpu};

/// `cell.operations` znodes with one data watch each, armed with `cell.outstanding` calls at once.
pub async fn run(cell: &Cell) -> Result<()> {
    let (proxy, cut) = proxy(cell.server.clone()).await?;
    let client = Client::builder(proxy).connect().await?;
    let parent = cell.parent();
    client.create(&parent, "").await?;
    let paths = |number: usize| format!("{parent}/node-{number:09}");
    let numbers = || futures::stream::iter(0..cell.operations);
    numbers()
        .map(|number| client.create(&paths(number), "x").send())
        .buffered(cell.outstanding)
        .for_each(async |created| drop(created.expect("created")))
        .await;
    // What reading them takes for itself is not what a watch weighs.
    numbers()
        .map(|number| client.get(&paths(number)).send())
        .buffered(cell.outstanding)
        .for_each(async |read| drop(read.expect("read")))
        .await;

    let mut watches = Vec::with_capacity(cell.operations);
    let before = cpu::resident();
    let began = Instant::now();
    let mut armed = numbers()
        .map(|number| client.get(&paths(number)).watch())
        .buffered(cell.outstanding);
    while let Some(answer) = armed.next().await {
        watches.push(answer?.1);
    }
    drop(armed);
    let armed_in = began.elapsed();
    let with_watches = cpu::resident();

    let mut status = client.status();
    status.mark_unchanged();
    let (began, used) = (Instant::now(), cpu::used());
    cut.send_modify(|cuts| *cuts += 1);
    status
        .wait_for(|status| status.state == SessionState::Suspended)
        .await?;
    status
        .wait_for(|status| status.state == SessionState::Connected)
        .await?;
    // Behind setWatches: its answer shows that all of them are armed.
    client.get(&parent).await?;
    let resumed_in = began.elapsed();
    let cpu_resumed = cpu::used() - used;

    let last = cell.operations - 1;
    client.set(&paths(last), "y").await?;
    let event = watches.pop().expect("there are some").await?;
    assert_eq!(event.path, paths(last));
    let held = client.watches();
    println!(
        "{{\"watches\": {held}, \"bytes_per_watch\": {}, \"armed_ms\": {}, \"resumed_ms\": {}, \
         \"resumed_cpu_ms\": {}, \"resident_mib\": {}, \"peak_mib\": {}}}",
        with_watches.saturating_sub(before) / cell.operations,
        armed_in.as_millis(),
        resumed_in.as_millis(),
        cpu_resumed.as_millis(),
        cpu::resident() >> 20,
        peak_mib(),
    );
    drop(watches);
    client.delete_recursive(&parent).await?;
    client.close().await?;
    Ok(())
}

fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or(0) >> 10
}

/// A proxy in front of `server` that ends its connections whenever the number grows.
async fn proxy(server: String) -> Result<(String, watch::Sender<usize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let (cut, cuts) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let Ok(mut far) = TcpStream::connect(&server).await else {
                continue;
            };
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    Ok((address, cut))
}
