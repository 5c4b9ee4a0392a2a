//! `quorate server`: runs a server until it is told to stop.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Instant;

use quorate_server::config::Role;
use quorate_server::{Config, Server, StartError, StorageTrouble};

use crate::cli::ServerArgs;
use crate::codes;
use crate::failure::Failure;

pub(crate) fn run(args: &ServerArgs) -> Result<(), Failure> {
    // A connection is a file; the soft limit of most systems is a thousand.
    crate::bench::raise_file_limit();
    let start = now();
    crate::logging::start();
    let config = configuration(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(&codes::UNEXPECTED, "cannot start threads").detail(error.to_string())
        })?;
    runtime.block_on(serve(config, start))
}

/// The file, or the defaults; then what the command line says on top.
fn configuration(args: &ServerArgs) -> Result<Config, Failure> {
    let parsed = match (&args.config, args.positional.as_slice()) {
        (Some(file), _) => Some(crate::config::load(file)?),
        (None, []) => None,
        (None, [file]) => Some(crate::config::load(Path::new(file))?),
        (None, arguments) => Some(crate::config::from_arguments(arguments)?),
    };
    let from_file = parsed.is_some();
    let mut config = match parsed {
        Some(parsed) => {
            crate::config::tell(&parsed);
            crate::config::refuse_warnings(&parsed, args.strict_config)?;
            parsed.config
        }
        None => Config::default(),
    };
    if let Some(dir) = &args.data_dir {
        config.data_dir.clone_from(dir);
    }
    if let Some(listen) = &args.listen {
        let addr = address(listen)?;
        if !from_file && !addr.ip().is_loopback() {
            crate::say(&format!(
                "warning: {addr} can be reached by others, and ACLs are open by default"
            ));
        }
        config.client_addr = Some(addr);
    }
    Ok(config)
}

/// `host:port`, `:port` or `port`; without a host, loopback.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let full = match text.strip_prefix(':').unwrap_or(text) {
        port if port.parse::<u16>().is_ok() => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    let bad = |cause: String| {
        Failure::new(
            &codes::CONFIG,
            format!("`--listen {text}` is not an address"),
        )
        .detail(cause)
        .help("write HOST:PORT, for example --listen 127.0.0.1:2181")
    };
    full.to_socket_addrs()
        .map_err(|error| bad(error.to_string()))?
        .next()
        .ok_or_else(|| bad("the name has no address".into()))
}

async fn serve(config: Config, start: Instant) -> Result<(), Failure> {
    // Before the start: a signal that comes meanwhile must not kill a server that recovers.
    let mut signals = Signals::catch().map_err(|error| {
        Failure::new(&codes::UNEXPECTED, "cannot catch signals").detail(error.to_string())
    })?;
    let banner = banner(&config);
    let server = Server::start(config)
        .await
        .map_err(|error| failure(&error))?;
    crate::say(&banner);
    match server.client_addr() {
        Some(addr) => crate::say(&format!(
            "  clients   {:<24} zkCli, Curator, kazoo… connect here",
            addr.to_string()
        )),
        None => crate::say("  clients   none: no client port is set"),
    }
    crate::say(&format!("ready in {} ms", start.elapsed().as_millis()));
    let signal = tokio::select! {
        failed = server.wait() => {
            return Err(Failure::from_error(&codes::DISK, &failed)
                .help("the log has the cause above; nothing acknowledged is lost"));
        }
        signal = signals.next() => signal,
    };
    tracing::info!(signal, "stopping");
    tokio::select! {
        () = server.stop() => Ok(()),
        // A person who asks again does not want to wait; what was acknowledged is on disk anyway.
        () = signals.interrupted() => {
            Err(Failure::new(&codes::UNEXPECTED, "stopped at once by Ctrl-C"))
        }
    }
}

fn banner(config: &Config) -> String {
    let dir = &config.data_dir;
    let is_new = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    format!(
        "quorate {}   {} · data {}{} · fsync {}",
        env!("CARGO_PKG_VERSION"),
        place(config),
        dir.display(),
        if is_new { " (new)" } else { "" },
        if config.force_sync { "on" } else { "OFF" }
    )
}

/// Alone, or which of how many.
fn place(config: &Config) -> String {
    let Some(ensemble) = &config.ensemble else {
        return "standalone".to_owned();
    };
    let role = match ensemble.role {
        Role::Observer => "observer",
        _ => "participant",
    };
    let (id, voters) = (config.my_id, ensemble.participants().count());
    let observers = ensemble.servers.len() - voters;
    let and = match observers {
        0 => String::new(),
        1 => " and 1 observer".to_owned(),
        n => format!(" and {n} observers"),
    };
    format!("server {id}, {role} · {voters} voters{and}")
}

/// SIGTERM and SIGINT, caught from the moment this is made.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn catch() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a SIGINT. Not for SIGTERM: `timeout` and some service managers send it twice.
    async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The one place that knows which failure of the library ends with which code.
pub(crate) fn failure(error: &StartError) -> Failure {
    match error {
        StartError::Bind { address, source } => {
            let help = match source.kind() {
                ErrorKind::AddrInUse => format!(
                    "see whether a server runs there: `quorate 4lw srvr -s {address}`; or choose \
                     another --listen"
                ),
                ErrorKind::AddrNotAvailable => {
                    "choose an address of this host with --listen, or 0.0.0.0 for all of them"
                        .into()
                }
                _ => "choose another address with --listen".into(),
            };
            Failure::from_error(&codes::BIND, error).help(help)
        }
        StartError::Storage(storage) => match storage.trouble() {
            StorageTrouble::Directory => {
                let failure = Failure::from_error(&codes::DATA_DIR, error);
                match error.source() {
                    Some(_) => failure.help(
                        "name another with --data-dir, or give this user the right to write there",
                    ),
                    // The message says what to do.
                    None => failure,
                }
            }
            StorageTrouble::Mismatch => Failure::from_error(&codes::CONFIG, error),
            StorageTrouble::Data => Failure::from_error(&codes::DISK, error),
            _ => Failure::from_error(&codes::UNEXPECTED, error),
        },
        _ => Failure::from_error(&codes::UNEXPECTED, error),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the ready line tells how long the start took"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_the_host() {
        for text in ["2190", ":2190", "127.0.0.1:2190"] {
            assert_eq!(address(text).unwrap().to_string(), "127.0.0.1:2190");
        }
        assert_eq!(address("[::1]:5").unwrap().to_string(), "[::1]:5");
        assert!(address("127.0.0.1").is_err());
        assert!(address("127.0.0.1:99999").is_err());
    }
}
