//! The `quorate` command: parses what was typed, calls a library, prints.
//!
//! Standard output carries data and nothing else; everything that is said to a person goes to
//! standard error. Exit codes are part of the interface: see `docs/errors.md`.

mod bench;
mod cli;
mod codes;
mod config;
mod demo;
mod digest;
mod export;
mod failure;
mod logging;
mod server;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use failure::Failure;

/// A request is read on one thread and freed on another. The system's allocator pays for that, and
/// keeps what was freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Server(args) => server::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::FourLetterWord(args) => words::run(&args),
        Command::Bench(args) => return bench::run(args),
        Command::ExportDatadir(args) => export::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Digest(args) => digest::run(&args),
        Command::Explain(args) => codes::explain(&args.code).and_then(|page| data(&page)),
        Command::Version => data(concat!(
            "quorate ",
            env!("CARGO_PKG_VERSION"),
            ", speaks ZooKeeper 3.9\n"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// Writes to standard output.
fn data(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read has seen enough: `quorate 4lw mntr | head -1`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(
            Failure::new(&codes::UNEXPECTED, "cannot write to standard output")
                .detail(error.to_string()),
        ),
        Ok(()) => Ok(()),
    }
}

/// Writes a line to standard error. If that fails there is nobody left to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
