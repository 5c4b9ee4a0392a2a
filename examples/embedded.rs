//! A server inside this process: what `quorate server` does, as a library.
//!
//! `cargo run --example embedded -- 127.0.0.1:2181 ./quorate-data`

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

use std::error::Error;
use std::net::SocketAddr;

use quorate_server::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments
        .next()
        .as_deref()
        .unwrap_or("127.0.0.1:2181")
        .parse()?;
    let mut config = Config::default();
    config.client_addr = Some(address);
    config.data_dir = arguments
        .next()
        .unwrap_or_else(|| "quorate-data".into())
        .into();

    let server = Server::start(config).await?;
    println!("clients connect to {address}; Ctrl-C stops");
    tokio::select! {
        failed = server.wait() => return Err(failed.into()),
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    server.stop().await;
    Ok(())
}
